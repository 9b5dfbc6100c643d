//! Who is out of service, for which protected set, and whether one more may go.
//!
//! A protected set S is, today, a group. D(S) are its members with an open permit, whatever the
//! permit is for, and the removed ones that were not fenced. U(S) comes with the coordinator's
//! evidence.

use std::collections::{BTreeMap, BTreeSet};

use crate::fleet::Fleet;
use crate::fleet::event::Refusal;
use crate::fleet::group::Group;
use crate::fleet::permit::{Permit, PermitKind};
use crate::fleet::policy::CapError;
use crate::id::{GroupName, NodeId};
use crate::mutant::{self, Mutant};

impl Fleet {
    /// k(S): how many members of `group` may be out of service at once.
    ///
    /// # Errors
    /// The cap lets nobody go with the members that there are.
    pub fn limit(&self, group: &Group) -> Result<u32, CapError> {
        group.policy.max_unavailable.limit(group.counted().count())
    }

    /// What k(S) will be once every new member counts: what a person plans with.
    ///
    /// # Errors
    /// The cap would let nobody go. That the first of all members stands alone is none: installing
    /// on it takes nothing down.
    pub fn planned_limit(&self, group: &Group) -> Result<u32, CapError> {
        let cap = group.policy.max_unavailable;
        let in_service = group.counted().count();
        match cap.limit(group.present().count()) {
            Err(CapError::Alone) if in_service == 0 => Ok(1),
            limit => limit,
        }
    }

    /// D(S): who has an open permit and is, or was when removed, in `group`.
    pub fn disrupted(&self, name: &GroupName, group: &Group) -> BTreeSet<NodeId> {
        let here =
            |it: &&Permit| group.counts(it.node) || it.group == *name || it.also_in.contains(name);
        let permits = self.permits.values().filter(here);
        permits.map(|permit| permit.node).collect()
    }

    /// Whether `node`, which is in `group`, may get a permit of `kind`, given who else is
    /// unavailable. Safety 1 and 2 of the design.
    pub(super) fn admit_to_cap(
        &self,
        node: NodeId,
        kind: PermitKind,
        unavailable: &BTreeMap<GroupName, BTreeSet<NodeId>>,
    ) -> Result<(), Refusal> {
        if mutant::active(Mutant::CapIgnored) {
            return Ok(());
        }
        let holding = self.groups.iter().filter(|(_, group)| group.counts(node));
        for (name, group) in holding {
            let limit = self.limit(group)?;
            let mut out = self.disrupted(name, group);
            out.insert(node);
            if kind == PermitKind::Restart {
                let unavailable = unavailable.get(name).ok_or(Refusal::NoEvidence)?;
                out.extend(unavailable.iter().filter(|node| group.counts(**node)));
            }
            if out.len() > limit as usize {
                return Err(Refusal::CapUsedUp { group: name.clone(), limit });
            }
        }
        Ok(())
    }
}
