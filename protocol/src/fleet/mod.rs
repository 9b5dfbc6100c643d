//! The replicated state: roster, policies, releases, rollouts, permits, audit.
//!
//! [`Fleet`] is a pure function of the log: [`Fleet::apply`] takes the entries in order, on every
//! node alike, and answers what each changed. A command that may not be is refused and changes
//! nothing. In particular a permit over the cap is refused here, so that even a faulty coordinator
//! cannot break safety 1 of the design.
//!
//! * [`command`]: what can stand in the log; [`event`]: what came of it
//! * [`roster`]: members and voters; [`group`] and [`policy`]: groups; [`release`]: releases
//! * [`rollout`] with [`steering`]: rollouts; [`permit`] with [`granting`]: permits
//! * [`cap`]: who counts as out of service, for which protected set

pub mod audit;
pub mod cap;
pub mod command;
pub mod event;
pub mod granting;
pub mod group;
pub mod permit;
pub mod policy;
pub mod release;
pub mod rollout;
pub mod roster;
pub mod steering;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codec;
use crate::consensus::{Entry, Membership};
use crate::id::{GroupName, KeyId, LogIndex, MeshId, MeshName, NodeId, PermitId, ReleaseId};
use crate::limits::{COMMAND_BYTES_MAX, REASON_BYTES_MAX};
use crate::trust::release::PublisherScope;

use audit::Audit;
use command::{Command, Envelope};
use event::{Event, Refusal};
use group::Group;
use permit::Permit;
use release::Release;
use roster::{Member, TokenUse};

/// Everything that the mesh has agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    applied: LogIndex,
    mesh: Option<(MeshId, MeshName)>,
    publishers: BTreeMap<KeyId, PublisherScope>,
    tokens: BTreeMap<KeyId, TokenUse>,
    /// The large maps are shared by the copies of a fleet until one changes them.
    members: Arc<BTreeMap<NodeId, Member>>,
    removed: BTreeMap<NodeId, Member>,
    voters: Membership,
    groups: BTreeMap<GroupName, Group>,
    releases: BTreeMap<ReleaseId, Release>,
    permits: BTreeMap<PermitId, Permit>,
    /// The last entry that closed a permit without a proof that its holder serves.
    closed_unproven: LogIndex,
    audit: Audit,
}

/// What one entry of the log came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its place in the log.
    pub index: LogIndex,
    /// Who asked for it, with the asker's number for the request. `None` for the consensus' own.
    pub origin: Option<(NodeId, u64)>,
    /// What it changed, or why it was refused.
    pub outcome: Result<Vec<Event>, Refusal>,
}

impl Fleet {
    /// Takes the entry at `index`, which must be the one after [`Fleet::applied`].
    ///
    /// # Panics
    /// The index is another one: the caller lost or repeated an entry, and going on would make this
    /// node disagree with the mesh for ever.
    pub fn apply(&mut self, index: LogIndex, entry: &Entry) -> Applied {
        assert_eq!(index, self.applied.next(), "entries are applied once and in order");
        self.applied = index;
        let applied = |origin, outcome| Applied { index, origin, outcome };
        match entry {
            Entry::Nothing => applied(None, Ok(Vec::new())),
            Entry::Voters(membership) => {
                self.seat(membership);
                applied(None, Ok(vec![Event::RosterChanged]))
            }
            Entry::Command(bytes) if bytes.len() > COMMAND_BYTES_MAX => {
                let text = format!("{} bytes, more than a command may have", bytes.len());
                applied(None, Err(Refusal::Malformed(text)))
            }
            Entry::Command(bytes) => match codec::decode::<Envelope>(bytes) {
                Err(error) => applied(None, Err(Refusal::Malformed(error.to_string()))),
                Ok(envelope) => {
                    let outcome = self.obey(index, &envelope);
                    self.audit.record(index, &envelope, &outcome);
                    applied(Some((envelope.by, envelope.request)), outcome)
                }
            },
        }
    }

    fn obey(&mut self, index: LogIndex, envelope: &Envelope) -> Result<Vec<Event>, Refusal> {
        let by = envelope.by;
        if let Command::Found { mesh, name, founder, publisher } = &envelope.command {
            return self.found(*mesh, name, founder, *publisher);
        }
        if let Command::Admit(candidate) = &envelope.command {
            return self.admit(candidate, envelope.at);
        }
        if !self.members.contains_key(&by) {
            return Err(Refusal::NotMember);
        }
        if envelope.command.texts().any(|text| text.len() > REASON_BYTES_MAX) {
            return Err(Refusal::Limit(format!("a text has at most {REASON_BYTES_MAX} bytes")));
        }
        match &envelope.command {
            Command::Found { .. } | Command::Admit(_) => Err(Refusal::Founded),
            Command::Describe { addresses } => self.describe(by, addresses),
            Command::Live { incarnation } => self.live(by, *incarnation),
            Command::AllotVoter { node } => self.allot_voter(index, *node),
            Command::Remove { node, .. } => self.remove(*node),
            Command::SetGroup { group, change, .. } => self.set_group(group, change),
            Command::JoinGroup { group, ports } => self.join_group(group, by, *ports),
            Command::WatchBalancer { group, on, incarnation } => {
                self.check_life(by, *incarnation)?;
                self.watch_balancer(group, by, *on)
            }
            Command::Quarantine { group, node, on, .. } => self.quarantine(group, *node, *on),
            Command::Enroll { group, release, rollout, incarnation } => {
                self.check_life(by, *incarnation)?;
                self.enroll(group, by, *release, *rollout)
            }
            Command::Register { header } => self.register(header, index),
            Command::CreateRollout(new) => self.create_rollout(index, envelope, new),
            Command::Decide(decision) => self.decide(index, envelope.at, decision),
            Command::Steer { group, rollout, stage, order, .. } => {
                self.steer(group, (*rollout, *stage), order, envelope.at)
            }
            Command::Begin { permit, incarnation, nonce } => {
                self.begin(*permit, by, *incarnation, *nonce)
            }
            Command::Close { permit, incarnation, proof } => {
                self.close(*permit, by, *incarnation, proof)
            }
            Command::Fail { permit, incarnation, release, reason } => {
                self.fail(*permit, by, *incarnation, *release, reason)
            }
            Command::Override { permit, phase, fenced, .. } => {
                self.close_by_override(*permit, *phase, *fenced)
            }
        }
    }

    /// The last entry that was taken.
    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    /// The mesh, once it is founded.
    pub fn mesh(&self) -> Option<(MeshId, &MeshName)> {
        self.mesh.as_ref().map(|(id, name)| (*id, name))
    }

    /// Who may sign releases, of which services.
    pub fn publishers(&self) -> &BTreeMap<KeyId, PublisherScope> {
        &self.publishers
    }

    /// The members.
    pub fn members(&self) -> &BTreeMap<NodeId, Member> {
        &self.members
    }

    /// Former members. One that held a permit is in D until somebody states that it is fenced.
    pub fn removed(&self) -> &BTreeMap<NodeId, Member> {
        &self.removed
    }

    /// The voters of the consensus, as the log last set them.
    pub fn voters(&self) -> &Membership {
        &self.voters
    }

    /// The groups.
    pub fn groups(&self) -> &BTreeMap<GroupName, Group> {
        &self.groups
    }

    /// The releases that can be rolled out.
    pub fn releases(&self) -> &BTreeMap<ReleaseId, Release> {
        &self.releases
    }

    /// The open permits.
    pub fn permits(&self) -> &BTreeMap<PermitId, Permit> {
        &self.permits
    }

    /// What people and the coordinator did.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }
}
