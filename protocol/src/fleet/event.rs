//! What an entry changed, and why one changed nothing.

use crate::fleet::policy::CapError;
use crate::id::{Generation, GroupName, LogIndex, NodeId, PermitId, RolloutId, VoterId};

/// What an entry changed, for those who follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Members came, left, moved or began a new life.
    RosterChanged,
    /// A member is to become a voter under this id.
    VoterAllotted(VoterId, NodeId),
    /// A group's policy or members changed.
    GroupChanged(GroupName),
    /// A release became known.
    ReleaseRegistered,
    /// A rollout was created or changed.
    RolloutChanged(RolloutId),
    /// A permit was granted, begun, retargeted or closed.
    PermitChanged(PermitId, NodeId),
}

/// Why the fleet refuses a command. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes in the log are no command of this version.
    #[error("malformed entry: {0}")]
    Malformed(String),
    /// The mesh was founded before.
    #[error("the mesh is founded already")]
    Founded,
    /// A certificate or signature does not hold.
    #[error("{0}")]
    Untrusted(String),
    /// A token's time is over.
    #[error("the join token has expired; issue a new one with `baton token`")]
    TokenExpired,
    /// A token has admitted as many nodes as it may.
    #[error(
        "the join token has been used {0} times, which is all that it allows; issue a new one with `baton token`"
    )]
    TokenUsedUp(u32),
    /// Another member has that name.
    #[error(
        "another node is called {0}; choose another `name`, or remove the old one with `baton nodes remove {0}`"
    )]
    NameTaken(String),
    /// Something is over its bound.
    #[error("{0}")]
    Limit(String),
    /// The one who asked is no member.
    #[error("not a member of this mesh")]
    NotMember,
    /// Something that was named does not exist.
    #[error("there is no {0}")]
    Unknown(String),
    /// A life that is not newer, or not the present one.
    #[error("another life of this node is known to the mesh; was its disk cloned or restored?")]
    Incarnation,
    /// The policy would be invalid.
    #[error("{0}")]
    Policy(String),
    /// The cap lets nobody go.
    #[error(transparent)]
    Cap(#[from] CapError),
    /// A permit would break the cap.
    #[error("the cap of {group} is used up: {limit} may be out of service")]
    CapUsedUp {
        /// Which group's.
        group: GroupName,
        /// k.
        limit: u32,
    },
    /// A permit to restart without a word on who else is available.
    #[error("no evidence of who is available")]
    NoEvidence,
    /// Another rollout is under way.
    #[error("rollout {0} of this group is under way; wait for it, or `baton rollout abort`")]
    Conflict(RolloutId),
    /// What was judged has changed in between.
    #[error("the group has changed meanwhile (generation {0}); look again")]
    Stale(Generation),
    /// Who was in D when it was judged may be out of it, and ill.
    #[error("a permit was closed at {0} without a proof, and it was judged before; look again")]
    JudgedTooEarly(LogIndex),
    /// A version of a service that is another release.
    #[error(
        "{0} is released already, with other content; a version never changes: choose a new one"
    )]
    VersionTaken(String),
    /// A release older than, or the same as, the last one.
    #[error("{0}")]
    NotForward(String),
    /// The release's own expiry date is over.
    #[error("the release has expired; seed it again")]
    ReleaseExpired,
    /// The order makes no sense in the rollout's state.
    #[error("{0}")]
    Order(String),
    /// The one who asked does not hold the permit, or not in that state.
    #[error("permit {0} is not open for this")]
    Permit(PermitId),
    /// A permit that has begun closes by override only with the statement that the node is fenced.
    #[error("permit {0} has begun: say --fenced if the node is powered off or out of the balancer")]
    NotFenced(PermitId),
    /// A permit's holder has begun since the order was given, or begun again.
    #[error("permit {0} has moved on meanwhile; look again: `baton permits`")]
    MovedOn(PermitId),
}
