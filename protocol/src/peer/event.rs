//! What a node's driver tells its [`Peer`](super::Peer), and what the peer wants done.

use crate::agent::balancer::Sight;
use crate::agent::library::{StoreCommand, StoreEvent};
use crate::agent::service::ServiceEvent;
use crate::agent::unit::ServiceAction;
use crate::artifact::header::SignedHeader;
use crate::disk::{Batch, Token};
use crate::fleet::command::{Order, PolicyChange};
use crate::id::{
    GroupName, Incarnation, NodeId, NodeName, PermitId, ReleaseId, RequestId, RolloutId,
};
use crate::membership::Address;
use crate::swarm::ObjectId;
use crate::time::UnixTime;

/// What can happen to a node.
#[derive(Clone, Debug)]
pub enum Input {
    /// The moment of `poll_timeout` is here.
    Timeout,
    /// What the wall clock says, about each second. For expiry dates and the audit log alone.
    WallClock(UnixTime),
    /// A connection is open, and the transport has proved whose it is. Both of its ways, for control
    /// and for bulk, can be used.
    Connected {
        /// Whose.
        node: NodeId,
        /// The address that was dialled, where this node dialled.
        address: Option<Address>,
    },
    /// It is closed.
    Disconnected {
        /// Whose it was.
        node: NodeId,
    },
    /// A dial came to nothing.
    DialFailed {
        /// What was dialled.
        address: Address,
    },
    /// A control frame came. Frames of one neighbour come in their order.
    Control {
        /// From whom.
        from: NodeId,
        /// The frame.
        frame: Vec<u8>,
    },
    /// A chunk came on a bulk connection, whole, with the right hash; it can be served.
    ChunkVerified {
        /// From whom.
        from: NodeId,
        /// The object.
        object: ObjectId,
        /// The chunk.
        index: u32,
    },
    /// The write of a verified chunk was handed to the disk.
    ChunkStored {
        /// The object.
        object: ObjectId,
        /// The chunk.
        index: u32,
    },
    /// A chunk came whose hash or length is wrong. It was dropped.
    ChunkCorrupt {
        /// From whom.
        from: NodeId,
        /// The object.
        object: ObjectId,
        /// The chunk.
        index: u32,
    },
    /// A chunk was handed to the network.
    Uploaded {
        /// To whom.
        to: NodeId,
        /// The object.
        object: ObjectId,
        /// The chunk.
        index: u32,
    },
    /// It could not be read or sent.
    UploadFailed {
        /// To whom.
        to: NodeId,
        /// The object.
        object: ObjectId,
        /// The chunk.
        index: u32,
    },
    /// A batch is synced.
    Persisted(Token),
    /// The store has done something.
    Store(StoreEvent),
    /// The runtime has seen something of a group's service.
    Service(GroupName, ServiceEvent),
    /// What the balancer beside this node was seen to do for a group that it watches.
    Balancer(GroupName, Sight),
    /// A person wants something. Answered by [`Output::Answer`].
    Operate(RequestId, Operation),
}

/// What a node wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Open a connection. Answered by `Connected` or `DialFailed`.
    Dial {
        /// Where.
        address: Address,
        /// Who must be there, if known.
        expect: Option<NodeId>,
    },
    /// Close the connection to a node.
    HangUp {
        /// Whose.
        node: NodeId,
        /// Why, for the log.
        reason: String,
    },
    /// The node has proved its membership: it may send more than a few frames from now on.
    Admit(NodeId),
    /// Send a control frame, in order.
    Send {
        /// To whom.
        to: NodeId,
        /// The frame.
        frame: Vec<u8>,
    },
    /// Read a chunk and send it on the bulk connection.
    Upload {
        /// To whom.
        to: NodeId,
        /// The object.
        object: ObjectId,
        /// The chunk.
        index: u32,
    },
    /// Stop an upload if it has not ended.
    CancelUpload {
        /// To whom.
        to: NodeId,
        /// The object.
        object: ObjectId,
        /// The chunk.
        index: u32,
    },
    /// Make these changes durable, all or none and in order, then say `Persisted`.
    Persist(Batch),
    /// By the store. Commands for one release are carried out in their order.
    Store(StoreCommand),
    /// By the runtime of a group's service.
    Service(GroupName, ServiceAction),
    /// The answer to a person.
    Answer(RequestId, Result<Answer, Failure>),
    /// Something that belongs into the node's log.
    Note(Note),
}

/// Something that belongs into the node's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// This node became a member, or is one.
    Member {
        /// What it is called.
        name: NodeName,
    },
    /// The mesh does not let this node in.
    NotAdmitted {
        /// Why.
        reason: String,
    },
    /// This node leads the log, or another one does, or nobody.
    Leader(Option<NodeId>),
    /// A peer did what no honest one does.
    Misbehaved {
        /// Who.
        node: NodeId,
        /// What.
        reason: String,
    },
    /// The log refused what this node proposed.
    Refused {
        /// Why.
        reason: String,
    },
    /// A rollout has changed.
    Rollout {
        /// On which group.
        group: GroupName,
        /// Which.
        rollout: RolloutId,
        /// How it stands now, in words.
        phase: String,
    },
    /// The mesh knows a later life of this node: this one has an old or a copied disk, and moves nothing.
    Outlived {
        /// The later life.
        by: Incarnation,
    },
    /// The control role of this node has ended; chunks and services go on.
    ControlFailed {
        /// Why.
        reason: String,
    },
}

/// What a person wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Set a group's policy, and make the group if there is none.
    SetGroup {
        /// Which.
        group: GroupName,
        /// What changes.
        change: PolicyChange,
        /// Who.
        person: String,
    },
    /// Tell the log of a release that the store has. It spreads in any case.
    Register {
        /// Its header.
        header: SignedHeader,
    },
    /// Start a rollout.
    Deploy {
        /// On which group.
        group: GroupName,
        /// Of which release.
        release: ReleaseId,
        /// Back to a release that the group had completed.
        back: bool,
        /// Who.
        person: String,
    },
    /// Steer the rollout under way.
    Steer {
        /// On which group.
        group: GroupName,
        /// How.
        order: Order,
        /// Who.
        person: String,
    },
    /// Close a permit whose holder cannot.
    Override {
        /// Which.
        permit: PermitId,
        /// The statement that the holder is fenced.
        fenced: bool,
        /// Why.
        reason: String,
        /// Who.
        person: String,
    },
    /// Take a node out of the mesh.
    Remove {
        /// Which.
        node: NodeName,
        /// Who.
        person: String,
    },
    /// Take a node out of a group's count, or put it back.
    Quarantine {
        /// Which group.
        group: GroupName,
        /// Which node.
        node: NodeName,
        /// In or out.
        on: bool,
        /// Who.
        person: String,
    },
}

/// What a person gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is in the log.
    Done,
    /// The rollout that was started, or that is steered.
    Rollout(RolloutId),
}

/// What a person gets instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The mesh refuses it. Exit code 2.
    #[error("{0}")]
    Refused(String),
    /// Another rollout is in the way. Exit code 5.
    #[error("{0}")]
    Conflict(String),
    /// There is no majority of voters, or it cannot be reached. Exit code 6.
    #[error(
        "no quorum: {0}; nothing was changed that this node knows of. Chunks still spread; permits \
         wait until a majority of the voters is back"
    )]
    NoQuorum(String),
    /// More requests than a node handles at once. Exit code 1.
    #[error("this node is busy with too many requests; try again")]
    Busy,
}
