//! The whole of a release: every directory, file and link, the chunks of each file, and how the
//! service is run. It travels as chunks itself, which the [`Header`] names.
//!
//! A [`Manifest`] has been checked: whoever holds one may write its tree to a disk. What was decoded
//! is [`Unverified`] until then.

use core::ops::Range;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::chunker::Params;
use super::dedup::{self, Place};
use super::header::{ChunkRef, Header};
use super::links;
use super::path::{PathError, SafePath};
use super::service::ServiceSpec;
use crate::codec::{self, DecodeError};
use crate::id::ChunkHash;
use crate::limits::{CHUNK_BYTES_MAX, MANIFEST_BYTES_MAX, MANIFEST_PIECES_MAX};
use crate::swarm::CHUNKS_MAX;

/// The bits of a mode that a release has. The bits for set-user-id, set-group-id and sticky are not
/// among them: a release gives nobody rights that its service does not have.
pub const MODE_BITS: u32 = 0o777;

/// Something that has a path in a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<P = SafePath> {
    /// Where it is.
    pub path: P,
    /// What it is.
    pub kind: Kind,
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A directory. Every directory has an entry of its own, also one that is not empty.
    Dir {
        /// Permission bits.
        mode: u32,
    },
    /// A regular file.
    File {
        /// Permission bits.
        mode: u32,
        /// Its length in bytes: the sum of its chunks.
        size: u64,
        /// Its chunks, in order.
        chunks: Vec<ChunkRef>,
    },
    /// A symbolic link.
    Symlink {
        /// What it points at, relative to its own directory.
        target: String,
    },
}

impl Kind {
    /// The chunks of a file; none for anything else.
    pub fn chunks(&self) -> &[ChunkRef] {
        match self {
            Self::File { chunks, .. } => chunks,
            Self::Dir { .. } | Self::Symlink { .. } => &[],
        }
    }
}

/// Why a tree is refused. Each says which path is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The bytes are no manifest.
    #[error("the manifest cannot be read: {0}")]
    Decode(#[from] DecodeError),
    /// The manifest is larger than any that is read.
    #[error("a manifest of {0} bytes: at most {MANIFEST_BYTES_MAX} are allowed")]
    TooLarge(u64),
    /// The header names other pieces than these bytes have.
    #[error("the manifest is not the one that the header names")]
    OtherBytes,
    /// The header says something else about the files.
    #[error(
        "the header tells of {header_files} files and {header_bytes} bytes, the manifest of {files} and {bytes}"
    )]
    OtherSizes {
        /// Files, by the header.
        header_files: u64,
        /// Bytes, by the header.
        header_bytes: u64,
        /// Files, by the manifest.
        files: u64,
        /// Bytes, by the manifest.
        bytes: u64,
    },
    /// A path that could leave the tree.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The same path twice, or a path out of order.
    #[error("\"{0}\" is there twice, or out of order")]
    Order(SafePath),
    /// Two names that are one on a file system that does not tell cases apart.
    #[error("\"{0}\" and \"{1}\" differ only in upper and lower case")]
    CaseClash(SafePath, SafePath),
    /// Something inside what is no directory of the tree.
    #[error("\"{0}\" is in \"{1}\", which is no directory of the release")]
    Parent(SafePath, String),
    /// Mode bits beyond those of [`MODE_BITS`].
    #[error("\"{path}\" has mode {mode:o}: only the bits {MODE_BITS:o} are allowed")]
    Mode {
        /// Where.
        path: SafePath,
        /// Its mode.
        mode: u32,
    },
    /// A chunk of no bytes, or of more than a chunk may have.
    #[error("\"{path}\" has a chunk of {len} bytes: 1 to {CHUNK_BYTES_MAX} are allowed")]
    ChunkLen {
        /// Where.
        path: SafePath,
        /// The length of the chunk.
        len: u32,
    },
    /// One hash with two lengths, of which at least one is false.
    #[error("\"{0}\" has a chunk that has another length elsewhere")]
    ChunkLenDiffers(SafePath),
    /// A file whose chunks are longer or shorter than it is.
    #[error("\"{path}\" has {size} bytes, and its chunks have {chunks}")]
    Size {
        /// Where.
        path: SafePath,
        /// The size that is claimed.
        size: u64,
        /// The sum of its chunks.
        chunks: u64,
    },
    /// More distinct chunks than one object may have.
    #[error("the files have {0} distinct chunks: at most {CHUNKS_MAX} are allowed in one release")]
    TooManyChunks(usize),
    /// All files together have more bytes than can be counted.
    #[error("the files have more bytes than can be counted")]
    SizeOverflow,
    /// A link that is no path at all.
    #[error("\"{path}\" is a link to {target:?}, which is empty, absolute or too long")]
    LinkTarget {
        /// Where.
        path: SafePath,
        /// What it points at.
        target: String,
    },
    /// A link that leads out of the release, by itself or by other links.
    #[error("\"{path}\" is a link to \"{target}\", which leads out of the release")]
    LinkOutside {
        /// Where.
        path: SafePath,
        /// What it points at.
        target: String,
    },
    /// A link that leads back to itself, or through more links than the kernel follows.
    #[error("\"{path}\" is a link to \"{target}\", which has no end")]
    LinkLoop {
        /// Where.
        path: SafePath,
        /// What it points at.
        target: String,
    },
}

