//! What a run does: a mesh is founded, a first release installed, others rolled out under faults, and
//! then all must come to an end.

use core::time::Duration;
use std::collections::BTreeSet;

use baton_protocol::fleet::command::Order;
use baton_protocol::fleet::rollout::Phase;
use baton_protocol::id::{ReleaseId, RolloutId};
use baton_protocol::peer::Operation;
use baton_protocol::time::Instant;

use crate::event::{Event, Host};
use crate::fault::Fault;
use crate::mesh::group;
use crate::people::{ask, deploy_of, set_group};
use crate::plan::Plan;
use crate::run::{Options, Summary};
use crate::settled::ends;
use crate::shape::Shape;
use crate::store::Temper;
use crate::story::Story;
use crate::tally::Tally;
use crate::world::World;

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

/// How long a run with faults lasts at least.
const LENGTH: Duration = Duration::from_secs(600);

/// Until when another round of faults begins: one takes some three minutes until all is well again.
const ROUNDS_UNTIL: Duration = Duration::from_secs(420);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Joining,
    First,
    Later,
    Settling,
    Over,
}

/// Who goes through a run's stages.
pub(crate) struct Director {
    pub(crate) options: Options,
    pub(crate) shape: Shape,
    pub(crate) plan: Plan,
    pub(crate) stage: Stage,
    since: Instant,
    /// What is to be rolled out, oldest first.
    pub(crate) releases: Vec<ReleaseId>,
    sequence: u64,
    /// How often people have resumed a rollout that had paused by itself.
    pub(crate) resumed: (RolloutId, u32),
    /// Who came back from quarantine since the last rollouts began, and so may run an older release.
    pub(crate) returned: BTreeSet<Host>,
    joined: Duration,
    rollouts: [Duration; 2],
    pub(crate) mended_at: Instant,
}

impl Director {
    pub(crate) fn new(options: Options, shape: Shape, plan: Plan) -> Self {
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

    pub(crate) fn summary(self, world: World) -> Summary {
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

    pub(crate) fn open(&mut self, world: &mut World) {
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

    pub(crate) fn look(&mut self, world: &mut World) {
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

    pub(crate) fn anybody(&self, world: &mut World) -> Host {
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
    pub(crate) fn outstanding(&self, world: &World) -> Option<ReleaseId> {
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
