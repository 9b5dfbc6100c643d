//! What two neighbours say to each other, and what a gossip is told and wants done.

use serde::{Deserialize, Serialize};

use crate::artifact::header::SignedHeader;
use crate::id::{LogIndex, NodeId, ReleaseId};

/// How far a node's log is, and whom it takes to lead it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The last entry that was applied.
    pub index: LogIndex,
    /// The leader's term, as far as the sender has heard it; else 0.
    pub term: u64,
    /// Who leads.
    pub leader: Option<NodeId>,
}

/// What two neighbours say to each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum GossipMessage {
    /// New headers, or those that were pulled.
    Headers(Vec<SignedHeader>),
    /// How far the log is.
    Head(Head),
    /// The BLAKE3 hash of the sorted ids of all that the sender has, and its head.
    Digest([u8; 32], Head),
    /// Releases whose headers the sender has; what the receiver lacks of them, it pulls.
    Ids(Vec<ReleaseId>),
    /// Send these headers, as far as they are there.
    Pull(Vec<ReleaseId>),
}

/// What can happen to a gossip.
#[derive(Clone, Debug)]
pub enum Input {
    /// The moment of `poll_timeout` is here.
    Timeout,
    /// A neighbour is there.
    Up {
        /// Who.
        node: NodeId,
    },
    /// A neighbour is gone.
    Down {
        /// Who.
        node: NodeId,
    },
    /// A neighbour says something.
    Message {
        /// Who.
        from: NodeId,
        /// What.
        message: GossipMessage,
    },
    /// Everybody should have this header.
    Publish(SignedHeader),
    /// The answer to [`Output::Received`]: whether the header is kept and spread.
    Verdict {
        /// Of which release.
        release: ReleaseId,
        /// Whether it is.
        keep: bool,
    },
    /// Nobody needs this header from here any more.
    Forget(ReleaseId),
    /// This node's log has moved.
    Head(Head),
}

/// What a gossip wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Say this to a neighbour.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: GossipMessage,
    },
    /// A header that is new here: to be judged, and answered by [`Input::Verdict`].
    Received {
        /// From whom.
        from: NodeId,
        /// The header.
        header: SignedHeader,
    },
    /// What a neighbour says of its log.
    Ahead {
        /// Who.
        node: NodeId,
        /// How far it is.
        head: Head,
    },
    /// A neighbour did what no honest one does.
    Misbehaved {
        /// Who.
        node: NodeId,
        /// What.
        reason: String,
    },
}
