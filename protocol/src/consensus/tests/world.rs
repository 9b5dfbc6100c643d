//! A small world for voters: one queue of events, virtual time, a network that loses and delays, and
//! disks that lose in a crash what was not synced. The properties are checked at every output.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::*;
use crate::disk::{Batch, Key, Token, Value};
use crate::id::{LogIndex, NodeId, VoterId};
use crate::machine::Machine;
use crate::rng::Rng;
use crate::time::Instant;

/// What a run does to its voters.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// Messages lost, of a hundred.
    pub loss: u64,
    /// The slowest message, in milliseconds.
    pub delay: u64,
    /// The slowest sync, in milliseconds.
    pub sync: u64,
    /// Snapshot fetches that fail, of a hundred.
    pub fetch_loss: u64,
    /// A deliberate mistake: batches are confirmed before they are synced.
    pub confirms_early: bool,
}

pub const CALM: Faults =
    Faults { loss: 0, delay: 5, sync: 5, fetch_loss: 0, confirms_early: false };

#[derive(Clone, Debug)]
enum Event {
    Wake { voter: VoterId, life: u64 },
    Deliver { from: NodeId, to: VoterId, message: VoterMessage },
    Synced { voter: VoterId, life: u64 },
    Fetched { voter: VoterId, life: u64, from: NodeId, index: LogIndex, hash: [u8; 32] },
}

/// The state machine of the tests: a hash over all entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub applied: u64,
    digest: [u8; 32],
}

impl State {
    fn apply(&mut self, index: LogIndex, entry: &Entry) {
        let text = format!("{:?} {index} {entry:?}", self.digest);
        self.digest = *blake3::hash(text.as_bytes()).as_bytes();
        self.applied = index.0;
    }

    fn to_bytes(self) -> Vec<u8> {
        [&self.applied.to_le_bytes()[..], &self.digest].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let (applied, digest) = bytes.split_first_chunk().unwrap();
        Self { applied: u64::from_le_bytes(*applied), digest: digest.try_into().unwrap() }
    }
}

pub struct Host {
    pub node: NodeId,
    pub voter: Option<Voter>,
    pub disk: BTreeMap<Key, Value>,
    unsynced: VecDeque<Batch>,
    life: u64,
    pub state: State,
    pub failed: Option<String>,
}

/// Everything, and what must hold of it.
pub struct World {
    pub now: Instant,
    pub rng: Rng,
    pub faults: Faults,
    pub hosts: BTreeMap<VoterId, Host>,
    queue: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    /// Pairs of nodes that cannot hear each other.
    pub cut: BTreeSet<(NodeId, NodeId)>,
    /// What was committed, by whomever first, and the state after it.
    pub truth: BTreeMap<u64, (Entry, State)>,
    /// Who led in which term.
    pub leaders: BTreeMap<u64, VoterId>,
    /// Handles whose commit was told, and how proposals were rejected.
    pub done: BTreeMap<u64, LogIndex>,
    pub rejected: BTreeMap<u64, Rejection>,
    pub refused: Vec<Refusal>,
    pub installs: u64,
    /// Questions for a snapshot that get no answer from now on.
    pub unanswered: u32,
    /// Messages sent by each voter.
    pub sent: BTreeMap<VoterId, u64>,
    pub strangers: Vec<VoterId>,
    next_handle: u64,
    next_voter: u64,
    trace: blake3::Hasher,
    config: Config,
}

pub fn node_of(voter: VoterId) -> NodeId {
    NodeId([u8::try_from(voter.0).unwrap(); 32])
}

impl World {
    pub fn new(seed: u64, faults: Faults) -> Self {
        let config = Config { seed, snapshot_every: 12, keep_behind: 4 };
        Self::with_config(config, faults)
    }

