//! What the daemon and a shim say to each other over `shim.sock`.
//!
//! A frame is its length (4 bytes, big-endian) and then a value in the format of
//! [`codec`](baton_protocol::codec), which begins with a version byte. A connection carries one
//! request at a time, each with one [`Response`]; after [`Request::Subscribe`] it carries only
//! [`Event`]s. A daemon of tomorrow talks to a shim of today, so the enums only grow at the end.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use baton_protocol::codec;
use baton_protocol::id::{GroupName, ReleaseId, Version};
use baton_protocol::limits::CONTROL_FRAME_BYTES_MAX;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::identity::Identity;

/// Lines of output that the report of an exit carries.
pub const LAST_LINES: usize = 50;

/// Lines that one [`Request::Tail`] may ask for.
pub const TAIL_LINES_MAX: u32 = 10_000;

/// Listening sockets that a shim opens for one service.
pub const LISTEN_MAX: usize = 16;

/// What a daemon asks of a shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Start the service. Asked twice with the same content, the second does nothing.
    Start(Box<Start>),
    /// End the service: `signal` first, and after `grace` SIGKILL for all that is left.
    Stop {
        /// The signal's number.
        signal: i32,
        /// How long the service may take.
        grace: Duration,
    },
    /// How things are.
    Status,
    /// Answered with [`Response::Status`]; from then on the connection carries [`Event`]s.
    Subscribe,
    /// The last lines that the service wrote, at most [`TAIL_LINES_MAX`].
    Tail {
        /// How many.
        lines: u32,
    },
    /// End the shim. Refused while there is a child.
    Quit,
    /// Which sockets the shim has: asked by another shim, which takes copies of them.
    Sockets,
}

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The release, told to the service as `BATON_RELEASE`.
    pub release: ReleaseId,
    /// Its version, told as `BATON_VERSION`.
    pub version: Version,
    /// The group, told as `BATON_GROUP`.
    pub group: GroupName,
    /// The release's own directory. Links in it are resolved before the start, so that the service
    /// never runs through `current`.
    pub tree: PathBuf,
    /// The program and its arguments. A relative program is one of the release's own files; a bare
    /// name that the release does not have is looked up in `PATH`.
    pub command: Vec<String>,
    /// Environment, on top of a small fixed one.
    pub env: BTreeMap<String, String>,
    /// Sockets that the shim opens, keeps over restarts of the service, and hands to it as
    /// `LISTEN_FDS`. At most [`LISTEN_MAX`].
    pub listen: Vec<SocketAddr>,
    /// For a handover: the directory of the shim whose service goes on until this one is ready. Those
    /// of the sockets that it has are shared with it instead of opened, so that both services
    /// accept from the same queues and there is no moment without a listener.
    pub listen_from: Option<PathBuf>,
}

/// What a shim answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// The service runs.
    Started {
        /// Its process.
        pid: u32,
    },
    /// The service runs no more, nor anything that it had started. `None`: it had never run.
    Stopped(Option<Box<Exited>>),
    /// How things are.
    Status(Box<Status>),
    /// Lines, the oldest first.
    Lines(Vec<String>),
    /// The shim ends now.
    Quitting,
    /// The request was refused, and nothing was done.
    Refused(Refusal),
    /// The sockets, by the addresses that they were asked for with and their descriptors' numbers.
    /// They stay open for as long as the service that they were opened for.
    Sockets {
        /// Whose numbers these are.
        shim: Identity,
        /// Address and number of each.
        offered: Vec<(SocketAddr, i32)>,
    },
}

/// What a shim tells those who subscribed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The service has ended, by itself or because it was asked to.
    Exited(Box<Exited>),
}

