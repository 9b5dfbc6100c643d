//! What can happen to a voter and what it wants done.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::membership::{Membership, Refusal};
use super::message::VoterMessage;
use crate::disk::{Batch, Token};
use crate::id::{ChunkHash, LogIndex, NodeId, VoterId};

/// What can happen to a voter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The time that [`poll_timeout`](crate::machine::Machine::poll_timeout) named has come.
    Timeout,
    /// Put a command into the log. Answered by [`Output::Proposed`] or [`Output::Rejected`].
    Propose {
        /// Chosen by the caller, and named in the answers.
        handle: u64,
        /// The bytes, not empty, at most `COMMAND_BYTES_MAX`.
        command: Vec<u8>,
    },
    /// A message came from a node that has proved who it is.
    Message {
        /// That node.
        from: NodeId,
        /// What it said.
        message: VoterMessage,
    },
    /// A batch is durable, and with it all before it.
    Persisted(Token),
    /// A connection to this node opened: a new session begins.
    PeerConnected(NodeId),
    /// The connection to this node is gone, and perhaps messages with it.
    PeerLost(NodeId),
    /// Where voters live, as the owner knows it from the fleet's roster. A voter that was away, or
    /// that is new, hears of the others' ids by this alone.
    Introduce(BTreeMap<VoterId, NodeId>),
    /// Make this node a learner, under an id that no voter ever had.
    AddLearner {
        /// The new id.
        voter: VoterId,
        /// Where it lives.
        node: NodeId,
    },
    /// Make learners voters and let members go, in one joint step.
    ReplaceVoters {
        /// Learners that get a vote.
        promote: Vec<VoterId>,
        /// Voters or learners that leave.
        remove: Vec<VoterId>,
    },
    /// Hand the lead to this voter.
    TransferLeadership {
        /// A voter that has caught up.
        to: VoterId,
    },
    /// The answer to [`Output::WantSnapshot`].
    SnapshotReady {
        /// The index that was asked for.
        index: LogIndex,
        /// The state machine as it was right after that entry.
        data: Vec<u8>,
    },
    /// The answer to [`Output::NeedSnapshot`].
    SnapshotFetched {
        /// The index that was asked for.
        index: LogIndex,
        /// The bytes, still to be verified.
        data: Vec<u8>,
    },
    /// The bytes of [`Output::NeedSnapshot`] could not be had.
    SnapshotFailed {
        /// The index that was asked for.
        index: LogIndex,
    },
}

/// What a voter wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write this and confirm its token when it is durable. Batches are written in their order.
    Persist(Batch),
    /// Send this. Everything that it depends on is durable.
    Send {
        /// To the node on which the receiving voter lives.
        to: NodeId,
        /// What to send.
        message: VoterMessage,
    },
    /// The next entry of the log, in order and once in each life of the voter.
    Committed {
        /// Its place.
        index: LogIndex,
        /// What it says.
        entry: Entry,
        /// The handle of the proposal that it was, if it was made here.
        handle: Option<u64>,
    },
    /// The proposal stands in this leader's log, at this place. It may still be lost: believe
    /// [`Output::Committed`] only.
    Proposed {
        /// The caller's.
        handle: u64,
        /// Where it will be, if it is committed.
        index: LogIndex,
    },
    /// The proposal is not in the log, or cannot be told from others any more.
    Rejected {
        /// The caller's.
        handle: u64,
        /// Why.
        reason: Rejection,
        /// Who leads, as far as known.
        leader: Option<NodeId>,
    },
    /// The change of the membership was not proposed. There is no answer to one that was: believe
    /// the entry that tells of it.
    Refused(Refusal),
    /// Hand over the state machine's snapshot, as it is after this entry: it is the last that was
    /// handed out. A state machine that is not there, as it has learned of later entries in another
    /// way, says nothing and is asked again.
    WantSnapshot {
        /// The entry.
        at: LogIndex,
    },
    /// Fetch these bytes from this node, which has them as its own latest snapshot.
    NeedSnapshot {
        /// Who has it.
        from: NodeId,
        /// The last entry in it.
        index: LogIndex,
        /// The BLAKE3 hash of the bytes.
        hash: ChunkHash,
        /// How many.
        length: u64,
    },
    /// Put this state in the place of the state machine's.
    Install {
        /// The last entry in it.
        index: LogIndex,
        /// The voters there.
        members: Membership,
        /// The state machine's own bytes.
        snapshot: Arc<[u8]>,
    },
    /// The role has changed.
    Role(Role),
    /// An unknown voter spoke. If the roster agrees, it is to be introduced.
    Stranger {
        /// Who it says it is.
        voter: VoterId,
        /// Who it is.
        node: NodeId,
    },
    /// The voter has met what must not be, and does nothing any more. The node goes on without it.
    Failed(String),
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Entry {
    /// A command, as it was proposed.
    Command(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The membership from here on.
    Voters(Membership),
    /// Nothing: a new leader's first entry.
    Nothing,
}

/// What a voter is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It leads, and has handed out everything that was committed before its term.
    Leader {
        /// The term.
        term: u64,
    },
    /// It follows. Learners and removed voters are this too.
    Follower {
        /// Whom, if it knows.
        leader: Option<NodeId>,
    },
    /// It runs for leader, or has won and does not know yet what was committed before.
    Candidate,
}

/// Why a proposal is not in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Only the leader proposes.
    #[error("this voter is not the leader")]
    NotLeader,
    /// Too much is under way, or the lead is being handed over.
    #[error("too much is under way; try again")]
    Busy,
    /// An empty command, or one too large.
    #[error("a command has 1 to {} bytes", crate::limits::COMMAND_BYTES_MAX)]
    Size,
    /// Another leader's entry took its place. It is in the log nowhere.
    #[error("another leader's entry took its place")]
    Overwritten,
    /// A snapshot covers its place, so that its outcome cannot be seen here.
    #[error("its outcome is not known here")]
    Unknown,
}

/// Why a message was dropped. Each is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dropped {
    /// The voter that it names as its sender is not known.
    Stranger,
    /// The sender is not the node on which that voter lives.
    Forged,
    /// It is for another voter.
    WrongRecipient,
    /// Over a bound.
    Oversize,
    /// Its parts do not fit together.
    Unsound,
    /// Older than one that came before.
    Stale,
    /// Not while a snapshot is being installed, or too much waits for the disk.
    NotNow,
    /// A snapshot's bytes, or an answer, that nobody asked for or that are not the ones asked for.
    Unasked,
    /// For a voter whose node is not known: not sent.
    NoAddress,
}

/// How far a member is, as the leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The last entry that it is known to have, durably.
    pub matched: LogIndex,
    /// Whether it was heard within [`ACTIVE_WITHIN`](super::ACTIVE_WITHIN).
    pub recently_active: bool,
}
