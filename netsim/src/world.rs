//! The queue of events and virtual time.

use core::any::Any;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use baton_protocol::agent::library::{StoreCommand, StoreEvent};
use baton_protocol::agent::unit::ServiceAction;
use baton_protocol::id::{NodeId, NodeName, ReleaseId, RequestId};
use baton_protocol::machine::Machine as _;
use baton_protocol::membership::Address;
use baton_protocol::mutant::{self, Mutant};
use baton_protocol::peer::{Answer, Failure, Input, Note, Operation, Output, Peer};
use baton_protocol::rng::Rng;
use baton_protocol::state::State;
use baton_protocol::time::{Instant, UnixTime};

use crate::balancer::Balancer;
use crate::bulk::Bulk;
use crate::chronicle::Chronicle;
use crate::event::{Event, Host, Step};
use crate::invariants::Judge;
use crate::link::Net;
use crate::mesh::{EPOCH, Mesh, address, group};
use crate::meter::Meter;
use crate::news::News;
use crate::queue::Queue;
use crate::rig::{Asked, Rig};
use crate::service::Follow;
use crate::shape::Shape;
use crate::store::{Catalog, Made, Temper};
use crate::tally::{Tally, count};
use crate::trace::Trace;
use crate::traps::Trap;

/// Pause between two probes of a service.
pub(crate) const PROBE_EVERY: Duration = Duration::from_millis(500);

/// How much later than others a slow service gets ready: within its deadline of 20 s still.
const SLOW_START: Duration = Duration::from_secs(10);

/// How long a service that wavers is ready before, and then is not, at most.
const WAVER_WITHIN: Duration = Duration::from_secs(4);

/// Tries of a person's request before the person gives up.
const TRIES_MAX: u32 = 40;

/// Everything.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) rng: Rng,
    pub(crate) mesh: Mesh,
    pub(crate) hosts: Vec<Rig>,
    pub(crate) names: HashMap<NodeId, Host>,
    pub(crate) addresses: HashMap<Address, Host>,
    pub(crate) net: Net,
    pub(crate) catalog: Catalog,
    pub(crate) trace: Trace,
    pub(crate) judge: Judge,
    pub(crate) traps: Vec<Trap>,
    pub(crate) balancer: Option<Balancer>,
    pub(crate) queue: Queue,
    pub(crate) bulk: Bulk,
    pub(crate) shape: Shape,
    /// Nodes that never come back.
    pub(crate) gone: BTreeMap<NodeId, NodeName>,
    /// Releases of which a disk was lost, or has rotted.
    pub(crate) touched: BTreeSet<ReleaseId>,
    pub(crate) tally: Tally,
    /// Where all hosts begin with the same one.
    pub(crate) state: Option<Arc<State>>,
    pub(crate) meter: Meter,
    /// For a picture.
    pub(crate) chronicle: Option<Chronicle>,
    /// What a host noted last: of a rollout's news one host's word is enough.
    said: String,
    spins: u32,
}

impl World {
    pub(crate) fn new(mut rng: Rng, shape: &Shape, loud: bool) -> Self {
        let mesh = Mesh::new(&mut rng);
        let rigs: Vec<_> = (0..shape.hosts)
            .map(|host| {
                let config = mesh.config(host, host == 0, shape, &mut rng);
                let mut rig = Rig::new(config, rng.below(1_000_000_000_000));
                rig.founds = host == 0;
                rig.drift_ppm = shape.drift_ppm.get(host).copied().unwrap_or_default();
                rig.wall_ahead = shape.wall_ahead.get(host).copied().unwrap_or_default();
                rig
            })
            .collect();
        let names = (0..).zip(&rigs).map(|(host, rig)| (rig.config.node, host)).collect();
        Self {
            now: Instant::ZERO,
            rng,
            mesh,
            hosts: rigs,
            names,
            addresses: (0..shape.hosts).map(|host| (address(host), host)).collect(),
            net: Net::new(shape.latency),
            catalog: Catalog::new(),
            trace: Trace::new(loud),
            judge: Judge::default(),
            traps: Vec::new(),
            balancer: shape.balancer.clone().map(Balancer::new),
            queue: Queue::default(),
            bulk: Bulk::default(),
            shape: shape.clone(),
            gone: BTreeMap::new(),
            touched: BTreeSet::new(),
            tally: Tally::default(),
            state: None,
            meter: Meter::default(),
            chronicle: None,
            said: String::new(),
            spins: 0,
        }
    }

