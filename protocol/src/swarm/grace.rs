//! Origins that are not asked yet: an origin's uplink is everybody's, and its answer to a newcomer is
//! often the first. What it shows is asked of it once the other neighbours have said what they have.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::id::NodeId;
use crate::time::Instant;

/// How long an origin is spared while neighbours have yet to speak; some know nothing of the object
/// and never will. As long as scheduling and batched news take.
const GRACE: Duration = Duration::from_millis(500);

/// The origins of one object that are spared. At most one for each neighbour.
#[derive(Debug, Default)]
pub(super) struct Grace {
    until: BTreeMap<NodeId, Instant>,
}

impl Grace {
    /// An origin has shown for the first time what it has.
    pub fn begin(&mut self, now: Instant, origin: NodeId) {
        self.until.insert(origin, now.after(GRACE));
    }

    /// Whether it is spared.
    pub fn holds(&self, node: NodeId) -> bool {
        self.until.contains_key(&node)
    }

    pub fn forget(&mut self, node: NodeId) {
        self.until.remove(&node);
    }

    /// Ends what is over, or all where all neighbours have spoken. Says whose grace it was.
    pub fn end(&mut self, now: Instant, all_spoke: bool) -> Vec<NodeId> {
        let over = self.until.iter().filter(|(_, until)| all_spoke || **until <= now);
        let over: Vec<NodeId> = over.map(|(&node, _)| node).collect();
        over.iter().for_each(|node| self.forget(*node));
        over
    }

    /// When the next one is over.
    pub fn next_end(&self) -> Option<Instant> {
        self.until.values().min().copied()
    }
}
