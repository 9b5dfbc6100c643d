//! Asking for what is missing, and for what is late of somebody else.

use super::asks::Ask;
use super::link::Links;
use super::machine::Swarm;
use super::neighbours::REQUESTS_MAX;
use super::object::Object;
use super::{ObjectId, SwarmMessage};
use crate::id::NodeId;
use crate::rng::Rng;
use crate::time::Instant;
use std::collections::BTreeMap;

/// Chunks looked at in one go, so that an event costs the same however many are missing.
const CANDIDATES: usize = 64;
/// Neighbours asked for one chunk at the same time.
const COPIES_MAX: usize = 3;
/// Requests that any neighbour may have out, so that it never waits for the next one.
const PIPELINE_MIN: u64 = 2;
/// How many times dearer a chunk from another zone is in a large mesh: more than a full pipeline of
/// a neighbour in the own zone.
const FOREIGN_COST: u64 = 1_000;
/// How many times dearer one from the origin is, whose uplink is everybody's.
const ORIGIN_COST: u64 = 4;

impl Swarm {
    /// Asks for as much as may be under way.
    pub(super) fn pull(&mut self, now: Instant) {
        for place in 0..self.order.len() {
            let Some(&id) = self.order.get(place) else { return };
            self.pull_object(now, id);
        }
    }

    fn pull_object(&mut self, now: Instant, id: ObjectId) {
        let Some(object) = self.objects.get(&id) else { return };
        if object.rarest.nothing_ready() || !self.inflow.may_ask(object.average()) {
            return;
        }
        let candidates = object.rarest.candidates(CANDIDATES, &mut self.rng);
        let mut requests = BTreeMap::<NodeId, Vec<u32>>::new();
        for index in candidates {
            let Some(object) = self.objects.get(&id) else { break };
            if !object.asks.of_chunk(index).is_empty() {
                continue;
            }
            if !self.inflow.may_ask(object.len_of(index).unwrap_or(0)) {
                break;
            }
            if let Some(to) = self.choose(id, index) {
                self.ask(now, id, index, to);
                requests.entry(to).or_default().push(index);
            }
        }
        for (to, indexes) in requests {
            self.send(to, SwarmMessage::Request { object: id, indexes });
        }
    }

    /// Whom to ask for a chunk: who has it and is expected to bring it first.
    fn choose(&mut self, id: ObjectId, index: u32) -> Option<NodeId> {
        let object = self.objects.get(&id)?;
        let average = u64::from(object.average());
        let links = u64::try_from(self.links.len().max(1)).unwrap_or(1);
        let share = self.inflow.budget() / average.max(1) / links;
        let limit = share.clamp(PIPELINE_MIN, REQUESTS_MAX as u64 / 2);
        let large = self.is_large();
        cheapest(object, &self.links, index, limit, large, &mut self.rng)
    }

    /// Notes a request. The caller sends it.
    fn ask(&mut self, now: Instant, id: ObjectId, index: u32, to: NodeId) {
        let Some(object) = self.objects.get_mut(&id) else { return };
        let Some(link) = self.links.get_mut(&to) else { return };
        let len = object.len_of(index).unwrap_or(0);
        object.rarest.asked(index);
        let factor = if object.endgame() { 1 } else { 2 };
        let patience = (link.expected() * factor).mul_f64(object.scale(len));
        object.asks.add(index, Ask { to, at: now, deadline: now.after(patience) });
        link.asked += 1;
        self.inflow.asked(len);
    }

    /// Ends one request. True if it was out. The chunk can be asked for again if nobody else is.
    pub(super) fn end_ask(&mut self, id: ObjectId, index: u32, to: NodeId) -> bool {
        let Some(object) = self.objects.get_mut(&id) else { return false };
        if object.asks.end(index, to).is_none() {
            return false;
        }
        self.inflow.ended(object.len_of(index).unwrap_or(0));
        if let Some(link) = self.links.get_mut(&to) {
            link.asked = link.asked.saturating_sub(1);
        }
        if object.asks.of_chunk(index).is_empty() {
            object.rarest.give_back(index);
        }
        true
    }

    /// Ends all requests to a neighbour for one object, and says which they were.
    pub(super) fn end_asks_of(&mut self, id: ObjectId, node: NodeId) -> Vec<u32> {
        let asked = self.objects.get(&id).map(|object| object.asks.of_node(node));
        let asked = asked.unwrap_or_default();
        for &index in &asked {
            self.end_ask(id, index, node);
        }
        asked
    }

