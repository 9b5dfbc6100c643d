//! What the service writes: from its FIFO to a bounded log, and the last lines kept for reports.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::fs::{CWD, Mode, mkfifoat};
use tokio::net::unix::pipe;

use super::message::LAST_LINES;
use crate::runtime::logs::{self, LOG_FILE, LOG_FILE_OLD};

/// Bytes of one file of the log. There are two, so a service takes up to twice this on disk.
const LOG_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Bytes of one line that are kept in memory for reports; the log has the whole line.
const LINE_BYTES_MAX: usize = 2_000;

/// Bytes that the kernel holds for us while no shim reads: what a service can write, between one
/// shim's death and the next one's start, before it has to wait. 1 MiB is the most that everybody
/// may ask for (pipe(7)).
const PIPE_BYTES: usize = 1024 * 1024;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// Bytes taken from the pipe after the service has ended, before its end is reported: twice what
/// the pipe holds, so that a stray writer cannot hold the report back.
const DRAIN_BYTES_MAX: usize = 2 * PIPE_BYTES;

/// The service's output.
pub(super) struct Output {
    fifo: PathBuf,
    pipe: pipe::Receiver,
    log: Log,
    buffer: Vec<u8>,
}

impl Output {
    pub fn open(dir: &Path) -> io::Result<Self> {
        let fifo = dir.join("output.fifo");
        match mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let pipe = pipe::OpenOptions::new().read_write(true).open_receiver(&fifo)?;
        if let Err(error) = rustix::pipe::fcntl_setpipe_size(&pipe, PIPE_BYTES) {
            eprintln!("shim: the pipe of the output stays small: {error}");
        }
        Ok(Self { fifo, pipe, log: Log::open(dir)?, buffer: vec![0; READ_BYTES] })
    }

    /// An end for a child to write to. It can be read too, so that a write never fails for want of
    /// a reader while the shim is away.
    pub fn child_end(&self) -> io::Result<Stdio> {
        Ok(File::options().read(true).write(true).open(&self.fifo)?.into())
    }

    /// Waits until there is something to take over.
    pub async fn readable(&self) -> io::Result<()> {
        self.pipe.readable().await
    }

    /// Takes over what one read gives; the number of bytes, 0 for none.
    pub fn pump(&mut self) -> usize {
        let Ok(count) = self.pipe.try_read(&mut self.buffer) else { return 0 };
        let bytes = self.buffer.get(..count).unwrap_or_default();
        self.log.write(bytes);
        count
    }

    /// Takes over all that is there.
    pub fn drain(&mut self) {
        let mut taken = 0;
        while taken < DRAIN_BYTES_MAX {
            match self.pump() {
                0 => break,
                count => taken += count,
            }
        }
    }

    /// Writes a line of the shim's own between those of the service.
    pub fn note(&mut self, text: &str) {
        self.log.note(text);
    }

    /// Forgets the last lines: they are another run's.
    pub fn begin_run(&mut self) {
        self.log.last = Ring::default();
    }

    pub fn last_lines(&self) -> Vec<String> {
        self.log.last.lines()
    }
}

struct Log {
    dir: PathBuf,
    file: File,
    size: u64,
    last: Ring,
    complained: bool,
    mid_line: bool,
}

impl Log {
    fn open(dir: &Path) -> io::Result<Self> {
        let file = open_log(&dir.join(LOG_FILE))?;
        let size = file.metadata()?.len();
        let mut last = Ring::default();
        for line in logs::tail(dir, LAST_LINES).unwrap_or_default() {
            last.take(line.as_bytes());
            last.take(b"\n");
        }
        Ok(Self { dir: dir.to_owned(), file, size, last, complained: false, mid_line: false })
    }

    /// A full disk costs lines and nothing else: the service must not wait for it.
    fn write(&mut self, bytes: &[u8]) {
        self.last.take(bytes);
        let written = self.rotate_for(bytes.len()).and_then(|()| self.file.write_all(bytes));
        match written {
            Ok(()) => {
                self.size = self.size.saturating_add(bytes.len() as u64);
                self.complained = false;
                self.mid_line = bytes.last().is_some_and(|byte| *byte != b'\n');
            }
            Err(error) if !self.complained => {
                eprintln!("shim: output is lost: {error}");
                self.complained = true;
            }
            Err(_) => {}
        }
    }

    /// Notes are in the log only: a report of an exit holds the service's own last lines.
    fn note(&mut self, text: &str) {
        let line = format!("{}[baton] {text}\n", if self.mid_line { "\n" } else { "" });
        let written =
            self.rotate_for(line.len()).and_then(|()| self.file.write_all(line.as_bytes()));
        match written {
            Ok(()) => {
                self.size = self.size.saturating_add(line.len() as u64);
                self.mid_line = false;
            }
            Err(error) => eprintln!("shim: \"{text}\" is not in the log: {error}"),
        }
    }

    fn rotate_for(&mut self, more: usize) -> io::Result<()> {
        if self.size == 0 || self.size.saturating_add(more as u64) <= LOG_BYTES_MAX {
            return Ok(());
        }
        let current = self.dir.join(LOG_FILE);
        fs::rename(&current, self.dir.join(LOG_FILE_OLD))?;
        self.file = open_log(&current)?;
        self.size = 0;
        Ok(())
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).mode(0o600).open(path)
}

/// The last lines, and the one that is being written.
#[derive(Default)]
struct Ring {
    lines: VecDeque<String>,
    partial: Vec<u8>,
}

impl Ring {
    fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let room = LINE_BYTES_MAX.saturating_sub(self.partial.len());
            self.partial.extend(text.iter().take(room));
            if ended {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.partial).trim_end_matches('\r').to_owned();
        self.partial.clear();
        if self.lines.len() == LAST_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    fn lines(&self) -> Vec<String> {
        let partial = String::from_utf8_lossy(&self.partial).into_owned();
        let partial = (!partial.is_empty()).then_some(partial);
        let lines: Vec<String> = self.lines.iter().cloned().chain(partial).collect();
        let extra = lines.len().saturating_sub(LAST_LINES);
        lines.into_iter().skip(extra).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_long_ones_cut() {
        let mut ring = Ring::default();
        for n in 0..60 {
            ring.take(format!("line {n}\n").as_bytes());
        }
        ring.take(&[b'x'; 5_000]);
        let lines = ring.lines();
        assert_eq!(lines.len(), LAST_LINES);
        assert_eq!(lines.first().unwrap(), "line 11");
        assert_eq!(lines.last().unwrap().len(), LINE_BYTES_MAX);
    }

    #[test]
    fn the_log_never_takes_more_than_two_files() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(dir.path()).unwrap();
        let line = [&[b'y'; 65_535][..], b"\n"].concat();
        for _ in 0..400 {
            log.write(&line);
        }
        let sizes =
            [LOG_FILE, LOG_FILE_OLD].map(|name| fs::metadata(dir.path().join(name)).unwrap().len());
        assert!(sizes.iter().all(|size| (1..=LOG_BYTES_MAX).contains(size)), "{sizes:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
