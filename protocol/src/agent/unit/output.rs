//! What a unit wants done.

use crate::agent::journal::Journal;
use crate::fleet::command::Command;
use crate::id::ReleaseId;

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
