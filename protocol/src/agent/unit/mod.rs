//! One service on this node: kept running, and moved from release to release under permits.
//!
//! ```text
//! Steady → Asking → Recording → Draining → Stopping → Starting → Probing → Steady
//!                                   ╰──────────╴ Failed ╶──────────╯
//! ```
//! `Asking` is over only when the mesh's `Begin` echoes this node's own nonce in time. After a crash
//! the unit asks again, and then goes on from what it finds running: no step is remembered that can
//! be seen.
//!
//! * [`assignment`]: what the log says to it; [`output`]: what it wants done
//! * `keeping`: without a permit; `asking`: before the first disruptive step; `moving`: the old release out,
//!   the new one in; `proving`: until it is ready for long enough

mod asking;
pub mod assignment;
mod keeping;
mod moving;
pub mod output;
mod proving;

use core::time::Duration;
use std::collections::VecDeque;

use crate::agent::balancer::Word;
use crate::agent::journal::Journal;
use crate::agent::library::Library;
use crate::agent::report::{Condition, ServiceReport};
use crate::agent::service::{Process, RestartPolicy, ServiceEvent};
use crate::artifact::service::ServiceSpec;
use crate::failpoint::{self, Failpoint};
use crate::fleet::command::Command;
use crate::fleet::group::Standing;
use crate::id::{GroupName, Incarnation, Nonce, PermitId, Question, ReleaseId};
use crate::limits::EVIDENCE_AGE_MAX;
use crate::mutant::{self, Mutant};
use crate::time::Instant;

use asking::ECHO_MAX;
pub use assignment::{Assignment, Lease};
use moving::{LOOK_EVERY, drain_timeout};
pub use output::{Balance, ServiceAction, UnitOutput};
use proving::start_deadline;

/// How long one look at a service takes, unless its definition says otherwise.
const LAST_LOOK: Duration = Duration::from_secs(3);

