//! A network in which bulk flows share the links fairly (max-min), as a fluid, and control messages
//! take the latency. Nodes run the real machine. The same seed gives the same trace.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::*;
use super::object;
use crate::artifact::header::ChunkRef;
use crate::codec;
use crate::id::{ChunkHash, NodeId, ZoneName};
use crate::machine::Machine;
use crate::rng::Rng;
use crate::time::Instant;

/// Bytes per second of an ordinary link: 50 Mbit/s.
pub const RATE: f64 = 6.25e6;
/// The time in which a dead neighbour is noticed.
const DETECTION: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Honest,
    /// Claims to have everything and sends nothing.
    Liar,
    /// Takes everything and passes nothing on.
    Leech,
    /// What it sends is wrong.
    Corrupter,
}

pub struct Node {
    pub swarm: Swarm,
    pub kind: Kind,
    pub up: f64,
    pub down: f64,
    pub alive: bool,
    pub zone: usize,
    pub finished: Option<Instant>,
    pub sent: u64,
    pub control_bytes: u64,
    pub foreign_bytes: u64,
    /// Chunks that arrive before this moment are lost.
    pub deaf_until: Instant,
    /// What it says takes so much longer than the latency: it is busy.
    pub busy: Duration,
    side: usize,
    wake: Option<Instant>,
}

enum Event {
    Control { from: usize, to: usize, frame: Arc<SwarmMessage> },
    Arrive { from: usize, to: usize, index: u32 },
    Wake(usize),
    Link { at: usize, peer: usize, up: bool },
}

struct Flow {
    from: usize,
    to: usize,
    index: u32,
    left: f64,
    rate: f64,
}

pub struct Network {
    pub nodes: Vec<Node>,
    pub chunks: Arc<[ChunkRef]>,
    pub now: Instant,
    pub trace: blake3::Hasher,
    pub misbehaved: BTreeSet<(usize, usize)>,
    pub events: u64,
    latency: Duration,
    queue: BTreeMap<(Instant, u64), Event>,
    flows: Vec<Flow>,
    flows_at: Instant,
    serial: u64,
    changed: bool,
    links: BTreeSet<(usize, usize)>,
}

pub fn id(node: usize) -> NodeId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(node as u64).to_be_bytes());
    NodeId(bytes)
}

fn number(node: NodeId) -> usize {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&node.0[..8]);
    u64::from_be_bytes(bytes) as usize
}

pub fn chunks(count: usize, seed: u64) -> Arc<[ChunkRef]> {
    let mut rng = Rng::new(seed);
    // FastCDC's lengths: 16 to 256 KiB, most of them around the average of 64.
    let mut len = || 16_384 + rng.below(49_152) as u32 + rng.below(49_152) as u32;
    (0..count).map(|_| ChunkRef { hash: ChunkHash([0; 32]), len: len() }).collect()
}

impl Network {
    /// `nodes` neighbours of each other with ordinary links. Nobody wants anything yet.
    pub fn new(nodes: usize, count: usize, latency: Duration, seed: u64) -> Self {
        Self::with_links(nodes, count, latency, seed, 1, |_, _| true)
    }

    pub fn with_links(
        nodes: usize,
        count: usize,
        latency: Duration,
        seed: u64,
        zones: usize,
        linked: impl Fn(usize, usize) -> bool,
    ) -> Self {
        let zone = |node: usize| -> ZoneName { format!("z{}", node % zones).parse().unwrap() };
        let node = |number: usize| Node {
            swarm: Swarm::new(Config {
                zone: zone(number),
                seed: seed * 1_000 + number as u64,
                pace: Pace::default(),
            }),
            kind: Kind::Honest,
            up: RATE,
            down: RATE,
            alive: true,
            zone: number % zones,
            finished: None,
            sent: 0,
            control_bytes: 0,
            foreign_bytes: 0,
            deaf_until: Instant::ZERO,
            busy: Duration::ZERO,
            side: 0,
            wake: None,
        };
        let mut network = Self {
            nodes: (0..nodes).map(node).collect(),
            chunks: chunks(count, seed),
            now: Instant::ZERO,
            trace: blake3::Hasher::new(),
            misbehaved: BTreeSet::new(),
            events: 0,
            latency,
            queue: BTreeMap::new(),
            flows: Vec::new(),
            flows_at: Instant::ZERO,
            serial: 0,
            changed: false,
            links: BTreeSet::new(),
        };
        for a in 0..nodes {
            network.input(a, Input::MeshSize { nodes });
            for b in (0..nodes).filter(|&b| b != a && linked(a.min(b), a.max(b))) {
                network.links.insert((a, b));
                network.input(a, Input::PeerUp { node: id(b), zone: zone(b) });
            }
        }
        network
    }

