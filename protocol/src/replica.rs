//! Keeps a node's [`Fleet`] up with the log.
//!
//! A voter gets committed entries from the consensus. Every other node follows: the leader pushes
//! new entries to its neighbours, and what was missed is pulled from any neighbour whose log is
//! further. Committed entries are the same everywhere, so it does not matter from where they come.

mod push;

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codec;
use crate::consensus::Entry;
use crate::fleet::{Applied, Fleet};
use crate::id::{ChunkHash, LogIndex, NodeId};
use crate::limits::{ENTRIES_PER_FRAME, SNAPSHOT_PIECE_BYTES};
use crate::machine::Machine;
use crate::membership::Roster;
use crate::state::{State, Step};
use crate::time::{Instant, earliest};

use push::Push;

/// Bytes of entries in one frame, so that it stays under the limit of a control frame.
const ENTRY_BYTES_PER_FRAME: usize = 512 * 1024;

/// Bytes of the largest snapshot that is fetched.
const SNAPSHOT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// How long an answer may take before another neighbour is asked.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// How long applied entries may wait to be kept on disk, and how much longer for each MiB of the state, all of
/// which is written each time. They can be had again from the mesh.
const KEEP_WITHIN: Duration = Duration::from_secs(5);
const KEEP_WITHIN_MIB: Duration = Duration::from_secs(5);

/// What two replicas say to each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum LogMessage {
    /// Send what comes after this place.
    Pull {
        /// The last entry that the sender has.
        after: LogIndex,
    },
    /// Committed entries, in order.
    Entries {
        /// The place of the first.
        first: LogIndex,
        /// The entries.
        entries: Vec<Entry>,
    },
    /// The entries after the asked place are gone; a snapshot is to be had.
    Snapshot {
        /// Where in the log it stands.
        index: LogIndex,
        /// The BLAKE3 hash of its bytes.
        hash: ChunkHash,
        /// Bytes of it.
        length: u64,
    },
    /// Send a piece of the snapshot.
    PullPiece {
        /// Which snapshot.
        hash: ChunkHash,
        /// From which byte on.
        offset: u64,
    },
    /// A piece of it; empty if the sender has that snapshot no more.
    Piece {
        /// Which snapshot.
        hash: ChunkHash,
        /// From which byte on.
        offset: u64,
        /// The bytes.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
}

/// What can happen to a replica.
#[derive(Clone, Debug)]
pub enum Input {
    /// The moment of `poll_timeout` is here.
    Timeout,
    /// The consensus has committed an entry.
    Committed(LogIndex, Entry),
    /// The consensus wants this state installed.
    Install(LogIndex, Arc<[u8]>),
    /// The consensus needs a snapshot that this node has.
    Fetch {
        /// Who.
        from: NodeId,
        /// Where in the log it stands.
        index: LogIndex,
        /// Its hash.
        hash: ChunkHash,
        /// Its length in bytes.
        length: u64,
    },
    /// A neighbour's log is further than this one.
    Ahead(NodeId, LogIndex),
    /// A neighbour says something.
    Message(NodeId, LogMessage),
    /// A neighbour is gone.
    Down(NodeId),
    /// Whether this node hands new entries on to its neighbours, as a leader does.
    Lead(bool),
}

/// What a replica wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// An entry was applied.
    Applied(Arc<Applied>),
    /// The whole state was replaced.
    Replaced,
    /// Say this to a neighbour.
    Send(NodeId, LogMessage),
    /// Say this to a neighbour, if it is one and follows.
    Tell(NodeId, LogMessage),
    /// Say this to every neighbour that follows.
    Push(LogMessage),
    /// Keep this on disk when convenient.
    Keep(Arc<[u8]>),
    /// The snapshot that the consensus needed; `None` if it cannot be had.
    Fetched(LogIndex, Option<Vec<u8>>),
}

/// A snapshot: where in the log it stands, the hash of its bytes, and those.
pub type Offer = (LogIndex, ChunkHash, Arc<[u8]>);

#[derive(Debug)]
struct Download {
    from: NodeId,
    index: LogIndex,
    hash: ChunkHash,
    length: u64,
    bytes: Vec<u8>,
    for_consensus: bool,
    deadline: Instant,
}

/// A node's copy of the replicated state.
#[derive(Debug, Default)]
pub struct Replica {
    state: Arc<State>,
    tail: VecDeque<(LogIndex, Arc<Entry>)>,
    tail_max: usize,
    /// What others may fetch.
    offered: Option<Offer>,
    pulling: Option<(NodeId, Instant)>,
    download: Option<Download>,
    push: Push,
    leads: bool,
    unkept: bool,
    keep_at: Option<Instant>,
    keep_within: Duration,
    outputs: VecDeque<Output>,
}

impl Replica {
    /// A replica that goes on from what was last kept on disk.
    /// It keeps `tail_max` entries for those that follow.
    pub fn new(state: Arc<State>, tail_max: usize) -> Self {
        Self { state, tail_max, keep_within: KEEP_WITHIN, ..Self::default() }
    }

