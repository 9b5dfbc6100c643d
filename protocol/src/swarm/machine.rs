//! The machine: takes events in, hands them to its parts, and says when it wants to be woken.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use super::announce::{Announcements, Pace};
use super::distrust::Distrust;
use super::event::{Input, Misbehaviour, Output, Progress, Want};
use super::inflow::Inflow;
use super::link::{Link, Links};
use super::object::Object;
use super::uploads::Uploads;
use super::{CHUNKS_MAX, FULL_MESH_MAX, OBJECTS_MAX, ObjectId, SwarmMessage};
use crate::id::{NodeId, ZoneName};
use crate::machine::Machine;
use crate::rng::Rng;
use crate::time::{Instant, earliest};

/// How often rates, credits and suspensions are looked at while anything is under way.
const HOUSEKEEPING: Duration = Duration::from_millis(500);
/// A node to which nothing comes for so long asks its neighbours again what they have; each further
/// time it waits twice as long. It mends whatever message may have been lost.
const REFRESH_MIN: Duration = Duration::from_secs(5);
const REFRESH_MAX: Duration = Duration::from_secs(60);
/// Neighbours: those of a full mesh, twice over. The membership keeps to fewer.
const LINKS_MAX: usize = 128;

/// What a swarm has to know of its own node.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the node stands.
    pub zone: ZoneName,
    /// The seed of its random choices.
    pub seed: u64,
    /// How often it tells its neighbours of new chunks.
    pub pace: Pace,
}

/// The swarm of one node; see the [module](super).
#[derive(Debug)]
pub struct Swarm {
    pub(super) zone: ZoneName,
    pub(super) rng: Rng,
    pub(super) nodes: usize,
    pub(super) links: Links,
    pub(super) objects: BTreeMap<ObjectId, Object>,
    /// The objects, the highest priority first.
    pub(super) order: Vec<ObjectId>,
    pub(super) inflow: Inflow,
    pub(super) uploads: Uploads,
    pub(super) distrust: Distrust,
    /// Some neighbour may have been told to send nothing unasked.
    some_paused: bool,
    /// Uploads started so far.
    pub(super) served: u64,
    pub(super) announcements: Announcements,
    pub(super) out: VecDeque<Output>,
    housekeeping_at: Instant,
    wake: Option<Instant>,
}

impl Swarm {
    /// A swarm that knows nobody and wants nothing.
    pub fn new(config: Config) -> Self {
        Self {
            zone: config.zone,
            rng: Rng::new(config.seed),
            nodes: 0,
            links: BTreeMap::new(),
            objects: BTreeMap::new(),
            order: Vec::new(),
            inflow: Inflow::new(),
            uploads: Uploads::new(),
            distrust: Distrust::default(),
            some_paused: false,
            served: 0,
            announcements: Announcements::new(config.pace),
            out: VecDeque::new(),
            housekeeping_at: Instant::ZERO,
            wake: None,
        }
    }

    /// How far an object has come; `None` if this node does not know it.
    pub fn progress(&self, object: ObjectId) -> Option<&Progress> {
        self.objects.get(&object).map(|object| &object.progress)
    }

    /// Whether a chunk is wanted and not here: what else comes need not be kept.
    pub fn wants(&self, object: ObjectId, index: u32) -> bool {
        let known = self.objects.get(&object);
        known.is_some_and(|it| it.len_of(index).is_some() && !it.have.contains(index))
    }

    /// The objects that this node wants or serves, the highest priority first.
    pub fn objects(&self) -> &[ObjectId] {
        &self.order
    }

    /// Whether the mesh is so large that nodes have only some neighbours.
    pub(super) fn is_large(&self) -> bool {
        self.nodes > FULL_MESH_MAX
    }

    pub(super) fn send(&mut self, to: NodeId, message: SwarmMessage) {
        self.out.push_back(Output::Send { to, message });
    }

    pub(super) fn misbehaved(&mut self, node: NodeId, reason: Misbehaviour) {
        self.out.push_back(Output::Misbehaved { node, reason });
    }

    fn want(&mut self, now: Instant, want: Want) {
        let id = want.object;
        let fits = u32::try_from(want.chunks.len()).is_ok_and(|len| len == want.have.len());
        let known = self.objects.contains_key(&id);
        if known || !fits || want.have.len() > CHUNKS_MAX || self.objects.len() >= OBJECTS_MAX {
            tracing::debug!(object = %id, known, "not taken into the swarm");
            return;
        }
        let object = Object::new(now, want, REFRESH_MIN, &mut self.rng);
        let interest = object.interest(id, true);
        if !object.incomplete() {
            self.out.push_back(Output::Complete { object: id });
        }
        let objects = &self.objects;
        let priority = |id: &ObjectId| objects.get(id).map_or(0, |object| object.priority);
        let place = self.order.partition_point(|other| priority(other) >= object.priority);
        self.order.insert(place, id);
        self.objects.insert(id, object);
        for to in self.links.keys().copied().collect::<Vec<_>>() {
            self.send(to, interest.clone());
        }
    }

    fn forget(&mut self, now: Instant, id: ObjectId) {
        let Some(object) = self.objects.get(&id) else { return };
        for node in object.views.keys().copied().collect::<Vec<_>>() {
            self.drop_view(now, id, node);
            self.send(node, SwarmMessage::Leave { object: id });
        }
        self.objects.remove(&id);
        self.order.retain(|other| *other != id);
    }

