//! What will happen, by its time; what was asked for first comes first, but where one host's things are kept
//! together.

use core::cmp::Reverse;
use core::time::Duration;
use std::collections::BinaryHeap;

use baton_protocol::time::Instant;

use crate::event::Event;

/// A heap of times, and the events beside it: these are large, and are not moved about.
#[derive(Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<(Instant, usize, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    put: u64,
    /// Where given: things happen at multiples of this alone, and news host by host. What a host needs for
    /// several is brought into the processor's caches once.
    pub(crate) tick: Option<Duration>,
    /// When the last event that was taken happens: none will happen before it.
    taken: Instant,
}

impl Queue {
    /// When that will happen which is to happen at `at`.
    pub(crate) fn when(&self, at: Instant) -> Instant {
        let at = at.max(self.taken);
        let Some(tick) = self.tick else { return at };
        let tick = u64::try_from(tick.as_micros()).unwrap_or(u64::MAX).max(1);
        Instant::from_micros(at.as_micros().div_ceil(tick).saturating_mul(tick))
    }

    pub(crate) fn put(&mut self, at: Instant, event: Event) {
        self.put += 1;
        let at = self.when(at);
        let host = match &event {
            Event::News(host, _) if self.tick.is_some() => *host,
            _ => 0,
        };
        let place = self.free.pop().unwrap_or(self.events.len());
        if place == self.events.len() {
            self.events.push(None);
        }
        self.events[place] = Some(event);
        self.heap.push(Reverse((at, host, self.put, place)));
    }

    /// The next event, if it happens at `end` or before.
    pub(crate) fn take_until(&mut self, end: Instant) -> Option<(Instant, Event)> {
        self.heap.peek().filter(|Reverse((due, ..))| *due <= end)?;
        self.take()
    }

    pub(crate) fn take(&mut self) -> Option<(Instant, Event)> {
        let Reverse((at, _, _, place)) = self.heap.pop()?;
        self.free.push(place);
        self.taken = at;
        Some((at, self.events[place].take()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::news::News;

    #[test]
    fn with_ticks_what_happens_is_late_by_less_than_one_and_goes_host_by_host() {
        let mut queue = Queue { tick: Some(Duration::from_micros(10)), ..Queue::default() };
        for (at, host) in [(11, 2), (20, 1), (12, 2), (21, 1), (30, 0)] {
            let news = Event::News(host, News::Clock { life: 1 });
            queue.put(Instant::from_micros(at), news);
        }
        let taken = core::iter::from_fn(|| queue.take());
        let taken: Vec<_> = taken
            .filter_map(|(at, event)| match event {
                Event::News(host, _) => Some((at.as_micros(), host)),
                _ => None,
            })
            .collect();
        assert_eq!(taken, [(20, 1), (20, 2), (20, 2), (30, 0), (30, 1)]);
    }

    #[test]
    fn nothing_happens_before_what_was_taken() {
        let mut queue = Queue::default();
        for at in [10, 30] {
            queue.put(Instant::from_micros(at), Event::Director);
        }
        let end = Instant::from_micros(20);
        assert_eq!(queue.take_until(end).map(|(at, _)| at.as_micros()), Some(10));
        assert!(queue.take_until(end).is_none());
        queue.put(Instant::from_micros(5), Event::Balancer);
        assert_eq!(queue.take_until(end).map(|(at, _)| at.as_micros()), Some(10));
    }
}
