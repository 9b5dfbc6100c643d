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
mod seats;
mod steps;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use baton_protocol::agent::unit::ServiceAction;
use baton_protocol::consensus::Voter;
use baton_protocol::disk::{Batch, Key};
use baton_protocol::fleet::Fleet;
use baton_protocol::fleet::command::{Command, Proof};
use baton_protocol::fleet::permit::{Permit, PermitPhase};
use baton_protocol::id::{Incarnation, LogIndex, NodeId, Nonce, PermitId};
use baton_protocol::peer::{Answer, Failure, Operation};
use baton_protocol::time::Instant;
use baton_protocol::wire::Message;

use crate::event::Host;
use crate::mesh::group;
use crate::rig::Rig;
use crate::trace::Trace;
use crate::traps::Moment;

/// One `Begin` that some replica has committed.
type Begun = (NodeId, Incarnation, Nonce);

/// Judges a run.
#[derive(Default)]
pub(crate) struct Judge {
    broken: Option<String>,
    /// How far each host was when it was last looked at, and in which life.
    seen: BTreeMap<Host, (u64, LogIndex)>,
    states: agreement::States,
    /// The most advanced state that any host has applied.
    newest: Fleet,
    begun: BTreeMap<PermitId, BTreeSet<Begun>>,
    closings: BTreeSet<PermitId>,
    /// Those of them whose holder says that it has moved nothing.
    handed_back: BTreeSet<PermitId>,
    overridden: BTreeSet<PermitId>,
    /// Nodes that a person has stated to be fenced.
    fenced: BTreeSet<NodeId>,
    leaders: BTreeSet<NodeId>,
    limits: Vec<(Instant, u32)>,
    down_since: BTreeMap<Host, Instant>,
    /// Since when each host cannot be proven available: its service or its daemon is out of action.
    unproven: BTreeMap<Host, Instant>,
    /// Since when each service serves.
    serving: BTreeMap<Host, Instant>,
    /// When each entry was first written on any disk: the moment at which it was decided.
    decided: BTreeMap<LogIndex, Instant>,
    counted_since: BTreeMap<NodeId, Instant>,
    moments: Vec<Moment>,
    /// Permits under which a service was taken out of action.
    moved: BTreeSet<PermitId>,
    ledger: answers::Ledger,
    promises: durable::Promises,
    seats: seats::Seats,
    /// Permits that were ever open: how many restarts a run took.
    pub(crate) granted: u64,
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
        self.ledger.read(frame);
        let Some(message) = telling(frame) else { return };
        if let Message::Propose(_, Command::Close { permit, proof, .. }) = &message {
            self.closings.insert(*permit);
            if *proof == Proof::NeverBegan {
                self.handed_back.insert(*permit);
            }
        }
        let Some(rig) = hosts.get(host) else { return };
        let result = self.promises.sent(host, rig, &message);
        self.check(result);
    }

    /// `host` writes a batch; it is not durable yet.
    pub(crate) fn written(&mut self, now: Instant, batch: &Batch) {
        for (key, value) in &batch.writes {
            if let (Key::Entry(index), Some(_)) = (key, value) {
                self.decided.entry(*index).or_insert(now);
            }
        }
    }

    /// `host` starts a daemon again, with what its disk has.
    pub(crate) fn found(&mut self, now: Instant, hosts: &[Rig], host: Host) {
        let Some(rig) = hosts.get(host) else { return };
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
        self.serving.remove(&host);
    }

    /// The daemon of `host` is gone.
    pub(crate) fn silent(&mut self, now: Instant, host: Host) {
        self.unproven.entry(host).or_insert(now);
    }

    /// A person asks for something.
    pub(crate) fn asked(&mut self, operation: &Operation) {
        match operation {
            Operation::Override { permit, fenced: true, .. } => self.overridden.insert(*permit),
            Operation::Override { permit, .. } => self.closings.insert(*permit),
            _ => false,
        };
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
            self.ledger.answered(rig.config.node, peer.fleet(), since, operation, answer);
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

    /// A host has taken an input.
    pub(crate) fn look(&mut self, now: Instant, hosts: &[Rig], host: Host, trace: &mut Trace) {
        self.note_downs(now, hosts, host);
        let Some(rig) = hosts.get(host) else { return };
        let Some(peer) = &rig.peer else { return };
        if peer.leads() {
            self.leaders.insert(rig.config.node);
        }
        let seated = self.seats.leads(host, peer);
        self.check(seated);
        let fleet = peer.fleet();
        let seen = (rig.life, fleet.applied());
        if self.seen.insert(host, seen) == Some(seen) {
            return;
        }
        match self.states.check(host, fleet) {
            Ok(hash) => trace.bytes(now, 7, hash.as_ref().map_or(&[], |hash| &hash[..])),
            Err(reason) => self.fail(&reason),
        }
        self.collect_begun(fleet);
        if fleet.applied() > self.newest.applied() {
            self.advance(now, hosts, fleet);
        }
        let told = self.ledger.check(&self.newest);
        self.check(told);
    }

    fn advance(&mut self, now: Instant, hosts: &[Rig], fleet: &Fleet) {
        let before = core::mem::replace(&mut self.newest, fleet.clone());
        let gone: Vec<&Permit> = before
            .permits()
            .values()
            .filter(|permit| !self.newest.permits().contains_key(&permit.id))
            .collect();
        let fresh = self.newest.permits().keys().filter(|id| !before.permits().contains_key(id));
        self.granted += fresh.count() as u64;
        self.moments.extend(news(&before, &self.newest));
        self.remember(now);
        let mut results = vec![cap::grown(&before, &self.newest)];
        for permit in gone {
            if self.overridden.contains(&permit.id) {
                self.fenced.insert(permit.node);
            }
            results.push(closing::check(self, hosts, permit));
        }
        results.push(cap::ground_truth(&self.newest, hosts, &self.fenced));
        results.push(evidence::check(self, now, hosts, &before));
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

    fn note_downs(&mut self, now: Instant, hosts: &[Rig], host: Host) {
        let Some(rig) = hosts.get(host) else { return };
        if rig.service.serves() {
            self.down_since.remove(&host);
            self.serving.entry(host).or_insert(now);
        } else {
            self.down_since.entry(host).or_insert(now);
            self.serving.remove(&host);
        }
        if rig.service.serves() && rig.peer.is_some() {
            self.unproven.remove(&host);
        } else {
            self.unproven.entry(host).or_insert(now);
        }
    }

    /// A host's agent is about to do this to its service.
    pub(crate) fn acts(&mut self, now: Instant, hosts: &[Rig], host: Host, action: &ServiceAction) {
        let Some(rig) = hosts.get(host) else { return };
        if let ServiceAction::Start { release } = action {
            let result = durable::starts(host, rig, &group(), *release);
            self.check(result);
        }
        let counts =
            self.newest.groups().get(&group()).is_some_and(|it| it.counts(rig.config.node));
        if !counts || !rig.service.is_disruptive(action) {
            return;
        }
        let results =
            [steps::check(self, rig, now, host, action), admission::check(self, now, hosts, host)];
        for result in results {
            self.check(result);
        }
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
    baton_protocol::codec::decode(frame).ok()
}

#[cfg(test)]
mod tests {
    use baton_protocol::codec;
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
