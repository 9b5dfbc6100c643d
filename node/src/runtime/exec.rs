//! The daemon's handle on a service: its shim, started when there is none, and asked.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::shim::SOCKET_FILE;
use super::shim::message::{
    Containment, Event, Exited, Refusal, Request, Response, Start, Status, read_frame, write_frame,
};

/// How long a shim may take to start and open its socket.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a shim may take for an answer that needs no waiting.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a shim may take, beyond the grace, to kill and to report it.
const STOP_MARGIN: Duration = Duration::from_secs(15);

/// Pauses between two looks for a shim that starts, and the longest between two attempts to
/// subscribe.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
const RESUBSCRIBE_MAX: Duration = Duration::from_secs(2);

/// News that nobody has taken yet; the shim holds back what does not fit.
const NEWS_MAX: usize = 16;

/// Why a shim could not be asked, or did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It could not be started.
    #[error("the shim of {dir} does not start: {cause}")]
    NoShim {
        /// Its directory.
        dir: String,
        /// What was seen.
        cause: String,
    },
    /// The connection failed or broke; whether the request was carried out is unknown, and it can be
    /// asked again.
    #[error("lost the shim: {0}")]
    Lost(#[from] io::Error),
    /// It did not answer in time; whether the request was carried out is unknown.
    #[error("the shim gave no answer in {0:?}")]
    Timeout(Duration),
    /// It refused, and did nothing.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It answered something that is no answer to the question.
    #[error("the shim speaks another language than this baton")]
    Unexpected,
}

/// How a shim is started: a program that passes what follows the word `shim` on to
/// [`shim::main`](super::shim::main).
#[derive(Clone, Debug)]
pub struct ShimProgram {
    /// The program.
    pub program: PathBuf,
    /// Arguments between `--dir DIR --detach` and the end, such as `--process-tree`.
    pub options: Vec<OsString>,
}

impl Default for ShimProgram {
    /// This very program, even if its file was replaced meanwhile.
    fn default() -> Self {
        Self { program: "/proc/self/exe".into(), options: Vec::new() }
    }
}

/// What a shim has to tell, see [`ServiceHandle::events`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Subscribed, now or again: how things are. What happened meanwhile is in it.
    Connected(Box<Status>),
    /// The service has ended.
    Exited(Box<Exited>),
    /// The shim is not to be had; attempts go on.
    Lost(String),
}

/// A service on this host. Clones are handles on the same one. All state is the shim's, so that a
/// handle made after the daemon's restart is as good as the one before.
///
/// A handover takes two handles with a directory each: start the new service on one with
/// [`Start::listen_from`] set to the other's directory, and when it is ready, stop the other.
#[derive(Clone, Debug)]
pub struct ServiceHandle {
    dir: PathBuf,
    shim: ShimProgram,
}

impl ServiceHandle {
    /// The service whose shim has the directory `dir`. Nothing is started yet.
    pub fn new(dir: impl Into<PathBuf>, shim: ShimProgram) -> Self {
        Self { dir: dir.into(), shim }
    }

    /// The shim's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Sees to it that there is a shim. A child of an earlier shim is adopted by it.
    ///
    /// # Errors
    /// [`ExecError::NoShim`], [`ExecError::Timeout`] for one that hangs.
    pub async fn ensure_shim(&self) -> Result<Status, ExecError> {
        drop(self.connect_or_start().await?);
        self.status().await
    }

    /// Starts the service and returns its process, also when just that runs already.
    ///
    /// # Errors
    /// [`Refusal::AlreadyRunning`] when something else runs; all others of [`ExecError`].
    pub async fn start(&self, start: Start) -> Result<u32, ExecError> {
        match self.ask(&Request::Start(Box::new(start)), ANSWER_TIMEOUT).await? {
            Response::Started { pid } => Ok(pid),
            other => Err(refused(other)),
        }
    }

    /// Ends the service and all that it started, and returns when nothing of it is left: `signal`
    /// first (15 is SIGTERM), after `grace` SIGKILL. `None`: it had never run.
    ///
    /// # Errors
    /// See [`ExecError`].
    pub async fn stop(
        &self,
        signal: i32,
        grace: Duration,
    ) -> Result<Option<Box<Exited>>, ExecError> {
        let request = Request::Stop { signal, grace };
        match self.ask(&request, grace.saturating_add(STOP_MARGIN)).await? {
            Response::Stopped(exited) => Ok(exited),
            other => Err(refused(other)),
        }
    }

    /// How things are.
    ///
    /// # Errors
    /// See [`ExecError`].
    pub async fn status(&self) -> Result<Status, ExecError> {
        match self.ask(&Request::Status, ANSWER_TIMEOUT).await? {
            Response::Status(status) => Ok(*status),
            other => Err(refused(other)),
        }
    }

