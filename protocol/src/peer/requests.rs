//! What this node has asked the log for, until it sees the answer in the log.
//!
//! A request is said again until then, under the same number: the leader may change, and a message
//! may be lost.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::fleet::command::Command;
use crate::id::{NodeId, RequestId};
use crate::time::Instant;

/// Pause between two sendings.
const REPEAT: Duration = Duration::from_millis(1000);

/// How long a person waits before hearing that there is no quorum. Longer than an election takes.
const GIVE_UP_AFTER: Duration = Duration::from_secs(15);

/// Requests under way at once.
const REQUESTS_MAX: usize = 256;

/// The number of what a node asks for by itself: it sees in the log what became of it.
pub const OWN: u64 = 0;

/// Who waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A person.
    Person(RequestId),
    /// A connected node that wants to be let in.
    Candidate(NodeId),
}

/// One request under way.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Who waits.
    pub asker: Asker,
    /// What was asked for.
    pub command: Command,
    /// Why the leader did not take it, the last time that it said so.
    pub obstacle: Option<String>,
    again_at: Instant,
    until: Instant,
}

/// The requests under way.
#[derive(Debug, Default)]
pub struct Requests {
    pending: BTreeMap<u64, Pending>,
    last: u64,
}

impl Requests {
    /// Requests numbered from `first` on: above those of this node's earlier lives.
    pub fn new(first: u64) -> Self {
        Self { pending: BTreeMap::new(), last: first }
    }

    /// Takes a new request and gives it a number; `None` where there are too many.
    pub fn add(&mut self, now: Instant, asker: Asker, command: Command) -> Option<u64> {
        if self.pending.len() >= REQUESTS_MAX {
            return None;
        }
        self.last += 1;
        let until = now.after(GIVE_UP_AFTER);
        let pending = Pending { asker, command, obstacle: None, again_at: now, until };
        self.pending.insert(self.last, pending);
        Some(self.last)
    }

    /// Whether somebody waits already for this node to be let in.
    pub fn has_candidate(&self, node: NodeId) -> bool {
        self.pending.values().any(|it| it.asker == Asker::Candidate(node))
    }

    /// The answer to a request is in the log.
    pub fn answered(&mut self, number: u64) -> Option<Pending> {
        self.pending.remove(&number)
    }

    /// The leader did not take a request, and said why.
    pub fn hindered(&mut self, number: u64, obstacle: String) {
        if let Some(pending) = self.pending.get_mut(&number) {
            pending.obstacle = Some(obstacle);
        }
    }

    /// Requests that are to be sent, or sent again, now.
    pub fn due(&mut self, now: Instant) -> Vec<(u64, Command)> {
        let mut due = Vec::new();
        for (number, pending) in &mut self.pending {
            if pending.again_at <= now {
                pending.again_at = now.after(REPEAT);
                due.push((*number, pending.command.clone()));
            }
        }
        due
    }

    /// Requests that nobody will answer.
    pub fn given_up(&mut self, now: Instant) -> Vec<Pending> {
        let over: Vec<_> =
            self.pending.iter().filter(|(_, it)| it.until <= now).map(|(id, _)| *id).collect();
        over.into_iter().filter_map(|number| self.pending.remove(&number)).collect()
    }

    /// When something is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.pending.values().map(|it| it.again_at.min(it.until)).min()
    }
}
