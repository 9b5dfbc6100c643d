//! The nodes that run one service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::fleet::Fleet;
use crate::fleet::command::PolicyChange;
use crate::fleet::event::{Event, Refusal};
use crate::fleet::policy::Policy;
use crate::fleet::rollout::Rollout;
use crate::id::{Generation, GroupName, NodeId, ReleaseId, RolloutId, Sequence, ServiceName};
use crate::limits::{GROUPS_MAX, WATCHERS_MAX};
use crate::trust::certificate::Role;

/// Stages that a policy may have.
const STAGES_MAX: usize = 32;

/// One group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// How it is activated.
    pub policy: Policy,
    /// Grows with each change of the policy, of the members, of the watchers or of a
    /// rollout's phase.
    pub generation: Generation,
    /// Its nodes.
    pub members: Arc<BTreeMap<NodeId, GroupMember>>,
    /// What it runs releases of; settled by its first rollout.
    pub service: Option<ServiceName>,
    /// The last release that a rollout completed.
    pub stable: Option<ReleaseId>,
    /// Releases that rollouts completed: a way back to one of them needs no new signature.
    pub completed: BTreeSet<ReleaseId>,
    /// The highest sequence that a rollout completed.
    pub sequence: Option<Sequence>,
    /// The rollouts, newest last; at most the last is under way.
    pub rollouts: Vec<Rollout>,
    /// The members that read the balancers in front of it.
    pub watchers: BTreeSet<NodeId>,
}

/// A node as a member of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMember {
    /// Whether it counts.
    pub standing: Standing,
    /// The release on which it last proved ready.
    pub running: Option<ReleaseId>,
    /// Where it is reached, by its own word.
    pub ports: Ports,
}

/// Where a member's service is reached, as far as its config says it: what a balancer is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Of the service.
    pub service: Option<u16>,
    /// Of the node's agent-check.
    pub agent_check: Option<u16>,
}

/// Whether a member counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Has never proved ready: in neither N nor U, and needs no permit.
    New,
    /// In N.
    Counted,
    /// Long ill: out of N by a person's word.
    Quarantined,
}

impl Group {
    fn new() -> Self {
        Self {
            policy: Policy::default(),
            generation: Generation(1),
            members: Arc::default(),
            service: None,
            stable: None,
            completed: BTreeSet::new(),
            sequence: None,
            rollouts: Vec::new(),
            watchers: BTreeSet::new(),
        }
    }

    /// N: the members that count, in the order of their ids.
    pub fn counted(&self) -> impl Iterator<Item = NodeId> {
        let counted = |(_, member): &(&NodeId, &GroupMember)| member.standing == Standing::Counted;
        self.members.iter().filter(counted).map(|(node, _)| *node)
    }

    /// The members that count or will: all but the quarantined.
    pub fn present(&self) -> impl Iterator<Item = NodeId> {
        let present = |(_, it): &(&NodeId, &GroupMember)| it.standing != Standing::Quarantined;
        self.members.iter().filter(present).map(|(node, _)| *node)
    }

    /// Whether `node` is in N.
    pub fn counts(&self, node: NodeId) -> bool {
        self.members.get(&node).is_some_and(|member| member.standing == Standing::Counted)
    }

    pub(super) fn members_mut(&mut self) -> &mut BTreeMap<NodeId, GroupMember> {
        Arc::make_mut(&mut self.members)
    }

    /// The rollout under way.
    pub fn active(&self) -> Option<&Rollout> {
        self.rollouts.last().filter(|rollout| !rollout.phase.is_over())
    }

    pub(super) fn active_mut(&mut self) -> Option<&mut Rollout> {
        self.rollouts.last_mut().filter(|rollout| !rollout.phase.is_over())
    }

    /// What a member that holds no permit is to install: the release that the group has, or the
    /// first one on its way.
    pub fn installable(&self) -> Option<ReleaseId> {
        self.stable.or_else(|| self.active().map(|rollout| rollout.release))
    }

    /// The rollout that was ordered last, over or not.
    pub fn last_rollout(&self) -> Option<RolloutId> {
        self.rollouts.last().map(|rollout| rollout.id)
    }
}

impl Fleet {
    pub(super) fn set_group(
        &mut self,
        name: &GroupName,
        change: &PolicyChange,
    ) -> Result<Vec<Event>, Refusal> {
        let before = self.groups.get(name).map_or_else(Policy::default, |it| it.policy.clone());
        let policy = change.applied_to(&before);
        check_policy(&policy)?;
        let group = self.groups.get(name).cloned().unwrap_or_else(Group::new);
        let group = Group { policy, generation: group.generation.next(), ..group };
        self.planned_limit(&group)?;
        *self.group_or_new(name)? = group;
        Ok(vec![Event::GroupChanged(name.clone())])
    }

