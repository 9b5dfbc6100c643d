//! What the log says to one service on this node.

use core::time::Duration;

use crate::fleet::group::Standing;
use crate::fleet::permit::PermitPhase;
use crate::id::{PermitId, ReleaseId, RolloutId};

/// What the log says to one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Whether the node counts in the group.
    pub standing: Standing,
    /// What a new member installs.
    pub installable: Option<ReleaseId>,
    /// The rollout that was ordered last.
    pub last_rollout: Option<RolloutId>,
    /// How long a service must be ready to count as available.
    pub min_healthy: Duration,
    /// The rollout under way, and how often a person has resumed it.
    pub attempt: Option<(RolloutId, u32)>,
    /// The node's open permit for this group.
    pub lease: Option<Lease>,
    /// Whether somebody reads the balancers in front of the group.
    pub watched: bool,
}

/// An open permit, as its holder sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The permit.
    pub id: PermitId,
    /// The rollout that it is for.
    pub rollout: RolloutId,
    /// What the service is to run in the end.
    pub release: ReleaseId,
    /// How far the log has it.
    pub phase: PermitPhase,
    /// Whether the log has the holder's failure on `release`.
    pub failed: bool,
    /// Whether a holder that has moved nothing may still begin.
    pub may_start: bool,
}
