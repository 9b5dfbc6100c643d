//! A network of memberships alone: it dials, connects, admits and carries heartbeats.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::id::NodeId;
use crate::machine::Machine as _;
use crate::membership::{Address, Input, Membership, Output, Roster, RosterEntry};
use crate::rng::Rng;
use crate::time::Instant;

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn node_id(at: usize) -> NodeId {
    NodeId(*blake3::hash(&at.to_le_bytes()).as_bytes())
}

pub(super) fn address(at: usize) -> Address {
    format!("host{at}:7400").parse().unwrap()
}

pub(super) fn shared(roster: &[RosterEntry]) -> Arc<Roster> {
    Arc::new(roster.iter().cloned().collect())
}

/// `count` members in `zones` zones, the first five of them voters.
pub(super) fn roster(count: usize, zones: usize) -> Vec<RosterEntry> {
    let entry = |at: usize| RosterEntry {
        node: node_id(at),
        zone: Some(format!("zone{}", at % zones).parse().unwrap()),
        addresses: vec![address(at)],
        voter: at < 5,
    };
    (0..count).map(entry).collect()
}

enum Event {
    Dialled { from: usize, life: u32, to: Address, expect: Option<NodeId> },
    Beat,
}

#[derive(Default)]
pub(super) struct Host {
    pub(super) membership: Option<Membership>,
    pub(super) book: Option<Vec<u8>>,
    pub(super) writes: usize,
    pub(super) dials: usize,
    pub(super) own_dials: usize,
    pub(super) mute: bool,
    /// Its neighbours, as it says.
    pub(super) near: BTreeSet<usize>,
    life: u32,
}

pub(super) struct Net {
    pub(super) now: Instant,
    pub(super) hosts: Vec<Host>,
    /// Pairs of hosts, the lower one first.
    pub(super) links: BTreeSet<(usize, usize)>,
    pub(super) hang_ups: Vec<(usize, usize)>,
    pub(super) split_at: Option<usize>,
    pub(super) trace: Vec<String>,
    pub(super) doubles: usize,
    queue: BTreeMap<(Instant, u64), Event>,
    number: u64,
    rng: Rng,
}

impl Net {
    pub(super) fn new(count: usize, seed: u64) -> Self {
        let mut net = Self {
            now: Instant::ZERO,
            hosts: (0..count).map(|_| Host::default()).collect(),
            links: BTreeSet::new(),
            hang_ups: Vec::new(),
            split_at: None,
            trace: Vec::new(),
            doubles: 0,
            queue: BTreeMap::new(),
            number: 0,
            rng: Rng::new(seed),
        };
        net.after(SECOND, Event::Beat);
        net
    }

    /// All of `roster`, at once, each knowing the others.
    pub(super) fn started(roster: &[RosterEntry], seed: u64) -> Self {
        let mut net = Self::new(roster.len(), seed);
        for at in 0..roster.len() {
            net.start(at);
        }
        net.tell_all(roster);
        net
    }

    pub(super) fn start(&mut self, at: usize) {
        let seed = self.rng.next_u64();
        self.hosts[at].life += 1;
        self.hosts[at].membership = Some(Membership::new(node_id(at), seed));
    }

    pub(super) fn crash(&mut self, at: usize) {
        self.hosts[at].membership = None;
        self.hosts[at].near.clear();
        let gone: Vec<_> =
            self.links.iter().copied().filter(|(a, b)| *a == at || *b == at).collect();
        for (a, b) in gone {
            self.cut(a, b);
        }
    }

    pub(super) fn tell_all(&mut self, roster: &[RosterEntry]) {
        for at in 0..self.hosts.len() {
            self.feed(at, Input::Roster(shared(roster)));
        }
    }

    pub(super) fn feed(&mut self, at: usize, input: Input) {
        let Some(membership) = &mut self.hosts[at].membership else { return };
        membership.handle(self.now, input);
        let outputs: Vec<_> =
            core::iter::from_fn(|| self.hosts[at].membership.as_mut()?.poll_output()).collect();
        for output in outputs {
            self.trace.push(format!("{:?} {at} {output:?}", self.now));
            self.perform(at, output);
        }
    }

    fn perform(&mut self, at: usize, output: Output) {
        match output {
            Output::Dial { address, expect } => {
                self.hosts[at].dials += 1;
                self.hosts[at].own_dials += usize::from(address == self::address(at));
                let delay = Duration::from_millis(5 + self.rng.below(100));
                let life = self.hosts[at].life;
                self.after(delay, Event::Dialled { from: at, life, to: address, expect });
            }
            Output::HangUp { node, .. } => {
                let other = self.host(node);
                self.hang_ups.push((at, other));
                self.cut(at.min(other), at.max(other));
            }
            Output::Remember(book) => {
                self.hosts[at].book = Some(book);
                self.hosts[at].writes += 1;
            }
            Output::Near { node, .. } => {
                let other = self.host(node);
                self.hosts[at].near.insert(other);
            }
            Output::Far { node } => {
                let other = self.host(node);
                assert!(self.hosts[at].near.remove(&other), "it was not near");
            }
            Output::Down { node } => {
                let other = self.host(node);
                self.hosts[at].near.remove(&other);
            }
            Output::Up { .. } => {}
        }
    }

