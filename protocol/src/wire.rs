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
use crate::id::{GroupName, Question};
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
    /// From the leader to the holder of a permit: what the balancers of this group do for it.
    Balancers(GroupName, Word),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::balancer::{Look, Server, Sight, Traffic};
    use crate::codec;
    use crate::fleet::group::Ports;
    use crate::id::Incarnation;

    /// The golden form of what is said of balancers: a change of it is a change of the format.
    #[test]
    fn what_is_said_of_balancers_keeps_its_form() {
        let web: GroupName = "web".parse().unwrap();
        let server = Server { sends: true, sessions: 3, state: "UP".to_owned() };
        let seen = Sight::Seen([("n1".parse().unwrap(), server)].into());
        let torn = Sight::Unreadable { reason: "no".to_owned() };
        let look = |sight| Look { asked: (2, Question(4)), sight };
        let report = Report {
            question: (2, Question(5)),
            incarnation: Incarnation(1),
            balancers: [(web.clone(), look(seen)), ("api".parse().unwrap(), look(torn))].into(),
            ..Report::default()
        };
        let word = |traffic| Word { traffic, asked: (2, Question(5)) };
        let nowhere = word(Traffic::Nowhere { sessions: 3 });
        let (service, agent_check) = (Some(80), None);
        let join = Command::JoinGroup { group: web.clone(), ports: Ports { service, agent_check } };
        let watch = Command::WatchBalancer { group: web.clone(), on: true };
        let reported = "010a020501000000000203617069020401026e6f03776562020400\
                        01026e310103025550";
        for (message, golden) in [
            (Message::Report(report), reported),
            (Message::Balancers(web.clone(), nowhere), "010b0377656203030205"),
            (Message::Propose(1, join), "0107010603776562015000"),
            (Message::Propose(1, watch), "010701120377656201"),
        ] {
            let bytes = codec::encode(&message);
            assert_eq!(data_encoding::HEXLOWER.encode(&bytes), golden);
            assert_eq!(codec::decode(&bytes), Ok(message));
        }
    }
}