    /// The replicated state, as far as this node has it.
    pub fn fleet(&self) -> &Fleet {
        self.state.fleet()
    }

    /// The members that it has.
    pub fn roster(&self) -> &Arc<Roster> {
        self.state.roster()
    }

    /// The entries after a place, as far as they are kept for those that follow.
    pub fn entries_after(&self, after: LogIndex) -> impl Iterator<Item = &(LogIndex, Arc<Entry>)> {
        let first = self.tail.partition_point(|(index, _)| *index <= after);
        self.tail.range(first..)
    }

    /// The state as a snapshot, which others may fetch from now on.
    pub fn snapshot(&mut self) -> Offer {
        let (hash, bytes) = self.state.snapshot().clone();
        let offer = (self.fleet().applied(), hash, bytes);
        self.offered = Some(offer.clone());
        offer
    }

    fn apply(&mut self, now: Instant, index: LogIndex, entry: Entry) {
        if index != self.fleet().applied().next() {
            return; // had before, or after a gap that a pull will fill
        }
        let step = State::after(core::mem::take(&mut self.state), entry);
        let Step { entry, applied, state } = step;
        self.state = state;
        if self.leads {
            let members = self.state.fleet().members().len();
            self.push.add(now, Arc::clone(&entry), &applied, members);
        }
        self.tail.push_back((index, entry));
        if self.tail.len() > self.tail_max {
            self.tail.pop_front();
        }
        self.unkept = true;
        self.keep_at.get_or_insert(now.after(self.keep_within));
        self.outputs.push_back(Output::Applied(applied));
    }

    fn install(&mut self, now: Instant, bytes: &[u8]) {
        let Ok(fleet) = codec::decode_large::<Fleet>(bytes) else { return };
        if fleet.applied() <= self.fleet().applied() {
            return;
        }
        self.state = Arc::new(fleet.into());
        self.tail.clear();
        self.push.drop_all();
        self.unkept = true;
        self.keep_at.get_or_insert(now.after(self.keep_within));
        self.outputs.push_back(Output::Replaced);
    }

    fn pull(&mut self, now: Instant, from: NodeId) {
        let waiting = self.pulling.is_some_and(|(_, deadline)| now < deadline);
        if waiting || self.download.is_some() {
            return;
        }
        self.pulling = Some((from, now.after(ANSWER_WITHIN)));
        let after = self.fleet().applied();
        self.outputs.push_back(Output::Send(from, LogMessage::Pull { after }));
    }

    fn take(&mut self, now: Instant, from: NodeId, message: LogMessage) {
        match message {
            LogMessage::Pull { after } => self.serve(from, after),
            LogMessage::Entries { first, entries } => self.take_entries(now, from, first, entries),
            LogMessage::Snapshot { index, hash, length } => {
                if self.pulling.take().is_some_and(|(asked, _)| asked == from)
                    && index > self.fleet().applied()
                {
                    self.start_download(now, from, index, hash, length, false);
                }
            }
            LogMessage::PullPiece { hash, offset } => self.serve_piece(from, hash, offset),
            LogMessage::Piece { hash, offset, bytes } => {
                self.take_piece(now, from, hash, offset, &bytes);
            }
        }
    }

    fn take_entries(&mut self, now: Instant, from: NodeId, first: LogIndex, entries: Vec<Entry>) {
        let asked = self.pulling.is_some_and(|(asked, _)| asked == from);
        let full = entries.len() >= ENTRIES_PER_FRAME;
        let gap = first > self.fleet().applied().next();
        // A log that is so long is a lie, and ends here.
        for (offset, entry) in (0..).zip(entries) {
            let Some(index) = first.0.checked_add(offset) else { break };
            self.apply(now, LogIndex(index), entry);
        }
        if asked {
            self.pulling = None;
        }
        if gap || (asked && full) {
            self.pull(now, from);
        }
    }

    fn serve(&mut self, to: NodeId, after: LogIndex) {
        if after >= self.fleet().applied() {
            let (first, entries) = (after.next(), Vec::new());
            return self
                .outputs
                .push_back(Output::Send(to, LogMessage::Entries { first, entries }));
        }
        let kept = self.tail.front().is_some_and(|(first, _)| *first <= after.next());
        let message = if kept {
            let wanted = self.tail.iter().skip_while(|(index, _)| *index <= after);
            let entries = first_that_fit(wanted.map(|(_, entry)| entry.as_ref()));
            LogMessage::Entries { first: after.next(), entries }
        } else {
            let (index, hash, bytes) = self.snapshot();
            LogMessage::Snapshot { index, hash, length: bytes.len() as u64 }
        };
        self.outputs.push_back(Output::Send(to, message));
    }

    /// Keeps `bytes` at hand as a snapshot that others may fetch, such as the consensus' own.
    pub fn offer(&mut self, index: LogIndex, hash: ChunkHash, bytes: Arc<[u8]>) {
        self.offered = Some((index, hash, bytes));
    }

