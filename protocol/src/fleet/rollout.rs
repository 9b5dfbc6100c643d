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
    },
    /// A person is needed.
    Paused {
        /// Why, and what to do.
        reason: String,
        /// Whether it was on its way back.
        back: bool,
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
    /// Whether nothing more happens in this rollout.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Done | Self::RolledBack { .. } | Self::Aborted | Self::Superseded)
    }
}

impl Rollout {
    /// Whether the rollout is on its way back, or was when it paused.
    pub fn is_back(&self) -> bool {
        match &self.phase {
            Phase::RollingBack { .. } | Phase::RolledBack { .. } => true,
            Phase::Paused { back, .. } => *back,
            _ => false,
        }
    }

    /// What members are to run at its end, as it stands now.
    pub fn target(&self) -> Option<ReleaseId> {
        if self.is_back() { self.previous } else { Some(self.release) }
    }
}
