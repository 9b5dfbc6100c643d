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
use super::{REPEAT, Stance, Surroundings, Unit};

impl Unit {
    pub(super) fn probing(&mut self, at: Surroundings<'_>, since: Instant) {
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

    /// How long the service must be ready to be proven. The balancer's time is waited for where nobody
    /// can see that it sends again.
    pub(super) fn proof_time(&self, spec: Option<&ServiceSpec>) -> Duration {
        let blind = if self.assignment.watched { Duration::ZERO } else { balancer_delay(spec) };
        self.assignment.min_healthy.max(blind)
    }

    /// Whether the balancers send to the service again, as far as anybody reads them.
    fn is_sent_to(&self, now: Instant) -> bool {
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
        let Some(lease) = &self.assignment.lease else { return };
        let Some(incarnation) = at.life else { return };
        let permit = lease.id;
        self.propose(Command::Close { permit, incarnation, proof: Proof::Ready { release } });
    }

    pub(super) fn give_up(&mut self, at: Surroundings<'_>, reason: String) {
        self.service(ServiceAction::WatchConnections(false));
        self.repeat_at = at.now;
        self.failed(at, reason, false);
    }

    pub(super) fn failed(&mut self, at: Surroundings<'_>, reason: String, told: bool) {
        let Some(lease) = self.assignment.lease.clone() else { return };
        self.stance = Stance::Failed { reason: reason.clone(), told: told || lease.failed };
        if lease.failed && self.process.ready_since(lease.release).is_some() {
            // Late, and the proof is as good as ever: where the rollout was aborted nobody else could
            // end this permit.
            self.stance = Stance::Probing { since: at.now, proven: false };
        } else if lease.failed {
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
