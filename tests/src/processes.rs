//! The processes of a node: found by what they were started with, and killed.

use std::path::Path;
use std::process::{Command, Stdio};

/// A process of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// What it is there for.
    pub part: Part,
}

/// What a process of a node is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The node itself.
    Daemon,
    /// It runs the service.
    Shim,
    /// The service.
    Service,
}

impl Process {
    /// By its command line; `None` where it has ended.
    pub fn of(pid: u32) -> Option<Self> {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let mut words = words.split(|byte| *byte == 0).take(2);
        let (program, first) = (words.next().filter(|it| !it.is_empty())?, words.next());
        let part = match first {
            Some(b"shim") => Part::Shim,
            Some(b"node") => Part::Daemon,
            _ if program.ends_with(b"/testd") => Part::Service,
            _ => return None,
        };
        Some(Self { pid, part })
    }

    /// Kills it.
    pub fn kill(self) {
        kill_all(&[self.pid]);
    }
}

/// Processes whose command line or environment names something in `dir`: this mesh's own.
pub fn processes_of(dir: &Path) -> Vec<u32> {
    // With the slash at its end: n1 is not n10.
    let mark = dir.join("").into_os_string().into_encoded_bytes();
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let Some(pid) = pid.filter(|pid| *pid != own) else { continue };
        let names = |file: &str| {
            let bytes = std::fs::read(entry.path().join(file)).unwrap_or_default();
            bytes.windows(mark.len()).any(|window| window == mark)
        };
        if names("cmdline") || names("environ") {
            found.push(pid);
        }
    }
    found
}

/// A word of a process' command line.
pub fn word(pid: u32, at: usize) -> String {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let word = words.split(|byte| *byte == 0).nth(at).unwrap_or_default();
    String::from_utf8_lossy(word).into_owned()
}

/// Kills them; one that has ended is no error.
pub fn kill_all(pids: &[u32]) {
    for pid in pids {
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
    }
}
