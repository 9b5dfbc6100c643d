//! What was done, and by whom.

use baton_protocol::peer::Peer;
use serde::{Deserialize, Serialize};

use super::name;

/// Something that somebody did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditView {
    /// Its place in the log.
    pub index: u64,
    /// Seconds since 1970, by the leader's clock.
    pub at: u64,
    /// Through which node.
    pub node: String,
    /// Who, where it was a person.
    pub person: Option<String>,
    /// What.
    pub what: String,
    /// Why it was refused, if it was.
    pub refused: Option<String>,
}

/// What people and the coordinator did, oldest first.
pub fn audit(peer: &Peer) -> Vec<AuditView> {
    let fleet = peer.fleet();
    let entries = fleet.audit().tail().map(|entry| AuditView {
        index: entry.index.0,
        at: entry.at.0,
        node: name(fleet, entry.by),
        person: entry.person.clone(),
        what: entry.what.clone(),
        refused: entry.refused.clone(),
    });
    entries.collect()
}
