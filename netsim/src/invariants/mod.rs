//! The properties of the design's section 2, checked after every event. One file each.
//!
//! The checker sees more than any node does: every node's replica of the log, every frame, and what
//! each service really does.

mod admission;
mod agreement;
mod answers;
mod cap;
mod closing;
mod durable;
mod evidence;
mod proofs;
mod seats;
mod steps;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use baton_protocol::agent::unit::ServiceAction;
use baton_protocol::codec;
use baton_protocol::consensus::{Entry, LogEntry, Voter};
use baton_protocol::disk::{Batch, Key};
use baton_protocol::fleet::Fleet;
use baton_protocol::fleet::command::{Command, Envelope};
use baton_protocol::fleet::permit::{Permit, PermitPhase};
use baton_protocol::id::{Incarnation, LogIndex, NodeId, Nonce, PermitId};
use baton_protocol::peer::{Answer, Failure, Operation, Peer};
use baton_protocol::time::Instant;
use baton_protocol::wire::Message;

use crate::event::Host;
use crate::mesh::group;
use crate::restarts::Restarts;
use crate::rig::Rig;
use crate::trace::Trace;
use crate::traps::Moment;

/// One `Begin` that some replica has committed.
type Begun = (NodeId, Incarnation, Nonce);

/// How it stood when a command was first written anywhere.
#[derive(Clone)]
struct Decided {
    at: Instant,
    /// Nodes that counted, and could not be proven available to the leader.
    unproven: BTreeSet<NodeId>,
}

/// A command that is committed.
struct Committed<'a> {
    decided: Option<Decided>,
    envelope: &'a Envelope,
}

/// Judges a run.
#[derive(Default)]
pub(crate) struct Judge {
    /// The world's time.
    pub(crate) now: Instant,
    broken: Option<String>,
    /// How far each host was when it was last looked at, and in which life.
    seen: BTreeMap<Host, (u64, LogIndex)>,
    states: agreement::States,
    /// The most advanced state that any host has applied.
    newest: Fleet,
    begun: BTreeMap<PermitId, BTreeSet<Begun>>,
    steps: steps::Steps,
    /// What holders asked to be closed.
    proofs: proofs::Proofs,
    /// Permits that a person has closed.
    overridden: BTreeSet<PermitId>,
    /// Nodes that a person has stated to be fenced.
    fenced: BTreeSet<NodeId>,
    limits: Vec<(Instant, u32)>,
    /// Since when the service of each node is down; for ever, where its host is another node by now.
    down_since: BTreeMap<NodeId, Instant>,
    /// Since when each node cannot be proven available: its service or its daemon is out of action.
    unproven: BTreeMap<NodeId, Instant>,
    /// The node that each host was when it was last looked at.
    nodes: BTreeMap<Host, NodeId>,
    /// Since when each way of the network is blocked.
    blocked: BTreeMap<(Host, Host), Instant>,
    /// Since when each service serves.
    serving: BTreeMap<Host, Instant>,
    /// How each service has stood.
    standing: BTreeMap<Host, proofs::Standing>,
    /// When each command was first written on any disk, at its place: the moment at which it was
    /// decided. Another one may be there in the end.
    decided: BTreeMap<LogIndex, Vec<(Vec<u8>, Decided)>>,
    counted_since: BTreeMap<NodeId, Instant>,
    moments: Vec<Moment>,
    /// Permits under which a service was taken out of action.
    moved: BTreeSet<PermitId>,
    answers: answers::Ledger,
    promises: durable::Promises,
    seats: seats::Seats,
    /// The permits, as the log has them.
    pub(crate) restarts: Restarts,
    /// Whether only samples are taken, as of a mesh that is too large for more.
    pub(crate) sampled: bool,
    /// Where the log was at the last one.
    sampled_at: LogIndex,
    /// The most services of members that did not serve at once while permits were out, in samples.
    pub(crate) most_down: usize,
}

impl Judge {
    /// The first property that did not hold.
    pub(crate) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    pub(crate) fn fail(&mut self, reason: &str) {
        if self.broken.is_none() {
            self.broken = Some(reason.to_owned());
        }
    }

    fn check(&mut self, result: Result<(), String>) {
        if let Err(reason) = result {
            self.fail(&reason);
        }
    }

    pub(crate) fn newest(&self) -> &Fleet {
        &self.newest
    }

