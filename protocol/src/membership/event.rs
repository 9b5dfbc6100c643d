//! What a membership is told, and what it wants done.

use std::sync::Arc;

use crate::id::{NodeId, ZoneName};
use crate::membership::{Address, Roster};

/// What can happen to a membership.
#[derive(Clone, Debug)]
pub enum Input {
    /// The moment of `poll_timeout` is here.
    Timeout,
    /// The committed members have changed.
    Roster(Arc<Roster>),
    /// Addresses at which the mesh may be found.
    Bootstrap(Vec<Address>),
    /// The address book that was last given out by [`Output::Remember`].
    Remembered(Vec<u8>),
    /// A connection is open.
    Connected {
        /// To whom.
        node: NodeId,
        /// What was dialled.
        address: Option<Address>,
        /// Whether this node dialled.
        outbound: bool,
    },
    /// The node at the other end has proved its membership.
    Admitted {
        /// Who.
        node: NodeId,
    },
    /// A connection is closed.
    Disconnected {
        /// To whom it was.
        node: NodeId,
    },
    /// A dial came to nothing.
    DialFailed {
        /// What was dialled.
        address: Address,
    },
    /// A frame came.
    Heard {
        /// From whom.
        node: NodeId,
    },
    /// Who leads the log.
    Leader(Option<NodeId>),
}

/// What a membership wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Open a connection.
    Dial {
        /// Where.
        address: Address,
        /// Who must be there, if known.
        expect: Option<NodeId>,
    },
    /// Close one.
    HangUp {
        /// To whom.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// Keep this on disk.
    Remember(Vec<u8>),
    /// A node that has proved itself is there.
    Up {
        /// Who.
        node: NodeId,
    },
    /// One that is there is a neighbour now, by its choice or this node's: chunks go between the two. Said
    /// again where it turns out to stand elsewhere.
    Near {
        /// Who.
        node: NodeId,
        /// Where it stands.
        zone: Option<ZoneName>,
    },
    /// One that is still there is a neighbour no more.
    Far {
        /// Who.
        node: NodeId,
    },
    /// It is there no more, and no neighbour.
    Down {
        /// Who.
        node: NodeId,
    },
}
