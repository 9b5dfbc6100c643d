//! Chunks on their way: each pair of hosts sends them one after the other, and all pairs share the
//! hosts' links max-min fairly, as many TCP flows do in the end.

use core::cmp::Reverse;
use core::time::Duration;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use baton_protocol::swarm::ObjectId;
use baton_protocol::time::Instant;

use crate::event::Host;
use crate::link::ConnId;

/// Bytes in a millisecond of a link, each way, where nothing else is said: some 160 Mbit/s.
pub(crate) const LINK_BYTES_PER_MS: u64 = 20_000;

/// One chunk on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) conn: ConnId,
    pub(crate) object: ObjectId,
    pub(crate) index: u32,
    /// What is still to be sent, in thousandths of a byte.
    left: u64,
}

impl Transfer {
    pub(crate) fn new(conn: ConnId, object: ObjectId, index: u32, bytes: u32) -> Self {
        Self { conn, object, index, left: u64::from(bytes) * 1000 }
    }
}

/// One pair's transfers, in order; the first is under way.
#[derive(Debug, Default)]
struct Way {
    queue: VecDeque<Transfer>,
    /// Bytes in a millisecond.
    rate: u64,
}

/// All that is on its way.
#[derive(Debug)]
pub(crate) struct Bulk {
    /// Bytes in a millisecond of each link, each way.
    pub(crate) link: u64,
    ways: BTreeMap<(Host, Host), Way>,
    /// Links that are slower than others.
    thin: BTreeMap<Host, u64>,
    /// What lost packets leave of a link.
    lossy: BTreeMap<Host, u64>,
    at: Instant,
    /// Where not at each change: how often the links are shared anew. What is sent whole, or is begun,
    /// in between waits for that.
    pub(crate) every: Option<Duration>,
    /// Whether the next time is set.
    ticks: bool,
    /// Counts the sharings: an event of an earlier one is nothing.
    version: u64,
}

impl Default for Bulk {
    fn default() -> Self {
        Self {
            link: LINK_BYTES_PER_MS,
            ways: BTreeMap::new(),
            thin: BTreeMap::new(),
            lossy: BTreeMap::new(),
            at: Instant::ZERO,
            every: None,
            ticks: false,
            version: 0,
        }
    }
}

impl Bulk {
    pub(crate) fn push(&mut self, from: Host, to: Host, transfer: Transfer) {
        self.ways.entry((from, to)).or_default().queue.push_back(transfer);
    }

    pub(crate) fn cancel(&mut self, from: Host, to: Host, object: ObjectId, index: u32) {
        if let Some(way) = self.ways.get_mut(&(from, to)) {
            way.queue.retain(|it| (it.object, it.index) != (object, index));
        }
    }

    /// Nothing is on its way between the two any more.
    pub(crate) fn forget(&mut self, a: Host, b: Host) {
        self.ways.remove(&(a, b));
        self.ways.remove(&(b, a));
    }

    pub(crate) fn set_link(&mut self, host: Host, bytes_per_ms: u64) {
        self.thin.insert(host, bytes_per_ms);
    }

    pub(crate) fn set_loss(&mut self, host: Host, permille: u64) {
        match permille {
            0 => self.lossy.remove(&host),
            _ => self.lossy.insert(host, under_loss(permille)),
        };
    }

    /// Takes the time up to `now` into account, and returns what has been sent whole.
    pub(crate) fn advance(&mut self, now: Instant) -> Vec<(Host, Host, Transfer)> {
        let passed = now.since(self.at);
        if self.ticks && self.every.is_some_and(|every| passed < every) {
            return Vec::new();
        }
        self.ticks = false;
        let micros = u64::try_from(passed.as_micros()).unwrap_or(u64::MAX);
        self.at = now;
        let mut sent = Vec::new();
        for ((from, to), way) in &mut self.ways {
            let mut moved = way.rate.saturating_mul(micros);
            while let Some(first) = way.queue.front_mut() {
                let step = first.left.min(moved);
                (first.left, moved) = (first.left - step, moved - step);
                if first.left > 0 {
                    break;
                }
                sent.extend(way.queue.pop_front().map(|transfer| (*from, *to, transfer)));
            }
        }
        self.ways.retain(|_, way| !way.queue.is_empty());
        sent
    }

