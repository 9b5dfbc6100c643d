//! Consensus: committed entries never differ, so that two replicas which have applied the same index
//! have the same state, byte for byte. (Design, section 5; what all of section 2 rests on.)

use std::collections::BTreeMap;

use baton_protocol::codec;
use baton_protocol::fleet::Fleet;
use baton_protocol::id::LogIndex;

use crate::event::Host;

/// The hash of the whole state. The audit log's chain is in it, and so every entry before.
pub(super) fn hash(fleet: &Fleet) -> [u8; 32] {
    *blake3::hash(&codec::encode(fleet)).as_bytes()
}

pub(super) fn check(
    states: &mut BTreeMap<LogIndex, [u8; 32]>,
    host: Host,
    applied: LogIndex,
    hash: [u8; 32],
) -> Result<(), String> {
    let first = *states.entry(applied).or_insert(hash);
    if first == hash {
        return Ok(());
    }
    Err(format!(
        "agreement: host {host} has another state at entry {applied} than the first one there"
    ))
}
