//! How long restarts take: each permit from its grant to its close, as the log has them.

use core::time::Duration;
use std::collections::BTreeMap;

use baton_protocol::fleet::Fleet;
use baton_protocol::id::PermitId;
use baton_protocol::time::Instant;

/// One permit that was granted and closed, in virtual time from the start of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// When it was granted.
    pub granted: Duration,
    /// How often its holder asked another node to let it begin.
    pub asked: u32,
    /// When it had begun first, if it did.
    pub begun: Option<Duration>,
    /// When it was closed.
    pub closed: Duration,
}

impl Restart {
    /// From grant to close.
    pub fn took(&self) -> Duration {
        self.closed - self.granted
    }
}

/// The permits of a run.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    open: BTreeMap<PermitId, Restart>,
    closed: Vec<Restart>,
    granted: u64,
}

impl Restarts {
    /// The log has moved on to `fleet`.
    pub(crate) fn follow(&mut self, now: Instant, fleet: &Fleet) {
        let now = now.since(Instant::ZERO);
        let over = |id: &PermitId| !fleet.permits().contains_key(id);
        let closed: Vec<_> = self.open.keys().copied().filter(over).collect();
        for id in closed {
            self.closed.extend(self.open.remove(&id).map(|it| Restart { closed: now, ..it }));
        }
        for permit in fleet.permits().values() {
            let restart = self.open.entry(permit.id).or_insert_with(|| {
                self.granted += 1;
                Restart { granted: now, asked: 0, begun: None, closed: now }
            });
            restart.begun = restart.begun.or(permit.has_begun().then_some(now));
        }
    }

    /// The holder of a permit asks to begin.
    pub(crate) fn asked(&mut self, permit: PermitId) {
        if let Some(restart) = self.open.get_mut(&permit) {
            restart.asked = restart.asked.saturating_add(1);
        }
    }

    /// How many permits were granted.
    pub(crate) fn granted(&self) -> u64 {
        self.granted
    }

    /// Those that are closed, in the order in which they were.
    pub(crate) fn into_closed(self) -> Vec<Restart> {
        self.closed
    }
}