/// Why a shim refuses a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Something else runs already: another release, or the same one started otherwise.
    #[error("release {} runs already, as process {pid}", .release.short())]
    AlreadyRunning {
        /// What runs.
        release: ReleaseId,
        /// Its process.
        pid: u32,
    },
    /// What ran has been asked to end and has not yet.
    #[error("release {} has not ended yet, process {pid}", .release.short())]
    StillEnding {
        /// What ran.
        release: ReleaseId,
        /// Its process.
        pid: u32,
    },
    /// It was killed and is still there; the kernel does not let go of it.
    #[error("killed, and still there: {0} processes")]
    Unkillable(u32),
    /// No signal that can be sent.
    #[error("{0} is no signal")]
    BadSignal(i32),
    /// A listening socket could not be opened.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        cause: String,
    },
    /// The service could not be started at all.
    #[error("cannot start: {0}")]
    CannotStart(String),
    /// The output could not be read.
    #[error("cannot read the output: {0}")]
    CannotRead(String),
    /// Too many wait for the same end.
    #[error("too many requests wait")]
    Busy,
    /// There are processes of an earlier run that no record tells of. They may serve, so nothing is
    /// started beside them; a stop ends them.
    #[error("{0} processes of an unknown run are there: stop them first")]
    Strays(u32),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// By itself, with this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Gone, and nobody was told how: its shim was not its parent any more.
    Unknown,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Unknown => f.write_str("ended while its shim was away"),
        }
    }
}

/// The end of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// What had run.
    pub release: ReleaseId,
    /// Its process, when it had one.
    pub pid: u32,
    /// Which start of this shim's directory it was; the first is 1.
    pub run: u64,
    /// How it ended.
    pub ended: Ended,
    /// Whether it had been asked to.
    pub asked: bool,
    /// How long it had run.
    pub ran_for: Duration,
    /// The last lines that it wrote, the oldest first; at most [`LAST_LINES`].
    pub last_lines: Vec<String>,
}

/// A service that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// What runs.
    pub release: ReleaseId,
    /// Its version.
    pub version: Version,
    /// Its process.
    pub pid: u32,
    /// Which start of this shim's directory it is; the first is 1.
    pub run: u64,
    /// How long it has run, on a clock that counts sleep.
    pub running_for: Duration,
    /// Whether another shim started it and this one took it over.
    pub adopted: bool,
}

/// What a shim's service is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Nothing was ever started.
    Idle,
    /// It runs.
    Running(Running),
    /// It was asked to end, or has ended and left processes that are being ended.
    Ending(Running),
    /// It has ended.
    Exited(Box<Exited>),
}

/// How a service's processes are held together, so that all of them can be ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Containment {
    /// By a cgroup of their own: nothing escapes.
    Cgroup(PathBuf),
    /// By descent and a mark in their environment, as there is no cgroup to be had.
    ProcessTree {
        /// Why there is none.
        because: String,
    },
}

/// How things are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The shim's own process.
    pub shim_pid: u32,
    /// The version of baton that the shim is.
    pub shim_version: String,
    /// What its service is doing.
    pub state: State,
    /// How its processes are held together.
    pub containment: Containment,
}

/// Writes one frame.
///
/// # Errors
/// The writer's, and `InvalidInput` for a frame larger than [`CONTROL_FRAME_BYTES_MAX`].
pub async fn write_frame<T: Serialize>(
    writer: &mut (impl AsyncWrite + Unpin),
    value: &T,
) -> io::Result<()> {
    let body = codec::encode(value);
    if body.len() > CONTROL_FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "frame too large"));
    }
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&body);
    writer.write_all(&frame).await
}

/// Reads one frame.
///
/// # Errors
/// The reader's, `UnexpectedEof` at its end, and `InvalidData` for a frame that is too large or
/// malformed.
pub async fn read_frame<T: DeserializeOwned>(
    reader: &mut (impl AsyncRead + Unpin),
) -> io::Result<T> {
    let length = reader.read_u32().await? as usize;
    if length > CONTROL_FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "frame too large"));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await?;
    codec::decode(&body).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
