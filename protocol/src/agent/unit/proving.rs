//! The end of a move: the service is ready for long enough, or it is said why not.

use core::time::Duration;

use crate::agent::balancer::Traffic;
use crate::artifact::service::ServiceSpec;
use crate::failpoint::{self, Failpoint};
use crate::fleet::command::{Command, Proof};
use crate::id::ReleaseId;
use crate::mutant::{self, Mutant};
use crate::time::Instant;

use super::moving::balancer_delay;
use super::output::{Balance, ServiceAction};
use super::{REPEAT, Stance, Surroundings, Unit, last_look};

impl Unit {
    pub(super) fn probing(&mut self, at: Surroundings<'_>, since: Instant) {
        let Some(target) = self.target else { return };
        if self.process.release() != Some(target) {
            return self.give_up(at, self.process.complaint());
        }
        if mutant::active(Mutant::CloseUnproven) && self.repeat_due(at.now) {
            return self.prove(at, target);
        }
        let spec = self.spec(at.library);
        let (deadline, look) = (since.after(start_deadline(spec)), last_look(spec));
        let ready = self.process.ready_since(target);
        if ready.is_some() {
            // Before it is judged whether they send: what they did before that proves nothing.
            self.tell_balancer(at.now, at.asked, Balance::Up);
        }
        let proven = ready.is_some_and(|ready| at.now >= self.proven_at(ready, spec))
            && self.is_sent_to(at.now);
        self.stance = Stance::Probing { since, proven };
        match ready {
            Some(_) => {
                self.overdue = None;
                failpoint::reach(Failpoint::Ready);
                if proven && self.repeat_due(at.now) {
                    failpoint::reach(Failpoint::Proven);
                    self.prove(at, target);
                }
            }
            None if self.is_over(at.now, deadline, look) => {
                self.give_up(at, self.process.complaint())
            }
            None => {}
        }
    }

    /// What nobody has looked at for two looks is not ready, whatever the last one saw: one may be late
    /// on a machine that has much to do.
    pub(super) fn doubt(&mut self, at: Surroundings<'_>) {
        let service = self.process.release().and_then(|release| at.library.service(release));
        self.process.doubt(at.now, last_look(service) * 2);
    }

    /// When a service that is ready since then is proven. Where nobody can see that the balancer sends
    /// again, its own time is waited for, from when it was told to: a service that was drained and kept
    /// has been ready all along.
    pub(super) fn proven_at(&self, ready: Instant, spec: Option<&ServiceSpec>) -> Instant {
        let healthy = ready.after(self.assignment.min_healthy);
        if self.assignment.watched {
            return healthy;
        }
        healthy.max(ready.max(self.told_at).after(balancer_delay(spec)))
    }

    /// Whether the balancers send to the service again, as far as anybody reads them.
    pub(super) fn is_sent_to(&self, now: Instant) -> bool {
        !self.assignment.watched
            || self.traffic(now) == Traffic::Everywhere
            || mutant::active(Mutant::UnseenByBalancer)
    }

    /// Whether the service is proven under its permit but for the balancers.
    pub(super) fn waits_for_balancer(&self, now: Instant) -> bool {
        let ready = self.target.and_then(|target| self.process.ready_since(target));
        let proven = ready.is_some_and(|ready| now >= ready.after(self.assignment.min_healthy));
        proven && !self.is_sent_to(now)
    }

    fn prove(&mut self, at: Surroundings<'_>, release: ReleaseId) {
        let Some(lease) = self.moving_under() else { return };
        let Some(incarnation) = at.life else { return };
        let (permit, proof) = (lease.id, Proof::Ready { release, rollout: lease.rollout });
        self.propose(Command::Close { permit, incarnation, proof });
    }

    pub(super) fn give_up(&mut self, at: Surroundings<'_>, reason: String) {
        self.service(ServiceAction::WatchConnections(false));
        self.repeat_at = at.now;
        self.failed(at, reason, false);
    }

    pub(super) fn failed(&mut self, at: Surroundings<'_>, reason: String, told: bool) {
        let Some(lease) = self.moving_under().cloned() else { return };
        self.stance = Stance::Failed { reason: reason.clone(), told: told || lease.failed };
        if lease.failed && self.process.ready_since(lease.release).is_some() {
            // Late, and the proof is as good as ever: where the rollout was aborted nobody else could
            // end this permit.
            self.overdue = None;
            self.stance = Stance::Probing { since: at.now, proven: false };
        } else if lease.failed {
            if !lease.may_start {
                // Nobody sends it on, or only when a person resumes: what has died may come back.
                self.keep_running(at.now);
            }
            self.repeat_at = at.now.after(REPEAT);
        } else if told {
            self.repeat_at = at.now;
            self.move_on(at); // a person resumes
        } else if let Some(incarnation) = at.life.filter(|_| self.repeat_due(at.now)) {
            let (permit, release) = (lease.id, lease.release);
            self.propose(Command::Fail { permit, incarnation, release, reason });
        }
    }
}

pub(super) fn start_deadline(spec: Option<&ServiceSpec>) -> Duration {
    spec.map_or(Duration::from_secs(60), |spec| spec.ready.deadline)
}
