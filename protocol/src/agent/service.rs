//! What is known of one service's process, and when it is started again.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::ReleaseId;
use crate::time::Instant;

/// First pause before a service that ended by itself is started again; doubled each time.
const RESTART_PAUSE_MIN: Duration = Duration::from_secs(1);

/// Restarts in a row, none of which got ready, after which the service is left for dead. With the
/// pauses between them that is half a minute: a passing fault is over by then.
const RESTARTS_MAX: u32 = 5;

/// What the runtime tells of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceEvent {
    /// What was found running when the daemon started.
    Found {
        /// The release of the process, if there is one.
        running: Option<ReleaseId>,
    },
    /// The process was started.
    Started {
        /// Of which release.
        release: ReleaseId,
    },
    /// The process could not be started.
    StartFailed {
        /// Of which release.
        release: ReleaseId,
        /// Why.
        reason: String,
    },
    /// The process ended, asked to or not.
    Exited {
        /// How, with the last lines of its output.
        reason: String,
    },
    /// The answer to one readiness probe; `Err` says what was seen.
    Probed(Result<(), String>),
    /// Established connections to the service, while it drains.
    Connections(u32),
}

/// The process of a service, as last heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Process {
    /// The runtime has not said yet.
    Unknown,
    /// There is none.
    Stopped {
        /// Why it ended, if it ended by itself.
        reason: Option<String>,
    },
    /// The runtime was asked to start it.
    Starting {
        /// Of which release.
        release: ReleaseId,
    },
    /// It runs.
    Running {
        /// Of which release.
        release: ReleaseId,
        /// Since when every probe was answered well.
        ready_since: Option<Instant>,
        /// What the last bad probe saw.
        unready: Option<String>,
        /// When it was last looked at.
        looked_at: Instant,
    },
}

impl Process {
    /// Takes what the runtime says.
    pub fn observe(&mut self, now: Instant, event: &ServiceEvent) {
        match event {
            ServiceEvent::Found { running: Some(release) } | ServiceEvent::Started { release } => {
                *self = Self::Running {
                    release: *release,
                    ready_since: None,
                    unready: None,
                    looked_at: now,
                };
            }
            ServiceEvent::Found { running: None } => *self = Self::Stopped { reason: None },
            ServiceEvent::StartFailed { reason, .. } | ServiceEvent::Exited { reason } => {
                *self = Self::Stopped { reason: Some(reason.clone()) };
            }
            ServiceEvent::Probed(result) => self.probed(now, result),
            ServiceEvent::Connections(_) => {}
        }
    }

    fn probed(&mut self, now: Instant, result: &Result<(), String>) {
        let Self::Running { ready_since, unready, looked_at, .. } = self else { return };
        *looked_at = now;
        match result {
            Ok(()) => {
                ready_since.get_or_insert(now);
                *unready = None;
            }
            Err(reason) => {
                *ready_since = None;
                *unready = Some(reason.clone());
            }
        }
    }

    /// Takes back that it is ready where nobody has looked for longer than `patience`: the machine has
    /// slept, say, and so has the service.
    pub fn doubt(&mut self, now: Instant, patience: Duration) {
        if let Self::Running { ready_since, looked_at, .. } = self
            && now.since(*looked_at) > patience
        {
            *ready_since = None;
        }
    }

    /// Which release the process is of, if there is one.
    pub fn release(&self) -> Option<ReleaseId> {
        match self {
            Self::Running { release, .. } | Self::Starting { release } => Some(*release),
            Self::Unknown | Self::Stopped { .. } => None,
        }
    }

    /// Since when `release` has been ready without a break.
    pub fn ready_since(&self, wanted: ReleaseId) -> Option<Instant> {
        match self {
            Self::Running { release, ready_since, .. } if *release == wanted => *ready_since,
            _ => None,
        }
    }

    /// Whether nobody has looked at it since it, or the daemon, was started, or for too long.
    pub fn is_unseen(&self) -> bool {
        matches!(self, Self::Unknown | Self::Running { ready_since: None, unready: None, .. })
    }

    /// What keeps it from being ready, in words.
    pub fn complaint(&self) -> String {
        match self {
            Self::Unknown => "not looked at yet".to_owned(),
            Self::Stopped { reason: Some(reason) } => reason.clone(),
            Self::Stopped { reason: None } => "not running".to_owned(),
            Self::Starting { .. } => "starting".to_owned(),
            Self::Running { unready: Some(reason), .. } => reason.clone(),
            Self::Running { .. } => "no answer to a probe yet".to_owned(),
        }
    }
}

/// When a service that ended by itself is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestartPolicy {
    in_a_row: u32,
    due: Option<Instant>,
}

impl RestartPolicy {
    /// The service ended by itself at `now`.
    pub fn ended(&mut self, now: Instant) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        let doublings = self.in_a_row.saturating_sub(1).min(16);
        self.due = (!self.is_frozen()).then(|| now.after(RESTART_PAUSE_MIN * (1 << doublings)));
    }

    /// Whether the service is left for dead.
    pub fn is_frozen(&self) -> bool {
        self.in_a_row > RESTARTS_MAX
    }

    /// When to start it again.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// It was started.
    pub fn started(&mut self) {
        self.due = None;
    }

    /// It got ready, or a person or a permit changed what runs: earlier ends no longer count.
    pub fn forgive(&mut self) {
        *self = Self::default();
    }
}
