//! What a node knows of one neighbour, and how much that one may say.

use core::time::Duration;
use std::collections::BTreeSet;

use crate::gossip::Head;
use crate::gossip::shelf::HEADERS_MAX;
use crate::id::ReleaseId;
use crate::time::Instant;

/// The time after which a neighbour may speak afresh.
const WINDOW: Duration = Duration::from_secs(5);

/// Messages in one [`WINDOW`]. An honest neighbour sends a head and a list each 20 ms at the most, a
/// digest each second and the answers to what it was asked: a quarter of this.
const MESSAGES_MAX: usize = 2000;

/// Headers in one [`WINDOW`] that are new and were not asked for: a node pushes only what is published
/// on it, and people do not publish twenty releases a second.
const PUSHED_MAX: usize = 100;

/// Bytes of headers that a neighbour can have in one [`WINDOW`], as a short question may ask for many
/// of them. What is over it can be asked for again.
const GIVEN_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Ids that a neighbour is known to have. Twice what it can have at a time, as it forgets some.
const KNOWN_MAX: usize = 2 * HEADERS_MAX;

/// Pause between two lists for the same difference; doubled each time. It is a little less than that
/// between two digests, so that a list that was lost is made up for by the next one.
const COMPARE_EVERY_MIN: Duration = Duration::from_millis(900);

/// The longest of these pauses: where one of two nodes refuses a header, they differ for good.
const COMPARE_EVERY_MAX: Duration = Duration::from_secs(10);

/// Digests in a row that are kept from a neighbour that agrees; one in a crowd hears one each 3.6 s at the
/// least, and is silent for membership after 5.
const SPARED: u32 = 1;
const SPARED_IN_CROWD: u32 = 2;

/// A difference for which a list was sent.
#[derive(Clone, Copy, Debug)]
struct Compared {
    ours: [u8; 32],
    theirs: [u8; 32],
    not_before: Instant,
    times: u32,
}

/// A neighbour.
#[derive(Debug)]
pub(super) struct Neighbour {
    /// What it last said of its log.
    pub(super) head: Head,
    /// Its last digest.
    pub(super) digest: Option<[u8; 32]>,
    /// How many of the last digests were kept from it.
    spared: u32,
    knows: BTreeSet<ReleaseId>,
    compared: Option<Compared>,
    since: Instant,
    messages: usize,
    pushed: usize,
    given_bytes: usize,
    scolded: bool,
}

impl Neighbour {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            head: Head::default(),
            digest: None,
            spared: 0,
            knows: BTreeSet::new(),
            compared: None,
            since: now,
            messages: 0,
            pushed: 0,
            given_bytes: 0,
            scolded: false,
        }
    }

    /// Counts one message; false if it is over the budget.
    pub(super) fn may_speak(&mut self, now: Instant) -> bool {
        if now.since(self.since) >= WINDOW {
            self.since = now;
            (self.messages, self.pushed, self.given_bytes) = (0, 0, 0);
            self.scolded = false;
        }
        self.messages += 1;
        self.messages <= MESSAGES_MAX
    }

    /// Counts one header that was not asked for; false if it is over the budget.
    pub(super) fn may_push(&mut self) -> bool {
        self.pushed += 1;
        self.pushed <= PUSHED_MAX
    }

    /// Counts bytes that the neighbour asks for; false if they are over the budget.
    pub(super) fn may_have(&mut self, bytes: usize) -> bool {
        self.given_bytes = self.given_bytes.saturating_add(bytes);
        self.given_bytes <= GIVEN_BYTES_MAX
    }

    /// Whether a fault of this neighbour is worth a word. Only the first in each window is.
    pub(super) fn scold(&mut self) -> bool {
        !core::mem::replace(&mut self.scolded, true)
    }

    pub(super) fn knows(&self, release: ReleaseId) -> bool {
        self.knows.contains(&release)
    }

    pub(super) fn learns(&mut self, release: ReleaseId) {
        if self.knows.len() >= KNOWN_MAX {
            self.knows.clear();
        }
        self.knows.insert(release);
    }

    /// Whether it is told the digest `ours` and `head` this time: always where it last said something
    /// else, and every other time where the two agree, as a sign of life. In a `crowd` it is every third
    /// time, and how far the log is makes no difference: the leader tells that, and so do all the others.
    pub(super) fn is_due(&mut self, ours: [u8; 32], head: Head, crowd: bool) -> bool {
        let same_log = match crowd {
            true => (self.head.term, self.head.leader) == (head.term, head.leader),
            false => self.head == head,
        };
        let most = if crowd { SPARED_IN_CROWD } else { SPARED };
        let spared = self.digest == Some(ours) && same_log && self.spared < most;
        self.spared = if spared { self.spared + 1 } else { 0 };
        !spared
    }

    /// Whether lists are to be exchanged where this node's digest is `ours` and the neighbour's is
    /// `theirs`.
    pub(super) fn compares(&mut self, now: Instant, ours: [u8; 32], theirs: [u8; 32]) -> bool {
        if ours == theirs {
            return false;
        }
        let same = self.compared.filter(|it| (it.ours, it.theirs) == (ours, theirs));
        if same.is_some_and(|it| now < it.not_before) {
            return false;
        }
        let times = same.map_or(0, |it| it.times);
        let pause = COMPARE_EVERY_MIN.saturating_mul(1 << times.min(16)).min(COMPARE_EVERY_MAX);
        let (not_before, times) = (now.after(pause), times.saturating_add(1));
        self.compared = Some(Compared { ours, theirs, not_before, times });
        true
    }
}
