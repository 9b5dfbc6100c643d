//! The queue of events and virtual time.

use core::any::Any;
use core::time::Duration;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use baton_protocol::agent::unit::ServiceAction;
use baton_protocol::id::{NodeId, RequestId};
use baton_protocol::machine::Machine as _;
use baton_protocol::membership::Address;
use baton_protocol::mutant::{self, Mutant};
use baton_protocol::peer::{Answer, Failure, Input, Note, Operation, Output, Peer};
use baton_protocol::rng::Rng;
use baton_protocol::swarm::ObjectId;
use baton_protocol::time::{Instant, UnixTime};

use crate::event::{Event, Host, Step};
use crate::invariants::Judge;
use crate::link::{ConnId, Net};
use crate::mesh::{EPOCH, Mesh, group, mesh_name};
use crate::rig::Rig;
use crate::service::Follow;
use crate::store::{Catalog, Made, Temper};
use crate::trace::Trace;

/// Bytes that a host sends per millisecond.
const UPLINK_BYTES_PER_MS: u64 = 20_000;

/// How long a dial to a host that does not answer takes.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// Pause between two probes of a service.
const PROBE_EVERY: Duration = Duration::from_millis(500);

/// Tries of a person's request before the person gives up.
const TRIES_MAX: u32 = 40;

/// Everything.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) rng: Rng,
    pub(crate) mesh: Mesh,
    pub(crate) hosts: Vec<Rig>,
    pub(crate) names: BTreeMap<NodeId, Host>,
    pub(crate) net: Net,
    pub(crate) catalog: Catalog,
    pub(crate) trace: Trace,
    pub(crate) judge: Judge,
    pub(crate) answers: Vec<(Operation, Result<Answer, Failure>)>,
    queue: BTreeMap<(Instant, u64), Event>,
    queued: u64,
    uploads: u64,
    spins: u32,
}

impl World {
    pub(crate) fn new(seed: u64, hosts: usize, loud: bool) -> Self {
        let mut rng = Rng::new(seed);
        let mesh = Mesh::new(&mut rng);
        let rigs: Vec<_> = (0..hosts)
            .map(|host| {
                let config = mesh.config(host, &mut rng);
                Rig::new(config, rng.below(1_000_000_000_000))
            })
            .collect();
        let names = (0..).zip(&rigs).map(|(host, rig)| (rig.config.node, host)).collect();
        Self {
            now: Instant::ZERO,
            rng,
            mesh,
            hosts: rigs,
            names,
            net: Net::default(),
            catalog: Catalog::new(),
            trace: Trace::new(loud),
            judge: Judge::default(),
            answers: Vec::new(),
            queue: BTreeMap::new(),
            queued: 0,
            uploads: 0,
            spins: 0,
        }
    }

