//! Whether a service answers: one question, and what was seen.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use baton_protocol::artifact::service::Probe;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::program;

/// Characters of a body, or bytes of a line of output, that a reason shows.
const SHOWN: usize = 200;

/// Bytes of a body that are looked at for its first line.
const BODY_BYTES_MAX: usize = 4 * 1024;

/// How long output may come in after a command has ended. What still holds the pipe then was
/// started by the command, and is killed.
const OUTPUT_GRACE: Duration = Duration::from_millis(100);

/// Asks once. `tree` is the release's directory, in which a command runs.
///
/// # Errors
/// What was seen instead of an answer, for people: `connection refused`, `status 503: <first line of
/// the body>`, `exit code 1: <last line of output>`, `no answer in 2s`.
pub async fn probe(probe: &Probe, tree: &Path, within: Duration) -> Result<(), String> {
    let asked = async {
        match probe {
            Probe::Http(address) => http(address).await,
            Probe::Tcp(address) => connect(address).await.map(drop),
            Probe::Command(command) => run(command, tree).await,
        }
    };
    timeout(within, asked).await.unwrap_or_else(|_| Err(format!("no answer in {within:?}")))
}

async fn connect(address: &str) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| said(&error))
}

async fn http(address: &str) -> Result<(), String> {
    let uri: Uri = address.parse().map_err(|error| format!("{address}: {error}"))?;
    if uri.scheme_str() != Some("http") {
        return Err(format!("{address}: only http:// is probed"));
    }
    let authority = uri.authority().ok_or_else(|| format!("{address}: no host"))?;
    let target = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
    let stream = connect(&target).await?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| in_full(&error))?;
    let driver = AbortOnDrop(tokio::spawn(connection));
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header("host", authority.as_str())
        .header("user-agent", "baton")
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("{address}: {error}"))?;
    let response = sender.send_request(request).await.map_err(|error| in_full(&error))?;
    let verdict = judge(response).await;
    drop(driver);
    verdict
}

async fn judge(response: Response<Incoming>) -> Result<(), String> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let body = beginning(response.into_body()).await;
    match body.lines().map(str::trim).find(|line| !line.is_empty()) {
        Some(line) => Err(format!("status {}: {}", status.as_u16(), shortened(line))),
        None => Err(format!("status {}", status.as_u16())),
    }
}

async fn beginning(mut body: Incoming) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < BODY_BYTES_MAX {
        let Some(Ok(frame)) = body.frame().await else { break };
        bytes.extend(frame.data_ref().into_iter().flatten());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn run(command: &[String], tree: &Path) -> Result<(), String> {
    let (program, arguments) = command.split_first().ok_or("the command is empty")?;
    let mut command = Command::new(program::resolve(tree, program));
    command.env_clear().envs(program::environment());
    command.args(arguments).current_dir(tree).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{program}: {}", said(&error)))?;
    let group = KillGroupOnDrop::of(&child);
    let output = tokio::spawn(last_line_of(child.stdout.take()));
    let errors = tokio::spawn(last_line_of(child.stderr.take()));
    let status = child.wait().await.map_err(|error| said(&error))?;
    if status.success() {
        return Ok(());
    }
    let (errors, output) = (line(errors).await, line(output).await);
    drop(group);
    let ended = match status.code() {
        Some(code) => format!("exit code {code}"),
        None => status.to_string(),
    };
    match errors.or(output) {
        Some(line) => Err(format!("{ended}: {line}")),
        None => Err(ended),
    }
}

async fn line(reader: JoinHandle<Option<String>>) -> Option<String> {
    let abort = reader.abort_handle();
    let line = timeout(OUTPUT_GRACE, reader).await;
    abort.abort();
    line.ok()?.ok()?
}

/// The last line that is not empty. Everything is read, so that a command that says much does not
/// hang; no more than one line is kept.
async fn last_line_of(reader: Option<impl AsyncRead + Unpin>) -> Option<String> {
    let mut reader = reader?;
    let (mut last, mut current) = (None, Vec::new());
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        for byte in buffer.iter().take(count) {
            if *byte == b'\n' {
                last = text(&current).or(last);
                current.clear();
            } else if current.len() < SHOWN {
                current.push(*byte);
            }
        }
    }
    text(&current).or(last)
}

fn text(line: &[u8]) -> Option<String> {
    let line = String::from_utf8_lossy(line).trim().to_owned();
    (!line.is_empty()).then_some(line)
}

