//! Which missing chunks can be asked for, the rarest first.
//!
//! Rarest first is what keeps a swarm's pieces diverse (Legout et al., "Rarest first and choke
//! algorithms are enough", IMC 2006). Each change costs O(log chunks); nothing here scans them all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::id::NodeId;
use crate::rng::Rng;
use crate::time::Instant;

use super::Bitmap;

/// Where a chunk stands on its way here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is here.
    Here,
    /// No neighbour that counts has it.
    Nowhere,
    /// Somebody said that it will send it unasked.
    Promised,
    /// It can be asked for.
    Ready,
    /// It was asked for.
    Asked,
}

/// A missing chunk's place in the order: copies among the neighbours, a random tie-break, the chunk.
type Rank = (u16, u32, u32);

#[derive(Clone, Copy, Debug)]
struct Chunk {
    state: State,
    copies: u16,
    tie: u32,
    /// A promise for it was not kept in time; no second one is waited for.
    let_down: bool,
}

/// A promise to send a chunk unasked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise {
    /// Who promised.
    pub by: NodeId,
    /// When.
    pub at: Instant,
}

/// The missing chunks of one object.
#[derive(Debug)]
pub(super) struct Rarest {
    chunks: Vec<Chunk>,
    ready: BTreeSet<Rank>,
    promises: BTreeMap<u32, Promise>,
    /// Promises by age. Those no longer in `promises` are skipped.
    oldest: VecDeque<(Instant, u32)>,
}

impl Rarest {
    pub fn new(have: &Bitmap, rng: &mut Rng) -> Self {
        let chunk = |index| Chunk {
            state: if have.contains(index) { State::Here } else { State::Nowhere },
            copies: 0,
            tie: u32::try_from(rng.below(1 << 32)).unwrap_or(0),
            let_down: false,
        };
        let chunks = (0..have.len()).map(chunk).collect();
        let (ready, promises) = (BTreeSet::new(), BTreeMap::new());
        Self { chunks, ready, promises, oldest: VecDeque::new() }
    }

    /// A trusted neighbour has one more copy.
    pub fn add_copy(&mut self, index: u32) {
        self.change_copies(index, 1);
    }

    /// A trusted neighbour's copy is gone.
    pub fn remove_copy(&mut self, index: u32) {
        self.change_copies(index, -1);
    }

    fn change_copies(&mut self, index: u32, by: i16) {
        let Some(chunk) = self.chunks.get_mut(index as usize) else { return };
        let before = (chunk.copies, chunk.tie, index);
        chunk.copies = chunk.copies.saturating_add_signed(by);
        match chunk.state {
            State::Nowhere | State::Ready => {
                self.ready.remove(&before);
                self.settle(index);
            }
            State::Here | State::Promised | State::Asked => {}
        }
    }

    /// Puts a chunk that nobody is bringing where its copies say.
    fn settle(&mut self, index: u32) {
        let Some(chunk) = self.chunks.get_mut(index as usize) else { return };
        chunk.state = if chunk.copies == 0 { State::Nowhere } else { State::Ready };
        if chunk.state == State::Ready {
            self.ready.insert((chunk.copies, chunk.tie, index));
        }
    }

    fn leave_ready(&mut self, index: u32, state: State) {
        let Some(chunk) = self.chunks.get_mut(index as usize) else { return };
        self.ready.remove(&(chunk.copies, chunk.tie, index));
        chunk.state = state;
    }

    fn state(&self, index: u32) -> Option<State> {
        self.chunks.get(index as usize).map(|chunk| chunk.state)
    }

    /// Waits for a promised chunk instead of asking for it; once for each chunk.
    pub fn promise(&mut self, index: u32, by: NodeId, at: Instant) {
        let Some(chunk) = self.chunks.get(index as usize) else { return };
        if chunk.let_down || !matches!(chunk.state, State::Nowhere | State::Ready) {
            return;
        }
        self.leave_ready(index, State::Promised);
        self.promises.insert(index, Promise { by, at });
        self.oldest.push_back((at, index));
    }

    /// Chunks whose promise is from before `since` can be asked for from now on.
    pub fn lapse(&mut self, since: Instant) {
        while let Some(&(at, index)) = self.oldest.front().filter(|(at, _)| *at < since) {
            self.oldest.pop_front();
            if self.promises.get(&index).is_some_and(|promise| promise.at == at) {
                self.drop_promise(index, true);
            }
        }
    }

    /// When the oldest promise was made.
    pub fn oldest_promise(&self) -> Option<Instant> {
        self.oldest.front().map(|&(at, _)| at)
    }

