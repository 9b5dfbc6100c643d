//! A model of one service and its balancer: what really runs, whatever anybody believes.

use baton_protocol::agent::service::ServiceEvent;
use baton_protocol::agent::unit::{Balance, ServiceAction};
use baton_protocol::id::ReleaseId;

use crate::event::Step;

/// The process of a service. It survives its daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    /// There is none.
    None,
    /// It was asked to start.
    Starting(ReleaseId),
    /// It runs.
    Running {
        /// What.
        release: ReleaseId,
        /// Whether it answers its probe well.
        ready: bool,
    },
    /// It was asked to end.
    Ending(ReleaseId),
}

/// What the agent says to a balancer that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// The daemon has not said anything in this life.
    Nothing,
    Up,
    Drain,
    Down,
}

/// One service, as it is.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) process: Process,
    /// Counts the processes, so that a step of an older one is nothing to a newer.
    pub(crate) number: u64,
    /// The balancer sends nothing, by the agent's word.
    pub(crate) drained: bool,
    /// Out of action because the agent said so, until it serves again.
    pub(crate) taken: bool,
    /// Was taken out of action or started, and no balancer has sent to it since.
    pub(crate) unseen: bool,
    pub(crate) spoken: Spoken,
    watched: bool,
    pub(crate) starts: u64,
}

/// What the world is to do after an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    Nothing,
    /// The process takes this step some time later.
    Later(Step),
    /// The runtime answers at once that there is no process.
    Gone,
}

impl Service {
    pub(crate) fn new() -> Self {
        Self {
            process: Process::None,
            number: 0,
            drained: false,
            taken: false,
            unseen: false,
            spoken: Spoken::Nothing,
            watched: false,
            starts: 0,
        }
    }

    /// Whether a client is served.
    pub(crate) fn serves(&self) -> bool {
        !self.drained && self.is_ready()
    }

    /// Whether it answers a check well.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.process, Process::Running { ready: true, .. })
    }

    /// A balancer sends to it.
    pub(crate) fn sent_to(&mut self) {
        self.unseen &= !self.serves();
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.watched
    }

    /// Whether the action takes a service away that serves, or may.
    pub(crate) fn is_disruptive(&self, action: &ServiceAction) -> bool {
        let alive = !matches!(self.process, Process::None);
        alive && matches!(action, ServiceAction::Stop | ServiceAction::Balance(Balance::Drain))
    }

    /// Carries the agent's word out.
    pub(crate) fn act(&mut self, action: &ServiceAction) -> Follow {
        let served = self.serves();
        let follow = match action {
            ServiceAction::Start { release } => {
                self.number += 1;
                self.starts += 1;
                self.unseen = true;
                self.process = Process::Starting(*release);
                Follow::Later(Step::Started)
            }
            ServiceAction::Stop => match self.process {
                Process::None => Follow::Gone,
                Process::Starting(release)
                | Process::Ending(release)
                | Process::Running { release, .. } => {
                    self.process = Process::Ending(release);
                    Follow::Later(Step::Ended)
                }
            },
            ServiceAction::Balance(balance) => {
                self.drained = *balance == Balance::Drain;
                self.unseen |= self.drained;
                self.spoken = match balance {
                    Balance::Up => Spoken::Up,
                    Balance::Drain => Spoken::Drain,
                    Balance::Down { .. } => Spoken::Down,
                };
                Follow::Nothing
            }
            ServiceAction::WatchConnections(on) => {
                self.watched = *on;
                if *on { Follow::Later(Step::Drained) } else { Follow::Nothing }
            }
        };
        if served && !self.serves() {
            self.taken = true;
        }
        self.settle();
        follow
    }

    fn settle(&mut self) {
        if self.serves() {
            self.taken = false;
        }
    }

    /// The process does something; what its runtime sees of it, if anything.
    pub(crate) fn step(&mut self, step: Step) -> Option<ServiceEvent> {
        let seen = match (step, self.process) {
            (Step::Started, Process::Starting(release)) => {
                self.process = Process::Running { release, ready: false };
                Some(ServiceEvent::Started { release })
            }
            (Step::Ready, Process::Running { release, .. }) => {
                self.process = Process::Running { release, ready: true };
                None
            }
            (Step::Unready, Process::Running { release, .. }) => {
                self.process = Process::Running { release, ready: false };
                None
            }
            (Step::Ended, Process::Ending(_)) => self.end("asked to"),
            (Step::Dies, Process::Running { .. } | Process::Starting(_) | Process::Ending(_)) => {
                self.end("by itself")
            }
            (Step::Drained, _) if self.watched => Some(ServiceEvent::Connections(0)),
            _ => None,
        };
        self.settle();
        seen
    }

    fn end(&mut self, reason: &str) -> Option<ServiceEvent> {
        self.process = Process::None;
        Some(ServiceEvent::Exited { reason: reason.to_owned() })
    }

    /// The answer to a probe; none where nothing runs.
    pub(crate) fn probe(&self) -> Option<ServiceEvent> {
        match self.process {
            Process::Running { ready: true, .. } => Some(ServiceEvent::Probed(Ok(()))),
            Process::Running { .. } => Some(ServiceEvent::Probed(Err("503".to_owned()))),
            _ => None,
        }
    }

    /// What its process is of, if there is one.
    pub(crate) fn release(&self) -> Option<ReleaseId> {
        match self.process {
            Process::None => None,
            Process::Starting(release)
            | Process::Ending(release)
            | Process::Running { release, .. } => Some(release),
        }
    }

    /// What a starting daemon finds.
    pub(crate) fn found(&self) -> ServiceEvent {
        ServiceEvent::Found { running: self.release() }
    }
}
