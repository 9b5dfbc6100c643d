//! Members and voters.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::consensus::Membership;
use crate::fleet::Fleet;
use crate::fleet::command::Candidate;
use crate::fleet::event::{Event, Refusal};
use crate::id::{
    Incarnation, KeyId, LogIndex, MeshId, MeshName, NodeId, NodeName, VoterId, ZoneName,
};
use crate::limits::NODES_MAX;
use crate::membership::Address;
use crate::mutant::{self, Mutant};
use crate::time::UnixTime;
use crate::trust::certificate::{Certificate, Role};
use crate::trust::chain;
use crate::trust::release::PublisherScope;

/// Addresses that one member may have.
const ADDRESSES_MAX: usize = 4;

/// A member of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// What people call it.
    pub name: NodeName,
    /// Whether it runs services.
    pub role: Role,
    /// Its failure domain.
    pub zone: Option<ZoneName>,
    /// Where others reach it.
    pub addresses: Vec<Address>,
    /// Its last confirmed life.
    pub incarnation: Incarnation,
    /// Its proof of membership.
    pub certificate: Certificate,
    /// The voter that it is or is to become.
    pub voter: Option<VoterId>,
}

/// How often a token has been used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUse {
    /// Nodes admitted with it.
    pub admitted: u32,
}

impl Fleet {
    pub(super) fn found(
        &mut self,
        mesh: MeshId,
        name: &MeshName,
        founder: &Candidate,
        publisher: KeyId,
    ) -> Result<Vec<Event>, Refusal> {
        if self.mesh.is_some() {
            return Err(Refusal::Founded);
        }
        chain::verify(mesh, &founder.certificate)
            .map_err(|error| Refusal::Untrusted(error.to_string()))?;
        check_addresses(&founder.addresses)?;
        self.mesh = Some((mesh, name.clone()));
        self.publishers.insert(publisher, PublisherScope::All);
        self.enter(founder);
        Ok(vec![Event::RosterChanged])
    }

    pub(super) fn admit(
        &mut self,
        candidate: &Candidate,
        now: UnixTime,
    ) -> Result<Vec<Event>, Refusal> {
        let Some((mesh, _)) = self.mesh else { return Err(Refusal::NotMember) };
        let node = candidate.certificate.node;
        if self.members.contains_key(&node) {
            return Ok(Vec::new()); // asked twice; the first answer was lost
        }
        if self.removed.contains_key(&node) {
            return Err(Refusal::NotMember);
        }
        let grant = chain::verify(mesh, &candidate.certificate)
            .map_err(|error| Refusal::Untrusted(error.to_string()))?;
        if grant.expired_at(now) {
            return Err(Refusal::TokenExpired);
        }
        check_addresses(&candidate.addresses)?;
        if self.members.len() >= NODES_MAX {
            return Err(Refusal::Limit(format!("a mesh has at most {NODES_MAX} nodes")));
        }
        if self.members.values().any(|member| member.name == candidate.name) {
            return Err(Refusal::NameTaken(candidate.name.to_string()));
        }
        let used = self.tokens.entry(grant.token).or_default();
        if used.admitted >= grant.uses {
            return Err(Refusal::TokenUsedUp(grant.uses));
        }
        used.admitted += 1;
        self.enter(candidate);
        Ok(vec![Event::RosterChanged])
    }

    fn enter(&mut self, candidate: &Candidate) {
        let member = Member {
            name: candidate.name.clone(),
            role: candidate.certificate.role,
            zone: candidate.zone.clone(),
            addresses: candidate.addresses.clone(),
            incarnation: candidate.incarnation,
            certificate: candidate.certificate.clone(),
            voter: None,
        };
        Arc::make_mut(&mut self.members).insert(candidate.certificate.node, member);
    }

    pub(super) fn describe(
        &mut self,
        node: NodeId,
        addresses: &[Address],
    ) -> Result<Vec<Event>, Refusal> {
        check_addresses(addresses)?;
        self.member_mut(node)?.addresses = addresses.to_vec();
        Ok(vec![Event::RosterChanged])
    }

