//! Under a permit that has begun: the old release out, the new one in.

use core::time::Duration;

use crate::agent::balancer::Traffic;
use crate::agent::service::Process;
use crate::artifact::service::ServiceSpec;
use crate::failpoint::{self, Failpoint};
use crate::limits::EVIDENCE_AGE_MAX;
use crate::mutant::{self, Mutant};
use crate::time::Instant;

use super::output::{Balance, ServiceAction, UnitOutput};
use super::{AfterRecording, Stance, Surroundings, Unit, last_look};

/// How long a word on the balancers is waited for where somebody reads them: the leader asks each second,
/// a look takes half of one, and HAProxy asks an agent each two by default.
const WORD_WITHIN: Duration = Duration::from_secs(10);

/// Pause between two looks of a drain at the clock, and from where on the node has slept in between.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);
const SLEEPS_FROM: Duration = Duration::from_secs(1);

impl Unit {
    /// The step that what is found running calls for.
    pub(super) fn move_on(&mut self, at: Surroundings<'_>) {
        self.overdue = None;
        let running = self.process.release();
        if running.is_some() && running == self.target {
            self.stance = Stance::Probing { since: at.now, proven: false };
        } else if running.is_some() && mutant::active(Mutant::DrainLeftOut) {
            self.stop();
        } else if running.is_some() {
            self.stance = Stance::Draining { since: at.now, awake: at.now, quiet: false };
            self.tell_balancer(at.now, at.asked, Balance::Drain);
            self.service(ServiceAction::WatchConnections(true));
        } else {
            self.record_and_start();
        }
    }

    /// Follows a permit whose release has changed, or that is gone.
    pub(super) fn retarget(&mut self, at: Surroundings<'_>) {
        let under_way = matches!(
            self.stance,
            Stance::Draining { .. } | Stance::Probing { .. } | Stance::Failed { .. }
        );
        if !under_way {
            return;
        }
        let Some(lease) = self.moving_under() else {
            // Closed, by this node's proof or by a person. Another one, that came with the same news,
            // has not begun.
            failpoint::reach(Failpoint::Closed);
            self.stance = Stance::Steady;
            self.target = None;
            self.restart.forgive();
            self.service(ServiceAction::WatchConnections(false));
            return;
        };
        let release = lease.release;
        if self.target != Some(release) {
            self.target = Some(release);
            self.repeat_at = at.now;
            self.move_on(at);
        }
    }

    pub(super) fn draining(
        &mut self,
        at: Surroundings<'_>,
        since: Instant,
        awake: Instant,
        quiet: bool,
    ) {
        // While the node slept, no balancer could ask it: none of that wait counts.
        let slept = at.now.since(awake) > SLEEPS_FROM;
        let since = if slept { at.now } else { since };
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
        self.stance = Stance::Draining { since, awake: at.now, quiet };
        if settled && (quiet || idle) {
            return self.stop();
        }
        let (timeout, look) = (drain_timeout(spec), last_look(spec));
        if self.is_over(at.now, waited.after(timeout), look) {
            let what = if settled { "connections stay open" } else { "the balancer still sends" };
            self.give_up(at, format!("not drained within {timeout:?}: {what}"));
        }
    }

    /// How long a drain waits for balancers that it does not see.
    pub(super) fn blind_wait(&self, spec: Option<&ServiceSpec>) -> Duration {
        let word = if self.assignment.watched { WORD_WITHIN } else { Duration::ZERO };
        balancer_delay(spec).max(word)
    }

    /// What the balancers do since they were last told something: unknown without a fresh word.
    pub(super) fn traffic(&self, now: Instant) -> Traffic {
        let told = self.balance.as_ref().map(|(_, asked)| *asked).unwrap_or_default();
        match self.word {
            Some((at, word)) if now.since(at) < EVIDENCE_AGE_MAX && word.asked > told => {
                word.traffic
            }
            _ => Traffic::Unknown,
        }
    }

    pub(super) fn stop(&mut self) {
        self.service(ServiceAction::WatchConnections(false));
        self.service(ServiceAction::Stop);
        self.stance = Stance::Stopping;
    }

    pub(super) fn stopping(&mut self) {
        if matches!(self.process, Process::Stopped { .. }) {
            self.record_and_start();
        }
    }

    pub(super) fn record_and_start(&mut self) {
        if let Some(lease) = self.moving_under() {
            self.target = Some(lease.release);
        }
        self.journal.installed = self.target.or(self.journal.installed);
        self.record(AfterRecording::Start);
    }

    pub(super) fn record(&mut self, after: AfterRecording) {
        self.stance = Stance::Recording(after);
        self.persist();
    }

    pub(super) fn persist(&mut self) {
        self.writes += 1;
        self.outputs.push_back(UnitOutput::Persist(self.journal));
    }

    pub(super) fn start(&mut self) {
        let Some(release) = self.journal.installed else {
            self.stance = Stance::Steady;
            return;
        };
        self.restart.forgive();
        self.process = Process::Starting { release };
        self.service(ServiceAction::Start { release });
        self.stance = Stance::Starting;
    }

    pub(super) fn starting(&mut self, at: Surroundings<'_>) {
        match &self.process {
            Process::Running { .. } => {
                self.overdue = None;
                let probing = Stance::Probing { since: at.now, proven: false };
                let permitted = self.moving_under().is_some();
                self.stance = if permitted { probing } else { Stance::Steady };
                self.advance(at);
            }
            Process::Stopped { .. } if self.moving_under().is_some() => {
                self.give_up(at, self.process.complaint());
            }
            Process::Stopped { .. } => {
                self.restart.ended(at.now);
                self.stance = Stance::Steady;
            }
            Process::Unknown | Process::Starting { .. } => {}
        }
    }
}

pub(super) fn balancer_delay(spec: Option<&ServiceSpec>) -> Duration {
    spec.map_or(Duration::ZERO, |spec| spec.drain.balancer_delay)
}

pub(super) fn drain_timeout(spec: Option<&ServiceSpec>) -> Duration {
    spec.map_or(Duration::ZERO, |spec| spec.drain.timeout)
}

pub(super) fn stop_timeout(spec: Option<&ServiceSpec>) -> Duration {
    spec.map_or(Duration::ZERO, |spec| spec.run.stop_timeout)
}
