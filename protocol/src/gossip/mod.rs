//! Who tells whom what: release headers and the head of the log, over the active view.
//!
//! A header that is published here is pushed to every neighbour at once; one that came from a
//! neighbour is announced to the others, and whoever lacks it pulls it. Each second a digest of all
//! that a node has goes to each neighbour (every two or three where they agree), and where two differ they
//! exchange lists of ids: so a push that was lost, or a partition, heals. The digest is also the sign of
//! life that membership waits for.
//!
//! The replicated state is the same everywhere at the same place of the log, so that the head speaks
//! for the roster as well.

mod asked;
mod event;
mod neighbour;
mod refusals;
mod shelf;
#[cfg(test)]
mod tests;

pub use event::{GossipMessage, Head, Input, Output};

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::artifact::header::SignedHeader;
use crate::id::{NodeId, ReleaseId};
use crate::limits::{COMMAND_BYTES_MAX, CONTROL_FRAME_BYTES_MAX};
use crate::machine::Machine;
use crate::rng::Rng;
use crate::time::{Instant, earliest};

use asked::{ASKED_MAX, Asked, Question};
use neighbour::Neighbour;
use refusals::Refusals;
use shelf::{HEADERS_MAX, Shelf};

/// Pause between two digests to the same neighbour; up to a fifth of it is added as jitter.
const DIGEST_EVERY: Duration = Duration::from_secs(1);

/// With more neighbours than this a node hears from some of them all the time.
const CROWD: usize = 20;

/// News that come thick and fast are told only so often.
const NEWS_EVERY: Duration = Duration::from_millis(20);

/// Bytes of one header, signatures included: no larger one fits into the log.
const HEADER_BYTES_MAX: usize = COMMAND_BYTES_MAX;

/// Bytes of headers in one message, the last of which may exceed it: stays well under the limit of a
/// control frame.
const BATCH_BYTES: usize = CONTROL_FRAME_BYTES_MAX / 2;

/// Headers that wait for the owner's verdict.
const JUDGED_MAX: usize = HEADERS_MAX;

/// The gossip of one node.
#[derive(Debug)]
pub struct Gossip {
    neighbours: BTreeMap<NodeId, Neighbour>,
    shelf: Shelf,
    refusals: Refusals,
    judged: BTreeMap<ReleaseId, (NodeId, SignedHeader)>,
    asked: Asked,
    fresh: BTreeSet<ReleaseId>,
    head: Head,
    /// Of whom, in which term, the neighbours were last told that it leads.
    leader_told: (u64, Option<NodeId>),
    news_at: Instant,
    digest_at: Instant,
    rng: Rng,
    outputs: VecDeque<Output>,
}

impl Gossip {
    /// A gossip that knows nothing yet. `seed` is for its jitter.
    pub fn new(seed: u64) -> Self {
        Self {
            neighbours: BTreeMap::new(),
            shelf: Shelf::new(),
            refusals: Refusals::default(),
            judged: BTreeMap::new(),
            asked: Asked::default(),
            fresh: BTreeSet::new(),
            head: Head::default(),
            leader_told: (0, None),
            news_at: Instant::ZERO,
            digest_at: Instant::ZERO,
            rng: Rng::new(seed),
            outputs: VecDeque::new(),
        }
    }

    /// The headers that spread from here.
    pub fn headers(&self) -> &BTreeMap<ReleaseId, SignedHeader> {
        self.shelf.headers()
    }

    fn send(&mut self, to: NodeId, message: GossipMessage) {
        self.outputs.push_back(Output::Send { to, message });
    }

    fn misbehaved(&mut self, node: NodeId, reason: &str) {
        if self.neighbours.get_mut(&node).is_some_and(Neighbour::scold) {
            self.outputs.push_back(Output::Misbehaved { node, reason: reason.to_owned() });
        }
    }

    // --- what neighbours say ------------------------------------------------------------------------

    fn take(&mut self, now: Instant, from: NodeId, message: GossipMessage) {
        let Some(neighbour) = self.neighbours.get_mut(&from) else { return };
        if !neighbour.may_speak(now) {
            return self.misbehaved(from, "sends too many messages");
        }
        match message {
            GossipMessage::Headers(headers) => {
                for header in headers {
                    self.take_header(now, from, header);
                }
            }
            GossipMessage::Head(head) => self.take_head(from, head),
            GossipMessage::Digest(theirs, head) => {
                self.take_head(from, head);
                self.compare(now, from, theirs);
            }
            GossipMessage::Ids(ids) if ids.len() <= HEADERS_MAX => self.pull(now, from, &ids),
            GossipMessage::Pull(ids) if ids.len() <= ASKED_MAX => self.give(from, &ids),
            GossipMessage::Ids(_) | GossipMessage::Pull(_) => {
                self.misbehaved(from, "sends a list over the limit");
            }
        }
    }

