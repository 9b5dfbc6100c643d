//! Nodes that sent something corrupt. Each is asked for nothing of that object for a while, and longer
//! each further time; not for ever, as a bad link or memory may be mended, and it may be the only one
//! that has the object. All is forgiven when the object is forgotten, as when its node begins anew with
//! a release of which nothing comes.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::id::NodeId;
use crate::time::Instant;

/// How long a node is not asked at first; twice as long each further time.
const PAUSE_MIN: Duration = Duration::from_secs(30);
const PAUSE_MAX: Duration = Duration::from_secs(3_600);
/// Nodes that are remembered for one object.
const NODES_MAX: usize = 1_024;

#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// `None` where it is asked again.
    until: Option<Instant>,
    pause: Duration,
}

/// Who is distrusted with one object. They stay here when they leave and come back.
#[derive(Debug, Default)]
pub(super) struct Distrust {
    nodes: BTreeMap<NodeId, Doubt>,
}

impl Distrust {
    /// A chunk from `node` was corrupt. Those that were on their way with it count as one.
    pub fn begin(&mut self, now: Instant, node: NodeId) {
        if self.holds(node) || (self.nodes.len() >= NODES_MAX && !self.nodes.contains_key(&node)) {
            return;
        }
        let before = self.nodes.get(&node);
        let pause = before.map_or(PAUSE_MIN, |doubt| (doubt.pause * 2).min(PAUSE_MAX));
        self.nodes.insert(node, Doubt { until: Some(now.after(pause)), pause });
    }

    /// Whether it is not asked.
    pub fn holds(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|doubt| doubt.until.is_some())
    }

    /// Ends what is over, and says of whom.
    pub fn end(&mut self, now: Instant) -> Vec<NodeId> {
        let is_over = |doubt: &Doubt| doubt.until.is_some_and(|until| until <= now);
        let over = self.nodes.iter_mut().filter(|(_, doubt)| is_over(doubt));
        let ended = over.map(|(&node, doubt)| {
            doubt.until = None;
            node
        });
        ended.collect()
    }

    /// When the next one is over.
    pub fn next_end(&self) -> Option<Instant> {
        self.nodes.values().filter_map(|doubt| doubt.until).min()
    }
}

#[cfg(test)]
mod tests {
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
            distrust.begin(at(now), NODE);
            distrust.begin(at(now + 1), NODE); // it was on its way
            assert!(distrust.end(at(now + pause - 1)).is_empty() && distrust.holds(NODE));
            assert_eq!(distrust.next_end(), Some(at(now + pause)));
            now += pause;
            assert_eq!(distrust.end(at(now)), [NODE]);
            assert!(!distrust.holds(NODE) && distrust.next_end().is_none());
        }
    }
}
