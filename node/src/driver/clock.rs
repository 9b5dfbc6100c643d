//! The clocks of this machine.

use std::time::{SystemTime, UNIX_EPOCH};

use baton_protocol::time::{Instant, UnixTime};
use rustix::time::{ClockId, clock_gettime};

/// The steady clock, which counts sleep.
pub(super) fn now() -> Instant {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(time.tv_nsec).unwrap_or_default();
    Instant::from_micros(seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000))
}

/// The wall clock.
pub(super) fn wall() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime(since.as_secs())
}
