//! One stream of messages for each pair of voters, in order and without repeats.
//!
//! The library's sense of what a follower has can be led astray by old messages that come late
//! (raft-rs issue 557). So each message carries the sender's session, which grows with each
//! connection and each life of the sender, and its number in it; what is not newer than the last is
//! dropped, which the library takes for a loss.

use std::collections::BTreeMap;

use crate::id::{NodeId, VoterId};

/// Both ends of the streams of one voter.
#[derive(Debug)]
pub(super) struct Sessions {
    current: u64,
    sent: BTreeMap<NodeId, (u64, u64)>,
    received: BTreeMap<VoterId, (u64, u64)>,
}

impl Sessions {
    /// The streams of a voter's `life`, which is stored and grows at each start.
    pub(super) fn new(life: u64) -> Self {
        Self { current: life << 32, sent: BTreeMap::new(), received: BTreeMap::new() }
    }

    /// What is sent to `node` from now on belongs to a new session.
    pub(super) fn connected(&mut self, node: NodeId) {
        self.current += 1;
        self.sent.remove(&node);
    }

    /// The session and number of the next message to `node`.
    pub(super) fn next(&mut self, node: NodeId) -> (u64, u64) {
        let stream = self.sent.entry(node).or_insert((self.current, 0));
        stream.1 += 1;
        *stream
    }

    /// Whether a message of `from` is newer than all before it; remembers it if so.
    pub(super) fn accept(&mut self, from: VoterId, session: u64, number: u64) -> bool {
        let last = self.received.entry(from).or_default();
        let newer = (session, number) > *last;
        if newer {
            *last = (session, number);
        }
        newer
    }

    /// Forgets all voters that `known` does not know.
    pub(super) fn retain(&mut self, known: impl Fn(VoterId) -> bool) {
        self.received.retain(|voter, _| known(*voter));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_late_is_dropped_and_a_new_connection_outranks_the_old() {
        let node = NodeId([1; 32]);
        let mut sender = Sessions::new(1);
        let first = sender.next(node);
        let second = sender.next(node);
        sender.connected(node);
        let third = sender.next(node);
        let reborn = Sessions::new(2).next(node);

        let mut receiver = Sessions::new(1);
        let mut accept = |(session, number)| receiver.accept(VoterId(1), session, number);
        assert!(accept(second));
        assert!(!accept(first) && !accept(second));
        assert!(accept(third));
        assert!(!accept(second));
        assert!(accept(reborn));
        assert!(!accept(third));
    }
}
