//! The processes of a demo: how they are started, and how they are sure to end.

use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use super::reaper;

/// Longest path of the temporary directory; a socket's path, which goes further, has 107 bytes.
const DIR_BYTES_MAX: usize = 60;

/// The demo's directory and processes. All end when it is dropped, or when this process does.
pub struct Processes {
    dir: PathBuf,
    program: PathBuf,
    reaper: Child,
    started: Vec<Child>,
}

impl Processes {
    /// Makes the directory, and starts the process that cleans up.
    ///
    /// # Errors
    /// When either cannot be had.
    pub fn new() -> io::Result<Self> {
        let program = std::env::current_exe()?;
        let dir = make_dir()?;
        let mut command = Command::new(&program);
        command.arg("demo-reaper").arg("--dir").arg(&dir).process_group(0);
        let reaper = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let reaper = reaper.inspect_err(|_| {
            let _ = std::fs::remove_dir(&dir);
        })?;
        Ok(Self { dir, program, reaper, started: Vec::new() })
    }

    /// The demo's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// This program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A command that is marked as the demo's. It is in a process group of its own, so that Ctrl-C is
    /// heard by the demo alone; and it does not hear what the environment says to other nodes.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("BATON_") {
                command.env_remove(name);
            }
        }
        command.env(reaper::MARK, &self.dir).stdin(Stdio::null()).process_group(0);
        command
    }

    /// A command of this program.
    pub fn baton(&self, words: &[&str]) -> Command {
        let mut command = self.command(&self.program);
        command.args(words);
        command
    }

    /// Starts what is to run until the end, with its output in `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self, mut command: Command, log: &Path) -> io::Result<()> {
        let log = File::create(log)?;
        let child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        self.started.push(child);
        Ok(())
    }

    /// Which of those started have ended, by their number and in words.
    pub fn ended(&mut self) -> Vec<(usize, String)> {
        let ended = |(n, child): (usize, &mut Child)| match child.try_wait() {
            Ok(Some(status)) => Some((n, status.to_string())),
            _ => None,
        };
        self.started.iter_mut().enumerate().filter_map(ended).collect()
    }

    /// Leaves all of it running, and gives its directory.
    pub fn keep(mut self) -> PathBuf {
        if let Some(pipe) = &mut self.reaper.stdin {
            let _ = writeln!(pipe, "{}", reaper::KEEP);
        }
        self.dir.clone()
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // Its end of the pipe closes, and the reaper begins, if it was not told to keep all.
        drop(self.reaper.stdin.take());
        let _ = self.reaper.wait();
        for child in &mut self.started {
            let _ = child.try_wait();
        }
    }
}

/// The output of a command that ran to its end; an error when it failed.
///
/// # Errors
/// With what it said on standard error.
pub fn said(output: &Output) -> anyhow::Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    anyhow::bail!("{} ({})", String::from_utf8_lossy(&output.stderr).trim(), output.status)
}

fn make_dir() -> io::Result<PathBuf> {
    let mut place = std::env::temp_dir();
    if place.as_os_str().len() > DIR_BYTES_MAX {
        place = PathBuf::from("/tmp");
    }
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    let place = place.canonicalize()?.join(format!("btn-{:08x}", u32::from_ne_bytes(bytes)));
    DirBuilder::new().mode(0o700).create(&place)?;
    Ok(place)
}
