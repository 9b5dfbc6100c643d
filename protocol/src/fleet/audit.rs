//! Who did what: a bounded tail of the log in words, chained by hashes.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codec;
use crate::fleet::command::{Command, Envelope};
use crate::fleet::event::{Event, Refusal};
use crate::id::{LogIndex, NodeId};
use crate::limits::AUDIT_ENTRIES;
use crate::time::UnixTime;

/// The last entries, and the hash over all there ever were.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    head: [u8; 32],
    tail: VecDeque<Arc<AuditEntry>>,
}

/// One thing that somebody did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its place in the log.
    pub index: LogIndex,
    /// The leader's wall clock.
    pub at: UnixTime,
    /// The node it came through.
    pub by: NodeId,
    /// The person, where it was one.
    pub person: Option<String>,
    /// What was asked for.
    pub what: String,
    /// Why it was refused, if it was.
    pub refused: Option<String>,
    /// The hash of the entry before and of this one's bytes.
    pub hash: [u8; 32],
}

impl Audit {
    /// The last entries, oldest first; at most [`AUDIT_ENTRIES`].
    pub fn tail(&self) -> impl Iterator<Item = &AuditEntry> {
        self.tail.iter().map(Arc::as_ref)
    }

    pub(super) fn record(
        &mut self,
        index: LogIndex,
        envelope: &Envelope,
        outcome: &Result<Vec<Event>, Refusal>,
    ) {
        let Some((person, what)) = describe(&envelope.command) else { return };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.head).update(&codec::encode(envelope));
        self.head = *hasher.finalize().as_bytes();
        self.tail.push_back(Arc::new(AuditEntry {
            index,
            at: envelope.at,
            by: envelope.by,
            person,
            what,
            refused: outcome.as_ref().err().map(ToString::to_string),
            hash: self.head,
        }));
        if self.tail.len() > AUDIT_ENTRIES {
            self.tail.pop_front();
        }
    }
}

/// Who and what, for commands that people ask about later; `None` for the traffic of a rollout's
/// permits, which the log of each node shows.
fn describe(command: &Command) -> Option<(Option<String>, String)> {
    let entry = match command {
        Command::Found { name, .. } => (None, format!("founded mesh {name}")),
        Command::Admit(candidate) => (None, format!("node {} joined", candidate.name)),
        Command::AllotVoter { node } => (None, format!("node {node:?} becomes a voter")),
        Command::SetGroup { group, person, .. } => (Some(person), format!("set group {group}")),
        Command::JoinGroup { group, .. } => (None, format!("joined group {group}")),
        Command::Register { header } => (None, format!("registered release {:?}", header.id())),
        Command::CreateRollout(new) => {
            (Some(&new.person), format!("rollout of {:?} on {}", new.release, new.group))
        }
        Command::Decide(decision) => match &decision.verdict {
            Some(verdict) => (None, format!("rollout {}: {verdict:?}", decision.rollout)),
            None => return None,
        },
        Command::Steer { group, order, person, .. } => {
            (Some(person), format!("{order:?} on {group}"))
        }
        Command::Override { permit, fenced, reason, person, .. } => {
            (Some(person), format!("override of permit {permit} (fenced: {fenced}): {reason}"))
        }
        Command::Remove { node, person } => (Some(person), format!("removed node {node:?}")),
        Command::Quarantine { group, node, on, person } => {
            (Some(person), format!("quarantine of {node:?} in {group}: {on}"))
        }
        Command::WatchBalancer { group, on: true, .. } => {
            (None, format!("watches a balancer of {group}"))
        }
        Command::WatchBalancer { group, on: false, .. } => {
            (None, format!("watches no balancer of {group} any more"))
        }
        Command::Describe { .. }
        | Command::Live { .. }
        | Command::Begin { .. }
        | Command::Close { .. }
        | Command::Fail { .. }
        | Command::Enroll { .. } => return None,
    };
    Some((entry.0.cloned(), entry.1))
}