    fn take_head(&mut self, from: NodeId, head: Head) {
        if let Some(neighbour) = self.neighbours.get_mut(&from) {
            neighbour.head = head;
        }
        self.outputs.push_back(Output::Ahead { node: from, head });
    }

    fn compare(&mut self, now: Instant, from: NodeId, theirs: [u8; 32]) {
        let ours = self.shelf.digest();
        let Some(neighbour) = self.neighbours.get_mut(&from) else { return };
        neighbour.digest = Some(theirs);
        if neighbour.compares(now, ours, theirs) {
            let ids = self.headers().keys().copied().collect();
            self.send(from, GossipMessage::Ids(ids));
        }
    }

    fn is_had(&self, now: Instant, release: ReleaseId) -> bool {
        self.headers().contains_key(&release)
            || self.judged.contains_key(&release)
            || self.refusals.holds(now, release)
    }

    fn pull(&mut self, now: Instant, from: NodeId, ids: &[ReleaseId]) {
        let room = self.asked.room_for(from);
        let wanted = |id: &ReleaseId| !self.asked.contains(*id) && !self.is_had(now, *id);
        let wanted: BTreeSet<_> = ids.iter().copied().filter(wanted).take(room).collect();
        if let Some(neighbour) = self.neighbours.get_mut(&from) {
            ids.iter().for_each(|id| neighbour.learns(*id));
        }
        self.ask(now, from, wanted.into_iter().map(|id| (id, 1)).collect());
    }

    fn ask(&mut self, now: Instant, whom: NodeId, wanted: Vec<(ReleaseId, u32)>) {
        if wanted.is_empty() {
            return;
        }
        for (id, tries) in &wanted {
            self.asked.insert(*id, Question { whom, at: now, tries: *tries });
        }
        self.send(whom, GossipMessage::Pull(wanted.into_iter().map(|(id, _)| id).collect()));
    }

    /// Asks others for what did not come in time.
    fn ask_again(&mut self, now: Instant) {
        let mut next: BTreeMap<NodeId, Vec<(ReleaseId, u32)>> = BTreeMap::new();
        for (id, question) in self.asked.take_late(now) {
            let others = self.neighbours.iter().filter(|(_, it)| it.knows(id));
            let others = others.map(|(node, _)| *node).filter(|node| *node != question.whom);
            let others: Vec<_> = others.collect();
            if let Some(whom) = self.rng.pick(&others) {
                next.entry(*whom).or_default().push((id, question.tries + 1));
            }
        }
        for (whom, wanted) in next {
            self.ask(now, whom, wanted);
        }
    }

    fn give(&mut self, to: NodeId, ids: &[ReleaseId]) {
        let mut batch = Vec::new();
        let mut bytes = 0;
        for id in ids {
            let Some(header) = self.headers().get(id).cloned() else { continue };
            let Some(neighbour) = self.neighbours.get_mut(&to) else { return };
            let size = size_of(&header);
            if !neighbour.may_have(size) {
                break;
            }
            neighbour.learns(*id);
            batch.push(header);
            bytes += size;
            if bytes >= BATCH_BYTES {
                self.send(to, GossipMessage::Headers(core::mem::take(&mut batch)));
                bytes = 0;
            }
        }
        if !batch.is_empty() {
            self.send(to, GossipMessage::Headers(batch));
        }
    }

    fn take_header(&mut self, now: Instant, from: NodeId, header: SignedHeader) {
        if size_of(&header) > HEADER_BYTES_MAX {
            return self.misbehaved(from, "sends a header over the limit");
        }
        let id = header.id();
        let Some(neighbour) = self.neighbours.get_mut(&from) else { return };
        neighbour.learns(id);
        let asked = self.asked.remove(id);
        if self.is_had(now, id) || self.judged.len() >= JUDGED_MAX {
            return;
        }
        let pushed = asked || self.neighbours.get_mut(&from).is_some_and(Neighbour::may_push);
        if !pushed {
            return self.misbehaved(from, "pushes too many headers");
        }
        if header.header().is_err() {
            self.refusals.refuse(now, id);
            return self.misbehaved(from, "sends a header that cannot be read");
        }
        self.judged.insert(id, (from, header.clone()));
        self.outputs.push_back(Output::Received { from, header });
    }

    // --- what the owner says ------------------------------------------------------------------------

