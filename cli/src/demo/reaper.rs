//! `baton demo-reaper`: ends all that a demo started, when the demo ends, in whatever way.
//!
//! It holds one end of a pipe whose other end only the demo has. The shims and the services outlive
//! their daemons on purpose, and a demo that was killed can end nobody; so the pipe's end is the sign.
//! A demo that leaves everything running says so with a line first.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The line by which a demo says that all is to stay.
pub const KEEP: &str = "keep";

/// The variable by which a process is known as a part of the demo in the directory that it names.
pub const MARK: &str = "BATON_DEMO_DIR";

/// How long the processes of a demo may take to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// Looks that must find nothing, one after the other, and the pause between them.
const EMPTY_LOOKS: usize = 3;
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Threads that remove at once. Most of a removal's time is spent waiting for the file system's
/// journal, so that several are faster than one on any number of processors.
const REMOVERS: usize = 4;

/// What `baton demo-reaper` is told.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The directory of the demo
    #[arg(long)]
    dir: PathBuf,
}

/// Waits for the demo's end, and then ends and removes all that is left of it.
pub fn run(args: &Args) -> ExitCode {
    let mut said = String::new();
    let _ = io::stdin().read_to_string(&mut said);
    if said.trim() == KEEP {
        return ExitCode::SUCCESS;
    }
    end_all(&args.dir);
    match remove_all(&args.dir) {
        Err(error) if args.dir.exists() => {
            eprintln!("baton demo: {} is left: {error}", args.dir.display());
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Removes the demo's directory, the nodes' directories in it side by side.
fn remove_all(dir: &Path) -> io::Result<()> {
    let entries = Mutex::new(std::fs::read_dir(dir)?.flatten());
    let next = || entries.lock().unwrap_or_else(PoisonError::into_inner).next();
    let remove_some = || {
        while let Some(entry) = next() {
            // What fails here is tried again below, and told.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..REMOVERS {
            scope.spawn(remove_some);
        }
    });
    std::fs::remove_dir_all(dir)
}

/// Kills the demo's processes until there are none. A shim may start one more while it is looked
/// for, and a process that just starts has no environment to be known by; so that one empty look is
/// not enough.
fn end_all(dir: &Path) {
    let begun = Instant::now();
    let mut empty = 0;
    while empty < EMPTY_LOOKS && begun.elapsed() < PATIENCE {
        let left = processes_of(dir);
        empty = if left.is_empty() { empty + 1 } else { 0 };
        for pid in left {
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

fn processes_of(dir: &Path) -> Vec<Pid> {
    let own = rustix::process::getpid();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Pid::from_raw).filter(|pid| *pid != own && belongs(*pid, dir)).collect()
}

/// A process is the demo's when its environment names the demo, or when it runs this very program
/// inside the demo's directory: a service gets the environment of its release only.
fn belongs(pid: Pid, dir: &Path) -> bool {
    let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    if is_zombie(&proc) {
        return false;
    }
    let environ = std::fs::read(proc.join("environ")).unwrap_or_default();
    is_marked(&environ, dir) || (runs_this_program(&proc) && is_inside(&proc, dir))
}

/// A zombie is dead already, and cannot be killed.
fn is_zombie(proc: &Path) -> bool {
    let stat = std::fs::read_to_string(proc.join("stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
}

fn is_marked(environ: &[u8], dir: &Path) -> bool {
    let mark = format!("{MARK}={}", dir.display());
    environ.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
}

fn runs_this_program(proc: &Path) -> bool {
    let (Ok(its), Ok(own)) = (proc.join("exe").read_link(), std::env::current_exe()) else {
        return false;
    };
    its == own
}

fn is_inside(proc: &Path, dir: &Path) -> bool {
    let cwd = proc.join("cwd").read_link().unwrap_or_default();
    let words = std::fs::read(proc.join("cmdline")).unwrap_or_default();
    let mut words = words.split(|byte| *byte == 0);
    cwd.starts_with(dir)
        || words.any(|word| std::str::from_utf8(word).is_ok_and(|w| Path::new(w).starts_with(dir)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_must_name_the_very_directory() {
        let environ = b"PATH=/bin\0BATON_DEMO_DIR=/tmp/btn-1\0HOME=/";
        assert!(is_marked(environ, Path::new("/tmp/btn-1")));
        assert!(!is_marked(environ, Path::new("/tmp/btn")));
        assert!(!is_marked(b"", Path::new("/tmp/btn-1")));
    }

    #[test]
    fn all_is_removed_and_what_links_point_at_stays() {
        let place = PathBuf::from(format!("/tmp/btn-reaped-{}", std::process::id()));
        let (dir, other) = (place.join("demo"), place.join("other"));
        for n in 0..3 * REMOVERS {
            std::fs::create_dir_all(dir.join(format!("n{n}/data"))).unwrap();
            std::fs::write(dir.join(format!("n{n}/data/file")), "x").unwrap();
        }
        std::fs::create_dir(&other).unwrap();
        std::os::unix::fs::symlink(&other, dir.join("link")).unwrap();
        std::fs::write(dir.join("token"), "x").unwrap();
        remove_all(&dir).unwrap();
        assert!(!dir.exists() && other.exists());
        std::fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn a_marked_process_is_ended_and_another_is_not() {
        let dir = PathBuf::from(format!("/tmp/btn-test-{}", std::process::id()));
        let sleep = |mark: &Path| {
            let mut command = std::process::Command::new("sleep");
            command.arg("60").env(MARK, mark).spawn().unwrap()
        };
        let (mut ours, mut other) = (sleep(&dir), sleep(Path::new("/tmp/btn-other")));
        end_all(&dir);
        assert!(!ours.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none(), "a stranger was killed");
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