    /// One that promised is gone. Its promises can be made again by another.
    pub fn drop_promises_of(&mut self, node: NodeId) {
        let broken = self.promises.iter().filter(|(_, promise)| promise.by == node);
        for index in broken.map(|(&index, _)| index).collect::<Vec<_>>() {
            self.drop_promise(index, false);
        }
    }

    /// Who promised the chunk, if it is waited for.
    pub fn promised_by(&self, index: u32) -> Option<NodeId> {
        self.promises.get(&index).map(|promise| promise.by)
    }

    /// Does not wait for a promised chunk any longer.
    pub fn end_promise(&mut self, index: u32) {
        if self.promises.contains_key(&index) {
            self.drop_promise(index, false);
        }
    }

    fn drop_promise(&mut self, index: u32, let_down: bool) {
        self.promises.remove(&index);
        if let Some(chunk) = self.chunks.get_mut(index as usize) {
            chunk.let_down |= let_down;
        }
        self.settle(index);
    }

    /// The chunk was asked for.
    pub fn asked(&mut self, index: u32) {
        self.leave_ready(index, State::Asked);
    }

    /// Nobody is asked for the chunk any more, and it has not come.
    pub fn give_back(&mut self, index: u32) {
        if self.state(index) == Some(State::Asked) {
            self.settle(index);
        }
    }

    /// The chunk is here. Says what had been promised of it.
    pub fn got(&mut self, index: u32) -> Option<Promise> {
        self.leave_ready(index, State::Here);
        self.promises.remove(&index)
    }

    /// Whether a neighbour that is trusted has it.
    pub fn has_copies(&self, index: u32) -> bool {
        self.chunks.get(index as usize).is_some_and(|chunk| chunk.copies > 0)
    }

    /// Whether nothing waits to be asked for.
    pub fn nothing_ready(&self) -> bool {
        self.ready.is_empty()
    }

    /// Up to `count` chunks that can be asked for: half of them the rarest, half from a random place
    /// on, so that rare chunks whose few holders are busy do not hold up all others.
    pub fn candidates(&self, count: usize, rng: &mut Rng) -> Vec<u32> {
        let rarest = self.ready.iter().take(count / 2);
        let mut found: Vec<u32> = rarest.map(|rank| rank.2).collect();
        if self.ready.len() <= found.len() {
            return found;
        }
        let last = self.ready.last().map_or(0, |rank| rank.0);
        let tie = u32::try_from(rng.below(1 << 32)).unwrap_or(0);
        let copies = u16::try_from(rng.below(u64::from(last) + 1)).unwrap_or(0);
        let others = self.ready.range((copies, tie, 0)..).take(count / 2).map(|rank| rank.2);
        found.extend(others);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BY: NodeId = NodeId([1; 32]);

    fn rarest(len: u32) -> Rarest {
        Rarest::new(&Bitmap::empty(len), &mut Rng::new(1))
    }

    fn first(rarest: &Rarest) -> Option<u32> {
        rarest.candidates(2, &mut Rng::new(1)).first().copied()
    }

    #[test]
    fn the_rarest_goes_first_and_what_nobody_has_never() {
        let mut chunks = rarest(4);
        for index in [0, 0, 1, 2, 2, 2] {
            chunks.add_copy(index);
        }
        assert_eq!(first(&chunks), Some(1));
        chunks.asked(1);
        assert_eq!(first(&chunks), Some(0));
        chunks.remove_copy(1);
        chunks.give_back(1);
        assert_eq!(first(&chunks), Some(0), "1 has no copy any more");
        chunks.got(0);
        chunks.got(2);
        assert!(chunks.nothing_ready());
    }

    #[test]
    fn a_promise_is_waited_for_once() {
        let mut chunks = rarest(1);
        chunks.promise(0, BY, Instant::from_micros(5));
        chunks.add_copy(0);
        assert!(chunks.nothing_ready());
        chunks.lapse(Instant::from_micros(5));
        assert!(chunks.nothing_ready());
        chunks.lapse(Instant::from_micros(6));
        assert_eq!(first(&chunks), Some(0));
        chunks.promise(0, BY, Instant::from_micros(7));
        assert_eq!(first(&chunks), Some(0), "one that promised in vain is not believed again");
    }

    #[test]
    fn a_promise_ends_with_the_one_who_made_it() {
        let mut chunks = rarest(1);
        chunks.promise(0, BY, Instant::ZERO);
        chunks.drop_promises_of(BY);
        assert!(chunks.nothing_ready(), "it went with its only copy");
        chunks.promise(0, NodeId([2; 32]), Instant::ZERO);
        chunks.add_copy(0);
        assert!(chunks.nothing_ready(), "another's promise counts");
    }
}
