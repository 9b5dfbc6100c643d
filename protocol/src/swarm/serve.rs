//! Sending: the origin's first pass, what was asked for, and what is owed.

use super::event::Output;
use super::link::{Link, Links};
use super::machine::Swarm;
use super::object::{Object, REFUSALS_MAX, View};
use super::uploads::{UPLOADS_MAX, Uploads};
use super::{ObjectId, Part};
use crate::failpoint::{self, Failpoint};
use crate::id::NodeId;
use crate::time::Instant;

impl Swarm {
    /// Starts uploads while there is room and something to send.
    pub(super) fn serve(&mut self, now: Instant) {
        self.take_back(now);
        self.reveal();
        while let Some((id, to, index)) = self.next_upload(now) {
            self.start_upload(now, id, to, index);
        }
    }

    /// The last chunks of a first pass do not wait for a slow receiver.
    fn take_back(&mut self, now: Instant) {
        let mut taken = Vec::new();
        for (&id, object) in &mut self.objects {
            let Some(seeding) = &mut object.seeding else { continue };
            while let Some((index, from)) = seeding.take_back(now) {
                taken.push((from, id, index));
            }
        }
        for key in taken {
            self.cancel_upload(key);
            if let Some(link) = self.links.get_mut(&key.0) {
                link.acknowledged(key.1, key.2);
            }
        }
    }

    fn next_upload(&mut self, now: Instant) -> Option<(ObjectId, NodeId, u32)> {
        if !self.uploads.has_slot(now) {
            return None;
        }
        let large = self.is_large();
        for &id in &self.order {
            let Some(object) = self.objects.get_mut(&id) else { continue };
            if !object.has_work() {
                continue;
            }
            let limit = per_receiver(object);
            let (links, uploads) = (&self.links, &self.uploads);
            let first = next_first(now, id, object, links, uploads, limit);
            let next = first.or_else(|| next_for_some(id, object, links, uploads, limit, large));
            if let Some((to, index)) = next {
                return Some((id, to, index));
            }
        }
        None
    }

    fn start_upload(&mut self, now: Instant, id: ObjectId, to: NodeId, index: u32) {
        let Some(link) = self.links.get_mut(&to) else { return };
        let Some(object) = self.objects.get(&id) else { return };
        link.sending(now, id, index, object.len_of(index).unwrap_or(0));
        self.served += 1;
        link.served = self.served;
        link.uploading += 1;
        self.uploads.start(now, (to, id, index));
        self.out.push_back(Output::Upload { to, object: id, index });
    }

    pub(super) fn uploaded(&mut self, now: Instant, to: NodeId, id: ObjectId, index: u32) {
        let Some(object) = self.objects.get_mut(&id) else { return };
        object.progress.bytes_sent += u64::from(object.len_of(index).unwrap_or(0));
        if self.uploads.finish(now, &(to, id, index)) {
            self.free_slot(to);
        }
    }

    pub(super) fn upload_failed(&mut self, to: NodeId, id: ObjectId, index: u32) {
        if !self.uploads.end(&(to, id, index)) {
            return;
        }
        self.free_slot(to);
        if let Some(link) = self.links.get_mut(&to) {
            link.acknowledged(id, index);
        }
        self.push_failed(id, to, index);
    }

    fn free_slot(&mut self, to: NodeId) {
        if let Some(link) = self.links.get_mut(&to) {
            link.uploading = link.uploading.saturating_sub(1);
        }
    }

    /// An origin whose first pass is over shows what it has, and can be asked.
    fn reveal(&mut self) {
        let mut interests = Vec::new();
        for (&id, object) in &mut self.objects {
            if !object.revealed && object.seeding.as_ref().is_some_and(|it| it.is_done()) {
                object.revealed = true;
                if id.part == Part::Content {
                    failpoint::reach(Failpoint::SeededOnce);
                }
                let interest = object.interest(id, false);
                interests.extend(object.views.keys().map(|&node| (node, interest.clone())));
            }
        }
        for (to, interest) in interests {
            self.send(to, interest);
        }
    }
}

/// Uploads at once to one receiver: few where there are many of them, so that a slow one does not
/// hold all slots.
fn per_receiver(object: &Object) -> u32 {
    let receivers = object.views.values().filter(|view| !view.have.is_full()).count();
    u32::try_from(UPLOADS_MAX / receivers.clamp(1, UPLOADS_MAX)).unwrap_or(1)
}

