//! Telling the neighbours what is here: at once where it matters, in batches where not.

use core::time::Duration;
use std::collections::BTreeSet;

use super::object::News;
use super::{ObjectId, SwarmMessage};
use crate::id::NodeId;
use crate::time::Instant;

use super::machine::Swarm;

/// How often a neighbour is told of new chunks.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// News that nobody waits for are gathered for so long: told to everyone each time they would cost
    /// over 1 % of the wire.
    pub batch: Duration,
    /// Urgent news go at once, or with the next beat, but not more often than this to one neighbour: on a
    /// fast link that is several chunks in one message.
    pub urgent_gap: Duration,
    /// News are told when a multiple of this is over, to all neighbours together. Zero: to each in its own
    /// time.
    pub beat: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            batch: Duration::from_millis(200),
            urgent_gap: Duration::from_millis(5),
            beat: Duration::ZERO,
        }
    }
}

impl Pace {
    fn on_beat(&self, at: Instant) -> Instant {
        match u64::try_from(self.beat.as_micros()) {
            Ok(beat @ 1..) => Instant::from_micros(at.as_micros().div_ceil(beat) * beat),
            _ => at,
        }
    }
}

/// Chunks in one message: a few KiB, far below the largest control frame.
const NEWS_MAX: usize = 1_024;

/// How a neighbour is told of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tell {
    /// It will get the chunk from here unasked.
    Owed,
    /// It waits for the news: it sent the chunk, or asks for chunks these seconds.
    Now,
    /// With the next batch.
    Later,
}

/// When which neighbour is told.
#[derive(Debug)]
pub(super) struct Announcements {
    pace: Pace,
    due: BTreeSet<(Instant, ObjectId, NodeId)>,
}

impl Announcements {
    pub fn new(pace: Pace) -> Self {
        Self { pace, due: BTreeSet::new() }
    }

    /// Adds a chunk to the news for a neighbour, and decides when it is told. True if that is now.
    pub fn note(
        &mut self,
        now: Instant,
        (id, node): (ObjectId, NodeId),
        news: &mut News,
        index: u32,
        how: Tell,
    ) -> bool {
        if how == Tell::Owed {
            news.owed.push(index);
        } else {
            news.have.push(index);
        }
        let full = news.have.len() + news.owed.len() >= NEWS_MAX;
        let urgent_at = news.last.map_or(now, |last| now.max(last.after(self.pace.urgent_gap)));
        let at = match how {
            _ if full => now,
            Tell::Owed | Tell::Now => self.pace.on_beat(urgent_at),
            Tell::Later => self.pace.on_beat(now.after(self.pace.batch)),
        };
        let sooner = news.due.is_none_or(|due| at < due);
        if sooner {
            let old = news.due.replace(at);
            old.map(|old| self.due.remove(&(old, id, node)));
            self.due.insert((at, id, node));
        }
        at <= now
    }

    /// When the next one is told.
    pub fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, ..)| *at)
    }
}

impl Swarm {
    /// Notes news for one neighbour.
    pub(super) fn tell(&mut self, now: Instant, id: ObjectId, node: NodeId, index: u32, how: Tell) {
        let view = self.objects.get_mut(&id).and_then(|object| object.views.get_mut(&node));
        let Some(view) = view else { return };
        if self.announcements.note(now, (id, node), &mut view.news, index, how) {
            self.flush(now, id, node);
        }
    }

    /// Sends the news that are due.
    pub(super) fn flush_due(&mut self, now: Instant) {
        let due = |it: &Announcements| it.due.first().filter(|(at, ..)| *at <= now).copied();
        while let Some((_, id, node)) = due(&self.announcements) {
            self.flush(now, id, node);
        }
    }

    pub(super) fn flush(&mut self, now: Instant, object: ObjectId, node: NodeId) {
        let Some((indexes, owed)) = self.take_news(object, node, Some(now)) else { return };
        self.send(node, SwarmMessage::Have { object, indexes, owed });
    }

    /// Takes the unsent news of a neighbour out; `None` where there are none.
    pub(super) fn take_news(
        &mut self,
        id: ObjectId,
        node: NodeId,
        sent: Option<Instant>,
    ) -> Option<(Vec<u32>, Vec<u32>)> {
        let view = self.objects.get_mut(&id).and_then(|object| object.views.get_mut(&node))?;
        let news = &mut view.news;
        let due = news.due.take()?;
        self.announcements.due.remove(&(due, id, node));
        news.last = sent.or(news.last);
        Some((core::mem::take(&mut news.have), core::mem::take(&mut news.owed)))
    }
}
