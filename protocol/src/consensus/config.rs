//! The constants of the consensus and what its owner may choose.

use core::time::Duration;

use super::raft_types::RaftConfig;
use crate::id::VoterId;
use crate::limits::LOG_TAIL_ENTRIES;

/// The unit of the library's clock.
pub const TICK: Duration = Duration::from_millis(100);

/// Ticks without a leader's word after which a voter may run for leader: drawn from this up to
/// twice this, 1 s to 2 s. A leader that hears no quorum for this long steps down.
pub const ELECTION_TICKS: usize = 10;

/// Ticks between two heartbeats of a leader. Five fit into the shortest election timeout, so that a
/// few late ones cost no election.
pub const HEARTBEAT_TICKS: usize = 2;

/// Ticks made up for after a wake that came late. More would only run for leader again and again
/// before the messages that wait outside are read.
pub const TICKS_PER_WAKE_MAX: u64 = ELECTION_TICKS as u64;

/// Silence after which a voter counts as not recently active.
pub const ACTIVE_WITHIN: Duration = Duration::from_secs(2);

/// Ticks that a follower has to fetch a snapshot before the leader offers one again. A lost offer
/// would otherwise leave the follower stuck for ever.
pub const SNAPSHOT_PATIENCE_TICKS: u32 = 300;

/// Bytes of commands in one append message, unless a single command is larger.
pub const APPEND_BYTES: u64 = 256 * 1024;

/// Entries in one append message: more cannot fit into [`APPEND_BYTES`], as the library counts at
/// least four bytes for each.
pub const APPEND_ENTRIES_MAX: usize = 64 * 1024;

/// Append messages sent to one voter before its answer.
pub const APPENDS_IN_FLIGHT: usize = 64;

/// Bytes of proposals that wait for their commit on a leader.
pub const UNCOMMITTED_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Proposals whose outcome is still awaited.
pub const PROPOSALS_MAX: usize = 1_024;

/// Bytes of the largest snapshot that is fetched.
pub const SNAPSHOT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Messages and batches that may wait for the disk before a voter hears no more. A disk that hangs
/// would otherwise fill the memory with answers.
pub const HELD_MAX: usize = 4_096;

/// Voters and learners in one membership.
pub const MEMBERS_MAX: usize = 64;

/// Voters remembered beyond the present members, so that one that was away knows its successors'
/// names and one that was removed still gets an answer.
pub const BOOK_MAX: usize = 256;

/// A log this many times longer than the distance between two snapshots takes no more proposals.
pub const TAIL_FACTOR: u64 = 4;

/// What the owner of a voter chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Seeds the election timeouts. Two voters may share it: their ids are mixed in.
    pub seed: u64,
    /// Entries between two snapshots.
    pub snapshot_every: u64,
    /// Entries kept behind a snapshot, so that a voter that is a little late needs no snapshot.
    pub keep_behind: u64,
}

impl Config {
    /// The usual distances, with `seed`.
    pub fn new(seed: u64) -> Self {
        Self::with_tail(seed, LOG_TAIL_ENTRIES)
    }

    /// A snapshot every `tail` entries, and a quarter as many kept behind it.
    pub fn with_tail(seed: u64, tail: usize) -> Self {
        let tail = tail as u64;
        Self { seed, snapshot_every: tail, keep_behind: tail / 4 }
    }

    /// Entries that the log may hold in memory before a leader takes no more.
    pub(super) fn tail_max(&self) -> u64 {
        self.snapshot_every.saturating_mul(TAIL_FACTOR).saturating_add(self.keep_behind)
    }

    /// The library's own form. Pre-vote and the check of the quorum keep a voter that was cut off
    /// from disturbing the others; no leases are used for reads, as permits are log entries.
    pub(super) fn to_raft(&self, id: VoterId, applied: u64) -> RaftConfig {
        RaftConfig {
            id: id.0,
            applied,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            max_size_per_msg: APPEND_BYTES,
            max_inflight_msgs: APPENDS_IN_FLIGHT,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
            max_committed_size_per_ready: UNCOMMITTED_BYTES_MAX,
            check_quorum: true,
            pre_vote: true,
            ..RaftConfig::default()
        }
    }
}
