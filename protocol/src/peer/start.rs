//! How a node begins a life.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::consensus::{self, Role, Voter};
use crate::disk::{Key, Value};
use crate::fleet::command::{Candidate, Command, Envelope};
use crate::fleet::group::Ports;
use crate::gossip::Gossip;
use crate::id::{
    GroupName, Incarnation, KeyId, MeshId, MeshName, NodeId, NodeName, VoterId, ZoneName,
};
use crate::machine::Machine as _;
use crate::membership::{self, Address, Membership};
use crate::mutant::{self, Mutant};
use crate::peer::admission::Application;
use crate::peer::requests::{OWN, Requests};
use crate::peer::restore::{Stored, Unreadable};
use crate::peer::sessions::Sessions;
use crate::peer::untold::Untold;
use crate::peer::{House, Owner, Peer};
use crate::replica::Replica;
use crate::rng::Rng;
use crate::state::State;
use crate::swarm::{self, Swarm};
use crate::time::{Instant, UnixTime};
use crate::trust::certificate::Certificate;
use crate::{agent, codec};

/// The first voter's id: what no index of an `AllotVoter` entry can be, as `Found` is entry 2 at the
/// earliest.
const FIRST_VOTER: VoterId = VoterId(1);

/// How a node is started.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its key.
    pub node: NodeId,
    /// Its mesh.
    pub mesh: MeshId,
    /// Its proof of membership.
    pub certificate: Certificate,
    /// What it is to be called.
    pub name: NodeName,
    /// Where it stands.
    pub zone: Option<ZoneName>,
    /// Where others reach it.
    pub addresses: Vec<Address>,
    /// Where the mesh may be found, from the token and the config.
    pub bootstrap: Vec<Address>,
    /// The groups whose services it runs, and where those are reached.
    pub groups: BTreeMap<GroupName, Ports>,
    /// The groups in front of which stands the balancer beside it.
    pub watches: Vec<GroupName>,
    /// For its own generator; never twice the same.
    pub seed: u64,
    /// Entries of the log between two snapshots, and kept for nodes that follow: usually
    /// [`LOG_TAIL_ENTRIES`](crate::limits::LOG_TAIL_ENTRIES).
    pub log_tail: usize,
    /// How often neighbours are told of new chunks.
    pub pace: swarm::Pace,
}

impl Config {
    /// The life that a node which is started so begins on an empty disk.
    pub fn first_life(&self) -> Incarnation {
        next_life(Incarnation::default(), &mut Rng::new(self.seed))
    }
}

impl Peer {
    /// The first node of a new mesh, on an empty disk. `publisher` may sign releases of all services.
    ///
    /// # Errors
    /// The consensus refuses to begin: a defect.
    pub fn found(
        config: Config,
        now: Instant,
        wall_clock: UnixTime,
        name: MeshName,
        publisher: KeyId,
    ) -> Result<Self, Unreadable> {
        let settings = consensus::Config::with_tail(config.seed, config.log_tail);
        let mut peer = Self::assemble(config, now, Stored::default());
        peer.wall_clock = wall_clock;
        let founder = peer.candidate(peer.incarnation);
        let (mesh, by) = (peer.config.mesh, peer.config.node);
        let command = Command::Found { mesh, name, founder, publisher };
        let envelope = Envelope { by, request: OWN, at: wall_clock, command };
        let command = Some(codec::encode(&envelope));
        peer.voter = Some(Voter::found(settings, FIRST_VOTER, by, now, command)?);
        // The life goes to disk with the voter's first batch: a disk that has one without the other
        // would be neither empty, to found on, nor a founder's, to go on from.
        peer.collect_voter(now);
        Ok(peer)
    }

    /// A node in a new life, with what its disk has.
    ///
    /// # Errors
    /// The disk has something that this baton cannot read.
    pub fn start(
        config: Config,
        now: Instant,
        wall_clock: UnixTime,
        disk: &BTreeMap<Key, Value>,
    ) -> Result<Self, Unreadable> {
        Self::go_on(config, now, wall_clock, disk, Stored::read(disk)?)
    }

