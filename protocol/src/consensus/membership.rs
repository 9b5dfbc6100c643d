//! Who votes, and the changes of that.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::config::MEMBERS_MAX;
use super::raft_types::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState,
};
use crate::id::{NodeId, VoterId};

/// The voters and learners at one place in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Those whose majority commits.
    pub voters: BTreeMap<VoterId, NodeId>,
    /// Those that get the log and do not vote yet.
    pub learners: BTreeMap<VoterId, NodeId>,
    /// In the middle of a replacement: the voters before it, whose majority is needed as well.
    /// Empty otherwise.
    pub outgoing: BTreeMap<VoterId, NodeId>,
}

impl Membership {
    /// The node on which `voter` lives, if it is a voter, a learner or an outgoing voter.
    pub fn node(&self, voter: VoterId) -> Option<NodeId> {
        self.all().find(|(id, _)| *id == voter).map(|(_, node)| node)
    }

    /// Whether a replacement is half done.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Every voter, learner and outgoing voter. One that is in two of the sets comes twice.
    pub fn all(&self) -> impl Iterator<Item = (VoterId, NodeId)> + '_ {
        let sets = [&self.voters, &self.learners, &self.outgoing];
        sets.into_iter().flatten().map(|(voter, node)| (*voter, *node))
    }

    /// Whether the sets fit together: what a peer's snapshot is held to.
    pub(super) fn is_sound(&self) -> bool {
        let learner_votes = self
            .learners
            .keys()
            .any(|id| self.voters.contains_key(id) || self.outgoing.contains_key(id));
        let zero = self.all().any(|(id, _)| id == VoterId(0));
        !self.voters.is_empty() && !learner_votes && !zero && self.all().count() <= MEMBERS_MAX
    }

    pub(super) fn to_raft(&self) -> ConfState {
        let ids = |set: &BTreeMap<VoterId, NodeId>| set.keys().map(|id| id.0).collect();
        let mut state = ConfState::default();
        state.set_voters(ids(&self.voters));
        state.set_learners(ids(&self.learners));
        state.set_voters_outgoing(ids(&self.outgoing));
        state.auto_leave = self.is_joint();
        state
    }

    /// The membership that the library calls `state`, reached from this one by `change`.
    pub(super) fn after(&self, change: &Change, state: &ConfState) -> Self {
        let mut nodes: BTreeMap<VoterId, NodeId> = self.all().collect();
        if let Change::Found { voter, node } | Change::AddLearner { voter, node } = change {
            nodes.insert(*voter, *node);
        }
        let named = |ids: &[u64]| {
            let ids = ids.iter().map(|id| VoterId(*id));
            ids.filter_map(|id| nodes.get(&id).map(|node| (id, *node))).collect()
        };
        Self {
            voters: named(state.get_voters()),
            learners: named(state.get_learners()),
            outgoing: named(state.get_voters_outgoing()),
        }
    }
}

/// Why a change of the membership was not proposed. Only the applied entry tells that one was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Only the leader changes the membership.
    #[error("this voter is not the leader")]
    NotLeader,
    /// One change at a time, and none before the leader's own term has committed an entry.
    #[error("another change is not finished")]
    Pending,
    /// The change removes the leader, which hands over first. The next leader may be asked again.
    #[error("the leader is to be removed and hands over first")]
    HandingOver,
    /// An id that is 0, is a member already, or has belonged to another node.
    #[error("the voter's id is not a new one")]
    IdTaken,
    /// To be promoted, but no learner.
    #[error("only a learner can be promoted")]
    NoLearner,
    /// To be removed or handed the lead, but no member that could be.
    #[error("no such member")]
    NoMember,
    /// Nothing to do, no voter left, or more members than there may be.
    #[error("the membership would be empty, unchanged or too large")]
    Size,
}

/// One change of the membership, as the log holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Change {
    /// The first entry of every log: the founder is its only voter.
    Found { voter: VoterId, node: NodeId },
    /// A new member, without a vote.
    AddLearner { voter: VoterId, node: NodeId },
    /// Learners become voters and members leave, in one joint step.
    Replace { promote: Vec<VoterId>, remove: Vec<VoterId> },
    /// The end of the joint step. The library proposes it by itself.
    Leave,
}

impl Change {
    pub(super) fn to_raft(&self) -> ConfChangeV2 {
        let mut change = ConfChangeV2::default();
        match self {
            Self::Found { voter, .. } => push(&mut change, *voter, ConfChangeType::AddNode),
            Self::AddLearner { voter, .. } => {
                push(&mut change, *voter, ConfChangeType::AddLearnerNode);
            }
            Self::Replace { promote, remove } => {
                // "Implicit" is always joint, and left by itself: also where one voter changes.
                change.set_transition(ConfChangeTransition::Implicit);
                for voter in promote {
                    push(&mut change, *voter, ConfChangeType::AddNode);
                }
                for voter in remove {
                    push(&mut change, *voter, ConfChangeType::RemoveNode);
                }
            }
            Self::Leave => {}
        }
        change
    }

    /// Whether `members` can take this change.
    pub(super) fn check(&self, members: &Membership) -> Result<(), Refusal> {
        match self {
            Self::AddLearner { voter, .. } => check_learner(*voter, members),
            Self::Replace { promote, remove } => check_replace(promote, remove, members),
            Self::Found { .. } | Self::Leave => Err(Refusal::Pending),
        }
    }
}

fn push(change: &mut ConfChangeV2, voter: VoterId, kind: ConfChangeType) {
    let mut single = ConfChangeSingle { node_id: voter.0, ..ConfChangeSingle::default() };
    single.set_change_type(kind);
    change.mut_changes().push(single);
}

fn check_learner(voter: VoterId, members: &Membership) -> Result<(), Refusal> {
    if voter == VoterId(0) || members.node(voter).is_some() {
        return Err(Refusal::IdTaken);
    }
    // A joint step counts the voters twice.
    if members.all().count() + members.voters.len() >= MEMBERS_MAX {
        return Err(Refusal::Size);
    }
    Ok(())
}

fn check_replace(
    promote: &[VoterId],
    remove: &[VoterId],
    members: &Membership,
) -> Result<(), Refusal> {
    if promote.iter().any(|id| !members.learners.contains_key(id) || remove.contains(id)) {
        return Err(Refusal::NoLearner);
    }
    if remove.iter().any(|id| members.node(*id).is_none()) {
        return Err(Refusal::NoMember);
    }
    let stays = members.voters.keys().any(|id| !remove.contains(id));
    let changes = !promote.is_empty() || !remove.is_empty();
    if !changes || (promote.is_empty() && !stays) {
        return Err(Refusal::Size);
    }
    Ok(())
}