    /// `host` sends a frame.
    pub(crate) fn sent(&mut self, hosts: &[Rig], host: Host, frame: &[u8]) {
        if self.sampled {
            return;
        }
        let Some(message) = telling(frame) else { return };
        let Some(rig) = hosts.get(host) else { return };
        let result = self.promises.sent(host, rig, &message);
        self.check(result);
        if let Message::Propose(_, command) = &message {
            if let Command::Begin { permit, .. } = command {
                self.restarts.asked(*permit);
            }
            self.proposed(self.now, rig, host, command);
        }
    }

    /// `host` asks the leader, which it may be itself, for something.
    fn proposed(&mut self, now: Instant, rig: &Rig, host: Host, command: &Command) {
        self.steps.asked(rig.local(now), rig.config.node, command);
        if let Command::Begin { permit, .. } = command
            && let Some(held) = self.newest.permits().get(permit)
            && !held.has_begun()
        {
            let result = durable::asks(host, rig, &held.group, *permit);
            self.check(result);
        }
        if let Command::Close { permit, incarnation, proof } = command {
            let result = proofs::check(self, now, rig, host, *permit, proof);
            self.check(result);
            self.proofs.said(rig.config.node, *permit, *incarnation, proof);
        }
    }

    /// `host` writes a batch; it is not durable yet.
    pub(crate) fn written(&mut self, now: Instant, hosts: &[Rig], host: Host, batch: &Batch) {
        if self.sampled {
            return;
        }
        for (key, value) in &batch.writes {
            if let (Key::Entry(index), Some(value)) = (key, value) {
                self.entry_written(now, hosts, host, *index, value);
            }
            if let (Key::Journal(name), Some(value), Some(rig)) = (key, value, hosts.get(host))
                && *name == group()
            {
                let result = steps::written(self, rig, now, host, value);
                self.check(result);
            }
        }
    }

    fn entry_written(
        &mut self,
        now: Instant,
        hosts: &[Rig],
        host: Host,
        index: LogIndex,
        entry: &[u8],
    ) {
        let Ok(entry) = codec::decode::<LogEntry>(entry) else { return };
        let Some(bytes) = entry.command() else { return };
        let known = self.decided.get(&index).map(Vec::as_slice).unwrap_or_default();
        if known.iter().any(|(written, _)| written == bytes) {
            return;
        }
        let Ok(envelope) = codec::decode::<Envelope>(bytes) else { return };
        let Some(rig) = hosts.get(host) else { return };
        let leads = rig.peer.as_ref().is_some_and(Peer::leads);
        let weighs = matches!(envelope.command, Command::Decide(_) | Command::Begin { .. });
        let unproven = if weighs {
            evidence::unproven(self, now, hosts, leads.then_some(host))
        } else {
            BTreeSet::new()
        };
        let decided = Decided { at: now, unproven };
        self.decided.entry(index).or_default().push((bytes.to_vec(), decided));
        // What a leader asks of itself is no frame. It is seen here, on whatever disk it is first.
        let own = |rig: &Rig| {
            rig.config.node == envelope.by && rig.peer.as_ref().is_some_and(Peer::leads)
        };
        let Some((asker, rig)) = (0..).zip(hosts).find(|(_, rig)| own(rig)) else { return };
        // A proof may have been said some time before, or be one of several that wait for a slow disk.
        let standing = self.standing.get(&asker);
        let late = standing.is_some_and(|it| it.has_just_gone(rig.local(now)));
        match &envelope.command {
            Command::Close { permit, incarnation, proof }
                if late || self.proofs.was_said(envelope.by, *permit, *incarnation, proof) =>
            {
                self.proofs.said(envelope.by, *permit, *incarnation, proof);
            }
            command => self.proposed(now, rig, asker, command),
        }
    }

    /// How it stood when the entry that was committed at `index` was first written.
    fn decided_at(&self, index: LogIndex, bytes: &[u8]) -> Option<Decided> {
        let all = self.decided.get(&index)?;
        all.iter().find(|(written, _)| written == bytes).map(|(_, it)| it.clone())
    }

    /// `host` starts a daemon again, with what its disk has.
    pub(crate) fn found(&mut self, now: Instant, hosts: &[Rig], host: Host) {
        let Some(rig) = hosts.get(host).filter(|_| !self.sampled) else { return };
        let voter = rig.peer.as_ref().and_then(|peer| peer.voter()).map(Voter::id);
        let result = self.promises.found(host, voter, rig.disk.kept());
        self.check(result);
        let life = rig.peer.as_ref().map(|peer| peer.agent().report(rig.local(now)).incarnation);
        let known = self.newest.members().get(&rig.config.node).map(|it| it.incarnation);
        if life.is_some() && life <= known && !rig.restored {
            self.fail(&format!(
                "durable: host {host} starts in life {life:?}, and the log knows of {known:?}"
            ));
        }
    }

