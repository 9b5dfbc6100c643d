//! What the library wants done after each step: write, send, apply. Here it is decided what waits
//! for what.

use super::entry::{Body, LogEntry};
use super::event::{Dropped, Entry, Output, Rejection};
use super::membership::Change;
use super::message::{Body as Said, SnapshotMeta, VoterMessage};
use super::outbox::Step;
use super::raft_types::{INVALID_ID, RaftEntry, RaftMessage, Ready};
use super::storage::Gone;
use super::stored::{write_entry, write_hard_state, write_snapshot};
use super::voter::Voter;
use crate::disk::{Key, Token, Write};
use crate::id::{LogIndex, VoterId};
use crate::mutant::{self, Mutant};

impl Voter {
    /// Does all that the library wants done, until it wants no more.
    pub(super) fn drain(&mut self) {
        self.election.set(&mut self.raft);
        if self.is_founding() {
            return;
        }
        while !self.has_failed() && self.raft.has_ready() {
            self.take_ready();
        }
        self.arriving = None;
        self.election.set(&mut self.raft);
        if !self.has_failed() {
            self.want_snapshot();
            self.note_role();
        }
    }

    fn take_ready(&mut self) {
        let mut ready = self.raft.ready();
        let leads = self.leads();
        let messages = if leads { ready.take_messages() } else { ready.take_persisted_messages() };
        let committed = ready.take_committed_entries();
        let mut step = Step {
            ready: Some(ready.number()),
            term: self.raft.raft.term,
            messages,
            ..Step::default()
        };
        let Some(writes) = self.record(&ready, &mut step) else { return };
        self.raft.advance_append_async(ready);

        // A leader's words need not wait for its own disk, as it counts itself only when its entries
        // are durable. Its term must be, though: see `Outbox::durable_term`.
        let may_speak = leads && self.outbox.durable_term() == step.term;
        if may_speak || mutant::active(Mutant::SkippedSync) {
            let messages = std::mem::take(&mut step.messages);
            self.send_all(messages);
        }
        self.persist(step, writes);
        for entry in committed {
            self.apply(&entry);
        }
    }

    /// Puts what is new into the log in memory and into the writes of one batch. `None` where the
    /// voter had to end.
    fn record(&mut self, ready: &Ready, step: &mut Step) -> Option<Vec<Write>> {
        let mut writes = Vec::new();
        if !ready.snapshot().is_empty() {
            let Some((meta, data)) = self.arriving.take() else {
                self.fail("a snapshot appeared whose bytes were never fetched".to_owned());
                return None;
            };
            forget(&mut writes, self.raft.mut_store().install(meta.clone(), data.clone()));
            writes.push(write_snapshot(&meta, &data));
            step.install = Some((meta, data));
        }
        if !ready.entries().is_empty() {
            forget(&mut writes, self.raft.mut_store().append(ready.entries()));
            for entry in ready.entries() {
                match LogEntry::from_raft(entry) {
                    Ok(entry) => writes.push(write_entry(&entry)),
                    Err(error) => {
                        self.fail(error.to_string());
                        return None;
                    }
                }
            }
        }
        // The commit alone is not worth a sync, but goes along with every other write: a log that
        // holds a change of the membership must know that the change before it was committed.
        if !writes.is_empty() || ready.must_sync() {
            writes.push(write_hard_state(&self.raft.raft.hard_state()));
        }
        Some(writes)
    }

    /// Hands out the batch that `step` waits for. Without one, it waits for those before it.
    pub(super) fn persist(&mut self, step: Step, writes: Vec<Write>) {
        if !writes.is_empty() {
            let batch = self.outbox.push(step, writes);
            self.push(Output::Persist(batch));
        } else if let Some(step) = self.outbox.join(step) {
            self.done(step);
        }
    }

    /// A batch is durable: what waited for it happens.
    pub(super) fn persisted(&mut self, token: Token) {
        for step in self.outbox.confirm(token) {
            self.done(step);
        }
        if self.is_founding() && self.outbox.is_empty() {
            self.founded();
        }
    }

    fn done(&mut self, step: Step) {
        let index = step.install.as_ref().map(|(meta, _)| meta.index);
        if let Some((meta, data)) = step.install {
            self.installed(&meta);
            let members = meta.members;
            self.push(Output::Install { index: meta.index, members, snapshot: data });
        }
        if let Some(number) = step.ready {
            self.raft.on_persist_ready(number);
        }
        if let Some(index) = index {
            self.raft.advance_apply_to(index.0);
        }
        self.send_all(step.messages);
    }

    fn installed(&mut self, meta: &SnapshotMeta) {
        self.adopt(meta.members.clone());
        self.wanted = None;
        let later = self.proposals.split_off(&meta.index.next());
        for (_, handle) in std::mem::replace(&mut self.proposals, later).into_values() {
            self.reject(handle, Rejection::Unknown);
        }
    }

    fn send_all(&mut self, messages: Vec<RaftMessage>) {
        for message in messages {
            self.send(&message);
        }
    }

    fn send(&mut self, raft: &RaftMessage) {
        let Some(body) = Said::from_raft(raft) else { return };
        self.say(VoterId(raft.to), raft.term, body);
    }

    /// Sends `body` to a voter, in its present session.
    pub(super) fn say(&mut self, to: VoterId, term: u64, body: Said) {
        let Some(node) = self.book.node(to) else {
            self.count(Dropped::NoAddress);
            return;
        };
        let (session, number) = self.sessions.next(node);
        let message = VoterMessage { from: self.id, to, session, number, term, body };
        self.push(Output::Send { to: node, message });
    }

    /// Hands out one committed entry.
    fn apply(&mut self, raft: &RaftEntry) {
        let entry = match LogEntry::from_raft(raft) {
            Ok(entry) => entry,
            Err(error) => return self.fail(error.to_string()),
        };
        let said = match entry.body {
            Body::Nothing => Entry::Nothing,
            Body::Command(command) => Entry::Command(command),
            Body::Change(change) => self.apply_change(&change),
        };
        self.raft.advance_apply_to(entry.index.0);
        let handle = self.outcome(entry.index, entry.term);
        self.push(Output::Committed { index: entry.index, entry: said, handle });
    }

    /// The library takes a change as made only now that its entry is applied.
    fn apply_change(&mut self, change: &Change) -> Entry {
        let state = match self.raft.apply_conf_change(&change.to_raft()) {
            Ok(state) => state,
            Err(error) => {
                // Every voter refuses it alike, as all have the same membership here.
                tracing::warn!(voter = %self.id, %error, "a change of the voters was refused");
                return Entry::Nothing;
            }
        };
        self.adopt(self.members.after(change, &state));
        if self.leads() && !self.raft.raft.promotable() {
            // The library would go on as leader, and panic at its next commit.
            let term = self.raft.raft.term;
            self.raft.raft.become_follower(term, INVALID_ID);
        }
        Entry::Voters(self.members.clone())
    }

    /// The handle of the proposal made here that was committed at `index`, if one was.
    fn outcome(&mut self, index: LogIndex, term: u64) -> Option<u64> {
        let (proposed, handle) = self.proposals.remove(&index)?;
        if proposed == term {
            return Some(handle);
        }
        self.reject(handle, Rejection::Overwritten);
        None
    }
}

/// Adds the removal of `gone` entries to a batch.
pub(super) fn forget(writes: &mut Vec<Write>, gone: Gone) {
    writes.extend(gone.map(|index| (Key::Entry(LogIndex(index)), None)));
}
