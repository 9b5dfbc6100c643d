//! The voter itself: how it begins, and what it does with each input. Its parts are in the files
//! beside this one.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use slog::{Discard, Logger, o};

use super::book::Book;
use super::config::{Config, HEARTBEAT_TICKS, TICK, TICKS_PER_WAKE_MAX};
use super::election::Election;
use super::entry::{Body, LogEntry};
use super::event::{Dropped, Input, Output, Role};
use super::membership::{Change, Membership};
use super::message::SnapshotMeta;
use super::outbox::{Outbox, Step};
use super::raft_types::{INVALID_ID, RaftError, RaftHardState, RawNode, StateRole};
use super::session::Sessions;
use super::snapshot::{Fetching, Wanted};
use super::storage::LogStore;
use super::stored::{Identity, RestoreError, Stored, read_all, write_entry, write_hard_state};
use crate::disk::{Key, Value, Write};
use crate::id::{LogIndex, NodeId, VoterId};
use crate::machine::Machine;
use crate::time::Instant;

/// One voter of the consensus: a facade over the library.
///
/// It holds every message back until what the message depends on is durable, hands out each
/// committed entry once and in order, and ends itself, not its node, when the library panics.
pub struct Voter {
    pub(super) id: VoterId,
    pub(super) config: Config,
    pub(super) raft: RawNode<LogStore>,
    pub(super) members: Membership,
    pub(super) book: Book,
    pub(super) sessions: Sessions,
    pub(super) election: Election,
    pub(super) outbox: Outbox,
    pub(super) outputs: VecDeque<Output>,
    pub(super) role: Role,
    pub(super) now: Instant,
    last_tick: Instant,
    /// Terms and handles of the proposals made here, by their place in the log.
    pub(super) proposals: BTreeMap<LogIndex, (u64, u64)>,
    pub(super) wanted: Option<Wanted>,
    pub(super) fetching: Option<Fetching>,
    /// The verified snapshot that the library is just being told of.
    pub(super) arriving: Option<(SnapshotMeta, Arc<[u8]>)>,
    /// When each voter was last heard.
    pub(super) heard: BTreeMap<VoterId, Instant>,
    /// For how many ticks each member has been fetching a snapshot.
    pub(super) offered: BTreeMap<VoterId, u32>,
    pub(super) dropped: BTreeMap<Dropped, u64>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The first entry of a new log is not durable yet.
    Founding,
    Running,
    Failed,
}

impl Voter {
    /// The first voter of a new mesh: its log begins with the entry that makes it the only voter, and
    /// then has `command`. Both are in its first batch, so that a crash leaves all of it or nothing.
    ///
    /// # Errors
    /// `voter` is 0, or the library refuses to begin.
    pub fn found(
        config: Config,
        voter: VoterId,
        node: NodeId,
        now: Instant,
        command: Option<Vec<u8>>,
    ) -> Result<Self, RestoreError> {
        let change = Body::Change(Change::Found { voter, node });
        let bodies = [Some(change), command.map(Body::Command)];
        let first: Vec<_> = (1..)
            .zip(bodies.into_iter().flatten())
            .map(|(index, body)| LogEntry { term: 1, index: LogIndex(index), body })
            .collect();
        let entries: Result<_, _> = first.iter().map(LogEntry::to_raft).collect();
        let entries = entries.map_err(|error| RestoreError::Refused(error.to_string()))?;
        let state = RaftHardState { term: 1, commit: 1, ..RaftHardState::default() };
        let identity = Identity { voter, node, life: 1 };
        let mut writes = vec![identity.write(), write_hard_state(&state)];
        writes.extend(first.iter().map(write_entry));
        let log = LogStore::new(state, (0, 0), entries, None);
        let mut founder = Self::begin(config, identity, log, now)?;
        founder.phase = Phase::Founding;
        founder.start(1, writes);
        Ok(founder)
    }

    /// A new voter on an empty disk, which the leader is told to make a learner. Until it is
    /// introduced to the others it believes nobody.
    ///
    /// # Errors
    /// `voter` is 0.
    pub fn join(
        config: Config,
        voter: VoterId,
        node: NodeId,
        now: Instant,
    ) -> Result<Self, RestoreError> {
        let identity = Identity { voter, node, life: 1 };
        let mut joiner = Self::begin(config, identity, LogStore::default(), now)?;
        joiner.start(0, vec![identity.write()]);
        Ok(joiner)
    }

