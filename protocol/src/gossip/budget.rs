//! How much a neighbour may say.

use core::time::Duration;

use crate::time::Instant;

/// Messages that a neighbour may send in one [`WINDOW`]: a head each 20 ms, a digest each second, and
/// the exchange of a full list after a partition, twice over.
const MESSAGES_MAX: u32 = 2000;

/// The time after which a neighbour may speak afresh.
const WINDOW: Duration = Duration::from_secs(5);

/// What one neighbour has left.
#[derive(Debug)]
pub(super) struct Budget {
    since: Instant,
    spent: u32,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, spent: 0 }
    }

    /// Counts one message; false if it is over the budget.
    pub(super) fn spend(&mut self, now: Instant) -> bool {
        if now.since(self.since) >= WINDOW {
            *self = Self::new(now);
        }
        self.spent += 1;
        self.spent <= MESSAGES_MAX
    }
}
