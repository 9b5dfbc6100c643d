//! Safety 4: a permit closes by its holder's proof, by its holder's "never began", or by a named
//! person's override, which states that the node is fenced once it has begun. Never by time. What the
//! holder says is judged when it says so (see `proofs`): its service may have ended since, and it counts
//! as down then without a permit.
//!
//! It is the committed command that is judged. What was only asked for closes nothing, and excuses
//! nothing.

use baton_protocol::fleet::command::{Command, Envelope, Proof};
use baton_protocol::fleet::permit::Permit;

use super::{Committed, Judge};
use crate::rig::Rig;

/// `permit` is closed by `entry`; `None` where that entry was not seen.
pub(super) fn check(
    judge: &Judge,
    hosts: &[Rig],
    permit: &Permit,
    entry: Option<&Committed<'_>>,
) -> Result<(), String> {
    let Some(Committed { envelope, .. }) = entry else { return Ok(()) };
    let because = |what: &str| Err(format!("safety 4 (closing): permit {} {what}", permit.id));
    match &envelope.command {
        Command::Override { permit: id, fenced, person, .. } if *id == permit.id => {
            let touched = permit.has_begun() || judge.moved.contains(id);
            if touched && !fenced {
                return because("has begun, and is overridden by somebody who does not say fenced");
            }
            if person.is_empty() {
                return because("is overridden by nobody");
            }
            Ok(())
        }
        Command::Close { permit: id, incarnation, proof } if *id == permit.id => {
            let Envelope { by, .. } = envelope;
            if *by != permit.node {
                return because(&format!("is closed by {by:?}, which does not hold it"));
            }
            if !judge.proofs.was_said(*by, *id, *incarnation, proof) {
                return because("is closed, and its holder never asked for it");
            }
            by_holder(judge, hosts, permit, proof).or_else(|what| because(&what))
        }
        other => because(&format!("is gone by {other:?}")),
    }
}

fn by_holder(judge: &Judge, hosts: &[Rig], permit: &Permit, proof: &Proof) -> Result<(), String> {
    if *proof == Proof::NeverBegan && judge.moved.contains(&permit.id) {
        return Err("has moved its holder's service, which says that it never began".to_owned());
    }
    let Some(rig) = hosts.iter().find(|rig| rig.config.node == permit.node) else { return Ok(()) };
    if rig.service.taken && !rig.lost {
        return Err("is closed while its service is down".to_owned());
    }
    Ok(())
}
