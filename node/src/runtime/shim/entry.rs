//! The shim's way in: `baton shim --dir DIR`, and its two helpers.

use std::ffi::OsString;
use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{PTracer, getpid, set_child_subreaper, set_ptracer, setsid};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc};
use tokio::time::sleep;

use super::identity::Identity;
use super::message::Containment;
use super::server::{Desk, serve};
use super::supervisor::Supervisor;
use super::{SOCKET_FILE, launch};

/// Bytes of `shim.log` from which on it is begun anew at the shim's next start.
const OWN_LOG_BYTES_MAX: u64 = 1024 * 1024;

/// Pause between two looks whether the socket's file is still there.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Requests that wait for the supervisor; askers beyond wait in their connections.
const QUESTIONS_MAX: usize = 16;

/// Events that a subscriber may be behind.
const EVENTS_MAX: usize = 16;

/// The whole of `baton shim`: `args` is what follows the word `shim`, which this program must pass
/// on to here. Call it before anything else is opened or any thread is started.
///
/// * `--dir DIR` serves the directory;
/// * `--dir DIR --detach` starts a process of its own that does, and returns;
/// * `--process-tree` does without a cgroup, as if there were none;
/// * `--launch` is how a shim starts a service.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let task = match Task::parse(args) {
        Ok(task) => task,
        Err(error) => {
            eprintln!("shim: {error}");
            return ExitCode::from(2);
        }
    };
    let done = match task {
        Task::Launch => return launch::main(),
        Task::Detach(options) => detach(&options),
        Task::Serve(options) => run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shim: {error}");
            ExitCode::FAILURE
        }
    }
}

enum Task {
    Launch,
    Detach(Options),
    Serve(Options),
}

struct Options {
    dir: PathBuf,
    process_tree: bool,
}

impl Task {
    fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut args = args.into_iter();
        let (mut dir, mut detach, mut process_tree) = (None, false, false);
        while let Some(arg) = args.next() {
            match arg.to_str() {
                Some("--launch") => return Ok(Self::Launch),
                Some("--dir") => dir = args.next().map(PathBuf::from),
                Some("--detach") => detach = true,
                Some("--process-tree") => process_tree = true,
                _ => return Err(format!("unknown argument {}", arg.display())),
            }
        }
        let options = Options { dir: dir.ok_or("--dir is missing")?, process_tree };
        Ok(if detach { Self::Detach(options) } else { Self::Serve(options) })
    }
}

/// Starts the shim as a child of nobody who could take it along: its parent is this process, which
/// ends at once.
fn detach(options: &Options) -> io::Result<()> {
    keep_inherited_back()?;
    // It fails only for the leader of a process group, which is on its own already.
    let _ = setsid();
    fs::create_dir_all(&options.dir)?;
    let dir = fs::canonicalize(&options.dir)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("baton").arg("shim").arg("--dir").arg(&dir).current_dir("/");
    if options.process_tree {
        command.arg("--process-tree");
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(own_log(&dir)?);
    command.spawn()?;
    Ok(())
}

fn own_log(dir: &Path) -> io::Result<File> {
    let path = dir.join("shim.log");
    let old = fs::metadata(&path).is_ok_and(|old| old.len() > OWN_LOG_BYTES_MAX);
    if old {
        fs::rename(&path, dir.join("shim.log.1"))?;
    }
    File::options().append(true).create(true).mode(0o600).open(path)
}

/// Keeps back what the starter's own starter left open, beyond stdin, stdout and stderr: a pipe
/// held for years by a shim would keep somebody waiting for its end.
fn keep_inherited_back() -> io::Result<()> {
    let entries = fs::read_dir("/proc/self/fd")?;
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let inherited: Vec<i32> = numbers.filter(|number| *number > 2).collect();
    for number in inherited {
        // SAFETY: the number is not -1. The descriptor is borrowed for this one call, in the only
        // thread of the process, so it is not closed meanwhile; that of the directory just read is
        // closed already, and the call then fails without doing anything.
        #[allow(unsafe_code)]
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let _ = fcntl_setfd(descriptor, FdFlags::CLOEXEC);
    }
    Ok(())
}

fn run(options: &Options) -> io::Result<()> {
    fs::create_dir_all(&options.dir)?;
    let dir = fs::canonicalize(&options.dir)?;
    fs::set_permissions(&dir, Permissions::from_mode(0o700))?;
    let Some(_lock) = lock(&dir)? else {
        eprintln!("shim: another one serves {}", dir.display());
        return Ok(());
    };
    let me = Identity::of(std::process::id())?;
    fs::write(dir.join("shim.pid"), format!("{} {} {}\n", me.pid, me.start_time, me.boot_id))?;
    let containment = contain(&dir, options.process_tree);
    set_child_subreaper(Some(getpid()))?;
    // Another shim of the same user may take copies of the sockets, also where the kernel's Yama
    // module lets only ancestors do so. Without Yama it is refused, and not needed.
    let _ = set_ptracer(PTracer::Any);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve_dir(dir, containment))
}

