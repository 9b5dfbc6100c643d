//! Safety 3: a holder moves only on the echo of its own request, in this very life, in time by its own
//! clock, and while the permit is open still.
//!
//! It takes the echo when it writes down that it has begun; the first step follows, and is in time too.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use baton_protocol::agent::journal::Journal;
use baton_protocol::agent::unit::ServiceAction;
use baton_protocol::codec;
use baton_protocol::fleet::command::Command;
use baton_protocol::id::{Incarnation, NodeId, Nonce, PermitId};
use baton_protocol::time::Instant;

use super::Judge;
use crate::event::Host;
use crate::rig::Rig;

/// How old its own request may be when a holder moves on its echo: the design's bounded time.
const ECHO_MAX: Duration = Duration::from_secs(5);

/// What one life of a daemon does under one permit.
type Move = (Host, u64, PermitId);

/// What holders asked for, and what they have begun.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// When each request was first sent, by the clock of its holder.
    asked: BTreeMap<(NodeId, Incarnation, PermitId, Nonce), Instant>,
    /// The request whose echo was taken last.
    begun: BTreeMap<Move, Instant>,
    /// Whose first step is taken: what follows it takes the time that it takes.
    moving: BTreeSet<Move>,
}

impl Steps {
    /// A holder asks for something.
    pub(super) fn asked(&mut self, local: Instant, node: NodeId, command: &Command) {
        if let Command::Begin { permit, incarnation, nonce } = command {
            self.asked.entry((node, *incarnation, *permit, *nonce)).or_insert(local);
        }
    }

    /// The first step is taken, or there is none to take.
    fn moves(&mut self, host: Host, life: u64, permit: PermitId) {
        self.moving.insert((host, life, permit));
    }
}

/// The request under `permit` that was sent last by this life of `rig`, and whose `Begin` is committed.
fn echoed(judge: &Judge, rig: &Rig, now: Instant, permit: PermitId) -> Option<Instant> {
    let open = judge.newest.permits().contains_key(&permit) || judge.overridden.contains(&permit);
    let life = rig.peer.as_ref()?.agent().report(rig.local(now)).incarnation;
    let begun = judge.begun.get(&permit).filter(|_| open)?;
    let own = begun.iter().filter(|it| it.0 == rig.config.node && it.1 == life);
    let asked =
        |it: &(NodeId, Incarnation, Nonce)| judge.steps.asked.get(&(it.0, it.1, permit, it.2));
    own.filter_map(asked).max().copied()
}

/// `host` writes its journal.
pub(super) fn written(
    judge: &mut Judge,
    rig: &Rig,
    now: Instant,
    host: Host,
    journal: &[u8],
) -> Result<(), String> {
    let journal = codec::decode::<Journal>(journal).ok();
    let Some(permit) = journal.and_then(|journal| journal.begun()) else { return Ok(()) };
    let one = (host, rig.life, permit);
    let local = rig.local(now);
    let echoed = echoed(judge, rig, now, permit);
    if let Some(asked) = echoed.filter(|asked| local.since(*asked) <= ECHO_MAX) {
        judge.steps.begun.insert(one, asked);
        let target = judge.newest.permits().get(&permit).map(|permit| permit.release);
        if rig.service.release() == target {
            judge.steps.moves(host, rig.life, permit);
        }
        return Ok(());
    }
    if judge.steps.begun.contains_key(&one) {
        return Ok(()); // of a later step
    }
    let age = echoed.map(|asked| local.since(asked));
    Err(format!(
        "safety 3 (two steps): host {host} begins under permit {permit}, and what it has asked for and \
         is committed, if anything, is this old: {age:?}"
    ))
}

/// The agent of `host` is about to do this.
pub(super) fn check(
    judge: &mut Judge,
    rig: &Rig,
    now: Instant,
    host: Host,
    action: &ServiceAction,
) -> Result<(), String> {
    let Some(peer) = &rig.peer else { return Ok(()) };
    let node = rig.config.node;
    let starts = matches!(action, ServiceAction::Start { .. });
    if !starts && !rig.service.is_disruptive(action) {
        return Ok(());
    }
    // The permit as the holder knows it: it may be overridden meanwhile.
    let permit = peer.fleet().permit_of(node).map(|permit| permit.id);
    let begun = permit.and_then(|permit| {
        let one = (host, rig.life, permit);
        Some((one, *judge.steps.begun.get(&one)?))
    });
    let Some((one, asked)) = begun else {
        return if starts { Ok(()) } else { unasked(host, action) };
    };
    let local = rig.local(now);
    if !judge.steps.moving.contains(&one) && local.since(asked) > ECHO_MAX {
        return if starts { Ok(()) } else { unasked(host, action) };
    }
    judge.steps.moves(host, rig.life, one.2);
    let open = judge.newest.permits().contains_key(&one.2) || judge.overridden.contains(&one.2);
    if open || starts { Ok(()) } else { unasked(host, action) }
}

fn unasked(host: Host, action: &ServiceAction) -> Result<(), String> {
    Err(format!(
        "safety 3 (two steps): host {host} does {action:?}, and no Begin that this life has asked for \
         in time is committed for a permit that is open"
    ))
}
