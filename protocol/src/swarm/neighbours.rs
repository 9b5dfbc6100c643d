//! What the neighbours say. All of it may be a lie.

use super::event::{Misbehaviour, Output};
use super::link::Link;
use super::machine::Swarm;
use super::object::View;
use super::uploads::UploadKey;
use super::{Bitmap, ObjectId, SwarmMessage};
use crate::id::NodeId;
use crate::time::Instant;

/// Requests of one neighbour that wait. An honest one has at most half of it out.
pub(super) const REQUESTS_MAX: usize = 512;

impl Swarm {
    pub(super) fn message(&mut self, now: Instant, from: NodeId, message: SwarmMessage) {
        let Some(link) = self.links.get_mut(&from) else { return };
        if !link.afford(now, message.cost()) {
            if link.report_flood(now) {
                self.misbehaved(from, Misbehaviour::Flood);
            }
            return;
        }
        match message {
            SwarmMessage::Interest { object, have, origin, answer } => {
                self.interest(now, object, from, &have, origin);
                self.answer(object, from, answer);
            }
            SwarmMessage::Leave { object } => self.drop_view(now, object, from),
            SwarmMessage::Have { object, indexes, owed } => {
                self.haves(now, object, from, &indexes, &owed);
            }
            SwarmMessage::Request { object, indexes } => {
                self.requested(now, object, from, &indexes);
            }
            SwarmMessage::Cancel { object, indexes } => self.cancelled(object, from, &indexes),
            SwarmMessage::Refuse { object, indexes } => self.refused(object, from, &indexes),
            SwarmMessage::Credit { bytes } => link.set_credit(bytes),
        }
    }

    fn interest(&mut self, now: Instant, id: ObjectId, from: NodeId, have: &Bitmap, origin: bool) {
        let Some(object) = self.objects.get_mut(&id) else { return };
        if have.len() != object.have.len() {
            self.misbehaved(from, Misbehaviour::OutOfRange);
            return;
        }
        let missing = object.incomplete();
        let view = object.views.entry(from).or_insert_with(|| View::new(have.len()));
        view.origin = origin;
        if origin && missing && view.have.count() == 0 && have.count() > 0 {
            object.grace.begin(now, from);
        }
        let lost: Vec<u32> = view.have.iter().filter(|index| !have.contains(*index)).collect();
        lost.into_iter().for_each(|index| object.note_lack(from, index));
        self.recount(id, from);
        for index in have.iter() {
            self.has(now, id, from, index);
        }
        self.end_grace(now, id);
    }

    /// Counts a neighbour's chunks among the copies, if it may be asked for them now.
    pub(super) fn recount(&mut self, id: ObjectId, node: NodeId) {
        let Some(object) = self.objects.get_mut(&id) else { return };
        let suspended = self.links.get(&node).is_some_and(Link::suspended);
        let spared = object.grace.holds(node);
        object.set_counted(node, !suspended && !spared && !self.distrust.holds(id, node));
    }

    /// Asks the origins of an object whose grace is over.
    pub(super) fn end_grace(&mut self, now: Instant, id: ObjectId) {
        let Some(object) = self.objects.get_mut(&id) else { return };
        let all_spoke = object.views.len() >= self.links.len();
        for node in object.grace.end(now, all_spoke) {
            self.recount(id, node);
        }
    }

    /// Asks those again whose time of distrust is over.
    pub(super) fn end_distrust(&mut self, now: Instant) {
        for (id, node) in self.distrust.end(now) {
            self.recount(id, node);
        }
    }

    /// Tells one that asked for it what is here. That includes all news which it was not sent yet,
    /// except promises.
    fn answer(&mut self, id: ObjectId, to: NodeId, wanted: bool) {
        let Some(object) = self.objects.get(&id).filter(|_| wanted) else { return };
        let interest = object.interest(id, false);
        self.send(to, interest);
        // In a large mesh it may not have taken this node for a neighbour when it was told.
        let told = self.links.get(&to).map(|link| link.told);
        if let Some(bytes) = told.filter(|_| self.is_large()) {
            self.send(to, SwarmMessage::Credit { bytes });
        }
    }

    fn in_range(&mut self, id: ObjectId, from: NodeId, indexes: &[u32]) -> bool {
        let Some(object) = self.objects.get(&id) else { return false };
        let known = object.views.contains_key(&from);
        let fits = indexes.iter().all(|index| *index < object.have.len());
        if !fits {
            self.misbehaved(from, Misbehaviour::OutOfRange);
        }
        known && fits
    }

    fn haves(&mut self, now: Instant, id: ObjectId, from: NodeId, have: &[u32], owed: &[u32]) {
        if !self.in_range(id, from, have) || !self.in_range(id, from, owed) {
            return;
        }
        for &index in owed {
            self.promised(now, id, from, index);
            self.has(now, id, from, index);
        }
        let foreign = self.is_large() && self.links.get(&from).is_some_and(|link| link.foreign);
        for &index in have {
            if foreign && !self.has_copies(id, index) {
                // One copy for each zone is on its way into this one. Wait for it.
                self.promised(now, id, from, index);
            } else if !foreign {
                self.end_foreign_promise(id, index);
            }
            self.has(now, id, from, index);
        }
    }

