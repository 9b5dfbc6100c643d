//! The service's first process: started, found again, signalled.

use std::future::pending;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use baton_protocol::codec;
use command_fds::{CommandFdExt, FdMapping};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::sleep;

use super::containment::MARK;
use super::identity::{Identity, open_pidfd};
use super::launch::Launch;
use super::message::{Containment, Running, Start};
use super::output::Output;
use super::record::{Record, Started};
use super::sockets::Sockets;

/// The number of the first descriptor that is handed on (sd_listen_fds(3)).
const LISTEN_FDS_START: i32 = 3;

/// How often an adopted child is looked at; the kernel tells its end to its parent alone.
const ADOPTED_INTERVAL: Duration = Duration::from_millis(100);

pub(super) struct Child {
    pub started: Started,
    pub adopted: bool,
    handle: OwnedFd,
}

/// What a start needs.
pub(super) struct Launching<'a> {
    pub dir: &'a Path,
    pub start: Start,
    pub run: u64,
    pub containment: &'a Containment,
    pub output: &'a Output,
    pub sockets: &'a Sockets,
}

impl Child {
    pub fn spawn(launching: Launching<'_>) -> io::Result<Self> {
        let mut launcher = launcher(&launching)?.spawn()?;
        // From here on an early return closes the launcher's stdin, and it goes away by itself.
        let stdin = launcher.stdin.take().ok_or_else(|| io::Error::other("no stdin"))?;
        let identity = Identity::of(launcher.id())?;
        let handle = open_pidfd(launcher.id())?.ok_or_else(|| io::Error::other("gone at once"))?;
        let Launching { dir, start, run, containment, .. } = launching;
        let started =
            Started { start, run, identity, at: since_boot(), containment: containment.clone() };
        Record::Started(Box::new(started.clone())).write(dir)?;
        tell(stdin, &started)?;
        Ok(Self { started, adopted: false, handle })
    }

    /// The child of a shim that is no more, if it still lives.
    pub fn adopt(started: Started) -> io::Result<Result<Self, Started>> {
        match started.identity.open()? {
            Some(handle) => Ok(Ok(Self { started, adopted: true, handle })),
            None => Ok(Err(started)),
        }
    }

    pub fn pid(&self) -> u32 {
        self.started.identity.pid
    }

    pub fn signal(&self, signal: Signal) {
        // It fails only when the process has ended, which is noticed elsewhere.
        let _ = pidfd_send_signal(&self.handle, signal);
    }

    /// Waits for the end of an adopted child. The shim's own children are waited for by SIGCHLD.
    pub async fn adopted_end(&self) {
        if !self.adopted {
            pending::<()>().await;
        }
        while !has_ended(&self.handle) {
            sleep(ADOPTED_INTERVAL).await;
        }
    }

    /// The sockets that the child was given, taken back from it.
    pub fn sockets(&self) -> Sockets {
        let asked = self.started.start.listen.iter().copied();
        Sockets::of_process(&self.handle, asked.zip(LISTEN_FDS_START..))
    }

    pub fn running(&self) -> Running {
        Running {
            release: self.started.start.release,
            version: self.started.start.version.clone(),
            pid: self.pid(),
            run: self.started.run,
            running_for: self.started.age(),
            adopted: self.adopted,
        }
    }
}

impl Started {
    /// The time since then, of a start of this boot.
    pub fn age(&self) -> Duration {
        since_boot().saturating_sub(self.at)
    }
}

fn launcher(launching: &Launching<'_>) -> io::Result<Command> {
    // The link leads to this very program even after the file was replaced or deleted.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("baton").args(["shim", "--launch"]).env_clear().stdin(Stdio::piped());
    command.env(MARK, launching.dir);
    command.stdout(launching.output.child_end()?).stderr(launching.output.child_end()?);
    let mut mappings = Vec::new();
    for (child_fd, address) in (LISTEN_FDS_START..).zip(&launching.start.listen) {
        let socket = launching.sockets.get(*address);
        let socket = socket.ok_or_else(|| io::Error::other("a socket is missing"))?;
        mappings.push(FdMapping { parent_fd: socket.try_clone_to_owned()?, child_fd });
    }
    command.fd_mappings(mappings).map_err(io::Error::other)?;
    Ok(command)
}

fn tell(mut stdin: ChildStdin, started: &Started) -> io::Result<()> {
    let launch = Launch { entrance: started.containment.entrance(), start: started.start.clone() };
    stdin.write_all(&codec::encode(&launch))
}

/// A handle on a process can be read once the process has ended.
fn has_ended(handle: &OwnedFd) -> bool {
    let mut asked = [PollFd::new(handle, PollFlags::IN)];
    poll(&mut asked, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

fn since_boot() -> Duration {
    clock_gettime(ClockId::Boottime).try_into().unwrap_or_default()
}
