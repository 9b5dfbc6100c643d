//! What only a leader does: propose, change the membership, hand over, know how far others are.

use std::collections::BTreeMap;

use super::config::{ACTIVE_WITHIN, PROPOSALS_MAX};
use super::event::{Output, Progress, Rejection, Role};
use super::membership::{Change, Refusal};
use super::raft_types::StateRole;
use super::voter::Voter;
use crate::codec;
use crate::id::{LogIndex, NodeId, VoterId};
use crate::limits::COMMAND_BYTES_MAX;

impl Voter {
    /// How far each member is; empty where this voter does not lead. A leader counts as active.
    pub fn progress(&self) -> BTreeMap<VoterId, Progress> {
        if !matches!(self.role, Role::Leader { .. }) {
            return BTreeMap::new();
        }
        let tracked = self.raft.raft.prs().iter();
        let progress = tracked.map(|(id, progress)| {
            let voter = VoterId(*id);
            let matched = LogIndex(progress.matched);
            (voter, Progress { matched, recently_active: self.is_active(voter) })
        });
        progress.collect()
    }

    fn is_active(&self, voter: VoterId) -> bool {
        let heard = self.heard.get(&voter);
        voter == self.id || heard.is_some_and(|at| self.now.since(*at) <= ACTIVE_WITHIN)
    }

    pub(super) fn propose(&mut self, handle: u64, command: Vec<u8>) {
        if let Err(reason) = self.may_propose(&command) {
            return self.reject(handle, reason);
        }
        if self.raft.propose(Vec::new(), command).is_err() {
            return self.reject(handle, Rejection::Busy);
        }
        let index = LogIndex(self.raft.raft.raft_log.last_index());
        let term = self.raft.raft.term;
        if let Some((_, lost)) = self.proposals.insert(index, (term, handle)) {
            self.reject(lost, Rejection::Overwritten);
        }
        self.push(Output::Proposed { handle, index });
    }

    fn may_propose(&self, command: &[u8]) -> Result<(), Rejection> {
        if !matches!(self.role, Role::Leader { .. }) {
            return Err(Rejection::NotLeader);
        }
        if command.is_empty() || command.len() > COMMAND_BYTES_MAX {
            return Err(Rejection::Size);
        }
        let long = self.raft.store().len() >= self.config.tail_max();
        if long || self.proposals.len() >= PROPOSALS_MAX {
            return Err(Rejection::Busy);
        }
        Ok(())
    }

    pub(super) fn reject(&mut self, handle: u64, reason: Rejection) {
        let leader = self.leader();
        self.push(Output::Rejected { handle, reason, leader });
    }

    pub(super) fn add_learner(&mut self, voter: VoterId, node: NodeId) {
        if self.book.node(voter).is_some_and(|known| known != node) {
            return self.push(Output::Refused(Refusal::IdTaken));
        }
        self.change(Change::AddLearner { voter, node });
    }

    /// Proposes a change of the membership, or says why not.
    pub(super) fn change(&mut self, change: Change) {
        if let Err(refusal) = self.try_change(&change) {
            self.push(Output::Refused(refusal));
        }
    }

    fn try_change(&mut self, change: &Change) -> Result<(), Refusal> {
        if !matches!(self.role, Role::Leader { .. }) {
            return Err(Refusal::NotLeader);
        }
        // The library would say yes and let the change vanish.
        if self.raft.raft.has_pending_conf() || self.members.is_joint() {
            return Err(Refusal::Pending);
        }
        change.check(&self.members)?;
        if let Change::Replace { remove, .. } = change
            && remove.contains(&self.id)
        {
            self.hand_over(remove);
            return Err(Refusal::HandingOver);
        }
        let proposed = self.raft.propose_conf_change(codec::encode(change), change.to_raft());
        proposed.map_err(|_| Refusal::Pending)
    }

    pub(super) fn transfer(&mut self, to: VoterId) {
        let refusal = if !self.leads() {
            Some(Refusal::NotLeader)
        } else if to == self.id || !self.members.voters.contains_key(&to) {
            Some(Refusal::NoMember)
        } else {
            None
        };
        match refusal {
            Some(refusal) => self.push(Output::Refused(refusal)),
            None => self.raft.transfer_leader(to.0),
        }
    }

    /// A leader that votes only in the old half of a replacement hands over before it is left out.
    pub(super) fn hand_over_if_leaving(&mut self) {
        let leaving = self.members.is_joint() && !self.members.voters.contains_key(&self.id);
        if self.raft.raft.state == StateRole::Leader && leaving {
            self.hand_over(&[]);
        }
    }

    /// Hands the lead to the voter that is farthest, of those that stay and were just heard.
    fn hand_over(&mut self, except: &[VoterId]) {
        if self.raft.raft.lead_transferee.is_some() {
            return;
        }
        let matched =
            |id: VoterId| self.raft.raft.prs().get(id.0).map_or(0, |progress| progress.matched);
        let voters = self.members.voters.keys().copied();
        let stays = voters.filter(|id| *id != self.id && !except.contains(id));
        let farthest = stays.max_by_key(|id| (self.is_active(*id), matched(*id)));
        if let Some(farthest) = farthest {
            self.raft.transfer_leader(farthest.0);
        }
    }
}
