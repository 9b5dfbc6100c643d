//! What load balancers are seen to do for a group's servers: what a node beside one reads, and what
//! the leader makes of all of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{NodeName, Question};

/// One look of a node at the balancer beside it, for one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sight {
    /// What it does for each of its servers, which are called like the nodes. It sends nothing to a
    /// node that is not among them.
    Seen(BTreeMap<NodeName, Server>),
    /// It cannot be read.
    Unreadable {
        /// Why, for people.
        reason: String,
    },
}

/// A look, as it is reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// The leader's term and the last question that the node had heard before it looked.
    pub asked: (u64, Question),
    /// What it saw.
    pub sight: Sight,
}

/// What a balancer does for one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Whether it sends new requests there.
    pub sends: bool,
    /// Requests that are under way there or wait for it.
    pub sessions: u32,
    /// Its own word for that, such as `UP` or `MAINT`.
    pub state: String,
}

/// Where a node's requests come from, as far as all balancers of its group together are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Traffic {
    /// None was seen to send, and not every one was seen.
    Unknown,
    /// Each was seen to send.
    Everywhere,
    /// One was seen to send, and another was not.
    Somewhere,
    /// Each was seen to send nothing.
    Nowhere {
        /// Requests that are still under way.
        sessions: u32,
    },
}

/// What the leader tells the holder of a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// What the balancers do for the holder.
    pub traffic: Traffic,
    /// The leader's term and the oldest of its questions to which that is the answer: what the
    /// balancers did after the holder had heard an older one.
    pub asked: (u64, Question),
}

/// What several balancers do for one node, put together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    sending: usize,
    silent: usize,
    unknown: usize,
    sessions: u32,
}

impl Tally {
    /// One more balancer, by the last look at it; `None` where there was none of late.
    pub fn add(&mut self, sight: Option<&Sight>, node: &NodeName) {
        let Some(Sight::Seen(servers)) = sight else {
            self.unknown += 1;
            return;
        };
        match servers.get(node) {
            Some(server) if server.sends => self.sending += 1,
            server => {
                self.silent += 1;
                let sessions = server.map_or(0, |server| server.sessions);
                self.sessions = self.sessions.saturating_add(sessions);
            }
        }
    }

    /// What it comes to.
    pub fn traffic(self) -> Traffic {
        match (self.sending, self.silent + self.unknown, self.unknown) {
            (0, _, 0) => Traffic::Nowhere { sessions: self.sessions },
            (0, _, _) => Traffic::Unknown,
            (_, 0, _) => Traffic::Everywhere,
            _ => Traffic::Somewhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(sights: &[Option<Sight>]) -> Traffic {
        let (mut tally, node) = (Tally::default(), "web1".parse().unwrap());
        sights.iter().for_each(|sight| tally.add(sight.as_ref(), &node));
        tally.traffic()
    }

    fn seen(sends: bool, sessions: u32) -> Option<Sight> {
        let server = Server { sends, sessions, state: String::new() };
        Some(Sight::Seen([("web1".parse().unwrap(), server)].into()))
    }

    #[test]
    fn all_must_send_or_none_and_none_may_be_unknown() {
        let unreadable = Some(Sight::Unreadable { reason: "refused".into() });
        let without_it = Some(Sight::Seen(BTreeMap::new()));
        for (sights, expected) in [
            (vec![seen(true, 3)], Traffic::Everywhere),
            (vec![seen(true, 3), seen(true, 0)], Traffic::Everywhere),
            (vec![seen(true, 0), seen(false, 0)], Traffic::Somewhere),
            (vec![seen(true, 0), None], Traffic::Somewhere),
            (vec![seen(false, 2), seen(false, 1)], Traffic::Nowhere { sessions: 3 }),
            (vec![without_it], Traffic::Nowhere { sessions: 0 }),
            (vec![seen(false, 0), None], Traffic::Unknown),
            (vec![unreadable], Traffic::Unknown),
        ] {
            assert_eq!(traffic(&sights), expected, "{sights:?}");
        }
    }
}