    fn serve_piece(&mut self, to: NodeId, hash: ChunkHash, offset: u64) {
        let offered = self.offered.as_ref().filter(|(_, offered, _)| *offered == hash);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = offered.and_then(|(_, _, bytes)| bytes.get(start..)).unwrap_or_default();
        let bytes = rest.get(..rest.len().min(SNAPSHOT_PIECE_BYTES)).unwrap_or_default().to_vec();
        self.outputs.push_back(Output::Send(to, LogMessage::Piece { hash, offset, bytes }));
    }

    fn start_download(
        &mut self,
        now: Instant,
        from: NodeId,
        index: LogIndex,
        hash: ChunkHash,
        length: u64,
        for_consensus: bool,
    ) {
        if self.download.as_ref().is_some_and(|it| it.hash == hash && it.from == from) {
            return;
        }
        self.drop_download();
        if length > SNAPSHOT_BYTES_MAX {
            return;
        }
        let deadline = now.after(ANSWER_WITHIN * 5);
        let bytes = Vec::new();
        self.download =
            Some(Download { from, index, hash, length, bytes, for_consensus, deadline });
        self.outputs.push_back(Output::Send(from, LogMessage::PullPiece { hash, offset: 0 }));
    }

    fn drop_download(&mut self) {
        if let Some(dropped) = self.download.take().filter(|download| download.for_consensus) {
            self.outputs.push_back(Output::Fetched(dropped.index, None));
        }
    }

    fn take_piece(
        &mut self,
        now: Instant,
        from: NodeId,
        hash: ChunkHash,
        offset: u64,
        bytes: &[u8],
    ) {
        let Some(download) = &mut self.download else { return };
        let next = download.bytes.len() as u64;
        if download.from != from || download.hash != hash || offset != next {
            return;
        }
        let too_much = next + bytes.len() as u64 > download.length;
        if too_much || (bytes.is_empty() && next < download.length) {
            return self.drop_download();
        }
        download.bytes.extend_from_slice(bytes);
        download.deadline = now.after(ANSWER_WITHIN * 5);
        let offset = download.bytes.len() as u64;
        if offset < download.length {
            let more = LogMessage::PullPiece { hash, offset };
            return self.outputs.push_back(Output::Send(from, more));
        }
        self.finish_download(now);
    }

    fn finish_download(&mut self, now: Instant) {
        let Some(download) = self.download.take() else { return };
        let good = blake3::hash(&download.bytes) == download.hash.0;
        if download.for_consensus {
            let bytes = good.then_some(download.bytes);
            self.outputs.push_back(Output::Fetched(download.index, bytes));
        } else if good {
            self.install(now, &download.bytes);
            self.pull(now, download.from);
        }
    }

    fn keep(&mut self, now: Instant) {
        if self.unkept && self.keep_at.is_some_and(|at| at <= now) {
            self.unkept = false;
            self.keep_at = None;
            let bytes = Arc::clone(&self.state.snapshot().1);
            let mib = u32::try_from(bytes.len() >> 20).unwrap_or(u32::MAX);
            self.keep_within = KEEP_WITHIN + KEEP_WITHIN_MIB.saturating_mul(mib);
            self.outputs.push_back(Output::Keep(bytes));
        }
    }
}

/// The first of these entries, as many as one frame takes.
fn first_that_fit<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<Entry> {
    let mut bytes = 0;
    let fits = |entry: &&Entry| {
        bytes += match entry {
            Entry::Command(command) => command.len(),
            Entry::Voters(_) | Entry::Nothing => 1024,
        };
        bytes <= ENTRY_BYTES_PER_FRAME
    };
    entries.take(ENTRIES_PER_FRAME).take_while(fits).cloned().collect()
}

impl Machine for Replica {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Timeout => {
                if self.download.as_ref().is_some_and(|download| download.deadline <= now) {
                    self.drop_download();
                }
                self.pulling = self.pulling.filter(|(_, deadline)| now < *deadline);
            }
            Input::Committed(index, entry) => self.apply(now, index, entry),
            Input::Install(_, bytes) => self.install(now, &bytes),
            Input::Fetch { from, index, hash, length } => {
                self.start_download(now, from, index, hash, length, true);
            }
            Input::Ahead(node, index) if index > self.fleet().applied() => self.pull(now, node),
            Input::Ahead(..) => {}
            Input::Message(from, message) => self.take(now, from, message),
            Input::Down(node) => {
                self.pulling = self.pulling.filter(|(asked, _)| *asked != node);
                if self.download.as_ref().is_some_and(|download| download.from == node) {
                    self.drop_download();
                }
            }
            Input::Lead(leads) => {
                self.leads = leads;
                self.push.drop_all();
            }
        }
        self.outputs.extend(self.push.take(now, self.state.fleet().applied()));
        self.keep(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let answer = self.pulling.map(|(_, deadline)| deadline);
        let piece = self.download.as_ref().map(|download| download.deadline);
        [answer, piece, self.keep_at, self.push.due()].into_iter().fold(None, earliest)
    }
}
