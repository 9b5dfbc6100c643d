//! The right of one node to take its service out of action.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::id::{GroupName, Incarnation, NodeId, Nonce, PermitId, ReleaseId, RolloutId};

/// An open permit. Closed ones are gone; their ids cannot come back, being places in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit {
    /// Its id.
    pub id: PermitId,
    /// Who holds it.
    pub node: NodeId,
    /// For which group's service.
    pub group: GroupName,
    /// Other groups in which the holder counted when it was removed: it stays in their D too.
    pub also_in: BTreeSet<GroupName>,
    /// In which rollout.
    pub rollout: RolloutId,
    /// What the holder is to run when it closes. Changed when the rollout turns back.
    pub release: ReleaseId,
    /// On what grounds it was granted.
    pub kind: PermitKind,
    /// How far it has come.
    pub phase: PermitPhase,
    /// What the holder reported when it failed on `release`.
    pub failure: Option<String>,
}

/// On what grounds a permit was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PermitKind {
    /// The holder is available and goes down within the cap.
    Restart,
    /// The holder is proven dead on its own machine: the step can take nothing away.
    Repair,
}

/// How far a permit has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PermitPhase {
    /// Counted, and nothing may move yet.
    Granted,
    /// The holder may move, in this life, if the echo of this nonce reached it in time.
    Begun {
        /// The life of the holder that asked.
        incarnation: Incarnation,
        /// The number of its request.
        nonce: Nonce,
    },
}

impl Permit {
    /// Whether `Begin` was committed, so that the service may be down.
    pub fn has_begun(&self) -> bool {
        matches!(self.phase, PermitPhase::Begun { .. })
    }
}
