//! Nodes that sent something corrupt. Each is asked for nothing of that object for a while, and longer
//! each further time; not for ever, as a bad link or memory may be mended, and it may be the only one
//! that has the object. All is forgiven when nothing corrupt has come for an hour.

use core::time::Duration;
use std::collections::BTreeMap;

use super::ObjectId;
use crate::id::NodeId;
use crate::time::Instant;

/// How long a node is not asked at first; twice as long each further time.
const PAUSE_MIN: Duration = Duration::from_secs(30);
const PAUSE_MAX: Duration = Duration::from_secs(3_600);
/// After how long without anything corrupt all is forgiven.
const MEMORY: Duration = Duration::from_secs(3_600);
/// Nodes and objects that are remembered.
const DOUBTS_MAX: usize = 4_096;

#[derive(Clone, Copy, Debug)]
struct Doubt {
    until: Instant,
    /// Whether it is asked again.
    over: bool,
    pause: Duration,
}

/// Who is distrusted with what. It outlasts the neighbour's leaving, and the object's: both come back.
#[derive(Debug, Default)]
pub(super) struct Distrust {
    doubts: BTreeMap<(ObjectId, NodeId), Doubt>,
}

impl Distrust {
    /// A chunk from `node` was corrupt. Those that were on their way with it count as one.
    pub fn begin(&mut self, now: Instant, object: ObjectId, node: NodeId) {
        self.doubts.retain(|_, doubt| !doubt.over || now.since(doubt.until) < MEMORY);
        let key = (object, node);
        let known = self.doubts.contains_key(&key);
        if self.holds(object, node) || (self.doubts.len() >= DOUBTS_MAX && !known) {
            return;
        }
        let before = self.doubts.get(&key);
        let pause = before.map_or(PAUSE_MIN, |doubt| (doubt.pause * 2).min(PAUSE_MAX));
        self.doubts.insert(key, Doubt { until: now.after(pause), over: false, pause });
    }

    /// Whether it is not asked.
    pub fn holds(&self, object: ObjectId, node: NodeId) -> bool {
        self.doubts.get(&(object, node)).is_some_and(|doubt| !doubt.over)
    }

    /// Ends what is over, and says of whom.
    pub fn end(&mut self, now: Instant) -> Vec<(ObjectId, NodeId)> {
        let is_over = |doubt: &Doubt| !doubt.over && doubt.until <= now;
        let ended = self.doubts.iter_mut().filter(|(_, doubt)| is_over(doubt));
        let ended = ended.map(|(&key, doubt)| {
            doubt.over = true;
            key
        });
        ended.collect()
    }

    /// When the next one is over.
    pub fn next_end(&self) -> Option<Instant> {
        self.doubts.values().filter(|doubt| !doubt.over).map(|doubt| doubt.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::object;
    use super::*;

    const NODE: NodeId = NodeId([1; 32]);

    fn at(seconds: u64) -> Instant {
        Instant::ZERO.after(Duration::from_secs(seconds))
    }

    #[test]
    fn who_sends_rubbish_again_is_left_alone_for_longer() {
        let mut distrust = Distrust::default();
        let mut now = 0;
        for pause in [30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600] {
            distrust.begin(at(now), object(), NODE);
            distrust.begin(at(now + 1), object(), NODE); // it was on its way
            assert!(distrust.end(at(now + pause - 1)).is_empty());
            assert!(distrust.holds(object(), NODE));
            assert_eq!(distrust.next_end(), Some(at(now + pause)));
            now += pause;
            assert_eq!(distrust.end(at(now)), [(object(), NODE)]);
            assert!(!distrust.holds(object(), NODE) && distrust.next_end().is_none());
        }
    }

    #[test]
    fn who_sends_nothing_corrupt_for_an_hour_is_forgiven() {
        let mut distrust = Distrust::default();
        let mut pause_at = |now| {
            distrust.begin(at(now), object(), NODE);
            let end = distrust.next_end();
            end.iter().for_each(|end| drop(distrust.end(*end)));
            end
        };
        assert_eq!(pause_at(0), Some(at(30)));
        assert_eq!(pause_at(30 + 3_599), Some(at(30 + 3_599 + 60)));
        assert_eq!(pause_at(3_689 + 3_600), Some(at(3_689 + 3_600 + 30)));
    }
}