    /// `host` is a new node from now on.
    pub(crate) fn reborn(&mut self, host: Host) {
        self.promises.reborn(host);
        self.standing.remove(&host);
        self.serving.remove(&host);
    }

    /// The machine `host` has slept, and is awake now.
    pub(crate) fn slept(&mut self, now: Instant, rig: &Rig, host: Host, by: Duration) {
        self.standing.entry(host).or_default().slept(by, rig.local(now));
    }

    /// The daemon of `host` is gone.
    pub(crate) fn silent(&mut self, now: Instant, host: Host) {
        if let Some(node) = self.nodes.get(&host) {
            self.unproven.entry(*node).or_insert(now);
        }
    }

    /// Ways of the network may be blocked, or free again.
    pub(crate) fn ways(&mut self, blocked: BTreeSet<(Host, Host)>) {
        let now = self.now;
        self.blocked.retain(|way, _| blocked.contains(way));
        for way in blocked {
            self.blocked.entry(way).or_insert(now);
        }
    }

    /// The log as far as anybody has it.
    pub(crate) fn log_end(&self) -> LogIndex {
        self.newest.applied()
    }

    /// `host` answers what it was asked for when the log ended at `since`.
    pub(crate) fn answered(
        &mut self,
        rig: &Rig,
        since: LogIndex,
        operation: &Operation,
        answer: &Result<Answer, Failure>,
    ) {
        if let Some(peer) = &rig.peer {
            self.answers.answered(rig.config.node, peer.fleet(), since, operation, answer);
        }
    }

    /// What has come into the log since the last call.
    pub(crate) fn moments(&mut self) -> Vec<Moment> {
        core::mem::take(&mut self.moments)
    }

    /// k of the group.
    pub(crate) fn limit(&self) -> u32 {
        cap::limit(&self.newest)
    }

    /// A host has taken an input, and does nothing yet of what follows from it: what the log says by now
    /// is what it goes by.
    pub(crate) fn follow(&mut self, now: Instant, hosts: &[Rig], host: Host) {
        let peer = hosts.get(host).and_then(|rig| rig.peer.as_ref());
        if self.sampled {
            return self.follow_permits(now, peer);
        }
        if let Some(peer) = peer
            && peer.fleet().applied() > self.newest.applied()
        {
            self.advance(now, hosts, peer);
        }
    }

    /// In a mesh that is too large for each check at each step: the permits as the leader has them.
    fn follow_permits(&mut self, now: Instant, peer: Option<&Peer>) {
        let Some(peer) = peer.filter(|peer| peer.leads()) else { return };
        if peer.fleet().applied() > self.sampled_at {
            self.sampled_at = peer.fleet().applied();
            self.restarts.follow(now, peer.fleet());
        }
    }

    /// Counts the services, and holds what was taken down against the permits that the leader knows.
    pub(crate) fn sample(&mut self, hosts: &[Rig], leader: Option<&Peer>) {
        let Some(peer) = leader else { return };
        let fleet = peer.fleet();
        let group = fleet.groups().get(&group());
        let counts = |rig: &&Rig| group.is_some_and(|group| group.counts(rig.config.node));
        let down = hosts.iter().filter(|rig| !rig.service.serves()).filter(counts).count();
        if !fleet.permits().is_empty() {
            self.most_down = self.most_down.max(down);
        }
        let truth = cap::ground_truth(fleet, hosts, &self.fenced);
        self.check(truth);
    }

    /// A host has done what follows from an input.
    pub(crate) fn look(&mut self, now: Instant, hosts: &[Rig], host: Host, trace: &mut Trace) {
        if self.sampled {
            return;
        }
        self.note_downs(now, hosts, host);
        let Some(rig) = hosts.get(host) else { return };
        let Some(peer) = &rig.peer else { return };
        let seated = self.seats.leads(host, peer);
        self.check(seated);
        let fleet = peer.fleet();
        let seen = (rig.life, fleet.applied());
        if self.seen.insert(host, seen) != Some(seen) {
            match self.states.check(host, fleet) {
                Ok(hash) => trace.bytes(now, 7, hash.as_ref().map_or(&[], |hash| &hash[..])),
                Err(reason) => self.fail(&reason),
            }
            self.collect_begun(fleet);
        }
        let told = self.answers.check(&self.newest);
        self.check(told);
    }