/// Pause between two sendings of the same request or proof, until the log shows it.
const REPEAT: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stance {
    Steady,
    /// `first`: when it was first asked under this permit; `since`: under this number; `pause`: how long
    /// it waits when the leader does not take it.
    Asking {
        permit: PermitId,
        nonce: Nonce,
        first: Instant,
        since: Instant,
        again_at: Instant,
        pause: Duration,
    },
    Recording(AfterRecording),
    /// `awake`: when it was last looked after.
    Draining {
        since: Instant,
        awake: Instant,
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
    Ask,
    /// What runs is what is installed.
    Adopt,
    /// `untouched`: nothing was moved before, in any life.
    Move {
        asked_at: Instant,
        untouched: bool,
    },
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
    /// When the balancer was told that.
    told_at: Instant,
    /// What the balancers do, as the leader last said, and when that came.
    word: Option<(Instant, Word)>,
    handed_back: Option<PermitId>,
    repeat_at: Instant,
    wake_at: Option<Instant>,
    /// When the deadline of the present step was first seen to have passed.
    overdue: Option<Instant>,
    /// Journals that were given out and are not on disk yet.
    writes: u32,
    /// Of its last request to begin.
    nonce: Nonce,
    outputs: VecDeque<UnitOutput>,
}

impl Unit {
    /// A unit that goes on from what its disk and its runtime say. Its requests have higher numbers than `nonce`.
    pub fn new(
        group: GroupName,
        assignment: Assignment,
        journal: Journal,
        process: Process,
        nonce: Nonce,
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
            told_at: Instant::ZERO,
            word: None,
            handed_back: None,
            repeat_at: Instant::ZERO,
            wake_at: None,
            overdue: None,
            writes: 0,
            nonce,
            outputs: VecDeque::new(),
        };
        // A balancer keeps the last word of an agent that was gone. Where that may have been a drain,
        // nothing is said until it is seen what runs: the permit may be closed by now, and a service
        // that serves is not taken out by a guess.
        if unit.journal.begun().is_none() {
            unit.tell_balancer(Instant::ZERO, (0, Question::default()), Balance::Up);
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
        let is_to_run = self.is_to_run();
        self.doubt(at);
        self.process.observe(at.now, event);
        match (&mut self.stance, event) {
            (Stance::Draining { quiet, .. }, ServiceEvent::Connections(count)) => {
                *quiet = *count == 0;
            }
            (_, ServiceEvent::Exited { .. } | ServiceEvent::StartFailed { .. })
                if was_running && is_to_run =>
            {
                self.restart.ended(at.now);
            }
            (_, ServiceEvent::Probed(Ok(()))) if is_to_run => self.restart.forgive(),
            _ => {}
        }
        self.advance(at);
    }

    /// Whether the service is not being moved: one that ends then was not meant to.
    fn is_to_run(&self) -> bool {
        match &self.stance {
            Stance::Steady
            | Stance::Asking { .. }
            | Stance::Recording(AfterRecording::Ask | AfterRecording::Adopt)
            | Stance::Probing { .. }
            | Stance::Failed { .. } => true,
            Stance::Recording(AfterRecording::Move { .. } | AfterRecording::Start)
            | Stance::Draining { .. }
            | Stance::Stopping
            | Stance::Starting => false,
        }
    }

    /// The permit that is open for it.
    pub fn permit(&self) -> Option<PermitId> {
        self.assignment.lease.as_ref().map(|lease| lease.id)
    }

    /// The leader says what the balancers do for the holder of its permit.
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
                AfterRecording::Ask | AfterRecording::Adopt => self.stance = Stance::Steady,
                AfterRecording::Move { asked_at, untouched }
                    if at.now.since(asked_at) > ECHO_MAX && !mutant::active(Mutant::LateEcho) =>
                {
                    self.come_too_late(at, untouched);
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
        self.doubt(at);
        self.retarget(at);
        match self.stance.clone() {
            Stance::Steady => self.steady(at),
            Stance::Asking { .. } => self.asking(at),
            Stance::Recording(AfterRecording::Ask) => self.recording_question(at),
            Stance::Recording(AfterRecording::Adopt) => self.follow_readiness(at),
            Stance::Recording(AfterRecording::Move { .. } | AfterRecording::Start) => {}
            Stance::Draining { since, awake, quiet } => self.draining(at, since, awake, quiet),
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
            Stance::Asking { again_at, .. } => {
                let proven = self.serves_from(at.library).map(|proven| proven.max(self.repeat_at));
                [Some(*again_at), self.restart.due(), proven]
            }
            Stance::Draining { since, .. } => {
                let settled = since.after(self.blind_wait(spec));
                let word = self.word.map(|(at, _)| at.after(EVIDENCE_AGE_MAX));
                let over = self.over_at(settled.after(drain_timeout(spec)), last_look(spec));
                let look = at.now.after(LOOK_EVERY);
                let look = if settled > at.now { settled.min(look) } else { look };
                [Some(look), Some(over), word]
            }
            Stance::Probing { since, .. } => {
                let ready = self.target.and_then(|target| self.process.ready_since(target));
                let proven = ready.map(|ready| self.proven_at(ready, spec));
                let again = ready.map(|_| self.repeat_at);
                let over = self.over_at(since.after(start_deadline(spec)), last_look(spec));
                [proven, again, Some(over)]
            }
            Stance::Failed { .. } => [Some(self.repeat_at), self.restart.due(), None],
            Stance::Recording(AfterRecording::Ask) => [self.restart.due(), None, None],
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
            Stance::Steady | Stance::Asking { .. } if self.is_out() => moving("going on"),
            Stance::Steady
            | Stance::Asking { .. }
            | Stance::Recording(AfterRecording::Ask | AfterRecording::Adopt) => {
                self.steady_condition(now)
            }
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

    /// Whether an earlier life has left the service out of action under the permit that is open. Where the
    /// old release serves, as that life came no further or its drain is over, going on takes it away like
    /// the first time.
    fn is_out(&self) -> bool {
        let moved = self.moving_under().is_some();
        moved && self.installed_ready_since().is_none() && !self.process.is_unseen()
    }

    /// The open permit under which this disk tells of a move.
    fn moving_under(&self) -> Option<&Lease> {
        self.assignment.lease.as_ref().filter(|lease| self.journal.begun() == Some(lease.id))
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
            None if self.process.is_unseen() => Condition::Unseen,
            None => Condition::Unready { reason: self.process.complaint() },
        }
    }

    fn installed_ready_since(&self) -> Option<Instant> {
        self.journal.installed.and_then(|release| self.process.ready_since(release))
    }

    /// How the service that is, or is to be, taken out is run.
    fn spec<'a>(&self, library: &'a Library) -> Option<&'a ServiceSpec> {
        let release = match self.stance {
            Stance::Draining { .. } => self.process.release(),
            _ => self.target,
        };
        release.and_then(|release| library.service(release))
    }

    /// Whether the deadline of the present step has passed, and was seen to for long enough.
    fn is_over(&mut self, now: Instant, deadline: Instant, look: Duration) -> bool {
        if now >= deadline {
            self.overdue.get_or_insert(now);
        }
        self.overdue.is_some() && now >= self.over_at(deadline, look)
    }

    /// A machine that slept through a deadline takes one more look at what runs before it judges.
    fn over_at(&self, deadline: Instant, look: Duration) -> Instant {
        self.overdue.map_or(deadline, |seen| seen.after(look))
    }

    fn repeat_due(&mut self, now: Instant) -> bool {
        let due = now >= self.repeat_at;
        if due {
            self.repeat_at = now.after(REPEAT);
        }
        due
    }

    fn tell_balancer(&mut self, now: Instant, asked: (u64, Question), balance: Balance) {
        if self.balance.as_ref().is_none_or(|(told, _)| *told != balance) {
            self.service(ServiceAction::Balance(balance.clone()));
            self.balance = Some((balance, asked));
            self.told_at = now;
        }
    }

    fn service(&mut self, action: ServiceAction) {
        self.outputs.push_back(UnitOutput::Service(action));
    }

    fn propose(&mut self, command: Command) {
        self.outputs.push_back(UnitOutput::Propose(command));
    }
}

/// How long one look at a service takes: until it is asked, and until it answers.
fn last_look(spec: Option<&ServiceSpec>) -> Duration {
    spec.map_or(LAST_LOOK, |spec| spec.ready.interval + spec.ready.timeout)
}