    pub(super) fn join_group(
        &mut self,
        name: &GroupName,
        node: NodeId,
        ports: Ports,
    ) -> Result<Vec<Event>, Refusal> {
        if self.member_mut(node)?.role == Role::Witness {
            return Err(Refusal::Order("a witness runs no service".to_owned()));
        }
        let group = self.group_or_new(name)?;
        if let Some(member) = group.members_mut().get_mut(&node) {
            member.ports = ports;
            return Ok(vec![Event::GroupChanged(name.clone())]);
        }
        let member = GroupMember { standing: Standing::New, running: None, ports };
        group.members_mut().insert(node, member);
        group.generation = group.generation.next();
        Ok(vec![Event::GroupChanged(name.clone())])
    }

    pub(super) fn watch_balancer(
        &mut self,
        name: &GroupName,
        node: NodeId,
        on: bool,
    ) -> Result<Vec<Event>, Refusal> {
        let group = self.group_mut(name)?;
        if on && group.watchers.len() >= WATCHERS_MAX && !group.watchers.contains(&node) {
            let text =
                format!("{WATCHERS_MAX} balancers of {name} are watched, which is all that may");
            return Err(Refusal::Limit(text));
        }
        let changed = if on { group.watchers.insert(node) } else { group.watchers.remove(&node) };
        if !changed {
            return Ok(Vec::new());
        }
        group.generation = group.generation.next();
        Ok(vec![Event::GroupChanged(name.clone())])
    }

    pub(super) fn quarantine(
        &mut self,
        name: &GroupName,
        node: NodeId,
        on: bool,
    ) -> Result<Vec<Event>, Refusal> {
        if !on {
            self.check_uncounted(name, node)?;
        }
        let group = self.group_mut(name)?;
        let member = group.members_mut().get_mut(&node);
        let member = member.ok_or_else(|| Refusal::Unknown(format!("node {node:?} in {name}")))?;
        member.standing = match (on, member.running) {
            (true, _) => Standing::Quarantined,
            (false, Some(_)) => Standing::Counted,
            (false, None) => Standing::New,
        };
        group.generation = group.generation.next();
        Ok(vec![Event::GroupChanged(name.clone())])
    }

    pub(super) fn enroll(
        &mut self,
        name: &GroupName,
        node: NodeId,
        release: ReleaseId,
        rollout: Option<RolloutId>,
    ) -> Result<Vec<Event>, Refusal> {
        self.check_uncounted(name, node)?;
        let group = self.group_mut(name)?;
        let (installable, last) = (group.installable(), group.last_rollout());
        let member = group.members_mut().get_mut(&node);
        let member = member.ok_or_else(|| Refusal::Unknown(format!("node {node:?} in {name}")))?;
        if member.standing != Standing::New {
            return Ok(Vec::new());
        }
        // What is to be installed has changed meanwhile: the member may be on its way to that already,
        // with its service down, and needs no permit for it while it is new.
        if last != rollout || installable.is_some_and(|it| it != release) {
            return Err(Refusal::Order(format!("{release} is not what {name} installs now")));
        }
        (member.standing, member.running) = (Standing::Counted, Some(release));
        group.generation = group.generation.next();
        Ok(vec![Event::GroupChanged(name.clone())])
    }

    /// Safety 1: D(S) does not grow by way of a holder for another group that comes to count in S.
    fn check_uncounted(&self, name: &GroupName, node: NodeId) -> Result<(), Refusal> {
        match self.permit_of(node) {
            Some(permit) if permit.group != *name => Err(Refusal::Order(format!(
                "the node has permit {} for {}; it counts in {name} once that is closed",
                permit.id, permit.group
            ))),
            _ => Ok(()),
        }
    }

    pub(super) fn group_mut(&mut self, name: &GroupName) -> Result<&mut Group, Refusal> {
        self.groups.get_mut(name).ok_or_else(|| Refusal::Unknown(format!("group {name}")))
    }

    fn group_or_new(&mut self, name: &GroupName) -> Result<&mut Group, Refusal> {
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(name) {
            return Err(Refusal::Limit(format!("a mesh has at most {GROUPS_MAX} groups")));
        }
        Ok(self.groups.entry(name.clone()).or_insert_with(Group::new))
    }
}

fn check_policy(policy: &Policy) -> Result<(), Refusal> {
    let stages = &policy.stages;
    let growing = stages.windows(2).all(|pair| pair.first() < pair.last());
    if stages.len() > STAGES_MAX || !growing || stages.last() != Some(&100) {
        let text = "stages are growing percentages, the last of them 100, such as 5,25,100";
        return Err(Refusal::Policy(text.to_owned()));
    }
    if stages.first() == Some(&0) {
        return Err(Refusal::Policy("a stage of 0% would update nobody".to_owned()));
    }
    if policy.min_healthy.is_zero() && !policy.allow_unproven {
        let text = "min_healthy 0 takes a service's first good answer for a proof, and the next one is \
                    stopped on it: use some seconds, or say --allow-unproven";
        return Err(Refusal::Policy(text.to_owned()));
    }
    Ok(())
}
