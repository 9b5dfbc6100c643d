//! The election timeouts, drawn again by us so that a run can be repeated.
//!
//! The library draws them from a generator of its own whenever it changes its state. That draw is
//! overwritten after every call that could have made one, before a tick could look at it.

use super::config::ELECTION_TICKS;
use super::raft_types::{RawNode, Storage};
use crate::id::VoterId;
use crate::rng::Rng;

/// Draws the timeouts of one voter: a function of the seed, the voter, the term and how often it
/// has tried since its start. The last makes two survivors draw apart even where the term stands.
#[derive(Debug)]
pub(super) struct Election {
    seed: u64,
    attempts: u64,
    drawn: Option<((u64, u64), usize)>,
}

impl Election {
    pub(super) fn new(seed: u64, voter: VoterId) -> Self {
        // An odd factor spreads the ids over the whole seed.
        let seed = seed ^ voter.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { seed, attempts: 0, drawn: None }
    }

    /// A timeout has run out: the next one is drawn anew.
    pub(super) fn tried(&mut self) {
        self.attempts += 1;
    }

    /// Puts our timeout in the place of the library's.
    pub(super) fn set<S: Storage>(&mut self, node: &mut RawNode<S>) {
        let ticks = self.ticks(node.raft.term);
        node.raft.set_randomized_election_timeout(ticks);
    }

    /// The timeout in ticks, in `ELECTION_TICKS..2 * ELECTION_TICKS`.
    fn ticks(&mut self, term: u64) -> usize {
        let key = (term, self.attempts);
        if let Some((drawn_for, ticks)) = self.drawn
            && drawn_for == key
        {
            return ticks;
        }
        let mut rng = Rng::new(Rng::new(self.seed ^ term).next_u64() ^ self.attempts);
        let ticks = ELECTION_TICKS + rng.below(ELECTION_TICKS as u64) as usize;
        self.drawn = Some((key, ticks));
        ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_repeat_and_differ_between_voters_and_attempts() {
        let draws = |voter| {
            let mut election = Election::new(7, VoterId(voter));
            let draw = |_| {
                election.tried();
                election.ticks(3)
            };
            (0..32).map(draw).collect::<Vec<_>>()
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        let (low, high) = (ELECTION_TICKS, 2 * ELECTION_TICKS);
        assert!(draws(1).iter().all(|ticks| (low..high).contains(ticks)));
        let different: std::collections::BTreeSet<_> = draws(1).into_iter().collect();
        assert!(different.len() > 5, "{different:?}");
    }
}
