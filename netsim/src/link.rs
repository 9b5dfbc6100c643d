//! The network: connections whose frames come in order or not at all, and partitions between hosts.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use baton_protocol::rng::Rng;
use baton_protocol::time::Instant;

use crate::event::Host;

/// A connection; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct ConnId(pub(crate) u64);

/// One way of a connection.
#[derive(Debug, Default)]
struct Way {
    frames: VecDeque<Vec<u8>>,
    /// Deliveries that came due while the way was blocked.
    stalled: usize,
    last: Instant,
}

#[derive(Debug)]
struct Conn {
    id: ConnId,
    ways: [Way; 2],
}

/// All connections, by their ends.
#[derive(Debug, Default)]
pub(crate) struct Net {
    conns: BTreeMap<(Host, Host), Conn>,
    blocked: BTreeSet<(Host, Host)>,
    last: u64,
}

fn ends(a: Host, b: Host) -> (Host, Host) {
    (a.min(b), a.max(b))
}

fn way(from: Host, to: Host) -> usize {
    usize::from(from > to)
}

impl Net {
    /// Opens a connection; `None` where there is one.
    pub(crate) fn open(&mut self, a: Host, b: Host) -> Option<ConnId> {
        if self.conns.contains_key(&ends(a, b)) {
            return None;
        }
        self.last += 1;
        let id = ConnId(self.last);
        self.conns.insert(ends(a, b), Conn { id, ways: Default::default() });
        Some(id)
    }

    /// The open connection between two hosts.
    pub(crate) fn between(&self, a: Host, b: Host) -> Option<ConnId> {
        self.conns.get(&ends(a, b)).map(|conn| conn.id)
    }

    /// The ends of an open connection.
    pub(crate) fn ends_of(&self, id: ConnId) -> Option<(Host, Host)> {
        self.conns.iter().find(|(_, conn)| conn.id == id).map(|(ends, _)| *ends)
    }

    /// Closes a connection and forgets what was on its way.
    pub(crate) fn close(&mut self, a: Host, b: Host) -> bool {
        self.conns.remove(&ends(a, b)).is_some()
    }

    /// The other ends of a host's connections.
    pub(crate) fn peers_of(&self, host: Host) -> Vec<Host> {
        let other = |(a, b): &(Host, Host)| match (*a == host, *b == host) {
            (true, _) => Some(*b),
            (_, true) => Some(*a),
            _ => None,
        };
        self.conns.keys().filter_map(other).collect()
    }

    /// Takes a frame; says when it is due, never before the one ahead of it.
    pub(crate) fn push(
        &mut self,
        now: Instant,
        from: Host,
        to: Host,
        delay: Duration,
        frame: Vec<u8>,
    ) -> Option<(ConnId, Instant)> {
        let conn = self.conns.get_mut(&ends(from, to))?;
        let way = &mut conn.ways[way(from, to)];
        way.frames.push_back(frame);
        way.last = way.last.max(now.after(delay));
        Some((conn.id, way.last))
    }

    /// The next frame of one way, if it is not held back.
    pub(crate) fn deliver(&mut self, id: ConnId, from: Host) -> Option<(Host, Vec<u8>)> {
        let (a, b) = self.ends_of(id)?;
        let to = if a == from { b } else { a };
        let blocked = self.blocked.contains(&(from, to));
        let way = &mut self.conns.get_mut(&(a, b))?.ways[way(from, to)];
        if blocked {
            way.stalled += 1;
            return None;
        }
        way.frames.pop_front().map(|frame| (to, frame))
    }

    /// Whether frames from one host to another are held back.
    pub(crate) fn is_blocked(&self, from: Host, to: Host) -> bool {
        self.blocked.contains(&(from, to))
    }

    /// Holds frames back; returns the connections that this touches.
    pub(crate) fn block(&mut self, ways: &[(Host, Host)]) -> Vec<ConnId> {
        self.blocked.extend(ways);
        let touched: BTreeSet<_> = ways.iter().map(|(a, b)| ends(*a, *b)).collect();
        touched.into_iter().filter_map(|ends| self.conns.get(&ends).map(|it| it.id)).collect()
    }

    /// Every open connection.
    pub(crate) fn all(&self) -> Vec<ConnId> {
        self.conns.values().map(|conn| conn.id).collect()
    }

    /// Whether a connection is held back in a way.
    pub(crate) fn is_held(&self, id: ConnId) -> bool {
        let held = |(a, b)| self.is_blocked(a, b) || self.is_blocked(b, a);
        self.ends_of(id).is_some_and(held)
    }

    /// Ends all partitions; returns how many deliveries each way still owes.
    pub(crate) fn heal(&mut self) -> Vec<(ConnId, Host, usize)> {
        self.blocked.clear();
        let mut owed = Vec::new();
        for ((a, b), conn) in &mut self.conns {
            for (from, way) in [*a, *b].into_iter().zip(&mut conn.ways) {
                if way.stalled > 0 {
                    owed.push((conn.id, from, core::mem::take(&mut way.stalled)));
                }
            }
        }
        owed
    }

    /// The time a frame takes: some links are short, some long, and each frame has its jitter.
    pub(crate) fn delay(rng: &mut Rng, a: Host, b: Host) -> Duration {
        let (low, high) = ends(a, b);
        let base = 200 + (low * 31 + high * 17) as u64 % 40 * 250;
        Duration::from_micros(base + rng.below(base))
    }
}
