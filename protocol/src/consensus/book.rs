//! Where voters live. An id is never given to a second node, so that what was once learnt of one
//! stays true.

use std::collections::BTreeMap;

use super::config::BOOK_MAX;
use super::membership::Membership;
use crate::id::{NodeId, VoterId};

/// The voters that one voter knows.
#[derive(Debug, Default)]
pub(super) struct Book {
    nodes: BTreeMap<VoterId, NodeId>,
}

impl Book {
    /// Where `voter` lives.
    pub(super) fn node(&self, voter: VoterId) -> Option<NodeId> {
        self.nodes.get(&voter).copied()
    }

    /// The voters that live, or lived, on `node`.
    pub(super) fn voters_on(&self, node: NodeId) -> Vec<VoterId> {
        self.nodes.iter().filter(|(_, on)| **on == node).map(|(voter, _)| *voter).collect()
    }

    /// Learns where voters live; what is known already stays. Beyond its bound it forgets the lowest,
    /// which are the oldest, ids that are not in `members`.
    pub(super) fn learn(
        &mut self,
        voters: impl IntoIterator<Item = (VoterId, NodeId)>,
        members: &Membership,
    ) {
        for (voter, node) in voters {
            self.nodes.entry(voter).or_insert(node);
            if self.nodes.len() > BOOK_MAX {
                self.forget_one(members);
            }
        }
    }

    fn forget_one(&mut self, members: &Membership) {
        let oldest = self.nodes.keys().find(|voter| members.node(**voter).is_none()).copied();
        if let Some(oldest) = oldest {
            self.nodes.remove(&oldest);
        }
    }
}
