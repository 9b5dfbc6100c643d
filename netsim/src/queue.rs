//! What will happen, by its time; what was asked for first comes first.

use core::cmp::Reverse;
use std::collections::BinaryHeap;

use baton_protocol::time::Instant;

use crate::event::Event;

/// A heap of times, and the events beside it: these are large, and are not moved about.
#[derive(Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    put: u64,
}

impl Queue {
    pub(crate) fn put(&mut self, at: Instant, event: Event) {
        self.put += 1;
        let place = self.free.pop().unwrap_or(self.events.len());
        if place == self.events.len() {
            self.events.push(None);
        }
        self.events[place] = Some(event);
        self.heap.push(Reverse((at, self.put, place)));
    }

    pub(crate) fn take(&mut self) -> Option<(Instant, Event)> {
        let Reverse((at, _, place)) = self.heap.pop()?;
        self.free.push(place);
        Some((at, self.events[place].take()?))
    }
}
