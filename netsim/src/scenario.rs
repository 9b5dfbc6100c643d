//! What a run does: a mesh is founded, a first release installed, others rolled out under faults, and
//! then all must come to an end.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use baton_protocol::fleet::Fleet;
use baton_protocol::fleet::command::{Order, PolicyChange};
use baton_protocol::fleet::group::Standing;
use baton_protocol::fleet::rollout::Phase;
use baton_protocol::id::{NodeId, NodeName, ReleaseId, RolloutId};
use baton_protocol::mutant::{self, Mutant};
use baton_protocol::peer::Operation;
use baton_protocol::rng::Rng;
use baton_protocol::time::Instant;

use crate::balancer::Traits;
use crate::chronicle::Chronicle;
use crate::event::{Event, Host};
use crate::fault::Fault;
use crate::mesh::{group, name};
use crate::picture::draw;
use crate::plan::{Item, Plan};
use crate::restarts::Restart;
use crate::rig::Rig;
use crate::service::Process;
use crate::shape::Shape;
use crate::store::Temper;
use crate::story::{End, Story};
use crate::tally::{Tally, count};
use crate::world::{World, panic_text};

/// How often the scenario looks at its world.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long founding and joining may take after the last fault: a dead voter is replaced after 30 s,
/// and three may be, each with a pause of 30 s and more to the one before.
const JOIN_WITHIN: Duration = Duration::from_secs(240);

/// How long what the last fault left may take to mend: as [`JOIN_WITHIN`], and a failed permit's way
/// through drain (31 s), stop, start (20 s) and proof (10 s).
const MEND_WITHIN: Duration = Duration::from_secs(300);

/// How long one restart may take: drain 4 s, stop 2 s, start 5 s, proof 10 s, and a second for its
/// permit and its `Begin`.
const RESTART_WITHIN: Duration = Duration::from_secs(22);

/// How long all nodes may take, after the last rollout, to have the whole log and to serve.
const SETTLE_WITHIN: Duration = Duration::from_secs(90);

/// Pause between two looks of the people at what is to be mended.
const MEND_EVERY: Duration = Duration::from_secs(5);

/// Times that people resume one rollout that paused by itself, before they give it up.
const RESUMES_MAX: u32 = 5;

/// Events after which a run is taken for endless.
const EVENTS_MAX: u64 = 30_000_000;

/// How long a run with faults lasts at least.
const LENGTH: Duration = Duration::from_secs(600);

/// Until when another round of faults begins: one takes some three minutes until all is well again.
const ROUNDS_UNTIL: Duration = Duration::from_secs(420);

/// How a run is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Hosts; the first one founds.
    pub hosts: usize,
    /// Whether anything fails.
    pub faults: bool,
    /// The mistake to make on purpose.
    pub mutant: Option<Mutant>,
    /// Items of the plan of faults that are left out.
    pub without: BTreeSet<Item>,
    /// What is done instead of what the seed would draw.
    pub story: Option<Arc<Story>>,
    /// Draw a picture.
    pub picture: bool,
    /// Print what happens.
    pub loud: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hosts: 20,
            faults: true,
            mutant: None,
            without: BTreeSet::new(),
            story: None,
            picture: false,
            loud: false,
        }
    }
}

impl Options {
    /// A run of a scenario that somebody wrote.
    pub fn of(story: Story) -> Self {
        Self { hosts: story.hosts, story: Some(Arc::new(story)), ..Self::default() }
    }

    fn title(&self, seed: u64) -> String {
        let about = self.story.as_ref().map(|story| story.about.clone());
        about.unwrap_or_else(|| format!("seed {seed}"))
    }
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The hash over all that happened.
    pub trace: String,
    /// Virtual time until everybody was in.
    pub joined: Duration,
    /// Virtual time of the first rollout, and of all later ones together.
    pub rollouts: [Duration; 2],
    /// The permits that were granted and closed, in the order in which they were closed.
    pub restarts: Vec<Restart>,
    /// What the run was put through, and what came of it.
    pub tally: Tally,
    /// The picture, as SVG, if one was wanted.
    pub picture: Option<String>,
}

