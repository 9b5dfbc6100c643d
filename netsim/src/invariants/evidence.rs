//! Safety 2, at the leader's table: no grant and no `Begin` is put into the log while others, that
//! cannot have been proven available at that moment, use the cap up.
//!
//! What cannot have been proven is known by ground truth, and without the code under test: evidence
//! ages from the question that it answers, so that a node which neither served nor spoke for longer
//! than evidence may be old was not proven; nor one that the leader's questions could not reach for so
//! long, or whose answers could not reach the leader. The moment of the decision is when its entry was
//! first written anywhere. Nodes are meant, and not hosts: one whose disk is lost counts still.

use core::time::Duration;
use std::collections::BTreeSet;

use baton_protocol::fleet::Fleet;
use baton_protocol::fleet::permit::{Permit, PermitKind, PermitPhase};
use baton_protocol::id::NodeId;
use baton_protocol::limits::EVIDENCE_AGE_MAX;
use baton_protocol::time::Instant;

use super::{Committed, Decided, Judge};
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
    entry: Option<&Committed<'_>>,
) -> Result<(), String> {
    let fleet = &judge.newest;
    let Some(decided) = entry.and_then(|entry| entry.decided.as_ref()) else { return Ok(()) };
    let holders = |counts: &dyn Fn(&Permit) -> bool| {
        let open = fleet.permits().values().filter(|permit| counts(permit));
        open.map(|permit| permit.node).collect()
    };
    for permit in fleet.permits().values() {
        let old = before.permits().get(&permit.id);
        if old.is_none() {
            let out = holders(&|it| it.id.granted_at <= permit.id.granted_at);
            moved(judge, now, hosts, permit, decided, out, "granted")?;
        }
        let nonce = |it: &Permit| match it.phase {
            PermitPhase::Begun { nonce, .. } => Some(nonce),
            PermitPhase::Granted => None,
        };
        let begins = permit.has_begun() && old.and_then(nonce).is_none();
        let anew = !begins && permit.has_begun() && old.and_then(nonce) != nonce(permit);
        // What is out of action goes on, and so does one that has moved and may move again: back, for one.
        let untouched = !judge.moved.contains(&permit.id);
        let takes_away = anew && untouched && serves_another(judge, hosts, permit, decided.at);
        if begins || takes_away {
            let out = holders(&|it| it.has_begun() || it.id <= permit.id);
            moved(judge, now, hosts, permit, decided, out, "begun")?;
        }
    }
    Ok(())
}

/// A permit is `what`, while the nodes `out` have permits that count.
fn moved(
    judge: &Judge,
    now: Instant,
    hosts: &[Rig],
    permit: &Permit,
    decided: &Decided,
    mut out: BTreeSet<NodeId>,
    what: &str,
) -> Result<(), String> {
    if permit.kind == PermitKind::Repair {
        return repairs(judge, hosts, permit, decided.at);
    }
    if !judge.counted_since.contains_key(&permit.node) {
        return Ok(()); // in quarantine: in no protected set
    }
    let counts = |node: &&NodeId| judge.counted_since.contains_key(node);
    out.extend(decided.unproven.iter().filter(counts));
    let window = LIMIT_WINDOW + now.since(decided.at);
    let limit = judge.limit_of_late(now, window);
    if out.len() <= limit as usize {
        return Ok(());
    }
    Err(format!(
        "safety 2 (evidence): permit {} is {what} while {out:?} are out or not proven \
         available, and {limit} may be",
        permit.id
    ))
}

/// Nodes that count, and that `leader`, where it is known, cannot prove to be available now.
pub(super) fn unproven(
    judge: &Judge,
    now: Instant,
    hosts: &[Rig],
    leader: Option<Host>,
) -> BTreeSet<NodeId> {
    let long = |since: &Instant| since.after(EVIDENCE_AGE_MAX + SLACK) < now;
    let silent = judge.unproven.iter().filter(|(_, since)| long(since)).map(|(node, _)| *node);
    let cut_off = judge.blocked.iter().filter(|(_, since)| long(since)).filter_map(|(way, _)| {
        let other = match (Some(way.0) == leader, Some(way.1) == leader) {
            (true, _) => way.1,
            (_, true) => way.0,
            _ => return None,
        };
        hosts.get(other).map(|rig| rig.config.node)
    });
    silent.chain(cut_off).filter(|node| judge.counted_at(*node, now)).collect()
}

/// A repair is granted and begun only where the holder's service is out of action.
fn repairs(judge: &Judge, hosts: &[Rig], permit: &Permit, decided: Instant) -> Result<(), String> {
    let Some(host) = host_of(hosts, permit) else { return Ok(()) };
    if !served_for_long(judge, host, decided) {
        return Ok(());
    }
    Err(format!(
        "safety 2 (evidence): permit {} is a repair, and the service of host {host} is well",
        permit.id
    ))
}

/// Whether the holder's service has served, for longer than evidence may be old, on another release than
/// its permit is for.
fn serves_another(judge: &Judge, hosts: &[Rig], permit: &Permit, decided: Instant) -> bool {
    host_of(hosts, permit).is_some_and(|host| {
        let runs = hosts.get(host).and_then(|rig| rig.service.release());
        runs != Some(permit.release) && served_for_long(judge, host, decided)
    })
}

fn served_for_long(judge: &Judge, host: Host, decided: Instant) -> bool {
    let served = judge.serving.get(&host);
    served.is_some_and(|since| since.after(EVIDENCE_AGE_MAX + SLACK) < decided)
}

fn host_of(hosts: &[Rig], permit: &Permit) -> Option<Host> {
    hosts.iter().position(|rig| rig.config.node == permit.node)
}