    pub(crate) fn at(&mut self, at: Instant, event: Event) {
        self.queued += 1;
        self.queue.insert((at.max(self.now), self.queued), event);
    }

    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now.after(delay), event);
    }

    pub(crate) fn note(&mut self, text: &str) {
        self.trace.note(self.now, text);
    }

    /// The next event; `None` where nothing will ever happen again.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        let ((at, _), event) = self.queue.pop_first()?;
        self.now = at;
        Some(event)
    }

    /// A random time up to `max`.
    pub(crate) fn within(&mut self, max: Duration) -> Duration {
        let micros = u64::try_from(max.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.rng.below(micros.max(1)))
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
        match event {
            Event::Wake { host, life } => self.wake(host, life),
            Event::Clock { host, life } => self.clock(host, life),
            Event::Dialled { host, life, address } => self.dialled(host, life, address),
            Event::Deliver { conn, from } => self.deliver(conn, from),
            Event::Cut { conn } => self.cut(conn),
            Event::KeepAlive { conn } if self.net.is_held(conn) => self.cut(conn),
            Event::KeepAlive { .. } => {}
            Event::Synced { host, life } => self.synced(host, life),
            Event::Store { host, life, event } => self.tell(host, life, Input::Store(event)),
            Event::Uploaded { conn, from, to, upload, object, index } => {
                self.uploaded(conn, from, to, upload, object, index);
            }
            Event::Arrived { conn, from, to, object, index } => {
                self.arrived(conn, from, to, object, index);
            }
            Event::ChunkStored { host, life, object, index } => {
                self.tell(host, life, Input::ChunkStored { object, index });
            }
            Event::Service { host, process, step } => self.service_step(host, process, step),
            Event::Seen { host, life, event } => {
                self.tell(host, life, Input::Service(group(), event));
            }
            Event::Probe { host, life } => self.probe(host, life),
            Event::Crash { host } => self.crash(host),
            Event::Restart { host } => self.start(host),
            Event::Lose { host } => self.lose(host),
            Event::CrashLeader => self.crash_leader(),
            Event::CrashHolder => self.crash_holder(),
            Event::PowerCut { hosts } => self.power_cut(&hosts),
            Event::ServiceDies { host } => {
                let process = self.hosts[host].service.number;
                self.note(&format!("FAULT the service of {host} dies"));
                self.service_step(host, process, Step::Dies);
            }
            Event::Partition { ways } => self.partition(&ways),
            Event::Heal => self.heal(),
            Event::Operate { host, operation, tries } => self.operate(host, *operation, tries),
            Event::Confirmed { host, life, token } => self.confirmed(host, life, token),
            Event::Director => {}
        }
    }

    /// Tells a daemon something, if it is in the same life still.
    fn tell(&mut self, host: Host, life: u64, input: Input) {
        if self.hosts[host].life == life {
            self.feed(host, input);
        }
    }

    /// The one place where a daemon is driven.
    fn feed(&mut self, host: Host, input: Input) {
        let rig = &mut self.hosts[host];
        let local = rig.local(self.now);
        let Some(peer) = &mut rig.peer else { return };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| peer.handle(local, input))) {
            rig.peer = None;
            let reason = panic_text(panic.as_ref());
            return self.judge.fail(&format!("host {host} panics: {reason}"));
        }
        while let Some(output) = self.hosts[host].peer.as_mut().and_then(Peer::poll_output) {
            self.perform(host, output);
        }
        self.plan_wake(host);
        let Self { judge, hosts, now, trace, .. } = self;
        judge.look(*now, hosts, host, trace);
    }

    fn plan_wake(&mut self, host: Host) {
        let rig = &mut self.hosts[host];
        let Some(due) = rig.peer.as_ref().and_then(Peer::poll_timeout) else { return };
        let mut due = rig.global(due);
        if due <= self.now {
            // What is due already was done just now: a daemon would spin.
            self.spins += 1;
            due = self.now.after(Duration::from_millis(1));
            if self.spins > 100_000 {
                self.judge.fail("a node wants to be woken in the past, for ever");
            }
        }
        if rig.wake_at.is_some_and(|at| at <= due && at > self.now) {
            return;
        }
        rig.wake_at = Some(due);
        let life = rig.life;
        self.at(due, Event::Wake { host, life });
    }

    fn wake(&mut self, host: Host, life: u64) {
        let rig = &mut self.hosts[host];
        if rig.life == life && rig.wake_at == Some(self.now) {
            rig.wake_at = None;
            self.trace.bytes(self.now, 1, &[host as u8]);
            self.feed(host, Input::Timeout);
        }
    }

    fn wall_clock(&self) -> UnixTime {
        UnixTime(EPOCH + self.now.as_micros() / 1_000_000)
    }

    fn clock(&mut self, host: Host, life: u64) {
        if self.hosts[host].life == life && self.hosts[host].peer.is_some() {
            let time = self.wall_clock();
            self.after(Duration::from_secs(1), Event::Clock { host, life });
            self.feed(host, Input::WallClock(time));
        }
    }

    // --- lives -----------------------------------------------------------------------------------

    /// Starts a daemon: the founder's first life founds the mesh.
    pub(crate) fn start(&mut self, host: Host) {
        if self.hosts[host].peer.is_some() || self.hosts[host].lost {
            return;
        }
        let (seed, wall) = (self.rng.next_u64(), self.wall_clock());
        let publisher = self.mesh.publisher();
        let rig = &mut self.hosts[host];
        rig.life += 1;
        rig.config.seed = seed;
        let (config, local) = (rig.config.clone(), rig.local(self.now));
        let peer = if host == 0 && rig.disk.contents().is_empty() {
            Peer::found(config, local, wall, mesh_name(), publisher)
        } else {
            Peer::start(config, local, wall, rig.disk.contents())
        };
        match peer {
            Ok(peer) => rig.peer = Some(peer),
            Err(error) => return self.judge.fail(&format!("host {host} cannot start: {error}")),
        }
        self.note(&format!("host {host} starts"));
        self.judge.found(self.now, &self.hosts, host);
        let life = self.hosts[host].life;
        for event in self.hosts[host].store.found(&self.catalog) {
            let delay = self.within(Duration::from_millis(300));
            self.after(delay, Event::Store { host, life, event });
        }
        let event = self.hosts[host].service.found();
        let delay = self.within(Duration::from_millis(100));
        self.after(delay, Event::Seen { host, life, event });
        self.after(delay + PROBE_EVERY, Event::Probe { host, life });
        self.after(Duration::from_secs(1), Event::Clock { host, life });
        self.feed(host, Input::Timeout);
    }

    fn crash(&mut self, host: Host) {
        if self.hosts[host].peer.is_none() {
            return;
        }
        self.note(&format!("FAULT host {host} crashes"));
        let rig = &mut self.hosts[host];
        rig.peer = None;
        rig.life += 1;
        self.judge.silent(self.now, host);
        rig.wake_at = None;
        rig.uploads.clear();
        rig.disk.crash(&mut self.rng);
        rig.store.crash(&mut self.rng);
        rig.synced_until = Instant::ZERO;
        let requests = core::mem::take(&mut rig.requests);
        for (operation, tries) in requests.into_values() {
            self.again(operation, tries);
        }
        for other in self.net.peers_of(host) {
            if let Some(conn) = self.net.between(host, other) {
                let delay = self.within(Duration::from_millis(200));
                self.after(delay, Event::Cut { conn });
            }
        }
    }

    fn crash_leader(&mut self) {
        if let Some(host) = self.leader() {
            self.crash_for_a_while(host);
        }
    }

    fn crash_for_a_while(&mut self, host: Host) {
        let down = self.within(Duration::from_secs(15));
        self.crash(host);
        self.after(down, Event::Restart { host });
    }

    fn crash_holder(&mut self) {
        let holders = self.judge.newest().permits().values().map(|permit| permit.node);
        let holders: Vec<_> = holders.filter_map(|node| self.names.get(&node).copied()).collect();
        if let Some(host) = self.rng.pick(&holders).copied() {
            self.crash_for_a_while(host);
        }
    }

    /// The daemons go all at once, and the services with their machines.
    fn power_cut(&mut self, hosts: &[Host]) {
        for host in hosts {
            self.crash_for_a_while(*host);
            if self.rng.chance(1, 3) {
                let process = self.hosts[*host].service.number;
                self.service_step(*host, process, Step::Dies);
            }
        }
    }

    fn lose(&mut self, host: Host) {
        self.crash(host);
        self.note(&format!("FAULT host {host} is lost for ever"));
        self.hosts[host].lost = true;
        let process = self.hosts[host].service.number;
        self.service_step(host, process, Step::Dies);
    }

    // --- the network -----------------------------------------------------------------------------

    fn host_at(&self, address: &Address) -> Option<Host> {
        (0..self.hosts.len()).find(|host| crate::mesh::address(*host) == *address)
    }

    fn dial(&mut self, host: Host, to: Address) {
        let life = self.hosts[host].life;
        let target = self.host_at(&to);
        let reached = target.filter(|it| !self.net.is_blocked(host, *it));
        let delay = match reached {
            Some(target) => Net::delay(&mut self.rng, host, target) * 3,
            None => DIAL_TIMEOUT,
        };
        self.after(delay, Event::Dialled { host, life, address: to });
    }

    fn dialled(&mut self, host: Host, life: u64, to: Address) {
        if self.hosts[host].life != life {
            return;
        }
        let target = self.host_at(&to).filter(|it| {
            let blocked = self.net.is_blocked(host, *it) || self.net.is_blocked(*it, host);
            *it != host && !blocked && self.hosts[*it].peer.is_some()
        });
        let opened = target.and_then(|target| Some((target, self.net.open(host, target)?)));
        let Some((target, _)) = opened else {
            return self.feed(host, Input::DialFailed { address: to });
        };
        self.trace.bytes(self.now, 2, &[host as u8, target as u8]);
        let (here, there) = (self.hosts[host].config.node, self.hosts[target].config.node);
        self.feed(target, Input::Connected { node: here, address: None });
        self.feed(host, Input::Connected { node: there, address: Some(to) });
    }

    fn send(&mut self, from: Host, to: NodeId, frame: Vec<u8>) {
        let Some(to) = self.names.get(&to).copied() else { return };
        self.judge.sent(&self.hosts, from, &frame);
        let delay = Net::delay(&mut self.rng, from, to);
        if let Some((conn, due)) = self.net.push(self.now, from, to, delay, frame) {
            self.at(due, Event::Deliver { conn, from });
        }
    }

    fn deliver(&mut self, conn: ConnId, from: Host) {
        let Some((to, frame)) = self.net.deliver(conn, from) else { return };
        self.trace.bytes(self.now, 3, &[from as u8, to as u8]);
        self.trace.bytes(self.now, 4, &frame);
        let node = self.hosts[from].config.node;
        self.feed(to, Input::Control { from: node, frame });
    }

    fn cut(&mut self, conn: ConnId) {
        let Some((a, b)) = self.net.ends_of(conn) else { return };
        self.net.close(a, b);
        self.trace.bytes(self.now, 5, &[a as u8, b as u8]);
        let (first, second) = (self.hosts[a].config.node, self.hosts[b].config.node);
        self.hosts[a].uploads.retain(|(to, ..), _| *to != b);
        self.hosts[b].uploads.retain(|(to, ..), _| *to != a);
        self.feed(a, Input::Disconnected { node: second });
        self.feed(b, Input::Disconnected { node: first });
    }

    fn hang_up(&mut self, host: Host, node: NodeId, reason: &str) {
        let Some(other) = self.names.get(&node).copied() else { return };
        self.note(&format!("host {host} hangs up on {other}: {reason}"));
        if let Some(conn) = self.net.between(host, other) {
            self.after(Duration::from_micros(1), Event::Cut { conn });
        }
    }

    fn partition(&mut self, ways: &[(Host, Host)]) {
        self.note(&format!("FAULT partition of {} ways", ways.len()));
        for conn in self.net.block(ways) {
            // Keep-alive notices in the end, unless the partition is over before.
            let delay = Duration::from_secs(3) + self.within(Duration::from_secs(12));
            self.after(delay, Event::KeepAlive { conn });
        }
    }

    fn heal(&mut self) {
        self.note("the network is whole");
        for (conn, from, owed) in self.net.heal() {
            for _ in 0..owed {
                let delay = Duration::from_millis(1);
                self.after(delay, Event::Deliver { conn, from });
            }
        }
    }

    // --- chunks ----------------------------------------------------------------------------------

    fn upload(&mut self, from: Host, node: NodeId, object: ObjectId, index: u32) {
        let Some(to) = self.names.get(&node).copied() else { return };
        let conn = self.net.between(from, to);
        let chunk = self
            .catalog
            .get(&object.release)
            .and_then(|made| made.chunks(object.part).get(usize::try_from(index).ok()?));
        let chunk = chunk.filter(|_| self.hosts[from].store.has(object, index)).copied();
        self.uploads += 1;
        let upload = self.uploads;
        let conn = conn.unwrap_or_default();
        self.hosts[from].uploads.insert((to, object, index), upload);
        let rig = &mut self.hosts[from];
        let micros = chunk.map_or(1, |chunk| u64::from(chunk.len) * 1000 / UPLINK_BYTES_PER_MS);
        rig.sent_until = rig.sent_until.max(self.now).after(Duration::from_micros(micros));
        let at = rig.sent_until;
        self.at(at, Event::Uploaded { conn, from, to, upload, object, index });
    }

    fn uploaded(
        &mut self,
        conn: ConnId,
        from: Host,
        to: Host,
        upload: u64,
        object: ObjectId,
        index: u32,
    ) {
        if self.hosts[from].uploads.get(&(to, object, index)) != Some(&upload) {
            return;
        }
        let open = self.net.between(from, to) == Some(conn);
        if open && self.net.is_blocked(from, to) {
            let again = Event::Uploaded { conn, from, to, upload, object, index };
            return self.after(Duration::from_millis(500), again);
        }
        self.hosts[from].uploads.remove(&(to, object, index));
        let node = self.hosts[to].config.node;
        if !open || !self.hosts[from].store.has(object, index) {
            return self.feed(from, Input::UploadFailed { to: node, object, index });
        }
        let delay = Net::delay(&mut self.rng, from, to);
        self.after(delay, Event::Arrived { conn, from, to, object, index });
        self.feed(from, Input::Uploaded { to: node, object, index });
    }

    fn arrived(&mut self, conn: ConnId, from: Host, to: Host, object: ObjectId, index: u32) {
        if self.net.between(from, to) != Some(conn) || self.hosts[to].peer.is_none() {
            return;
        }
        let node = self.hosts[from].config.node;
        self.trace.bytes(self.now, 6, &[from as u8, to as u8]);
        if self.rng.chance(1, 500) {
            return self.feed(to, Input::ChunkCorrupt { from: node, object, index });
        }
        if !self.hosts[to].store.put(object, index) {
            return;
        }
        let life = self.hosts[to].life;
        let delay = self.within(Duration::from_millis(20));
        self.after(delay, Event::ChunkStored { host: to, life, object, index });
        self.feed(to, Input::ChunkVerified { from: node, object, index });
    }

    // --- disk, services, people --------------------------------------------------------------------

    fn synced(&mut self, host: Host, life: u64) {
        if self.hosts[host].life != life {
            return;
        }
        let Some(batch) = self.hosts[host].disk.sync() else { return };
        if !mutant::active(Mutant::SkippedSync) {
            self.feed(host, Input::Persisted(batch.token));
        }
    }

    fn perform(&mut self, host: Host, output: Output) {
        let life = self.hosts[host].life;
        match output {
            Output::Dial { address: to, .. } => self.dial(host, to),
            Output::HangUp { node, reason } => self.hang_up(host, node, &reason),
            Output::Admit(_) => {}
            Output::Send { to, frame } => self.send(host, to, frame),
            Output::Upload { to, object, index } => self.upload(host, to, object, index),
            Output::CancelUpload { to, object, index } => {
                if let Some(to) = self.names.get(&to).copied() {
                    self.hosts[host].uploads.remove(&(to, object, index));
                }
            }
            Output::Persist(batch) => self.persist(host, batch),
            Output::Store(command) => {
                let event = self.hosts[host].store.command(&self.catalog, command);
                if let Some(event) = event {
                    let delay = Duration::from_millis(5) + self.within(Duration::from_millis(100));
                    self.after(delay, Event::Store { host, life, event });
                }
            }
            Output::Service(_, action) => self.act(host, &action),
            Output::Answer(id, answer) => self.answered(host, id, answer),
            Output::Note(note) => self.take_note(host, &note),
        }
    }

    fn take_note(&mut self, host: Host, note: &Note) {
        self.note(&format!("host {host} notes {note:?}"));
        if let Note::ControlFailed { reason } = note {
            self.judge.fail(&format!("the voter of host {host} failed: {reason}"));
        }
    }

    fn persist(&mut self, host: Host, batch: baton_protocol::disk::Batch) {
        let skipped = mutant::active(Mutant::SkippedSync);
        let slow = if skipped { 3000 } else { 8 };
        let delay = Duration::from_micros(300) + self.within(Duration::from_millis(slow));
        let rig = &mut self.hosts[host];
        let (life, token) = (rig.life, batch.token);
        self.judge.written(self.now, &batch);
        rig.disk.write(batch);
        rig.synced_until = rig.synced_until.max(self.now.after(delay));
        let at = rig.synced_until;
        self.at(at, Event::Synced { host, life });
        if skipped {
            self.at(self.now, Event::Confirmed { host, life, token });
        }
    }

    fn act(&mut self, host: Host, action: &ServiceAction) {
        self.note(&format!("host {host} service {action:?}"));
        if let ServiceAction::Start { release } = action
            && !self.hosts[host].store.is_sealed(*release)
        {
            self.judge.fail(&format!("host {host} starts {release:?}, which is not whole"));
        }
        let Self { judge, hosts, now, .. } = self;
        judge.acts(*now, hosts, host, action);
        let follow = self.hosts[host].service.act(action);
        let life = self.hosts[host].life;
        match follow {
            Follow::Nothing => {}
            Follow::Gone => {
                let event = baton_protocol::agent::service::ServiceEvent::Exited {
                    reason: "there was none".to_owned(),
                };
                self.after(Duration::from_millis(1), Event::Seen { host, life, event });
            }
            Follow::Later(step) => {
                let most = match step {
                    Step::Started => 300,
                    Step::Drained => 2500,
                    _ => 1500,
                };
                let delay = Duration::from_millis(10) + self.within(Duration::from_millis(most));
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

    fn service_step(&mut self, host: Host, process: u64, step: Step) {
        if self.hosts[host].service.number != process {
            return;
        }
        if step != Step::Drained {
            self.note(&format!("host {host} process {step:?}"));
        }
        let seen = self.hosts[host].service.step(step);
        if step == Step::Started {
            let delay = Duration::from_millis(200) + self.within(Duration::from_secs(4));
            match self.temper(host) {
                Some(Temper::Good) => {
                    self.after(delay, Event::Service { host, process, step: Step::Ready });
                }
                Some(Temper::Dies) => {
                    self.after(delay, Event::Service { host, process, step: Step::Dies });
                }
                Some(Temper::NeverReady) | None => {}
            }
        }
        if let Some(event) = seen
            && self.hosts[host].peer.is_some()
        {
            self.feed(host, Input::Service(group(), event));
        }
    }

    fn probe(&mut self, host: Host, life: u64) {
        if self.hosts[host].life != life || self.hosts[host].peer.is_none() {
            return;
        }
        self.after(PROBE_EVERY, Event::Probe { host, life });
        if let Some(event) = self.hosts[host].service.probe() {
            self.feed(host, Input::Service(group(), event));
        }
        if self.hosts[host].service.is_watched() {
            let process = self.hosts[host].service.number;
            self.after(PROBE_EVERY, Event::Service { host, process, step: Step::Drained });
        }
    }

    /// Puts a release on a host, as `baton seed` does.
    pub(crate) fn seed(&mut self, host: Host, made: Made) {
        self.note(&format!("host {host} seeds {:?}", made.signed.id()));
        let event = self.hosts[host].store.seed(&made);
        self.catalog.insert(made.signed.id(), made);
        let life = self.hosts[host].life;
        self.tell(host, life, Input::Store(event));
    }

    fn operate(&mut self, host: Host, operation: Operation, tries: u32) {
        if self.hosts[host].peer.is_none() {
            return self.again(operation, tries);
        }
        let rig = &mut self.hosts[host];
        rig.requested += 1;
        let id = RequestId(rig.requested);
        self.judge.asked(&operation);
        self.hosts[host].requests.insert(id, (operation.clone(), tries));
        self.note(&format!("host {host} is asked for {}", brief(&operation)));
        self.feed(host, Input::Operate(id, operation));
    }

    fn answered(&mut self, host: Host, id: RequestId, answer: Result<Answer, Failure>) {
        let Some((operation, tries)) = self.hosts[host].requests.remove(&id) else { return };
        self.note(&format!("host {host} answers {}: {answer:?}", brief(&operation)));
        match answer {
            Err(Failure::NoQuorum(_) | Failure::Busy) if tries < TRIES_MAX => {
                self.again(operation, tries);
            }
            answer => self.answers.push((operation, answer)),
        }
    }

    /// A person tries again on another node.
    fn again(&mut self, operation: Operation, tries: u32) {
        let Some(host) = self.rng.pick(&self.alive()).copied() else { return };
        let operation = Box::new(operation);
        let event = Event::Operate { host, operation, tries: tries + 1 };
        self.after(Duration::from_secs(2), event);
    }

    fn confirmed(&mut self, host: Host, life: u64, token: baton_protocol::disk::Token) {
        self.tell(host, life, Input::Persisted(token));
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "without words".to_owned())
}

fn brief(operation: &Operation) -> String {
    match operation {
        Operation::Register { header } => format!("Register({:?})", header.id()),
        other => format!("{other:?}"),
    }
}