    pub(crate) fn at(&mut self, at: Instant, event: Event) {
        self.queue.put(at.max(self.now), event);
    }

    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now.after(delay), event);
    }

    pub(crate) fn note(&mut self, text: &str) {
        self.trace.note(self.now, text);
    }

    /// The next event; `None` where nothing will ever happen again.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        let next = self.queue.take();
        self.reach(next)
    }

    /// The next event, if it happens at `end` or before.
    pub(crate) fn pop_until(&mut self, end: Instant) -> Option<Event> {
        let next = self.queue.take_until(end);
        self.reach(next)
    }

    fn reach(&mut self, next: Option<(Instant, Event)>) -> Option<Event> {
        let (at, event) = next?;
        self.go_to(at);
        Some(event)
    }

    /// It is `at` now.
    pub(crate) fn go_to(&mut self, at: Instant) {
        self.now = at;
        self.judge.now = at;
    }

    /// A random time up to `max`.
    pub(crate) fn within(&mut self, max: Duration) -> Duration {
        let micros = u64::try_from(max.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.rng.below(micros.max(1)))
    }

    /// What a step of a service takes, from `least` on.
    fn pace(&mut self, least: Duration, spread: Duration) -> Duration {
        let spread = spread / self.shape.brisk;
        least + if self.shape.even { spread / 2 } else { self.within(spread) }
    }

    pub(crate) fn alive(&self) -> Vec<Host> {
        (0..self.hosts.len()).filter(|host| self.hosts[*host].peer.is_some()).collect()
    }

    /// The daemon that leads, by its own account.
    pub(crate) fn leader(&self) -> Option<Host> {
        let leads = |host: &Host| self.hosts[*host].peer.as_ref().is_some_and(Peer::leads);
        (0..self.hosts.len()).find(leads)
    }

    // --- what happens --------------------------------------------------------------------------

    /// Lets an event happen. `Director` is the scenario's.
    pub(crate) fn happen(&mut self, event: Event) {
        let of_network = matches!(event, Event::Fault(_) | Event::Heal { .. } | Event::Clog { .. });
        self.let_happen(event);
        if of_network {
            self.note_ways();
        }
    }

    fn let_happen(&mut self, event: Event) {
        match event {
            Event::News(host, news) => {
                if let Some(input) = self.heard(host, news) {
                    self.feed(host, input);
                }
            }
            Event::Dialled { host, life, address } => self.dialled(host, life, address),
            Event::Cut { conn } => self.cut(conn),
            Event::KeepAlive { conn } if self.net.is_held(conn) => self.cut(conn),
            Event::Flow { version } if self.bulk.is_current(version) => self.flow(),
            Event::Corrupt { conn, from, to, object, index } => {
                self.corrupt(conn, [from, to], object, index);
            }
            Event::Service { host, process, step } => self.service_step(host, process, step),
            Event::Probe { host, life } => self.probe(host, life),
            Event::Fault(fault) => self.inflict(*fault),
            Event::Restart { host } => self.start(host),
            Event::Reborn { host } => self.reborn(host),
            Event::Restore { host, disk } => self.restore(host, *disk),
            Event::ClockRight { host, by_seconds } => self.hosts[host].wall_ahead -= by_seconds,
            Event::Over { host, spell } => self.over(host, spell),
            Event::Flap { host, left } => {
                self.flap(host, left);
            }
            Event::Flood { host, lie } => self.flood(host, lie),
            Event::Heal { ways } => self.heal(&ways),
            Event::Clog { way } => self.partition(&[way]),
            Event::Operate { host, operation, tries } => self.operate(host, *operation, tries),
            Event::Balancer => self.balance(),
            Event::KeepAlive { .. } | Event::Flow { .. } | Event::Director => {}
        }
    }

    /// Tells a daemon something, if it is in the same life still.
    pub(crate) fn tell(&mut self, host: Host, life: u64, input: Input) {
        if self.hosts[host].life == life {
            self.feed(host, input);
        }
    }

    /// Tells a daemon something, and does what it wants. The one place where a daemon is driven, but for
    /// large meshes on a calm day, see `together`.
    pub(crate) fn feed(&mut self, host: Host, input: Input) {
        if self.waits(host, &input) {
            return;
        }
        let rig = &mut self.hosts[host];
        let local = rig.local(self.now);
        let Some(peer) = &mut rig.peer else { return };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| peer.handle(local, input))) {
            rig.peer = None;
            let reason = panic_text(panic.as_ref());
            return self.judge.fail(&format!("host {host} panics: {reason}"));
        }
        self.judge.follow(self.now, &self.hosts, host);
        while let Some(output) = self.hosts[host].peer.as_mut().and_then(Peer::poll_output) {
            self.perform(host, output);
        }
        let wake = self.hosts[host].peer.as_ref().and_then(Peer::poll_timeout);
        self.plan_wake(host, wake);
        let Self { judge, hosts, now, trace, .. } = self;
        judge.look(*now, hosts, host, trace);
        let moments = self.judge.moments();
        let sprung = !moments.is_empty();
        for moment in moments {
            self.spring(moment);
        }
        if sprung {
            self.note_ways();
        }
    }

    /// Tells the judge what of the network is blocked: after whatever may have changed it.
    fn note_ways(&mut self) {
        let all = 0..self.hosts.len();
        let ways = all.clone().flat_map(|from| all.clone().map(move |to| (from, to)));
        let blocked = ways.filter(|(from, to)| self.net.is_blocked(*from, *to)).collect();
        self.judge.ways(blocked);
    }

    /// Wakes the daemon of `host` when it says so, by its own clock.
    pub(crate) fn plan_wake(&mut self, host: Host, due: Option<Instant>) {
        let rig = &mut self.hosts[host];
        let Some(due) = due else { return };
        let mut due = rig.global(due);
        if due <= self.now {
            // What is due already was done just now: a daemon would spin.
            self.spins += 1;
            due = self.now.after(Duration::from_millis(1));
            if self.spins > 100_000 {
                self.judge.fail("a node wants to be woken in the past, for ever");
            }
        }
        let due = self.queue.when(due);
        if rig.wake_at.is_some_and(|at| at <= due && at > self.now) {
            return;
        }
        rig.wake_at = Some(due);
        let life = rig.life;
        self.at(due, Event::News(host, News::Wake { life }));
    }

    pub(crate) fn wall_clock(&self, host: Host) -> UnixTime {
        let right = EPOCH + self.now.as_micros() / 1_000_000;
        UnixTime(right.saturating_add_signed(self.hosts[host].wall_ahead))
    }

    // --- disk, services, people --------------------------------------------------------------------

    pub(crate) fn perform(&mut self, host: Host, output: Output) {
        let life = self.hosts[host].life;
        match output {
            Output::Dial { address: to, .. } => self.dial(host, to),
            Output::HangUp { node, reason } => self.hang_up(host, node, &reason),
            Output::Admit(_) => {}
            Output::Send { to, frame } => self.send(host, to, frame),
            Output::Upload { to, object, index } => self.upload(host, to, object, index),
            Output::CancelUpload { to, object, index } => {
                self.cancel_upload(host, to, object, index);
            }
            Output::Persist(batch) => self.persist(host, batch),
            Output::Store(command) => {
                let event = self.store_command(host, command);
                if let Some(event) = event {
                    let delay = Duration::from_millis(5) + self.within(Duration::from_millis(100));
                    self.after(
                        delay,
                        Event::News(host, News::Store { life, event: Box::new(event) }),
                    );
                }
            }
            Output::Service(_, action) => self.act(host, &action),
            Output::Answer(id, answer) => self.answered(host, id, answer),
            Output::Note(note) => self.take_note(host, &note),
        }
    }

    fn store_command(&mut self, host: Host, command: StoreCommand) -> Option<StoreEvent> {
        let text = match &command {
            StoreCommand::Begin { header } => format!("Begin {:?}", header.id()),
            other => format!("{other:?}"),
        };
        self.note(&format!("host {host} store {text}"));
        let rig = &mut self.hosts[host];
        let release = match &command {
            StoreCommand::Begin { header } => header.id(),
            StoreCommand::Prepare { release } | StoreCommand::Seal { release } => *release,
            StoreCommand::Open { .. } | StoreCommand::Retain { .. } => {
                return rig.store.command(&self.catalog, command);
            }
        };
        if rig.full {
            let reason = "no space left on device".to_owned();
            return Some(StoreEvent::Failed { release, reason });
        }
        rig.store.command(&self.catalog, command)
    }

    fn take_note(&mut self, host: Host, note: &Note) {
        let text = format!("notes {note:?}");
        let news = !matches!(note, Note::Rollout { .. }) || self.said != text;
        if news {
            self.note(&format!("host {host} {text}"));
            self.said = text;
        }
        if let Note::ControlFailed { reason } = note {
            self.judge.fail(&format!("the voter of host {host} failed: {reason}"));
        }
    }

    fn persist(&mut self, host: Host, batch: baton_protocol::disk::Batch) {
        let skipped = mutant::active(Mutant::SkippedSync);
        let slow = if skipped { 3000 } else { self.hosts[host].sync_millis };
        let delay = Duration::from_micros(300) + self.within(Duration::from_millis(slow));
        let (life, token) = (self.hosts[host].life, batch.token);
        // Judged although the disk may not take it: a leader has said already what it writes.
        self.judge.written(self.now, &self.hosts, host, &batch);
        if self.hosts[host].full {
            return self.disk_refuses(host);
        }
        let rig = &mut self.hosts[host];
        rig.disk.write(batch);
        rig.synced_until = rig.synced_until.max(self.now.after(delay));
        let at = rig.synced_until;
        self.at(at, Event::News(host, News::Synced { life }));
        if confirms_early() {
            self.at(self.now, Event::News(host, News::Confirmed { life, token }));
        }
    }

    fn act(&mut self, host: Host, action: &ServiceAction) {
        self.note(&format!("host {host} service {action:?}"));
        if let ServiceAction::Start { release } = action
            && !self.hosts[host].store.is_sealed(*release)
        {
            self.judge.fail(&format!("host {host} starts {release:?}, which is not whole"));
        }
        if let ServiceAction::Start { release } = action
            && self.hosts[host].store.is_rotten(*release)
        {
            count(&mut self.tally.unnoticed, "start of a release that has rotted");
        }
        let Self { judge, hosts, now, .. } = self;
        judge.acts(*now, hosts, host, action);
        let follow = self.hosts[host].service.act(action);
        self.judge.service_changed(self.now, &self.hosts, host);
        let life = self.hosts[host].life;
        match follow {
            Follow::Nothing => {}
            Follow::Gone => {
                let event = baton_protocol::agent::service::ServiceEvent::Exited {
                    reason: "there was none".to_owned(),
                };
                self.after(Duration::from_millis(1), Event::News(host, News::Seen { life, event }));
            }
            Follow::Later(step) => {
                let most = match step {
                    Step::Started => 300,
                    Step::Drained => 2500,
                    _ => 1500,
                };
                let delay = self.pace(Duration::from_millis(10), Duration::from_millis(most));
                let process = self.hosts[host].service.number;
                self.after(delay, Event::Service { host, process, step });
            }
        }
    }

    fn temper(&self, host: Host) -> Option<Temper> {
        use crate::service::Process as P;
        let release = match self.hosts[host].service.process {
            P::Running { release, .. } | P::Starting(release) => release,
            P::None | P::Ending(_) => return None,
        };
        self.catalog.get(&release).map(|made| made.temper)
    }

    pub(crate) fn service_step(&mut self, host: Host, process: u64, step: Step) {
        if self.hosts[host].service.number != process {
            return;
        }
        if step != Step::Drained {
            self.note(&format!("host {host} process {step:?}"));
        }
        let seen = self.hosts[host].service.step(step);
        self.judge.service_changed(self.now, &self.hosts, host);
        if step == Step::Started {
            let delay = self.pace(Duration::from_millis(200), Duration::from_secs(4));
            match self.temper(host) {
                Some(Temper::Good) => self.step_after(delay, host, Step::Ready),
                Some(Temper::Slow) => self.step_after(SLOW_START + delay, host, Step::Ready),
                Some(Temper::Wavers) => {
                    self.step_after(delay, host, Step::Ready);
                    let pause = self.within(WAVER_WITHIN);
                    self.step_after(delay + pause, host, Step::Unready);
                    self.step_after(delay + pause * 2, host, Step::Ready);
                }
                Some(Temper::Dies) => self.step_after(delay, host, Step::Dies),
                Some(Temper::NeverReady) | None => {}
            }
        }
        if let Some(event) = seen
            && self.hosts[host].peer.is_some()
        {
            self.feed(host, Input::Service(group(), event));
        }
    }

    fn step_after(&mut self, delay: Duration, host: Host, step: Step) {
        let process = self.hosts[host].service.number;
        self.after(delay, Event::Service { host, process, step });
    }

    fn probe(&mut self, host: Host, life: u64) {
        if self.hosts[host].life != life || self.hosts[host].peer.is_none() {
            return;
        }
        if let Some(input) = self.probed(host, life) {
            self.feed(host, input);
        }
        if self.hosts[host].service.is_watched() {
            let process = self.hosts[host].service.number;
            self.after(PROBE_EVERY, Event::Service { host, process, step: Step::Drained });
        }
    }

    /// What a probe finds; the next one is planned.
    pub(crate) fn probed(&mut self, host: Host, life: u64) -> Option<Input> {
        self.after(PROBE_EVERY, Event::Probe { host, life });
        self.hosts[host].service.probe().map(|event| Input::Service(group(), event))
    }

    /// Puts a release on a host, as `baton seed` does.
    pub(crate) fn seed(&mut self, host: Host, made: Made) {
        self.note(&format!("host {host} seeds {:?}", made.signed.id()));
        let event = self.hosts[host].store.seed(&made);
        self.catalog.insert(made.signed.id(), made);
        let life = self.hosts[host].life;
        self.tell(host, life, Input::Store(event));
    }

    pub(crate) fn operate(&mut self, host: Host, operation: Operation, tries: u32) {
        if self.hosts[host].peer.is_none() {
            return self.again(operation, tries);
        }
        let rig = &mut self.hosts[host];
        rig.requested += 1;
        let id = RequestId(rig.requested);
        let since = self.judge.log_end();
        let asked = Asked { operation: operation.clone(), tries, since };
        self.hosts[host].requests.insert(id, asked);
        self.note(&format!("host {host} is asked for {}", brief(&operation)));
        self.feed(host, Input::Operate(id, operation));
    }

    fn answered(&mut self, host: Host, id: RequestId, answer: Result<Answer, Failure>) {
        let Some(asked) = self.hosts[host].requests.remove(&id) else { return };
        let Asked { operation, tries, since } = asked;
        self.judge.answered(&self.hosts[host], since, &operation, &answer);
        self.note(&format!("host {host} answers {}: {answer:?}", brief(&operation)));
        count(&mut self.tally.answers, answer_kind(&answer));
        if matches!(answer, Err(Failure::NoQuorum(_) | Failure::Busy)) && tries < TRIES_MAX {
            self.again(operation, tries);
        }
    }

    /// A person tries again on another node, as soon as there is one.
    pub(crate) fn again(&mut self, operation: Operation, tries: u32) {
        let host = self.rng.pick(&self.alive()).copied().unwrap_or_default();
        let operation = Box::new(operation);
        let event = Event::Operate { host, operation, tries: tries + 1 };
        self.after(Duration::from_secs(2), event);
    }
}

pub(crate) fn confirms_early() -> bool {
    mutant::active(Mutant::SkippedSync) || mutant::active(Mutant::SendBeforePersist)
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "without words".to_owned())
}

fn answer_kind(answer: &Result<Answer, Failure>) -> &'static str {
    match answer {
        Ok(_) => "done",
        Err(Failure::Refused(_)) => "refused",
        Err(Failure::Conflict(_)) => "conflict",
        Err(Failure::NoQuorum(_)) => "no quorum",
        Err(Failure::Busy) => "busy",
    }
}

fn brief(operation: &Operation) -> String {
    match operation {
        Operation::Register { header } => format!("Register({:?})", header.id()),
        other => format!("{other:?}"),
    }
}
