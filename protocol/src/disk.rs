//! What a node keeps through a crash: a small store of keys and values, written in atomic batches.
//!
//! A machine that must not speak before something is on disk emits a [`Batch`] with a [`Token`] and
//! holds what depends on it until the driver confirms that token. Everything under a key is read
//! once, at the start.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{GroupName, LogIndex};

/// One place in the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    /// The consensus' term, vote and commit.
    HardState,
    /// The consensus' snapshot: where it stands and the fleet's state there.
    Snapshot,
    /// One entry of the consensus' log.
    Entry(LogIndex),
    /// Which voter this disk is, if it is one.
    Voter,
    /// The fleet's state that a node which is no voter follows, and where in the log it stands.
    Fleet,
    /// What the agent has done and means to do next for one group.
    Journal(GroupName),
    /// The node's own incarnation, counted up at each start.
    Incarnation,
    /// Peers that the node has met, so that it finds the mesh again without its bootstrap addresses.
    AddressBook,
}

/// What stands under a key. Shared, as it may be large.
pub type Value = Arc<[u8]>;

/// One change: a new value, or `None` to forget the key.
pub type Write = (Key, Option<Value>);

/// Names a batch until it is confirmed. Tokens of one machine are confirmed in their order.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Token(pub u64);

/// Changes that become durable together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// What to confirm when it is synced.
    pub token: Token,
    /// The changes, in order; a later one wins.
    pub writes: Vec<Write>,
}