fn lock(dir: &Path) -> io::Result<Option<File>> {
    let path = dir.join("shim.lock");
    let file = File::options().append(true).create(true).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn contain(dir: &Path, process_tree: bool) -> Containment {
    let containment = match process_tree {
        false => Containment::set_up(dir),
        true => Containment::ProcessTree { because: "it was asked to be so".to_owned() },
    };
    if let Containment::ProcessTree { because } = &containment {
        eprintln!("shim: no cgroup, processes are held by descent and a mark only: {because}");
    }
    containment
}

async fn serve_dir(dir: PathBuf, containment: Containment) -> io::Result<()> {
    ignore_polite_signals()?;
    let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
    let (events, _) = broadcast::channel(EVENTS_MAX);
    let supervisor = Supervisor::open(dir.clone(), containment, events.clone())?;
    let listener = bind(&dir)?;
    let serving = tokio::spawn(serve_on(dir.clone(), listener, Desk { questions, events }));
    supervisor.run(asked).await?;
    // The last answer is still on its way to the socket.
    sleep(Duration::from_millis(50)).await;
    serving.abort();
    fs::remove_file(dir.join(SOCKET_FILE))
}

/// Serves for ever, on a new socket whenever the file of the last is gone: somebody has tidied up.
async fn serve_on(dir: PathBuf, mut listener: UnixListener, desk: Desk) {
    loop {
        let bound = inode(&dir);
        tokio::select! {
            () = serve(listener, desk.clone()) => return,
            () = replaced(&dir, bound) => {}
        }
        listener = loop {
            match bind(&dir) {
                Ok(fresh) => break fresh,
                Err(_) => sleep(LOOK_INTERVAL).await,
            }
        };
    }
}

/// Returns when the socket's file is not that one any more.
async fn replaced(dir: &Path, bound: Option<u64>) {
    while inode(dir) == bound {
        sleep(LOOK_INTERVAL).await;
    }
}

fn inode(dir: &Path) -> Option<u64> {
    fs::symlink_metadata(dir.join(SOCKET_FILE)).ok().map(|file| file.ino())
}

/// Bound by way of the directory's descriptor, as the path of a socket may have 107 bytes only.
fn bind(dir: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(dir.join(SOCKET_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let handle = File::open(dir)?;
    let path = format!("/proc/self/fd/{}/{SOCKET_FILE}", handle.as_raw_fd());
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(dir.join(SOCKET_FILE), Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// The shim ends when it is asked to over its socket. At the host's shutdown, and where somebody
/// ends a whole session, these signals come to every process; the service takes its own, and the
/// shim stays to note how it ended.
fn ignore_polite_signals() -> io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        // A signal that tokio has a handler for does nothing else, even when nobody listens.
        let _ = signal(kind)?;
    }
    Ok(())
}
