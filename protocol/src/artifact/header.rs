//! The header of a release: small, signed, and all that gossip carries of it.

use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::id::{ChunkHash, KeyId, ReleaseId, Sequence, ServiceName, Version};
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

/// A header as it travels: the bytes that were signed, and who signed them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHeader {
    /// The frame of a [`Header`]. Its hash is the release's id.
    pub bytes: Vec<u8>,
    /// Each publisher's key and its signature of `bytes`.
    pub signatures: Vec<(KeyId, Signature)>,
}

/// An Ed25519 signature.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature(pub Vec<u8>);

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
