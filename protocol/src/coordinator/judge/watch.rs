//! What the leader remembers of a rollout from one judgement to the next.

use core::time::Duration;

use crate::fleet::rollout::Rollout;
use crate::id::{PermitId, RolloutId};
use crate::time::{Instant, earliest};

/// How long nothing may move before the rollout says what blocks it.
const BLOCKED_AFTER: Duration = Duration::from_secs(10);

/// Pause before a rollout that is blocked gives another reason: its words may change with each look.
const TELL_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// How long the first answers of members are waited for, before silence means absence, and what is
/// heard is taken to be of this attempt.
const FIRST_WORD_WITHIN: Duration = Duration::from_secs(5);

/// A new leader starts anew: it soaks again.
#[derive(Debug, Default)]
pub struct Watch {
    /// The rollout, and how often a person has resumed it.
    attempt: (RolloutId, u32),
    since: Instant,
    soaking: Option<(usize, Instant)>,
    /// What any progress changes, and since when it has been the same.
    still: Option<((Option<PermitId>, usize), Instant)>,
    told_at: Option<Instant>,
    due: Option<Instant>,
}

impl Watch {
    /// When time alone may change the judgement.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        self.due.filter(|due| *due > now)
    }

    pub(super) fn start(&mut self, now: Instant, rollout: &Rollout) {
        let attempt = (rollout.id, rollout.resumed);
        if self.attempt != attempt {
            *self = Self { attempt, since: now, ..Self::default() };
        }
        self.due = None;
    }

    fn wake_at(&mut self, at: Instant) {
        self.due = earliest(self.due, Some(at));
    }

    /// Whether the members may not have been heard yet in this attempt.
    pub(super) fn is_early(&mut self, now: Instant) -> bool {
        let until = self.since.after(FIRST_WORD_WITHIN);
        if now < until {
            self.wake_at(until);
        }
        now < until
    }

    /// Whether `stage` has soaked for `soak` by now.
    pub(super) fn soaked(&mut self, now: Instant, stage: usize, soak: Duration) -> bool {
        let since = match self.soaking {
            Some((soaking, since)) if soaking == stage => since,
            _ => now,
        };
        self.soaking = Some((stage, since));
        self.wake_at(since.after(soak));
        now >= since.after(soak)
    }

    pub(super) fn stop_soaking(&mut self) {
        self.soaking = None;
    }

    /// Takes a look at how far the rollout is: whether it has moved since the last one.
    pub(super) fn moved(&mut self, now: Instant, newest: Option<PermitId>, behind: usize) -> bool {
        let mark = (newest, behind);
        let last = self.still.filter(|(last, _)| *last == mark);
        let moved = last.is_none() && self.still.is_some();
        if last.is_none() {
            self.still = Some((mark, now));
        }
        moved
    }

    /// Whether nothing has moved for long.
    pub(super) fn is_stuck(&mut self, now: Instant) -> bool {
        let since = self.still.map_or(now, |(_, since)| since);
        let stuck_at = since.after(BLOCKED_AFTER);
        self.wake_at(stuck_at);
        now >= stuck_at
    }

    /// Whether the reason may be told now, of a rollout that is blocked already or is not.
    pub(super) fn may_tell(&mut self, now: Instant, blocked: bool) -> bool {
        let not_before = self.told_at.map(|at| at.after(TELL_AGAIN_AFTER)).filter(|_| blocked);
        let may = not_before.is_none_or(|at| now >= at);
        if may {
            self.told_at = Some(now);
        } else if let Some(at) = not_before {
            self.wake_at(at);
        }
        may
    }
}
