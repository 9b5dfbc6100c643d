//! Consensus: committed entries never differ, so that two replicas which have applied the same index
//! have the same state, byte for byte. (Design, section 5; what all of section 2 rests on.)

use std::collections::{BTreeMap, VecDeque};

use baton_protocol::codec;
use baton_protocol::fleet::Fleet;
use baton_protocol::id::LogIndex;

use crate::event::Host;

/// States that are kept whole: comparing two costs less than hashing one, and most hosts follow the
/// log closely. Who is further behind is compared by hash.
const WHOLE_MAX: usize = 8;

/// The first state that any host had at each entry.
#[derive(Debug, Default)]
pub(super) struct States {
    hashes: BTreeMap<LogIndex, [u8; 32]>,
    whole: VecDeque<Fleet>,
}

/// The hash of the whole state. The audit log's chain is in it, and so every entry before.
fn hash(fleet: &Fleet) -> [u8; 32] {
    *blake3::hash(&codec::encode(fleet)).as_bytes()
}

impl States {
    /// `host` has applied what `fleet` has. The hash, where nobody had been there before.
    pub(super) fn check(&mut self, host: Host, fleet: &Fleet) -> Result<Option<[u8; 32]>, String> {
        let applied = fleet.applied();
        let Some(first) = self.hashes.get(&applied) else {
            let hash = hash(fleet);
            self.hashes.insert(applied, hash);
            self.whole.push_back(fleet.clone());
            if self.whole.len() > WHOLE_MAX {
                self.whole.pop_front();
            }
            return Ok(Some(hash));
        };
        let same = match self.whole.iter().find(|it| it.applied() == applied) {
            Some(whole) => whole == fleet,
            None => hash(fleet) == *first,
        };
        same.then_some(None).ok_or_else(|| {
            format!("agreement: host {host} has another state at entry {applied} than the first one there")
        })
    }
}