/// A property did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// How it was run.
    pub options: Box<Options>,
    /// What did not hold.
    pub reason: String,
    /// The last of what happened to those concerned, and to all.
    pub tail: Vec<String>,
    /// The plan of faults.
    pub plan: Vec<(Item, String)>,
    /// The picture, as SVG, if one was wanted.
    pub picture: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Joining,
    First,
    Later,
    Settling,
    Over,
}

struct Director {
    options: Options,
    shape: Shape,
    plan: Plan,
    stage: Stage,
    since: Instant,
    /// What is to be rolled out, oldest first.
    releases: Vec<ReleaseId>,
    sequence: u64,
    /// How often people have resumed a rollout that had paused by itself.
    resumed: (RolloutId, u32),
    /// Who came back from quarantine since the last rollouts began, and so may run an older release.
    returned: BTreeSet<Host>,
    joined: Duration,
    rollouts: [Duration; 2],
    mended_at: Instant,
}

/// Runs one seed.
///
/// # Errors
/// A property did not hold, or the run did not end.
pub fn run(seed: u64, options: &Options) -> Result<Summary, Failure> {
    mutant::set(options.mutant);
    let outcome = catch_unwind(AssertUnwindSafe(|| run_to_end(seed, options)));
    mutant::set(None);
    outcome.unwrap_or_else(|panic| {
        let reason = format!("the simulator panics: {}", panic_text(panic.as_ref()));
        let (options, tail, plan) = (Box::new(options.clone()), Vec::new(), Vec::new());
        Err(Failure { seed, options, reason, tail, plan, picture: None })
    })
}

fn run_to_end(seed: u64, options: &Options) -> Result<Summary, Failure> {
    let mut rng = Rng::new(seed);
    let plan = Plan::new(rng.fork(), options.hosts, options.without.clone());
    let mut shape = match &options.story {
        Some(story) => story.shape(),
        None if options.faults => Shape::drawn(options.hosts, &mut rng),
        None => Shape::calm(options.hosts),
    };
    if options.faults && options.story.is_none() {
        shape.balancer = Traits::drawn(seed, &shape);
    }
    let mut world = World::new(rng, &shape, options.loud);
    world.chronicle = options.picture.then(Chronicle::default);
    world.note(&format!("seed {seed}: {shape:?}"));
    let mut director = Director::new(options.clone(), shape, plan);
    director.open(&mut world);
    while director.stage != Stage::Over && world.judge.broken().is_none() {
        let Some(event) = world.pop() else { break };
        if matches!(event, Event::Director) {
            director.look(&mut world);
        } else {
            world.happen(event);
        }
        if world.trace.events() > EVENTS_MAX {
            world.judge.fail("progress: the run does not end");
        }
    }
    let picture = world.chronicle.take().map(|it| draw(&it, &options.title(seed)));
    match world.judge.broken() {
        Some(reason) => {
            let (reason, tail) = (reason.to_owned(), world.trace.tail(reason));
            let (plan, options) = (director.plan.items, Box::new(options.clone()));
            Err(Failure { seed, options, reason, tail, plan, picture })
        }
        None => Ok(Summary { picture, ..director.summary(world) }),
    }
}

impl Director {
    fn new(options: Options, shape: Shape, plan: Plan) -> Self {
        Self {
            options,
            plan,
            shape,
            stage: Stage::Joining,
            since: Instant::ZERO,
            releases: Vec::new(),
            sequence: 0,
            resumed: (RolloutId::default(), 0),
            returned: BTreeSet::new(),
            joined: Duration::ZERO,
            rollouts: [Duration::ZERO; 2],
            mended_at: Instant::ZERO,
        }
    }

    fn summary(self, world: World) -> Summary {
        let tally = Tally {
            seeds: 1,
            events: world.trace.events(),
            time: world.now.since(Instant::ZERO),
            permits: world.judge.restarts.granted(),
            rollouts: ends(world.judge.newest()),
            ..world.tally
        };
        let (trace, restarts) = (world.trace.hash(), world.judge.restarts.into_closed());
        let (joined, rollouts) = (self.joined, self.rollouts);
        Summary { trace, joined, rollouts, restarts, tally, picture: None }
    }