    /// The last lines that the service wrote, the oldest first.
    ///
    /// # Errors
    /// See [`ExecError`].
    pub async fn tail(&self, lines: u32) -> Result<Vec<String>, ExecError> {
        match self.ask(&Request::Tail { lines }, ANSWER_TIMEOUT).await? {
            Response::Lines(lines) => Ok(lines),
            other => Err(refused(other)),
        }
    }

    /// Ends the shim, if it has no child: for a group that left this host.
    ///
    /// # Errors
    /// [`Refusal::AlreadyRunning`] while there is a child; all others of [`ExecError`].
    pub async fn quit(&self) -> Result<(), ExecError> {
        let Ok(stream) = connect(&self.dir).await else { return Ok(()) };
        match converse(stream, &Request::Quit, ANSWER_TIMEOUT).await? {
            Response::Quitting => Ok(()),
            other => Err(refused(other)),
        }
    }

    /// News of the service, over restarts of its shim, which is started again when it is gone. It
    /// ends when the receiver is dropped.
    pub fn events(&self) -> mpsc::Receiver<News> {
        let (news, receiver) = mpsc::channel(NEWS_MAX);
        let handle = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = handle.follow(&news) => {}
                () = news.closed() => {}
            }
        });
        receiver
    }

    async fn follow(&self, news: &mpsc::Sender<News>) {
        let mut pause = LOOK_INTERVAL;
        loop {
            let begun = Instant::now();
            let Err(lost) = self.subscribe(news).await else { return };
            if news.send(News::Lost(lost.to_string())).await.is_err() {
                return;
            }
            // One that held for a while deserves a fresh, quick attempt.
            let held = begun.elapsed() > RESUBSCRIBE_MAX;
            pause = if held { LOOK_INTERVAL } else { (pause * 2).min(RESUBSCRIBE_MAX) };
            sleep(pause).await;
        }
    }

    async fn subscribe(&self, news: &mpsc::Sender<News>) -> Result<(), ExecError> {
        let mut stream = self.connect_or_start().await?;
        let answer = exchange(&mut stream, &Request::Subscribe, ANSWER_TIMEOUT).await?;
        let Response::Status(status) = answer else { return Err(refused(answer)) };
        if let Containment::ProcessTree { because } = &status.containment {
            tracing::warn!(dir = %self.dir.display(), because, "no cgroup: a service's processes are held by descent only");
        }
        let mut next = News::Connected(status);
        while news.send(next).await.is_ok() {
            let Event::Exited(exited) = read_frame(&mut stream).await?;
            next = News::Exited(exited);
        }
        Ok(())
    }

    async fn ask(&self, request: &Request, within: Duration) -> Result<Response, ExecError> {
        let stream = self.connect_or_start().await?;
        converse(stream, request, within).await
    }

    async fn connect_or_start(&self) -> Result<UnixStream, ExecError> {
        if let Ok(stream) = connect(&self.dir).await {
            return Ok(stream);
        }
        self.spawn_shim().await?;
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            match connect(&self.dir).await {
                Ok(stream) => return Ok(stream),
                Err(error) if Instant::now() >= deadline => return Err(self.no_shim(error)),
                Err(_) => sleep(LOOK_INTERVAL).await,
            }
        }
    }

    async fn spawn_shim(&self) -> Result<(), ExecError> {
        let mut command = Command::new(&self.shim.program);
        command.arg("shim").arg("--dir").arg(&self.dir).arg("--detach").args(&self.shim.options);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = timeout(START_TIMEOUT, command.output())
            .await
            .map_err(|_| ExecError::Timeout(START_TIMEOUT))?
            .map_err(|error| self.no_shim(error))?;
        if output.status.success() {
            return Ok(());
        }
        Err(self.no_shim(String::from_utf8_lossy(&output.stderr).trim()))
    }

    fn no_shim(&self, cause: impl ToString) -> ExecError {
        ExecError::NoShim { dir: self.dir.display().to_string(), cause: cause.to_string() }
    }
}

/// By way of the directory's descriptor, as the path of a socket may have 107 bytes only.
async fn connect(dir: &Path) -> io::Result<UnixStream> {
    let handle = File::open(dir)?;
    let path = format!("/proc/self/fd/{}/{SOCKET_FILE}", handle.as_raw_fd());
    UnixStream::connect(path).await
}

async fn converse(
    mut stream: UnixStream,
    request: &Request,
    within: Duration,
) -> Result<Response, ExecError> {
    exchange(&mut stream, request, within).await
}

async fn exchange(
    stream: &mut UnixStream,
    request: &Request,
    within: Duration,
) -> Result<Response, ExecError> {
    let exchange = async {
        write_frame(stream, request).await?;
        read_frame(stream).await
    };
    Ok(timeout(within, exchange).await.map_err(|_| ExecError::Timeout(within))??)
}

fn refused(response: Response) -> ExecError {
    match response {
        Response::Refused(refusal) => refusal.into(),
        _ => ExecError::Unexpected,
    }
}
