//! Which connections between two nodes are kept.
//!
//! When two nodes dial each other at the same time there are four connections. Both ends keep the two
//! that the node with the lower id has dialled, without a word.

use std::collections::BTreeMap;

use baton_protocol::id::NodeId;
use libp2p::swarm::{ConnectionId, Stream};

use super::behaviour::Purpose;

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
    /// Whether both are there and were handed over.
    pub(super) complete: bool,
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
            Some(_) if preferred(outbound) && purpose == Purpose::Control => {
                self.replace(node, outbound, address)
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
            complete: false,
        };
        self.pairs.insert(node, pair);
    }
}