    fn open(&mut self, world: &mut World) {
        for host in 0..self.options.hosts {
            let delay = world.within(Duration::from_secs(3));
            let delay = if host == 0 { Duration::ZERO } else { delay };
            world.after(delay, Event::Restart { host });
        }
        if self.shape.early_faults {
            self.plan.early(world, Duration::from_secs(25));
        }
        world.after(LOOK_EVERY, Event::Director);
        world.balance();
    }

    fn look(&mut self, world: &mut World) {
        world.after(LOOK_EVERY, Event::Director);
        if let Some(mut chronicle) = world.chronicle.take() {
            chronicle.look(world);
            world.chronicle = Some(chronicle);
        }
        if world.now > self.plan.last {
            self.mend(world);
        }
        match self.stage {
            Stage::Joining => self.joining(world),
            Stage::First => self.first(world),
            Stage::Later => self.later(world),
            Stage::Settling => self.settling(world),
            Stage::Over => {}
        }
    }

    fn go_on(&mut self, world: &World, stage: Stage) {
        self.stage = stage;
        self.since = world.now;
    }

    /// Liveness: this stage is over within a bound, from its begin or from the last fault.
    fn overdue(&self, world: &mut World, within: Duration) {
        if world.now.since(self.plan.last.max(self.since)) <= within {
            return;
        }
        let fleet = world.judge.newest();
        let group = fleet.groups().get(&group());
        let text = format!(
            "progress: {:?} is not over after {within:?}: {} members, {} in the group, {} counted, {} \
             voters, permits {:?}, rollout {:?}",
            self.stage,
            fleet.members().len(),
            group.map_or(0, |it| it.members.len()),
            group.map_or(0, |it| it.counted().count()),
            fleet.voters().voters.len(),
            fleet.permits().values().collect::<Vec<_>>(),
            group.and_then(|it| it.rollouts.last()),
        );
        world.judge.fail(&text);
    }

    /// What so many rollouts may take: in each of them each member restarts twice, forward and back, as
    /// many at once as the cap allows.
    fn rollouts_within(&self, world: &World, count: usize) -> Duration {
        let rounds = self.options.hosts.div_ceil(world.judge.limit().max(1) as usize) * count;
        MEND_WITHIN + RESTART_WITHIN * 2 * u32::try_from(rounds).unwrap_or(u32::MAX)
    }

    fn joining(&mut self, world: &mut World) {
        self.overdue(world, JOIN_WITHIN);
        let fleet = world.judge.newest();
        let in_group = fleet.groups().get(&group()).map_or(0, |it| it.members.len());
        let wanted = if self.shape.hosts >= 7 { 5 } else { 3.min(self.shape.hosts) };
        let voters = fleet.voters();
        let settled = voters.voters.len() >= wanted && !voters.is_joint();
        let all = fleet.members().len() >= self.shape.hosts && in_group >= self.shape.servers();
        if !all || !settled {
            return;
        }
        self.joined = world.now.since(Instant::ZERO);
        world.note("all are in");
        ask(world, 0, set_group(self.shape.policy.clone()));
        self.deploy(world, Temper::Good);
        self.go_on(world, Stage::First);
        if self.shape.early_faults {
            self.plan.early(world, Duration::from_secs(20));
        }
        if self.shape.restarted_first {
            self.restart_first(world);
        }
    }

    /// Half way through its first rollout the group is given another release.
    fn restart_first(&mut self, world: &mut World) {
        let at = Duration::from_secs(3) + world.within(Duration::from_secs(14));
        let (host, group, person) = (self.anybody(world), group(), "ann".to_owned());
        let operation = Box::new(Operation::Steer { group, order: Order::Abort, person });
        world.after(at, Event::Operate { host, operation, tries: 0 });
        let release = self.deploy(world, Temper::Good);
        let at = at + world.within(Duration::from_secs(2));
        let operation = Box::new(deploy_of(release));
        world.after(at, Event::Operate { host, operation, tries: 0 });
        self.releases.remove(0);
    }

    fn anybody(&self, world: &mut World) -> Host {
        let alive = world.alive();
        world.rng.pick(&alive).copied().unwrap_or_default()
    }

