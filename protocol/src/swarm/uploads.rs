//! The uploads that are under way from this node.

use core::time::Duration;
use std::collections::BTreeMap;

use super::ObjectId;
use super::link::blend;
use crate::id::NodeId;
use crate::time::Instant;

/// Uploads at once: enough that receivers of unequal speed keep the uplink full, few enough that a
/// chunk soon gets to its end and can be passed on. In the simulated network of this module's tests
/// (20 receivers, 512 chunks) 8 take 1.14 to 1.17 of the bound, 12 take 1.10, 16 take 1.11.
pub(super) const UPLOADS_MAX: usize = 12;
/// Uploads at once before any has ended. As nothing else moves yet, a few fill the uplink, and the
/// first chunks arrive sooner. One more is added for every two that end.
const UPLOADS_FIRST: usize = 2;
/// Uploads at once when those that crawl are counted too. A crawling one does not use the uplink.
const UPLOADS_HARD_MAX: usize = 32;
/// An upload crawls when it has taken so many times as long as others do.
const CRAWLS_AT: u32 = 4;
/// And never before this.
const CRAWLS_MIN: Duration = Duration::from_millis(200);
/// How long an upload is assumed to take before one has ended.
const TYPICAL_FIRST: Duration = Duration::from_millis(500);

/// To whom, and what.
pub(super) type UploadKey = (NodeId, ObjectId, u32);

/// The uploads that are under way.
#[derive(Debug)]
pub(super) struct Uploads {
    running: BTreeMap<UploadKey, Instant>,
    typical: Duration,
    ended: usize,
}

impl Uploads {
    pub fn new() -> Self {
        Self { running: BTreeMap::new(), typical: TYPICAL_FIRST, ended: 0 }
    }

    /// Whether one more may start.
    pub fn has_slot(&self, now: Instant) -> bool {
        let limit = UPLOADS_MAX.min(UPLOADS_FIRST + self.ended / 2);
        if self.running.len() < limit {
            return true;
        }
        let crawls = (self.typical * CRAWLS_AT).max(CRAWLS_MIN);
        let brisk = self.running.values().filter(|began| now.since(**began) < crawls).count();
        brisk < limit && self.running.len() < UPLOADS_HARD_MAX
    }

    pub fn start(&mut self, now: Instant, key: UploadKey) {
        self.running.insert(key, now);
    }

    pub fn contains(&self, key: &UploadKey) -> bool {
        self.running.contains_key(key)
    }

    /// Ends one, sent or not. True if it was under way.
    pub fn end(&mut self, key: &UploadKey) -> bool {
        self.finish_at(key).is_some()
    }

    /// Ends one that was sent. True if it was under way.
    pub fn finish(&mut self, now: Instant, key: &UploadKey) -> bool {
        let Some(began) = self.finish_at(key) else { return false };
        self.typical = blend(self.typical, now.since(began));
        true
    }

    fn finish_at(&mut self, key: &UploadKey) -> Option<Instant> {
        let began = self.running.remove(key)?;
        self.ended = self.ended.saturating_add(1);
        Some(began)
    }

    /// Those that fulfil a condition.
    pub fn matching(&self, wanted: impl Fn(&UploadKey) -> bool) -> Vec<UploadKey> {
        self.running.keys().filter(|key| wanted(key)).copied().collect()
    }

    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_that_crawl_leave_room_for_others_up_to_a_bound() {
        let object = super::super::tests::object();
        let mut uploads = Uploads::new();
        let mut now = Instant::ZERO;
        let mut started = 0;
        for _ in 0..20 {
            while uploads.has_slot(now) {
                uploads.start(now, (NodeId([0; 32]), object, started));
                started += 1;
            }
            now = now.after(TYPICAL_FIRST * CRAWLS_AT);
        }
        assert_eq!(started, 32);
        assert!(uploads.end(&(NodeId([0; 32]), object, 0)) && !uploads.is_empty());
    }
}
