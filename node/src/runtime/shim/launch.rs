//! The last step before a service is itself: the launcher.
//!
//! The shim starts its own program again as the launcher, and the launcher, once it is told, puts
//! itself into the service's cgroup and session and becomes the service by `exec`. So nothing has
//! to run between `fork` and `exec`, and the process is known and recorded before it may do anything:
//! what it is to become is told on its stdin, after the record is written. If the shim dies before,
//! stdin ends early and the launcher just exits.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use baton_protocol::codec;
use serde::{Deserialize, Serialize};

use super::containment::MARK;
use super::message::Start;
use crate::runtime::program;

/// The exit code of a service whose program cannot be run, as shells have it.
const CANNOT_RUN: u8 = 127;

/// What the launcher is told.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Launch {
    /// Where to write `0` to be in the service's cgroup.
    pub entrance: Option<PathBuf>,
    pub start: Start,
}

/// Becomes the service. Returns only if that is not possible; the reason goes to stderr, which is
/// the service's output.
pub(super) fn main() -> ExitCode {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut bytes);
    let Ok(launch) = codec::decode::<Launch>(&bytes) else {
        // The shim died before it said what to start: there is nobody to tell.
        return ExitCode::from(CANNOT_RUN);
    };
    let failed = read.and_then(|_| become_service(&launch));
    if let Err(error) = failed {
        let program = launch.start.command.first().map_or("nothing", String::as_str);
        eprintln!("baton: cannot run {program}: {error}");
    }
    ExitCode::from(CANNOT_RUN)
}

fn become_service(launch: &Launch) -> io::Result<()> {
    rustix::process::setsid()?;
    if let Some(entrance) = &launch.entrance {
        fs::write(entrance, "0")?;
    }
    let start = &launch.start;
    let tree = fs::canonicalize(&start.tree)?;
    let empty = || io::Error::other("the command is empty");
    let (name, arguments) = start.command.split_first().ok_or_else(empty)?;
    let mut command = Command::new(program::resolve(&tree, name));
    command.arg0(name).args(arguments).current_dir(&tree);
    command.stdin(Stdio::null()).env_clear().envs(environment(start));
    Err(command.exec())
}

fn environment(start: &Start) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from(program::environment());
    env.extend(start.env.clone());
    // The shim knows its service's processes by it.
    env.extend(std::env::var(MARK).map(|mark| (MARK.to_owned(), mark)));
    env.insert("BATON_RELEASE".to_owned(), start.release.to_string());
    env.insert("BATON_VERSION".to_owned(), start.version.to_string());
    env.insert("BATON_GROUP".to_owned(), start.group.to_string());
    if !start.listen.is_empty() {
        // The number outlives `exec`, so this process is the one that LISTEN_PID must name.
        env.insert("LISTEN_PID".to_owned(), std::process::id().to_string());
        env.insert("LISTEN_FDS".to_owned(), start.listen.len().to_string());
    }
    env
}
