//! Entries of the log in our own form: as they are stored, sent and handed out. The library's
//! parser never sees a byte that a peer chose.

use protobuf::Message as _;
use serde::{Deserialize, Serialize};

use super::membership::Change;
use super::raft_types::{EntryType, RaftEntry};
use crate::codec;
use crate::id::LogIndex;
use crate::limits::COMMAND_BYTES_MAX;

/// One entry of the log, as it is stored and sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    pub(super) term: u64,
    pub(super) index: LogIndex,
    pub(super) body: Body,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Body {
    /// A new leader's first entry, or a change that came too late.
    Nothing,
    Command(#[serde(with = "serde_bytes")] Vec<u8>),
    Change(Change),
}

/// An entry that the library holds and we cannot read: never from a peer, whose entries arrive in
/// our own form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the entry at {0} cannot be read")]
pub(super) struct Unreadable(pub LogIndex);

impl LogEntry {
    /// The command in it, if it is one.
    pub fn command(&self) -> Option<&[u8]> {
        match &self.body {
            Body::Command(command) => Some(command),
            Body::Nothing | Body::Change(_) => None,
        }
    }

    /// Bytes of the command in it, if it is one.
    pub(super) fn command_bytes(&self) -> usize {
        self.command().map_or(0, <[u8]>::len)
    }

    /// Whether a peer may send it.
    pub(super) fn is_bounded(&self) -> bool {
        self.command_bytes() <= COMMAND_BYTES_MAX
    }

    pub(super) fn to_raft(&self) -> Result<RaftEntry, Unreadable> {
        let (term, index) = (self.term, self.index.0);
        let mut entry = RaftEntry { term, index, ..RaftEntry::default() };
        match &self.body {
            Body::Nothing => {}
            Body::Command(command) => entry.data = command.clone().into(),
            Body::Change(change) => {
                entry.set_entry_type(EntryType::EntryConfChangeV2);
                if *change != Change::Leave {
                    let data = change.to_raft().write_to_bytes();
                    entry.data = data.map_err(|_| Unreadable(self.index))?.into();
                    entry.context = codec::encode(change).into();
                }
            }
        }
        Ok(entry)
    }

    pub(super) fn from_raft(entry: &RaftEntry) -> Result<Self, Unreadable> {
        let index = LogIndex(entry.index);
        let body = match entry.get_entry_type() {
            EntryType::EntryNormal if entry.data.is_empty() => Body::Nothing,
            EntryType::EntryNormal => Body::Command(entry.data.to_vec()),
            EntryType::EntryConfChangeV2 if entry.context.is_empty() => Body::Change(Change::Leave),
            EntryType::EntryConfChangeV2 => {
                Body::Change(codec::decode(&entry.context).map_err(|_| Unreadable(index))?)
            }
            EntryType::EntryConfChange => return Err(Unreadable(index)),
        };
        Ok(Self { term: entry.term, index, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{NodeId, VoterId};

    #[test]
    fn entries_come_back_from_the_library_as_they_went_in() {
        let changes = [
            Change::Found { voter: VoterId(1), node: NodeId([1; 32]) },
            Change::AddLearner { voter: VoterId(7), node: NodeId([7; 32]) },
            Change::Replace { promote: vec![VoterId(7)], remove: vec![VoterId(1)] },
            Change::Leave,
        ];
        let bodies = changes.into_iter().map(Body::Change);
        for body in bodies.chain([Body::Nothing, Body::Command(vec![1, 2])]) {
            let entry = LogEntry { term: 3, index: LogIndex(9), body };
            assert_eq!(LogEntry::from_raft(&entry.to_raft().unwrap()), Ok(entry));
        }
    }
}
