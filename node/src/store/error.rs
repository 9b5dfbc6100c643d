//! What can go wrong with releases on a disk. Every error says where and why.

use std::io;
use std::path::{Path, PathBuf};

use baton_protocol::artifact::header::HeaderError;
use baton_protocol::artifact::manifest::ManifestError;
use baton_protocol::artifact::path::{PathError, SafePath};
use baton_protocol::artifact::service::SpecError;
use baton_protocol::id::{ReleaseId, ServiceName, Version};

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("{path}: cannot {action}: {cause}", path = .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        cause: io::Error,
    },
    /// Another process has the data directory.
    #[error("{}: another baton has this data directory open", .0.display())]
    InUse(PathBuf),
    /// There is not enough room for a release.
    #[error("{path}: {needed} bytes are needed, and {available} are free", path = .path.display())]
    NoSpace {
        /// The data directory.
        path: PathBuf,
        /// Bytes that are still to be written.
        needed: u64,
        /// Bytes that are free for this user.
        available: u64,
    },
    /// Nothing is known here of the release.
    #[error("release {} is not on this host", .0.short())]
    Unknown(ReleaseId),
    /// The release is not whole yet.
    #[error("release {} is not staged: {missing} chunks are missing", .release.short())]
    NotWhole {
        /// The release.
        release: ReleaseId,
        /// Chunks that are still missing.
        missing: u32,
    },
    /// The manifest of the release is not whole yet.
    #[error("release {} has no manifest yet", .0.short())]
    NoManifest(ReleaseId),
    /// The release has no chunk of that number, or not here.
    #[error("release {} has no chunk {index} here", .release.short())]
    NoChunk {
        /// The release.
        release: ReleaseId,
        /// The number that was asked for.
        index: u32,
    },
    /// Bytes from elsewhere that are not those of the chunk. Nothing was written.
    #[error("the bytes for chunk {index} of release {} are not that chunk's", .release.short())]
    WrongBytes {
        /// The release.
        release: ReleaseId,
        /// The chunk that they were sent as.
        index: u32,
    },
    /// Bytes on this disk that are no longer what was written there.
    #[error("{path}: the bytes from {offset} on have changed on the disk", path = .path.display())]
    Rot {
        /// The file.
        path: PathBuf,
        /// Where the chunk starts.
        offset: u64,
    },
    /// A header that cannot be used.
    #[error("release {}: {cause}", .release.short())]
    Header {
        /// The release.
        release: ReleaseId,
        /// What is wrong.
        cause: HeaderError,
    },
    /// A manifest that is refused.
    #[error("release {}: {cause}", .release.short())]
    Manifest {
        /// The release.
        release: ReleaseId,
        /// What is wrong.
        cause: ManifestError,
    },
    /// A directory that cannot become a release.
    #[error("{path}: {cause}", path = .path.display())]
    Source {
        /// The directory, or what in it is to blame.
        path: PathBuf,
        /// What is wrong.
        cause: SourceError,
    },
}

/// Why a directory cannot become a release.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It is a file or the like.
    #[error("is no directory")]
    NotADirectory,
    /// It has no files.
    #[error("is empty: there is nothing to release")]
    Empty,
    /// A name that is not text, which not every host would show alike.
    #[error("has a name that is not UTF-8")]
    NotUtf8,
    /// Something that is no file, directory or link.
    #[error("is a {0}; a release has only files, directories and links")]
    Special(&'static str),
    /// The store is in the directory, so that a release would hold every release before it.
    #[error("holds baton's own data directory")]
    HoldsStore,
    /// More than a release may have.
    #[error("has more than {0} entries")]
    TooMany(usize),
    /// It changed while it was copied.
    #[error("changed while it was read; release a directory that nothing writes to")]
    Changed,
    /// A path that cannot be in a release.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The tree as a whole cannot be a release.
    #[error(transparent)]
    Tree(#[from] ManifestError),
    /// Its `baton.toml` is refused.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Nothing says what it is a release of.
    #[error("names no service: write service = \"name\" in baton.toml, or give the name")]
    NoService,
    /// The mesh, or this host, has the version with other contents.
    #[error("{service} {version} is there already, with other contents: call this one otherwise")]
    VersionTaken {
        /// The service.
        service: ServiceName,
        /// The version.
        version: Version,
    },
}

impl StoreError {
    /// Whether the disk is full, which freeing space mends.
    pub fn is_full(&self) -> bool {
        match self {
            Self::NoSpace { .. } => true,
            Self::Io { cause, .. } => {
                matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }

    pub(super) fn source(path: impl Into<PathBuf>, cause: impl Into<SourceError>) -> Self {
        Self::Source { path: path.into(), cause: cause.into() }
    }
}

/// Says what was tried, and on what, when the system refuses.
pub(super) trait At<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|cause| StoreError::Io { action, path: path.to_owned(), cause: cause.into() })
    }
}

/// A path in the tree of a release.
pub(super) fn in_tree(tree: &Path, path: &SafePath) -> PathBuf {
    tree.join(path.as_str())
}
