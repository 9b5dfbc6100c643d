//! A large mesh on a calm day: how long a release takes to be everywhere, how long a rollout takes, and
//! what that costs in messages.
//!
//! The mesh begins with everybody in it, see `founding`. The nodes are whole ones. What is done less
//! than elsewhere: the states of the log are shared, chunks are of 4 MiB, several of them are told in one
//! message, while they spread things happen at ticks alone, what happens within a moment is done together
//! (see `together`), and the properties are checked now and then instead of after each event.

use core::time::Duration;

use baton_protocol::coordinator::voters::wanted;
use baton_protocol::fleet::policy::Cap;
use baton_protocol::fleet::rollout::Phase;
use baton_protocol::id::ReleaseId;
use baton_protocol::peer::{Operation, Peer};
use baton_protocol::rng::Rng;
use baton_protocol::swarm::Pace;
use baton_protocol::time::Instant;
use serde::Serialize;

use crate::event::{Event, Host};
use crate::founding::{Founded, found};
use crate::mesh::group;
use crate::meter::{Meter, Talk};
use crate::people::{ask, deploy_of};
use crate::shape::{Shape, capped};
use crate::world::World;

/// The release: 1 GiB in chunks of 4 MiB.
const CHUNKS: usize = 256;
const CHUNK_BYTES: u32 = 4 * 1024 * 1024;

/// Bytes in a millisecond of each link, each way: 1 Gbit/s.
const LINK_BYTES_PER_MS: u64 = 125_000;

/// While the release spreads, things happen at multiples of this alone, and the links are shared anew then.
const TICK: Duration = Duration::from_millis(5);

/// How often neighbours tell each other of new chunks: rarely enough that there are several in a message.
const GATHERED: Pace = Pace {
    batch: Duration::from_millis(400),
    urgent_gap: Duration::from_millis(100),
    beat: Duration::from_millis(100),
};

/// How often it is looked how far the run has come.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Nodes that may be out at once, in percent; one at least.
const CAP_PERCENT: usize = 1;

/// How long a service must have been ready, and how much faster than in a seed it stops and starts: a restart
/// takes some 1.5 s.
const MIN_HEALTHY: Duration = Duration::from_millis(500);
const BRISK: u32 = 8;

/// How long any part of the run may take.
const WITHIN: Duration = Duration::from_secs(4 * 3_600);

/// Where the release is seeded: not on the founder, which leads.
const SEED: Host = 1;

/// A large mesh.
#[derive(Clone, Copy, Debug)]
pub struct Large {
    /// How many nodes.
    pub nodes: usize,
    /// What it begins with.
    pub seed: u64,
    /// In full fidelity neighbours tell each other of new chunks as daemons do, and the links are shared anew
    /// with each chunk, whenever that is.
    pub full: bool,
    /// Threads that drive its daemons; they change nothing but the time that it takes.
    pub threads: usize,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Measures {
    /// Nodes of the mesh.
    pub nodes: usize,
    /// From the seeding until all have the whole release, in seconds of virtual time.
    pub distribution_s: f64,
    /// The same over max{F/u, F/d, N F/Σu}, the least that it can take (Kumar and Ross, 2006).
    pub over_bound: f64,
    /// Frames that a node sent until then, on average.
    pub frames_per_node: f64,
    /// Nodes that may be out at once.
    pub cap: u32,
    /// From the order until the rollout was done, in seconds of virtual time.
    pub rollout_s: f64,
    /// The same over ceil(N/k) restarts, each of which takes what the median one takes.
    pub over_restarts: f64,
    /// Frames that the leader sent and heard in a second of the rollout.
    pub leader_frames_per_s: f64,
    /// Bytes of them.
    pub leader_bytes_per_s: f64,
    /// Frames that any other node sent and heard in that time, on average.
    pub node_frames_per_s: f64,
    /// The most services that were seen not to serve at once.
    pub most_down: usize,
    /// Seconds of virtual time, from the first start to the end.
    pub virtual_s: f64,
}

struct Run<'a> {
    world: World,
    release: ReleaseId,
    leader: Host,
    /// In full fidelity.
    full: bool,
    tell: &'a dyn Fn(&str),
}

