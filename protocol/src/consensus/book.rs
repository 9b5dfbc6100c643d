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

    /// Takes over what the log says, which outranks what was told.
    pub(super) fn confirm(&mut self, members: &Membership) {
        for (voter, _) in members.all() {
            self.nodes.remove(&voter);
        }
        self.learn(members.all(), members);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn node(byte: u8) -> NodeId {
        NodeId([byte; 32])
    }

    #[test]
    fn what_is_known_stays_and_the_log_outranks_what_was_told() {
        let mut book = Book::default();
        let members =
            Membership { voters: [(VoterId(1), node(1))].into(), ..Membership::default() };
        book.learn([(VoterId(1), node(9)), (VoterId(2), node(2))], &Membership::default());
        book.learn([(VoterId(2), node(8))], &Membership::default());
        assert_eq!(book.node(VoterId(2)), Some(node(2)));
        book.confirm(&members);
        assert_eq!(book.node(VoterId(1)), Some(node(1)));
        assert_eq!(book.voters_on(node(9)), []);
    }

    #[test]
    fn it_is_bounded_and_forgets_no_member() {
        let mut book = Book::default();
        let members =
            Membership { voters: [(VoterId(1), node(1))].into(), ..Membership::default() };
        book.confirm(&members);
        book.learn((2..2_000).map(|id| (VoterId(id), node(2))), &members);
        assert_eq!(book.nodes.len(), BOOK_MAX);
        assert_eq!(book.node(VoterId(1)), Some(node(1)));
        assert_eq!(book.node(VoterId(1_999)), Some(node(2)));
    }
}
