//! A service of which a process is left, and what it is on its way to.

use std::time::Duration;

use rustix::process::{Signal, WaitStatus};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::child::Child;
use super::message::{Ended, Response};

/// The longest grace; a longer one is cut to it.
const GRACE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A service of which a process is left.
pub(super) struct Alive {
    pub child: Child,
    pub phase: Phase,
    pub waiting: Vec<oneshot::Sender<Response>>,
    pub asked: bool,
}

pub(super) enum Phase {
    Running,
    /// The first process was asked to end.
    Stopping {
        signal: Signal,
        kill_at: Instant,
    },
    /// The first process has ended; others may be left.
    Leftovers {
        ended: Ended,
        kill_at: Instant,
    },
}

impl Alive {
    pub fn new(child: Child) -> Self {
        Self { child, phase: Phase::Running, waiting: Vec::new(), asked: false }
    }

    /// A second request can only shorten the time that the first one gave.
    pub fn ask_to_end(&mut self, signal: Signal, grace: Duration) {
        let until = Instant::now() + grace.min(GRACE_MAX);
        match &mut self.phase {
            Phase::Running => {
                self.asked = true;
                self.child.signal(signal);
                self.phase = Phase::Stopping { signal, kill_at: until };
            }
            Phase::Stopping { kill_at, .. } | Phase::Leftovers { kill_at, .. } => {
                *kill_at = until.min(*kill_at);
            }
        }
    }

    pub fn answer(&mut self, response: &Response) {
        for reply in self.waiting.drain(..) {
            let _ = reply.send(response.clone());
        }
    }
}

pub(super) fn ended(status: WaitStatus) -> Ended {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ended::Code(code),
        (None, Some(signal)) => Ended::Signal(signal),
        (None, None) => Ended::Unknown,
    }
}
