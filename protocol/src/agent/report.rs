//! What a node tells the leader of its services: the evidence on which permits are granted.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::agent::balancer::Look;
use crate::id::{GroupName, Incarnation, Question, ReleaseId};

/// Answers the leader's question of that number, and is repeated unasked when something changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The leader's term and last question that this node has seen: what the evidence is aged by.
    pub question: (u64, Question),
    /// The node's present life.
    pub incarnation: Incarnation,
    /// Releases that are whole, verified and synced on its disk.
    pub staged: BTreeSet<ReleaseId>,
    /// Releases on their way, with the share that is there, in thousandths.
    pub fetching: BTreeMap<ReleaseId, u16>,
    /// Why releases do not come, where the last try failed.
    pub troubles: BTreeMap<ReleaseId, String>,
    /// One entry for each group that the node is in.
    pub services: BTreeMap<GroupName, ServiceReport>,
    /// The last look at the balancer beside the node, for each group that it watches.
    pub balancers: BTreeMap<GroupName, Look>,
}

impl Report {
    /// Whether all is as in `other` by which permits are granted and begun: the leader hears at once of
    /// what is not.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.services == other.services
            && self.staged == other.staged
            && self.incarnation == other.incarnation
            && self.balancers == other.balancers
    }
}

/// How one service stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceReport {
    /// What runs, or is meant to.
    pub release: Option<ReleaseId>,
    /// Whether it serves.
    pub condition: Condition,
}

/// Whether a service serves. Only [`Condition::Available`] is proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Ready for `min_healthy` without a restart, and not being taken out of service.
    Available,
    /// Nothing is installed.
    Absent,
    /// Seen not to be ready.
    Unready {
        /// What was last seen.
        reason: String,
    },
    /// Being taken out of service, switched or started under a permit.
    Moving {
        /// Which step, for people.
        step: String,
    },
    /// Its process is gone, and its restart policy frozen: nothing brings it back but a permit or a
    /// person. The proof on which a repair may be granted.
    Dead {
        /// What was last seen.
        reason: String,
    },
    /// Ready, for less than `min_healthy`.
    Settling,
    /// Not looked at since its process, or the daemon, has started: proof of nothing, and no reason for
    /// a repair.
    Unseen,
}

impl Condition {
    /// Whether this proves that the service serves.
    pub fn is_available(&self) -> bool {
        matches!(self, Self::Available)
    }
}
