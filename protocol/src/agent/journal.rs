//! What the agent keeps on disk for one group, so that every step can be taken again after a crash.

use serde::{Deserialize, Serialize};

use crate::id::{PermitId, ReleaseId};

/// Written before the step that it tells of is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The release that the service was last set to.
    pub installed: Option<ReleaseId>,
    /// The permit under which the service is, or may be, out of action.
    pub begun: Option<PermitId>,
}
