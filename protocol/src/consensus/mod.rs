//! The log, its voters, their replacement: a facade over an existing Raft library.
//!
//! Only this module names the library. [`Voter`] has the face of every machine of this crate; what
//! it does, [`Input`] and [`Output`] tell. Three rules hold throughout:
//!
//! - Nothing is said that rests on what a crash could take back: messages wait in the outbox for
//!   their [`Output::Persist`].
//! - Nothing that a peer sends reaches the library's parser, and no peer speaks for another.
//! - A panic of the library ends the voter and not the node.

mod book;
mod config;
mod election;
mod entry;
mod event;
mod lead;
mod membership;
mod message;
mod outbox;
mod peers;
mod raft_types;
mod ready;
mod session;
mod snapshot;
mod storage;
mod stored;
#[cfg(test)]
mod tests;
mod voter;

pub use config::{
    ACTIVE_WITHIN, Config, ELECTION_TICKS, HEARTBEAT_TICKS, SNAPSHOT_BYTES_MAX, TICK,
};
pub use entry::LogEntry;
pub use event::{Dropped, Entry, Input, Output, Progress, Rejection, Role};
pub use membership::{Membership, Refusal};
pub use message::{Promise, SnapshotMeta, VoterMessage};
pub use stored::{Kept, RestoreError};
pub use voter::Voter;
