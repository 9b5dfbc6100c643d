//! What waits for the disk: messages, and the library's own bookkeeping, until the batch that they
//! depend on is durable.

use std::collections::VecDeque;
use std::sync::Arc;

use super::message::SnapshotMeta;
use super::raft_types::RaftMessage;
use crate::disk::{Batch, Token, Write};

/// A step whose effects are not durable yet.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// The batch to wait for; `None` where it is only the steps before that are waited for.
    pub token: Option<Token>,
    /// The library's number of this step, if it is one of its.
    pub ready: Option<u64>,
    /// The term that becomes durable with it.
    pub term: u64,
    /// What to send then.
    pub messages: Vec<RaftMessage>,
    /// The state to install then.
    pub install: Option<(SnapshotMeta, Arc<[u8]>)>,
}

/// The steps that wait, oldest first.
#[derive(Debug)]
pub(super) struct Outbox {
    waiting: VecDeque<Step>,
    next_token: u64,
    durable_term: u64,
}

impl Outbox {
    pub(super) fn new(durable_term: u64) -> Self {
        Self { waiting: VecDeque::new(), next_token: 1, durable_term }
    }

    /// Whether everything said so far is durable.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether a snapshot is on its way to the disk.
    pub(super) fn installs(&self) -> bool {
        self.waiting.iter().any(|step| step.install.is_some())
    }

    /// The highest term of which a crash leaves the vote. Before its term is durable, a leader must
    /// say nothing: a sole voter, which wins without asking, would after a crash win the same term
    /// again, with other entries.
    pub(super) fn durable_term(&self) -> u64 {
        self.durable_term
    }

    /// Adds a step. With `writes`, it waits for them, and this is their batch.
    pub(super) fn push(&mut self, mut step: Step, writes: Vec<Write>) -> Option<Batch> {
        if writes.is_empty() {
            self.waiting.push_back(step);
            return None;
        }
        let token = Token(self.next_token);
        self.next_token += 1;
        step.token = Some(token);
        self.waiting.push_back(step);
        Some(Batch { token, writes })
    }

    /// The steps that are done now that `token` is durable, oldest first: all up to it, and those
    /// after it that wait for no batch of their own.
    pub(super) fn confirm(&mut self, token: Token) -> Vec<Step> {
        let mut done = Vec::new();
        while let Some(step) = self.waiting.front() {
            if step.token.is_some_and(|own| own > token) {
                break;
            }
            done.extend(self.waiting.pop_front());
        }
        for step in &done {
            self.durable_term = self.durable_term.max(step.term);
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Key;

    #[test]
    fn steps_wait_for_their_batch_and_all_before_it() {
        let write = || vec![(Key::HardState, None)];
        let mut outbox = Outbox::new(0);
        let first = outbox.push(Step { term: 1, ..Step::default() }, write()).unwrap();
        assert_eq!(outbox.push(Step { term: 1, ..Step::default() }, vec![]), None);
        let second = outbox.push(Step { term: 2, ..Step::default() }, write()).unwrap();

        assert_eq!(outbox.durable_term(), 0);
        assert_eq!(outbox.confirm(first.token).len(), 2);
        assert_eq!(outbox.durable_term(), 1);
        assert_eq!(outbox.confirm(first.token).len(), 0);
        assert_eq!(outbox.confirm(second.token).len(), 1);
        assert!(outbox.is_empty());
    }
}
