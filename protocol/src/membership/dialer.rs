//! When an address may be dialled again.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::membership::Address;
use crate::rng::Rng;
use crate::time::Instant;

/// The first pause after a dial; doubled with each that fails.
const PAUSE_MIN: Duration = Duration::from_millis(300);

/// The longest pause. A member is never given up.
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// A dial that nothing was heard of for so long counts as failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Addresses whose past is remembered.
const ADDRESSES_MAX: usize = 65_536;

#[derive(Clone, Copy, Debug)]
struct Past {
    failures: u32,
    not_before: Instant,
    own: bool,
}

/// The past of each address.
#[derive(Debug)]
pub(super) struct Dialer {
    past: BTreeMap<Address, Past>,
    rng: Rng,
}

impl Dialer {
    pub(super) fn new(rng: Rng) -> Self {
        Self { past: BTreeMap::new(), rng }
    }

    /// Whether `address` may be dialled now; counts it as dialled if so.
    pub(super) fn may_dial(&mut self, now: Instant, address: &Address) -> bool {
        if self.past.len() >= ADDRESSES_MAX && !self.past.contains_key(address) {
            self.past.clear();
        }
        let fresh = Past { failures: 0, not_before: now, own: false };
        let past = self.past.entry(address.clone()).or_insert(fresh);
        if past.own || now < past.not_before {
            return false;
        }
        past.not_before = now.after(ANSWER_WITHIN);
        true
    }

    pub(super) fn succeeded(&mut self, address: &Address) {
        self.past.remove(address);
    }

    pub(super) fn failed(&mut self, now: Instant, address: &Address) {
        let Some(past) = self.past.get_mut(address) else { return };
        let doubled = PAUSE_MIN.saturating_mul(1 << past.failures.min(16)).min(PAUSE_MAX);
        let jitter = self.rng.below(doubled.as_millis() as u64 / 2);
        past.failures = past.failures.saturating_add(1);
        past.not_before = now.after(doubled + Duration::from_millis(jitter));
    }

    pub(super) fn is_self(&mut self, address: Address) {
        let past = Past { failures: 0, not_before: Instant::ZERO, own: true };
        self.past.insert(address, past);
    }
}
