//! What the swarms of two nodes say to each other. Bytes of chunks do not travel here.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::Bitmap;
use crate::id::ReleaseId;

/// What is spread: an ordered list of chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectId {
    /// The release that it is a part of.
    pub release: ReleaseId,
    /// Which part.
    pub part: Part,
}

/// The two objects that a release is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Part {
    /// The frame of its manifest, which its header lists.
    Manifest,
    /// The bytes of its files, which its manifest lists.
    Content,
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.part {
            Part::Manifest => "manifest",
            Part::Content => "content",
        };
        write!(f, "{}/{part}", self.release.short())
    }
}

/// A control message of the swarm. A node that does not know the object ignores all of them.
///
/// The connection that carries them keeps their order; when it breaks, the driver says `PeerDown`,
/// and at the next `PeerUp` both sides tell each other everything again. In a large mesh one side may take
/// the other for a neighbour before that does; what it says until then is ignored, and asked for later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SwarmMessage {
    /// The sender wants the object or has it whole. Replaces what it said before.
    Interest {
        /// The object.
        object: ObjectId,
        /// What the sender serves of it.
        have: Bitmap,
        /// It is where the object was seeded: what comes from it unasked is owed to the others. It
        /// shows no chunk in `have` before it has sent each one once.
        origin: bool,
        /// It asks for the receiver's own interest in return.
        answer: bool,
    },
    /// The sender serves no more of the object and wants none.
    Leave {
        /// The object.
        object: ObjectId,
    },
    /// The sender has more chunks. It is also the receipt for those that the receiver sent.
    Have {
        /// The object.
        object: ObjectId,
        /// Chunks that it now serves.
        indexes: Vec<u32>,
        /// Chunks that it now serves and is going to send unasked to the receiver.
        owed: Vec<u32>,
    },
    /// The sender asks for chunks.
    Request {
        /// The object.
        object: ObjectId,
        /// The chunks.
        indexes: Vec<u32>,
    },
    /// The sender needs these chunks no more, which it had asked for.
    Cancel {
        /// The object.
        object: ObjectId,
        /// The chunks.
        indexes: Vec<u32>,
    },
    /// The sender will not send these chunks that it was asked for, or could not use those it got.
    Refuse {
        /// The object.
        object: ObjectId,
        /// The chunks.
        indexes: Vec<u32>,
    },
    /// How much the receiver may have under way to the sender unasked.
    Credit {
        /// Bytes sent and not yet acknowledged by a `Have`. Zero stops it.
        bytes: u32,
    },
}

impl SwarmMessage {
    /// What it costs to take this message in, in chunk indexes: the measure of a peer's budget.
    pub(super) fn cost(&self) -> u64 {
        match self {
            Self::Interest { have, .. } => 1 + u64::from(have.len() / 16),
            Self::Have { indexes, owed, .. } => 1 + (indexes.len() + owed.len()) as u64,
            Self::Request { indexes, .. }
            | Self::Cancel { indexes, .. }
            | Self::Refuse { indexes, .. } => 1 + indexes.len() as u64,
            Self::Leave { .. } | Self::Credit { .. } => 1,
        }
    }
}