/// The next chunk of the first pass, and the receiver of those that lack it which owes the least. A
/// slow receiver gets only what no other one lacks.
fn next_first(
    now: Instant,
    id: ObjectId,
    object: &mut Object,
    links: &Links,
    uploads: &Uploads,
    limit: u32,
) -> Option<(NodeId, u32)> {
    let seeding = object.seeding.as_mut().filter(|seeding| !seeding.all_sent())?;
    let (views, chunks) = (&object.views, &object.chunks);
    if views.is_empty() {
        return None;
    }
    let takes_unasked = |view: &View| view.refusals < REFUSALS_MAX && !view.have.is_full();
    seeding.skip_while(|index| {
        views.values().all(|view| !takes_unasked(view) || view.have.contains(index))
    });
    let slow_from = seeding.slow_from(now);
    let takers = views.iter().filter(|(_, view)| takes_unasked(view));
    let (slow, brisk): (Vec<_>, Vec<_>) =
        takers.partition(|(node, _)| seeding.is_slow(now, **node, slow_from));
    for rank in [brisk, slow] {
        let free = |node: &NodeId| links.get(node).filter(|it| it.uploading < limit && it.takes(1));
        let free = rank.iter().filter_map(|(node, view)| Some((**node, *view, free(node)?)));
        let free: Vec<_> = free.collect();
        let wants = |(node, view, _): &(NodeId, &View, &Link), index| {
            !view.have.contains(index) && !uploads.contains(&(*node, id, index))
        };
        let wanted = |index| free.iter().any(|it| wants(it, index));
        let next = if free.is_empty() { None } else { seeding.find(wanted) };
        if let Some(index) = next {
            let len = chunks.get(index as usize).map_or(0, |chunk| chunk.len);
            let able = free.iter().filter(|it| wants(it, index) && it.2.takes(len));
            let least = able.map(|(node, _, link)| (seeding.debt(*node), link.served, *node)).min();
            let (_, _, to) = least?;
            let lacking = views.values().filter(|view| !view.have.contains(index)).count();
            let others = u32::try_from(lacking).unwrap_or(u32::MAX).saturating_sub(1);
            seeding.entrust(now, index, to, others);
            return Some((to, index));
        }
        let lacks = |index| rank.iter().any(|(_, view)| !view.have.contains(index));
        if seeding.find(lacks).is_some() {
            return None; // who is busy now comes before who is slow
        }
    }
    None
}

/// What the receivers asked for or are owed, of those to whom least is on its way. Where all have the same
/// neighbours they take turns. In a `large` mesh the one with the fewest chunks goes first: one whose
/// neighbours have more to do than others' would be the last by far (in `netsim scale` with 200 and 300 nodes
/// and seeds 1 to 3, a release was everywhere a tenth later).
fn next_for_some(
    id: ObjectId,
    object: &mut Object,
    links: &Links,
    uploads: &Uploads,
    limit: u32,
    large: bool,
) -> Option<(NodeId, u32)> {
    let waiting = object.views.iter().filter(|(_, view)| view.has_work());
    let free = waiting.filter_map(|(&node, view)| {
        let link = links.get(&node).filter(|link| link.uploading < limit)?;
        let has = if large { view.have.count() } else { 0 };
        Some((link.uploading, has, link.served, node))
    });
    let mut free: Vec<(u32, u32, u64, NodeId)> = free.collect();
    free.sort_unstable();
    for (.., node) in free {
        let (Some(link), Some(view)) = (links.get(&node), object.views.get_mut(&node)) else {
            continue;
        };
        let under_way = |index: u32| uploads.contains(&(node, id, index));
        let len_of = |index: u32| object.chunks.get(index as usize).map_or(0, |chunk| chunk.len);
        if let Some(index) = next_for(view, link, under_way, len_of) {
            return Some((node, index));
        }
    }
    None
}

/// What goes to one receiver next: what it asked for, then what it is owed. What it has got from
/// elsewhere is dropped.
fn next_for(
    view: &mut View,
    link: &Link,
    under_way: impl Fn(u32) -> bool,
    len_of: impl Fn(u32) -> u32,
) -> Option<u32> {
    while let Some(index) = view.requests.pop_front() {
        if !view.have.contains(index) && !under_way(index) {
            return Some(index);
        }
    }
    while let Some(&index) = view.owed.front() {
        let needed = !view.have.contains(index) && !under_way(index);
        if needed && (!link.takes(len_of(index)) || view.refusals >= REFUSALS_MAX) {
            return None;
        }
        view.owed.pop_front();
        if needed {
            return Some(index);
        }
    }
    None
}
