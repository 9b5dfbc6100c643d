//! When an address may be dialled again.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::membership::Address;
use crate::rng::Rng;
use crate::time::Instant;

/// The first pause after a dial that failed; doubled with each that follows.
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// The longest pause. A member is never given up, and when it is back it should not wait long: one
/// attempt each eight seconds costs next to nothing.
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// A dial that nothing was heard of for so long counts as failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Addresses whose past is remembered: far more than a node ever wants to dial at a time.
const ADDRESSES_MAX: usize = 4096;

/// Addresses that turned out to be this node's own.
const OWN_MAX: usize = 64;

#[derive(Clone, Copy, Debug, Default)]
struct Past {
    failures: u32,
    not_before: Instant,
}

/// The past of each address.
#[derive(Debug)]
pub(super) struct Dialer {
    past: BTreeMap<Address, Past>,
    in_flight: BTreeMap<Address, Instant>,
    own: BTreeSet<Address>,
    rng: Rng,
}

impl Dialer {
    pub(super) fn new(rng: Rng) -> Self {
        Self { past: BTreeMap::new(), in_flight: BTreeMap::new(), own: BTreeSet::new(), rng }
    }

    /// Dials that nothing was heard of yet.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether `address` may be dialled now; counts it as dialled if so.
    pub(super) fn may_dial(&mut self, now: Instant, address: &Address) -> bool {
        let early = self.past.get(address).is_some_and(|past| now < past.not_before);
        if early || self.own.contains(address) || self.in_flight.contains_key(address) {
            return false;
        }
        self.in_flight.insert(address.clone(), now);
        true
    }

    /// Dials without an answer fail.
    pub(super) fn expire(&mut self, now: Instant) {
        let late = |(address, at): (&Address, &Instant)| {
            (now.since(*at) >= ANSWER_WITHIN).then(|| address.clone())
        };
        let late: Vec<_> = self.in_flight.iter().filter_map(late).collect();
        for address in late {
            self.failed(now, &address);
        }
    }

    /// A connection came of it. Whether it is of any use is said by `lasted` or `failed`.
    pub(super) fn connected(&mut self, address: &Address) {
        self.in_flight.remove(address);
    }

    /// A connection has served its purpose for a while: the past is forgotten.
    pub(super) fn lasted(&mut self, now: Instant, address: &Address) {
        self.past.remove(address);
        self.in_flight.remove(address);
        self.pause(now, address);
    }

    pub(super) fn failed(&mut self, now: Instant, address: &Address) {
        self.in_flight.remove(address);
        let failures = self.past.get(address).map_or(0, |past| past.failures);
        self.pause(now, address);
        if let Some(past) = self.past.get_mut(address) {
            past.failures = failures.saturating_add(1);
        }
    }

    fn pause(&mut self, now: Instant, address: &Address) {
        self.make_room(now);
        let past = self.past.entry(address.clone()).or_default();
        let doubled = PAUSE_MIN.saturating_mul(1 << past.failures.min(16)).min(PAUSE_MAX);
        let jitter = self.rng.below(doubled.as_millis() as u64 / 2);
        past.not_before = now.after(doubled + Duration::from_millis(jitter));
    }

    fn make_room(&mut self, now: Instant) {
        if self.past.len() >= ADDRESSES_MAX {
            self.past.retain(|_, past| now < past.not_before);
        }
        if self.past.len() >= ADDRESSES_MAX {
            self.past.clear();
        }
    }

    /// `address` leads to this node itself and is not dialled any more.
    pub(super) fn is_self(&mut self, address: Address) {
        self.in_flight.remove(&address);
        if self.own.len() < OWN_MAX {
            self.own.insert(address);
        }
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        self.rng.shuffle(items);
    }
}
