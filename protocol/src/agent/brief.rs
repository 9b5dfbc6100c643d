//! What the log says to one node.

use std::collections::BTreeMap;

use crate::agent::unit::{Assignment, Lease};
use crate::artifact::header::SignedHeader;
use crate::fleet::Fleet;
use crate::fleet::group::{Group, GroupMember};
use crate::fleet::permit::Permit;
use crate::fleet::rollout::Rollout;
use crate::id::{GroupName, Incarnation, NodeId, ReleaseId, ServiceName};

/// The part of the fleet's state that concerns one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Brief {
    /// The node's last confirmed life; `None` while it is no member.
    pub life: Option<Incarnation>,
    /// What each group that the node is in wants of it.
    pub assignments: BTreeMap<GroupName, Assignment>,
    /// The service of each of those groups: of releases of these, the newest are fetched ahead.
    pub services: BTreeMap<GroupName, ServiceName>,
    /// Releases that those groups run, bring or may go back to.
    pub wanted: BTreeMap<ReleaseId, SignedHeader>,
}

impl Brief {
    /// What `fleet` says to `node`.
    pub fn of(fleet: &Fleet, node: NodeId) -> Self {
        let mut brief =
            Self { life: fleet.members().get(&node).map(|it| it.incarnation), ..Self::default() };
        for (name, group) in fleet.groups() {
            if let Some(member) = group.members.get(&node) {
                brief.add(fleet, name, group, *member, fleet.permit_of(node));
            }
        }
        brief
    }

    fn add(
        &mut self,
        fleet: &Fleet,
        name: &GroupName,
        group: &Group,
        member: GroupMember,
        permit: Option<&Permit>,
    ) {
        let permit = permit.filter(|permit| permit.group == *name);
        let assignment = Assignment {
            standing: member.standing,
            installable: group.installable(),
            last_rollout: group.last_rollout(),
            min_healthy: group.policy.min_healthy,
            attempt: group.active().map(|active| (active.id, active.resumed)),
            lease: permit.map(|permit| lease(group, permit)),
            watched: !group.watchers.is_empty(),
        };
        let active = group.active();
        let of_rollout = active.map(|it| [Some(it.release), it.previous]).into_iter().flatten();
        let all = of_rollout.chain([group.stable, permit.map(|permit| permit.release)]);
        for id in all.flatten() {
            if let Some(release) = fleet.releases().get(&id) {
                self.wanted.insert(id, release.signed.clone());
            }
        }
        self.assignments.insert(name.clone(), assignment);
        // Until its first rollout says otherwise, a group is taken to run the service of its name.
        let service = group.service.clone().or_else(|| name.as_str().parse().ok());
        self.services.extend(service.map(|service| (name.clone(), service)));
    }
}

fn lease(group: &Group, permit: &Permit) -> Lease {
    let active = group.active().filter(|active| active.id == permit.rollout);
    let may_start = active.is_some_and(Rollout::may_start);
    Lease {
        id: permit.id,
        rollout: permit.rollout,
        release: permit.release,
        phase: permit.phase,
        failed: permit.failure.is_some(),
        may_start,
    }
}
