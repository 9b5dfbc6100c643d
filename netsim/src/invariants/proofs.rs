//! Safety 4, at the holder: it says that its service is ready when it has been for `min_healthy`, on
//! the release that it names and without a restart since; and when the balancer was seen to send to it
//! again or, where nobody reads that, has had its time to.

use core::time::Duration;
use std::collections::BTreeSet;

use baton_protocol::fleet::command::Proof;
use baton_protocol::id::{Incarnation, NodeId, PermitId};
use baton_protocol::time::Instant;

use super::Judge;
use crate::event::Host;
use crate::mesh::BALANCER_DELAY;
use crate::rig::Rig;
use crate::service::{Service, Spoken};
use crate::world::PROBE_EVERY;

/// What clocks round.
const SLACK: Duration = Duration::from_millis(1);

/// The longest sleep of a machine that a holder may take for time that its service was ready: two probes,
/// each with its interval and its timeout, as the services of the simulator have them.
const UNSEEN_MAX: Duration = Duration::from_secs(3);

/// How long a leader's disk may keep what the leader has asked of itself from being seen.
const SEEN_LATE_MAX: Duration = Duration::from_secs(5);

/// How a service has stood, by the clock of its host. That counts what the machine has slept; a sleep that
/// is longer than [`UNSEEN_MAX`] is a break.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// The process that is ready, and since when.
    ready: Option<(u64, Instant)>,
    /// Since when it is not any more.
    broken: Option<Instant>,
    /// Since when the balancer is told to send.
    up: Option<Instant>,
    /// Since when it was, and when that was over.
    was_up: Option<(Instant, Instant)>,
}

impl Standing {
    /// The service may have changed.
    pub(super) fn note(&mut self, local: Instant, service: &Service) {
        match service.spoken {
            Spoken::Up => _ = self.up.get_or_insert(local),
            Spoken::Drain | Spoken::Down => {
                if let Some(since) = self.up.take() {
                    self.was_up = Some((since, local));
                }
            }
            Spoken::Nothing => {}
        }
        let same = self.ready.is_some_and(|(process, _)| process == service.number);
        if !service.is_ready() {
            _ = self.broken.get_or_insert(local);
            return;
        }
        // What is over before the next probe nobody sees.
        let seen = self.broken.take().is_some_and(|since| local.since(since) >= PROBE_EVERY);
        if seen || !same {
            self.ready = Some((service.number, local));
        }
    }

    /// The machine has slept.
    pub(super) fn slept(&mut self, by: Duration, local: Instant) {
        if by > UNSEEN_MAX {
            self.ready = self.ready.map(|(process, _)| (process, local));
            self.up = self.up.map(|_| local);
        }
    }

    fn ready_for(&self, local: Instant) -> Option<Duration> {
        let well = self.broken.is_none_or(|since| local.since(since) < PROBE_EVERY);
        self.ready.filter(|_| well).map(|(_, since)| local.since(since))
    }

    /// Whether it was taken out so lately that a leader may have said before that it serves, what is seen
    /// only now.
    pub(super) fn has_just_gone(&self, local: Instant) -> bool {
        let lately = |(_, over): (_, Instant)| local.since(over) <= SEEN_LATE_MAX;
        self.up.is_none() && self.was_up.is_some_and(lately)
    }

    /// What a node says and does at one moment comes here in any order: what ends just now counts.
    fn up_for(&self, local: Instant) -> Option<Duration> {
        let just_over = self.was_up.filter(|(_, over)| *over == local).map(|(since, _)| since);
        self.up.or(just_over).map(|since| local.since(since))
    }
}

/// What holders have asked to be closed, in which life, and on what grounds.
#[derive(Debug, Default)]
pub(super) struct Proofs(BTreeSet<(NodeId, PermitId, Incarnation, Proof)>);

impl Proofs {
    pub(super) fn said(&mut self, by: NodeId, permit: PermitId, life: Incarnation, proof: &Proof) {
        self.0.insert((by, permit, life, proof.clone()));
    }

    pub(super) fn was_said(
        &self,
        by: NodeId,
        permit: PermitId,
        life: Incarnation,
        proof: &Proof,
    ) -> bool {
        self.0.contains(&(by, permit, life, proof.clone()))
    }
}

/// The holder asks for its permit to be closed.
pub(super) fn check(
    judge: &Judge,
    now: Instant,
    rig: &Rig,
    host: Host,
    permit: PermitId,
    proof: &Proof,
) -> Result<(), String> {
    let (Proof::Ready { release, .. } | Proof::Serves { release, .. }) = proof else {
        return Ok(());
    };
    let known = judge.newest.permits().get(&permit);
    let group = known.and_then(|permit| judge.newest.groups().get(&permit.group));
    let Some(group) = group else { return Ok(()) }; // closed meanwhile: refused
    let Some(standing) = judge.standing.get(&host) else { return Ok(()) };
    let local = rig.local(now);
    let (ready, up) = (standing.ready_for(local), standing.up_for(local));
    let watched = !group.watchers.is_empty();
    let delay = if watched { Duration::ZERO } else { BALANCER_DELAY };
    let long = |span: Option<Duration>, needed: Duration| {
        span.is_some_and(|span| span >= needed.saturating_sub(SLACK))
    };
    let runs = rig.service.release() == Some(*release);
    let seen = !watched || !rig.service.unseen;
    if runs && seen && long(ready, group.policy.min_healthy) && long(up, delay) {
        return Ok(());
    }
    Err(format!(
        "safety 4 (proof): host {host} says that {release:?} is ready under permit {permit}; its \
         service is ready for {ready:?}, its balancer was told to send for {up:?}, and watched \
         {watched}, has sent {seen}"
    ))
}
