//! What voters say to each other, in our own form, and its translation to and from the library's.
//!
//! Messages that a voter must never take from another (a proposal, a request to read, the library's
//! own inner messages) have no form here, so that no peer can send one.

use serde::{Deserialize, Serialize};

use super::config::{APPEND_ENTRIES_MAX, SNAPSHOT_BYTES_MAX};
use super::entry::{LogEntry, Unreadable};
use super::membership::Membership;
use super::raft_types::{CAMPAIGN_TRANSFER, MessageType, RaftMessage, RaftSnapshot};
use crate::codec;
use crate::id::{ChunkHash, LogIndex, VoterId};
use crate::limits::CONTROL_FRAME_BYTES_MAX;

/// One message from a voter to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterMessage {
    /// Who says it. Believed only from the node on which that voter lives.
    pub from: VoterId,
    /// To whom.
    pub to: VoterId,
    /// The sender's stream to this receiver: it grows with each connection and each restart.
    pub session: u64,
    /// The place in that stream. What comes late is dropped.
    pub number: u64,
    pub(super) term: u64,
    pub(super) body: Body,
}

/// A place in a log and the term of the entry there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    pub index: u64,
    pub term: u64,
}

/// Where a snapshot stands and what its bytes are. The bytes travel like any other content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// The last entry in it.
    pub index: LogIndex,
    /// That entry's term.
    pub term: u64,
    /// The membership there.
    pub members: Membership,
    /// The BLAKE3 hash of its bytes.
    pub hash: ChunkHash,
    /// How many bytes.
    pub length: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Body {
    Append {
        previous: Position,
        commit: u64,
        entries: Vec<LogEntry>,
    },
    Appended {
        index: u64,
        commit: u64,
    },
    AppendRejected {
        index: u64,
        hint: Position,
        commit: u64,
    },
    RequestVote {
        trial: bool,
        transfer: bool,
        last: Position,
        commit: Position,
    },
    Vote {
        trial: bool,
        granted: bool,
        commit: Position,
    },
    Heartbeat {
        commit: u64,
    },
    HeartbeatReply {
        commit: u64,
    },
    Snapshot(SnapshotMeta),
    /// The offered snapshot could not be fetched: offer one again.
    SnapshotLost,
    TimeoutNow,
}

/// What a voter holds itself to by a message, so that it must be on its disk before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// It has the log up to here.
    Holds(LogIndex),
    /// It has given its vote in this term, to this voter and to no other.
    Voted(VoterId),
}

impl VoterMessage {
    /// The sender's term.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// What the sender promises by it, if anything.
    pub fn promise(&self) -> Option<Promise> {
        match &self.body {
            Body::Appended { index, .. } => Some(Promise::Holds(LogIndex(*index))),
            Body::Vote { trial: false, granted: true, .. } => Some(Promise::Voted(self.to)),
            Body::RequestVote { trial: false, .. } => Some(Promise::Voted(self.from)),
            _ => None,
        }
    }

    /// Whether it is within the bounds that a peer is held to.
    pub(super) fn is_bounded(&self) -> bool {
        match &self.body {
            Body::Append { entries, .. } => {
                let bytes: usize = entries.iter().map(LogEntry::command_bytes).sum();
                entries.len() <= APPEND_ENTRIES_MAX
                    && bytes <= CONTROL_FRAME_BYTES_MAX
                    && entries.iter().all(LogEntry::is_bounded)
            }
            Body::Snapshot(meta) => meta.length <= SNAPSHOT_BYTES_MAX,
            _ => true,
        }
    }

    /// Whether its parts fit together, so that no arithmetic on them can surprise the library.
    pub(super) fn is_sound(&self) -> bool {
        match &self.body {
            Body::Append { previous, entries, .. } => {
                let follows = |(offset, entry): (u64, &LogEntry)| {
                    Some(entry.index.0) == previous.index.checked_add(offset)
                        && entry.term <= self.term
                };
                (1..).zip(entries).all(follows)
            }
            Body::Snapshot(meta) => meta.index > LogIndex(0) && meta.members.is_sound(),
            _ => true,
        }
    }

