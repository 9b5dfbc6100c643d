//! Between the grant of a permit and the first disruptive step: the mesh is asked whether the permit still
//! stands; the question is written down before it is asked, and the answer before it is heeded.

use core::time::Duration;

use crate::agent::journal::Step;
use crate::agent::library::Library;
use crate::agent::service::Process;
use crate::failpoint::{self, Failpoint};
use crate::fleet::command::{Command, Proof};
use crate::fleet::permit::PermitPhase;
use crate::id::{Incarnation, Nonce, PermitId};
use crate::mutant::{self, Mutant};
use crate::time::Instant;

use super::assignment::Lease;
use super::moving::stop_timeout;
use super::{AfterRecording, REPEAT, Stance, Surroundings, Unit};

/// Pause until a request that the leader has not taken is sent again, doubled each time. The leader may
/// be the last to know of a permit: one is granted when most voters have it on disk, and its own disk
/// may be the slowest.
const NOT_TAKEN_PAUSE: Duration = Duration::from_millis(20);

/// How old a request to begin may be when its echo comes. A later echo starts nothing.
pub(super) const ECHO_MAX: Duration = Duration::from_secs(5);

/// How long a holder that has moved nothing asks to begin before it hands its permit back. Holders
/// could wait for each other for ever, as where the cap has fallen below the permits that are out.
const ASKS_FOR: Duration = Duration::from_secs(10);

impl Unit {
    /// Holds a permit and has moved nothing in this life.
    pub(super) fn consider(&mut self, at: Surroundings<'_>, lease: &Lease) {
        self.keep_running(at.now); // until it may move, however long that takes
        let untouched = self.has_left_alone(at, lease) || mutant::active(Mutant::MoveForgotten);
        let nothing_to_do = self.process.ready_since(lease.release).is_some() || !lease.may_start;
        // Once "never began" was said it must stay true: the word may be on its way for long. In a
        // new life the log refuses it, as it names the old one.
        let handed_back = self.handed_back == Some(lease.id);
        if handed_back || (untouched && nothing_to_do) {
            return self.hand_back(at, lease.id);
        }
        let known = self.process != Process::Unknown;
        let Some(life) = at.life.filter(|_| known && at.library.is_staged(lease.release)) else {
            return;
        };
        if untouched && self.journal.step != Step::Asked(lease.id, life) {
            self.record_question(lease.id, life);
            if !mutant::active(Mutant::AskBeforePersist) {
                return;
            }
        }
        self.ask(at, lease, at.now);
    }

    /// Whether nothing was moved under this permit, in any life. Where the log has begun it in an earlier
    /// one, that the disk does not tell of a move is not enough: it may be an older disk that was put
    /// back. Then it must tell of the last life that began, and what it says is installed must run.
    fn has_left_alone(&self, at: Surroundings<'_>, lease: &Lease) -> bool {
        match (self.journal.step, lease.phase) {
            (Step::Begun(permit), _) if permit == lease.id => false,
            (_, PermitPhase::Granted) => true,
            (Step::Asked(permit, life), PermitPhase::Begun { incarnation, .. }) => {
                let present = Some(life) == at.life;
                let runs = self.process.release() == self.journal.installed;
                permit == lease.id && (present || (incarnation <= life && runs))
            }
            (Step::Nothing | Step::Begun(_), PermitPhase::Begun { .. }) => false,
        }
    }

    pub(super) fn record_question(&mut self, permit: PermitId, life: Incarnation) {
        self.journal.step = Step::Asked(permit, life);
        self.record(AfterRecording::Ask);
    }

    /// The disk took too long: the echo is too old to move on, and is asked for again.
    pub(super) fn come_too_late(&mut self, at: Surroundings<'_>, untouched: bool) {
        self.stance = Stance::Steady;
        if let (Some(permit), Some(life), true) = (self.journal.begun(), at.life, untouched) {
            self.record_question(permit, life);
        }
    }

    /// Its question is on its way to the disk.
    pub(super) fn recording_question(&mut self, at: Surroundings<'_>) {
        self.follow_readiness(at);
        self.keep_running(at.now);
    }

    fn hand_back(&mut self, at: Surroundings<'_>, permit: PermitId) {
        self.stance = Stance::Steady;
        let Some(incarnation) = at.life else { return };
        if self.repeat_due(at.now) {
            self.handed_back = Some(permit);
            self.propose(Command::Close { permit, incarnation, proof: Proof::NeverBegan });
        }
    }