    fn publish(&mut self, now: Instant, header: SignedHeader) {
        let id = header.id();
        self.refusals.lift(id);
        if !self.keep(now, header.clone()) {
            return;
        }
        let unknowing = self.neighbours.iter_mut().filter(|(_, it)| !it.knows(id));
        let mut others = Vec::new();
        for (node, neighbour) in unknowing {
            neighbour.learns(id);
            others.push(*node);
        }
        for to in others {
            self.send(to, GossipMessage::Headers(vec![header.clone()]));
        }
    }

    fn judge(&mut self, now: Instant, release: ReleaseId, keep: bool) {
        let Some((_, header)) = self.judged.remove(&release) else { return };
        if !keep {
            self.refusals.refuse(now, release);
        } else if self.keep(now, header) {
            self.fresh.insert(release);
        }
    }

    /// Puts a header on the shelf; says whether it is new there and stays.
    fn keep(&mut self, now: Instant, header: SignedHeader) -> bool {
        let id = header.id();
        if self.headers().contains_key(&id) {
            return false;
        }
        let gone = self.shelf.put(header);
        for release in &gone {
            self.refusals.forget(now, *release);
            self.fresh.remove(release);
        }
        !gone.contains(&id)
    }

    fn forget(&mut self, now: Instant, release: ReleaseId) {
        self.judged.remove(&release);
        self.fresh.remove(&release);
        self.shelf.remove(release);
        self.refusals.forget(now, release);
    }

    // --- what is told unasked -----------------------------------------------------------------------

    fn has_news(&self) -> bool {
        self.leader_told != (self.head.term, self.head.leader) || !self.fresh.is_empty()
    }

    fn tell_news(&mut self, now: Instant) {
        if !self.has_news() || now < self.news_at {
            return;
        }
        self.news_at = now.after(NEWS_EVERY);
        let fresh = core::mem::take(&mut self.fresh);
        let head = self.head;
        let leader = (head.term, head.leader);
        let changed = core::mem::replace(&mut self.leader_told, leader) != leader;
        let mut news = Vec::new();
        for (to, neighbour) in &self.neighbours {
            if changed && is_news(neighbour.head, head) {
                news.push((*to, GossipMessage::Head(head)));
            }
            let ids: Vec<_> = fresh.iter().copied().filter(|id| !neighbour.knows(*id)).collect();
            if !ids.is_empty() {
                news.push((*to, GossipMessage::Ids(ids)));
            }
        }
        for (to, message) in news {
            self.send(to, message);
        }
    }

    fn tell_digest(&mut self, now: Instant) {
        if now < self.digest_at {
            return;
        }
        let jitter = self.rng.below(DIGEST_EVERY.as_millis() as u64 / 5);
        self.digest_at = now.after(DIGEST_EVERY + Duration::from_millis(jitter));
        let (ours, head) = (self.shelf.digest(), self.head);
        let digest = GossipMessage::Digest(ours, head);
        let crowd = self.neighbours.len() > CROWD;
        let due = |it: &mut Neighbour| it.is_due(ours, head, crowd);
        let due = self.neighbours.iter_mut().filter_map(|(node, it)| due(it).then_some(*node));
        for to in due.collect::<Vec<_>>() {
            self.send(to, digest.clone());
        }
    }

    fn up(&mut self, now: Instant, node: NodeId) {
        self.neighbours.insert(node, Neighbour::new(now));
        self.send(node, GossipMessage::Digest(self.shelf.digest(), self.head));
    }

    fn down(&mut self, node: NodeId) {
        self.neighbours.remove(&node);
        self.asked.lose(node);
    }
}

/// Whether one that said `theirs` is to hear at once of `ours`: of another leader. That the log has moved
/// the leader tells everybody who is connected to it with the entries themselves, and the digests tell
/// the rest.
fn is_news(theirs: Head, ours: Head) -> bool {
    ours.term > theirs.term || (ours.leader.is_some() && ours.leader != theirs.leader)
}

/// Bytes of a header on the wire, to within a few.
fn size_of(header: &SignedHeader) -> usize {
    let signatures = header.signatures.iter().map(|(_, signature)| 40 + signature.0.len());
    header.bytes.len() + signatures.sum::<usize>()
}

impl Machine for Gossip {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Timeout => {}
            Input::Up { node } => self.up(now, node),
            Input::Down { node } => self.down(node),
            Input::Message { from, message } => self.take(now, from, message),
            Input::Publish(header) => self.publish(now, header),
            Input::Verdict { release, keep } => self.judge(now, release, keep),
            Input::Forget(release) => self.forget(now, release),
            Input::Head(head) => self.head = head,
        }
        self.ask_again(now);
        self.tell_news(now);
        self.tell_digest(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let news = self.has_news().then_some(self.news_at);
        earliest(earliest(news, self.asked.late_at()), Some(self.digest_at))
    }
}
