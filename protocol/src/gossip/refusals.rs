//! Releases that the owner does not want, so that they are not pulled again each second.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::id::ReleaseId;
use crate::time::Instant;

/// How long a release that was refused for the first time is left alone; doubled each time. Short,
/// because a node that has just joined refuses what it cannot judge yet.
const REFUSED_FOR_MIN: Duration = Duration::from_secs(5);

/// The longest of these times, and that for what was forgotten: long after every neighbour that is
/// connected has been told to forget it too.
const REFUSED_FOR_MAX: Duration = Duration::from_secs(600);

/// Releases that are remembered: as many as a neighbour can offer.
const REFUSALS_MAX: usize = super::shelf::HEADERS_MAX;

#[derive(Clone, Copy, Debug)]
struct Refusal {
    until: Instant,
    times: u32,
}

/// What was refused or forgotten, and until when.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<ReleaseId, Refusal>);

impl Refusals {
    pub(super) fn holds(&self, now: Instant, release: ReleaseId) -> bool {
        self.0.get(&release).is_some_and(|refusal| now < refusal.until)
    }

    pub(super) fn refuse(&mut self, now: Instant, release: ReleaseId) {
        let times = self.0.get(&release).map_or(0, |refusal| refusal.times);
        let pause = REFUSED_FOR_MIN.saturating_mul(1 << times.min(16)).min(REFUSED_FOR_MAX);
        self.insert(release, Refusal { until: now.after(pause), times: times.saturating_add(1) });
    }

    pub(super) fn forget(&mut self, now: Instant, release: ReleaseId) {
        self.insert(release, Refusal { until: now.after(REFUSED_FOR_MAX), times: 0 });
    }

    /// The owner wants it after all.
    pub(super) fn lift(&mut self, release: ReleaseId) {
        self.0.remove(&release);
    }

    fn insert(&mut self, release: ReleaseId, refusal: Refusal) {
        self.0.insert(release, refusal);
        if self.0.len() > REFUSALS_MAX {
            let first = self.0.iter().min_by_key(|(_, refusal)| refusal.until);
            let first = first.map(|(release, _)| *release);
            first.and_then(|release| self.0.remove(&release));
        }
    }
}