    pub(super) fn live(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
    ) -> Result<Vec<Event>, Refusal> {
        let member = self.member_mut(node)?;
        if incarnation <= member.incarnation {
            return Err(Refusal::Incarnation);
        }
        member.incarnation = incarnation;
        Ok(vec![Event::RosterChanged])
    }

    pub(super) fn allot_voter(
        &mut self,
        index: LogIndex,
        node: NodeId,
    ) -> Result<Vec<Event>, Refusal> {
        let present = self.votes(node);
        let voter = self.reused_by_mistake().unwrap_or(VoterId(index.0));
        let member = self.member_mut(node)?;
        if present {
            return Err(Refusal::Order("this node is a voter already".to_owned()));
        }
        // An id that was allotted and never used is left behind: the new one replaces it.
        member.voter = Some(voter);
        Ok(vec![Event::VoterAllotted(voter, node), Event::RosterChanged])
    }

    pub(super) fn remove(&mut self, node: NodeId) -> Result<Vec<Event>, Refusal> {
        if self.votes(node) {
            let text = "this node is a voter; it is replaced first, which needs another node that \
                        can be one";
            return Err(Refusal::Order(text.to_owned()));
        }
        let member = Arc::make_mut(&mut self.members).remove(&node);
        let member = member.ok_or_else(|| unknown(node))?;
        self.removed.insert(node, member);
        if mutant::active(Mutant::RemovedForgotten) {
            self.permits.retain(|_, permit| permit.node != node);
        }
        let mut events = vec![Event::RosterChanged];
        let mut permit = self.permits.values_mut().find(|permit| permit.node == node);
        for (name, group) in &mut self.groups {
            if let Some(permit) = permit.as_mut().filter(|_| group.counts(node)) {
                permit.also_in.insert(name.clone());
            }
            let (served, watched) =
                (group.members_mut().remove(&node), group.watchers.remove(&node));
            if served.is_some() || watched {
                group.generation = group.generation.next();
                events.push(Event::GroupChanged(name.clone()));
            }
        }
        Ok(events)
    }

    /// The mistake that the simulator must find: the lowest id that no voter has at the moment.
    fn reused_by_mistake(&self) -> Option<VoterId> {
        if !mutant::active(Mutant::VoterIdReused) {
            return None;
        }
        (1..).map(VoterId).find(|id| self.voters.node(*id).is_none())
    }

    /// Whether `node` is, or is just becoming, a voter.
    pub fn votes(&self, node: NodeId) -> bool {
        self.voters.all().any(|(_, voter)| voter == node)
    }

    /// Takes the voters that the consensus has settled on. An id that has left them is never used
    /// again, so that the member which had it is free to be allotted another.
    pub(super) fn seat(&mut self, membership: &Membership) {
        let left = |id: &VoterId| self.voters.node(*id).is_some() && membership.node(*id).is_none();
        for member in Arc::make_mut(&mut self.members).values_mut() {
            member.voter = member.voter.filter(|id| !left(id));
        }
        self.voters = membership.clone();
    }

    pub(super) fn member_mut(&mut self, node: NodeId) -> Result<&mut Member, Refusal> {
        Arc::make_mut(&mut self.members).get_mut(&node).ok_or_else(|| unknown(node))
    }

    /// Refuses a life of `node` that is not the one the log knows.
    pub(super) fn check_life(&self, node: NodeId, incarnation: Incarnation) -> Result<(), Refusal> {
        let member = self.members.get(&node).ok_or_else(|| unknown(node))?;
        (member.incarnation == incarnation).then_some(()).ok_or(Refusal::Incarnation)
    }
}

fn unknown(node: NodeId) -> Refusal {
    Refusal::Unknown(format!("node {node:?}"))
}

fn check_addresses(addresses: &[Address]) -> Result<(), Refusal> {
    if addresses.len() <= ADDRESSES_MAX {
        return Ok(());
    }
    Err(Refusal::Limit(format!("a node has at most {ADDRESSES_MAX} addresses")))
}