    pub fn with_config(config: Config, faults: Faults) -> Self {
        let mut world = Self {
            now: Instant::ZERO,
            rng: Rng::new(config.seed),
            faults,
            hosts: BTreeMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            cut: BTreeSet::new(),
            truth: BTreeMap::new(),
            leaders: BTreeMap::new(),
            done: BTreeMap::new(),
            rejected: BTreeMap::new(),
            refused: Vec::new(),
            installs: 0,
            unanswered: 0,
            sent: BTreeMap::new(),
            strangers: Vec::new(),
            next_handle: 1,
            next_voter: 2,
            trace: blake3::Hasher::new(),
            config,
        };
        let first = VoterId(1);
        let config = world.config.clone();
        let voter = Voter::found(config, first, node_of(first), world.now, None).unwrap();
        world.place(first, voter);
        world
    }

    /// A mesh of `size` voters, grown from one.
    pub fn grown(seed: u64, size: usize, faults: Faults) -> Self {
        let mut world = Self::new(seed, CALM);
        world.settle();
        world.grow(size);
        world.faults = faults;
        world
    }

    pub fn grow(&mut self, size: usize) {
        let leader = self.leader().unwrap();
        let missing = size - self.hosts[&leader].voter.as_ref().unwrap().membership().voters.len();
        let new: Vec<VoterId> = (0..missing).map(|_| self.add_learner()).collect();
        self.replace(&new, &[]);
    }

    fn place(&mut self, id: VoterId, voter: Voter) {
        let life = self.hosts.get(&id).map_or(0, |host| host.life) + 1;
        let host = self.hosts.entry(id).or_insert_with(|| Host {
            node: node_of(id),
            voter: None,
            disk: BTreeMap::new(),
            unsynced: VecDeque::new(),
            life,
            state: State::default(),
            failed: None,
        });
        host.life = life;
        host.state = State::default();
        host.voter = Some(voter);
        self.follow_up(id);
        self.introduce();
    }

    /// Tells every voter where the others live, as its owner would from the roster.
    fn introduce(&mut self) {
        let all: BTreeMap<_, _> = self.hosts.iter().map(|(id, host)| (*id, host.node)).collect();
        for id in self.ids() {
            self.input(id, Input::Introduce(all.clone()));
        }
    }

    pub fn ids(&self) -> Vec<VoterId> {
        self.hosts.keys().copied().collect()
    }

    pub fn alive(&self) -> Vec<VoterId> {
        let alive = self.hosts.iter().filter(|(_, host)| host.voter.is_some());
        alive.map(|(id, _)| *id).collect()
    }

    pub fn voter(&self, id: VoterId) -> &Voter {
        self.hosts[&id].voter.as_ref().unwrap()
    }

    /// The leader of the highest term that lives.
    pub fn leader(&self) -> Option<VoterId> {
        let leads = |host: &Host| match host.voter.as_ref()?.role() {
            Role::Leader { term } => Some(term),
            _ => None,
        };
        let leaders =
            self.hosts.iter().filter_map(|(id, host)| leads(host).map(|term| (term, *id)));
        leaders.max().map(|(_, id)| id)
    }

    pub fn members(&self) -> Membership {
        self.voter(self.leader().unwrap()).membership().clone()
    }

