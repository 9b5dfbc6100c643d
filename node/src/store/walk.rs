//! What is in a directory that is to be released.

use std::fs::{self, FileType, Metadata};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use baton_protocol::artifact::chunker::Params;
use baton_protocol::artifact::manifest::{Entry, Kind, MODE_BITS, Manifest};
use baton_protocol::artifact::path::SafePath;

use super::error::At;
use super::{SourceError, StoreError, entries};

/// Entries of one release. A directory that has more is most likely not what was meant.
const ENTRIES_MAX: usize = 1_000_000;

/// A directory as it was found. Files have their sizes and no chunks yet.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub entries: Vec<Entry>,
    /// What has mode bits that a release does not carry.
    pub dropped_bits: Vec<SafePath>,
    pub files: u64,
    pub size_bytes: u64,
}

/// Lists `source`, and refuses it at once if what it holds cannot be a release, before anything is
/// copied.
pub(super) fn walk(source: &Path) -> Result<Found, StoreError> {
    if !fs::metadata(source).at("look at", source)?.is_dir() {
        return Err(StoreError::source(source, SourceError::NotADirectory));
    }
    let mut found = Found::default();
    let mut dirs = vec![source.to_owned()];
    while let Some(dir) = dirs.pop() {
        for path in entries(&dir)? {
            if found.add(source, &path)? {
                dirs.push(path);
            }
            if found.entries.len() > ENTRIES_MAX {
                return Err(StoreError::source(source, SourceError::TooMany(ENTRIES_MAX)));
            }
        }
    }
    if found.files == 0 {
        return Err(StoreError::source(source, SourceError::Empty));
    }
    found.entries.sort_by(|a, b| a.path.cmp(&b.path));
    // Names, parents and links; what the files hold is not known yet.
    let empty = found.entries.iter().map(emptied).collect();
    Manifest::new(Params::SMALL, None, empty).map_err(|error| StoreError::source(source, error))?;
    Ok(found)
}

impl Found {
    /// Takes note of a path. True if it is a directory to go into.
    fn add(&mut self, source: &Path, path: &Path) -> Result<bool, StoreError> {
        let metadata = fs::symlink_metadata(path).at("look at", path)?;
        let entry = Entry { path: safe(source, path)?, kind: kind_of(path, &metadata)? };
        if let Kind::File { size, .. } = entry.kind {
            self.files += 1;
            self.size_bytes = self.size_bytes.saturating_add(size);
        }
        let bits = metadata.permissions().mode() & 0o7777;
        if !metadata.is_symlink() && bits & !MODE_BITS != 0 {
            self.dropped_bits.push(entry.path.clone());
        }
        self.entries.push(entry);
        Ok(metadata.is_dir())
    }
}

fn kind_of(path: &Path, metadata: &Metadata) -> Result<Kind, StoreError> {
    let (kind, mode) = (metadata.file_type(), metadata.permissions().mode() & MODE_BITS);
    if kind.is_dir() {
        return Ok(Kind::Dir { mode });
    }
    if kind.is_file() {
        return Ok(Kind::File { mode, size: metadata.len(), chunks: Vec::new() });
    }
    if !kind.is_symlink() {
        return Err(StoreError::source(path, SourceError::Special(special(kind))));
    }
    let target = fs::read_link(path).at("read the link", path)?;
    Ok(Kind::Symlink { target: text(path, target)? })
}

fn special(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_socket() => "socket",
        kind if kind.is_fifo() => "pipe",
        _ => "device",
    }
}

fn safe(source: &Path, path: &Path) -> Result<SafePath, StoreError> {
    let inside = path.strip_prefix(source).unwrap_or(path).to_owned();
    SafePath::try_from(text(path, inside)?).map_err(|error| StoreError::source(path, error))
}

fn text(path: &Path, part: PathBuf) -> Result<String, StoreError> {
    let text = part.into_os_string().into_string();
    text.map_err(|_| StoreError::source(path, SourceError::NotUtf8))
}

fn emptied(entry: &Entry) -> Entry {
    let kind = match &entry.kind {
        Kind::File { mode, .. } => Kind::File { mode: *mode, size: 0, chunks: Vec::new() },
        other => other.clone(),
    };
    Entry { path: entry.path.clone(), kind }
}
