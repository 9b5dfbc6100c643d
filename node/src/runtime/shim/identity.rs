//! A process, told apart from any other that may get its number later.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

/// A process by its number, the moment of its start and the boot that it lives in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since the boot.
    pub start_time: u64,
    /// The kernel's random name for this boot.
    pub boot_id: String,
}

impl Identity {
    /// The identity of the process that has this number now.
    ///
    /// # Errors
    /// When there is none, or `/proc` cannot be read.
    pub fn of(pid: u32) -> io::Result<Self> {
        Ok(Self { pid, start_time: Stat::of(pid)?.start_time, boot_id: boot_id()? })
    }

    /// A handle on the process if it still lives, and `None` if it has ended.
    ///
    /// The start time is compared after the handle was opened: if it is right then, the number
    /// cannot have gone to another process before.
    ///
    /// # Errors
    /// When `/proc` cannot be read, or the system gives no handle for another reason.
    pub fn open(&self) -> io::Result<Option<OwnedFd>> {
        if self.boot_id != boot_id()? {
            return Ok(None);
        }
        let Some(handle) = open_pidfd(self.pid)? else { return Ok(None) };
        match Stat::of(self.pid) {
            Ok(stat) if stat.start_time == self.start_time && !stat.has_ended() => Ok(Some(handle)),
            Ok(_) => Ok(None),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A handle on the process of this number, whichever it is.
pub(super) fn open_pidfd(pid: u32) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = to_pid(pid) else { return Ok(None) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => Ok(Some(handle)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// What `/proc/PID/stat` says, as far as it matters here.
pub(super) struct Stat {
    pub state: char,
    pub parent: u32,
    pub start_time: u64,
}

impl Stat {
    pub fn of(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&text).ok_or_else(|| io::Error::other("/proc/PID/stat has another form"))
    }

    /// The program's name stands in brackets and may hold anything, brackets and blanks too; what
    /// follows the last bracket is numbers (proc(5)).
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            start_time: fields.get(19)?.parse().ok()?,
        })
    }

    /// Dead, and only waiting for its parent to look.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

fn is_gone(error: &io::Error) -> bool {
    // ESRCH: the process ended between the opening and the reading of the file.
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_itself_and_not_its_successor() {
        let me = Identity::of(std::process::id()).unwrap();
        assert!(me.open().unwrap().is_some());
        let other_life = Identity { start_time: me.start_time + 1, ..me.clone() };
        assert!(other_life.open().unwrap().is_none());
        let other_boot = Identity { boot_id: "another".into(), ..me };
        assert!(other_boot.open().unwrap().is_none());
    }

    #[test]
    fn a_name_with_brackets_and_blanks_confuses_nobody() {
        let tail = (0..16).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        let stat = Stat::parse(&format!("7 (a) b) S 5 6 8 {tail}")).unwrap();
        assert_eq!((stat.state, stat.parent, stat.start_time), ('S', 5, 15));
    }
}
