//! The first pass of an origin: each chunk goes out once before any goes out twice.
//!
//! Its first receiver owes a chunk to all others (Mutualcast: Li, Chou, Zhang, "Mutualcast: an
//! efficient mechanism for one-to-many content distribution", 2005). So the next chunk goes to the
//! receiver that has the least left to pass on, and to none that takes much longer than the others.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::Bitmap;
use super::link::blend;
use crate::id::NodeId;
use crate::rng::Rng;
use crate::time::Instant;

/// A receiver is too slow to be the first one from so many times the median turnaround on.
const SLOW_FACTOR: u32 = 3;
/// But never below this: scheduling and batched news take as long.
const SLOW_MIN: Duration = Duration::from_millis(500);
/// A chunk has been turned around when one in so many of those that lacked it still lacks it: the
/// slowest receivers are not the fault of whoever passes it on.
const TURNED_FRACTION: u32 = 4;

/// A chunk on its way through its first receiver.
#[derive(Debug)]
struct Entrusted {
    to: NodeId,
    at: Instant,
    /// Neighbours that lacked it then, besides the first receiver.
    of: u32,
    /// Those of them that have not said that they have it.
    lacking: u32,
    /// `to` has said that it has it.
    received: bool,
}

impl Entrusted {
    fn turned(&self) -> bool {
        self.received && self.lacking <= self.of / TURNED_FRACTION
    }
}

/// One first receiver.
#[derive(Debug, Default)]
struct Receiver {
    /// What it still owes, in chunks times receivers.
    debt: u64,
    /// How long its chunks take until most have them, smoothed.
    turnaround: Option<Duration>,
    /// Its chunks that are not turned around, oldest first.
    open: BTreeSet<(Instant, u32)>,
}

impl Receiver {
    /// How long it takes to turn a chunk around, judging by those that are still open too.
    fn pace(&self, now: Instant) -> Option<Duration> {
        let open = self.open.first().map(|(at, _)| now.since(*at));
        self.turnaround.map_or(open, |past| Some(open.map_or(past, |open| past.max(open))))
    }
}

/// What an origin has not yet sent, and what became of the rest.
#[derive(Debug)]
pub(super) struct Seeding {
    unsent: BTreeSet<u32>,
    /// Where in the order to go on. At first a random place, so that two origins of one object
    /// begin at different ones.
    start: u32,
    entrusted: BTreeMap<u32, Entrusted>,
    /// Chunks that are out and that their first receiver has not confirmed, oldest first.
    unconfirmed: BTreeSet<(Instant, u32)>,
    receivers: BTreeMap<NodeId, Receiver>,
}

impl Seeding {
    pub fn new(chunks: u32, rng: &mut Rng) -> Self {
        Self {
            unsent: (0..chunks).collect(),
            start: u32::try_from(rng.below(u64::from(chunks))).unwrap_or(0),
            entrusted: BTreeMap::new(),
            unconfirmed: BTreeSet::new(),
            receivers: BTreeMap::new(),
        }
    }

    /// Whether every chunk is out. It may be on its way still.
    pub fn all_sent(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Whether every chunk has reached its first receiver.
    pub fn is_done(&self) -> bool {
        self.unsent.is_empty() && self.unconfirmed.is_empty()
    }

    fn in_order(&self) -> impl Iterator<Item = u32> + '_ {
        self.unsent.range(self.start..).chain(self.unsent.range(..self.start)).copied()
    }

    /// The next chunk to send that fits.
    pub fn find(&self, fits: impl Fn(u32) -> bool) -> Option<u32> {
        self.in_order().find(|index| fits(*index))
    }

    /// The next chunks that nobody takes unasked need not be sent: who lacks them asks when the first
    /// pass is over. Any number of them is passed over in one go, as with little changed since the
    /// last release nearly all are there, and no event may come that would bring the rest nearer.
    pub fn skip_while(&mut self, needless: impl Fn(u32) -> bool) {
        let needless: Vec<u32> = self.in_order().take_while(|index| needless(*index)).collect();
        needless.iter().for_each(|index| {
            self.unsent.remove(index);
        });
    }

    /// The chunk goes to `to`, which owes it to `lacking` others.
    pub fn entrust(&mut self, now: Instant, index: u32, to: NodeId, lacking: u32) {
        self.unsent.remove(&index);
        self.start = index + 1;
        self.settle(index);
        let entrusted = Entrusted { to, at: now, of: lacking, lacking, received: false };
        self.entrusted.insert(index, entrusted);
        self.unconfirmed.insert((now, index));
        let receiver = self.receivers.entry(to).or_default();
        receiver.debt += u64::from(lacking);
        receiver.open.insert((now, index));
    }

    /// What a receiver still owes, in chunks times receivers.
    pub fn debt(&self, node: NodeId) -> u64 {
        self.receivers.get(&node).map_or(0, |receiver| receiver.debt)
    }

    /// From what turnaround on a receiver is too slow.
    pub fn slow_from(&self, now: Instant) -> Duration {
        let paces = self.receivers.values().filter_map(|receiver| receiver.pace(now));
        let mut paces: Vec<Duration> = paces.collect();
        paces.sort_unstable();
        let median = paces.get(paces.len() / 2).copied().unwrap_or_default();
        (median * SLOW_FACTOR).max(SLOW_MIN)
    }

    /// Whether a receiver takes longer than `slow_from` to turn a chunk around.
    pub fn is_slow(&self, now: Instant, node: NodeId, slow_from: Duration) -> bool {
        let pace = self.receivers.get(&node).and_then(|receiver| receiver.pace(now));
        pace.is_some_and(|pace| pace > slow_from)
    }

