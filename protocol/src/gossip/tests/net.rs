//! A network of gossips alone, with delays and losses.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::artifact::header::{ChunkRef, Header, Signature, SignedHeader};
use crate::codec;
use crate::gossip::{Gossip, GossipMessage, Head, Input, Output};
use crate::id::{ChunkHash, KeyId, NodeId, ReleaseId, Sequence};
use crate::machine::Machine as _;
use crate::rng::Rng;
use crate::time::Instant;

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn node_id(at: usize) -> NodeId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&(at as u64).to_le_bytes());
    NodeId(id)
}

/// Release number `sequence` of `service`, with `pieces` pieces of a manifest.
pub(super) fn release(service: &str, sequence: u64, pieces: usize) -> SignedHeader {
    let piece = ChunkRef { hash: ChunkHash([7; 32]), len: 65_536 };
    let header = Header {
        service: service.parse().unwrap(),
        version: format!("v{sequence}").parse().unwrap(),
        sequence: Sequence(sequence),
        expires: None,
        manifest: vec![piece; pieces],
        size_bytes: 1,
        files: 1,
    };
    let signatures = vec![(KeyId([1; 32]), Signature(vec![0; 64]))];
    SignedHeader { bytes: codec::encode(&header), signatures }
}

#[derive(Default)]
pub(super) struct Host {
    gossip: Option<Gossip>,
    /// Messages of each kind that were sent.
    pub(super) sent: BTreeMap<&'static str, usize>,
    pub(super) judged: usize,
    pub(super) refuses: bool,
    pub(super) heads: BTreeMap<usize, Head>,
    pub(super) scoldings: Vec<String>,
}

pub(super) struct Net {
    pub(super) now: Instant,
    pub(super) hosts: Vec<Host>,
    pub(super) links: BTreeSet<(usize, usize)>,
    pub(super) loss_percent: u64,
    pub(super) trace: Vec<String>,
    queue: BTreeMap<(Instant, u64), (usize, usize, GossipMessage)>,
    number: u64,
    rng: Rng,
}

impl Net {
    pub(super) fn new(count: usize, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut host = || Host { gossip: Some(Gossip::new(rng.next_u64())), ..Host::default() };
        let hosts = (0..count).map(|_| host()).collect();
        Self {
            now: Instant::ZERO,
            hosts,
            links: BTreeSet::new(),
            loss_percent: 0,
            trace: Vec::new(),
            queue: BTreeMap::new(),
            number: 0,
            rng,
        }
    }

    /// Everybody linked to everybody, or in a large mesh beside each other on fourteen circles.
    pub(super) fn linked(count: usize, seed: u64) -> Self {
        let mut net = Self::new(count, seed);
        let all = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)));
        let links: BTreeSet<_> = if count <= 64 { all.collect() } else { net.circles(count) };
        for (a, b) in links {
            net.link(a, b);
        }
        net
    }

    fn circles(&mut self, count: usize) -> BTreeSet<(usize, usize)> {
        let mut links = BTreeSet::new();
        let mut circle: Vec<_> = (0..count).collect();
        for _ in 0..14 {
            self.rng.shuffle(&mut circle);
            let next = circle.iter().cycle().skip(1);
            links.extend(circle.iter().zip(next).map(|(a, b)| (*a.min(b), *a.max(b))));
        }
        links
    }

    pub(super) fn link(&mut self, a: usize, b: usize) {
        self.links.insert((a, b));
        self.feed(a, Input::Up { node: node_id(b) });
        self.feed(b, Input::Up { node: node_id(a) });
    }

    pub(super) fn cut(&mut self, a: usize, b: usize) {
        self.links.remove(&(a, b));
        self.feed(a, Input::Down { node: node_id(b) });
        self.feed(b, Input::Down { node: node_id(a) });
    }

    pub(super) fn gossip(&self, at: usize) -> &Gossip {
        self.hosts[at].gossip.as_ref().unwrap()
    }

    pub(super) fn feed(&mut self, at: usize, input: Input) {
        self.hosts[at].gossip.as_mut().unwrap().handle(self.now, input);
        while let Some(output) = self.hosts[at].gossip.as_mut().unwrap().poll_output() {
            self.trace.push(format!("{:?} {at} {output:?}", self.now));
            self.perform(at, output);
        }
    }

    fn perform(&mut self, at: usize, output: Output) {
        match output {
            Output::Send { to, message } => self.send(at, number_of(to), message),
            Output::Received { header, .. } => {
                self.hosts[at].judged += 1;
                let (release, keep) = (header.id(), !self.hosts[at].refuses);
                self.feed(at, Input::Verdict { release, keep });
            }
            Output::Ahead { node, head } => {
                self.hosts[at].heads.insert(number_of(node), head);
            }
            Output::Misbehaved { reason, .. } => self.hosts[at].scoldings.push(reason),
        }
    }

    pub(super) fn send(&mut self, from: usize, to: usize, message: GossipMessage) {
        *self.hosts[from].sent.entry(kind(&message)).or_default() += 1;
        let linked = self.links.contains(&(from.min(to), from.max(to)));
        if linked && !self.rng.chance(self.loss_percent, 100) {
            let delay = Duration::from_millis(1 + self.rng.below(40));
            self.number += 1;
            self.queue.insert((self.now.after(delay), self.number), (from, to, message));
        }
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now.after(time);
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until every host has `count` headers; how long that took, or `None` after `limit`.
    pub(super) fn run_until_all_have(&mut self, count: usize, limit: Duration) -> Option<Duration> {
        let (start, end) = (self.now, self.now.after(limit));
        while !(0..self.hosts.len()).all(|at| self.gossip(at).headers().len() == count) {
            if !self.step(end) {
                return None;
            }
        }
        Some(self.now.since(start))
    }

    fn step(&mut self, end: Instant) -> bool {
        let due = |(at, host): (usize, &Host)| Some((host.gossip.as_ref()?.poll_timeout()?, at));
        let wake = self.hosts.iter().enumerate().filter_map(due).min();
        let event = self.queue.keys().next().copied();
        let next = [wake.map(|(at, _)| at), event.map(|(at, _)| at)].into_iter().flatten().min();
        let Some(next) = next.filter(|next| *next <= end) else { return false };
        self.now = self.now.max(next);
        if let Some(key) = event.filter(|(at, _)| *at <= self.now) {
            let (from, to, message) = self.queue.remove(&key).unwrap();
            if self.links.contains(&(from.min(to), from.max(to))) {
                self.feed(to, Input::Message { from: node_id(from), message });
            }
        } else if let Some((_, at)) = wake {
            self.feed(at, Input::Timeout);
        }
        true
    }

    pub(super) fn has(&self, at: usize, release: ReleaseId) -> bool {
        self.gossip(at).headers().contains_key(&release)
    }

    pub(super) fn sent(&self, kind: &str) -> usize {
        self.hosts.iter().filter_map(|host| host.sent.get(kind)).sum()
    }

    pub(super) fn forget_counts(&mut self) {
        self.hosts.iter_mut().for_each(|host| host.sent.clear());
    }
}

fn number_of(node: NodeId) -> usize {
    let bytes: [u8; 8] = node.0[..8].try_into().unwrap();
    usize::try_from(u64::from_le_bytes(bytes)).unwrap()
}

fn kind(message: &GossipMessage) -> &'static str {
    match message {
        GossipMessage::Headers(_) => "headers",
        GossipMessage::Head(_) => "head",
        GossipMessage::Digest(..) => "digest",
        GossipMessage::Ids(_) => "ids",
        GossipMessage::Pull(_) => "pull",
    }
}
