//! Whether one more member may go: the cap of every group that holds it, with all that is out there.

use std::collections::{BTreeMap, BTreeSet};

use crate::coordinator::evidence::Evidence;
use crate::fleet::Fleet;
use crate::fleet::group::Group;
use crate::fleet::permit::PermitKind;
use crate::id::{GroupName, NodeId};
use crate::mutant::{self, Mutant};
use crate::time::Instant;

/// What is out of service in the groups that a judgement touches, as it grants.
#[derive(Debug)]
pub(super) struct Room<'a> {
    groups: BTreeMap<&'a GroupName, Out<'a>>,
}

#[derive(Debug)]
struct Out<'a> {
    group: &'a Group,
    limit: usize,
    /// U without those whose permit is for this group, as it is in the log.
    unavailable: BTreeSet<NodeId>,
    /// D.
    disrupted: BTreeSet<NodeId>,
    /// U and D.
    all: BTreeSet<NodeId>,
}

impl<'a> Room<'a> {
    /// What is out in `name`, and in every group that shares a member with it: a permit takes its
    /// holder out of all of them.
    pub(super) fn around(
        now: Instant,
        fleet: &'a Fleet,
        evidence: &Evidence,
        name: &GroupName,
    ) -> Self {
        let own = fleet.groups().get(name);
        let shares = |group: &Group| {
            own.is_some_and(|own| group.counted().any(|node| own.members.contains_key(&node)))
        };
        let touched = fleet.groups().iter().filter(|(it, group)| *it == name || shares(group));
        let out = touched.map(|(name, group)| (name, Out::of(now, fleet, evidence, name, group)));
        Self { groups: out.collect() }
    }

    /// Whether the cap allows a permit for `node`. Safety 2: |U ∪ D ∪ {n}| <= k, or |D ∪ {n}| <= k
    /// for a repair, in every group that counts it.
    pub(super) fn admits(&self, node: NodeId, kind: PermitKind) -> bool {
        self.holding(node).all(|(_, out)| {
            let out_of_service = match kind {
                PermitKind::Repair => &out.disrupted,
                PermitKind::Restart => &out.all,
            };
            let with_it = out_of_service.len() + usize::from(!out_of_service.contains(&node));
            with_it <= out.limit
        })
    }

    /// `node` gets a permit.
    pub(super) fn take(&mut self, node: NodeId) {
        for out in self.groups.values_mut().filter(|out| out.group.counts(node)) {
            out.disrupted.insert(node);
            out.all.insert(node);
        }
    }

    /// U of the groups that count `node`, but for those who held a permit for that group before this judgement.
    pub(super) fn unavailable_beside(
        &self,
        node: NodeId,
    ) -> impl Iterator<Item = (&'a GroupName, impl Iterator<Item = NodeId>)> {
        self.holding(node).map(|(name, out)| (name, out.unavailable.iter().copied()))
    }

    /// Groups in which there is no room for `node`.
    pub(super) fn full(&self, node: NodeId) -> impl Iterator<Item = &'a GroupName> {
        let full = self.holding(node).filter(move |(_, out)| {
            out.all.len() + usize::from(!out.all.contains(&node)) > out.limit
        });
        full.map(|(name, _)| name)
    }

    fn holding(&self, node: NodeId) -> impl Iterator<Item = (&'a GroupName, &Out<'a>)> {
        let groups = self.groups.iter().map(|(name, out)| (*name, out));
        groups.filter(move |(_, out)| out.group.counts(node))
    }
}

impl<'a> Out<'a> {
    fn of(
        now: Instant,
        fleet: &Fleet,
        evidence: &Evidence,
        name: &GroupName,
        group: &'a Group,
    ) -> Self {
        let limit = if mutant::active(Mutant::CapIgnored) {
            usize::MAX
        } else {
            fleet.limit(group).map_or(0, |limit| limit as usize)
        };
        let unavailable = evidence.unavailable(now, fleet, name, group);
        let disrupted = fleet.disrupted(name, group);
        let all = unavailable.union(&disrupted).copied().collect();
        // A permit for another group may close by a proof that says nothing of this one.
        let proves = |node: &NodeId| fleet.permit_of(*node).is_some_and(|it| it.group == *name);
        let unavailable = unavailable.into_iter().filter(|node| !proves(node)).collect();
        Self { group, limit, unavailable, disrupted, all }
    }
}