    /// A voter after a restart, from what its batches have left on its disk. It hands out its
    /// snapshot, if it has one, and then the committed entries after it.
    ///
    /// # Errors
    /// What is stored cannot be read or contradicts itself. The voter is then to be replaced by one
    /// with a new id.
    pub fn restore(
        config: Config,
        now: Instant,
        stored: &BTreeMap<Key, Value>,
    ) -> Result<Self, RestoreError> {
        let Stored { identity, term, log, snapshot } = read_all(stored)?;
        let identity = Identity { life: identity.life.saturating_add(1), ..identity };
        let mut voter = Self::begin(config, identity, log, now)?;
        if let Some((meta, data)) = snapshot {
            voter.adopt(meta.members.clone());
            voter.push(Output::Install {
                index: meta.index,
                members: meta.members,
                snapshot: data,
            });
        }
        voter.outbox = Outbox::new(term);
        voter.start(term, vec![identity.write()]);
        Ok(voter)
    }

    fn begin(
        config: Config,
        identity: Identity,
        log: LogStore,
        now: Instant,
    ) -> Result<Self, RestoreError> {
        let raft = build(&config, identity.voter, log)?;
        let mut voter = Self {
            id: identity.voter,
            election: Election::new(config.seed, identity.voter),
            config,
            raft,
            members: Membership::default(),
            book: Book::default(),
            sessions: Sessions::new(identity.life),
            outbox: Outbox::new(0),
            outputs: VecDeque::new(),
            role: Role::Follower { leader: None },
            now,
            last_tick: now,
            proposals: BTreeMap::new(),
            wanted: None,
            fetching: None,
            arriving: None,
            heard: BTreeMap::new(),
            offered: BTreeMap::new(),
            dropped: BTreeMap::new(),
            phase: Phase::Running,
        };
        voter.book.learn([(identity.voter, identity.node)], &Membership::default());
        voter.election.set(&mut voter.raft);
        Ok(voter)
    }

    /// Writes what comes before all else; nothing is said until it is durable.
    fn start(&mut self, term: u64, writes: Vec<Write>) {
        self.persist(Step { term, ..Step::default() }, writes);
        self.guarded(Self::drain);
    }

    /// Its own id.
    pub fn id(&self) -> VoterId {
        self.id
    }

    /// What it is at the moment.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The membership after the last entry that was handed out.
    pub fn membership(&self) -> &Membership {
        &self.members
    }

    /// The last entry that was handed out, or that a snapshot covers.
    pub fn applied(&self) -> LogIndex {
        LogIndex(self.raft.raft.raft_log.applied())
    }

    /// How many messages were dropped, and why.
    pub fn dropped(&self) -> &BTreeMap<Dropped, u64> {
        &self.dropped
    }

    /// Whether it has met what must not be, and does nothing any more.
    pub fn has_failed(&self) -> bool {
        self.phase == Phase::Failed
    }

    pub(super) fn is_founding(&self) -> bool {
        self.phase == Phase::Founding
    }

    pub(super) fn push(&mut self, output: Output) {
        if !self.has_failed() {
            self.outputs.push_back(output);
        }
    }

    pub(super) fn count(&mut self, reason: Dropped) {
        *self.dropped.entry(reason).or_default() += 1;
    }

    /// Takes over a membership that holds from now on.
    pub(super) fn adopt(&mut self, members: Membership) {
        self.book.confirm(&members);
        self.members = members;
        let members = &self.members;
        self.heard.retain(|voter, _| members.node(*voter).is_some());
        self.offered.retain(|voter, _| members.node(*voter).is_some());
        let book = &self.book;
        self.sessions.retain(|voter| book.node(voter).is_some());
    }

    /// Whether the library takes it for the leader, whatever it has handed out.
    pub(super) fn leads(&self) -> bool {
        self.raft.raft.state == StateRole::Leader
    }

    /// The founder's first entry is durable: it need not wait to lead.
    pub(super) fn founded(&mut self) {
        self.phase = Phase::Running;
        self.drain();
        // It is the only voter, so that nobody could object.
        if let Err(error) = self.raft.campaign() {
            tracing::debug!(voter = %self.id, %error, "the founder does not lead yet");
        }
    }

