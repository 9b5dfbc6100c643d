//! Safety 1: D(S) never grows beyond the present k(S); and by ground truth, what the agents have
//! taken down is in D.

use std::collections::BTreeSet;

use baton_protocol::fleet::Fleet;
use baton_protocol::fleet::group::Standing;
use baton_protocol::id::NodeId;

use crate::event::Host;
use crate::mesh::group;
use crate::rig::Rig;

/// |D| of the group.
pub(super) fn open(fleet: &Fleet) -> usize {
    fleet.permits().values().filter(|permit| permit.group == group()).count()
}

/// k of the group: by an arithmetic of its own, from what a person would read of the policy and from who
/// counts, as that of the code under test may be wrong. Where that one refuses to let anybody go, this is
/// what the policy says all the same.
pub(super) fn limit(fleet: &Fleet) -> u32 {
    let Some(group) = fleet.groups().get(&group()) else { return 0 };
    let counted = group.members.values().filter(|it| it.standing == Standing::Counted).count();
    let cap = group.policy.max_unavailable.to_string();
    if cap == "10%, at least 1" {
        return u32::try_from((counted / 10).max(1)).unwrap_or(u32::MAX);
    }
    let part = |part: &str| match part.strip_suffix('%') {
        Some(percent) => Some(counted * percent.parse::<usize>().ok()? / 100),
        None => part.parse().ok(),
    };
    let limit = cap.split(',').map(part).min().flatten();
    let limit = limit.unwrap_or_else(|| panic!("what is a cap of {cap}?"));
    u32::try_from(limit).unwrap_or(u32::MAX)
}

/// D has not grown beyond k. Where entries were skipped it is not seen whether the cap fell after the
/// permits of before came.
pub(super) fn grown(before: &Fleet, after: &Fleet) -> Result<(), String> {
    let one = after.applied() == before.applied().next();
    let limit = if one { limit(after) } else { limit(after).max(limit(before)) };
    let now = open(after);
    if now <= limit as usize || now <= open(before) {
        return Ok(());
    }
    Err(format!(
        "safety 1 (cap): {now} permits are open and {limit} may be, at entry {}",
        after.applied()
    ))
}

/// The services that agents have taken down, whatever anybody believes.
pub(super) fn taken(fleet: &Fleet, hosts: &[Rig]) -> Vec<Host> {
    let Some(group) = fleet.groups().get(&group()) else { return Vec::new() };
    let taken = (0..)
        .zip(hosts)
        .filter(|(_, rig)| rig.service.taken && !rig.lost && group.counts(rig.config.node));
    taken.map(|(host, _)| host).collect()
}

/// Each service that was taken down has an open permit, and so they are no more than D.
pub(super) fn ground_truth(
    fleet: &Fleet,
    hosts: &[Rig],
    fenced: &BTreeSet<NodeId>,
) -> Result<(), String> {
    let taken = taken(fleet, hosts);
    for host in &taken {
        let Some(rig) = hosts.get(*host) else { continue };
        let fenced = fenced.contains(&rig.config.node);
        if fleet.permit_of(rig.config.node).is_none() && !fenced {
            return Err(format!(
                "safety 1 (ground truth): the service of host {host} was taken down by its agent, \
                 and no permit is open for it"
            ));
        }
    }
    let most = open(fleet).max(limit(fleet) as usize);
    if taken.len() > most {
        return Err(format!("safety 1 (ground truth): {taken:?} are taken down, {most} may be"));
    }
    Ok(())
}