    /// Its service serves, whatever an earlier life has begun: it gives its permit back once that is proven,
    /// so that it and another one that is out do not wait for each other.
    fn give_back(&mut self, at: Surroundings<'_>, life: Incarnation, lease: &Lease) {
        let proven = self.serves_from(at.library).is_some_and(|proven| proven <= at.now);
        let (Some(release), PermitPhase::Begun { nonce, .. }) =
            (self.journal.installed, lease.phase)
        else {
            return;
        };
        if proven && self.repeat_due(at.now) {
            let (permit, proof) = (lease.id, Proof::Serves { release, begun: nonce });
            self.propose(Command::Close { permit, incarnation: life, proof });
        }
    }

    /// From when on it is proven that what is installed serves, and not only until it ends by a stop that an
    /// earlier life has asked for.
    pub(super) fn serves_from(&self, library: &Library) -> Option<Instant> {
        let spec = self.journal.installed.and_then(|release| library.service(release));
        let ready = self.installed_ready_since()?;
        Some(self.proven_at(ready, spec).max(ready.after(stop_timeout(spec))))
    }

    /// Asks to begin, under a number that is higher than any before.
    fn ask(&mut self, at: Surroundings<'_>, lease: &Lease, first: Instant) {
        failpoint::reach(Failpoint::Granted);
        let newest = match lease.phase {
            PermitPhase::Begun { nonce, .. } => nonce,
            PermitPhase::Granted => Nonce::default(),
        };
        let (permit, nonce) = (lease.id, Nonce(self.nonce.max(newest).0.saturating_add(1)));
        self.nonce = nonce;
        let (now, pause) = (at.now, NOT_TAKEN_PAUSE);
        self.stance = Stance::Asking { permit, nonce, first, since: now, again_at: now, pause };
        if mutant::active(Mutant::BeginWithoutEcho) {
            return self.record_begun(at, permit, at.now);
        }
        self.advance(at);
    }

    pub(super) fn asking(&mut self, at: Surroundings<'_>) {
        let Stance::Asking { permit, nonce, first, since, again_at, pause } = self.stance else {
            return;
        };
        self.follow_readiness(at);
        // Its permit may be closed, and another one be granted, with the same news.
        let Some(lease) = self.assignment.lease.clone().filter(|lease| lease.id == permit) else {
            self.stance = Stance::Steady;
            return self.advance(at);
        };
        let Some(life) = at.life else { return };
        let in_time = at.now.since(since) <= ECHO_MAX || mutant::active(Mutant::LateEcho);
        if in_time && lease.phase == (PermitPhase::Begun { incarnation: life, nonce }) {
            return self.record_begun(at, lease.id, since);
        }
        if at.now.since(first) >= ASKS_FOR || !lease.may_start {
            if self.has_left_alone(at, &lease) {
                return self.hand_back(at, lease.id);
            }
            if self.installed_ready_since().is_some() && self.is_sent_to(at.now) {
                return self.give_back(at, life, &lease);
            }
        }
        if !in_time {
            return self.ask(at, &lease, first);
        }
        self.keep_running(at.now);
        if at.now >= again_at {
            let again_at = at.now.after(REPEAT);
            self.stance = Stance::Asking { permit, nonce, first, since, again_at, pause };
            self.propose(Command::Begin { permit, incarnation: life, nonce });
        }
    }

    /// The leader has not taken what was last proposed here.
    pub fn not_taken(&mut self, at: Surroundings<'_>) {
        if let Stance::Asking { again_at, pause, .. } = &mut self.stance {
            *again_at = at.now.after(*pause).min(*again_at);
            *pause = (*pause * 2).min(REPEAT);
        }
        self.advance(at);
    }

    fn record_begun(&mut self, at: Surroundings<'_>, permit: PermitId, asked_at: Instant) {
        failpoint::reach(Failpoint::Begun);
        let untouched =
            self.assignment.lease.as_ref().is_some_and(|it| self.has_left_alone(at, it));
        self.journal.step = Step::Begun(permit);
        self.target = self.assignment.lease.as_ref().map(|lease| lease.release);
        self.record(AfterRecording::Move { asked_at, untouched });
        if mutant::active(Mutant::StepBeforePersist) {
            self.move_on(at);
        }
    }
}