fn shortened(line: &str) -> String {
    line.chars().take(SHOWN).collect()
}

/// An error of the system in its plain words, without the number.
fn said(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => error.to_string(),
    }
}

/// hyper says what failed, and only its source says why.
fn in_full(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Kills a command and what it started, when it has ended or its time is up.
struct KillGroupOnDrop(Option<Pid>);

impl KillGroupOnDrop {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)))
    }
}

impl Drop for KillGroupOnDrop {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Mostly nothing is left of it.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn asked(question: Probe) -> Result<(), String> {
        probe(&question, Path::new("/"), 5 * SECOND).await
    }

    /// Answers each connection with `answer`, whatever it is asked; its address.
    async fn server(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut question = [0; 1024];
                let count = stream.read(&mut question).await.unwrap();
                if count > 0 {
                    assert!(question.starts_with(b"GET /health?full=1 HTTP/1.1\r\n"));
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        });
        address
    }

    async fn asked_http(answer: &'static str) -> Result<(), String> {
        asked(Probe::Http(format!("http://{}/health?full=1", server(answer).await))).await
    }

    #[tokio::test]
    async fn http_is_judged_by_its_status() {
        assert_eq!(asked_http("HTTP/1.1 204 No Content\r\n\r\n").await, Ok(()));
        let ill = "HTTP/1.1 503 Ill\r\ncontent-length: 20\r\n\r\n\nno database\ntry late";
        assert_eq!(asked_http(ill).await, Err("status 503: no database".into()));
        let moved = "HTTP/1.1 302 Found\r\ncontent-length: 0\r\nlocation: /\r\n\r\n";
        assert_eq!(asked_http(moved).await, Err("status 302".into()));
        assert!(asked_http("hello\r\n").await.unwrap_err().contains("invalid HTTP"));
        let https = Probe::Http("https://127.0.0.1/".into());
        assert!(asked(https).await.unwrap_err().contains("only http://"));
    }

    #[tokio::test]
    async fn nobody_there_is_said_in_so_many_words() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert_eq!(asked(Probe::Tcp(address.clone())).await, Ok(()));
        drop(listener);
        assert_eq!(asked(Probe::Tcp(address.clone())).await, Err("connection refused".into()));
        let refused = asked(Probe::Http(format!("http://{address}/"))).await;
        assert_eq!(refused, Err("connection refused".into()));
    }

    #[tokio::test]
    async fn a_silent_server_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/", listener.local_addr().unwrap());
        let within = Duration::from_millis(100);
        let answer = probe(&Probe::Http(address), Path::new("/"), within).await;
        assert_eq!(answer, Err("no answer in 100ms".into()));
    }

    fn shell(script: &str) -> Probe {
        Probe::Command(vec!["sh".into(), "-c".into(), script.into()])
    }

    #[tokio::test]
    async fn a_command_runs_in_the_tree_and_its_last_line_is_told() {
        let tree = tempfile::tempdir().unwrap();
        fs::write(tree.path().join("check"), "").unwrap();
        let there = probe(&shell("test -f check"), tree.path(), 5 * SECOND).await;
        assert_eq!(there, Ok(()));
        let failed = asked(shell("seq 1 100000; echo 'queue is full' >&2; exit 3")).await;
        assert_eq!(failed, Err("exit code 3: queue is full".into()));
        let missing = asked(Probe::Command(vec!["/no/such".into()])).await.unwrap_err();
        assert!(missing.starts_with("/no/such: No such file"), "{missing}");
    }

    #[tokio::test]
    async fn a_command_that_takes_too_long_is_killed_with_what_it_started() {
        let tree = tempfile::tempdir().unwrap();
        let script = shell("sleep 60 & echo $! >pid; wait");
        let begun = Instant::now();
        let answer = probe(&script, tree.path(), SECOND / 2).await;
        assert_eq!(answer, Err("no answer in 500ms".into()));
        assert!(begun.elapsed() < 5 * SECOND);
        let pid = fs::read_to_string(tree.path().join("pid")).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        let ended = || fs::read_to_string(&stat).map_or(true, |text| text.contains(") Z "));
        while !ended() && begun.elapsed() < 5 * SECOND {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let killed = ended();
        if !killed {
            let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
            rustix::process::kill_process(pid, Signal::KILL).unwrap();
        }
        assert!(killed, "the command's child lives on");
    }
}
