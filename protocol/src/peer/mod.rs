//! One whole node: every machine of this crate, wired to each other.
//!
//! The daemon and the simulator both drive a [`Peer`] and nothing else. It decides nothing itself:
//! it carries the outputs of one machine to the inputs of the others.
//!
//! ```text
//!  frames ─→ sessions ─→ gossip ─ headers ─→ agent ─→ store, services
//!                │         └─ heads ─→ replica ─ fleet ─↗   │
//!                ├─→ swarm ←────────── wants ───────────────┘
//!                └─→ voter ─ committed ─→ replica      reports
//!                      ↑── proposals ── coordinator ←──┘
//! ```
//!
//! * [`event`]: what goes in and out; [`sessions`]: who is trusted how far
//! * [`requests`]: what this node waits for; `admission`: how it gets in; `control`: the leader's part;
//!   `route`: who hears what; `untold`: whom the log's news concern

mod admission;
mod control;
pub mod event;
#[cfg(test)]
mod golden;
mod operate;
pub mod requests;
mod restore;
mod route;
pub mod sessions;
mod start;
#[cfg(test)]
mod tests;
mod untold;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::agent::{self, Agent};
use crate::consensus::{self, Voter};
use crate::coordinator::Coordinator;
use crate::disk::{Batch, Token, Write};
use crate::fleet::Fleet;
use crate::gossip::{self, Gossip};
use crate::id::{Incarnation, LogIndex, NodeId, VoterId};
use crate::machine::Machine;
use crate::membership::{self, Membership};
use crate::replica::{self, Replica};
use crate::rng::Rng;
use crate::swarm::{self, Swarm};
use crate::time::{Instant, UnixTime, earliest};

pub use event::{Answer, Failure, Input, Note, Operation, Output};
pub use restore::Unreadable;
pub use start::Config;

use admission::Application;
use requests::Requests;
use sessions::Sessions;
use untold::Untold;

/// Rounds that outputs may take from machine to machine before the rest waits for the next input.
/// Far above what any chain of causes needs; it turns an endless one into a slow one.
const ROUNDS_MAX: usize = 10_000;

/// Whose batch a token of the driver's confirms.
#[derive(Clone, Copy, Debug)]
enum Owner {
    Agent(Token),
    Voter(VoterId, Token),
    Nobody,
}

/// One node.
pub struct Peer {
    config: Config,
    sessions: Sessions,
    membership: Membership,
    gossip: Gossip,
    swarm: Swarm,
    replica: Replica,
    agent: Agent,
    voter: Option<Voter>,
    /// The voter that could not go on in this life.
    failed_voter: Option<VoterId>,
    coordinator: Option<Coordinator>,
    requests: Requests,
    leader: Option<NodeId>,
    /// The leader's term, as far as it was heard; 0 where it was not.
    leader_term: u64,
    role: consensus::Role,
    wall_clock: UnixTime,
    house: House,
    application: Application,
    tokens: BTreeMap<Token, Owner>,
    last_token: Token,
    kept_entries: BTreeSet<LogIndex>,
    incarnation: Incarnation,
    /// What goes to disk with the first batch, whose ever that is: the number of this life.
    first_writes: Vec<Write>,
    /// Whether that is durable. Until then nothing is said in this life that names it: a crash
    /// would give the next life the same number.
    life_kept: bool,
    rng: Rng,
    outputs: VecDeque<Output>,
}

/// What the node still has to tell the mesh of itself.
#[derive(Debug, Default)]
struct House {
    again_at: Instant,
    member_noted: bool,
    outlived_noted: bool,
    untold: Untold,
    progress_at: Instant,
}

impl Peer {
    /// The replicated state, as far as this node has it.
    pub fn fleet(&self) -> &Fleet {
        self.replica.fleet()
    }

    /// The log behind that state, as far as this node keeps it for those that follow.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// This node.
    pub fn id(&self) -> NodeId {
        self.config.node
    }

    /// How this node was started.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Who leads the log, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Whether this node leads the log.
    pub fn leads(&self) -> bool {
        self.coordinator.is_some()
    }

    /// What the members last said, where this node leads.
    pub fn coordinator(&self) -> Option<&Coordinator> {
        self.coordinator.as_ref()
    }

    /// This node's own services and releases.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// What of each object is here, and what was sent.
    pub fn swarm(&self) -> &Swarm {
        &self.swarm
    }

