//! Safety 2, at the leader's table: no grant and no `Begin` is put into the log while others, that
//! cannot have been proven available at that moment, use the cap up.
//!
//! What cannot have been proven is known by ground truth, and without the code under test: evidence
//! ages from the question that it answers, so that a host which neither served nor spoke for longer
//! than evidence may be old was not proven. The moment of the decision is when its entry was first
//! written anywhere.

use core::time::Duration;
use std::collections::BTreeSet;

use baton_protocol::fleet::Fleet;
use baton_protocol::fleet::permit::{Permit, PermitKind, PermitPhase};
use baton_protocol::id::LogIndex;
use baton_protocol::limits::EVIDENCE_AGE_MAX;
use baton_protocol::time::Instant;

use super::Judge;
use crate::event::Host;
use crate::rig::Rig;

/// Clocks may run this much apart while evidence ages.
const SLACK: Duration = Duration::from_millis(100);

/// How far back a limit is taken as the one that the decision was made by.
const LIMIT_WINDOW: Duration = Duration::from_secs(10);

/// The log has gone from `before` to the judge's newest state.
pub(super) fn check(
    judge: &Judge,
    now: Instant,
    hosts: &[Rig],
    before: &Fleet,
) -> Result<(), String> {
    let fleet = &judge.newest;
    for permit in fleet.permits().values() {
        let old = before.permits().get(&permit.id);
        if old.is_none() {
            granted(judge, now, hosts, permit)?;
        }
        let nonce = |it: &Permit| match it.phase {
            PermitPhase::Begun { nonce, .. } => Some(nonce),
            PermitPhase::Granted => None,
        };
        let begins = permit.has_begun() && old.and_then(nonce).is_none();
        if begins {
            let span = before.applied().next().0..=fleet.applied().0;
            let decided = span.filter_map(|index| judge.decided.get(&LogIndex(index))).min();
            if let Some(decided) = decided {
                began(judge, now, hosts, permit, *decided)?;
            }
        }
    }
    Ok(())
}

fn granted(judge: &Judge, now: Instant, hosts: &[Rig], permit: &Permit) -> Result<(), String> {
    let Some(decided) = judge.decided.get(&permit.id.granted_at) else { return Ok(()) };
    if permit.kind == PermitKind::Repair {
        return repairs(judge, hosts, permit, *decided);
    }
    let open = judge.newest.permits().values();
    let open = open.filter(|it| it.id.granted_at <= permit.id.granted_at);
    let out = open.chain([permit]).filter_map(|it| host_of(hosts, it)).collect();
    within(judge, now, hosts, permit, *decided, out, "granted")
}

fn began(
    judge: &Judge,
    now: Instant,
    hosts: &[Rig],
    permit: &Permit,
    decided: Instant,
) -> Result<(), String> {
    if permit.kind == PermitKind::Repair {
        return repairs(judge, hosts, permit, decided);
    }
    let open = judge.newest.permits().values();
    let counts = open.filter(|it| it.has_begun() || it.id <= permit.id);
    let out = counts.filter_map(|it| host_of(hosts, it)).collect();
    within(judge, now, hosts, permit, decided, out, "begun")
}

fn within(
    judge: &Judge,
    now: Instant,
    hosts: &[Rig],
    permit: &Permit,
    decided: Instant,
    mut out: BTreeSet<Host>,
    what: &str,
) -> Result<(), String> {
    if !judge.counted_since.contains_key(&permit.node) {
        return Ok(()); // in quarantine: in no protected set
    }
    for (host, since) in &judge.unproven {
        let long = since.after(EVIDENCE_AGE_MAX + SLACK) < decided;
        let counts = |rig: &Rig| judge.counted_at(rig.config.node, decided);
        if long && hosts.get(*host).is_some_and(counts) {
            out.insert(*host);
        }
    }
    let window = LIMIT_WINDOW + now.since(decided);
    let limit = judge.limit_of_late(now, window);
    if out.len() <= limit as usize {
        return Ok(());
    }
    Err(format!(
        "safety 2 (evidence): permit {} is {what} while hosts {out:?} are out or not proven \
         available, and {limit} may be",
        permit.id
    ))
}

/// A repair is granted and begun only where the holder's service is out of action.
fn repairs(judge: &Judge, hosts: &[Rig], permit: &Permit, decided: Instant) -> Result<(), String> {
    let Some(host) = host_of(hosts, permit) else { return Ok(()) };
    let served_for_long = judge
        .serving
        .get(&host)
        .is_some_and(|since| since.after(EVIDENCE_AGE_MAX + SLACK) < decided);
    if !served_for_long {
        return Ok(());
    }
    Err(format!(
        "safety 2 (evidence): permit {} is a repair, and the service of host {host} is well",
        permit.id
    ))
}

fn host_of(hosts: &[Rig], permit: &Permit) -> Option<Host> {
    hosts.iter().position(|rig| rig.config.node == permit.node)
}
