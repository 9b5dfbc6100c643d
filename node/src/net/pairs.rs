//! Which connections between two nodes are kept.
//!
//! When two nodes dial each other at the same time there are four connections. Both ends keep the two
//! that the node with the lower id has dialled, without a word. Who dials later than that has lost its
//! connections, though the other end may not know it yet, and is let in instead of them. It may also be
//! another process with the same key, as of a cloned disk: then the two are let in in turns, and whoever
//! leads hears both.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use baton_protocol::id::NodeId;
use libp2p::swarm::{ConnectionId, Stream};

use super::OPEN_WITHIN;
use super::behaviour::Purpose;

/// How long after a pair is complete a dial may still be one that began before it was.
const SETTLED_AFTER: Duration = OPEN_WITHIN;

/// What is there of one pair of connections.
pub(super) struct Pair {
    /// Whether this node dialled it.
    pub(super) outbound: bool,
    /// What was dialled.
    pub(super) address: Option<String>,
    /// Tells one pair to a node from another.
    pub(super) generation: u64,
    /// Its connections, by what they are for.
    pub(super) connections: BTreeMap<Purpose, ConnectionId>,
    /// Streams that wait for the other one.
    pub(super) waiting: BTreeMap<Purpose, Stream>,
    /// Since when both are there and handed over.
    pub(super) complete_since: Option<Instant>,
}

impl Pair {
    fn is_settled(&self, now: Instant) -> bool {
        self.complete_since.is_some_and(|since| now.duration_since(since) >= SETTLED_AFTER)
    }
}

/// All pairs of one node.
pub(super) struct Pairs {
    me: NodeId,
    pairs: BTreeMap<NodeId, Pair>,
    generations: u64,
}

/// What is to happen with a stream that was opened.
pub(super) enum Verdict {
    /// It belongs to the pair that is there, or to a new one.
    Keep,
    /// The pair that was there gives way to it: these connections close.
    Replace(Pair),
    /// It gives way to the pair that is there.
    Refuse,
}

impl Pairs {
    pub(super) fn new(me: NodeId) -> Self {
        Self { me, pairs: BTreeMap::new(), generations: 0 }
    }

    pub(super) fn get_mut(&mut self, node: NodeId) -> Option<&mut Pair> {
        self.pairs.get_mut(&node)
    }

    pub(super) fn contains(&self, node: NodeId) -> bool {
        self.pairs.contains_key(&node)
    }

    pub(super) fn remove(&mut self, node: NodeId) -> Option<Pair> {
        self.pairs.remove(&node)
    }

    /// The node to which a connection belongs.
    pub(super) fn owner(&self, connection: ConnectionId) -> Option<NodeId> {
        let owns = |pair: &Pair| pair.connections.values().any(|it| *it == connection);
        self.pairs.iter().find(|(_, pair)| owns(pair)).map(|(node, _)| *node)
    }

    /// Decides on a stream that was opened, and makes room for it if it is kept.
    pub(super) fn decide(
        &mut self,
        node: NodeId,
        outbound: bool,
        purpose: Purpose,
        address: Option<String>,
        now: Instant,
    ) -> Verdict {
        let preferred = |outbound: bool| outbound == (self.me < node);
        match self.pairs.get(&node) {
            None if purpose == Purpose::Control => {
                self.begin(node, outbound, address);
                Verdict::Keep
            }
            // A bulk connection whose control connection is gone.
            None => Verdict::Refuse,
            Some(pair) if pair.outbound == outbound => {
                if !pair.connections.contains_key(&purpose) {
                    return Verdict::Keep;
                }
                if purpose == Purpose::Bulk {
                    return Verdict::Refuse;
                }
                // The other end dials anew: to it the old pair is dead.
                self.replace(node, outbound, address)
            }
            Some(pair) if purpose == Purpose::Control => {
                let anew = !outbound && pair.is_settled(now);
                if anew || preferred(outbound) {
                    return self.replace(node, outbound, address);
                }
                Verdict::Refuse
            }
            Some(_) => Verdict::Refuse,
        }
    }

    fn replace(&mut self, node: NodeId, outbound: bool, address: Option<String>) -> Verdict {
        let old = self.pairs.remove(&node);
        self.begin(node, outbound, address);
        old.map_or(Verdict::Keep, Verdict::Replace)
    }

    fn begin(&mut self, node: NodeId, outbound: bool, address: Option<String>) {
        self.generations += 1;
        let pair = Pair {
            outbound,
            address,
            generation: self.generations,
            connections: BTreeMap::new(),
            waiting: BTreeMap::new(),
            complete_since: None,
        };
        self.pairs.insert(node, pair);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: NodeId = NodeId([5; 32]);

    /// What becomes of a dial of the other one's, where this node has dialled it so long ago.
    fn inbound(me: u8, ago: Duration) -> Verdict {
        let (mut pairs, begun) = (Pairs::new(NodeId([me; 32])), Instant::now());
        let control = Purpose::Control;
        assert!(matches!(pairs.decide(OTHER, true, control, None, begun), Verdict::Keep));
        pairs.get_mut(OTHER).unwrap().complete_since = Some(begun);
        pairs.decide(OTHER, false, control, None, begun + ago)
    }

    #[test]
    fn of_two_that_dial_each_other_the_lower_one_wins() {
        assert!(matches!(inbound(1, Duration::ZERO), Verdict::Refuse));
        assert!(matches!(inbound(9, Duration::ZERO), Verdict::Replace(_)));
    }

    #[test]
    fn who_dials_long_after_it_was_connected_is_let_in() {
        assert!(matches!(inbound(1, SETTLED_AFTER), Verdict::Replace(_)));
    }
}