    /// Who is alive and who is silent.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Connected members.
    pub fn connected(&self) -> impl Iterator<Item = NodeId> {
        self.sessions.members()
    }

    /// The voter of this node, if it is one.
    pub fn voter(&self) -> Option<&Voter> {
        self.voter.as_ref()
    }

    fn persist(&mut self, owner: Owner, mut writes: Vec<Write>) {
        writes.append(&mut self.first_writes);
        self.last_token = Token(self.last_token.0 + 1);
        let token = self.last_token;
        self.tokens.insert(token, owner);
        self.outputs.push_back(Output::Persist(Batch { token, writes }));
    }

    fn persisted(&mut self, now: Instant, token: Token) {
        if !self.life_kept {
            self.life_kept = true; // batches are confirmed in their order, and it is in the first
            self.house.again_at = now;
        }
        match self.tokens.remove(&token) {
            Some(Owner::Agent(token)) => self.agent.handle(now, agent::Input::Persisted(token)),
            Some(Owner::Voter(id, token)) => {
                if let Some(voter) = self.voter.as_mut().filter(|voter| voter.id() == id) {
                    voter.handle(now, consensus::Input::Persisted(token));
                }
            }
            Some(Owner::Nobody) | None => {}
        }
    }

    fn take(&mut self, now: Instant, input: Input) {
        match input {
            Input::Timeout => {}
            Input::WallClock(time) => self.wall_clock = time,
            Input::Connected { node, address } => self.connected_to(now, node, address),
            Input::Disconnected { node } => self.disconnected_from(now, node),
            Input::DialFailed { address } => {
                self.membership.handle(now, membership::Input::DialFailed { address });
            }
            Input::Control { from, frame } => self.take_frame(now, from, &frame),
            Input::ChunkVerified { from, object, index } => {
                self.swarm.handle(now, swarm::Input::Verified { object, index, from });
            }
            Input::ChunkStored { object, index } => {
                self.swarm.handle(now, swarm::Input::Stored { object, index });
            }
            Input::ChunkCorrupt { from, object, index } => {
                self.swarm.handle(now, swarm::Input::Corrupt { object, index, from });
            }
            Input::Uploaded { to, object, index } => {
                self.swarm.handle(now, swarm::Input::Uploaded { to, object, index });
            }
            Input::UploadFailed { to, object, index } => {
                self.swarm.handle(now, swarm::Input::UploadFailed { to, object, index });
            }
            Input::Persisted(token) => self.persisted(now, token),
            Input::Store(event) => self.agent.handle(now, agent::Input::Store(event)),
            Input::Service(group, event) => {
                self.agent.handle(now, agent::Input::Service(group, event));
            }
            Input::Balancer(group, sight) => {
                self.agent.handle(now, agent::Input::Sight(group, sight));
            }
            Input::Operate(request, operation) => self.operate(now, request, operation),
        }
    }

    /// Wakes every machine whose time has come.
    fn wake(&mut self, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.membership.poll_timeout()) {
            self.membership.handle(now, membership::Input::Timeout);
        }
        if due(self.gossip.poll_timeout()) {
            self.gossip.handle(now, gossip::Input::Timeout);
        }
        if due(self.swarm.poll_timeout()) {
            self.swarm.handle(now, swarm::Input::Timeout);
        }
        if due(self.replica.poll_timeout()) {
            self.replica.handle(now, replica::Input::Timeout);
        }
        if due(self.agent.poll_timeout()) {
            self.agent.handle(now, agent::Input::Timeout);
        }
        if let Some(voter) = self.voter.as_mut().filter(|voter| due(voter.poll_timeout())) {
            voter.handle(now, consensus::Input::Timeout);
        }
        self.wake_coordinator(now);
        self.wake_requests(now);
        self.keep_house(now);
    }
}

impl Machine for Peer {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        self.take(now, input);
        self.wake(now);
        for _ in 0..ROUNDS_MAX {
            if !self.route(now) {
                return;
            }
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let machines = [
            self.membership.poll_timeout(),
            self.gossip.poll_timeout(),
            self.swarm.poll_timeout(),
            self.replica.poll_timeout(),
            self.agent.poll_timeout(),
            self.voter.as_ref().and_then(Machine::poll_timeout),
            self.coordinator.as_ref().and_then(Coordinator::poll_timeout),
            self.requests.poll_timeout(),
            Some(self.house.again_at),
        ];
        machines.into_iter().fold(None, earliest)
    }
}
