//! The headers that neighbours were asked for and have not sent yet.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::id::{NodeId, ReleaseId};
use crate::time::Instant;

/// Headers that are asked for at a time. The rest follows with the next lists.
pub(super) const ASKED_MAX: usize = 256;

/// Of those, how many one neighbour is asked for, so that one that names releases that are none does
/// not keep the others from being asked.
const ASKED_OF_ONE_MAX: usize = 192;

/// How long a neighbour that was asked for a header has before another one is: more than a round trip
/// around the world.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// Neighbours that are asked for a header in turn. After them it takes a list that names it again.
const TRIES_MAX: u32 = 10;

/// Whom a header was asked of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) whom: NodeId,
    pub(super) at: Instant,
    /// How many were asked before and did not answer, this one included.
    pub(super) tries: u32,
}

/// The open questions.
#[derive(Debug, Default)]
pub(super) struct Asked {
    open: BTreeMap<ReleaseId, Question>,
    late_at: Option<Instant>,
}

impl Asked {
    pub(super) fn contains(&self, release: ReleaseId) -> bool {
        self.open.contains_key(&release)
    }

    /// How many more headers `whom` may be asked for.
    pub(super) fn room_for(&self, whom: NodeId) -> usize {
        let of_this_one = self.open.values().filter(|question| question.whom == whom).count();
        let room = ASKED_MAX.saturating_sub(self.open.len());
        room.min(ASKED_OF_ONE_MAX.saturating_sub(of_this_one))
    }

    pub(super) fn insert(&mut self, release: ReleaseId, question: Question) {
        let late_at = question.at.after(ANSWER_WITHIN);
        self.late_at = Some(self.late_at.map_or(late_at, |at| at.min(late_at)));
        self.open.insert(release, question);
    }

    /// The header is there; false if it was not asked for.
    pub(super) fn remove(&mut self, release: ReleaseId) -> bool {
        self.open.remove(&release).is_some()
    }

    /// `whom` will not answer any more.
    pub(super) fn lose(&mut self, whom: NodeId) {
        for question in self.open.values_mut().filter(|question| question.whom == whom) {
            question.at = Instant::ZERO;
            self.late_at = Some(Instant::ZERO);
        }
    }

    /// When an answer will be late.
    pub(super) fn late_at(&self) -> Option<Instant> {
        self.late_at
    }

    /// The questions whose answers are late, to be asked of others.
    pub(super) fn take_late(&mut self, now: Instant) -> Vec<(ReleaseId, Question)> {
        if self.late_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        let is_late = |question: &Question| now.since(question.at) >= ANSWER_WITHIN;
        let late = self.open.iter().filter(|(_, question)| is_late(question));
        let late: Vec<_> = late.map(|(release, question)| (*release, *question)).collect();
        self.open.retain(|_, question| !is_late(question));
        self.late_at = self.open.values().map(|question| question.at.after(ANSWER_WITHIN)).min();
        late.into_iter().filter(|(_, question)| question.tries < TRIES_MAX).collect()
    }
}