/// A tree that was checked and may be written to a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Manifest {
    params: Params,
    service: Option<ServiceSpec>,
    entries: Vec<Entry>,
    #[serde(skip)]
    unique_chunks: Vec<ChunkRef>,
}

/// A manifest as it was decoded: nothing in it may be used before [`verify`](Self::verify).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unverified {
    params: Params,
    service: Option<ServiceSpec>,
    entries: Vec<Entry<String>>,
}

impl Unverified {
    /// Reads the frame of a manifest.
    ///
    /// # Errors
    /// The bytes are no manifest.
    pub fn decode(frame: &[u8]) -> Result<Self, ManifestError> {
        Ok(codec::decode_with_limit::<Self, MANIFEST_BYTES_MAX>(frame)?)
    }

    /// The manifest, if nothing in it can reach out of its tree and it agrees with itself.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn verify(self) -> Result<Manifest, ManifestError> {
        let parsed = self
            .entries
            .into_iter()
            .map(|entry| Ok(Entry { path: SafePath::try_from(entry.path)?, kind: entry.kind }));
        let entries = parsed.collect::<Result<_, PathError>>()?;
        Manifest::checked(self.params, self.service, entries)
    }
}

impl Manifest {
    /// A manifest of these entries, in any order.
    ///
    /// # Errors
    /// The same as for a manifest that came from elsewhere.
    pub fn new(
        params: Params,
        service: Option<ServiceSpec>,
        mut entries: Vec<Entry>,
    ) -> Result<Self, ManifestError> {
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Self::checked(params, service, entries)
    }

    /// The manifest in `frame`, which must be the one that `header` names.
    ///
    /// # Errors
    /// It is another one, or it is refused.
    pub fn of_header(header: &Header, frame: &[u8]) -> Result<Self, ManifestError> {
        if !is_joined_from(frame, &header.manifest) {
            return Err(ManifestError::OtherBytes);
        }
        let manifest = Unverified::decode(frame)?.verify()?;
        let (files, bytes) = (manifest.files(), manifest.size_bytes());
        if (files, bytes) != (header.files, header.size_bytes) {
            let (header_files, header_bytes) = (header.files, header.size_bytes);
            return Err(ManifestError::OtherSizes { header_files, header_bytes, files, bytes });
        }
        Ok(manifest)
    }

    fn checked(
        params: Params,
        service: Option<ServiceSpec>,
        entries: Vec<Entry>,
    ) -> Result<Self, ManifestError> {
        check_order(&entries)?;
        check_case(&entries)?;
        check_parents(&entries)?;
        check_modes(&entries)?;
        check_sizes(&entries)?;
        links::check(&entries)?;
        let unique_chunks = distinct_chunks(&entries)?;
        if unique_chunks.len() > CHUNKS_MAX as usize {
            return Err(ManifestError::TooManyChunks(unique_chunks.len()));
        }
        Ok(Self { params, service, entries, unique_chunks })
    }

    /// How the files were cut.
    pub fn params(&self) -> Params {
        self.params
    }

    /// How the service is run, where the release has a `baton.toml` that says so.
    pub fn service(&self) -> Option<&ServiceSpec> {
        self.service.as_ref()
    }

    /// Everything in the tree, ordered by the bytes of its path, so that a directory comes before
    /// what is in it.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What stands at `path`.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        find(&self.entries, path)
    }

    /// The distinct chunks, in the order in which they first occur. A chunk's place in this list is
    /// the number by which nodes speak of it.
    pub fn unique_chunks(&self) -> &[ChunkRef] {
        &self.unique_chunks
    }

    /// The place in [`unique_chunks`](Self::unique_chunks) of each chunk.
    pub fn chunk_indexes(&self) -> BTreeMap<ChunkHash, u32> {
        (0..).zip(&self.unique_chunks).map(|(index, chunk)| (chunk.hash, index)).collect()
    }

    /// Bytes of all files.
    pub fn size_bytes(&self) -> u64 {
        // Cannot overflow: it was counted with a check when the manifest was made.
        self.entries.iter().map(|entry| size_of_file(&entry.kind)).sum()
    }

    /// Number of files.
    pub fn files(&self) -> u64 {
        self.entries.iter().filter(|entry| matches!(entry.kind, Kind::File { .. })).count() as u64
    }

    /// The frame of the manifest, whatever its size: see [`to_frame`](Self::to_frame).
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// The manifest in `frame`, checked.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn decode(frame: &[u8]) -> Result<Self, ManifestError> {
        Unverified::decode(frame)?.verify()
    }

    /// The pieces in which the frame of a manifest travels, and where each is in it. They are cut by
    /// content, so that a manifest that changes little travels little.
    pub fn pieces(frame: &[u8]) -> Vec<(ChunkRef, Range<usize>)> {
        let placed = Params::SMALL.cut(frame).scan(0, |end, piece| {
            let start = *end;
            *end += piece.len();
            Some((ChunkRef::of(piece), start..*end))
        });
        placed.collect()
    }

    /// Every place where each of [`unique_chunks`](Self::unique_chunks) belongs, in their order.
    pub fn places(&self) -> Vec<Vec<Place>> {
        dedup::plan(self, &[]).chunks.into_iter().map(|planned| planned.places).collect()
    }

    /// The manifest as it travels: its frame, and the pieces of it that the header names.
    ///
    /// # Errors
    /// It is larger than any that is read.
    pub fn to_frame(&self) -> Result<(Vec<u8>, Vec<ChunkRef>), ManifestError> {
        let frame = self.encode();
        let pieces: Vec<_> = Self::pieces(&frame).into_iter().map(|(piece, _)| piece).collect();
        if frame.len() > MANIFEST_BYTES_MAX || pieces.len() > MANIFEST_PIECES_MAX {
            return Err(ManifestError::TooLarge(frame.len() as u64));
        }
        Ok((frame, pieces))
    }
}

