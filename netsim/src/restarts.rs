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
    open: BTreeMap<PermitId, Instant>,
    closed: Vec<Restart>,
    granted: u64,
}

impl Restarts {
    /// The log has moved on to `fleet`.
    pub(crate) fn follow(&mut self, now: Instant, fleet: &Fleet) {
        let permits = fleet.permits();
        let Self { open, closed, .. } = self;
        open.retain(|id, granted| {
            let is_open = permits.contains_key(id);
            if !is_open {
                let [granted, now] = [*granted, now].map(|at| at.since(Instant::ZERO));
                closed.push(Restart { granted, closed: now });
            }
            is_open
        });
        for id in permits.keys() {
            self.open.entry(*id).or_insert_with(|| {
                self.granted += 1;
                now
            });
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
