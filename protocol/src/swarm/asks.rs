//! The requests that are out: who was asked for which chunk, and when each is late.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::NodeId;
use crate::time::Instant;

/// One request for one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    /// Who was asked.
    pub to: NodeId,
    /// When.
    pub at: Instant,
    /// When it is late.
    pub deadline: Instant,
}

/// The requests of one object that are out. Bounded by what may be asked for at once.
#[derive(Debug, Default)]
pub(super) struct Asks {
    by_chunk: BTreeMap<u32, Vec<Ask>>,
    deadlines: BTreeSet<(Instant, u32, NodeId)>,
}

impl Asks {
    pub fn add(&mut self, index: u32, ask: Ask) {
        self.deadlines.insert((ask.deadline, index, ask.to));
        self.by_chunk.entry(index).or_default().push(ask);
    }

    /// Who is asked for the chunk.
    pub fn of_chunk(&self, index: u32) -> &[Ask] {
        self.by_chunk.get(&index).map_or(&[], Vec::as_slice)
    }

    /// Ends all requests for a chunk.
    pub fn end_chunk(&mut self, index: u32) -> Vec<Ask> {
        let asks = self.by_chunk.remove(&index).unwrap_or_default();
        for ask in &asks {
            self.deadlines.remove(&(ask.deadline, index, ask.to));
        }
        asks
    }

    /// Ends one request, if it is out.
    pub fn end(&mut self, index: u32, to: NodeId) -> Option<Ask> {
        let asks = self.by_chunk.get_mut(&index)?;
        let ask = asks.swap_remove(asks.iter().position(|ask| ask.to == to)?);
        if asks.is_empty() {
            self.by_chunk.remove(&index);
        }
        self.deadlines.remove(&(ask.deadline, index, to));
        Some(ask)
    }

    /// The chunks that a node was asked for.
    pub fn of_node(&self, node: NodeId) -> Vec<u32> {
        let asked = self.deadlines.iter().filter(|(_, _, to)| *to == node);
        asked.map(|&(_, index, _)| index).collect()
    }

    /// The first request whose deadline is past, if any.
    pub fn late(&self, now: Instant) -> Option<(u32, NodeId)> {
        let first = self.deadlines.first().filter(|(deadline, ..)| *deadline <= now);
        first.map(|&(_, index, to)| (index, to))
    }

    /// Waits longer for a request that is late.
    pub fn extend(&mut self, index: u32, to: NodeId, deadline: Instant) {
        let asks = self.by_chunk.get_mut(&index);
        let Some(ask) = asks.and_then(|asks| asks.iter_mut().find(|ask| ask.to == to)) else {
            return;
        };
        self.deadlines.remove(&(ask.deadline, index, to));
        self.deadlines.insert((deadline, index, to));
        ask.deadline = deadline;
    }

    /// When the first request is late.
    pub fn first_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, ..)| *deadline)
    }
}