    /// Seeds the next release somewhere, and has it rolled out a little later.
    fn deploy(&mut self, world: &mut World, temper: Temper) -> ReleaseId {
        let host = self.anybody(world);
        let mut rng = world.rng.fork();
        self.sequence += 1;
        let made = world.mesh.release(self.sequence, temper, &mut rng);
        let (release, header) = (made.signed.id(), made.signed.clone());
        world.seed(host, made);
        ask(world, host, Operation::Register { header });
        let operation = Box::new(deploy_of(release));
        world.after(Duration::from_secs(3), Event::Operate { host, operation, tries: 0 });
        self.releases.push(release);
        release
    }

    fn first(&mut self, world: &mut World) {
        self.overdue(world, self.rollouts_within(world, 1));
        let wanted = self.releases.last().copied();
        let fleet = world.judge.newest();
        let Some(group) = fleet.groups().get(&group()) else { return };
        let done = group.rollouts.last().is_some_and(|it| it.phase == Phase::Done)
            && group.stable == wanted;
        if !done {
            return self.press(world);
        }
        if group.counted().count() < self.shape.servers() {
            return;
        }
        self.rollouts[0] = world.now.since(self.since);
        world.note("the first release runs everywhere");
        self.plan.last = self.plan.last.max(world.now);
        self.round(world);
    }

    /// One or two releases, and faults while they are rolled out.
    fn round(&mut self, world: &mut World) {
        self.releases.clear();
        self.returned.clear();
        self.go_on(world, Stage::Later);
        if let Some(story) = self.options.story.clone() {
            return self.follow(world, &story);
        }
        let calm = || vec![Temper::Good];
        let releases = if self.options.faults { self.plan.releases() } else { calm() };
        for temper in releases {
            self.deploy(world, temper);
        }
        if self.options.faults {
            let deploys = self.releases.iter().map(|release| Fault::Deploy { release: *release });
            let deploys: Vec<_> = deploys.collect();
            self.plan.rollout(world, &deploys);
        }
    }

    fn follow(&mut self, world: &mut World, story: &Story) {
        for temper in &story.releases {
            self.deploy(world, *temper);
        }
        for planned in &story.faults {
            self.plan.add(world, planned.at, planned.fault.clone());
        }
    }

    fn later(&mut self, world: &mut World) {
        self.overdue(world, self.rollouts_within(world, self.releases.len()));
        if world.now <= self.plan.last || !self.is_mended(world) {
            return;
        }
        if let Some(wanted) = self.outstanding(world) {
            return self.press_for(world, wanted);
        }
        self.rollouts[1] += world.now.since(self.since);
        world.note("all rollouts are over");
        if self.is_drawn() && world.now.since(Instant::ZERO) < ROUNDS_UNTIL {
            return self.round(world);
        }
        self.go_on(world, Stage::Settling);
    }

    /// The oldest release that was neither rolled out to an end nor overtaken by a newer one; also
    /// the one of a rollout that is under way.
    fn outstanding(&self, world: &World) -> Option<ReleaseId> {
        let group = world.judge.newest().groups().get(&group())?;
        if let Some(active) = group.active() {
            return Some(active.release);
        }
        let over = |id: &ReleaseId| {
            let tried = group.rollouts.iter().any(|it| it.release == *id);
            let header = world.catalog.get(id).and_then(|made| made.signed.header().ok());
            tried || header.is_none_or(|it| group.sequence.is_some_and(|last| it.sequence <= last))
        };
        self.releases.iter().copied().find(|id| !over(id))
    }

    // --- the people's part ------------------------------------------------------------------------

    /// The people want the newest release.
    fn press(&mut self, world: &mut World) {
        if world.now > self.plan.last
            && let Some(release) = self.releases.last().copied()
        {
            self.press_for(world, release);
        }
    }

    /// Asks again for a rollout that was refused, as something had changed meanwhile, and resumes one
    /// that has paused.
    fn press_for(&mut self, world: &mut World, release: ReleaseId) {
        if world.now != self.mended_at {
            return;
        }
        let host = self.anybody(world);
        let active = world.judge.newest().groups().get(&group()).and_then(|it| it.active());
        match active.map(|active| (active.id, active.phase.clone())) {
            None => {
                let made = world.catalog.get(&release).map(|made| made.signed.clone());
                if let Some(header) = made {
                    ask(world, host, Operation::Register { header });
                }
                ask(world, host, deploy_of(release));
            }
            Some((id, Phase::Paused { .. })) => {
                let order = self.resume_or_abort(world, id, release);
                let (group, person) = (group(), "ann".to_owned());
                ask(world, host, Operation::Steer { group, order, person });
            }
            Some(_) => {}
        }
    }

