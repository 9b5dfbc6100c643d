//! Safety 2: nobody takes its service down while others, that are not proven available, use the cap
//! up. By ground truth: what has been out of service for longer than evidence may be old counts. A
//! holder that has moved is in D until its permit closes, and may move again: back, for one.

use core::time::Duration;
use std::collections::BTreeSet;

use baton_protocol::fleet::permit::PermitKind;
use baton_protocol::id::NodeId;
use baton_protocol::time::Instant;

use super::Judge;
use crate::event::Host;
use crate::rig::Rig;

/// Evidence may be 3 s old at `Begin` and its echo 5 s, and the step is recorded on disk first.
const KNOWN_AFTER: Duration = Duration::from_secs(10);

pub(super) fn check(judge: &Judge, now: Instant, hosts: &[Rig], host: Host) -> Result<(), String> {
    let Some(rig) = hosts.get(host).filter(|rig| rig.service.serves()) else { return Ok(()) };
    let Some(permit) = judge.newest.permit_of(rig.config.node) else { return Ok(()) };
    if permit.kind == PermitKind::Repair {
        return Ok(()); // it was out of action before
    }
    if judge.moved.contains(&permit.id) {
        return Ok(());
    }
    let long = |since: &Instant| now.since(*since) > KNOWN_AFTER;
    let down = judge.counted_since.iter().filter(|(_, since)| long(since)).map(|(node, _)| *node);
    let down = down.filter(|node| judge.down_since.get(node).is_some_and(long));
    let mut out: BTreeSet<NodeId> = down.collect();
    out.insert(rig.config.node);
    let limit = judge.limit_of_late(now, KNOWN_AFTER);
    if out.len() <= limit as usize {
        return Ok(());
    }
    Err(format!(
        "safety 2 (admission): host {host} goes down while {out:?} are, and {limit} may be"
    ))
}
