//! How permits come, move on and close.

use std::collections::BTreeSet;

use crate::fleet::Fleet;
use crate::fleet::command::{Decision, Proof};
use crate::fleet::event::{Event, Refusal};
use crate::fleet::permit::{Permit, PermitKind, PermitPhase};
use crate::id::{GroupName, Incarnation, LogIndex, NodeId, Nonce, PermitId, ReleaseId, RolloutId};
use crate::limits::REASON_BYTES_MAX;
use crate::mutant::{self, Mutant};
use crate::text;

/// Entries after which a permit is forgotten by [`Mutant::PermitExpires`].
const MUTANT_EXPIRY_ENTRIES: u64 = 12;

impl Fleet {
    /// Grants what `decision` asks for, to members of `group`. Where it refuses a grant, the caller
    /// undoes those before it.
    pub(super) fn grant(
        &mut self,
        index: LogIndex,
        group: &GroupName,
        target: ReleaseId,
        decision: &Decision,
    ) -> Result<Vec<Event>, Refusal> {
        if decision.judged_at < self.closed_unproven {
            return Err(Refusal::JudgedTooEarly(self.closed_unproven));
        }
        let mut changed = self.expire_by_mistake(index);
        for (ordinal, (node, kind)) in (0..).zip(&decision.grants) {
            let id = PermitId { granted_at: index, ordinal };
            self.check_grant(*node, *kind, group, decision)?;
            let permit = Permit {
                id,
                node: *node,
                group: group.clone(),
                also_in: BTreeSet::new(),
                rollout: decision.rollout,
                release: target,
                kind: *kind,
                phase: PermitPhase::Granted,
                failure: None,
            };
            self.permits.insert(id, permit);
            changed.push(Event::PermitChanged(id, *node));
        }
        Ok(changed)
    }

    fn check_grant(
        &self,
        node: NodeId,
        kind: PermitKind,
        group: &GroupName,
        decision: &Decision,
    ) -> Result<(), Refusal> {
        if !self.groups.get(group).is_some_and(|group| group.counts(node)) {
            return Err(Refusal::Unknown(format!("node {node:?} that counts in {group}")));
        }
        if let Some(open) = self.permit_of(node) {
            return Err(Refusal::Permit(open.id));
        }
        self.admit_to_cap(node, kind, &decision.unavailable)
    }

    /// The open permit of `node`; it has at most one, in all its groups together.
    pub fn permit_of(&self, node: NodeId) -> Option<&Permit> {
        self.permits.values().find(|permit| permit.node == node)
    }

    pub(super) fn begin(
        &mut self,
        id: PermitId,
        node: NodeId,
        incarnation: Incarnation,
        nonce: Nonce,
    ) -> Result<Vec<Event>, Refusal> {
        self.check_life(node, incarnation)?;
        let held = self.permits.get(&id).filter(|permit| permit.node == node);
        let permit = held.ok_or(Refusal::Permit(id))?;
        let refused = match permit.phase {
            PermitPhase::Granted => !self.may_start(&permit.group, permit.rollout),
            // A request of this life that was under way for long: its number may be given back by a proof
            // that is under way as well.
            PermitPhase::Begun { incarnation: of, nonce: newest } => {
                of == incarnation && nonce < newest
            }
        };
        if refused {
            return Err(Refusal::Permit(id));
        }
        if let Some(permit) = self.permits.get_mut(&id) {
            permit.phase = PermitPhase::Begun { incarnation, nonce };
        }
        Ok(vec![Event::PermitChanged(id, node)])
    }

    /// Whether a permit of this rollout that has moved nothing yet may still do so.
    fn may_start(&self, group: &GroupName, rollout: RolloutId) -> bool {
        let active = self.groups.get(group).and_then(|group| group.active());
        active.is_some_and(|active| active.id == rollout && active.may_start())
    }

