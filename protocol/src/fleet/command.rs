//! What can stand in the log.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::artifact::header::SignedHeader;
use crate::fleet::group::Ports;
use crate::fleet::permit::{PermitKind, PermitPhase};
use crate::fleet::policy::{Cap, OnFailure, Policy};
use crate::id::{
    Generation, GroupName, Incarnation, KeyId, LogIndex, MeshId, MeshName, NodeId, NodeName, Nonce,
    PermitId, ReleaseId, RolloutId, ZoneName,
};
use crate::membership::Address;
use crate::time::UnixTime;
use crate::trust::certificate::Certificate;

/// A command with who asked for it. The leader fills in `by` from what the connection proved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The node that asked.
    pub by: NodeId,
    /// Its own number for the request, by which it knows the answer when it sees the entry.
    pub request: u64,
    /// The leader's wall clock, for the audit log and for expiry dates.
    pub at: UnixTime,
    /// What is asked for.
    pub command: Command,
}

/// One change of the fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The first entry of a mesh.
    Found {
        /// Its root key.
        mesh: MeshId,
        /// What people call it.
        name: MeshName,
        /// The founding node.
        founder: Candidate,
        /// The first publisher, allowed for every service.
        publisher: KeyId,
    },
    /// A node becomes a member. Refused where the token is used up, or expired at the envelope's time.
    Admit(Candidate),
    /// A member tells where it is found now.
    Describe {
        /// Where others reach it.
        addresses: Vec<Address>,
    },
    /// A member's daemon has started again; its incarnation must be higher than the last.
    Live {
        /// The new life.
        incarnation: Incarnation,
    },
    /// A member is to become a voter. The entry's own index is the voter's id.
    AllotVoter {
        /// Which member.
        node: NodeId,
    },
    /// A person sets a group's policy; the group is made if there is none.
    SetGroup {
        /// Which group.
        group: GroupName,
        /// What changes.
        change: PolicyChange,
        /// Who said so.
        person: String,
    },
    /// The member that asks runs this group's service from now on. The group is made if there is none.
    JoinGroup {
        /// Which group.
        group: GroupName,
        /// Where its service is reached. A member that says it again changes it.
        ports: Ports,
    },
    /// A release that can be rolled out from now on.
    Register {
        /// Its signed header.
        header: SignedHeader,
    },
    /// A rollout begins.
    CreateRollout(NewRollout),
    /// The coordinator's judgement of one group, and the permits that follow from it.
    Decide(Decision),
    /// The holder may take its first disruptive step, if this reaches it in time.
    Begin {
        /// Which permit. The holder is who asks.
        permit: PermitId,
        /// The life of the holder that asked.
        incarnation: Incarnation,
        /// The number of this very request.
        nonce: Nonce,
    },
    /// The holder's service is back, or never left.
    Close {
        /// Which permit.
        permit: PermitId,
        /// The life of the holder that says so.
        incarnation: Incarnation,
        /// Why the permit may close.
        proof: Proof,
    },
    /// The node that asks could not bring the release into service.
    Fail {
        /// Which permit it holds.
        permit: PermitId,
        /// The life of the holder that says so.
        incarnation: Incarnation,
        /// Which release. Where the permit has been given another meanwhile, this is old news.
        release: ReleaseId,
        /// What was seen, for people.
        reason: String,
    },
    /// A new member's service has proved ready for the first time: from now on it counts.
    Enroll {
        /// Which group.
        group: GroupName,
        /// What it runs.
        release: ReleaseId,
        /// The group's last rollout that the member knows of. Since a later one it may run something else.
        rollout: Option<RolloutId>,
        /// The life of the member that says so.
        incarnation: Incarnation,
    },
    /// A person steers a rollout.
    Steer {
        /// Which group's.
        group: GroupName,
        /// Which rollout: an order that comes late steers no other one.
        rollout: RolloutId,
        /// In which stage, by its index in the policy: asked for twice, no other one is promoted.
        stage: usize,
        /// What is to happen.
        order: Order,
        /// Who said so.
        person: String,
    },
    /// A person closes a permit whose holder cannot.
    Override {
        /// Which permit.
        permit: PermitId,
        /// How far it had come when that was said: a holder that has come back since may be moving.
        phase: PermitPhase,
        /// The person's statement that the node is powered off or out of the balancer. Needed once
        /// the permit has begun.
        fenced: bool,
        /// Why, for the audit log.
        reason: String,
        /// Who said so.
        person: String,
    },
    /// A person takes a node out of the mesh. An open permit of it stays as a tombstone.
    Remove {
        /// Which node.
        node: NodeId,
        /// Who said so.
        person: String,
    },
    /// A person takes a node that is long ill out of a group's count, or puts it back.
    Quarantine {
        /// Which group.
        group: GroupName,
        /// Which node.
        node: NodeId,
        /// In or out.
        on: bool,
        /// Who said so.
        person: String,
    },
    /// The member that asks reads the state of a balancer in front of this group from now on, or no
    /// more: without its word nobody of the group counts as available.
    WatchBalancer {
        /// Which group. There must be one.
        group: GroupName,
        /// From now on, or no more.
        on: bool,
        /// The life of the member that says so: an earlier one may have had another config.
        incarnation: Incarnation,
    },
}