fn size_of_file(kind: &Kind) -> u64 {
    match kind {
        Kind::File { size, .. } => *size,
        Kind::Dir { .. } | Kind::Symlink { .. } => 0,
    }
}

pub(super) fn find<'a>(entries: &'a [Entry], path: &str) -> Option<&'a Entry> {
    let at = entries.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok()?;
    entries.get(at)
}

fn is_joined_from(frame: &[u8], pieces: &[ChunkRef]) -> bool {
    let mut rest = frame;
    let all_match = pieces.iter().all(|piece| {
        let Some((bytes, after)) = rest.split_at_checked(piece.len as usize) else { return false };
        rest = after;
        piece.matches(bytes)
    });
    all_match && rest.is_empty()
}

fn check_order(entries: &[Entry]) -> Result<(), ManifestError> {
    let mut pairs = entries.iter().zip(entries.iter().skip(1));
    match pairs.find(|(before, after)| before.path >= after.path) {
        Some((_, after)) => Err(ManifestError::Order(after.path.clone())),
        None => Ok(()),
    }
}

fn check_case(entries: &[Entry]) -> Result<(), ManifestError> {
    let mut seen = BTreeMap::new();
    for entry in entries {
        if let Some(other) = seen.insert(entry.path.as_str().to_lowercase(), &entry.path) {
            return Err(ManifestError::CaseClash(other.clone(), entry.path.clone()));
        }
    }
    Ok(())
}

fn check_parents(entries: &[Entry]) -> Result<(), ManifestError> {
    let mut dirs = BTreeSet::new();
    for entry in entries {
        if let Some(parent) = entry.path.parent().filter(|parent| !dirs.contains(parent)) {
            return Err(ManifestError::Parent(entry.path.clone(), parent.to_owned()));
        }
        if matches!(entry.kind, Kind::Dir { .. }) {
            dirs.insert(entry.path.as_str());
        }
    }
    Ok(())
}

fn check_modes(entries: &[Entry]) -> Result<(), ManifestError> {
    for Entry { path, kind } in entries {
        match *kind {
            Kind::Dir { mode } | Kind::File { mode, .. } if mode & !MODE_BITS != 0 => {
                return Err(ManifestError::Mode { path: path.clone(), mode });
            }
            Kind::Dir { .. } | Kind::File { .. } | Kind::Symlink { .. } => {}
        }
    }
    Ok(())
}

fn check_sizes(entries: &[Entry]) -> Result<(), ManifestError> {
    let mut total = 0u64;
    for Entry { path, kind } in entries {
        let allowed = 1..=CHUNK_BYTES_MAX;
        if let Some(bad) = kind.chunks().iter().find(|c| !allowed.contains(&(c.len as usize))) {
            return Err(ManifestError::ChunkLen { path: path.clone(), len: bad.len });
        }
        let size = size_of_file(kind);
        let chunks = kind.chunks().iter().map(|chunk| u64::from(chunk.len)).sum();
        if size != chunks {
            return Err(ManifestError::Size { path: path.clone(), size, chunks });
        }
        total = total.checked_add(size).ok_or(ManifestError::SizeOverflow)?;
    }
    Ok(())
}

fn distinct_chunks(entries: &[Entry]) -> Result<Vec<ChunkRef>, ManifestError> {
    let mut lens = BTreeMap::new();
    let mut distinct = Vec::new();
    for Entry { path, kind } in entries {
        for chunk in kind.chunks() {
            match lens.insert(chunk.hash, chunk.len) {
                None => distinct.push(*chunk),
                Some(len) if len == chunk.len => {}
                Some(_) => return Err(ManifestError::ChunkLenDiffers(path.clone())),
            }
        }
    }
    Ok(distinct)
}

#[cfg(test)]
mod tests;