    /// `peer` is further than anybody was: the judge follows it entry by entry.
    fn advance(&mut self, now: Instant, hosts: &[Rig], peer: &Peer) {
        let next = self.newest.applied().next();
        let mut entries = peer.replica().entries_after(self.newest.applied()).peekable();
        if entries.peek().is_none_or(|(first, _)| *first != next) {
            return self.skip(now, hosts, peer.fleet());
        }
        for (index, entry) in entries {
            self.step(now, hosts, *index, entry);
        }
        if self.newest != *peer.fleet() {
            let applied = self.newest.applied();
            self.fail(&format!("answers: entry {applied} applied in order is another state"));
        }
    }

    /// Some entries are kept nowhere any more: they were too many at once.
    fn skip(&mut self, now: Instant, hosts: &[Rig], fleet: &Fleet) {
        self.answers.skip(self.newest.applied(), fleet.applied());
        let before = core::mem::replace(&mut self.newest, fleet.clone());
        self.moved_on(now, hosts, &before, None);
    }

    fn step(&mut self, now: Instant, hosts: &[Rig], index: LogIndex, entry: &Entry) {
        let before = self.newest.clone();
        let applied = self.newest.apply(index, entry);
        let Entry::Command(bytes) = entry else {
            return self.moved_on(now, hosts, &before, None);
        };
        let decided = self.decided_at(index, bytes);
        self.decided = self.decided.split_off(&index);
        let Ok(envelope) = codec::decode::<Envelope>(bytes) else { return };
        self.moved_on(now, hosts, &before, Some(&Committed { decided, envelope: &envelope }));
        self.answers.committed(envelope, applied);
    }

    /// The log has gone from `before` to the newest state, by `entry`.
    fn moved_on(
        &mut self,
        now: Instant,
        hosts: &[Rig],
        before: &Fleet,
        entry: Option<&Committed<'_>>,
    ) {
        self.restarts.follow(now, &self.newest);
        self.moments.extend(news(before, &self.newest));
        self.remember(now);
        self.collect_begun(&self.newest.clone());
        let mut results = vec![cap::grown(before, &self.newest)];
        for permit in before.permits().values() {
            if self.newest.permits().contains_key(&permit.id) {
                continue;
            }
            if let Some(Command::Override { fenced, .. }) = entry.map(|it| &it.envelope.command) {
                self.overridden.insert(permit.id);
                self.fenced.extend(fenced.then_some(permit.node));
            }
            results.push(closing::check(self, hosts, permit, entry));
        }
        results.push(cap::ground_truth(&self.newest, hosts, &self.fenced));
        results.push(evidence::check(self, now, hosts, before, entry));
        results.push(self.seats.check(&self.newest));
        for result in results {
            self.check(result);
        }
    }

    /// Follows what the checks look back at: the cap, and who counts.
    fn remember(&mut self, now: Instant) {
        let limit = cap::limit(&self.newest);
        if self.limits.last().is_none_or(|(_, last)| *last != limit) {
            self.limits.push((now, limit));
        }
        let group = self.newest.groups().get(&group());
        let counted: BTreeSet<_> = group.into_iter().flat_map(|it| it.counted()).collect();
        self.counted_since.retain(|node, _| counted.contains(node));
        for node in counted {
            self.counted_since.entry(node).or_insert(now);
        }
    }

    /// Whether `node` counts, and did at `then`.
    fn counted_at(&self, node: NodeId, then: Instant) -> bool {
        self.counted_since.get(&node).is_some_and(|since| *since < then)
    }

    fn collect_begun(&mut self, fleet: &Fleet) {
        for permit in fleet.permits().values() {
            if let PermitPhase::Begun { incarnation, nonce } = permit.phase {
                let begun = (permit.node, incarnation, nonce);
                self.begun.entry(permit.id).or_default().insert(begun);
            }
        }
    }

    /// The service of a host has changed, whatever its daemon does.
    pub(crate) fn service_changed(&mut self, now: Instant, hosts: &[Rig], host: Host) {
        if self.sampled {
            return;
        }
        self.note_downs(now, hosts, host);
        let truth = cap::ground_truth(&self.newest, hosts, &self.fenced);
        self.check(truth);
    }

