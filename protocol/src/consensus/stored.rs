//! The forms of what a voter keeps on disk, and the reading of it after a restart.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::entry::LogEntry;
use super::message::SnapshotMeta;
use super::raft_types::{RaftEntry, RaftHardState};
use super::storage::LogStore;
use crate::codec::{self, DecodeError};
use crate::disk::{Key, Value, Write};
use crate::id::{LogIndex, NodeId, VoterId};

/// Why a voter could not be brought back from its disk. Its node does not start then: nobody knows what
/// else that disk has lost. The others replace the voter by one with a new id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The disk belongs to no voter.
    #[error("no voter is stored here")]
    NoVoter,
    /// A record cannot be read.
    #[error("the stored {what} cannot be read: {cause}")]
    Unreadable {
        /// Which record.
        what: &'static str,
        /// What is wrong with it.
        cause: DecodeError,
    },
    /// Records that contradict each other.
    #[error("the stored log is broken: {0}")]
    Broken(&'static str),
    /// The library refused what was stored.
    #[error("the stored state was refused: {0}")]
    Refused(String),
}

/// Which voter a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub voter: VoterId,
    pub node: NodeId,
    /// Counts the starts, so that sessions never repeat.
    pub life: u64,
}

impl Identity {
    pub(super) fn write(&self) -> Write {
        (Key::Voter, Some(codec::encode(self).into()))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct HardState {
    term: u64,
    vote: VoterId,
    commit: LogIndex,
}

/// What a disk binds its voter to: for those who check that nothing was promised that is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The last term that it knows of.
    pub term: u64,
    /// Whom it voted for in that term; 0 for nobody.
    pub vote: VoterId,
    /// The end of its log, or of its snapshot where that reaches further.
    pub last: LogIndex,
}

impl Kept {
    /// Reads it from what is on disk. What cannot be read counts as not there.
    pub fn read(disk: &BTreeMap<Key, Value>) -> Self {
        let state = disk.get(&Key::HardState).and_then(|bytes| codec::decode(bytes).ok());
        let state: HardState = state.unwrap_or_default();
        let range = Key::Entry(LogIndex(0))..=Key::Entry(LogIndex(u64::MAX));
        let last = match disk.range(range).next_back() {
            Some((Key::Entry(index), _)) => *index,
            _ => LogIndex(0),
        };
        let snapshot = disk.get(&Key::Snapshot).and_then(|value| read_snapshot(value).ok());
        let covered = snapshot.map_or(LogIndex(0), |(meta, _)| meta.index);
        Self { term: state.term, vote: state.vote, last: last.max(covered) }
    }
}

/// The write of the library's term, vote and commit.
pub(super) fn write_hard_state(raft: &RaftHardState) -> Write {
    let state =
        HardState { term: raft.term, vote: VoterId(raft.vote), commit: LogIndex(raft.commit) };
    (Key::HardState, Some(codec::encode(&state).into()))
}

pub(super) fn write_entry(entry: &LogEntry) -> Write {
    (Key::Entry(entry.index), Some(codec::encode(entry).into()))
}

/// The write of a snapshot: the length of the frame that tells of it, that frame, the bytes. The
/// bytes stand outside the frame, as they may be larger than one.
pub(super) fn write_snapshot(meta: &SnapshotMeta, data: &[u8]) -> Write {
    let frame = codec::encode(meta);
    let mut value = (frame.len() as u64).to_le_bytes().to_vec();
    value.extend_from_slice(&frame);
    value.extend_from_slice(data);
    (Key::Snapshot, Some(value.into()))
}

fn read_snapshot(value: &[u8]) -> Result<(SnapshotMeta, Arc<[u8]>), RestoreError> {
    const SHORT: RestoreError = RestoreError::Broken("the snapshot is cut short");
    let (length, rest) = value.split_first_chunk::<8>().ok_or(SHORT)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| SHORT)?;
    let (frame, data) = rest.split_at_checked(length).ok_or(SHORT)?;
    let meta: SnapshotMeta = read("snapshot", frame)?;
    if !meta.fits(data) {
        return Err(RestoreError::Broken("the snapshot does not match its hash"));
    }
    if !meta.members.is_sound() {
        return Err(RestoreError::Broken("the snapshot names no sound membership"));
    }
    Ok((meta, data.into()))
}

