//! One object on this node: what is here, what is asked for, and what the neighbours have of it.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::asks::Asks;
use super::event::{Progress, Want};
use super::grace::Grace;
use super::link::blend;
use super::rarest::Rarest;
use super::seeding::Seeding;
use super::{Bitmap, ObjectId, SwarmMessage};
use crate::artifact::header::ChunkRef;
use crate::id::NodeId;
use crate::rng::Rng;
use crate::time::Instant;

/// A promised chunk is expected in this time before one has come.
const PUSH_DELAY_FIRST: Duration = Duration::from_millis(1_000);
/// A promised chunk is not called late before this.
const PUSH_LATE_MIN: Duration = Duration::from_millis(250);
/// And it is from this on.
const PUSH_LATE_MAX: Duration = Duration::from_secs(10);
/// With so few chunks missing, all of them under way, a node waits half as long before it asks
/// another: nothing else is left to do.
const ENDGAME_CHUNKS: u32 = 32;
/// Unasked chunks in a row that a neighbour may fail to confirm before it is sent none of that object.
pub(super) const REFUSALS_MAX: u32 = 3;
/// Senders whose bytes are counted one by one.
const SENDERS_MAX: usize = 1_024;

/// News for one neighbour that has not been sent yet.
#[derive(Debug, Default)]
pub(super) struct News {
    pub have: Vec<u32>,
    pub owed: Vec<u32>,
    /// When it is to be sent.
    pub due: Option<Instant>,
    pub last: Option<Instant>,
}

/// One neighbour's part in an object.
#[derive(Debug)]
pub(super) struct View {
    /// What it has said it has.
    pub have: Bitmap,
    /// The object was seeded there.
    pub origin: bool,
    /// Its chunks are counted among the copies: it is neither distrusted, nor left alone for being
    /// late, nor spared as an origin.
    pub counted: bool,
    /// Chunks that it asked for.
    pub requests: VecDeque<u32>,
    /// Chunks that this node owes it, oldest first. Each of the object's chunks at most once.
    pub owed: VecDeque<u32>,
    /// Unasked chunks that it could not use or never confirmed, since it last confirmed one.
    pub refusals: u32,
    pub news: News,
}

impl View {
    pub fn new(len: u32) -> Self {
        Self {
            have: Bitmap::empty(len),
            origin: false,
            counted: false,
            requests: VecDeque::new(),
            owed: VecDeque::new(),
            refusals: 0,
            news: News::default(),
        }
    }

    /// Whether something waits to be sent to it.
    pub fn has_work(&self) -> bool {
        !self.requests.is_empty() || !self.owed.is_empty()
    }
}

/// One object that this node wants or serves.
#[derive(Debug)]
pub(super) struct Object {
    pub chunks: Arc<[ChunkRef]>,
    pub have: Bitmap,
    pub origin: bool,
    pub priority: u8,
    pub rarest: Rarest,
    pub asks: Asks,
    pub seeding: Option<Seeding>,
    /// Neighbours may see what is here; an origin hides it until each chunk is out once.
    pub revealed: bool,
    pub views: BTreeMap<NodeId, View>,
    /// Something may wait to be sent: the views are many, and mostly nothing does.
    pub may_have_work: bool,
    pub grace: Grace,
    pub progress: Progress,
    push_delay: Duration,
    /// When the neighbours are asked again what they have, if nothing comes until then.
    pub refresh_at: Instant,
    pub refresh_pause: Duration,
}

impl Object {
    pub fn new(now: Instant, want: Want, pause: Duration, rng: &mut Rng) -> Self {
        let Want { chunks, have, origin, priority, .. } = want;
        let origin = origin && have.is_full();
        let bytes = |index: u32| chunks.get(index as usize).map_or(0, |chunk| u64::from(chunk.len));
        let progress = Progress {
            have: have.count(),
            total: have.len(),
            bytes_have: have.iter().map(bytes).sum(),
            bytes_total: chunks.iter().map(|chunk| u64::from(chunk.len)).sum(),
            ..Progress::default()
        };
        Self {
            rarest: Rarest::new(&have, rng),
            asks: Asks::default(),
            seeding: origin.then(|| Seeding::new(have.len(), rng)),
            revealed: !origin || have.is_empty(),
            views: BTreeMap::new(),
            may_have_work: false,
            grace: Grace::default(),
            progress,
            push_delay: PUSH_DELAY_FIRST,
            refresh_at: now.after(pause),
            refresh_pause: pause,
            chunks,
            have,
            origin,
            priority,
        }
    }

    /// The length of a chunk, in bytes; `None` where there is no such chunk.
    pub fn len_of(&self, index: u32) -> Option<u32> {
        self.chunks.get(index as usize).map(|chunk| chunk.len)
    }

