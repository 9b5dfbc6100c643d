//! The network: connections whose frames come in order or not at all, how long they take, and
//! partitions between hosts.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use baton_protocol::rng::Rng;
use baton_protocol::time::Instant;

use crate::event::Host;

/// A connection; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct ConnId(pub(crate) u64);

/// Zones that hosts stand in.
pub(crate) const ZONES: usize = 3;

/// The first pause before TCP sends a lost packet again (RFC 6298 allows down to 1 s; Linux takes
/// this); it doubles each time. What comes after waits for it.
const RETRANSMIT_MIN: Duration = Duration::from_millis(200);

/// The longest that a frame is kept by losses alone.
const RETRANSMIT_MAX: Duration = Duration::from_secs(10);

/// How long a frame takes from zone to zone, at least, in microseconds.
pub(crate) type Latency = [[u64; ZONES]; ZONES];

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
    /// By the lower end, and then the other.
    conns: Vec<BTreeMap<Host, Conn>>,
    ends: HashMap<ConnId, (Host, Host)>,
    /// Ways that are held back, and by how many faults.
    blocked: BTreeMap<(Host, Host), u32>,
    latency: Latency,
    /// Packets in a thousand that are lost on the link of a host.
    loss: BTreeMap<Host, u64>,
    last: u64,
}

fn ends(a: Host, b: Host) -> (Host, Host) {
    (a.min(b), a.max(b))
}

fn way(from: Host, to: Host) -> usize {
    usize::from(from > to)
}

impl Net {
    pub(crate) fn new(latency: Latency) -> Self {
        Self { latency, ..Self::default() }
    }

    pub(crate) fn set_loss(&mut self, host: Host, permille: u64) {
        self.loss.insert(host, permille);
    }

    /// Opens a connection; `None` where there is one.
    pub(crate) fn open(&mut self, a: Host, b: Host) -> Option<ConnId> {
        if self.conn(a, b).is_some() {
            return None;
        }
        self.last += 1;
        let id = ConnId(self.last);
        let (low, high) = ends(a, b);
        if self.conns.len() <= low {
            self.conns.resize_with(low + 1, BTreeMap::new);
        }
        self.conns[low].insert(high, Conn { id, ways: Default::default() });
        self.ends.insert(id, (low, high));
        Some(id)
    }

    /// The open connection between two hosts.
    pub(crate) fn between(&self, a: Host, b: Host) -> Option<ConnId> {
        self.conn(a, b).map(|conn| conn.id)
    }

    fn conn(&self, a: Host, b: Host) -> Option<&Conn> {
        let (low, high) = ends(a, b);
        self.conns.get(low)?.get(&high)
    }

    fn conn_mut(&mut self, a: Host, b: Host) -> Option<&mut Conn> {
        let (low, high) = ends(a, b);
        self.conns.get_mut(low)?.get_mut(&high)
    }

    /// The ends of an open connection.
    pub(crate) fn ends_of(&self, id: ConnId) -> Option<(Host, Host)> {
        self.ends.get(&id).copied()
    }

    /// Closes a connection and forgets what was on its way.
    pub(crate) fn close(&mut self, a: Host, b: Host) -> bool {
        let (low, high) = ends(a, b);
        let conn = self.conns.get_mut(low).and_then(|conns| conns.remove(&high));
        conn.is_some_and(|conn| self.ends.remove(&conn.id).is_some())
    }

    /// The other ends of a host's connections.
    pub(crate) fn peers_of(&self, host: Host) -> Vec<Host> {
        let lower = (0..host).filter(|other| self.conn(*other, host).is_some());
        let higher = self.conns.get(host).into_iter().flat_map(BTreeMap::keys);
        lower.chain(higher.copied()).collect()
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
        let conn = self.conn_mut(from, to)?;
        let way = &mut conn.ways[way(from, to)];
        way.frames.push_back(frame);
        way.last = way.last.max(now.after(delay));
        Some((conn.id, way.last))
    }

    /// The next frame of one way, if it is not held back.
    pub(crate) fn deliver(&mut self, id: ConnId, from: Host, to: Host) -> Option<Vec<u8>> {
        let blocked = self.is_blocked(from, to);
        let conn = self.conn_mut(from, to).filter(|conn| conn.id == id)?;
        let way = &mut conn.ways[way(from, to)];
        if blocked {
            way.stalled += 1;
            return None;
        }
        way.frames.pop_front()
    }

    /// Whether frames from one host to another are held back.
    pub(crate) fn is_blocked(&self, from: Host, to: Host) -> bool {
        self.blocked.contains_key(&(from, to))
    }

    /// Holds frames back; returns the connections that this touches.
    pub(crate) fn block(&mut self, ways: &[(Host, Host)]) -> Vec<ConnId> {
        for way in ways {
            *self.blocked.entry(*way).or_default() += 1;
        }
        let touched: BTreeSet<_> = ways.iter().map(|(a, b)| ends(*a, *b)).collect();
        touched.into_iter().filter_map(|(a, b)| self.between(a, b)).collect()
    }

    /// Every open connection.
    pub(crate) fn all(&self) -> Vec<ConnId> {
        self.conns.iter().flat_map(BTreeMap::values).map(|conn| conn.id).collect()
    }

    /// Whether a connection is held back in a way.
    pub(crate) fn is_held(&self, id: ConnId) -> bool {
        let held = |(a, b)| self.is_blocked(a, b) || self.is_blocked(b, a);
        self.ends_of(id).is_some_and(held)
    }

    /// One fault fewer holds these ways back; returns how many deliveries each free one still owes.
    pub(crate) fn unblock(&mut self, ways: &[(Host, Host)]) -> Vec<(ConnId, [Host; 2], usize)> {
        let mut owed = Vec::new();
        for (from, to) in ways {
            if !self.is_freed(*from, *to) {
                continue;
            }
            let Some(conn) = self.conn_mut(*from, *to) else { continue };
            let way = &mut conn.ways[way(*from, *to)];
            if way.stalled > 0 {
                owed.push((conn.id, [*from, *to], core::mem::take(&mut way.stalled)));
            }
        }
        owed
    }

    fn is_freed(&mut self, from: Host, to: Host) -> bool {
        let Some(faults) = self.blocked.get_mut(&(from, to)) else { return false };
        *faults -= 1;
        let free = *faults == 0;
        if free {
            self.blocked.remove(&(from, to));
        }
        free
    }

    /// Whether nothing is held back.
    pub(crate) fn is_whole(&self) -> bool {
        self.blocked.is_empty()
    }

    /// The least time that a frame takes from anywhere to anywhere.
    pub(crate) fn least_delay(&self) -> Duration {
        Duration::from_micros(self.latency.iter().flatten().copied().min().unwrap_or_default())
    }

    /// The time that a frame takes: the way between the zones, jitter, and what is lost on the way
    /// and sent again.
    pub(crate) fn delay(&self, rng: &mut Rng, a: Host, b: Host) -> Duration {
        let base = self.latency[a % ZONES][b % ZONES].max(1);
        let mut delay = Duration::from_micros(base + rng.below(base));
        let loss = |host| self.loss.get(&host).copied().unwrap_or_default();
        let loss = loss(a) + loss(b);
        let mut pause = RETRANSMIT_MIN;
        while loss > 0 && delay < RETRANSMIT_MAX && rng.chance(loss, 1000) {
            delay += pause;
            pause *= 2;
        }
        delay
    }
}