    fn promised(&mut self, now: Instant, id: ObjectId, by: NodeId, index: u32) {
        let Some(object) = self.objects.get_mut(&id) else { return };
        if object.views.get(&by).is_some_and(|view| view.counted) {
            object.rarest.promise(index, by, now);
        }
    }

    fn has_copies(&self, id: ObjectId, index: u32) -> bool {
        self.objects.get(&id).is_some_and(|object| object.rarest.has_copies(index))
    }

    /// A node of the own zone has the chunk: no need to wait for one from another.
    fn end_foreign_promise(&mut self, id: ObjectId, index: u32) {
        if !self.is_large() {
            return;
        }
        let Some(object) = self.objects.get_mut(&id) else { return };
        let by = object.rarest.promised_by(index);
        let foreign = by.and_then(|node| self.links.get(&node)).is_some_and(|it| it.foreign);
        if foreign {
            object.rarest.end_promise(index);
        }
    }

    fn has(&mut self, now: Instant, id: ObjectId, node: NodeId, index: u32) {
        let Some(object) = self.objects.get_mut(&id) else { return };
        object.note_have(now, node, index);
        let Some(link) = self.links.get_mut(&node) else { return };
        let (sent, sending) = (link.acknowledged(id, index), link.uploading > 0);
        if let Some(view) = object.views.get_mut(&node).filter(|_| sent) {
            view.refusals = 0;
        }
        if sending {
            self.cancel_upload((node, id, index));
        }
    }

    fn requested(&mut self, now: Instant, id: ObjectId, from: NodeId, indexes: &[u32]) {
        if !self.in_range(id, from, indexes) {
            return;
        }
        let Some(object) = self.objects.get_mut(&id) else { return };
        let (mut refused, mut full) = (Vec::new(), false);
        for &index in indexes {
            let serves = object.serves(index);
            let Some(view) = object.views.get_mut(&from) else { return };
            let under_way = self.uploads.contains(&(from, id, index));
            if under_way || view.requests.contains(&index) {
                continue;
            }
            full |= view.requests.len() >= REQUESTS_MAX;
            if full || !serves {
                refused.push(index);
            } else {
                view.requests.push_back(index);
                object.may_have_work = true;
                // Who asks does not have it, whatever it said before.
                object.note_lack(from, index);
            }
        }
        if let Some(link) = self.links.get_mut(&from) {
            link.requested(now);
        }
        if !refused.is_empty() {
            self.send(from, SwarmMessage::Refuse { object: id, indexes: refused });
        }
        if full {
            self.misbehaved(from, Misbehaviour::TooManyRequests);
        }
    }

    fn cancelled(&mut self, id: ObjectId, from: NodeId, indexes: &[u32]) {
        let view = self.objects.get_mut(&id).and_then(|object| object.views.get_mut(&from));
        let Some(view) = view else { return };
        view.requests.retain(|index| !indexes.contains(index));
        for &index in indexes {
            if let Some(link) = self.links.get_mut(&from) {
                link.acknowledged(id, index);
            }
            if self.cancel_upload((from, id, index)) {
                self.push_failed(id, from, index);
            }
        }
    }

    fn refused(&mut self, id: ObjectId, from: NodeId, indexes: &[u32]) {
        for &index in indexes {
            let sent = self.links.get_mut(&from).is_some_and(|it| it.acknowledged(id, index));
            if sent {
                self.push_failed(id, from, index);
            } else if self.end_ask(id, index, from) {
                let Some(object) = self.objects.get_mut(&id) else { return };
                object.note_lack(from, index);
            }
        }
    }

    pub(super) fn push_failed(&mut self, id: ObjectId, to: NodeId, index: u32) {
        if let Some(object) = self.objects.get_mut(&id) {
            object.push_failed(to, index);
        }
    }

    /// Stops an upload. True if it was under way.
    pub(super) fn cancel_upload(&mut self, key: UploadKey) -> bool {
        let (to, object, index) = key;
        let ended = self.uploads.end(&key);
        if ended {
            if let Some(link) = self.links.get_mut(&to) {
                link.uploading = link.uploading.saturating_sub(1);
            }
            self.out.push_back(Output::CancelUpload { to, object, index });
        }
        ended
    }

    /// A neighbour has no part in an object any more.
    pub(super) fn drop_view(&mut self, now: Instant, id: ObjectId, node: NodeId) {
        self.end_asks_of(id, node);
        for key in self.uploads.matching(|key| (key.0, key.1) == (node, id)) {
            self.cancel_upload(key);
        }
        self.take_news(id, node, None);
        if let Some(object) = self.objects.get_mut(&id) {
            object.drop_view(now, node);
        }
    }
}