    /// Whether something is missing here.
    pub fn incomplete(&self) -> bool {
        !self.have.is_full()
    }

    /// Whether something waits to be sent.
    pub fn has_work(&mut self) -> bool {
        let pass = self.seeding.as_ref().is_some_and(|seeding| !seeding.all_sent());
        self.may_have_work = self.may_have_work && self.views.values().any(View::has_work);
        pass || self.may_have_work
    }

    /// Whether a neighbour may ask for the chunk.
    pub fn serves(&self, index: u32) -> bool {
        self.revealed && self.have.contains(index)
    }

    /// What the neighbours are told.
    pub fn interest(&self, object: ObjectId, answer: bool) -> SwarmMessage {
        let hidden = || Bitmap::empty(self.have.len());
        let have = if self.revealed { self.have.clone() } else { hidden() };
        SwarmMessage::Interest { object, have, origin: self.origin, answer }
    }

    /// The average length of a chunk, in bytes.
    pub fn average(&self) -> u32 {
        let average = self.progress.bytes_total / u64::from(self.progress.total.max(1));
        u32::try_from(average).unwrap_or(u32::MAX)
    }

    /// How much larger than the average a chunk is, for the time that it takes; at least 1.
    pub fn scale(&self, len: u32) -> f64 {
        (f64::from(len) / f64::from(self.average().max(1))).max(1.0)
    }

    /// All that is missing is under way, and it is little.
    pub fn endgame(&self) -> bool {
        let missing = self.have.len() - self.have.count();
        missing <= ENDGAME_CHUNKS && self.rarest.nothing_ready()
    }

    /// A promised chunk came, after `took`.
    pub fn pushed(&mut self, took: Duration) {
        self.push_delay = blend(self.push_delay, took);
    }

    /// How old a promise may become.
    pub fn push_patience(&self) -> Duration {
        let factor = if self.endgame() { 1 } else { 2 };
        (self.push_delay * factor).clamp(PUSH_LATE_MIN, PUSH_LATE_MAX)
    }

    /// When the oldest promise is late.
    pub fn promise_deadline(&self) -> Option<Instant> {
        self.rarest.oldest_promise().map(|at| at.after(self.push_patience()))
    }

    /// Counts a chunk that came.
    pub fn count_received(&mut self, from: NodeId, len: u32) {
        let progress = &mut self.progress;
        progress.have += 1;
        progress.bytes_have += u64::from(len);
        let known = progress.bytes_received.contains_key(&from);
        if known || progress.bytes_received.len() < SENDERS_MAX {
            *progress.bytes_received.entry(from).or_default() += u64::from(len);
        }
    }

    /// Counts a neighbour's chunks among the copies, or no longer.
    pub fn set_counted(&mut self, node: NodeId, counted: bool) {
        let Some(view) = self.views.get_mut(&node) else { return };
        if view.counted == counted {
            return;
        }
        view.counted = counted;
        for index in view.have.iter() {
            if counted {
                self.rarest.add_copy(index);
            } else {
                self.rarest.remove_copy(index);
            }
        }
        if !counted {
            self.rarest.drop_promises_of(node);
        }
    }

    /// A neighbour has a chunk. True if that is new.
    pub fn note_have(&mut self, now: Instant, node: NodeId, index: u32) -> bool {
        let Some(view) = self.views.get_mut(&node) else { return false };
        if !view.have.insert(index) {
            return false;
        }
        if view.counted {
            self.rarest.add_copy(index);
        }
        if let Some(seeding) = &mut self.seeding {
            seeding.arrived(now, index, node);
        }
        true
    }

    /// A neighbour does not have a chunk after all.
    pub fn note_lack(&mut self, node: NodeId, index: u32) {
        let Some(view) = self.views.get_mut(&node) else { return };
        if view.have.remove(index) && view.counted {
            self.rarest.remove_copy(index);
        }
    }

    /// An upload or its receipt failed: an origin sends the chunk to another.
    pub fn push_failed(&mut self, node: NodeId, index: u32) {
        if let Some(view) = self.views.get_mut(&node) {
            view.refusals = view.refusals.saturating_add(1);
        }
        if let Some(seeding) = &mut self.seeding {
            seeding.failed(index, node);
        }
    }

    /// A neighbour is gone. Says which of its requests have to be counted as ended.
    pub fn drop_view(&mut self, now: Instant, node: NodeId) -> Option<View> {
        self.set_counted(node, false);
        self.grace.forget(node);
        let view = self.views.remove(&node)?;
        let views = &self.views;
        if let Some(seeding) = &mut self.seeding {
            seeding.gone(now, node, &view.have, |index| {
                views.values().any(|view| view.counted && view.have.contains(index))
            });
        }
        Some(view)
    }
}
