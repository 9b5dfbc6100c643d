//! The first pass of an origin: each chunk goes out once before any goes out twice.
//!
//! Its first receiver owes a chunk to all others (Mutualcast: Li, Chou, Zhang, "Mutualcast: an
//! efficient mechanism for one-to-many content distribution", 2005). So the next chunk goes to the
//! receiver that has the least left to pass on, and a slow one gets few by itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::NodeId;
use crate::rng::Rng;

use super::Bitmap;

/// A chunk on its way through its first receiver.
#[derive(Debug)]
struct Entrusted {
    to: NodeId,
    /// Neighbours that lacked it then and have not said that they have it.
    lacking: u32,
    /// `to` has said that it has it.
    received: bool,
}

/// What an origin has not yet sent, and what became of the rest.
#[derive(Debug)]
pub(super) struct Seeding {
    unsent: BTreeSet<u32>,
    /// Where in the order to begin, so that two origins of one object begin at different places.
    start: u32,
    entrusted: BTreeMap<u32, Entrusted>,
    debts: BTreeMap<NodeId, u64>,
    /// Chunks that are out and that their first receiver has not confirmed.
    unconfirmed: u32,
}

impl Seeding {
    pub fn new(chunks: u32, rng: &mut Rng) -> Self {
        let start = u32::try_from(rng.below(u64::from(chunks))).unwrap_or(0);
        let unsent = (0..chunks).collect();
        let (entrusted, debts) = (BTreeMap::new(), BTreeMap::new());
        Self { unsent, start, entrusted, debts, unconfirmed: 0 }
    }

    /// Whether every chunk is out. It may be on its way still.
    pub fn all_sent(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Whether every chunk has reached its first receiver.
    pub fn is_done(&self) -> bool {
        self.unsent.is_empty() && self.unconfirmed == 0
    }

    /// The next chunks to send, at most `count`.
    pub fn next(&self, count: usize) -> impl Iterator<Item = u32> + '_ {
        self.unsent.range(self.start..).chain(self.unsent.range(..self.start)).take(count).copied()
    }

    /// Nobody lacks the chunk: it need not be sent.
    pub fn skip(&mut self, index: u32) {
        self.unsent.remove(&index);
    }

    /// The chunk goes to `to`, which owes it to `lacking` others.
    pub fn entrust(&mut self, index: u32, to: NodeId, lacking: u32) {
        self.unsent.remove(&index);
        self.start = index + 1;
        self.settle(index);
        self.entrusted.insert(index, Entrusted { to, lacking, received: false });
        self.unconfirmed += 1;
        *self.debts.entry(to).or_default() += u64::from(lacking);
    }

    /// What a receiver still owes, in chunks times receivers.
    pub fn debt(&self, node: NodeId) -> u64 {
        self.debts.get(&node).copied().unwrap_or(0)
    }

    /// A neighbour has the chunk.
    pub fn arrived(&mut self, index: u32, at: NodeId) {
        let Some(entrusted) = self.entrusted.get_mut(&index) else { return };
        if entrusted.to == at {
            self.unconfirmed -= u32::from(!entrusted.received);
            entrusted.received = true;
        } else {
            entrusted.lacking = entrusted.lacking.saturating_sub(1);
            let debt = self.debts.entry(entrusted.to).or_default();
            *debt = debt.saturating_sub(1);
        }
        if entrusted.lacking == 0 && entrusted.received {
            self.entrusted.remove(&index);
        }
    }

    /// Forgets to whom a chunk was entrusted.
    fn settle(&mut self, index: u32) {
        let Some(old) = self.entrusted.remove(&index) else { return };
        self.unconfirmed -= u32::from(!old.received);
        let debt = self.debts.entry(old.to).or_default();
        *debt = debt.saturating_sub(u64::from(old.lacking));
    }

    /// The chunk did not reach its first receiver and must go out again.
    pub fn failed(&mut self, index: u32, to: NodeId) {
        if self.entrusted.get(&index).is_some_and(|it| it.to == to && !it.received) {
            self.settle(index);
            self.unsent.insert(index);
        }
    }

    /// A neighbour is gone, which had `have`. What it alone was given (`elsewhere` says) goes again.
    pub fn gone(&mut self, node: NodeId, have: &Bitmap, elsewhere: impl Fn(u32) -> bool) {
        let open: Vec<(u32, NodeId)> =
            self.entrusted.iter().map(|(&index, it)| (index, it.to)).collect();
        for (index, to) in open {
            if to != node && !have.contains(index) {
                self.arrived(index, node);
            } else if to == node {
                self.settle(index);
                if !elsewhere(index) {
                    self.unsent.insert(index);
                }
            }
        }
        self.debts.remove(&node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId([1; 32]);
    const B: NodeId = NodeId([2; 32]);

    #[test]
    fn debts_shrink_as_the_others_get_the_chunk() {
        let mut seeding = Seeding::new(2, &mut Rng::new(1));
        seeding.entrust(0, A, 2);
        assert_eq!(seeding.debt(A), 2);
        seeding.arrived(0, A);
        assert_eq!(seeding.debt(A), 2, "its own copy pays nothing back");
        seeding.arrived(0, B);
        assert_eq!(seeding.debt(A), 1);
        assert_eq!(seeding.next(9).collect::<Vec<_>>(), vec![1]);
    }

    #[test]
    fn what_a_lost_receiver_alone_had_goes_out_again() {
        let mut seeding = Seeding::new(3, &mut Rng::new(1));
        seeding.entrust(0, A, 1);
        seeding.entrust(1, A, 1);
        seeding.entrust(2, B, 1);
        assert!(seeding.all_sent() && !seeding.is_done());
        seeding.gone(A, &Bitmap::empty(3), |index| index == 0);
        assert_eq!(seeding.next(9).collect::<Vec<_>>(), vec![1]);
        assert_eq!((seeding.debt(A), seeding.debt(B)), (0, 0));
    }
}
