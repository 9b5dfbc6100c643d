//! What is known of one neighbour, whatever the object.

use core::time::Duration;
use std::collections::BTreeMap;

use super::ObjectId;
use crate::id::{NodeId, ZoneName};
use crate::time::Instant;

/// Assumed of a neighbour that has answered no request yet: long enough for a slow link.
const EXPECTED_FIRST: Duration = Duration::from_millis(1_000);
/// Below this nothing is called late: a disk or a scheduler may take as long.
const EXPECTED_MIN: Duration = Duration::from_millis(100);
/// Above this a neighbour is as good as silent.
const EXPECTED_MAX: Duration = Duration::from_secs(15);
/// Requests in a row that may be late before a neighbour is left alone for a while.
const STRIKES_MAX: u32 = 6;
/// How long it is left alone at first; twice as long each further time.
const SUSPENSION_MIN: Duration = Duration::from_secs(2);
const SUSPENSION_MAX: Duration = Duration::from_secs(120);
/// Unasked bytes that a neighbour takes before it has said how many: one of the largest chunks of
/// an ordinary release.
const CREDIT_FIRST: u64 = 256 * 1024;
/// A chunk that was sent and not acknowledged in this time no longer counts against the credit.
const UNACKED_AGE_MAX: Duration = Duration::from_secs(10);
/// Chunks sent and not acknowledged that are remembered for each neighbour.
const UNACKED_MAX: usize = 4_096;
/// Chunk indexes that a neighbour may name each second, over all its messages. At 10 Gbit/s it gets
/// 20,000 chunks of 64 KiB in a second.
const BUDGET_PER_SECOND: u64 = 50_000;
/// What it may save up: two bitmaps of a large object or a thousand batches.
const BUDGET_MAX: u64 = 200_000;
/// A flood is reported once in this time.
const FLOOD_REPORT_EVERY: Duration = Duration::from_secs(10);
/// Who asked us for something this lately is hot: it is told at once of new chunks.
const HOT_FOR: Duration = Duration::from_secs(2);

/// One neighbour.
#[derive(Debug)]
pub(super) struct Link {
    pub zone: ZoneName,
    /// Whether that is another one than this node's.
    pub foreign: bool,
    /// How long a request to it takes, smoothed.
    expected: Duration,
    strikes: u32,
    suspended_until: Option<Instant>,
    suspension: Duration,
    /// Requests of ours that are out.
    pub asked: u32,
    /// Uploads of ours to it that are under way.
    pub uploading: u32,
    /// When, in the order of uploads, it was last given one.
    pub served: u64,
    credit: u64,
    unacked: BTreeMap<(ObjectId, u32), (Instant, u32)>,
    unacked_bytes: u64,
    /// The credit that it was told.
    pub told: u32,
    last_request: Option<Instant>,
    budget: u64,
    budget_at: Instant,
    flood_reported: Option<Instant>,
}

impl Link {
    pub fn new(now: Instant, zone: ZoneName, own: &ZoneName) -> Self {
        Self {
            foreign: zone != *own,
            zone,
            expected: EXPECTED_FIRST,
            strikes: 0,
            suspended_until: None,
            suspension: SUSPENSION_MIN,
            asked: 0,
            uploading: 0,
            served: 0,
            credit: CREDIT_FIRST,
            unacked: BTreeMap::new(),
            unacked_bytes: 0,
            told: u32::try_from(CREDIT_FIRST).unwrap_or(u32::MAX),
            last_request: None,
            budget: BUDGET_MAX,
            budget_at: now,
            flood_reported: None,
        }
    }

    /// It stands in `zone`, and this node in `own`.
    pub fn stand_in(&mut self, zone: ZoneName, own: &ZoneName) {
        self.foreign = zone != *own;
        self.zone = zone;
    }

    /// How long a request to it is expected to take.
    pub fn expected(&self) -> Duration {
        self.expected
    }

    /// It brought what it was asked for, after `took`.
    pub fn delivered(&mut self, took: Duration) {
        self.expected = blend(self.expected, took).clamp(EXPECTED_MIN, EXPECTED_MAX);
        self.alive();
    }

    /// It brought something.
    pub fn alive(&mut self) {
        self.strikes = 0;
    }

    /// A request to it is late. True if it is to be left alone for a while.
    pub fn late(&mut self, now: Instant) -> bool {
        self.expected = (self.expected * 5 / 4).min(EXPECTED_MAX);
        self.strikes += 1;
        if self.strikes < STRIKES_MAX || self.suspended_until.is_some() {
            return false;
        }
        self.suspended_until = Some(now.after(self.suspension));
        self.suspension = (self.suspension * 2).min(SUSPENSION_MAX);
        true
    }

    /// Whether it is left alone.
    pub fn suspended(&self) -> bool {
        self.suspended_until.is_some()
    }

    /// Ends the suspension if its time is over, or at once if it has just brought something.
    pub fn resume(&mut self, now: Instant) -> bool {
        let over = self.suspended_until.is_some_and(|until| until <= now || self.strikes == 0);
        if over {
            self.suspended_until = None;
            self.strikes = 0;
        }
        over
    }

