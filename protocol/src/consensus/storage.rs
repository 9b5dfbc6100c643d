//! The log in memory, as the library reads it. Everything in it is also in a batch that has been
//! handed out; what of it is durable, the outbox knows.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::message::SnapshotMeta;
use super::raft_types::{
    GetEntriesContext, RaftEntry, RaftError, RaftHardState, RaftSnapshot, RaftState, Storage,
    StorageError,
};
use crate::id::{LogIndex, VoterId};

/// The tail of the log and the snapshot below it.
#[derive(Debug, Default)]
pub(super) struct LogStore {
    /// As it was at the start; the library keeps its own from then on.
    start: RaftHardState,
    /// The place before the first entry that is still here, and that place's term.
    before: (u64, u64),
    entries: VecDeque<RaftEntry>,
    snapshot: Option<(SnapshotMeta, Arc<[u8]>)>,
    /// A member needs a snapshot, and ours is from before it was one.
    outdated: Cell<bool>,
}

/// Entries that are gone from the log and must go from the disk.
pub(super) type Gone = RangeInclusive<u64>;

impl LogStore {
    /// A store that starts as it was left. `entries` follow `before` without a gap.
    pub(super) fn new(
        start: RaftHardState,
        before: (u64, u64),
        entries: VecDeque<RaftEntry>,
        snapshot: Option<(SnapshotMeta, Arc<[u8]>)>,
    ) -> Self {
        Self { start, before, entries, snapshot, outdated: Cell::new(false) }
    }

    pub(super) fn snapshot_index(&self) -> LogIndex {
        self.snapshot.as_ref().map_or(LogIndex(0), |(meta, _)| meta.index)
    }

    pub(super) fn latest(&self) -> Option<(&SnapshotMeta, &Arc<[u8]>)> {
        self.snapshot.as_ref().map(|(meta, data)| (meta, data))
    }

    /// Whether a member waits for a snapshot newer than ours; asked once.
    pub(super) fn take_outdated(&self) -> bool {
        self.outdated.take()
    }

    pub(super) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    fn last(&self) -> u64 {
        self.before.0 + self.len()
    }

    /// Adds `entries`, which replace all from the first of them on.
    pub(super) fn append(&mut self, entries: &[RaftEntry]) -> Gone {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return RangeInclusive::new(1, 0);
        };
        let old_last = self.last();
        let keep = first.index.saturating_sub(self.before.0 + 1);
        self.entries.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        self.entries.extend(entries.iter().cloned());
        RangeInclusive::new(last.index + 1, old_last)
    }

    /// A snapshot from the leader takes the place of the whole log.
    pub(super) fn install(&mut self, meta: SnapshotMeta, data: Arc<[u8]>) -> Gone {
        // The entry before the first may still be on the disk: it is what `restore` starts from.
        let gone = RangeInclusive::new(self.before.0, self.last());
        self.before = (meta.index.0, meta.term);
        self.entries.clear();
        self.snapshot = Some((meta, data));
        gone
    }

    /// A snapshot of our own lets entries go, down to `keep` of them below it.
    pub(super) fn compact(&mut self, meta: SnapshotMeta, data: Arc<[u8]>, keep: u64) -> Gone {
        let old = self.before.0;
        let upto = meta.index.0.saturating_sub(keep);
        while self.before.0 < upto {
            let Some(entry) = self.entries.pop_front() else { break };
            self.before = (entry.index, entry.term);
        }
        self.snapshot = Some((meta, data));
        // The entry at the new start stays on the disk, for its term.
        RangeInclusive::new(old, self.before.0.saturating_sub(1))
    }
}

impl Storage for LogStore {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let members = self.snapshot.as_ref().map(|(meta, _)| meta.members.to_raft());
        Ok(RaftState::new(self.start.clone(), members.unwrap_or_default()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<RaftEntry>> {
        if low <= self.before.0 {
            return Err(RaftError::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(RaftError::Store(StorageError::Unavailable));
        }
        let skip = usize::try_from(low - self.before.0 - 1).unwrap_or(usize::MAX);
        let count = usize::try_from(high.saturating_sub(low)).unwrap_or(usize::MAX);
        let mut entries: Vec<_> = self.entries.iter().skip(skip).take(count).cloned().collect();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.before.0 {
            return Ok(self.before.1);
        }
        if index < self.before.0 {
            return Err(RaftError::Store(StorageError::Compacted));
        }
        let place = usize::try_from(index - self.before.0 - 1).unwrap_or(usize::MAX);
        let entry = self.entries.get(place);
        entry.map(|entry| entry.term).ok_or(RaftError::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.before.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// A snapshot in which `to` is no member would be refused by it, for ever: a newer one is made
    /// first.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<RaftSnapshot> {
        match &self.snapshot {
            Some((meta, _))
                if meta.index.0 >= request_index && meta.members.node(VoterId(to)).is_some() =>
            {
                Ok(meta.to_raft())
            }
            _ => {
                self.outdated.set(true);
                Err(RaftError::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}
