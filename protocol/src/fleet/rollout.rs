//! The activation of one release on one group.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{GroupName, NodeId, ReleaseId, RolloutId};
use crate::time::UnixTime;

/// One rollout, under way or ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Its id.
    pub id: RolloutId,
    /// On which group.
    pub group: GroupName,
    /// What it brings.
    pub release: ReleaseId,
    /// What it goes back to, if it must.
    pub previous: Option<ReleaseId>,
    /// How it stands.
    pub phase: Phase,
    /// Index of the stage under way, in the policy's stages.
    pub stage: usize,
    /// Whether a person ended this stage's soak.
    pub promoted: bool,
    /// Members that failed on `release`, and how.
    pub failed: BTreeMap<NodeId, String>,
    /// How often a person resumed it: members that have given up try again with each.
    pub resumed: u32,
    /// Who asked for it.
    pub person: String,
    /// The node and its request that created it, so that a repeated request finds it.
    pub origin: (NodeId, u64),
    /// When it was created, by the leader's wall clock.
    pub created_at: UnixTime,
    /// When it ended, by the leader's wall clock.
    pub ended_at: Option<UnixTime>,
}

/// How a rollout stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Permits for `release` are granted.
    Forward,
    /// Something blocks it; it goes on by itself.
    Blocked {
        /// What blocks, and what mends it.
        reason: String,
        /// Why it turned back, where it is on its way back.
        back: Option<String>,
    },
    /// A person is needed.
    Paused {
        /// Why, and what to do.
        reason: String,
        /// Why it turned back, where it was on its way back.
        back: Option<String>,
        /// Whether a person ordered it: nothing is wrong then.
        ordered: bool,
    },
    /// Permits for `previous` are granted.
    RollingBack {
        /// Why it turned back.
        reason: String,
    },
    /// Every member runs `release`.
    Done,
    /// Every member runs `previous` again.
    RolledBack {
        /// Why it turned back.
        reason: String,
    },
    /// A person stopped it where it was.
    Aborted,
    /// Another rollout took its place.
    Superseded,
}

impl Phase {
    /// Under way, in the direction that `back` says.
    pub fn under_way(back: Option<String>) -> Self {
        back.map_or(Self::Forward, |reason| Self::RollingBack { reason })
    }

    /// Whether nothing more happens in this rollout.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Done | Self::RolledBack { .. } | Self::Aborted | Self::Superseded)
    }
}

impl Rollout {
    /// Why the rollout is on its way back, or was when it paused or ended.
    pub fn back(&self) -> Option<&String> {
        match &self.phase {
            Phase::RollingBack { reason } | Phase::RolledBack { reason } => Some(reason),
            Phase::Paused { back, .. } | Phase::Blocked { back, .. } => back.as_ref(),
            _ => None,
        }
    }

    /// Whether it is on its way back, or was when it paused or ended.
    pub fn is_back(&self) -> bool {
        self.back().is_some()
    }

    /// Whether its holders that have moved nothing yet may begin.
    pub fn may_start(&self) -> bool {
        !self.phase.is_over() && !matches!(self.phase, Phase::Paused { .. })
    }

    pub(super) fn pause(&mut self, reason: &str, ordered: bool) {
        let (reason, back) = (reason.to_owned(), self.back().cloned());
        self.phase = Phase::Paused { reason, back, ordered };
    }

    /// What members are to run at its end, as it stands now.
    pub fn target(&self) -> Option<ReleaseId> {
        if self.is_back() { self.previous } else { Some(self.release) }
    }
}
