//! The members, as membership is told of them and tells of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use crate::id::{NodeId, ZoneName};
use crate::membership::Address;
use crate::membership::circles::Circles;
use crate::membership::view::ZONE_CIRCLE_MIN;

/// A member, as the roster has it.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// All members, and what follows from that for each of them: worked out once for whoever shares it.
#[derive(Debug, Default)]
pub struct Roster {
    entries: BTreeMap<NodeId, RosterEntry>,
    voters: BTreeSet<NodeId>,
    circles: OnceLock<Circles>,
}

impl PartialEq for Roster {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl FromIterator<RosterEntry> for Roster {
    fn from_iter<I: IntoIterator<Item = RosterEntry>>(entries: I) -> Self {
        let entries: BTreeMap<_, _> =
            entries.into_iter().map(|entry| (entry.node, entry)).collect();
        let voters = entries.values().filter(|entry| entry.voter).map(|entry| entry.node).collect();
        Self { entries, voters, circles: OnceLock::new() }
    }
}

impl Roster {
    /// What it says of `node`; `None` where that is no member.
    pub fn get(&self, node: NodeId) -> Option<&RosterEntry> {
        self.entries.get(&node)
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The members, by their ids.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.entries.keys().copied()
    }

    /// Those that vote.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> {
        self.voters.iter().copied()
    }

    pub(super) fn circles(&self) -> &Circles {
        self.circles.get_or_init(|| Circles::of(&self.entries, ZONE_CIRCLE_MIN))
    }
}

/// Whether a member is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Heard within the last seconds.
    Alive,
    /// Not heard, or not connected to this node.
    Silent,
}