/// Runs a large mesh, and says to `tell` how far it has come, in virtual time.
///
/// # Errors
/// A property did not hold, or a part of the run did not end.
pub fn scale(mesh: Large, tell: &(dyn Fn(&str) + Sync)) -> Result<Measures, String> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(mesh.threads).build();
    // On one of its threads from the beginning, so that this one need not be woken at each moment.
    pool.map_err(|error| error.to_string())?.install(|| run(mesh, tell))
}

fn run(mesh: Large, tell: &dyn Fn(&str)) -> Result<Measures, String> {
    let mut run = Run::begin(mesh, tell)?;
    run.until("all are ready, by the leader's evidence", Run::is_ready)?;
    run.world.state = None; // it holds all that follow
    let spread = run.spread()?;
    run.roll_out(spread)
}

impl<'a> Run<'a> {
    fn begin(mesh: Large, tell: &'a dyn Fn(&str)) -> Result<Self, String> {
        let Large { nodes, seed, full, .. } = mesh;
        let count = (nodes * CAP_PERCENT / 100).max(1);
        let count = u32::try_from(count).ok();
        let mut policy = capped(Cap { count, ..Cap::default() });
        policy.min_healthy = Some(MIN_HEALTHY);
        let pace = if full { Pace::default() } else { GATHERED };
        let shape = Shape { policy, log_tail: 256, pace, brisk: BRISK, ..Shape::calm(nodes) };
        let mut world = World::new(Rng::new(seed), &shape, false);
        world.judge.sampled = true;
        world.trace.deaf = true;
        world.bulk.link = LINK_BYTES_PER_MS;
        world.bulk.every = (!full).then_some(TICK);
        world.meter = Meter::of(nodes);
        let first = world.mesh.plain_release(1, 4, 65_536);
        let configs: Vec<_> = world.hosts.iter().map(|rig| rig.config.clone()).collect();
        let Founded { state, founder, journal } = found(&world.mesh, &shape, &configs, &first)?;
        let release = first.signed.id();
        for host in 0..nodes {
            world.hosts[host].store.seed(&first);
            world.hosts[host].disk.begin(group(), journal.clone());
            world.after(Duration::from_millis(host as u64 % 1_000), Event::Restart { host });
        }
        world.hosts[0].disk.extend(founder);
        world.catalog.insert(release, first);
        world.state = Some(state);
        Ok(Self { world, release, leader: 0, full, tell })
    }

    /// Lets things happen until `is_so`, and says how long that took.
    fn until(&mut self, what: &str, is_so: fn(&Self) -> bool) -> Result<Duration, String> {
        let begun = self.world.now;
        let mut look_at = begun;
        let moment = if self.full { Duration::ZERO } else { self.world.net.least_delay() };
        loop {
            if !self.world.happen_together(moment) {
                return Err("nothing happens".to_owned());
            }
            if self.world.now < look_at {
                continue;
            }
            look_at = self.world.now.after(LOOK_EVERY);
            self.leader = self.world.leader().unwrap_or(self.leader);
            let World { judge, hosts, .. } = &mut self.world;
            judge.sample(hosts, hosts[self.leader].peer.as_ref());
            if let Some(reason) = self.world.judge.broken() {
                return Err(reason.to_owned());
            }
            let took = self.world.now.since(begun);
            if is_so(self) {
                (self.tell)(&format!("{what}: after {:.1} s", took.as_secs_f64()));
                return Ok(took);
            }
            if took > WITHIN {
                return Err(format!("{what}: not after {took:?}"));
            }
        }
    }

    fn peer(&self) -> Option<&Peer> {
        self.world.hosts[self.leader].peer.as_ref()
    }