    fn note_downs(&mut self, now: Instant, hosts: &[Rig], host: Host) {
        let Some(rig) = hosts.get(host) else { return };
        self.standing.entry(host).or_default().note(rig.local(now), &rig.service);
        let node = rig.config.node;
        self.nodes.insert(host, node);
        if rig.service.serves() {
            self.down_since.remove(&node);
            self.serving.entry(host).or_insert(now);
        } else {
            self.down_since.entry(node).or_insert(now);
            self.serving.remove(&host);
        }
        if rig.service.serves() && rig.peer.is_some() && rig.stopped.is_none() {
            self.unproven.remove(&node);
        } else {
            self.unproven.entry(node).or_insert(now);
        }
    }

    /// A host's agent is about to do this to its service.
    pub(crate) fn acts(&mut self, now: Instant, hosts: &[Rig], host: Host, action: &ServiceAction) {
        let Some(rig) = hosts.get(host).filter(|_| !self.sampled) else { return };
        if let ServiceAction::Start { release } = action {
            let result = durable::starts(host, rig, &group(), *release);
            self.check(result);
        }
        let group = self.newest.groups().get(&group());
        if !group.is_some_and(|it| it.counts(rig.config.node)) {
            return;
        }
        let stepped = steps::check(self, rig, now, host, action);
        self.check(stepped);
        if !rig.service.is_disruptive(action) {
            return;
        }
        let admitted = admission::check(self, now, hosts, host);
        self.check(admitted);
        if let Some(permit) = self.newest.permit_of(rig.config.node) {
            let result = durable::moves(host, rig, &permit.group, permit.id);
            self.moved.insert(permit.id);
            self.check(result);
        }
    }

    /// The most that may be down, over the last while.
    fn limit_of_late(&self, now: Instant, window: Duration) -> u32 {
        let mut most = 0;
        for (at, limit) in self.limits.iter().rev() {
            most = most.max(*limit);
            if now.since(*at) > window {
                break;
            }
        }
        most
    }
}

/// What an observer of the log sees come.
fn news(before: &Fleet, after: &Fleet) -> Vec<Moment> {
    let mut news = Vec::new();
    for permit in after.permits().values() {
        let old = before.permits().get(&permit.id);
        if old.is_none() {
            news.push(Moment::Granted(permit.node));
        }
        if permit.has_begun() && !old.is_some_and(Permit::has_begun) {
            news.push(Moment::Begun(permit.node));
        }
        if permit.failure.is_some() && old.is_none_or(|old| old.failure.is_none()) {
            news.push(Moment::Failed(permit.node));
        }
    }
    let gone = before.permits().values().filter(|it| !after.permits().contains_key(&it.id));
    news.extend(gone.map(|permit| Moment::Closed(permit.node)));
    let last = |fleet: &Fleet| {
        fleet.groups().get(&group()).and_then(|it| it.rollouts.last()).map(|it| it.id)
    };
    if last(after) > last(before) {
        news.push(Moment::Created);
    }
    if after.voters() != before.voters() {
        news.push(Moment::Voters);
    }
    news
}

/// The frames that the judge reads: applications, what voters say, and what the leader is asked for.
/// Most frames are others, and cost nothing here.
fn telling(frame: &[u8]) -> Option<Message> {
    // The version byte, then the variant.
    const APPLY: u8 = 1;
    const VOTER: u8 = 5;
    const PROPOSE: u8 = 7;
    if !matches!(frame.get(1), Some(&(APPLY | VOTER | PROPOSE))) {
        return None;
    }
    codec::decode(frame).ok()
}

#[cfg(test)]
mod tests {
    use baton_protocol::fleet::command::Candidate;
    use baton_protocol::rng::Rng;

    use super::*;
    use crate::mesh::Mesh;
    use crate::shape::Shape;

    /// Were a variant to move, the judge would go deaf without a word.
    #[test]
    fn the_frames_that_the_judge_reads_are_those_that_it_means() {
        let mut rng = Rng::new(1);
        let config = Mesh::new(&mut rng).config(1, false, &Shape::calm(3), &mut rng);
        let apply = Message::Apply(Candidate {
            certificate: config.certificate,
            name: config.name,
            zone: None,
            addresses: Vec::new(),
            incarnation: Incarnation(1),
        });
        let propose = Message::Propose(1, Command::Live { incarnation: Incarnation(1) });
        for message in [apply, propose] {
            assert_eq!(telling(&codec::encode(&message)), Some(message));
        }
        // A voter's "append", as its golden form has it.
        let frame = [1, 5, 1, 2, 4, 5, 3, 0, 7, 2, 6, 1, 3, 8, 1, 2, 0xaa, 0xbb];
        assert!(matches!(telling(&frame), Some(Message::Voter(_))));
    }
}
