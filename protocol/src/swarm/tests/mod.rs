//! The swarm on a simulated network, and small cases by hand.

mod cases;
mod network;
mod scenarios;

use super::{ObjectId, Part};
use crate::id::ReleaseId;

pub(super) fn object() -> ObjectId {
    ObjectId { release: ReleaseId([7; 32]), part: Part::Content }
}