    /// Liveness: people give a rollout up in the end, and that of a release that is good they need not.
    fn resume_or_abort(&mut self, world: &mut World, id: RolloutId, release: ReleaseId) -> Order {
        if self.resumed.0 != id {
            self.resumed = (id, 0);
        }
        self.resumed.1 += 1;
        if !self.resumed.1.is_multiple_of(RESUMES_MAX) {
            return Order::Resume;
        }
        let made = world.catalog.get(&release);
        if made.is_some_and(|made| made.temper == Temper::Good) {
            let rollout = world.judge.newest().groups().get(&group()).and_then(|it| it.active());
            let text = format!("progress: a good release pauses time and again: {rollout:?}");
            world.judge.fail(&text);
        }
        Order::Abort
    }

    /// After the faults: starts what is down, powers off and removes what is lost, and puts back what
    /// is in quarantine.
    fn mend(&mut self, world: &mut World) {
        if world.now.since(self.mended_at) < MEND_EVERY {
            return;
        }
        self.mended_at = world.now;
        world.traps.clear();
        for host in 0..self.options.hosts {
            world.start(host);
        }
        self.clear_away(world);
        for host in 0..self.options.hosts {
            self.put_back(world, host);
        }
    }

    /// A node that is gone, or that somebody has removed: its machine is powered off, which its
    /// permit's override says, and the node is out of the mesh. Some machines come back as new nodes.
    fn clear_away(&self, world: &mut World) {
        for host in 0..self.options.hosts {
            let node = world.hosts[host].config.node;
            let removed = world.judge.newest().removed().contains_key(&node);
            let (odd, known) = (host % 2 == 1, world.gone.contains_key(&node));
            let outlived = self.is_outlived(world, host);
            if (removed && !known && odd) || outlived {
                world.wipe(host, Duration::from_secs(1));
            } else if removed && !known {
                world.lose(host);
            }
        }
        for (node, name) in world.gone.clone() {
            self.fence(world, node, name);
        }
    }

    /// Whether the disk of a host was put back so far that the mesh takes it for another life.
    fn is_outlived(&self, world: &World, host: Host) -> bool {
        let rig = &world.hosts[host];
        let known = world.judge.newest().members().get(&rig.config.node).map(|it| it.incarnation);
        let own = rig.peer.as_ref().map(|it| it.agent().report(rig.local(world.now)).incarnation);
        rig.restored && own.is_some() && own < known
    }

    fn fence(&self, world: &mut World, node: NodeId, name: NodeName) {
        let asked = self.anybody(world);
        let person = "ann".to_owned();
        let fleet = world.judge.newest();
        let permit = fleet.permit_of(node).map(|permit| permit.id);
        let member = fleet.members().contains_key(&node);
        // Some remove first, and some override first.
        let remove_first = node.0[0].is_multiple_of(2);
        if member && (permit.is_none() || remove_first) {
            ask(world, asked, Operation::Remove { node: name, person: person.clone() });
        }
        if let Some(permit) = permit.filter(|_| !member || !remove_first) {
            let reason = "powered off".to_owned();
            ask(world, asked, Operation::Override { permit, fenced: true, reason, person });
        }
    }

    fn put_back(&mut self, world: &mut World, host: Host) {
        let node = world.hosts[host].config.node;
        let group_now = world.judge.newest().groups().get(&group());
        let member = group_now.and_then(|it| it.members.get(&node));
        if member.is_some_and(|it| it.standing == Standing::Quarantined) {
            self.returned.insert(host);
            let (node, asked) = (world.hosts[host].config.name.clone(), self.anybody(world));
            let (group, person) = (group(), "ann".to_owned());
            ask(world, asked, Operation::Quarantine { group, node, on: false, person });
        }
    }

    fn is_mended(&self, world: &World) -> bool {
        let fleet = world.judge.newest();
        let left =
            |node: &NodeId| fleet.members().contains_key(node) || fleet.permit_of(*node).is_some();
        !world.gone.keys().any(left)
    }

    // --- the end ------------------------------------------------------------------------------------

