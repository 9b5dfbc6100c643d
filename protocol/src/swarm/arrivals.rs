//! Chunks that came.

use super::announce::Tell;
use super::event::{Misbehaviour, Output};
use super::machine::Swarm;
use super::{ObjectId, SwarmMessage};
use crate::id::NodeId;
use crate::time::Instant;

impl Swarm {
    pub(super) fn verified(&mut self, now: Instant, id: ObjectId, index: u32, from: NodeId) {
        let Some(object) = self.objects.get_mut(&id) else { return };
        let Some(len) = object.len_of(index) else { return };
        let new = object.have.insert(index);
        self.inflow.arrived(len, new);
        if let Some(link) = self.links.get_mut(&from) {
            link.alive();
        }
        if !new {
            object.progress.bytes_duplicate += u64::from(len);
            // The sender waits for its receipt all the same.
            self.tell(now, id, from, index, Tell::Now);
            return;
        }
        object.count_received(from, len);
        object.refresh_at = now.after(object.refresh_pause);
        let promise = object.rarest.got(index).filter(|promise| promise.by == from);
        if let Some(promise) = promise {
            object.pushed(now.since(promise.at));
        }
        let complete = !object.incomplete();
        let asked = self.end_asks(now, id, index, from);
        self.announce(now, id, index, from, asked);
        self.tell_pause();
        if complete {
            self.out.push_back(Output::Complete { object: id });
        }
    }

    /// Ends all requests for a chunk that came. True if `from` had been asked.
    fn end_asks(&mut self, now: Instant, id: ObjectId, index: u32, from: NodeId) -> bool {
        let Some(object) = self.objects.get_mut(&id) else { return false };
        let len = object.len_of(index).unwrap_or(0);
        let asks = object.asks.end_chunk(index);
        let scale = object.scale(len);
        for ask in &asks {
            self.inflow.ended(len);
            let Some(link) = self.links.get_mut(&ask.to) else { continue };
            link.asked = link.asked.saturating_sub(1);
            if ask.to == from {
                link.delivered(now.since(ask.at).div_f64(scale));
            } else {
                self.send(ask.to, SwarmMessage::Cancel { object: id, indexes: vec![index] });
            }
        }
        asks.iter().any(|ask| ask.to == from)
    }

    /// Tells the neighbours of a new chunk, and takes on the duty to pass it on if it is the first.
    fn announce(&mut self, now: Instant, id: ObjectId, index: u32, from: NodeId, asked: bool) {
        let owed = if asked { Vec::new() } else { self.owed_to(id, index, from) };
        let Some(object) = self.objects.get_mut(&id) else { return };
        let hot = |node: &NodeId| self.links.get(node).is_some_and(|link| link.is_hot(now));
        let mut full = Vec::new();
        for (&node, view) in &mut object.views {
            let lacks = !view.have.contains(index);
            let how = match () {
                () if lacks && owed.contains(&node) => Tell::Owed,
                () if node == from || (lacks && hot(&node)) => Tell::Now,
                () => Tell::Later,
            };
            if how == Tell::Owed {
                view.owed.push_back(index);
                object.may_have_work = true;
            }
            if self.announcements.note(now, (id, node), &mut view.news, index, how) {
                full.push(node);
            }
        }
        for node in full {
            self.flush(now, id, node);
        }
    }

    /// To whom this node owes a chunk that came unasked. From the origin: to all others; in a large
    /// mesh to all in its own zone and one in each other, whose duty is then its own zone.
    fn owed_to(&self, id: ObjectId, index: u32, from: NodeId) -> Vec<NodeId> {
        let Some(object) = self.objects.get(&id) else { return Vec::new() };
        let is_local = |node: &NodeId| self.links.get(node).is_some_and(|link| !link.foreign);
        let first = object.views.get(&from).is_some_and(|view| view.origin);
        let others = object.views.keys().filter(|node| **node != from);
        if !self.is_large() {
            return if first { others.copied().collect() } else { Vec::new() };
        }
        let local = |node: &&NodeId| is_local(node);
        let here = |node: &NodeId| object.views.get(node).is_some_and(|it| it.have.contains(index));
        let gateway = !is_local(&from) && !others.clone().filter(local).any(here);
        let mut owed = Vec::new();
        if first || gateway {
            owed.extend(others.clone().filter(local).copied());
        }
        if first {
            owed.extend(self.one_per_zone(index, others.filter(|node| !local(node)).copied()));
        }
        owed
    }

    /// One of the nodes of each zone, another one for each chunk.
    fn one_per_zone(&self, index: u32, nodes: impl Iterator<Item = NodeId>) -> Vec<NodeId> {
        let mut zones = std::collections::BTreeMap::<_, Vec<NodeId>>::new();
        for node in nodes {
            let Some(link) = self.links.get(&node) else { continue };
            zones.entry(&link.zone).or_default().push(node);
        }
        let chosen = |nodes: &Vec<NodeId>| nodes.get(index as usize % nodes.len()).copied();
        zones.values().filter_map(chosen).collect()
    }

    pub(super) fn stored(&mut self, id: ObjectId, index: u32) {
        let len = self.objects.get(&id).and_then(|object| object.len_of(index));
        self.inflow.stored(len.unwrap_or(0));
        self.tell_pause();
    }

    /// A chunk whose bytes are wrong: its sender is asked for nothing of this object for a while.
    pub(super) fn corrupt(&mut self, now: Instant, id: ObjectId, index: u32, from: NodeId) {
        self.misbehaved(from, Misbehaviour::Corrupt);
        self.send(from, SwarmMessage::Refuse { object: id, indexes: vec![index] });
        self.distrust.begin(now, id, from);
        self.withdraw(id, from);
    }
}