fn read<T: serde::de::DeserializeOwned>(
    what: &'static str,
    value: &[u8],
) -> Result<T, RestoreError> {
    codec::decode(value).map_err(|cause| RestoreError::Unreadable { what, cause })
}

/// What a disk held.
pub(super) struct Stored {
    pub identity: Identity,
    pub term: u64,
    pub log: LogStore,
    pub snapshot: Option<(SnapshotMeta, Arc<[u8]>)>,
}

/// Reads back what the batches of a voter have left on its disk.
pub(super) fn read_all(stored: &BTreeMap<Key, Value>) -> Result<Stored, RestoreError> {
    let identity = stored.get(&Key::Voter).ok_or(RestoreError::NoVoter)?;
    let identity: Identity = read("voter", identity)?;
    let snapshot = stored.get(&Key::Snapshot).map(|value| read_snapshot(value)).transpose()?;
    let mut entries = read_entries(stored)?;
    let before = start_of_log(&mut entries, snapshot.as_ref().map(|(meta, _)| meta))?;
    let begun = before.0 > 0 || !entries.is_empty();
    let state = read_hard_state(stored, begun, snapshot.as_ref().map(|(meta, _)| meta))?;
    if state.commit > before.0 + entries.len() as u64 {
        return Err(RestoreError::Broken("the log ends before its commit"));
    }
    let term = state.term;
    let log = LogStore::new(state, before, entries, snapshot.clone());
    Ok(Stored { identity, term, log, snapshot })
}

fn read_hard_state(
    stored: &BTreeMap<Key, Value>,
    begun: bool,
    snapshot: Option<&SnapshotMeta>,
) -> Result<RaftHardState, RestoreError> {
    let state: HardState = match stored.get(&Key::HardState) {
        Some(value) => read("hard state", value)?,
        None if begun => return Err(RestoreError::Broken("the vote is missing")),
        None => HardState::default(),
    };
    let (term, vote, commit) = (state.term, state.vote.0, state.commit.0);
    let raft = RaftHardState { term, vote, commit, ..RaftHardState::default() };
    if snapshot.is_some_and(|meta| meta.index.0 > raft.commit) {
        return Err(RestoreError::Broken("the snapshot is newer than the commit"));
    }
    Ok(raft)
}

fn read_entries(stored: &BTreeMap<Key, Value>) -> Result<VecDeque<RaftEntry>, RestoreError> {
    let range = Key::Entry(LogIndex(0))..=Key::Entry(LogIndex(u64::MAX));
    let mut entries: VecDeque<RaftEntry> = VecDeque::new();
    for (key, value) in stored.range(range) {
        let entry: LogEntry = read("entry", value)?;
        if *key != Key::Entry(entry.index) {
            return Err(RestoreError::Broken("an entry lies in another's place"));
        }
        let follows = |last: &RaftEntry| last.index + 1 == entry.index.0 && last.term <= entry.term;
        if entries.back().is_some_and(|last| !follows(last)) {
            return Err(RestoreError::Broken("an entry is missing"));
        }
        let raft = entry.to_raft();
        entries.push_back(raft.map_err(|_| RestoreError::Broken("an entry has no meaning"))?);
    }
    Ok(entries)
}

/// The place before the first entry. Where entries reach below the snapshot, the lowest of them
/// becomes that place, as only its term is known of what lay below.
fn start_of_log(
    entries: &mut VecDeque<RaftEntry>,
    snapshot: Option<&SnapshotMeta>,
) -> Result<(u64, u64), RestoreError> {
    let base = snapshot.map_or((0, 0), |meta| (meta.index.0, meta.term));
    let Some((first, last)) = entries.front().zip(entries.back()) else { return Ok(base) };
    if first.index > base.0 + 1 || last.index < base.0 {
        return Err(RestoreError::Broken("entries and snapshot do not meet"));
    }
    if first.index == base.0 + 1 {
        return Ok(base);
    }
    let at_snapshot = entries.iter().find(|entry| entry.index == base.0);
    if at_snapshot.is_some_and(|entry| entry.term != base.1) {
        return Err(RestoreError::Broken("entries and snapshot contradict each other"));
    }
    Ok(entries.pop_front().map_or(base, |entry| (entry.index, entry.term)))
}