impl Command {
    /// What people wrote or are to read.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let (first, second) = match self {
            Self::SetGroup { person, .. }
            | Self::Steer { person, .. }
            | Self::Remove { person, .. }
            | Self::Quarantine { person, .. } => (Some(person), None),
            Self::CreateRollout(new) => (Some(&new.person), None),
            Self::Override { reason, person, .. } => (Some(reason), Some(person)),
            Self::Decide(decision) => (decision.verdict.as_ref().and_then(Verdict::reason), None),
            _ => (None, None),
        };
        first.into_iter().chain(second).map(String::as_str)
    }
}

/// A node that wants to be a member, or is the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its proof.
    pub certificate: Certificate,
    /// What it is to be called.
    pub name: NodeName,
    /// Where it stands.
    pub zone: Option<ZoneName>,
    /// Where others reach it.
    pub addresses: Vec<Address>,
    /// Its present life.
    pub incarnation: Incarnation,
}

/// What a person changes of a policy; `None` leaves it as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyChange {
    /// See [`Policy`].
    pub max_unavailable: Option<Cap>,
    /// See [`Cap`]. What is set there stays set when a cap is written anew.
    pub allow_half: Option<bool>,
    /// See [`Cap`], as well.
    pub allow_downtime: Option<bool>,
    /// See [`Policy`].
    pub min_healthy: Option<core::time::Duration>,
    /// See [`Policy`].
    pub allow_unproven: Option<bool>,
    /// See [`Policy`].
    pub stages: Option<Vec<u8>>,
    /// See [`Policy`].
    pub soak: Option<core::time::Duration>,
    /// See [`Policy`].
    pub on_failure: Option<OnFailure>,
}

impl PolicyChange {
    /// The policy that `before` becomes.
    pub fn applied_to(&self, before: &Policy) -> Policy {
        let mut policy = before.clone();
        let old = before.max_unavailable;
        policy.max_unavailable = Cap {
            allow_half: self.allow_half.unwrap_or(old.allow_half),
            allow_downtime: self.allow_downtime.unwrap_or(old.allow_downtime),
            ..self.max_unavailable.unwrap_or(old)
        };
        policy.min_healthy = self.min_healthy.unwrap_or(policy.min_healthy);
        policy.allow_unproven = self.allow_unproven.unwrap_or(policy.allow_unproven);
        policy.soak = self.soak.unwrap_or(policy.soak);
        policy.on_failure = self.on_failure.unwrap_or(policy.on_failure);
        if let Some(stages) = &self.stages {
            policy.stages.clone_from(stages);
        }
        policy
    }
}

/// A rollout that somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRollout {
    /// On which group.
    pub group: GroupName,
    /// Of which release.
    pub release: ReleaseId,
    /// The group's generation that the person saw: compare and set.
    pub expected: Generation,
    /// Back to a release that the group once completed: needs no higher sequence.
    pub back: bool,
    /// Who said so.
    pub person: String,
}

/// The coordinator's judgement of one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Which rollout.
    pub rollout: RolloutId,
    /// The group's generation that it was judged on: another one refuses the whole decision.
    pub expected: Generation,
    /// What becomes of the rollout, if anything.
    pub verdict: Option<Verdict>,
    /// Up to where the log was known to the judge. Where a permit was closed since without a proof that its
    /// holder serves, grants are refused: U does not name who was in D then.
    pub judged_at: LogIndex,
    /// U of every group that counts a member which gets a permit to restart, but for those who hold one for that
    /// group: they count anyway. In a large mesh they are nearly all.
    pub unavailable: BTreeMap<GroupName, BTreeSet<NodeId>>,
    /// Members found to run the rollout's release already.
    pub found_on_target: BTreeSet<NodeId>,
    /// Who gets a permit.
    pub grants: BTreeMap<NodeId, PermitKind>,
}

/// What becomes of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The next stage.
    Advance,
    /// Everything is on the release.
    Done,
    /// Something blocks it; it goes on by itself when that is gone.
    Block {
        /// What blocks, and what mends it.
        reason: String,
    },
    /// What blocked it is gone.
    Unblock,
    /// A person is needed.
    Pause {
        /// Why, and what to do.
        reason: String,
    },
    /// Back to the release before.
    Rollback {
        /// Why.
        reason: String,
    },
    /// All that can be back is back.
    RolledBack,
}

impl Verdict {
    /// Its words, where it has some.
    pub fn reason(&self) -> Option<&String> {
        match self {
            Self::Block { reason } | Self::Pause { reason } | Self::Rollback { reason } => {
                Some(reason)
            }
            Self::Advance | Self::Done | Self::Unblock | Self::RolledBack => None,
        }
    }
}

/// What a person can order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// No new permit until resumed.
    Pause,
    /// Go on.
    Resume,
    /// End the soak of this stage now.
    Promote,
    /// Stop where it is: what is done stays, what is begun ends, nothing new starts.
    Abort,
    /// Back to the release before.
    Rollback,
}

/// Why a permit may close.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Proof {
    /// The service is ready on this release, has been for `min_healthy` without a restart, and the
    /// balancer sends to it.
    Ready {
        /// What runs.
        release: ReleaseId,
        /// The rollout that wanted it: another one may want the same release again, after it wanted another.
        rollout: RolloutId,
    },
    /// By the holder's own disk, no disruptive step was taken.
    NeverBegan,
    /// An earlier life began; this one has moved nothing, and its service serves as [`Proof::Ready`] says,
    /// on whatever release.
    Serves {
        /// What runs.
        release: ReleaseId,
        /// The last `Begin` that the holder knows of. Where it has begun anew since, this proves nothing.
        begun: Nonce,
    },
}