    /// Runs `step`; a panic of the library's ends this voter and nothing else.
    fn guarded(&mut self, step: impl FnOnce(&mut Self)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| step(self))) {
            self.fail(panic_text(panic.as_ref()));
        }
    }

    /// Ends this voter. What it was about to say rests on a state that nobody can trust.
    pub(super) fn fail(&mut self, reason: String) {
        self.phase = Phase::Failed;
        self.outputs.clear();
        self.outputs.push_back(Output::Failed(reason));
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Timeout => self.wake(),
            Input::Propose { handle, command } => self.propose(handle, command),
            Input::Message { from, message } => self.hear(from, message),
            Input::Persisted(token) => self.persisted(token),
            Input::PeerConnected(node) => self.sessions.connected(node),
            Input::PeerLost(node) => self.lost(node),
            Input::Introduce(voters) => self.book.learn(voters, &self.members),
            Input::AddLearner { voter, node } => self.add_learner(voter, node),
            Input::ReplaceVoters { promote, remove } => {
                self.change(Change::Replace { promote, remove });
            }
            Input::TransferLeadership { to } => self.transfer(to),
            Input::SnapshotReady { index, data } => self.snapshot_ready(index, data),
            Input::SnapshotFetched { index, data } => self.snapshot_fetched(index, data),
            Input::SnapshotFailed { index } => self.snapshot_failed(index),
        }
        if !self.has_failed() {
            self.drain();
        }
    }

    /// Lets the library's clock catch up with ours.
    fn wake(&mut self) {
        let passed = self.now.since(self.last_tick).as_micros() / TICK.as_micros();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        if passed > TICKS_PER_WAKE_MAX {
            self.last_tick = self.now;
        } else {
            self.last_tick = self.last_tick.after(TICK.saturating_mul(passed as u32));
        }
        for _ in 0..passed.min(TICKS_PER_WAKE_MAX) {
            self.tick();
            self.drain();
        }
    }

    fn tick(&mut self) {
        // Who has not written what it holds must not run for leader: the library takes for granted
        // that a sole voter's log is durable when it wins.
        if !self.leads() && !self.outbox.is_empty() {
            return;
        }
        let ran = self.raft.tick() && !self.leads();
        if ran {
            self.election.tried();
        }
        self.election.set(&mut self.raft);
        self.watch_offers();
        self.hand_over_if_leaving();
    }

    /// Says the role where it has changed.
    pub(super) fn note_role(&mut self) {
        let role = self.present_role();
        if role != self.role {
            self.role = role;
            self.push(Output::Role(role));
        }
    }

    fn present_role(&self) -> Role {
        let raft = &self.raft.raft;
        match raft.state {
            StateRole::Leader if raft.apply_to_current_term() => Role::Leader { term: raft.term },
            StateRole::Leader | StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            StateRole::Follower => Role::Follower { leader: self.leader() },
        }
    }

    /// The node of the leader, as far as known.
    pub(super) fn leader(&self) -> Option<NodeId> {
        let leader = self.raft.raft.leader_id;
        (leader != INVALID_ID).then(|| self.book.node(VoterId(leader))).flatten()
    }
}

impl Machine for Voter {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        if self.has_failed() {
            return;
        }
        self.now = self.now.max(now);
        self.guarded(|voter| voter.take(input));
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        // Of a leader's ticks only those with a heartbeat do anything.
        let ticks = if self.leads() { HEARTBEAT_TICKS as u32 } else { 1 };
        (!self.has_failed()).then(|| self.last_tick.after(TICK * ticks))
    }
}

/// The library's node. It panics on a state that contradicts itself.
fn build(config: &Config, id: VoterId, log: LogStore) -> Result<RawNode<LogStore>, RestoreError> {
    if id == VoterId(0) {
        return Err(RestoreError::Refused("a voter's id is not 0".to_owned()));
    }
    let raft = config.to_raft(id, log.snapshot_index().0);
    let built =
        catch_unwind(AssertUnwindSafe(|| RawNode::new(&raft, log, &Logger::root(Discard, o!()))));
    match built {
        Ok(node) => node.map_err(|error: RaftError| RestoreError::Refused(error.to_string())),
        Err(panic) => Err(RestoreError::Refused(panic_text(panic.as_ref()))),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "a panic without words".to_owned())
}
