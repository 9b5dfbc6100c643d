//! What two nodes say to each other on a control connection.
//!
//! Each message is one frame of [`crate::codec`]. Until a connection's node has proved its
//! membership only [`Message::Proof`] is looked at, and from one whose proof is good but which the
//! roster does not have yet, [`Message::Apply`] as well.

use serde::{Deserialize, Serialize};

use crate::agent::balancer::Word;
use crate::agent::report::Report;
use crate::consensus::VoterMessage;
use crate::fleet::command::{Candidate, Command};
use crate::gossip::GossipMessage;
use crate::id::{PermitId, Question};
use crate::replica::LogMessage;
use crate::swarm::SwarmMessage;
use crate::trust::certificate::Certificate;

/// One control message. Variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// The first word of each side: the chain root → token → node.
    Proof(Certificate),
    /// A node that the roster does not have asks to be let in.
    Apply(Candidate),
    /// The answer: let in, or why not.
    Verdict(Result<(), String>),
    /// See [`crate::gossip`].
    Gossip(GossipMessage),
    /// See [`crate::swarm`].
    Swarm(SwarmMessage),
    /// See [`crate::consensus`].
    Voter(VoterMessage),
    /// See [`crate::replica`].
    Log(LogMessage),
    /// To the leader: put this into the log. The number is the sender's own.
    Propose(u64, Command),
    /// The leader did not put it there, and why. Silence says nothing.
    NotProposed(u64, String),
    /// From the leader of this term: tell me how you stand.
    Ask(u64, Question),
    /// To the leader: how the sender stands.
    Report(Report),
    /// From the leader to the holder of a permit: what the balancers do for it.
    Balancers(PermitId, Word),
}

#[cfg(test)]
mod tests;