    pub(super) fn close(
        &mut self,
        id: PermitId,
        by: NodeId,
        incarnation: Incarnation,
        proof: &Proof,
    ) -> Result<Vec<Event>, Refusal> {
        self.check_life(by, incarnation)?;
        let permit = self.permits.get(&id).filter(|permit| permit.node == by);
        let permit = permit.ok_or(Refusal::Permit(id))?;
        let proves = match (proof, permit.phase) {
            (Proof::Ready { release, rollout }, PermitPhase::Begun { incarnation: begun, .. }) => {
                let wanted = (*rollout, *release) == (permit.rollout, permit.release);
                wanted && begun == incarnation
            }
            (Proof::Serves { begun, .. }, PermitPhase::Begun { nonce, .. }) => *begun == nonce,
            (Proof::Ready { .. } | Proof::Serves { .. }, PermitPhase::Granted) => false,
            // The holder has moved nothing, whatever the log says of `Begin`: its echo came late or
            // not at all.
            (Proof::NeverBegan, _) => true,
        };
        if !proves {
            return Err(Refusal::Permit(id));
        }
        match proof {
            Proof::Ready { release, .. } | Proof::Serves { release, .. } => {
                self.record_running(&permit.group.clone(), by, Some(*release));
            }
            Proof::NeverBegan => self.closed_unproven = self.applied,
        }
        self.permits.remove(&id);
        Ok(vec![Event::PermitChanged(id, by)])
    }

    pub(super) fn record_running(
        &mut self,
        group: &GroupName,
        node: NodeId,
        release: Option<ReleaseId>,
    ) {
        let group = self.groups.get_mut(group);
        if let Some(member) = group.and_then(|group| group.members_mut().get_mut(&node)) {
            member.running = release;
        }
    }

    pub(super) fn fail(
        &mut self,
        id: PermitId,
        by: NodeId,
        incarnation: Incarnation,
        release: ReleaseId,
        reason: &str,
    ) -> Result<Vec<Event>, Refusal> {
        self.check_life(by, incarnation)?;
        let held = |permit: &&mut Permit| permit.node == by && permit.release == release;
        let permit = self.permits.get_mut(&id).filter(held);
        let permit = permit.ok_or(Refusal::Permit(id))?;
        let reason = text::cut(reason, REASON_BYTES_MAX);
        permit.failure = Some(reason.clone());
        let (group, rollout) = (permit.group.clone(), permit.rollout);
        let active = self.groups.get_mut(&group).and_then(|group| group.active_mut());
        let failed = active.filter(|it| it.id == rollout && it.release == release);
        if let Some(active) = failed {
            active.failed.insert(by, reason);
        }
        Ok(vec![Event::PermitChanged(id, by), Event::RolloutChanged(rollout)])
    }

    pub(super) fn close_by_override(
        &mut self,
        id: PermitId,
        phase: PermitPhase,
        fenced: bool,
    ) -> Result<Vec<Event>, Refusal> {
        let permit = self.permits.get(&id).ok_or(Refusal::Permit(id))?;
        if permit.phase != phase {
            return Err(Refusal::MovedOn(id));
        }
        if permit.has_begun() && !fenced {
            return Err(Refusal::NotFenced(id));
        }
        let (node, group) = (permit.node, permit.group.clone());
        if permit.has_begun() {
            self.record_running(&group, node, None); // which release it comes back with, nobody knows
        }
        self.closed_unproven = self.applied;
        self.permits.remove(&id);
        Ok(vec![Event::PermitChanged(id, node)])
    }

    /// The mistake that the simulator must find: time, here counted in entries, closes permits.
    fn expire_by_mistake(&mut self, index: LogIndex) -> Vec<Event> {
        if !mutant::active(Mutant::PermitExpires) {
            return Vec::new();
        }
        let old = |id: &PermitId| id.granted_at.0 + MUTANT_EXPIRY_ENTRIES <= index.0;
        let expired = self.permits.values().filter(|permit| old(&permit.id));
        let expired = expired.map(|permit| Event::PermitChanged(permit.id, permit.node)).collect();
        self.permits.retain(|id, _| !old(id));
        expired
    }
}