    /// Shares the links anew, and says when the next chunk will have been sent.
    pub(crate) fn share(
        &mut self,
        blocked: impl Fn(Host, Host) -> bool,
    ) -> Option<(u64, Duration)> {
        if self.every.is_some() && self.ticks {
            return None;
        }
        self.version += 1;
        for way in self.ways.values_mut() {
            way.rate = 0;
        }
        let open = self.ways.keys().copied().filter(|(from, to)| !blocked(*from, *to));
        let open: Vec<_> = open.collect();
        for (ends, rate) in open.iter().zip(max_min(&open, |host| self.link(host))) {
            if let Some(way) = self.ways.get_mut(ends) {
                way.rate = rate;
            }
        }
        if let Some(every) = self.every.filter(|_| !self.ways.is_empty()) {
            self.ticks = true;
            return Some((self.version, every));
        }
        let moving = self.ways.values().filter(|way| way.rate > 0);
        let micros = moving.filter_map(|way| Some(way.queue.front()?.left.div_ceil(way.rate)));
        micros.min().map(|micros| (self.version, Duration::from_micros(micros)))
    }

    pub(crate) fn is_current(&self, version: u64) -> bool {
        self.version == version
    }

    fn link(&self, host: Host) -> u64 {
        let slower = |of: &BTreeMap<Host, u64>| of.get(&host).copied().unwrap_or(self.link);
        slower(&self.thin).min(slower(&self.lossy))
    }
}

/// What TCP makes of a link that loses so many packets in a thousand: 1.22 MSS / (RTT √p) for each
/// flow (Mathis et al., 1997), with 1460 bytes, 20 ms, and four flows.
fn under_loss(permille: u64) -> u64 {
    let inverse = 1000.0 / permille as f64;
    (4.0 * 1.22 * 1460.0 / 20.0 * inverse.sqrt()) as u64
}

/// One way of one host's link: what of it is not settled yet, and the flows that share that.
#[derive(Clone, Copy, Debug, Default)]
struct Side {
    left: u64,
    flows: u64,
}

impl Side {
    fn share(&self) -> u64 {
        self.left.checked_div(self.flows).unwrap_or(u64::MAX).max(1)
    }
}

/// The max-min fair rates of `flows`, in their order, by progressive filling (Bertsekas and Gallager,
/// Data Networks, 6.5.2): the link with the least for each of its flows settles theirs, and so on with
/// what is left.
fn max_min(flows: &[(Host, Host)], link: impl Fn(Host) -> u64) -> Vec<u64> {
    let hosts = flows.iter().map(|(from, to)| from.max(to) + 1).max().unwrap_or_default();
    // Upwards the even places, downwards the odd ones.
    let ends =
        |flow: usize| flows.get(flow).map(|(from, to)| [from * 2, to * 2 + 1]).unwrap_or_default();
    let mut sides = vec![Side::default(); hosts * 2];
    let mut members = vec![Vec::new(); hosts * 2];
    for flow in 0..flows.len() {
        for side in ends(flow) {
            sides[side].flows += 1;
            members[side].push(flow);
        }
    }
    for (at, side) in sides.iter_mut().enumerate().filter(|(_, side)| side.flows > 0) {
        side.left = link(at / 2);
    }
    let used = (0..sides.len()).filter(|side| sides[*side].flows > 0);
    let mut tightest: BinaryHeap<_> =
        used.map(|side| Reverse((sides[side].share(), side))).collect();
    let mut rates = vec![0; flows.len()];
    while let Some(Reverse((rate, side))) = tightest.pop() {
        if sides[side].flows == 0 {
            continue;
        }
        // A share only grows as others are settled.
        if sides[side].share() != rate {
            tightest.push(Reverse((sides[side].share(), side)));
            continue;
        }
        for flow in core::mem::take(&mut members[side]) {
            if rates[flow] > 0 {
                continue;
            }
            rates[flow] = rate;
            for end in ends(flow) {
                sides[end].left = sides[end].left.saturating_sub(rate);
                sides[end].flows -= 1;
            }
        }
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_that_one_link_holds_back_leaves_its_share_of_the_other_to_the_rest() {
        // 0 sends to 1, 2 and 3; 3 has a tenth of the others' link.
        let flows = vec![(0, 1), (0, 2), (0, 3)];
        let rates = max_min(&flows, |host| if host == 3 { 100 } else { 1000 });
        assert_eq!(rates, [450, 450, 100]);
    }

    #[test]
    fn a_link_that_loses_packets_is_slower_the_more_it_loses() {
        let mut bulk = Bulk::default();
        let rate = |bulk: &mut Bulk, permille| {
            bulk.set_loss(1, permille);
            bulk.link(1)
        };
        assert_eq!(rate(&mut bulk, 0), LINK_BYTES_PER_MS);
        assert_eq!(rate(&mut bulk, 10), 3562);
        assert_eq!(rate(&mut bulk, 250), 712);
        bulk.set_link(1, 100);
        assert_eq!(rate(&mut bulk, 10), 100);
    }

    #[test]
    fn two_senders_share_the_link_of_the_one_who_gets_both() {
        assert_eq!(max_min(&[(0, 2), (1, 2), (1, 3)], |_| 1000), [500, 500, 500]);
    }
}
