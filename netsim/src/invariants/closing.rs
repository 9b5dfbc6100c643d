//! Safety 4: a permit closes by its holder's proof, by its holder's "never began", or by a named
//! person's override. Never by time; and where somebody watches the balancer, not before that has been
//! seen to send to the holder again.

use baton_protocol::fleet::permit::Permit;

use super::Judge;
use crate::rig::Rig;

/// `permit` is closed.
pub(super) fn check(judge: &Judge, hosts: &[Rig], permit: &Permit) -> Result<(), String> {
    if judge.overridden.contains(&permit.id) {
        return Ok(());
    }
    // What a leader asks of itself is no frame.
    let asked = judge.closings.contains(&permit.id) || judge.leaders.contains(&permit.node);
    if !asked {
        return Err(format!(
            "safety 4 (closing): permit {} is closed, and its holder never asked for it",
            permit.id
        ));
    }
    let holder = hosts.iter().find(|rig| rig.config.node == permit.node);
    if holder.is_some_and(|rig| rig.service.taken && !rig.lost) {
        return Err(format!(
            "safety 4 (closing): permit {} is closed while its service is down",
            permit.id
        ));
    }
    let group = judge.newest.groups().get(&permit.group);
    let watched = group.is_some_and(|group| !group.watchers.is_empty());
    let running = group.and_then(|group| group.members.get(&permit.node)?.running);
    // What a holder has not touched it may hand back, whatever the balancer does.
    let untouched = judge.handed_back.contains(&permit.id);
    let proven = watched && running == Some(permit.release) && !untouched;
    if proven && holder.is_some_and(|rig| rig.service.unseen && !rig.lost) {
        return Err(format!(
            "safety 4 (closing): permit {} is closed, and the balancer has not sent to its service yet",
            permit.id
        ));
    }
    Ok(())
}
