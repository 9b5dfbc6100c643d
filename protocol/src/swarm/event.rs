//! What the swarm takes in and what it wants done.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Bitmap, ObjectId, SwarmMessage};
use crate::artifact::header::ChunkRef;
use crate::id::{NodeId, ZoneName};

/// An object that this node wants, or has and serves.
#[derive(Clone, Debug)]
pub struct Want {
    /// Its name.
    pub object: ObjectId,
    /// Its chunks in their order, at most [`CHUNKS_MAX`](super::CHUNKS_MAX).
    pub chunks: Arc<[ChunkRef]>,
    /// What is already here: full on a node that seeds.
    pub have: Bitmap,
    /// This node is where it was seeded: it sends each chunk once before it repeats any. Counts only
    /// where `have` is full.
    pub origin: bool,
    /// Higher goes first: a rollback before a release, a manifest before its content.
    pub priority: u8,
}

/// What can happen to a swarm.
#[derive(Clone, Debug)]
pub enum Input {
    /// The node wants an object, or serves it. Ignored where the object is known, where `have` does
    /// not fit `chunks`, or where [`OBJECTS_MAX`](super::OBJECTS_MAX) are known already.
    Want(Want),
    /// The node neither wants nor serves it any more.
    Forget {
        /// The object.
        object: ObjectId,
    },
    /// How many nodes the mesh has. It decides whether links between zones are spared.
    MeshSize {
        /// Members, this one included.
        nodes: usize,
    },
    /// A node is a neighbour, and its control connection is open; or, of one that is already, where it stands.
    PeerUp {
        /// The neighbour.
        node: NodeId,
        /// Where it stands.
        zone: ZoneName,
    },
    /// It is gone, or no neighbour any more, and so is all that was under way to or from it.
    PeerDown {
        /// The neighbour.
        node: NodeId,
    },
    /// A control message came.
    Message {
        /// Who sent it.
        from: NodeId,
        /// What it says.
        message: SwarmMessage,
    },
    /// A chunk came whole and its hash is right. From now on the driver can serve it. Also said
    /// for chunks that were here already: they count as duplicates.
    Verified {
        /// The object.
        object: ObjectId,
        /// The chunk.
        index: u32,
        /// Who sent it.
        from: NodeId,
    },
    /// A verified chunk's write is on its way: it no longer counts against what waits for the disk.
    /// Said once for each chunk that became new by `Verified`.
    Stored {
        /// The object.
        object: ObjectId,
        /// The chunk.
        index: u32,
    },
    /// A chunk came and its hash or length is wrong.
    Corrupt {
        /// The object.
        object: ObjectId,
        /// The chunk.
        index: u32,
        /// Who sent it.
        from: NodeId,
    },
    /// A chunk that this swarm wanted uploaded is on its way: the connection has taken all of it.
    Uploaded {
        /// The receiver.
        to: NodeId,
        /// The object.
        object: ObjectId,
        /// The chunk.
        index: u32,
    },
    /// It could not be sent, or the sending was cancelled.
    UploadFailed {
        /// The receiver.
        to: NodeId,
        /// The object.
        object: ObjectId,
        /// The chunk.
        index: u32,
    },
    /// The moment of `poll_timeout` is here.
    Timeout,
}

/// What a swarm wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a control message.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: SwarmMessage,
    },
    /// Read a chunk and send it on the bulk connection; then say `Uploaded` or `UploadFailed`.
    Upload {
        /// To whom.
        to: NodeId,
        /// The object.
        object: ObjectId,
        /// The chunk.
        index: u32,
    },
    /// Stop an upload if it has not ended. Nothing needs to be said of it afterwards.
    CancelUpload {
        /// To whom.
        to: NodeId,
        /// The object.
        object: ObjectId,
        /// The chunk.
        index: u32,
    },
    /// Every chunk of the object was verified here. Said once for each `Want`, at once if nothing
    /// was missing. The driver knows of itself what it has written.
    Complete {
        /// The object.
        object: ObjectId,
    },
    /// A peer did what no honest one does.
    Misbehaved {
        /// Who.
        node: NodeId,
        /// What.
        reason: Misbehaviour,
    },
}

/// What no honest peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misbehaviour {
    /// A chunk whose bytes do not have its hash.
    #[error("sent a corrupt chunk")]
    Corrupt,
    /// A chunk index that the object does not have, or a bitmap of another length.
    #[error("named a chunk that does not exist")]
    OutOfRange,
    /// More requests at once than may wait.
    #[error("asked for too much at once")]
    TooManyRequests,
    /// More messages than its budget.
    #[error("sent too many messages")]
    Flood,
}

/// How far an object has come on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Chunks that are here.
    pub have: u32,
    /// Chunks of the object.
    pub total: u32,
    /// Bytes that are here.
    pub bytes_have: u64,
    /// Bytes of the object.
    pub bytes_total: u64,
    /// Bytes that were new here, by who sent them.
    pub bytes_received: BTreeMap<NodeId, u64>,
    /// Bytes that came although they were here.
    pub bytes_duplicate: u64,
    /// Bytes of completed uploads.
    pub bytes_sent: u64,
}