    fn at(&mut self, delay: Duration, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now.after(delay), self.sequence), event);
    }

    pub fn input(&mut self, id: VoterId, input: Input) {
        let now = self.now;
        let Some(voter) = self.hosts.get_mut(&id).and_then(|host| host.voter.as_mut()) else {
            return;
        };
        voter.handle(now, input);
        self.follow_up(id);
    }

    /// Carries out what a voter wants done.
    fn follow_up(&mut self, id: VoterId) {
        while let Some(output) =
            self.hosts.get_mut(&id).unwrap().voter.as_mut().unwrap().poll_output()
        {
            self.trace.update(format!("{:?} {id} {output:?}\n", self.now).as_bytes());
            self.carry_out(id, output);
        }
        let host = &self.hosts[&id];
        let (life, due) = (host.life, host.voter.as_ref().unwrap().poll_timeout());
        let armed = self.queue.values().any(
            |event| matches!(event, Event::Wake { voter, life: of } if *voter == id && *of == life),
        );
        if let (Some(due), false) = (due, armed) {
            self.at(due.since(self.now), Event::Wake { voter: id, life });
        }
    }

    fn millis(&mut self, most: u64) -> Duration {
        Duration::from_micros(200 + self.rng.below(most * 1000))
    }

    fn carry_out(&mut self, id: VoterId, output: Output) {
        let life = self.hosts[&id].life;
        match output {
            Output::Persist(batch) => self.persist(id, batch),
            Output::Send { to, message } => self.send(id, to, message),
            Output::Committed { index, entry, handle } => {
                if let Some(handle) = handle {
                    self.done.insert(handle, index);
                }
                self.committed(id, index, entry);
            }
            Output::Install { index, snapshot, .. } => {
                let state = State::from_bytes(&snapshot);
                assert_eq!(state.applied, index.0);
                assert_eq!(state, self.truth[&index.0].1, "{id} installs what never was");
                self.hosts.get_mut(&id).unwrap().state = state;
                self.installs += 1;
            }
            Output::WantSnapshot { at } => {
                let state = self.hosts[&id].state;
                assert_eq!(state.applied, at.0, "asked for another place than it has handed out");
                if self.unanswered > 0 {
                    self.unanswered -= 1;
                    return;
                }
                self.input(id, Input::SnapshotReady { index: at, data: state.to_bytes() });
            }
            Output::NeedSnapshot { from, index, hash, .. } => {
                let delay = self.millis(self.faults.delay * 3);
                self.at(delay, Event::Fetched { voter: id, life, from, index, hash: hash.0 });
            }
            Output::Role(Role::Leader { term }) => {
                let leader = *self.leaders.entry(term).or_insert(id);
                assert_eq!(leader, id, "two leaders in term {term}");
            }
            Output::Role(_) | Output::Proposed { .. } => {}
            Output::Rejected { handle, reason, .. } => {
                self.rejected.insert(handle, reason);
            }
            Output::Refused(refusal) => self.refused.push(refusal),
            Output::Stranger { voter, .. } => self.strangers.push(voter),
            Output::Failed(reason) => self.hosts.get_mut(&id).unwrap().failed = Some(reason),
        }
    }

    fn committed(&mut self, id: VoterId, index: LogIndex, entry: Entry) {
        let host = self.hosts.get_mut(&id).unwrap();
        assert_eq!(host.state.applied + 1, index.0, "{id} skips or repeats an entry");
        host.state.apply(index, &entry);
        let state = host.state;
        let truth = self.truth.entry(index.0).or_insert((entry.clone(), state));
        assert_eq!(truth.0, entry, "{id} has another entry at {index}");
        assert_eq!(truth.1, state, "{id} came to {index} another way");
    }

    fn persist(&mut self, id: VoterId, batch: Batch) {
        let token = batch.token;
        let life = self.hosts[&id].life;
        self.hosts.get_mut(&id).unwrap().unsynced.push_back(batch);
        let delay = self.millis(self.faults.sync);
        self.at(delay, Event::Synced { voter: id, life });
        if self.faults.confirms_early {
            self.input(id, Input::Persisted(token));
        }
    }

    fn send(&mut self, id: VoterId, to: NodeId, message: VoterMessage) {
        let from = self.hosts[&id].node;
        *self.sent.entry(id).or_default() += 1;
        if self.rng.chance(self.faults.loss, 100) {
            return;
        }
        let delay = self.millis(self.faults.delay);
        let to_voter = message.to;
        assert_eq!(node_of(to_voter), to);
        self.at(delay, Event::Deliver { from, to: to_voter, message });
    }

    /// Lets the next event happen, if it is due before `end`.
    fn step(&mut self, end: Instant) -> bool {
        let Some((at, sequence)) = self.queue.keys().next().copied() else { return false };
        if at > end {
            return false;
        }
        let event = self.queue.remove(&(at, sequence)).unwrap();
        self.now = at;
        match event {
            Event::Wake { voter, life } if self.lives(voter, life) => {
                self.input(voter, Input::Timeout);
            }
            Event::Deliver { from, to, message } if !self.cut.contains(&(from, node_of(to))) => {
                self.input(to, Input::Message { from, message });
            }
            Event::Synced { voter, life } if self.lives(voter, life) => self.synced(voter),
            Event::Fetched { voter, life, from, index, hash } if self.lives(voter, life) => {
                self.fetched(voter, from, index, hash);
            }
            _ => {}
        }
        true
    }

    fn lives(&self, voter: VoterId, life: u64) -> bool {
        let host = &self.hosts[&voter];
        host.voter.is_some() && host.life == life
    }

    /// Batches reach the disk in their order, whichever sync ends first.
    fn synced(&mut self, id: VoterId) {
        let host = self.hosts.get_mut(&id).unwrap();
        let batch = host.unsynced.pop_front().unwrap();
        let token: Token = batch.token;
        write(&mut host.disk, batch);
        if !self.faults.confirms_early {
            self.input(id, Input::Persisted(token));
        }
    }

    fn fetched(&mut self, id: VoterId, from: NodeId, index: LogIndex, hash: [u8; 32]) {
        let source = self.hosts.values().find(|host| host.node == from);
        let snapshot = source.and_then(|host| host.voter.as_ref()?.snapshot());
        let data = snapshot.filter(|(meta, _)| meta.hash.0 == hash).map(|(_, data)| data.to_vec());
        let lost = self.rng.chance(self.faults.fetch_loss, 100);
        let cut = self.cut.contains(&(from, node_of(id)));
        self.input(
            id,
            match data {
                Some(data) if !lost && !cut => Input::SnapshotFetched { index, data },
                _ => Input::SnapshotFailed { index },
            },
        );
    }

    pub fn run(&mut self, millis: u64) {
        let end = self.now.after(Duration::from_millis(millis));
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until `done`, for 60 s at most.
    #[track_caller]
    pub fn run_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let end = self.now.after(Duration::from_secs(60));
        while !done(self) {
            assert!(self.step(end), "never: {what}; {}", self.describe());
        }
    }

    pub fn describe(&self) -> String {
        let hosts = self.hosts.iter().map(|(id, host)| match &host.voter {
            Some(voter) => format!(
                "{id}: {:?} applied {} failed {:?} dropped {:?} members {:?}",
                voter.role(),
                voter.applied(),
                host.failed,
                voter.dropped(),
                names(voter.membership()),
            ),
            None => format!("{id}: down"),
        });
        hosts.collect::<Vec<_>>().join("\n")
    }

    /// Runs until there is a leader and all members that live have what it has.
    #[track_caller]
    pub fn settle(&mut self) {
        self.run_until("a settled mesh", |world| {
            let Some(leader) = world.leader() else { return false };
            let leader = world.voter(leader);
            let last = world.truth.keys().last().copied().unwrap_or(0);
            let live = |id: &VoterId| world.hosts.get(id).is_some_and(|host| host.voter.is_some());
            let members = leader.membership();
            let level = |(id, _): (VoterId, NodeId)| {
                !live(&id) || world.voter(id).applied() == leader.applied()
            };
            leader.applied().0 == last && !members.is_joint() && members.all().all(level)
        });
    }

    pub fn crash(&mut self, id: VoterId) {
        let host = self.hosts.get_mut(&id).unwrap();
        host.voter = None;
        host.unsynced.clear();
        self.broken(id);
    }

    /// A crash in which some of the batches, from the first on, just made it to the disk.
    pub fn crash_mid_write(&mut self, id: VoterId) {
        let host = self.hosts.get_mut(&id).unwrap();
        let kept = self.rng.below(host.unsynced.len() as u64 + 1);
        for _ in 0..kept {
            write(&mut host.disk, host.unsynced.pop_front().unwrap());
        }
        self.crash(id);
    }

    pub fn restart(&mut self, id: VoterId) {
        let host = &self.hosts[&id];
        let config = self.config.clone();
        let voter = match Voter::restore(config.clone(), self.now, &host.disk) {
            Ok(voter) => voter,
            // It was new and had said nothing yet: it begins again.
            Err(RestoreError::NoVoter) => Voter::join(config, id, host.node, self.now).unwrap(),
            Err(error) => panic!("{id}: {error}"),
        };
        self.place(id, voter);
        self.reconnect(id);
    }

    fn broken(&mut self, id: VoterId) {
        let node = node_of(id);
        for other in self.ids() {
            if other != id {
                self.input(other, Input::PeerLost(node));
            }
        }
    }

    fn reconnect(&mut self, id: VoterId) {
        let node = node_of(id);
        for other in self.ids() {
            if other != id {
                self.input(other, Input::PeerConnected(node));
                self.input(id, Input::PeerConnected(node_of(other)));
            }
        }
    }

    /// The stream between two voters breaks and opens again; what was under way comes late.
    pub fn flap(&mut self, a: VoterId, b: VoterId) {
        for (one, other) in [(a, b), (b, a)] {
            self.input(one, Input::PeerLost(node_of(other)));
            self.input(one, Input::PeerConnected(node_of(other)));
        }
    }

    pub fn isolate(&mut self, id: VoterId) {
        for other in self.ids() {
            self.cut.insert((node_of(id), node_of(other)));
            self.cut.insert((node_of(other), node_of(id)));
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
        for id in self.alive() {
            self.reconnect(id);
        }
    }

    /// Proposes at `id` and gives the handle.
    pub fn propose_at(&mut self, id: VoterId) -> u64 {
        let handle = self.next_handle;
        self.next_handle += 1;
        self.input(id, Input::Propose { handle, command: handle.to_le_bytes().to_vec() });
        handle
    }

    /// Gets `count` commands committed, each by as many tries as it takes.
    #[track_caller]
    pub fn commit(&mut self, count: usize) {
        for _ in 0..count {
            let end = self.now.after(Duration::from_secs(60));
            while !self.try_commit() {
                assert!(self.now < end, "nothing is committed: {}", self.describe());
                self.run(50);
            }
        }
    }

    fn try_commit(&mut self) -> bool {
        self.run_until("a leader", |world| world.leader().is_some());
        let handle = self.propose_at(self.leader().unwrap());
        self.run(500);
        self.done.contains_key(&handle)
    }

    /// A new host that has not been told to the leader yet.
    pub fn new_host(&mut self) -> VoterId {
        let id = VoterId(self.next_voter);
        self.next_voter += 1;
        let voter = Voter::join(self.config.clone(), id, node_of(id), self.now).unwrap();
        self.place(id, voter);
        id
    }

    pub fn add_learner(&mut self) -> VoterId {
        let id = self.new_host();
        let leader = self.leader().unwrap();
        self.input(leader, Input::AddLearner { voter: id, node: node_of(id) });
        self.run_until("a learner", |world| {
            world.leader().is_some() && world.members().learners.contains_key(&id)
        });
        id
    }

    pub fn replace(&mut self, promote: &[VoterId], remove: &[VoterId]) {
        let leader = self.leader().unwrap();
        let (promote, remove) = (promote.to_vec(), remove.to_vec());
        self.input(leader, Input::ReplaceVoters { promote, remove });
        self.run(50);
        self.settle();
    }

    pub fn trace(&self) -> String {
        self.trace.finalize().to_string()
    }
}

pub fn names(members: &Membership) -> (Vec<u64>, Vec<u64>, Vec<u64>) {
    let ids = |set: &BTreeMap<VoterId, NodeId>| set.keys().map(|id| id.0).collect();
    (ids(&members.voters), ids(&members.learners), ids(&members.outgoing))
}

fn write(disk: &mut BTreeMap<Key, Value>, batch: Batch) {
    for (key, value) in batch.writes {
        match value {
            Some(value) => disk.insert(key, value),
            None => disk.remove(&key),
        };
    }
}