    /// Whether it takes `bytes` more unasked. One chunk is always taken, unless it said none.
    pub fn takes(&self, bytes: u32) -> bool {
        let fits = self.unacked_bytes + u64::from(bytes) <= self.credit;
        self.credit > 0 && (fits || self.unacked.is_empty())
    }

    pub fn set_credit(&mut self, bytes: u32) {
        self.credit = u64::from(bytes);
    }

    /// A chunk is being sent to it.
    pub fn sending(&mut self, now: Instant, object: ObjectId, index: u32, len: u32) {
        let full = self.unacked.len() >= UNACKED_MAX;
        if !full && self.unacked.insert((object, index), (now, len)).is_none() {
            self.unacked_bytes += u64::from(len);
        }
    }

    /// It said that it has the chunk, or that it cannot use it. True if it was sent one.
    pub fn acknowledged(&mut self, object: ObjectId, index: u32) -> bool {
        let sent = self.unacked.remove(&(object, index));
        self.unacked_bytes -= sent.map_or(0, |(_, len)| u64::from(len));
        sent.is_some()
    }

    /// Chunks whose receipt is long overdue. They no longer count.
    pub fn expire(&mut self, now: Instant) -> Vec<(ObjectId, u32)> {
        let old = |sent: &Instant| now.since(*sent) >= UNACKED_AGE_MAX;
        let expired = self.unacked.iter().filter(|(_, (sent, _))| old(sent));
        let expired: Vec<(ObjectId, u32)> = expired.map(|(&key, _)| key).collect();
        for &(object, index) in &expired {
            self.acknowledged(object, index);
        }
        expired
    }

    /// Whether it still owes a receipt.
    pub fn owes_receipts(&self) -> bool {
        !self.unacked.is_empty()
    }

    /// It asked for chunks.
    pub fn requested(&mut self, now: Instant) {
        self.last_request = Some(now);
    }

    /// Whether it asks us for chunks these seconds.
    pub fn is_hot(&self, now: Instant) -> bool {
        self.last_request.is_some_and(|at| now.since(at) < HOT_FOR)
    }

    /// Takes a message's cost from its budget (a token bucket). False if there is not enough.
    pub fn afford(&mut self, now: Instant, cost: u64) -> bool {
        let earned = now.since(self.budget_at).as_micros() * u128::from(BUDGET_PER_SECOND);
        let earned = u64::try_from(earned / 1_000_000).unwrap_or(u64::MAX);
        if earned > 0 {
            self.budget = self.budget.saturating_add(earned).min(BUDGET_MAX);
            self.budget_at = now;
        }
        let enough = self.budget >= cost;
        self.budget -= if enough { cost } else { 0 };
        enough
    }

    /// Whether a flood is to be reported now: not more often than once in a while.
    pub fn report_flood(&mut self, now: Instant) -> bool {
        let lately = self.flood_reported.is_some_and(|at| now.since(at) < FLOOD_REPORT_EVERY);
        self.flood_reported = if lately { self.flood_reported } else { Some(now) };
        !lately
    }
}

/// The neighbours, in the order of their ids.
pub(super) type Links = BTreeMap<NodeId, Link>;

/// An exponentially weighted mean with a weight of 1/8, as TCP's smoothed round-trip time (RFC 6298).
pub(super) fn blend(old: Duration, new: Duration) -> Duration {
    (old * 7 + new) / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        let zone = "a".parse().unwrap();
        Link::new(Instant::ZERO, zone, &"b".parse().unwrap())
    }

    #[test]
    fn one_that_is_always_late_is_left_alone_for_longer_each_time() {
        let (mut link, mut now, mut last) = (link(), Instant::ZERO, Duration::ZERO);
        for _ in 0..3 {
            assert_eq!((0..STRIKES_MAX).filter(|_| link.late(now)).count(), 1);
            let began = now;
            while !link.resume(now) {
                now = now.after(Duration::from_millis(100));
            }
            assert!(now.since(began) > last);
            last = now.since(began);
        }
    }

    #[test]
    fn credit_holds_and_receipts_give_it_back() {
        let mut link = link();
        let object = super::super::tests::object();
        link.set_credit(100);
        assert!(link.takes(500), "one chunk is always taken");
        link.sending(Instant::ZERO, object, 0, 60);
        assert!(link.takes(40) && !link.takes(41));
        assert!(link.acknowledged(object, 0) && !link.acknowledged(object, 0));
        link.set_credit(0);
        assert!(!link.takes(1));
    }

    #[test]
    fn a_lost_receipt_is_not_waited_for_for_ever() {
        let mut link = link();
        let object = super::super::tests::object();
        link.sending(Instant::ZERO, object, 3, 60);
        assert!(link.expire(Instant::ZERO).is_empty());
        assert_eq!(link.expire(Instant::ZERO.after(UNACKED_AGE_MAX)), vec![(object, 3)]);
        assert!(!link.owes_receipts());
    }

    #[test]
    fn a_flood_runs_dry_and_recovers() {
        let mut link = link();
        assert!(link.afford(Instant::ZERO, BUDGET_MAX));
        assert!(!link.afford(Instant::ZERO, 1));
        assert!(link.report_flood(Instant::ZERO) && !link.report_flood(Instant::ZERO));
        assert!(link.afford(Instant::from_micros(1_000_000), BUDGET_PER_SECOND));
    }
}
