//! What a run does: a mesh is founded, v1 installed, v2 rolled out under faults, and then all must
//! come to an end.

use core::time::Duration;

use baton_protocol::fleet::command::{Order, PolicyChange};
use baton_protocol::fleet::policy::Cap;
use baton_protocol::fleet::rollout::{Phase, Rollout};
use baton_protocol::id::{PermitId, ReleaseId};
use baton_protocol::mutant::{self, Mutant};
use baton_protocol::peer::Operation;
use baton_protocol::time::Instant;

use crate::event::{Event, Host};
use crate::mesh::{group, name};
use crate::store::Temper;
use crate::world::World;

/// How often the scenario looks at its world.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long founding, joining and v1 may take, without faults.
const CALM_WITHIN: Duration = Duration::from_secs(180);

/// How long after the last fault everything may take to end.
const END_WITHIN: Duration = Duration::from_secs(400);

/// Events after which a run is taken for endless.
const EVENTS_MAX: u64 = 30_000_000;

/// How a run is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Hosts; the first one founds.
    pub hosts: usize,
    /// Whether anything fails.
    pub faults: bool,
    /// The mistake to make on purpose.
    pub mutant: Option<Mutant>,
    /// Print what happens.
    pub loud: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { hosts: 20, faults: true, mutant: None, loud: false }
    }
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The hash over all that happened.
    pub trace: String,
    /// Inputs that daemons took, and the like.
    pub events: u64,
    /// Virtual time of the whole run.
    pub time: Duration,
    /// Virtual time until everybody was in.
    pub joined: Duration,
    /// Virtual time of the rollout of v1, and of v2.
    pub rollouts: [Duration; 2],
    /// Permits that were granted.
    pub permits: u64,
    /// How v2 ended.
    pub end: String,
}

/// A property did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What did not hold.
    pub reason: String,
    /// The last of what happened.
    pub tail: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Joining,
    First,
    Second,
    Over,
}

struct Director {
    options: Options,
    stage: Stage,
    since: Instant,
    v2: Option<ReleaseId>,
    last_fault: Instant,
    lost: Option<Host>,
    removed: bool,
    overridden: Option<PermitId>,
    resumed: u32,
    joined: Duration,
    rollouts: [Duration; 2],
    asked_at: Instant,
    end: String,
}

/// Runs one seed.
///
/// # Errors
/// A property did not hold, or the run did not end.
pub fn run(seed: u64, options: Options) -> Result<Summary, Failure> {
    mutant::set(options.mutant);
    let mut world = World::new(seed, options.hosts, options.loud);
    let mut director = Director::new(options);
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
    mutant::set(None);
    match world.judge.broken() {
        Some(reason) => Err(Failure { seed, reason: reason.to_owned(), tail: world.trace.tail() }),
        None => Ok(director.summary(&world)),
    }
}

impl Director {
    fn new(options: Options) -> Self {
        Self {
            options,
            stage: Stage::Joining,
            since: Instant::ZERO,
            v2: None,
            last_fault: Instant::ZERO,
            lost: None,
            removed: false,
            overridden: None,
            resumed: 0,
            joined: Duration::ZERO,
            rollouts: [Duration::ZERO; 2],
            asked_at: Instant::ZERO,
            end: String::new(),
        }
    }

    fn summary(self, world: &World) -> Summary {
        Summary {
            trace: world.trace.hash(),
            events: world.trace.events(),
            time: world.now.since(Instant::ZERO),
            joined: self.joined,
            rollouts: self.rollouts,
            permits: world.judge.granted,
            end: self.end,
        }
    }

    fn open(&self, world: &mut World) {
        for host in 0..self.options.hosts {
            let delay = world.within(Duration::from_secs(3));
            let delay = if host == 0 { Duration::ZERO } else { delay };
            world.after(delay, Event::Restart { host });
        }
        world.after(LOOK_EVERY, Event::Director);
    }

    fn look(&mut self, world: &mut World) {
        world.after(LOOK_EVERY, Event::Director);
        match self.stage {
            Stage::Joining => self.joining(world),
            Stage::First => self.first(world),
            Stage::Second => self.second(world),
            Stage::Over => {}
        }
    }

    fn go_on(&mut self, world: &World, stage: Stage) {
        self.stage = stage;
        self.since = world.now;
    }

