//! Consensus: one leader in a term, and a voter's id belongs to one node for ever. (Design, section 5,
//! and the traps of raft: an id that comes back has forgotten its votes.)

use std::collections::{BTreeMap, BTreeSet};

use baton_protocol::consensus::Role;
use baton_protocol::fleet::Fleet;
use baton_protocol::id::{NodeId, VoterId};
use baton_protocol::peer::Peer;

use crate::event::Host;

/// Who led, and whose each voter's id was.
#[derive(Debug, Default)]
pub(super) struct Seats {
    leaders: BTreeMap<u64, Host>,
    nodes: BTreeMap<VoterId, NodeId>,
    seated: BTreeSet<VoterId>,
    gone: BTreeSet<VoterId>,
}

impl Seats {
    /// `host` has taken an input.
    pub(super) fn leads(&mut self, host: Host, peer: &Peer) -> Result<(), String> {
        let Some(Role::Leader { term }) = peer.voter().map(|voter| voter.role()) else {
            return Ok(());
        };
        let first = *self.leaders.entry(term).or_insert(host);
        if first == host {
            return Ok(());
        }
        Err(format!("election: hosts {first} and {host} both lead in term {term}"))
    }

    /// The log has moved on.
    pub(super) fn check(&mut self, fleet: &Fleet) -> Result<(), String> {
        let allotted = fleet.members().iter().filter_map(|(node, it)| Some((it.voter?, *node)));
        for (voter, node) in allotted.chain(fleet.voters().all()) {
            let first = *self.nodes.entry(voter).or_insert(node);
            if first != node {
                return Err(format!("voters: the id {voter} of one node is given to another"));
            }
        }
        let seated: BTreeSet<_> = fleet.voters().all().map(|(voter, _)| voter).collect();
        self.gone.extend(self.seated.difference(&seated));
        if let Some(voter) = seated.intersection(&self.gone).next() {
            return Err(format!("voters: the id {voter} has left the voters and is back"));
        }
        self.seated = seated;
        Ok(())
    }
}