    pub fn bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.len)).sum()
    }

    /// max{F/u_s, F/d, N F/(u_s + sum of u_i)}, in seconds (Kumar and Ross, 2006).
    pub fn bound(&self, receivers: &[usize]) -> f64 {
        let (f, seed) = (self.bytes() as f64, self.nodes[0].up);
        let slowest = receivers.iter().map(|&node| self.nodes[node].down).fold(f64::MAX, f64::min);
        let all = seed + receivers.iter().map(|&node| self.nodes[node].up).sum::<f64>();
        (f / seed).max(f / slowest).max(receivers.len() as f64 * f / all)
    }

    pub fn seed(&mut self, node: usize) {
        self.want_with(node, Bitmap::full(self.chunks.len() as u32), true);
    }

    pub fn want(&mut self, node: usize) {
        self.want_with(node, Bitmap::empty(self.chunks.len() as u32), false);
    }

    pub fn want_with(&mut self, node: usize, have: Bitmap, origin: bool) {
        let chunks = Arc::clone(&self.chunks);
        let want = Want { object: object(), chunks, have, origin, priority: 1 };
        self.input(node, Input::Want(want));
    }

    /// Every chunk has reached a receiver.
    pub fn all_out(&self) -> bool {
        let has = |node: &Node, index| !node.swarm.wants(object(), index);
        let count = self.chunks.len() as u32;
        (0..count).all(|index| self.nodes[1..].iter().any(|node| has(node, index)))
    }

    pub fn duplicates(&self) -> u64 {
        let progress = |node: &Node| node.swarm.progress(object()).map(|it| it.bytes_duplicate);
        self.nodes.iter().filter_map(progress).sum()
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        self.serial += 1;
        self.queue.insert((at, self.serial), event);
    }

    fn connected(&self, a: usize, b: usize) -> bool {
        let (one, other) = (&self.nodes[a], &self.nodes[b]);
        one.alive && other.alive && one.side == other.side
    }

    /// The node is gone from now on; the others notice a while later.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].alive = false;
        self.changed = true;
        for peer in 0..self.nodes.len() {
            if self.links.contains(&(peer, node)) {
                let at = self.now.after(DETECTION);
                self.schedule(at, Event::Link { at: peer, peer: node, up: false });
            }
        }
    }

    /// A node that was off is there now.
    pub fn revive(&mut self, node: usize) {
        self.nodes[node].alive = true;
        for (a, b) in self.links.clone() {
            if a == node || b == node {
                for up in [false, true] {
                    self.schedule(self.now, Event::Link { at: a, peer: b, up });
                }
            }
        }
    }

    /// Only nodes of the same side reach each other from now on.
    pub fn split(&mut self, side: impl Fn(usize) -> usize, up: bool) {
        let before: Vec<usize> = self.nodes.iter().map(|node| node.side).collect();
        for (number, node) in self.nodes.iter_mut().enumerate() {
            node.side = side(number);
        }
        self.changed = true;
        for (a, b) in self.links.clone() {
            let after = self.nodes[a].side == self.nodes[b].side;
            if after != (before[a] == before[b]) && after == up {
                let at = self.now.after(DETECTION);
                self.schedule(at, Event::Link { at: a, peer: b, up });
            }
        }
    }

    pub fn input(&mut self, node: usize, input: Input) {
        if !self.nodes[node].alive {
            return;
        }
        self.events += 1;
        self.nodes[node].swarm.handle(self.now, input);
        while let Some(output) = self.nodes[node].swarm.poll_output() {
            self.trace.update(format!("{:?} {node} {output:?}\n", self.now).as_bytes());
            self.output(node, output);
        }
        let wake = self.nodes[node].swarm.poll_timeout();
        if wake != self.nodes[node].wake {
            self.nodes[node].wake = wake;
            if let Some(at) = wake {
                self.schedule(at.max(self.now), Event::Wake(node));
            }
        }
    }

    fn output(&mut self, node: usize, output: Output) {
        match output {
            Output::Send { to, message } => {
                let message = self.falsify(node, message);
                self.nodes[node].control_bytes += codec::encode(&message).len() as u64 + 60;
                let at = self.now.after(self.latency + self.nodes[node].busy);
                let frame = Arc::new(message);
                self.schedule(at, Event::Control { from: node, to: number(to), frame });
            }
            Output::Upload { to, index, .. } => {
                let silent = matches!(self.nodes[node].kind, Kind::Liar | Kind::Leech);
                let left =
                    if silent { f64::INFINITY } else { self.chunks[index as usize].len.into() };
                self.flows.push(Flow { from: node, to: number(to), index, left, rate: 0.0 });
                self.changed = true;
            }
            Output::CancelUpload { to, index, .. } => {
                let to = number(to);
                self.flows.retain(|flow| (flow.from, flow.to, flow.index) != (node, to, index));
                self.changed = true;
            }
            Output::Complete { .. } => self.nodes[node].finished = Some(self.now),
            Output::Misbehaved { node: other, .. } => {
                self.misbehaved.insert((node, number(other)));
            }
        }
    }

    /// A liar's words.
    fn falsify(&self, node: usize, message: SwarmMessage) -> SwarmMessage {
        match message {
            SwarmMessage::Interest { object, have, origin, answer }
                if self.nodes[node].kind == Kind::Liar =>
            {
                let have = Bitmap::full(have.len());
                SwarmMessage::Interest { object, have, origin, answer }
            }
            SwarmMessage::Refuse { object, .. } if self.nodes[node].kind == Kind::Liar => {
                SwarmMessage::Have { object, indexes: vec![], owed: vec![] }
            }
            other => other,
        }
    }

    /// Max-min fair rates: the tightest link gives each of its flows an equal part, and so on.
    fn share(&mut self) {
        let nodes = self.nodes.len();
        let room = |node: &Node| if node.alive { (node.up, node.down) } else { (0.0, 0.0) };
        let (up, down): (Vec<f64>, Vec<f64>) = self.nodes.iter().map(room).unzip();
        let mut left: Vec<f64> = up.into_iter().chain(down).collect();
        let mut count = vec![0usize; 2 * nodes];
        let mut members = vec![Vec::new(); 2 * nodes];
        let mut open = vec![false; self.flows.len()];
        let able: Vec<bool> = self
            .flows
            .iter()
            .map(|flow| flow.left.is_finite() && self.connected(flow.from, flow.to))
            .collect();
        for (place, flow) in self.flows.iter_mut().enumerate() {
            flow.rate = 0.0;
            if able[place] {
                open[place] = true;
                for end in [flow.from, nodes + flow.to] {
                    count[end] += 1;
                    members[end].push(place);
                }
            }
        }
        loop {
            let tightest = (0..2 * nodes).filter(|&end| count[end] > 0).min_by(|&a, &b| {
                (left[a] / count[a] as f64).total_cmp(&(left[b] / count[b] as f64))
            });
            let Some(end) = tightest else { return };
            let rate = left[end] / count[end] as f64;
            for place in core::mem::take(&mut members[end]) {
                if !open[place] {
                    continue;
                }
                open[place] = false;
                let flow = &mut self.flows[place];
                flow.rate = rate.max(1.0);
                for end in [flow.from, nodes + flow.to] {
                    count[end] -= 1;
                    left[end] = (left[end] - rate).max(0.0);
                }
            }
        }
    }

    fn advance_flows(&mut self, to: Instant) {
        let seconds = to.since(self.flows_at).as_secs_f64();
        self.flows.iter_mut().for_each(|flow| flow.left -= flow.rate * seconds);
        self.flows_at = to;
        let mut done = Vec::new();
        self.flows.retain(|flow| {
            let over = flow.left < 1.0;
            if over {
                done.push((flow.from, flow.to, flow.index));
            }
            !over
        });
        self.changed |= !done.is_empty();
        for (from, to, index) in done {
            let len = u64::from(self.chunks[index as usize].len);
            self.nodes[from].sent += len;
            if self.nodes[from].zone != self.nodes[to].zone {
                self.nodes[from].foreign_bytes += len;
            }
            let at = self.now.after(self.latency);
            self.schedule(at, Event::Arrive { from, to, index });
            self.input(from, Input::Uploaded { to: id(to), object: object(), index });
        }
    }

    fn next_flow_end(&self) -> Option<Instant> {
        let moving = self.flows.iter().filter(|flow| flow.rate > 0.0);
        let first = moving.map(|flow| flow.left / flow.rate).min_by(f64::total_cmp)?;
        let micros = (first * 1e6).ceil().max(1.0) as u64;
        Some(self.flows_at.after(Duration::from_micros(micros)))
    }

    /// One step. False when nothing can happen any more before `end`.
    fn step(&mut self, end: Instant) -> bool {
        if self.changed {
            self.changed = false;
            self.advance_flows(self.now);
            self.share();
        }
        let event_at = self.queue.first_key_value().map(|((at, _), _)| *at);
        let next = crate::time::earliest(event_at, self.next_flow_end());
        let Some(next) = next.filter(|next| *next <= end) else { return false };
        self.now = next.max(self.now);
        if event_at.is_none_or(|at| at > next) {
            self.advance_flows(next);
            return true;
        }
        let Some((_, event)) = self.queue.pop_first() else { return false };
        self.event(event);
        true
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Control { from, to, frame } => {
                if self.connected(from, to) {
                    let message = Arc::unwrap_or_clone(frame);
                    self.input(to, Input::Message { from: id(from), message });
                }
            }
            Event::Arrive { from, to, index } => self.arrive(from, to, index),
            Event::Wake(node) => {
                if self.nodes[node].wake.is_some_and(|wake| wake <= self.now) {
                    self.nodes[node].wake = None;
                    self.input(node, Input::Timeout);
                }
            }
            Event::Link { at, peer, up: true } => {
                let zone = self.nodes[peer].swarm.zone.clone();
                self.input(at, Input::PeerUp { node: id(peer), zone });
            }
            Event::Link { at, peer, up: false } => {
                self.flows.retain(|flow| (flow.from, flow.to) != (at, peer));
                self.changed = true;
                self.input(at, Input::PeerDown { node: id(peer) });
            }
        }
    }

    fn arrive(&mut self, from: usize, to: usize, index: u32) {
        if !self.connected(from, to) || self.now < self.nodes[to].deaf_until {
            return;
        }
        let (object, from_id) = (object(), id(from));
        if self.nodes[from].kind == Kind::Corrupter {
            self.input(to, Input::Corrupt { object, index, from: from_id });
            return;
        }
        let new = self.nodes[to].swarm.wants(object, index);
        self.input(to, Input::Verified { object, index, from: from_id });
        if new {
            self.input(to, Input::Stored { object, index });
        }
    }

    /// Runs until `done`, or for `seconds` at most. True if it was done.
    pub fn run(&mut self, seconds: f64, done: impl Fn(&Self) -> bool) -> bool {
        let end = Instant::from_micros((seconds * 1e6) as u64);
        while !done(self) {
            if !self.step(end) {
                self.now = end;
                return false;
            }
        }
        true
    }

    pub fn finished(&self, nodes: &[usize]) -> bool {
        nodes.iter().all(|&node| self.nodes[node].finished.is_some())
    }

    /// When the last of the nodes had everything, in seconds.
    pub fn last(&self, nodes: &[usize]) -> f64 {
        let finished = nodes.iter().filter_map(|&node| self.nodes[node].finished);
        finished.max().map_or(f64::INFINITY, |at| at.as_micros() as f64 / 1e6)
    }
}