    fn overdue(&self, world: &mut World, within: Duration, since: Instant) {
        if world.now.since(since) > within {
            let fleet = world.judge.newest();
            let group = fleet.groups().get(&group());
            let text = format!(
                "progress: {:?} is not over after {within:?}: {} members, {} in the group, {} \
                 counted, {} voters, permits {:?}, rollout {:?}",
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
    }

    fn joining(&mut self, world: &mut World) {
        self.overdue(world, CALM_WITHIN, Instant::ZERO);
        let hosts = self.options.hosts;
        let fleet = world.judge.newest();
        let in_group = fleet.groups().get(&group()).map_or(0, |it| it.members.len());
        let wanted = if hosts >= 7 { 5 } else { 3.min(hosts) };
        let voters = fleet.voters();
        let settled = voters.voters.len() == wanted && !voters.is_joint();
        if fleet.members().len() < hosts || in_group < hosts || !settled {
            return;
        }
        self.joined = world.now.since(Instant::ZERO);
        world.note("all are in");
        let cap = Cap { percent: Some(10), ..Cap::default() };
        ask(world, 0, policy(cap));
        let host = self.anybody(world);
        self.deploy(world, host, 1, Temper::Good);
        self.go_on(world, Stage::First);
    }

    fn anybody(&self, world: &mut World) -> Host {
        let alive = world.alive();
        world.rng.pick(&alive).copied().unwrap_or_default()
    }

    fn deploy(&mut self, world: &mut World, host: Host, version: u64, temper: Temper) -> ReleaseId {
        let mut rng = world.rng.fork();
        let made = world.mesh.release(version, temper, &mut rng);
        let (release, header) = (made.signed.id(), made.signed.clone());
        world.seed(host, made);
        ask(world, host, Operation::Register { header });
        let operation = deploy_of(release);
        world.after(
            Duration::from_secs(3),
            Event::Operate { host, operation: Box::new(operation), tries: 0 },
        );
        release
    }

    fn first(&mut self, world: &mut World) {
        self.overdue(world, CALM_WITHIN, self.since);
        let fleet = world.judge.newest();
        let Some(group) = fleet.groups().get(&group()) else { return };
        let done = group.rollouts.last().is_some_and(|it| it.phase == Phase::Done);
        if !done || group.counted().count() < self.options.hosts {
            return;
        }
        self.rollouts[0] = world.now.since(self.since);
        world.note("v1 runs everywhere");
        self.go_on(world, Stage::Second);
        self.last_fault = world.now;
        let bad = self.options.faults && world.rng.chance(1, 4);
        let temper = match (bad, world.rng.chance(1, 2)) {
            (false, _) => Temper::Good,
            (true, true) => Temper::NeverReady,
            (true, false) => Temper::Dies,
        };
        let host = self.anybody(world);
        let release = self.deploy(world, host, 2, temper);
        self.v2 = Some(release);
        if self.options.faults {
            self.plan_faults(world, release);
        }
    }

    fn fault(&mut self, world: &mut World, at: Duration, event: Event) {
        let at = world.now.after(at);
        self.last_fault = self.last_fault.max(at);
        world.at(at, event);
    }

    fn plan_faults(&mut self, world: &mut World, release: ReleaseId) {
        let span = Duration::from_secs(60 + world.rng.below(90));
        for _ in 0..2 + world.rng.below(8) {
            let at = world.within(span);
            let for_how_long = Duration::from_millis(200) + world.within(Duration::from_secs(20));
            let host = self.anybody(world);
            match world.rng.below(17) {
                10..=11 => {
                    self.fault(world, at, Event::CrashHolder);
                    self.fault(world, at + Duration::from_secs(15), Event::Heal);
                }
                // A whole machine is away for long, service and all.
                13..=15 => {
                    let away = Duration::from_secs(10) + world.within(Duration::from_secs(50));
                    self.fault(world, at, Event::Crash { host });
                    self.fault(world, at, Event::ServiceDies { host });
                    self.fault(world, at + away, Event::Restart { host });
                }
                12 => {
                    let mut hosts: Vec<Host> = (0..self.options.hosts).collect();
                    world.rng.shuffle(&mut hosts);
                    hosts.truncate(1 + world.rng.below(self.options.hosts as u64) as usize);
                    self.fault(world, at, Event::PowerCut { hosts });
                    self.fault(world, at + Duration::from_secs(15), Event::Heal);
                }
                0..=3 => {
                    self.fault(world, at, Event::Crash { host });
                    self.fault(world, at + for_how_long, Event::Restart { host });
                }
                4 => {
                    self.fault(world, at, Event::CrashLeader);
                    self.fault(world, at + Duration::from_secs(15), Event::Heal);
                }
                5..=6 => {
                    let ways = self.partition(world);
                    self.fault(world, at, Event::Partition { ways });
                    self.fault(world, at + for_how_long, Event::Heal);
                }
                7..=8 => self.fault(world, at, Event::ServiceDies { host }),
                _ => self.meddle(world, at, host, release),
            }
        }
        if world.rng.chance(1, 4) {
            let (at, host) = (world.within(span), self.anybody(world));
            self.lost = Some(host);
            self.fault(world, at, Event::Lose { host });
        }
    }

    /// A person does something in the middle of it all.
    fn meddle(&mut self, world: &mut World, at: Duration, host: Host, release: ReleaseId) {
        let operation = if world.rng.chance(1, 2) {
            deploy_of(release)
        } else {
            let count = 1 + u32::try_from(world.rng.below(3)).unwrap_or_default();
            policy(Cap { count: Some(count), ..Cap::default() })
        };
        self.fault(world, at, Event::Operate { host, operation: Box::new(operation), tries: 0 });
    }

    /// Some hosts cannot hear some others, or neither side the other.
    fn partition(&self, world: &mut World) -> Vec<(Host, Host)> {
        let mut all: Vec<Host> = (0..self.options.hosts).collect();
        world.rng.shuffle(&mut all);
        let cut = 1 + world.rng.below(self.options.hosts as u64 / 2) as usize;
        let (some, others) = all.split_at(cut);
        let both = world.rng.chance(2, 3);
        let mut ways = Vec::new();
        for a in some {
            for b in others {
                ways.push((*a, *b));
                if both {
                    ways.push((*b, *a));
                }
            }
        }
        ways
    }

    fn second(&mut self, world: &mut World) {
        if world.now <= self.last_fault {
            return;
        }
        self.mend(world);
        self.overdue(world, END_WITHIN, self.last_fault.max(self.since));
        let fleet = world.judge.newest();
        let Some(last) = fleet.groups().get(&group()).and_then(|it| it.rollouts.last()) else {
            return;
        };
        if Some(last.release) != self.v2 {
            return self.ask_again(world);
        }
        let last = last.clone();
        if last.phase.is_over() && self.lost.is_none_or(|_| self.removed) {
            self.ended(world, &last);
        } else if matches!(last.phase, Phase::Paused { .. }) {
            self.paused(world, &last);
        }
    }

    /// The people's part after the faults: start what is down, remove what is lost.
    fn mend(&mut self, world: &mut World) {
        if world.now.since(self.asked_at) < Duration::from_secs(5) {
            return;
        }
        self.asked_at = world.now;
        for host in 0..self.options.hosts {
            world.start(host);
        }
        let Some(lost) = self.lost else { return };
        let node = world.hosts[lost].config.node;
        let host = self.anybody(world);
        let permit = world.judge.newest().permit_of(node).map(|permit| permit.id);
        if let Some(permit) = permit.filter(|permit| self.overridden != Some(*permit)) {
            self.overridden = Some(permit);
            let (reason, person) = ("powered off".to_owned(), "ann".to_owned());
            ask(world, host, Operation::Override { permit, fenced: true, reason, person });
        }
        self.removed = permit.is_none() && !world.judge.newest().members().contains_key(&node);
        if world.judge.newest().members().contains_key(&node) {
            let node = world.hosts[lost].config.name.clone();
            ask(world, host, Operation::Remove { node, person: "ann".to_owned() });
        }
    }

    /// The deploy was refused, as something had changed meanwhile.
    fn ask_again(&mut self, world: &mut World) {
        let (Some(release), true) = (self.v2, world.now == self.asked_at) else { return };
        let host = self.anybody(world);
        if let Some(made) = world.catalog.get(&release) {
            let header = made.signed.clone();
            ask(world, host, Operation::Register { header });
        }
        ask(world, host, deploy_of(release));
    }

    fn paused(&mut self, world: &mut World, last: &Rollout) {
        let early = world.now.since(self.asked_at) > Duration::ZERO;
        if early {
            return;
        }
        if self.resumed >= 5 {
            return self.ended(world, last);
        }
        self.resumed += 1;
        let host = self.anybody(world);
        let (group, person) = (group(), "ann".to_owned());
        ask(world, host, Operation::Steer { group, order: Order::Resume, person });
    }

    fn ended(&mut self, world: &mut World, last: &Rollout) {
        self.rollouts[1] = world.now.since(self.since);
        self.end = format!("{:?}", last.phase);
        self.end.truncate(60);
        world.note(&format!("v2 ended: {:?}", last.phase));
        self.stage = Stage::Over;
    }
}

fn ask(world: &mut World, host: Host, operation: Operation) {
    let event = Event::Operate { host, operation: Box::new(operation), tries: 0 };
    world.after(Duration::from_millis(1), event);
}

fn policy(cap: Cap) -> Operation {
    let change = PolicyChange { max_unavailable: Some(cap), ..PolicyChange::default() };
    Operation::SetGroup { group: group(), change, person: "ann".to_owned() }
}

fn deploy_of(release: ReleaseId) -> Operation {
    Operation::Deploy { group: name("web"), release, back: false, person: "ann".to_owned() }
}
