//! One service on this node: kept running, and moved from release to release under permits.
//!
//! ```text
//! Steady → Asking → Recording → Draining → Stopping → Starting → Probing → Steady
//!                                   ╰──────────╴ Failed ╶──────────╯
//! ```
//! `Asking` is over only when the mesh's `Begin` echoes this node's own nonce in time. After a crash
//! the unit asks again, and then goes on from what it finds running: no step is remembered that can
//! be seen.

use core::time::Duration;
use std::collections::VecDeque;

use crate::agent::balancer::{Traffic, Word};
use crate::agent::journal::Journal;
use crate::agent::library::Library;
use crate::agent::report::{Condition, ServiceReport};
use crate::agent::service::{Process, RestartPolicy, ServiceEvent};
use crate::artifact::service::ServiceSpec;
use crate::failpoint::{self, Failpoint};
use crate::fleet::command::{Command, Proof};
use crate::fleet::group::Standing;
use crate::fleet::permit::PermitPhase;
use crate::id::{GroupName, Incarnation, Nonce, PermitId, Question, ReleaseId, RolloutId};
use crate::limits::EVIDENCE_AGE_MAX;
use crate::mutant::{self, Mutant};
use crate::rng::Rng;
use crate::time::Instant;

/// How old a request to begin may be when its echo comes. A later echo starts nothing.
const ECHO_MAX: Duration = Duration::from_secs(5);

/// How long a holder that has moved nothing asks to begin before it hands its permit back. Holders
/// could wait for each other for ever, as where the cap has fallen below the permits that are out.
const ASKS_FOR: Duration = Duration::from_secs(10);

/// How long a deadline must be seen to have passed before it counts: the interval and the timeout of a
/// probe, unless said. A machine that slept through it looks once more at what runs before it judges.
const LAST_LOOK: Duration = Duration::from_secs(3);

/// Pause between two sendings of the same request or proof, until the log shows it.
const REPEAT: Duration = Duration::from_secs(1);

/// How long a word on the balancers is waited for where somebody reads them: the leader asks each second,
/// a look takes half of one, and HAProxy asks an agent each two by default.
const WORD_WITHIN: Duration = Duration::from_secs(10);

/// What the log says to one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Whether the node counts in the group.
    pub standing: Standing,
    /// What a new member installs.
    pub installable: Option<ReleaseId>,
    /// How long a service must be ready to count as available.
    pub min_healthy: Duration,
    /// The rollout under way, and how often a person has resumed it.
    pub attempt: Option<(RolloutId, u32)>,
    /// The node's open permit for this group.
    pub lease: Option<Lease>,
    /// Whether somebody reads the balancers in front of the group.
    pub watched: bool,
}

/// An open permit, as its holder sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The permit.
    pub id: PermitId,
    /// What the service is to run in the end.
    pub release: ReleaseId,
    /// How far the log has it.
    pub phase: PermitPhase,
    /// Whether the log has the holder's failure on `release`.
    pub failed: bool,
    /// Whether a holder that has moved nothing may still begin.
    pub may_start: bool,
}

/// What the runtime is to do with a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceAction {
    /// Point `current` at the release and start it from its own path.
    /// Answered by `Started` or `StartFailed`.
    Start {
        /// Which release.
        release: ReleaseId,
    },
    /// End the process, by force when it takes too long. Answered by `Exited`.
    Stop,
    /// Tell the balancer. Not answered.
    Balance(Balance),
    /// Report established connections from now on, or no more.
    WatchConnections(bool),
}

/// What a load balancer is told of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Send requests.
    Up,
    /// No new requests; the running ones end.
    Drain,
    /// It does not serve.
    Down {
        /// Why, for people.
        reason: String,
    },
}

