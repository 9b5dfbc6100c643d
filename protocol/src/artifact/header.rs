//! The header of a release: small, signed, and all that gossip carries of it.

use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::id::{ChunkHash, KeyId, ReleaseId, Sequence, ServiceName, Version};
use crate::limits::{MANIFEST_BYTES_MAX, MANIFEST_PIECE_BYTES_MAX, MANIFEST_PIECES_MAX};
use crate::time::UnixTime;

/// What is said of a release before any of its files is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// What it is a release of.
    pub service: ServiceName,
    /// What people call it. One version of a service is one release for ever.
    pub version: Version,
    /// Its place among the service's releases.
    pub sequence: Sequence,
    /// After this no rollout forward to it may be created.
    pub expires: Option<UnixTime>,
    /// The chunks whose bytes, joined, are the frame of the manifest.
    pub manifest: Vec<ChunkRef>,
    /// Bytes of all files.
    pub size_bytes: u64,
    /// Number of files.
    pub files: u64,
}

/// A chunk as a manifest names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChunkRef {
    /// The hash that its bytes must have.
    pub hash: ChunkHash,
    /// Its length in bytes.
    pub len: u32,
}

impl ChunkRef {
    /// The reference to a chunk of these bytes. There must be less than 4 GiB of them.
    pub fn of(bytes: &[u8]) -> Self {
        let hash = ChunkHash(*blake3::hash(bytes).as_bytes());
        Self { hash, len: u32::try_from(bytes.len()).unwrap_or(u32::MAX) }
    }

    /// Whether these are the bytes that are meant.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.len as usize && blake3::hash(bytes).as_bytes() == &self.hash.0
    }
}

/// Why a header that could be read is refused all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The bytes are no header.
    #[error("the header cannot be read: {0}")]
    Decode(#[from] DecodeError),
    /// It names no piece of a manifest, or too many.
    #[error("the header names {0} pieces of a manifest: 1 to {MANIFEST_PIECES_MAX} are allowed")]
    Pieces(usize),
    /// A piece of no bytes, or of more than a piece may have.
    #[error("the header names a piece of {0} bytes: 1 to {MANIFEST_PIECE_BYTES_MAX} are allowed")]
    PieceLen(u32),
    /// The manifest is larger than any that is read.
    #[error("the header names a manifest of {0} bytes: at most {MANIFEST_BYTES_MAX} are allowed")]
    ManifestLen(u64),
}

impl Header {
    /// Bytes of the manifest's frame.
    pub fn manifest_len(&self) -> u64 {
        self.manifest.iter().map(|piece| u64::from(piece.len)).sum()
    }

    /// Whether the manifest that it names is one that may be fetched.
    ///
    /// # Errors
    /// It has too many pieces, or they are too large.
    pub fn check(&self) -> Result<(), HeaderError> {
        if !(1..=MANIFEST_PIECES_MAX).contains(&self.manifest.len()) {
            return Err(HeaderError::Pieces(self.manifest.len()));
        }
        let allowed = 1..=MANIFEST_PIECE_BYTES_MAX;
        match self.manifest.iter().find(|piece| !allowed.contains(&(piece.len as usize))) {
            Some(piece) => Err(HeaderError::PieceLen(piece.len)),
            None if self.manifest_len() > MANIFEST_BYTES_MAX as u64 => {
                Err(HeaderError::ManifestLen(self.manifest_len()))
            }
            None => Ok(()),
        }
    }
}

/// A header as it travels: the bytes that were signed, and who signed them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHeader {
    /// The frame of a [`Header`]. Its hash is the release's id.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// Each publisher's key and its signature of `bytes`.
    pub signatures: Vec<(KeyId, Signature)>,
}

/// An Ed25519 signature.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature(#[serde(with = "serde_bytes")] pub Vec<u8>);

impl core::fmt::Debug for Signature {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Signature(..)")
    }
}

impl SignedHeader {
    /// The release that this is the header of.
    pub fn id(&self) -> ReleaseId {
        ReleaseId(*blake3::hash(&self.bytes).as_bytes())
    }

    /// The header. Says nothing about the signatures: see [`crate::trust`].
    ///
    /// # Errors
    /// The bytes are no header.
    pub fn header(&self) -> Result<Header, DecodeError> {
        codec::decode(&self.bytes)
    }
}
