//! What other voters say, and when they come and go.

use super::event::{Dropped, Output};
use super::message::{Body, VoterMessage};
use super::raft_types::SnapshotStatus;
use super::voter::Voter;
use crate::id::{NodeId, VoterId};

impl Voter {
    pub(super) fn hear(&mut self, from: NodeId, message: VoterMessage) {
        if let Err(reason) = self.admit(from, &message) {
            self.count(reason);
            if reason == Dropped::Stranger {
                self.push(Output::Stranger { voter: message.from, node: from });
            }
            return;
        }
        let voter = message.from;
        if self.members.node(voter).is_some() {
            self.heard.insert(voter, self.now);
        }
        match &message.body {
            Body::SnapshotLost => self.raft.report_snapshot(voter.0, SnapshotStatus::Failure),
            Body::Snapshot(meta) if self.must_fetch(message.term, meta) => {
                self.fetch(from, message);
            }
            _ => self.step(&message),
        }
    }

    /// The sender must be the very node on which the voter lives for which it speaks.
    fn admit(&mut self, from: NodeId, message: &VoterMessage) -> Result<(), Dropped> {
        let home = self.book.node(message.from).ok_or(Dropped::Stranger)?;
        if home != from || message.from == self.id {
            return Err(Dropped::Forged);
        }
        if message.to != self.id {
            return Err(Dropped::WrongRecipient);
        }
        if !message.is_bounded() {
            return Err(Dropped::Oversize);
        }
        if !message.is_sound() {
            return Err(Dropped::Unsound);
        }
        if !self.sessions.accept(message.from, message.session, message.number) {
            return Err(Dropped::Stale);
        }
        if self.outbox.is_full() {
            return Err(Dropped::NotNow);
        }
        // To run for leader the library looks at entries that the snapshot has just replaced.
        if message.body == Body::TimeoutNow && self.outbox.installs() {
            return Err(Dropped::NotNow);
        }
        Ok(())
    }

    /// Lets the library take a message.
    pub(super) fn step(&mut self, message: &VoterMessage) {
        let raft = match message.to_raft() {
            Ok(Some(raft)) => raft,
            Ok(None) => return,
            Err(_) => return self.count(Dropped::Unsound),
        };
        if let Err(error) = self.raft.step(raft) {
            tracing::debug!(voter = %self.id, from = %message.from, %error, "message not taken");
        }
    }

    /// The stream to `node` broke, and what was in it may be lost.
    pub(super) fn lost(&mut self, node: NodeId) {
        for voter in self.book.voters_on(node) {
            if voter != self.id {
                self.unreachable(voter);
            }
        }
    }

    fn unreachable(&mut self, voter: VoterId) {
        self.raft.report_unreachable(voter.0);
        self.raft.report_snapshot(voter.0, SnapshotStatus::Failure);
    }
}