    fn peer_up(&mut self, now: Instant, node: NodeId, zone: ZoneName) {
        if let Some(link) = self.links.get_mut(&node) {
            link.stand_in(zone, &self.zone);
            return;
        }
        if self.links.len() >= LINKS_MAX {
            tracing::warn!(%node, "more neighbours than there are to be: no chunks go there");
            return;
        }
        self.links.insert(node, Link::new(now, zone, &self.zone));
        let interests = self.objects.iter().map(|(&id, object)| object.interest(id, true));
        for message in interests.collect::<Vec<_>>() {
            self.send(node, message);
        }
    }

    fn peer_down(&mut self, now: Instant, node: NodeId) {
        if !self.links.contains_key(&node) {
            return;
        }
        for id in self.order.clone() {
            self.drop_view(now, id, node);
        }
        self.links.remove(&node);
    }

    /// What falls due with time.
    fn on_time(&mut self, now: Instant) {
        if now >= self.housekeeping_at {
            self.housekeeping_at = now.after(HOUSEKEEPING);
            self.inflow.measure(now);
            self.tell_credits();
            self.expire_receipts(now);
            self.resume_links(now);
            self.refresh(now);
        }
        self.end_distrust(now);
        for id in self.order.clone() {
            self.end_grace(now, id);
        }
        self.handle_late(now);
        self.flush_due(now);
    }

    fn tell_credits(&mut self) {
        let credit = self.inflow.credit(self.links.len());
        self.some_paused = credit == 0;
        let mut told = Vec::new();
        for (&node, link) in &mut self.links {
            // Small changes are not worth a message.
            let changed = credit.abs_diff(link.told) > link.told / 2;
            if changed {
                link.told = credit;
                told.push(node);
            }
        }
        for node in told {
            self.send(node, SwarmMessage::Credit { bytes: credit });
        }
    }

    /// Tells the neighbours at once when the disk stops or resumes the inflow.
    pub(super) fn tell_pause(&mut self) {
        let paused = self.inflow.credit(self.links.len()) == 0;
        if !paused && !self.some_paused {
            return; // as nearly always
        }
        if self.links.values().any(|link| (link.told == 0) != paused) {
            self.tell_credits();
        }
    }

    fn expire_receipts(&mut self, now: Instant) {
        for (&node, link) in &mut self.links {
            for (id, index) in link.expire(now) {
                if let Some(object) = self.objects.get_mut(&id) {
                    object.push_failed(node, index);
                }
            }
        }
    }

    fn resume_links(&mut self, now: Instant) {
        let resumed =
            self.links.iter_mut().filter_map(|(&node, link)| link.resume(now).then_some(node));
        for node in resumed.collect::<Vec<_>>() {
            for id in self.order.clone() {
                self.recount(id, node);
            }
        }
    }

    fn refresh(&mut self, now: Instant) {
        let mut interests = Vec::new();
        for (&id, object) in &mut self.objects {
            if !object.incomplete() || now < object.refresh_at {
                continue;
            }
            object.refresh_pause = (object.refresh_pause * 2).min(REFRESH_MAX);
            object.refresh_at = now.after(object.refresh_pause);
            interests.push(object.interest(id, true));
        }
        let nodes: Vec<NodeId> = self.links.keys().copied().collect();
        for (message, &to) in interests.iter().flat_map(|it| nodes.iter().map(move |to| (it, to))) {
            self.send(to, message.clone());
        }
    }

    /// The moment when something falls due.
    fn next_wake(&self, now: Instant) -> Option<Instant> {
        let mut wake = earliest(self.announcements.next(), self.distrust.next_end());
        let mut busy = !self.uploads.is_empty();
        for object in self.objects.values().filter(|object| object.incomplete()) {
            wake = earliest(wake, object.asks.first_deadline());
            wake = earliest(wake, object.promise_deadline());
            wake = earliest(wake, object.grace.next_end());
            busy |= !object.views.is_empty();
        }
        for seeding in self.objects.values().filter_map(|object| object.seeding.as_ref()) {
            wake = earliest(wake, seeding.overdue_at(now).map(|(at, _)| at));
        }
        let of_link = |link: &Link| link.owes_receipts() || link.suspended();
        let busy = busy || self.links.values().any(of_link);
        earliest(wake, busy.then_some(self.housekeeping_at))
    }
}

impl Machine for Swarm {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Want(want) => self.want(now, want),
            Input::Forget { object } => self.forget(now, object),
            Input::MeshSize { nodes } => self.nodes = nodes,
            Input::PeerUp { node, zone } => self.peer_up(now, node, zone),
            Input::PeerDown { node } => self.peer_down(now, node),
            Input::Message { from, message } => self.message(now, from, message),
            Input::Verified { object, index, from } => self.verified(now, object, index, from),
            Input::Stored { object, index } => self.stored(object, index),
            Input::Corrupt { object, index, from } => self.corrupt(now, object, index, from),
            Input::Uploaded { to, object, index } => self.uploaded(now, to, object, index),
            Input::UploadFailed { to, object, index } => self.upload_failed(to, object, index),
            Input::Timeout => {}
        }
        if self.wake.is_some_and(|wake| now >= wake) {
            self.on_time(now);
        }
        self.pull(now);
        self.serve(now);
        self.wake = self.next_wake(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.wake
    }
}