    /// Whether the seed decides what fails.
    fn is_drawn(&self) -> bool {
        self.options.faults && self.options.story.is_none()
    }

    fn settling(&mut self, world: &mut World) {
        let Some(reason) = self.unsettled(world) else {
            // What is settled may not come apart by itself.
            if self.is_drawn() && world.now.since(Instant::ZERO) < LENGTH {
                return self.go_on(world, Stage::Settling);
            }
            self.stage = Stage::Over;
            return self.compare(world);
        };
        if world.now.since(self.since) > SETTLE_WITHIN {
            let text = format!("progress: not settled after {SETTLE_WITHIN:?}: {reason}");
            world.judge.fail(&text);
        }
    }
}

impl Director {
    /// Liveness after the last rollout: no permit stays open, every node that is there has the whole log,
    /// and every server counts and serves what it is to serve.
    fn unsettled(&self, world: &World) -> Option<String> {
        let fleet = world.judge.newest();
        if let Some(permit) = fleet.permits().values().next() {
            return Some(format!("a permit is open: {permit:?}"));
        }
        let last = fleet.groups().get(&group()).and_then(|group| group.rollouts.last());
        let ended = last.map(|rollout| &rollout.phase);
        let even = matches!(ended, Some(Phase::Done | Phase::RolledBack { .. }));
        (0..).zip(&world.hosts).filter(|(_, rig)| !rig.lost).find_map(|(host, rig)| {
            let applied = rig.peer.as_ref().map(|peer| peer.fleet().applied());
            if applied != Some(fleet.applied()) {
                return Some(format!("host {host} is at entry {applied:?} of {}", fleet.applied()));
            }
            let same = even && !self.returned.contains(&host);
            if self.shape.is_witness(host) { None } else { unserved(fleet, host, rig, same) }
        })
    }

    /// Whether a scenario ended as it must.
    fn compare(&self, world: &mut World) {
        let group = world.judge.newest().groups().get(&group());
        let last = group.and_then(|it| it.rollouts.last()).map(|it| End::of(&it.phase));
        let Some(story) = &self.options.story else { return };
        if last != Some(story.ends) {
            let text = format!("scenario: must end {:?}, and ends {last:?}", story.ends);
            world.judge.fail(&text);
        }
        // It would not show what it says.
        if !world.tally.in_vain.is_empty() {
            let text = format!("scenario: nobody feels some faults: {:?}", world.tally.in_vain);
            world.judge.fail(&text);
        }
    }
}

/// How the rollouts that the log remembers ended.
fn ends(fleet: &Fleet) -> BTreeMap<&'static str, u64> {
    let mut ends = BTreeMap::new();
    for rollout in fleet.groups().values().flat_map(|group| &group.rollouts) {
        count(&mut ends, End::of(&rollout.phase).name());
    }
    ends
}

/// Why a server does not serve what it is to serve: what the log says that it runs, and, where it must be
/// the `same`, what the group runs.
fn unserved(fleet: &Fleet, host: Host, rig: &Rig, same: bool) -> Option<String> {
    let group = fleet.groups().get(&group())?;
    let member = group.members.get(&rig.config.node).filter(|it| it.standing == Standing::Counted);
    let Some(member) = member else {
        let standing = group.members.get(&rig.config.node).map(|it| it.standing);
        return Some(format!("host {host} is a server and {standing:?} in its group"));
    };
    let running = match rig.service.process {
        Process::Running { release, ready: true } => Some(release),
        _ => None,
    };
    let right = running == member.running && (!same || running == group.stable);
    (!rig.service.serves() || !right).then(|| {
        format!(
            "host {host} has {:?}, drained {}, and the log says {:?} of it and {:?} of the group",
            rig.service.process, rig.service.drained, member.running, group.stable
        )
    })
}

fn ask(world: &mut World, host: Host, operation: Operation) {
    let event = Event::Operate { host, operation: Box::new(operation), tries: 0 };
    world.after(Duration::from_millis(1), event);
}

fn set_group(change: PolicyChange) -> Operation {
    Operation::SetGroup { group: group(), change, person: "ann".to_owned() }
}

fn deploy_of(release: ReleaseId) -> Operation {
    Operation::Deploy { group: name("web"), release, back: false, person: "ann".to_owned() }
}
