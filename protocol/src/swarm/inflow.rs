//! How much this node lets come at once, so that many senders do not meet in its queue and the disk
//! keeps up.

use core::time::Duration;

use crate::time::Instant;

/// What may be under way to this node: this long at the rate of late. Longer than most round trips,
/// so that it grows while the link and not the bound is what limits.
const BUDGET_TIME: Duration = Duration::from_millis(500);
/// Enough to start on a fast link; a quarter of a second at 50 Mbit/s.
const BUDGET_MIN: u64 = 2 * 1024 * 1024;
/// Chunks that may be under way whatever their size: each comes slowly, as its sender serves others too,
/// and a budget that follows the rate would fall with it. In `netsim scale` with chunks of 4 MiB, links of
/// 160 Mbit/s and 100 nodes a release took 1.6 of the bound, and 2.4 without. Of larger chunks, as many as
/// [`BUDGET_MAX`] holds.
const CHUNKS_MIN: u64 = 16;
/// What the connections may hold in memory.
const BUDGET_MAX: u64 = 64 * 1024 * 1024;
/// How often the rate is measured.
const WINDOW: Duration = Duration::from_millis(500);
/// Verified bytes that may wait for the disk. Above it nothing new is asked for or taken unasked
/// until half of it is written.
const BACKLOG_MAX: u64 = 64 * 1024 * 1024;

/// What comes in, and what may.
#[derive(Debug)]
pub(super) struct Inflow {
    window_start: Instant,
    window_bytes: u64,
    per_second: u64,
    asked: u64,
    backlog: u64,
    paused: bool,
}

impl Inflow {
    pub fn new() -> Self {
        Self {
            window_start: Instant::ZERO,
            window_bytes: 0,
            per_second: 0,
            asked: 0,
            backlog: 0,
            paused: false,
        }
    }

    /// Bytes were asked for.
    pub fn asked(&mut self, bytes: u32) {
        self.asked += u64::from(bytes);
    }

    /// A request for so many bytes has ended.
    pub fn ended(&mut self, bytes: u32) {
        self.asked = self.asked.saturating_sub(u64::from(bytes));
    }

    /// Bytes that came; `new` ones wait for the disk now.
    pub fn arrived(&mut self, bytes: u32, new: bool) {
        self.window_bytes += u64::from(bytes);
        self.backlog += if new { u64::from(bytes) } else { 0 };
        self.paused |= self.backlog > BACKLOG_MAX;
    }

    /// Bytes no longer wait for the disk.
    pub fn stored(&mut self, bytes: u32) {
        self.backlog = self.backlog.saturating_sub(u64::from(bytes));
        self.paused &= self.backlog > BACKLOG_MAX / 2;
    }

    /// Measures the rate, at most once each window.
    pub fn measure(&mut self, now: Instant) {
        let passed = now.since(self.window_start);
        if passed < WINDOW {
            return;
        }
        let micros = u64::try_from(passed.as_micros()).unwrap_or(u64::MAX);
        let rate = self.window_bytes.saturating_mul(1_000_000) / micros.max(1);
        self.per_second = (self.per_second + rate).div_ceil(2).max(rate);
        (self.window_start, self.window_bytes) = (now, 0);
    }

    /// Bytes that may be under way to this node.
    pub fn budget(&self) -> u64 {
        let bytes = u128::from(self.per_second) * BUDGET_TIME.as_millis() / 1_000;
        u64::try_from(bytes).unwrap_or(u64::MAX).clamp(BUDGET_MIN, BUDGET_MAX)
    }

    /// Whether so many more bytes may be asked for.
    pub fn may_ask(&self, bytes: u32) -> bool {
        let least = (u64::from(bytes) * CHUNKS_MIN).min(BUDGET_MAX);
        let budget = self.budget().max(least);
        let fits = self.asked + u64::from(bytes) <= budget;
        !self.paused && (fits || self.asked == 0)
    }

    /// What each of `senders` may have under way unasked.
    pub fn credit(&self, senders: usize) -> u32 {
        if self.paused {
            return 0;
        }
        let each = self.budget() / u64::try_from(senders.max(1)).unwrap_or(1);
        u32::try_from(each).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_lags_stops_all_until_half_is_written() {
        let mut inflow = Inflow::new();
        let half = u32::try_from(BACKLOG_MAX / 2).unwrap();
        inflow.arrived(half, true);
        inflow.arrived(half, true);
        assert!(inflow.may_ask(1));
        inflow.arrived(1, true);
        assert!(!inflow.may_ask(1) && inflow.credit(1) == 0);
        inflow.stored(half);
        assert!(!inflow.may_ask(1));
        inflow.stored(1);
        assert!(inflow.may_ask(1) && inflow.credit(1) > 0);
    }

    #[test]
    fn large_chunks_come_several_at_once_whatever_the_rate() {
        let chunks_of = |bytes: u32| {
            let (mut inflow, mut count) = (Inflow::new(), 0);
            while inflow.may_ask(bytes) {
                inflow.asked(bytes);
                count += 1;
            }
            count
        };
        assert_eq!([65_536, 4 << 20, 16 << 20].map(chunks_of), [32, 16, 4]);
    }

    #[test]
    fn the_budget_follows_the_rate() {
        let mut inflow = Inflow::new();
        assert_eq!(inflow.budget(), BUDGET_MIN);
        inflow.arrived(50_000_000, false);
        inflow.measure(Instant::from_micros(500_000));
        assert_eq!(inflow.budget(), 50_000_000);
        inflow.asked(50_000_000);
        assert!(!inflow.may_ask(1));
        inflow.ended(1);
        assert!(inflow.may_ask(1));
    }
}
