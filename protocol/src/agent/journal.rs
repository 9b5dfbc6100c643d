//! What the agent keeps on disk for one group, so that every step can be taken again after a crash.

use serde::{Deserialize, Serialize};

use crate::id::{Incarnation, PermitId, ReleaseId};

/// Written before the step that it tells of is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The release that the service was last set to.
    pub installed: Option<ReleaseId>,
    /// How far it was under the permit that it held last.
    pub step: Step,
}

impl Journal {
    /// The permit under which the service is, or may be, out of action.
    pub fn begun(&self) -> Option<PermitId> {
        match self.step {
            Step::Begun(permit) => Some(permit),
            Step::Nothing | Step::Asked(..) => None,
        }
    }
}

/// How far a holder is under a permit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// No permit is known of.
    #[default]
    Nothing,
    /// The service is, or may be, out of action.
    Begun(PermitId),
    /// In this life it asks to begin, and nothing was moved before.
    Asked(PermitId, Incarnation),
}