/// What a unit wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitOutput {
    /// Keep this on disk; then [`Unit::persisted`].
    Persist(Journal),
    /// By the runtime.
    Service(ServiceAction),
    /// By the leader; lost or refused without a word, and said again.
    Propose(Command),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stance {
    Steady,
    /// `first`: when it was first asked under this permit; `since`: under this number.
    Asking {
        nonce: Nonce,
        first: Instant,
        since: Instant,
        again_at: Instant,
    },
    Recording(AfterRecording),
    Draining {
        since: Instant,
        quiet: bool,
    },
    Stopping,
    Starting,
    /// `proven`: ready for long enough; the log does not know it yet.
    Probing {
        since: Instant,
        proven: bool,
    },
    /// `told`: the log has it. When the log forgets it again, the holder tries once more.
    Failed {
        reason: String,
        told: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterRecording {
    Move { asked_at: Instant },
    Start,
}

/// What the unit needs to know from outside itself to take a step.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The time.
    pub now: Instant,
    /// The node's life, once the log has confirmed it.
    pub life: Option<Incarnation>,
    /// The leader's term and last question that the node has heard.
    pub asked: (u64, Question),
    /// Whether a release is staged, and how its service is run.
    pub library: &'a Library,
}

/// One service on this node.
#[derive(Debug)]
pub struct Unit {
    group: GroupName,
    assignment: Assignment,
    journal: Journal,
    process: Process,
    restart: RestartPolicy,
    stance: Stance,
    target: Option<ReleaseId>,
    /// What the balancer was last told, and the leader's last question before that.
    balance: Option<(Balance, (u64, Question))>,
    /// What the balancers do, as the leader last said, and when that came.
    word: Option<(Instant, Word)>,
    handed_back: Option<PermitId>,
    repeat_at: Instant,
    wake_at: Option<Instant>,
    /// When the deadline of the present step was first seen to have passed.
    overdue: Option<Instant>,
    /// Journals that were given out and are not on disk yet.
    writes: u32,
    rng: Rng,
    outputs: VecDeque<UnitOutput>,
}

impl Unit {
    /// A unit that goes on from what its disk and its runtime say.
    pub fn new(
        group: GroupName,
        assignment: Assignment,
        journal: Journal,
        process: Process,
        rng: Rng,
    ) -> Self {
        let mut unit = Self {
            group,
            assignment,
            journal,
            process,
            restart: RestartPolicy::default(),
            stance: Stance::Steady,
            target: None,
            balance: None,
            word: None,
            handed_back: None,
            repeat_at: Instant::ZERO,
            wake_at: None,
            overdue: None,
            writes: 0,
            rng,
            outputs: VecDeque::new(),
        };
        // A balancer keeps the last word of an agent that was gone. Where that may have been a drain,
        // nothing is said until it is seen what runs: the permit may be closed by now, and a service
        // that serves is not taken out by a guess.
        if unit.journal.begun.is_none() {
            unit.tell_balancer((0, Question::default()), Balance::Up);
        }
        unit
    }

    /// What runs, where the node is no longer in the group.
    pub fn into_process(self) -> Process {
        self.process
    }

    /// The log says something else.
    pub fn assign(&mut self, at: Surroundings<'_>, assignment: Assignment) {
        // What no permit mends is tried again when a person says so, or with another rollout.
        if assignment.attempt > self.assignment.attempt && assignment.standing == Standing::New {
            self.restart.forgive();
        }
        self.assignment = assignment;
        self.advance(at);
    }

    /// The runtime says something.
    pub fn observe(&mut self, at: Surroundings<'_>, event: &ServiceEvent) {
        let was_running = self.process.release().is_some();
        self.process.observe(at.now, event);
        match (&mut self.stance, event) {
            (Stance::Draining { quiet, .. }, ServiceEvent::Connections(count)) => {
                *quiet = *count == 0;
            }
            (
                Stance::Steady | Stance::Asking { .. },
                ServiceEvent::Exited { .. } | ServiceEvent::StartFailed { .. },
            ) if was_running => self.restart.ended(at.now),
            (Stance::Steady | Stance::Asking { .. }, ServiceEvent::Probed(Ok(()))) => {
                self.restart.forgive();
            }
            _ => {}
        }
        self.advance(at);
    }

    /// The leader says what the balancers do.
    pub fn hear(&mut self, at: Surroundings<'_>, word: Word) {
        self.word = Some((at.now, word));
        self.advance(at);
    }

    /// The oldest journal of those that were given out is on disk.
    pub fn persisted(&mut self, at: Surroundings<'_>) {
        self.writes = self.writes.saturating_sub(1);
        if let Stance::Recording(after) = self.stance
            && self.writes == 0
        {
            match after {
                AfterRecording::Move { asked_at } if at.now.since(asked_at) > ECHO_MAX => {
                    self.stance = Stance::Steady; // the disk took too long: it asks again
                }
                AfterRecording::Move { .. } => {
                    failpoint::reach(Failpoint::BegunRecorded);
                    self.move_on(at);
                }
                AfterRecording::Start => self.start(),
            }
        }
        self.advance(at);
    }

    /// Does what is due at this time.
    pub fn advance(&mut self, at: Surroundings<'_>) {
        self.retarget(at);
        match self.stance.clone() {
            Stance::Steady => self.steady(at),
            Stance::Asking { .. } => self.asking(at),
            Stance::Recording(_) => {}
            Stance::Draining { since, quiet } => self.draining(at, since, quiet),
            Stance::Stopping => self.stopping(),
            Stance::Starting => self.starting(at),
            Stance::Probing { since, .. } => self.probing(at, since),
            Stance::Failed { reason, told } => self.failed(at, reason, told),
        }
        self.wake_at = self.next_wake(at);
    }

    /// When [`Unit::advance`] has something to do that no input will bring about.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wake_at
    }

    /// The next moment at which time alone changes something. What is past was done just now.
    fn next_wake(&self, at: Surroundings<'_>) -> Option<Instant> {
        let spec = self.spec(at.library);
        let moments = match &self.stance {
            Stance::Steady => {
                let ready = self.installed_ready_since();
                let proven = ready.map(|since| since.after(self.assignment.min_healthy));
                [self.restart.due(), proven, self.has_business().then_some(self.repeat_at)]
            }
            Stance::Asking { again_at, .. } => [Some(*again_at), self.restart.due(), None],
            Stance::Draining { since, .. } => {
                let settled = since.after(self.blind_wait(spec));
                let word = self.word.map(|(at, _)| at.after(EVIDENCE_AGE_MAX));
                let over = self.over_at(settled.after(drain_timeout(spec)));
                [Some(settled), Some(over), word]
            }
            Stance::Probing { since, .. } => {
                let ready = self.target.and_then(|target| self.process.ready_since(target));
                let proven = ready.map(|ready| ready.after(self.proof_time(spec)));
                let again = ready.map(|_| self.repeat_at);
                [proven, again, Some(self.over_at(since.after(start_deadline(spec))))]
            }
            Stance::Failed { .. } => [Some(self.repeat_at), None, None],
            Stance::Recording(_) | Stance::Stopping | Stance::Starting => [None; 3],
        };
        moments.into_iter().flatten().filter(|moment| *moment > at.now).min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<UnitOutput> {
        self.outputs.pop_front()
    }

    /// How the service stands.
    pub fn report(&self, now: Instant) -> ServiceReport {
        let release = self.process.release().or(self.journal.installed);
        ServiceReport { release, condition: self.condition(now) }
    }

    /// Releases that must stay on disk for this unit.
    pub fn needs(&self) -> impl Iterator<Item = ReleaseId> {
        let lease = self.assignment.lease.as_ref().map(|lease| lease.release);
        let all = [self.journal.installed, self.process.release(), self.target, lease];
        all.into_iter().chain([self.assignment.installable]).flatten()
    }

    fn condition(&self, now: Instant) -> Condition {
        let moving = |step: &str| Condition::Moving { step: step.to_owned() };
        match &self.stance {
            Stance::Steady | Stance::Asking { .. } if self.has_moved() => moving("going on"),
            Stance::Steady | Stance::Asking { .. } => self.steady_condition(now),
            Stance::Recording(_) => moving("recording"),
            Stance::Draining { .. } => moving("draining"),
            Stance::Stopping => moving("stopping"),
            Stance::Starting => moving("starting"),
            // Said with the proof, and not after it, so that the next may go as soon as the log has it.
            Stance::Probing { proven: true, .. } => Condition::Available,
            Stance::Probing { .. } if self.waits_for_balancer(now) => {
                moving("ready, and waiting for the balancer")
            }
            Stance::Probing { .. } => moving("probing"),
            Stance::Failed { reason, .. } => Condition::Unready { reason: reason.clone() },
        }
    }

    /// Whether an earlier life has taken the service out of action under the permit that is open.
    fn has_moved(&self) -> bool {
        self.assignment.lease.as_ref().is_some_and(|lease| self.journal.begun == Some(lease.id))
    }

    fn steady_condition(&self, now: Instant) -> Condition {
        if self.journal.installed.is_none() {
            return Condition::Absent;
        }
        if self.restart.is_frozen() && matches!(self.process, Process::Stopped { .. }) {
            return Condition::Dead { reason: self.process.complaint() };
        }
        match self.installed_ready_since() {
            Some(since) if now >= since.after(self.assignment.min_healthy) => Condition::Available,
            Some(_) => Condition::Settling,
            None => Condition::Unready { reason: self.process.complaint() },
        }
    }

    fn installed_ready_since(&self) -> Option<Instant> {
        self.journal.installed.and_then(|release| self.process.ready_since(release))
    }

    // --- keeping the service as it is ---------------------------------------------------------

    fn has_business(&self) -> bool {
        self.assignment.lease.is_some() || self.may_enroll()
    }

    fn may_enroll(&self) -> bool {
        self.assignment.standing == Standing::New && self.installed_ready_since().is_some()
    }

    fn steady(&mut self, at: Surroundings<'_>) {
        self.follow_readiness(at);
        if let Some(lease) = self.assignment.lease.clone() {
            return self.consider(at, &lease);
        }
        // What the log said before it has confirmed this life is old: a permit may have come since,
        // and the node may count by now.
        if at.life.is_some() {
            if self.journal.begun.is_some() {
                // A person closed the permit: nothing is begun by it any more.
                self.journal.begun = None;
                self.persist();
            }
            if self.installs_without_permit(at) {
                return;
            }
        }
        self.keep_running(at.now);
        self.enroll(at);
    }

    fn follow_readiness(&mut self, at: Surroundings<'_>) {
        match &self.process {
            Process::Running { ready_since: Some(_), .. } => {
                self.tell_balancer(at.asked, Balance::Up);
            }
            Process::Running { unready: Some(reason), .. }
            | Process::Stopped { reason: Some(reason) } => {
                let reason = reason.clone();
                self.tell_balancer(at.asked, Balance::Down { reason });
            }
            Process::Running { .. }
            | Process::Stopped { .. }
            | Process::Starting { .. }
            | Process::Unknown => {}
        }
    }

    /// A member that does not count yet changes what it runs as it likes.
    fn installs_without_permit(&mut self, at: Surroundings<'_>) -> bool {
        let wanted = self.assignment.installable.filter(|release| at.library.is_staged(*release));
        let Some(wanted) = wanted else { return false };
        let is_new = self.assignment.standing == Standing::New;
        if !is_new || self.journal.installed == Some(wanted) || self.process == Process::Unknown {
            return false;
        }
        self.target = Some(wanted);
        if self.process.release().is_some() {
            self.stop()
        } else {
            self.record_and_start()
        }
        true
    }

    fn keep_running(&mut self, now: Instant) {
        let Some(installed) = self.journal.installed else { return };
        if !matches!(self.process, Process::Stopped { .. }) || self.restart.is_frozen() {
            return;
        }
        if self.restart.due().is_none_or(|due| due <= now) {
            self.restart.started();
            self.process = Process::Starting { release: installed };
            self.service(ServiceAction::Start { release: installed });
        }
    }

    fn enroll(&mut self, at: Surroundings<'_>) {
        let Some(incarnation) = at.life else { return };
        let Some(release) = self.journal.installed.filter(|_| self.may_enroll()) else { return };
        if self.steady_condition(at.now).is_available() && self.repeat_due(at.now) {
            let group = self.group.clone();
            self.propose(Command::Enroll { group, release, incarnation });
        }
    }

    // --- before the first disruptive step -------------------------------------------------------

    /// Holds a permit and has moved nothing in this life.
    fn consider(&mut self, at: Surroundings<'_>, lease: &Lease) {
        self.keep_running(at.now); // until it may move, however long that takes
        let untouched = self.journal.begun != Some(lease.id);
        let nothing_to_do = self.process.ready_since(lease.release).is_some() || !lease.may_start;
        // Once "never began" was said it must stay true: the word may be on its way for long. In a
        // new life the log refuses it, as it names the old one.
        let handed_back = self.handed_back == Some(lease.id);
        if untouched && (nothing_to_do || handed_back) {
            return self.hand_back(at, lease.id);
        }
        let known = self.process != Process::Unknown;
        if known && at.life.is_some() && at.library.is_staged(lease.release) {
            self.ask(at, lease.id, at.now);
        }
    }

    fn hand_back(&mut self, at: Surroundings<'_>, permit: PermitId) {
        self.stance = Stance::Steady;
        let Some(incarnation) = at.life else { return };
        if self.repeat_due(at.now) {
            self.handed_back = Some(permit);
            self.propose(Command::Close { permit, incarnation, proof: Proof::NeverBegan });
        }
    }

    /// Asks to begin, under a new number.
    fn ask(&mut self, at: Surroundings<'_>, permit: PermitId, first: Instant) {
        failpoint::reach(Failpoint::Granted);
        let nonce = Nonce(self.rng.next_u64());
        self.stance = Stance::Asking { nonce, first, since: at.now, again_at: at.now };
        if mutant::active(Mutant::BeginWithoutEcho) {
            return self.record_begun(at, permit, at.now);
        }
        self.advance(at);
    }

    fn asking(&mut self, at: Surroundings<'_>) {
        let Stance::Asking { nonce, first, since, again_at } = self.stance else { return };
        self.follow_readiness(at);
        let Some(lease) = self.assignment.lease.clone() else {
            self.stance = Stance::Steady;
            return self.advance(at);
        };
        let Some(life) = at.life else { return };
        let in_time = at.now.since(since) <= ECHO_MAX;
        if in_time && lease.phase == (PermitPhase::Begun { incarnation: life, nonce }) {
            return self.record_begun(at, lease.id, since);
        }
        let untouched = self.journal.begun != Some(lease.id);
        let in_vain = at.now.since(first) >= ASKS_FOR;
        if untouched && (in_vain || !lease.may_start) {
            return self.hand_back(at, lease.id);
        }
        if !in_time {
            return self.ask(at, lease.id, first);
        }
        self.keep_running(at.now);
        if at.now >= again_at {
            self.stance = Stance::Asking { nonce, first, since, again_at: at.now.after(REPEAT) };
            self.propose(Command::Begin { permit: lease.id, incarnation: life, nonce });
        }
    }

    fn record_begun(&mut self, at: Surroundings<'_>, permit: PermitId, asked_at: Instant) {
        failpoint::reach(Failpoint::Begun);
        self.journal.begun = Some(permit);
        self.target = self.assignment.lease.as_ref().map(|lease| lease.release);
        self.record(AfterRecording::Move { asked_at });
        if mutant::active(Mutant::StepBeforePersist) {
            self.move_on(at);
        }
    }

    // --- under a permit that has begun ------------------------------------------------------------

    /// The step that what is found running calls for.
    fn move_on(&mut self, at: Surroundings<'_>) {
        self.overdue = None;
        let running = self.process.release();
        if running.is_some() && running == self.target {
            self.stance = Stance::Probing { since: at.now, proven: false };
        } else if running.is_some() && mutant::active(Mutant::DrainLeftOut) {
            self.stop();
        } else if running.is_some() {
            self.stance = Stance::Draining { since: at.now, quiet: false };
            self.tell_balancer(at.asked, Balance::Drain);
            self.service(ServiceAction::WatchConnections(true));
        } else {
            self.record_and_start();
        }
    }

    /// Follows a permit whose release has changed, or that is gone.
    fn retarget(&mut self, at: Surroundings<'_>) {
        let under_way = matches!(
            self.stance,
            Stance::Draining { .. } | Stance::Probing { .. } | Stance::Failed { .. }
        );
        if !under_way {
            return;
        }
        let Some(lease) = &self.assignment.lease else {
            // Closed, by this node's proof or by a person.
            failpoint::reach(Failpoint::Closed);
            self.stance = Stance::Steady;
            self.target = None;
            self.restart.forgive();
            self.service(ServiceAction::WatchConnections(false));
            return;
        };
        if self.target != Some(lease.release) {
            self.target = Some(lease.release);
            self.repeat_at = at.now;
            self.move_on(at);
        }
    }

    fn draining(&mut self, at: Surroundings<'_>, since: Instant, quiet: bool) {
        if self.process.release().is_none() {
            return self.record_and_start();
        }
        let spec = self.spec(at.library);
        let waited = since.after(self.blind_wait(spec));
        let counts = spec.is_some_and(|spec| spec.drain.listen.is_some());
        let (settled, idle) = match self.traffic(at.now) {
            Traffic::Nowhere { sessions } => (true, sessions == 0),
            Traffic::Everywhere | Traffic::Somewhere => (false, false),
            Traffic::Unknown => (at.now >= waited, !counts),
        };
        // Connections counted before the balancer has seen the word prove nothing.
        let quiet = quiet && settled;
        self.stance = Stance::Draining { since, quiet };
        if settled && (quiet || idle) {
            return self.stop();
        }
        let timeout = drain_timeout(spec);
        if self.is_over(at.now, waited.after(timeout)) {
            let what = if settled { "connections stay open" } else { "the balancer still sends" };
            self.give_up(at, format!("not drained within {timeout:?}: {what}"));
        }
    }

    /// What the balancers do since they were last told something: unknown without a fresh word.
    fn traffic(&self, now: Instant) -> Traffic {
        let told = self.balance.as_ref().map(|(_, asked)| *asked).unwrap_or_default();
        match self.word {
            Some((at, word)) if now.since(at) < EVIDENCE_AGE_MAX && word.asked > told => {
                word.traffic
            }
            _ => Traffic::Unknown,
        }
    }

    /// Whether the balancers send to the service again, as far as anybody reads them.
    fn is_sent_to(&self, now: Instant) -> bool {
        !self.assignment.watched
            || self.traffic(now) == Traffic::Everywhere
            || mutant::active(Mutant::UnseenByBalancer)
    }

    /// Whether the service is proven under its permit but for the balancers.
    fn waits_for_balancer(&self, now: Instant) -> bool {
        let ready = self.target.and_then(|target| self.process.ready_since(target));
        let proven = ready.is_some_and(|ready| now >= ready.after(self.assignment.min_healthy));
        proven && !self.is_sent_to(now)
    }

    fn stop(&mut self) {
        self.service(ServiceAction::WatchConnections(false));
        self.service(ServiceAction::Stop);
        self.stance = Stance::Stopping;
    }

    fn stopping(&mut self) {
        if matches!(self.process, Process::Stopped { .. }) {
            self.record_and_start();
        }
    }

    fn record_and_start(&mut self) {
        if let Some(lease) = &self.assignment.lease {
            self.target = Some(lease.release);
        }
        self.journal.installed = self.target.or(self.journal.installed);
        self.record(AfterRecording::Start);
    }

    fn record(&mut self, after: AfterRecording) {
        self.stance = Stance::Recording(after);
        self.persist();
    }

    fn persist(&mut self) {
        self.writes += 1;
        self.outputs.push_back(UnitOutput::Persist(self.journal));
    }

    fn start(&mut self) {
        let Some(release) = self.journal.installed else {
            self.stance = Stance::Steady;
            return;
        };
        self.restart.forgive();
        self.process = Process::Starting { release };
        self.service(ServiceAction::Start { release });
        self.stance = Stance::Starting;
    }

    fn starting(&mut self, at: Surroundings<'_>) {
        match &self.process {
            Process::Running { .. } => {
                self.overdue = None;
                let probing = Stance::Probing { since: at.now, proven: false };
                let permitted = self.assignment.lease.is_some();
                self.stance = if permitted { probing } else { Stance::Steady };
                self.advance(at);
            }
            Process::Stopped { .. } if self.assignment.lease.is_some() => {
                self.give_up(at, self.process.complaint());
            }
            Process::Stopped { .. } => {
                self.restart.ended(at.now);
                self.stance = Stance::Steady;
            }
            Process::Unknown | Process::Starting { .. } => {}
        }
    }

    fn probing(&mut self, at: Surroundings<'_>, since: Instant) {
        let Some(target) = self.target else { return };
        if self.process.release() != Some(target) {
            return self.give_up(at, self.process.complaint());
        }
        let spec = self.spec(at.library);
        let (deadline, proof_time) = (since.after(start_deadline(spec)), self.proof_time(spec));
        let ready = self.process.ready_since(target);
        if ready.is_some() {
            // Before it is judged whether they send: what they did before that proves nothing.
            self.tell_balancer(at.asked, Balance::Up);
        }
        let proven =
            ready.is_some_and(|ready| at.now >= ready.after(proof_time)) && self.is_sent_to(at.now);
        self.stance = Stance::Probing { since, proven };
        match ready {
            Some(_) => {
                failpoint::reach(Failpoint::Ready);
                if proven && self.repeat_due(at.now) {
                    failpoint::reach(Failpoint::Proven);
                    self.prove(at, target);
                }
            }
            None if self.is_over(at.now, deadline) => self.give_up(at, self.process.complaint()),
            None => {}
        }
    }

    fn prove(&mut self, at: Surroundings<'_>, release: ReleaseId) {
        let Some(lease) = &self.assignment.lease else { return };
        let Some(incarnation) = at.life else { return };
        let permit = lease.id;
        self.propose(Command::Close { permit, incarnation, proof: Proof::Ready { release } });
    }

    fn give_up(&mut self, at: Surroundings<'_>, reason: String) {
        self.service(ServiceAction::WatchConnections(false));
        self.repeat_at = at.now;
        self.failed(at, reason, false);
    }

    fn failed(&mut self, at: Surroundings<'_>, reason: String, told: bool) {
        let Some(lease) = self.assignment.lease.clone() else { return };
        self.stance = Stance::Failed { reason: reason.clone(), told: told || lease.failed };
        if lease.failed {
            self.repeat_at = at.now.after(REPEAT);
        } else if told {
            self.repeat_at = at.now;
            self.move_on(at); // a person resumes
        } else if let Some(incarnation) = at.life.filter(|_| self.repeat_due(at.now)) {
            let (permit, release) = (lease.id, lease.release);
            self.propose(Command::Fail { permit, incarnation, release, reason });
        }
    }

    // --- small things -------------------------------------------------------------------------------

    /// How the service that is, or is to be, taken out is run.
    fn spec<'a>(&self, library: &'a Library) -> Option<&'a ServiceSpec> {
        let release = match self.stance {
            Stance::Draining { .. } => self.process.release(),
            _ => self.target,
        };
        release.and_then(|release| library.service(release))
    }

    /// How long a drain waits for balancers that it does not see.
    fn blind_wait(&self, spec: Option<&ServiceSpec>) -> Duration {
        let word = if self.assignment.watched { WORD_WITHIN } else { Duration::ZERO };
        balancer_delay(spec).max(word)
    }

    /// How long the service must be ready to be proven. The balancer's time is waited for where nobody
    /// can see that it sends again.
    fn proof_time(&self, spec: Option<&ServiceSpec>) -> Duration {
        if mutant::active(Mutant::UnseenByBalancer) {
            return Duration::ZERO;
        }
        let blind = if self.assignment.watched { Duration::ZERO } else { balancer_delay(spec) };
        self.assignment.min_healthy.max(blind)
    }

    /// Whether the deadline of the present step has passed, and was seen to for long enough.
    fn is_over(&mut self, now: Instant, deadline: Instant) -> bool {
        if now >= deadline {
            self.overdue.get_or_insert(now);
        }
        self.overdue.is_some() && now >= self.over_at(deadline)
    }

    fn over_at(&self, deadline: Instant) -> Instant {
        self.overdue.map_or(deadline, |seen| seen.after(LAST_LOOK))
    }

    fn repeat_due(&mut self, now: Instant) -> bool {
        let due = now >= self.repeat_at;
        if due {
            self.repeat_at = now.after(REPEAT);
        }
        due
    }

    fn tell_balancer(&mut self, asked: (u64, Question), balance: Balance) {
        if self.balance.as_ref().is_none_or(|(told, _)| *told != balance) {
            self.service(ServiceAction::Balance(balance.clone()));
            self.balance = Some((balance, asked));
        }
    }

    fn service(&mut self, action: ServiceAction) {
        self.outputs.push_back(UnitOutput::Service(action));
    }

    fn propose(&mut self, command: Command) {
        self.outputs.push_back(UnitOutput::Propose(command));
    }
}

fn balancer_delay(spec: Option<&ServiceSpec>) -> Duration {
    spec.map_or(Duration::ZERO, |spec| spec.drain.balancer_delay)
}

fn drain_timeout(spec: Option<&ServiceSpec>) -> Duration {
    spec.map_or(Duration::ZERO, |spec| spec.drain.timeout)
}

fn start_deadline(spec: Option<&ServiceSpec>) -> Duration {
    spec.map_or(Duration::from_secs(60), |spec| spec.ready.deadline)
}
