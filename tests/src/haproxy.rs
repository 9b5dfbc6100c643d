//! A real HAProxy before the services of a mesh, and what its own log says of every request.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size;

use crate::mesh::{Mesh, wait};
use crate::ports::free_port;
use crate::prober::probe;
use crate::skip::skip;

/// Bytes of log that may wait to be read: seconds of it. What the kernel drops is missing in the count.
const LOG_BUFFER_BYTES: usize = 4 << 20;

/// How long nothing must come before the log is taken to be whole.
const LOG_QUIET: Duration = Duration::from_millis(500);

/// Lines of failed requests that are kept.
const FAILED_KEPT: usize = 20;

/// What the log says so far.
#[derive(Clone, Debug, Default)]
pub struct Logged {
    /// Requests of clients.
    pub requests: u64,
    /// Those that the balancer or a server failed, or that did not end as they should.
    pub failed: u64,
    /// The first of the failed, as they stand in the log.
    pub failures: Vec<String>,
    /// Requests by server.
    pub by_server: BTreeMap<String, u64>,
}

impl Logged {
    /// Takes a line of [`LOG_FORMAT`].
    fn take(&mut self, line: &str) {
        let mut fields = line.split(' ');
        let (Some(status), Some(ended), Some(server)) =
            (fields.next(), fields.next(), fields.next())
        else {
            return;
        };
        let Ok(status) = status.parse::<i32>() else { return };
        self.requests += 1;
        *self.by_server.entry(server.to_owned()).or_default() += 1;
        if !(100..500).contains(&status) || ended != "--" {
            self.failed += 1;
            if self.failures.len() < FAILED_KEPT {
                self.failures.push(line.to_owned());
            }
        }
    }
}

/// Status, how the session ended (`--`: as it should), server, and the request itself
/// (configuration manual, section 8.2.4).
const LOG_FORMAT: &str = "%ST %ts %s %{+Q}r";

/// HAProxy, until it is dropped.
pub struct Haproxy {
    process: Child,
    front: u16,
    logged: Arc<Mutex<Logged>>,
    log: UdpSocket,
}

/// Where HAProxy lies, if it is installed: distributions put it where only root's path leads. Where it is
/// not, the test that asks is skipped.
pub fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = places.map(|place| place.join("haproxy")).find(|file| file.is_file());
    if found.is_none() {
        skip("no HAProxy is installed");
    }
    found
}

impl Haproxy {
    /// Starts it before all services of a mesh with agents, and waits until it sends to each.
    pub fn start(program: &Path, mesh: &Mesh) -> Self {
        let log = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        set_socket_recv_buffer_size(&log, LOG_BUFFER_BYTES).unwrap();
        let front = free_port();
        let file = mesh.dir().join("haproxy.cfg");
        let log_port = log.local_addr().unwrap().port();
        std::fs::write(&file, config(mesh, front, log_port)).unwrap();
        let out = std::fs::File::create(mesh.dir().join("haproxy.log")).unwrap();
        let process = Command::new(program)
            .arg("-db")
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(out)
            .spawn()
            .unwrap();
        wait("HAProxy passes a request on", || probe(front));
        let logged = Arc::new(Mutex::new(Logged::default()));
        let (reader, taken) = (log.try_clone().unwrap(), Arc::clone(&logged));
        std::thread::spawn(move || read_log(&reader, &taken));
        Self { process, front, logged, log }
    }

    /// Where clients ask.
    pub fn front(&self) -> u16 {
        self.front
    }

    /// What the log has said since this was last asked, once no more of it comes.
    pub fn take_logged(&self) -> Logged {
        let count = || self.logged.lock().unwrap().requests;
        let mut last = count();
        loop {
            std::thread::sleep(LOG_QUIET);
            let now = count();
            if now == last {
                return std::mem::take(&mut self.logged.lock().unwrap());
            }
            last = now;
        }
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // An empty datagram ends the reader.
        let _ = self.log.local_addr().and_then(|own| self.log.send_to(&[], own));
    }
}

fn read_log(log: &UdpSocket, logged: &Mutex<Logged>) {
    let mut buffer = [0; 2048];
    while let Ok((length @ 1.., _)) = log.recv_from(&mut buffer) {
        let line = String::from_utf8_lossy(&buffer[..length]);
        logged.lock().unwrap().take(line.trim_end());
    }
}

/// Each request has one try (`retries 0`, no redispatch): a service that goes while it has requests, or
/// gets one when it is gone, is a failed request. Clients keep their connections; those to the servers
/// end with each answer (`http-server-close`), so that one which is established is one that is needed.
/// HAProxy would keep one to a drained server for as long as the client that last used it stays. It
/// closes no connection of a client that is idle: that would be a race with the next request on it.
fn config(mesh: &Mesh, front: u16, log_port: u16) -> String {
    let mut text = format!(
        "global\n  maxconn 4000\n  nbthread 1\n  log 127.0.0.1:{log_port} format raw local0\n\
         defaults\n  mode http\n  log global\n  log-format \"{LOG_FORMAT}\"\n  option dontlognull\n\
         \x20 retries 0\n  no option redispatch\n  option http-server-close\n  timeout connect 2s\n\
         \x20 timeout client 1h\n  timeout server 30s\n  timeout http-keep-alive 1h\n\
         frontend front\n  bind 127.0.0.1:{front}\n  default_backend web\n\
         backend web\n  balance roundrobin\n  option httpchk GET /ready\n  http-check expect status 200\n\
         \x20 default-server check inter 500ms fall 2 rise 1 agent-check agent-inter 200ms weight 100\n"
    );
    for node in &mesh.nodes {
        let agent = node.agent_port.expect("a mesh whose agents answer");
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  server {} 127.0.0.1:{} agent-port {agent}",
            node.name, node.service_port
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_a_server_or_the_balancer_fails_counts() {
        let mut logged = Logged::default();
        logged.take("200 -- n1 \"GET /ready HTTP/1.1\"");
        assert_eq!((logged.requests, logged.failed), (1, 0));
        for line in [
            "503 SC n2 \"GET / HTTP/1.1\"",
            "502 SH n2 \"GET / HTTP/1.1\"",
            "-1 CR <NOSRV> \"<BADREQ>\"",
            "200 SD n2 \"GET / HTTP/1.1\"",
        ] {
            logged.take(line);
        }
        assert_eq!((logged.requests, logged.failed, logged.failures.len()), (5, 4, 4));
        assert_eq!(logged.by_server["n2"], 3);
    }
}