    /// The same with this replicated state, whatever its disk has: of a node that shares it with others
    /// in the same process, as those of a simulator do.
    ///
    /// # Errors
    /// The disk has something that this baton cannot read.
    pub fn start_with(
        config: Config,
        now: Instant,
        wall_clock: UnixTime,
        disk: &BTreeMap<Key, Value>,
        state: Arc<State>,
    ) -> Result<Self, Unreadable> {
        Self::go_on(config, now, wall_clock, disk, Stored { state, ..Stored::read(disk)? })
    }

    fn go_on(
        config: Config,
        now: Instant,
        wall_clock: UnixTime,
        disk: &BTreeMap<Key, Value>,
        stored: Stored,
    ) -> Result<Self, Unreadable> {
        let mut peer = Self::assemble(config, now, stored);
        if disk.contains_key(&Key::Voter) {
            let settings = consensus::Config::with_tail(peer.config.seed, peer.config.log_tail);
            peer.voter = Some(Voter::restore(settings, now, disk)?);
        }
        peer.wall_clock = wall_clock;
        peer.persist(Owner::Nobody, Vec::new());
        Ok(peer)
    }

    fn assemble(config: Config, now: Instant, stored: Stored) -> Self {
        let mut rng = Rng::new(config.seed);
        let old = mutant::active(Mutant::OldIncarnation) && stored.incarnation.0 > 0;
        let next = next_life(stored.incarnation, &mut rng);
        let incarnation = if old { stored.incarnation } else { next };
        let mut membership = Membership::new(config.node, rng.next_u64());
        if let Some(book) = stored.address_book {
            membership.handle(now, membership::Input::Remembered(book));
        }
        membership.handle(now, membership::Input::Bootstrap(config.bootstrap.clone()));
        let swarm = Swarm::new(swarm::Config {
            zone: swarm_zone(config.zone.as_ref()),
            seed: rng.next_u64(),
            pace: config.pace,
        });
        let life = (Key::Incarnation, Some(codec::encode(&incarnation).into()));
        Self {
            sessions: Sessions::default(),
            membership,
            gossip: Gossip::new(rng.next_u64()),
            swarm,
            replica: Replica::new(stored.state, config.log_tail),
            agent: agent::Agent::new(incarnation, stored.journals, rng.fork()),
            voter: None,
            failed_voter: None,
            coordinator: None,
            // Above every number of earlier lives, so that no old answer is taken for a new one.
            requests: Requests::new(incarnation.earlier().0),
            leader: None,
            leader_term: 0,
            role: Role::Follower { leader: None },
            wall_clock: UnixTime::default(),
            application: Application::default(),
            house: House { untold: Untold::all(), again_at: now, ..House::default() },
            tokens: BTreeMap::new(),
            last_token: crate::disk::Token::default(),
            outputs: std::collections::VecDeque::new(),
            kept_entries: stored.entries,
            incarnation,
            first_writes: vec![life],
            life_kept: false,
            rng,
            config,
        }
    }

    /// What this node shows to be let in.
    pub(super) fn candidate(&self, incarnation: Incarnation) -> Candidate {
        Candidate {
            certificate: self.config.certificate.clone(),
            name: self.config.name.clone(),
            zone: self.config.zone.clone(),
            addresses: self.config.addresses.clone(),
            incarnation,
        }
    }
}

fn next_life(last: Incarnation, rng: &mut Rng) -> Incarnation {
    last.next_life((rng.next_u64() >> u32::BITS) as u32)
}

/// The swarm's word for "no zone was said": they all stand in one.
pub(super) fn swarm_zone(zone: Option<&ZoneName>) -> ZoneName {
    #[allow(clippy::expect_used)]
    zone.cloned().unwrap_or_else(|| "default".parse().expect("Invariant: \"default\" is a name"))
}
