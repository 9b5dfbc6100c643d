//! Without a permit: the service is kept as it is, and a new member installs what it is to run.

use crate::agent::journal::Step;
use crate::agent::service::Process;
use crate::fleet::command::Command;
use crate::fleet::group::Standing;
use crate::time::Instant;

use super::output::{Balance, ServiceAction};
use super::{AfterRecording, Surroundings, Unit};

impl Unit {
    pub(super) fn has_business(&self) -> bool {
        self.assignment.lease.is_some() || self.may_enroll()
    }

    fn may_enroll(&self) -> bool {
        self.assignment.standing == Standing::New && self.installed_ready_since().is_some()
    }

    pub(super) fn steady(&mut self, at: Surroundings<'_>) {
        self.follow_readiness(at);
        if let Some(lease) = self.assignment.lease.clone() {
            return self.consider(at, &lease);
        }
        // What the log said before it has confirmed this life is old: a permit may have come since,
        // and the node may count by now.
        if at.life.is_some() {
            if self.journal.step != Step::Nothing {
                // The permit is closed: nothing is asked or begun by it any more.
                self.journal.step = Step::Nothing;
                self.persist();
            }
            if self.installs_without_permit(at) || self.adopts_what_runs(at) {
                return;
            }
        }
        self.keep_running(at.now);
        self.enroll(at);
    }

    pub(super) fn follow_readiness(&mut self, at: Surroundings<'_>) {
        match &self.process {
            Process::Running { ready_since: Some(_), .. } => {
                self.tell_balancer(at.now, at.asked, Balance::Up);
            }
            Process::Running { unready: Some(reason), .. }
            | Process::Stopped { reason: Some(reason) } => {
                let reason = reason.clone();
                self.tell_balancer(at.now, at.asked, Balance::Down { reason });
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
        let other_runs = self.process.release().is_some_and(|release| release != wanted);
        let is_installed = self.journal.installed == Some(wanted) && !other_runs;
        if !is_new || is_installed || self.process == Process::Unknown {
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

    /// A disk that was put back tells of an older release than the one that runs. The latter is what the
    /// node was set to last: it is written down, as what is to be started again.
    fn adopts_what_runs(&mut self, at: Surroundings<'_>) -> bool {
        let Process::Running { release, .. } = self.process else { return false };
        let is_new = self.assignment.standing == Standing::New;
        let known = self.journal.installed == Some(release);
        if is_new || known || !at.library.is_staged(release) {
            return false;
        }
        self.journal.installed = Some(release);
        self.record(AfterRecording::Adopt);
        true
    }

    pub(super) fn keep_running(&mut self, now: Instant) {
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
            let (group, rollout) = (self.group.clone(), self.assignment.last_rollout);
            self.propose(Command::Enroll { group, release, rollout, incarnation });
        }
    }
}
