//! What a node finds on its disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::agent::journal::Journal;
use crate::codec::{self, DecodeError};
use crate::consensus::RestoreError;
use crate::disk::{Key, Value};
use crate::fleet::Fleet;
use crate::id::{GroupName, Incarnation, LogIndex};
use crate::state::State;

/// A disk that cannot be used. Nothing was changed on it.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// A value that is none of this version.
    #[error("the state on disk cannot be read ({key:?}): {error}")]
    Value {
        /// Where.
        key: Key,
        /// Why.
        error: DecodeError,
    },
    /// The consensus cannot go on from what it finds.
    #[error("the log on disk cannot be used: {0}")]
    Log(#[from] RestoreError),
}

/// Everything but the consensus' own.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) incarnation: Incarnation,
    pub(super) state: Arc<State>,
    pub(super) journals: BTreeMap<GroupName, Journal>,
    pub(super) address_book: Option<Vec<u8>>,
    pub(super) entries: BTreeSet<LogIndex>,
}

impl Stored {
    pub(super) fn read(disk: &BTreeMap<Key, Value>) -> Result<Self, Unreadable> {
        let mut stored = Self::default();
        for (key, bytes) in disk {
            let unreadable = |error| Unreadable::Value { key: key.clone(), error };
            match key {
                Key::Incarnation => {
                    stored.incarnation = codec::decode(bytes).map_err(unreadable)?;
                }
                Key::Fleet => {
                    let fleet: Fleet = codec::decode_large(bytes).map_err(unreadable)?;
                    stored.state = Arc::new(fleet.into());
                }
                Key::Journal(group) => {
                    let journal = codec::decode(bytes).map_err(unreadable)?;
                    stored.journals.insert(group.clone(), journal);
                }
                Key::AddressBook => stored.address_book = Some(bytes.to_vec()),
                Key::Entry(index) => {
                    stored.entries.insert(*index);
                }
                Key::HardState | Key::Snapshot | Key::Voter => {}
            }
        }
        Ok(stored)
    }
}
