//! A model of a load balancer beside one host: it goes by checks of its own and by each agent's last
//! word, and a person may put a server into maintenance. The daemon beside it reads what it does.

use core::time::Duration;
use std::collections::BTreeMap;

use baton_protocol::agent::balancer::{Server as Seen, Sight};
use baton_protocol::peer::Input;
use baton_protocol::rng::Rng;
use baton_protocol::time::Instant;

use crate::event::{Event, Host};
use crate::mesh::group;
use crate::rig::Rig;
use crate::service::Spoken;
use crate::shape::Shape;
use crate::world::World;

/// What the balancer's own times are multiples of.
const TICK: Duration = Duration::from_millis(250);

/// Ticks between two looks of the daemon: as often as the real one looks.
const LOOK_TICKS: u64 = 2;

/// What one balancer is like.
#[derive(Clone, Debug)]
pub(crate) struct Traits {
    /// Beside whom it stands.
    pub(crate) host: Host,
    agent_ticks: u64,
    check_ticks: u64,
    rise: u32,
    fall: u32,
    rng: Rng,
}

impl Traits {
    /// Half of the seeds have one. It has a generator of its own: with it a seed does otherwise what
    /// it does without.
    pub(crate) fn drawn(seed: u64, shape: &Shape) -> Option<Self> {
        let mut rng = Rng::new(seed ^ 0x6261_6c61_6e63_6572);
        let host = match shape.witness {
            true => shape.hosts.checked_sub(1)?,
            false => rng.below(shape.hosts as u64) as usize,
        };
        rng.chance(1, 2).then(|| Self {
            host,
            agent_ticks: 1 + rng.below(4),
            check_ticks: 2 + rng.below(7),
            rise: 1 + u32::try_from(rng.below(3)).unwrap_or_default(),
            fall: 2 + u32::try_from(rng.below(2)).unwrap_or_default(),
            rng,
        })
    }
}

/// A balancer at work.
pub(crate) struct Balancer {
    traits: Traits,
    ticks: u64,
    servers: BTreeMap<Host, Server>,
}

#[derive(Default)]
struct Server {
    /// The agent's last word; it stays where the agent says nothing more.
    weight: bool,
    agent_up: bool,
    up: bool,
    /// Checks in a row that say otherwise.
    against: u32,
    sessions: u32,
    maintained_until: Option<Instant>,
}

impl Server {
    fn sends(&self) -> bool {
        self.up && self.agent_up && self.weight && self.maintained_until.is_none()
    }

    fn hear(&mut self, word: Spoken) {
        match word {
            Spoken::Nothing => {}
            Spoken::Up => (self.agent_up, self.weight) = (true, true),
            Spoken::Drain => (self.agent_up, self.weight) = (true, false),
            Spoken::Down => self.agent_up = false,
        }
    }

    fn check(&mut self, passes: bool, traits: &Traits) {
        self.against = if passes == self.up { 0 } else { self.against + 1 };
        let needed = if passes { traits.rise } else { traits.fall };
        if self.against >= needed {
            (self.up, self.against) = (passes, 0);
        }
    }

    fn seen(&self) -> Seen {
        let state = match (self.maintained_until, self.up && self.agent_up) {
            (Some(_), _) => "MAINT",
            (None, true) => "UP",
            (None, false) => "DOWN",
        };
        Seen { sends: self.sends(), sessions: self.sessions, state: state.to_owned() }
    }
}

impl Balancer {
    pub(crate) fn new(traits: Traits) -> Self {
        Self { traits, ticks: 0, servers: BTreeMap::new() }
    }

    fn tick(&mut self, now: Instant, hosts: &mut [Rig]) {
        self.ticks += 1;
        for (host, rig) in (0..).zip(hosts) {
            let fresh = || Server { weight: true, agent_up: true, up: true, ..Server::default() };
            let server = self.servers.entry(host).or_insert_with(fresh);
            server.maintained_until = server.maintained_until.filter(|until| *until > now);
            let answers = rig.peer.is_some() && rig.stopped.is_none();
            if answers && self.ticks.is_multiple_of(self.traits.agent_ticks) {
                server.hear(rig.service.spoken);
            }
            if self.ticks.is_multiple_of(self.traits.check_ticks) {
                server.check(rig.service.is_ready(), &self.traits);
            }
            if server.sends() {
                server.sessions = self.traits.rng.below(3) as u32;
                rig.service.sent_to();
            } else {
                server.sessions = server.sessions.saturating_sub(1);
            }
        }
    }

    fn sight(&self, hosts: &[Rig]) -> Sight {
        let named = |(host, server): (&Host, &Server)| {
            hosts.get(*host).map(|rig| (rig.config.name.clone(), server.seen()))
        };
        Sight::Seen(self.servers.iter().filter_map(named).collect())
    }

    /// Somebody puts a server into maintenance; whether it is known here.
    fn maintain(&mut self, host: Host, until: Instant) -> bool {
        let Some(server) = self.servers.get_mut(&host) else { return false };
        server.maintained_until = server.maintained_until.max(Some(until));
        true
    }
}

impl World {
    /// The balancer takes a step, and the daemon beside it may look.
    pub(crate) fn balance(&mut self) {
        let Some(balancer) = &mut self.balancer else { return };
        balancer.tick(self.now, &mut self.hosts);
        let host = balancer.traits.host;
        let looks = balancer.ticks.is_multiple_of(LOOK_TICKS);
        let sight =
            (looks && self.hosts[host].stopped.is_none()).then(|| balancer.sight(&self.hosts));
        self.after(TICK, Event::Balancer);
        if let Some(sight) = sight {
            self.feed(host, Input::Balancer(group(), sight));
        }
    }

    /// A person puts a server into maintenance; whether there is a balancer that knows it.
    pub(crate) fn maintain(&mut self, host: Host, wait: Duration) -> bool {
        let until = self.now.after(wait);
        self.balancer.as_mut().is_some_and(|balancer| balancer.maintain(host, until))
    }
}