    /// A neighbour has the chunk.
    pub fn arrived(&mut self, now: Instant, index: u32, at: NodeId) {
        let Some(entrusted) = self.entrusted.get_mut(&index) else { return };
        let receiver = self.receivers.entry(entrusted.to).or_default();
        if entrusted.to == at {
            self.unconfirmed.remove(&(entrusted.at, index));
            entrusted.received = true;
        } else if entrusted.lacking > 0 {
            entrusted.lacking -= 1;
            receiver.debt -= 1;
        }
        if entrusted.turned() && receiver.open.remove(&(entrusted.at, index)) {
            let took = now.since(entrusted.at);
            receiver.turnaround = Some(receiver.turnaround.map_or(took, |old| blend(old, took)));
        }
        if entrusted.lacking == 0 && entrusted.received {
            self.entrusted.remove(&index);
        }
    }

    /// Forgets to whom a chunk was entrusted.
    fn settle(&mut self, index: u32) {
        let Some(old) = self.entrusted.remove(&index) else { return };
        self.unconfirmed.remove(&(old.at, index));
        if let Some(receiver) = self.receivers.get_mut(&old.to) {
            receiver.debt -= u64::from(old.lacking);
            receiver.open.remove(&(old.at, index));
        }
    }

    /// The chunk did not reach its first receiver and must go out again.
    pub fn failed(&mut self, index: u32, to: NodeId) {
        if self.entrusted.get(&index).is_some_and(|it| it.to == to && !it.received) {
            self.settle(index);
            self.unsent.insert(index);
        }
    }

    /// With every chunk sent, one that its first receiver should have had long ago goes to another.
    /// Says which and from whom it was taken.
    pub fn take_back(&mut self, now: Instant) -> Option<(u32, NodeId)> {
        let index = self.overdue_at(now).filter(|(at, _)| *at <= now)?.1;
        let to = self.entrusted.get(&index)?.to;
        let turnaround = now.since(self.entrusted.get(&index)?.at);
        self.failed(index, to);
        let receiver = self.receivers.entry(to).or_default();
        receiver.turnaround = receiver.turnaround.max(Some(turnaround));
        Some((index, to))
    }

    /// When the oldest unconfirmed chunk is to be taken back, once all are sent.
    pub fn overdue_at(&self, now: Instant) -> Option<(Instant, u32)> {
        let oldest = self.unconfirmed.first().filter(|_| self.all_sent());
        oldest.map(|&(at, index)| (at.after(self.slow_from(now)), index))
    }

    /// A neighbour is gone, which had `have`. What it alone was given (`elsewhere` says) goes again.
    pub fn gone(
        &mut self,
        now: Instant,
        node: NodeId,
        have: &Bitmap,
        elsewhere: impl Fn(u32) -> bool,
    ) {
        let open: Vec<(u32, NodeId)> =
            self.entrusted.iter().map(|(&index, it)| (index, it.to)).collect();
        for (index, to) in open {
            if to != node && !have.contains(index) {
                self.arrived(now, index, node);
            } else if to == node {
                self.settle(index);
                if !elsewhere(index) {
                    self.unsent.insert(index);
                }
            }
        }
        self.receivers.remove(&node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId([1; 32]);
    const B: NodeId = NodeId([2; 32]);
    const C: NodeId = NodeId([3; 32]);

    fn ms(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    #[test]
    fn debts_shrink_as_the_others_get_the_chunk() {
        let mut seeding = Seeding::new(2, &mut Rng::new(1));
        seeding.entrust(ms(0), 0, A, 2);
        assert_eq!(seeding.debt(A), 2);
        seeding.arrived(ms(1), 0, A);
        assert_eq!(seeding.debt(A), 2, "its own copy pays nothing back");
        seeding.arrived(ms(1), 0, B);
        assert_eq!(seeding.debt(A), 1);
        assert_eq!(seeding.in_order().collect::<Vec<_>>(), vec![1]);
    }

    #[test]
    fn what_a_lost_receiver_alone_had_goes_out_again() {
        let mut seeding = Seeding::new(3, &mut Rng::new(1));
        seeding.entrust(ms(0), 0, A, 1);
        seeding.entrust(ms(0), 1, A, 1);
        seeding.entrust(ms(0), 2, B, 1);
        assert!(seeding.all_sent() && !seeding.is_done());
        seeding.gone(ms(1), A, &Bitmap::empty(3), |index| index == 0);
        assert_eq!(seeding.in_order().collect::<Vec<_>>(), vec![1]);
        assert_eq!((seeding.debt(A), seeding.debt(B)), (0, 0));
    }

    #[test]
    fn one_that_takes_much_longer_than_the_others_is_seen_and_its_last_chunk_taken_back() {
        let mut seeding = Seeding::new(3, &mut Rng::new(1));
        for (index, to) in [(0, A), (1, B), (2, C)] {
            seeding.entrust(ms(0), index, to, 1);
        }
        for (index, to, other) in [(0, A, B), (1, B, A)] {
            seeding.arrived(ms(100), index, to);
            seeding.arrived(ms(200), index, other);
        }
        let slow = |seeding: &Seeding, at| seeding.is_slow(at, C, seeding.slow_from(at));
        assert!(!slow(&seeding, ms(590)) && slow(&seeding, ms(601)));
        assert_eq!(seeding.take_back(ms(590)), None);
        assert_eq!(seeding.take_back(ms(601)), Some((2, C)));
        assert!(!seeding.all_sent() && slow(&seeding, ms(602)));
    }
}
