//! The library's names, under names that do not clash with ours. The only list of them.

pub(super) use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState,
    Entry as RaftEntry, EntryType, HardState as RaftHardState, Message as RaftMessage, MessageType,
    Snapshot as RaftSnapshot,
};
pub(super) use raft::{
    CAMPAIGN_TRANSFER, Config as RaftConfig, Error as RaftError, GetEntriesContext, INVALID_ID,
    ProgressState, RaftState, RawNode, Ready, SnapshotStatus, StateRole, Storage, StorageError,
};
