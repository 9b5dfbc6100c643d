//! Trying again what must come about.

use std::fmt::Display;
use std::time::Duration;

use baton_protocol::id::GroupName;
use tokio::time::sleep;

/// The first pause, and the longest: it doubles each time, so that what is away for long costs little.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Attempts at one thing, of which the first that fails is told in the log.
pub(super) struct Attempts<'a> {
    group: &'a GroupName,
    what: &'static str,
    failed: u32,
    pause: Duration,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(group: &'a GroupName, what: &'static str) -> Self {
        Self { group, what, failed: 0, pause: PAUSE_MIN }
    }

    /// Pauses before the next attempt.
    pub(super) async fn failed(&mut self, error: &impl Display) {
        if self.failed == 0 {
            tracing::error!(group = %self.group, %error, "{}; tried until it succeeds", self.what);
        }
        self.failed = self.failed.saturating_add(1);
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    /// Tells the end of what was told to have failed.
    pub(super) fn succeeded(self) {
        if self.failed > 0 {
            let Self { group, what, failed, .. } = self;
            tracing::info!(%group, failed, "{what}: done at last");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_up_to_a_bound() {
        let group = "web".parse().unwrap();
        let mut attempts = Attempts::new(&group, "trying");
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let begun = Instant::now();
            attempts.failed(&"no").await;
            pauses.push(begun.elapsed().as_millis());
        }
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    }
}