    fn host(&self, node: NodeId) -> usize {
        (0..self.hosts.len()).find(|host| node_id(*host) == node).unwrap()
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.number += 1;
        self.queue.insert((self.now.after(delay), self.number), event);
    }

    pub(super) fn cut(&mut self, a: usize, b: usize) {
        if self.links.remove(&(a, b)) {
            self.feed(a, Input::Disconnected { node: node_id(b) });
            self.feed(b, Input::Disconnected { node: node_id(a) });
        }
    }

    fn is_split(&self, a: usize, b: usize) -> bool {
        self.split_at.is_some_and(|at| (a < at) != (b < at))
    }

    /// Cuts every link between the hosts below `at` and the others.
    pub(super) fn split(&mut self, at: usize) {
        self.split_at = Some(at);
        let across: Vec<_> =
            self.links.iter().copied().filter(|(a, b)| self.is_split(*a, *b)).collect();
        for (a, b) in across {
            self.cut(a, b);
        }
    }

    fn dialled(&mut self, from: usize, to: Address, expect: Option<NodeId>) {
        let target = (0..self.hosts.len()).find(|at| address(*at) == to);
        let target = target.filter(|at| {
            let right = expect.is_none_or(|node| node == node_id(*at));
            right && self.hosts[*at].membership.is_some() && !self.is_split(from, *at)
        });
        let Some(target) = target else {
            return self.feed(from, Input::DialFailed { address: to });
        };
        if target == from {
            let (node, address) = (node_id(from), Some(to));
            return self.feed(from, Input::Connected { node, address, outbound: true });
        }
        if !self.links.insert((from.min(target), from.max(target))) {
            self.doubles += 1;
            return self.feed(from, Input::DialFailed { address: to });
        }
        let (here, there) = (node_id(from), node_id(target));
        self.feed(target, Input::Connected { node: here, address: None, outbound: false });
        self.feed(from, Input::Connected { node: there, address: Some(to), outbound: true });
        self.feed(target, Input::Admitted { node: here });
        self.feed(from, Input::Admitted { node: there });
    }

    fn beat(&mut self) {
        for (a, b) in self.links.clone() {
            for (from, to) in [(a, b), (b, a)] {
                if !self.hosts[from].mute {
                    self.feed(to, Input::Heard { node: node_id(from) });
                }
            }
        }
        self.after(SECOND, Event::Beat);
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now.after(time);
        loop {
            let due = |host: &Host| host.membership.as_ref()?.poll_timeout();
            let wake = self.hosts.iter().enumerate().filter_map(|(at, it)| Some((due(it)?, at)));
            let wake = wake.min();
            let event = self.queue.keys().next().copied();
            let next = [wake.map(|(at, _)| at), event.map(|(at, _)| at)];
            let Some(next) = next.into_iter().flatten().min().filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if let Some(key) = event.filter(|(at, _)| *at <= self.now) {
                match self.queue.remove(&key).unwrap() {
                    Event::Dialled { from, life, to, expect } => {
                        if self.hosts[from].life == life {
                            self.dialled(from, to, expect);
                        }
                    }
                    Event::Beat => self.beat(),
                }
            } else if let Some((_, at)) = wake {
                self.feed(at, Input::Timeout);
            }
        }
    }

    pub(super) fn neighbours(&self, at: usize) -> Vec<usize> {
        let other = |(a, b): &(usize, usize)| match (*a == at, *b == at) {
            (true, _) => Some(*b),
            (_, true) => Some(*a),
            _ => None,
        };
        self.links.iter().filter_map(other).collect()
    }

    pub(super) fn dials(&self) -> usize {
        self.hosts.iter().map(|host| host.dials).sum()
    }

    /// Whether the hosts for which `counts` holds reach each other over each other.
    pub(super) fn is_whole(&self, counts: impl Fn(usize) -> bool) -> bool {
        let all: BTreeSet<_> = (0..self.hosts.len()).filter(|at| counts(*at)).collect();
        let mut reached: BTreeSet<usize> = all.first().copied().into_iter().collect();
        let mut open: Vec<_> = reached.iter().copied().collect();
        while let Some(at) = open.pop() {
            for next in self.neighbours(at) {
                if all.contains(&next) && reached.insert(next) {
                    open.push(next);
                }
            }
        }
        reached == all
    }
}