    /// The library's form of this message; `None` where it has none.
    pub(super) fn to_raft(&self) -> Result<Option<RaftMessage>, Unreadable> {
        let (from, to, term) = (self.from.0, self.to.0, self.term);
        let mut raft = RaftMessage { from, to, term, ..RaftMessage::default() };
        let kind = match &self.body {
            Body::Append { previous, commit, entries } => {
                raft.index = previous.index;
                raft.log_term = previous.term;
                raft.commit = *commit;
                let entries: Result<Vec<_>, _> = entries.iter().map(LogEntry::to_raft).collect();
                raft.set_entries(entries?.into());
                MessageType::MsgAppend
            }
            Body::Appended { index, commit } => {
                raft.index = *index;
                raft.commit = *commit;
                MessageType::MsgAppendResponse
            }
            Body::AppendRejected { index, hint, commit } => {
                raft.index = *index;
                raft.reject = true;
                raft.reject_hint = hint.index;
                raft.log_term = hint.term;
                raft.commit = *commit;
                MessageType::MsgAppendResponse
            }
            Body::RequestVote { trial, transfer, last, commit } => {
                raft.index = last.index;
                raft.log_term = last.term;
                raft.commit = commit.index;
                raft.commit_term = commit.term;
                if *transfer {
                    raft.context = CAMPAIGN_TRANSFER.into();
                }
                if *trial { MessageType::MsgRequestPreVote } else { MessageType::MsgRequestVote }
            }
            Body::Vote { trial: true, granted, commit } => {
                vote(&mut raft, *granted, *commit);
                MessageType::MsgRequestPreVoteResponse
            }
            Body::Vote { trial: false, granted, commit } => {
                vote(&mut raft, *granted, *commit);
                MessageType::MsgRequestVoteResponse
            }
            Body::Heartbeat { commit } => {
                raft.commit = *commit;
                MessageType::MsgHeartbeat
            }
            Body::HeartbeatReply { commit } => {
                raft.commit = *commit;
                MessageType::MsgHeartbeatResponse
            }
            Body::Snapshot(meta) => {
                raft.set_snapshot(meta.to_raft());
                MessageType::MsgSnapshot
            }
            Body::TimeoutNow => MessageType::MsgTimeoutNow,
            Body::SnapshotLost => return Ok(None),
        };
        raft.set_msg_type(kind);
        Ok(Some(raft))
    }
}

impl Body {
    /// What the library wants said; `None` for what is never said to another voter.
    pub(super) fn from_raft(raft: &RaftMessage) -> Option<Self> {
        let commit = Position { index: raft.commit, term: raft.commit_term };
        let place = Position { index: raft.index, term: raft.log_term };
        let kind = raft.get_msg_type();
        Some(match kind {
            MessageType::MsgAppend => Self::Append {
                previous: place,
                commit: raft.commit,
                entries: raft
                    .entries
                    .iter()
                    .map(LogEntry::from_raft)
                    .collect::<Result<_, _>>()
                    .ok()?,
            },
            MessageType::MsgAppendResponse if raft.reject => Self::AppendRejected {
                index: raft.index,
                hint: Position { index: raft.reject_hint, term: raft.log_term },
                commit: raft.commit,
            },
            MessageType::MsgAppendResponse => {
                Self::Appended { index: raft.index, commit: raft.commit }
            }
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => Self::RequestVote {
                trial: kind == MessageType::MsgRequestPreVote,
                transfer: raft.context == CAMPAIGN_TRANSFER,
                last: place,
                commit,
            },
            MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse => {
                let trial = kind == MessageType::MsgRequestPreVoteResponse;
                Self::Vote { trial, granted: !raft.reject, commit }
            }
            MessageType::MsgHeartbeat => Self::Heartbeat { commit: raft.commit },
            MessageType::MsgHeartbeatResponse => Self::HeartbeatReply { commit: raft.commit },
            MessageType::MsgSnapshot => {
                Self::Snapshot(SnapshotMeta::from_raft(raft.get_snapshot())?)
            }
            MessageType::MsgTimeoutNow => Self::TimeoutNow,
            _ => return None,
        })
    }
}

fn vote(raft: &mut RaftMessage, granted: bool, commit: Position) {
    raft.reject = !granted;
    raft.commit = commit.index;
    raft.commit_term = commit.term;
}

impl SnapshotMeta {
    /// The library's snapshot: its data is this, in our own form, and not the bytes.
    pub(super) fn to_raft(&self) -> RaftSnapshot {
        let mut raft = RaftSnapshot { data: codec::encode(self).into(), ..RaftSnapshot::default() };
        let meta = raft.mut_metadata();
        meta.index = self.index.0;
        meta.term = self.term;
        meta.set_conf_state(self.members.to_raft());
        raft
    }

    pub(super) fn from_raft(raft: &RaftSnapshot) -> Option<Self> {
        codec::decode(&raft.data).ok()
    }

    /// Whether `data` are the bytes that this tells of.
    pub(super) fn fits(&self, data: &[u8]) -> bool {
        data.len() as u64 == self.length && blake3::hash(data).as_bytes() == &self.hash.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_says_comes_back_to_it_unchanged() {
        let place = Position { index: 7, term: 2 };
        let bodies = [
            Body::Append { previous: place, commit: 6, entries: vec![] },
            Body::Appended { index: 7, commit: 6 },
            Body::AppendRejected { index: 9, hint: place, commit: 6 },
            Body::RequestVote { trial: true, transfer: false, last: place, commit: place },
            Body::RequestVote { trial: false, transfer: true, last: place, commit: place },
            Body::Vote { trial: true, granted: false, commit: place },
            Body::Vote { trial: false, granted: true, commit: place },
            Body::Heartbeat { commit: 6 },
            Body::HeartbeatReply { commit: 6 },
            Body::TimeoutNow,
        ];
        let (from, to) = (VoterId(1), VoterId(2));
        for body in bodies {
            let message = VoterMessage { from, to, session: 4, number: 5, term: 3, body };
            let raft = message.to_raft().unwrap().unwrap();
            assert_eq!((raft.from, raft.to, raft.term), (1, 2, 3));
            assert_eq!(Body::from_raft(&raft), Some(message.body));
        }
    }
}
