//! The members, as membership is told of them and tells of them.

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, ZoneName};
use crate::membership::Address;

/// A member, as the roster has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterEntry {
    /// Who.
    pub node: NodeId,
    /// Where it stands.
    pub zone: Option<ZoneName>,
    /// Where it is reached.
    pub addresses: Vec<Address>,
    /// Whether it votes.
    pub voter: bool,
}

/// Whether a member is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Heard within the last seconds.
    Alive,
    /// Not heard, or not connected to this node.
    Silent,
}