    /// By the leader's evidence all serve, and there are as many voters as there are to be.
    fn is_ready(&self) -> bool {
        let Some(peer) = self.peer() else { return false };
        let (fleet, Some(coordinator)) = (peer.fleet(), peer.coordinator()) else { return false };
        let Some(all) = fleet.groups().get(&group()) else { return false };
        let now = self.world.hosts[self.leader].local(self.world.now);
        let voters = fleet.voters();
        voters.voters.len() >= wanted(fleet.members().len())
            && !voters.is_joint()
            && coordinator.evidence().unavailable(now, fleet, &group(), all).is_empty()
    }

    fn is_everywhere(&self) -> bool {
        self.world.hosts.iter().all(|rig| rig.store.is_sealed(self.release))
    }

    fn is_done(&self) -> bool {
        let rollouts =
            self.peer().and_then(|peer| peer.fleet().groups().get(&group())).map(|it| &it.rollouts);
        let last = rollouts.and_then(|rollouts| rollouts.last());
        last.is_some_and(|it| it.release == self.release && it.phase == Phase::Done)
    }

    /// Seeds the release, and waits until it is everywhere.
    fn spread(&mut self) -> Result<Measures, String> {
        let nodes = self.world.hosts.len();
        let made = self.world.mesh.plain_release(2, CHUNKS, CHUNK_BYTES);
        self.release = made.signed.id();
        let header = made.signed.clone();
        self.world.meter = Meter::of(nodes);
        self.world.seed(SEED, made);
        ask(&mut self.world, SEED, Operation::Register { header });
        // A rollout is timed to the millisecond, and there is little to do at once in it.
        self.world.queue.tick = (!self.full).then_some(TICK);
        let took = self.until("the release is everywhere", Self::is_everywhere)?.as_secs_f64();
        self.world.queue.tick = None;
        let bytes = CHUNKS as f64 * f64::from(CHUNK_BYTES);
        let link = LINK_BYTES_PER_MS as f64 * 1_000.0;
        // The links are alike, so that the receivers together are no narrower than one of them.
        let bound = bytes / link;
        Ok(Measures {
            nodes,
            distribution_s: took,
            over_bound: took / bound,
            frames_per_node: self.world.meter.sent_by_all() as f64 / nodes as f64,
            ..Measures::default()
        })
    }

    fn roll_out(mut self, spread: Measures) -> Result<Measures, String> {
        let nodes = spread.nodes;
        self.world.meter = Meter::of(nodes);
        ask(&mut self.world, SEED, deploy_of(self.release));
        let took = self.until("the rollout is done", Self::is_done)?.as_secs_f64();
        let fleet = self.peer().map(|peer| peer.fleet().clone()).unwrap_or_default();
        let limit = fleet.groups().get(&group()).map(|group| fleet.limit(group));
        let cap = limit.and_then(Result::ok).unwrap_or_default().max(1);
        let Talk { sent, heard } = self.world.meter.of_host(self.leader);
        let all = self.world.meter.sent_by_all() + self.world.meter.heard_by_all();
        let others = all - sent.frames - heard.frames;
        let most_down = self.world.judge.most_down;
        let virtual_s = self.world.now.since(Instant::ZERO).as_secs_f64();
        let mut restarts: Vec<_> =
            self.world.judge.restarts.into_closed().iter().map(|it| it.took()).collect();
        restarts.sort();
        let median = restarts.get(restarts.len() / 2).map_or(0.0, Duration::as_secs_f64);
        let rounds = nodes.div_ceil(cap as usize) as f64;
        Ok(Measures {
            cap,
            rollout_s: took,
            over_restarts: took / (rounds * median),
            leader_frames_per_s: (sent.frames + heard.frames) as f64 / took,
            leader_bytes_per_s: (sent.bytes + heard.bytes) as f64 / took,
            node_frames_per_s: others as f64 / (nodes - 1) as f64 / took,
            most_down,
            virtual_s,
            ..spread
        })
    }
}
