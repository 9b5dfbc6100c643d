//! The log of a service: its last lines, and what comes after them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file in a shim's directory that the service's output is written to.
pub const LOG_FILE: &str = "output.log";

/// The file before that one.
pub const LOG_FILE_OLD: &str = "output.log.1";

/// Bytes from the end of the log in which lines are looked for, so that a question for many long
/// lines is answered with fewer instead of with a frame that is too large.
const TAIL_BYTES_MAX: u64 = 256 * 1024;

/// Bytes that [`Follower::next`] returns at once.
const FOLLOW_BYTES: usize = 64 * 1024;

/// How often a log that does not grow is looked at.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

/// The last `lines` lines of the log in `dir`, the oldest first. No log is no lines.
///
/// # Errors
/// When a file is there and cannot be read.
pub fn tail(dir: &Path, lines: usize) -> io::Result<Vec<String>> {
    let mut bytes = end_of(&dir.join(LOG_FILE), TAIL_BYTES_MAX)?;
    let room = TAIL_BYTES_MAX.saturating_sub(bytes.len() as u64);
    let enough = bytes.iter().filter(|byte| **byte == b'\n').count() >= lines;
    if room > 0 && !enough {
        let mut older = end_of(&dir.join(LOG_FILE_OLD), room)?;
        older.append(&mut bytes);
        bytes = older;
    }
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    let extra = all.len().saturating_sub(lines);
    Ok(all.into_iter().skip(extra).map(str::to_owned).collect())
}

fn end_of(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let Some(mut file) = open(path)? else { return Ok(Vec::new()) };
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Follows a log from its present end, over its rotations.
///
/// A log that is rotated twice between two looks loses what stood in the file that is gone.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    file: Option<File>,
}

impl Follower {
    /// A follower of the log in `dir`, which need not exist yet.
    ///
    /// # Errors
    /// When the log is there and cannot be read.
    pub fn new(dir: &Path) -> io::Result<Self> {
        let path = dir.join(LOG_FILE);
        let mut file = open(&path)?;
        if let Some(file) = &mut file {
            file.seek(SeekFrom::End(0))?;
        }
        Ok(Self { path, file })
    }

    /// The bytes that were written since; waits until there are some. May be cancelled at any time
    /// without loss.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn next(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let bytes = self.read_now()?;
            if !bytes.is_empty() {
                return Ok(bytes);
            }
            tokio::time::sleep(FOLLOW_INTERVAL).await;
        }
    }

    fn read_now(&mut self) -> io::Result<Vec<u8>> {
        let bytes = self.read_more()?;
        if !bytes.is_empty() || !self.was_rotated()? {
            return Ok(bytes);
        }
        // What was written between the read and the rotation is still to be had from the old file.
        let rest = self.read_more()?;
        if !rest.is_empty() {
            return Ok(rest);
        }
        self.file = open(&self.path)?;
        self.read_more()
    }

    fn read_more(&mut self) -> io::Result<Vec<u8>> {
        let Some(file) = &mut self.file else { return Ok(Vec::new()) };
        let mut bytes = vec![0; FOLLOW_BYTES];
        let count = file.read(&mut bytes)?;
        bytes.truncate(count);
        Ok(bytes)
    }

    fn was_rotated(&self) -> io::Result<bool> {
        let Some(current) = open(&self.path)? else { return Ok(false) };
        let Some(file) = &self.file else { return Ok(true) };
        let (old, new) = (file.metadata()?, current.metadata()?);
        Ok((old.dev(), old.ino()) != (new.dev(), new.ino()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    #[test]
    fn the_tail_reaches_into_the_older_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(tail(dir.path(), 3).unwrap().is_empty());
        fs::write(dir.path().join(LOG_FILE_OLD), "a\nb\n").unwrap();
        fs::write(dir.path().join(LOG_FILE), "c\nd\n").unwrap();
        assert_eq!(tail(dir.path(), 3).unwrap(), ["b", "c", "d"]);
        assert_eq!(tail(dir.path(), 1).unwrap(), ["d"]);
    }

    #[tokio::test]
    async fn a_follower_goes_on_after_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join(LOG_FILE);
        fs::write(&log, "old\n").unwrap();
        let mut follower = Follower::new(dir.path()).unwrap();
        let mut file = File::options().append(true).open(&log).unwrap();
        file.write_all(b"one\n").unwrap();
        assert_eq!(follower.next().await.unwrap(), b"one\n");
        file.write_all(b"two\n").unwrap();
        fs::rename(&log, dir.path().join(LOG_FILE_OLD)).unwrap();
        fs::write(&log, "three\n").unwrap();
        assert_eq!(follower.next().await.unwrap(), b"two\n");
        assert_eq!(follower.next().await.unwrap(), b"three\n");
    }
}
