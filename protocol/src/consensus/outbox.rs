//! What waits for the disk: messages, and the library's own bookkeeping, until the batch that they
//! depend on is durable.

use std::collections::VecDeque;
use std::sync::Arc;

use super::config::HELD_MAX;
use super::message::SnapshotMeta;
use super::raft_types::RaftMessage;
use crate::disk::{Batch, Token, Write};

/// A step whose effects are not durable yet.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// The library's number of this step, if it is one of its.
    pub ready: Option<u64>,
    /// The term that becomes durable with it.
    pub term: u64,
    /// What to send then.
    pub messages: Vec<RaftMessage>,
    /// The state to install then.
    pub install: Option<(SnapshotMeta, Arc<[u8]>)>,
}

/// The steps that wait, oldest first, each for its batch.
#[derive(Debug)]
pub(super) struct Outbox {
    waiting: VecDeque<(Token, Step)>,
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

    /// Whether so much waits that nothing more should be heard that would add to it.
    pub(super) fn is_full(&self) -> bool {
        let messages: usize = self.waiting.iter().map(|(_, step)| step.messages.len()).sum();
        messages + self.waiting.len() >= HELD_MAX
    }

    /// Whether a snapshot is on its way to the disk.
    pub(super) fn installs(&self) -> bool {
        self.waiting.iter().any(|(_, step)| step.install.is_some())
    }

    /// The highest term of which a crash leaves the vote. Before its term is durable, a leader says
    /// nothing: a sole voter wins without asking, and after a crash could win the same term again,
    /// or give its vote in it to another.
    pub(super) fn durable_term(&self) -> u64 {
        self.durable_term
    }

    /// Adds a step that waits for `writes`; this is their batch.
    pub(super) fn push(&mut self, step: Step, writes: Vec<Write>) -> Batch {
        let token = Token(self.next_token);
        self.next_token += 1;
        self.waiting.push_back((token, step));
        Batch { token, writes }
    }

    /// Adds a step that writes nothing: it is done with the step before it. Gives it back if there
    /// is none.
    pub(super) fn join(&mut self, step: Step) -> Option<Step> {
        let Some((_, last)) = self.waiting.back_mut() else { return Some(step) };
        last.ready = step.ready.or(last.ready);
        last.term = last.term.max(step.term);
        last.messages.extend(step.messages);
        None
    }

    /// The steps that are done now that `token` is durable, oldest first.
    pub(super) fn confirm(&mut self, token: Token) -> Vec<Step> {
        let done = self.waiting.iter().take_while(|(own, _)| *own <= token).count();
        let done: Vec<Step> = self.waiting.drain(..done).map(|(_, step)| step).collect();
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
        let step = |term, ready| Step { term, ready: Some(ready), ..Step::default() };
        let mut outbox = Outbox::new(0);
        assert!(outbox.join(step(1, 1)).is_some());
        let first = outbox.push(step(1, 2), write());
        assert!(outbox.join(step(1, 3)).is_none());
        let second = outbox.push(step(2, 4), write());

        assert_eq!(outbox.durable_term(), 0);
        let ready = |steps: Vec<Step>| steps.iter().map(|step| step.ready).collect::<Vec<_>>();
        assert_eq!(ready(outbox.confirm(first.token)), [Some(3)]);
        assert_eq!(outbox.durable_term(), 1);
        assert_eq!(ready(outbox.confirm(first.token)), []);
        assert_eq!(ready(outbox.confirm(second.token)), [Some(4)]);
        assert!(outbox.is_empty());
    }
}