    /// What was asked for or promised and has not come in time.
    pub(super) fn handle_late(&mut self, now: Instant) {
        for id in self.order.clone() {
            let Some(object) = self.objects.get_mut(&id) else { continue };
            let patience = object.push_patience().as_micros();
            let patience = u64::try_from(patience).unwrap_or(u64::MAX);
            object.rarest.lapse(Instant::from_micros(now.as_micros().saturating_sub(patience) + 1));
            while let Some((index, node)) = self.late(now, id) {
                self.handle_late_ask(now, id, index, node);
            }
        }
    }

    fn late(&self, now: Instant, id: ObjectId) -> Option<(u32, NodeId)> {
        self.objects.get(&id).and_then(|object| object.asks.late(now))
    }

    fn handle_late_ask(&mut self, now: Instant, id: ObjectId, index: u32, node: NodeId) {
        let Some(link) = self.links.get_mut(&node) else {
            self.end_ask(id, index, node);
            return;
        };
        if link.late(now) {
            self.suspend(node);
            return;
        }
        let later = now.after(link.expected() * 2);
        let Some(object) = self.objects.get_mut(&id) else { return };
        object.asks.extend(index, node, later);
        if object.asks.of_chunk(index).len() >= COPIES_MAX {
            return;
        }
        if let Some(other) = self.choose(id, index) {
            self.ask(now, id, index, other);
            self.send(other, SwarmMessage::Request { object: id, indexes: vec![index] });
        }
    }

    /// Leaves a neighbour alone that answers nothing: its chunks count as if it had none.
    fn suspend(&mut self, node: NodeId) {
        for id in self.order.clone() {
            self.withdraw(id, node);
        }
    }

    /// Takes back what a neighbour was asked for that is not to be asked now.
    pub(super) fn withdraw(&mut self, id: ObjectId, node: NodeId) {
        let indexes = self.end_asks_of(id, node);
        if !indexes.is_empty() {
            self.send(node, SwarmMessage::Cancel { object: id, indexes });
        }
        self.recount(id, node);
    }
}

/// The neighbour with the lowest cost for a chunk, among those with room for one more request. Where
/// that is the origin although a busy neighbour costs less, none: that one is worth waiting for, as
/// few have the chunk yet and all who lack it would turn to the origin. In a `large` mesh, one of
/// another zone is asked only if none of the own zone has the chunk, or if one that has it was asked
/// already and is late.
fn cheapest(
    object: &Object,
    links: &Links,
    index: u32,
    limit: u64,
    large: bool,
    rng: &mut Rng,
) -> Option<NodeId> {
    let asked = object.asks.of_chunk(index);
    let mut best: Option<(u64, NodeId)> = None;
    let mut least_of_busy = u64::MAX;
    let mut local_holder = false;
    for (&node, view) in &object.views {
        if !view.counted || !view.have.contains(index) {
            continue;
        }
        let Some(link) = links.get(&node) else { continue };
        let foreign = large && link.foreign;
        local_holder |= !foreign;
        if asked.iter().any(|ask| ask.to == node) {
            continue;
        }
        let expected = u64::try_from(link.expected().as_micros()).unwrap_or(u64::MAX);
        let origin = if view.origin { ORIGIN_COST } else { 1 };
        let distance = if foreign { FOREIGN_COST } else { 1 };
        // Neighbours that are much alike share the load at random.
        let luck = 8 + rng.below(4);
        let queue = u64::from(link.asked) + 1;
        let cost = expected.saturating_mul(queue * origin * distance * luck);
        if u64::from(link.asked) >= limit {
            least_of_busy = least_of_busy.min(cost);
        } else if best.is_none_or(|(least, _)| cost < least) {
            best = Some((cost, node));
        }
    }
    let is_origin = |node: &NodeId| object.views.get(node).is_some_and(|view| view.origin);
    let best = best.filter(|(cost, node)| !is_origin(node) || *cost < least_of_busy);
    let near = |node: &NodeId| links.get(node).is_some_and(|link| !link.foreign);
    let may = |node: &NodeId| !large || !local_holder || !asked.is_empty() || near(node);
    best.map(|(_, node)| node).filter(may)
}
