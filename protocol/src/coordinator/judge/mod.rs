//! The judgement of one group's rollout: a verdict, and the permits that follow from it.
//!
//! * [`watch`]: what is remembered from one judgement to the next
//! * [`room`]: whether the caps let one more member go; [`blocker`]: what a rollout waits for

mod blocker;
mod room;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeMap, BTreeSet};

use crate::agent::report::Condition;
use crate::coordinator::evidence::Evidence;
use crate::fleet::Fleet;
use crate::fleet::command::{Decision, Verdict};
use crate::fleet::group::{Group, Standing};
use crate::fleet::permit::{Permit, PermitKind};
use crate::fleet::policy::OnFailure;
use crate::fleet::rollout::{Phase, Rollout};
use crate::id::{GroupName, NodeId, ReleaseId};
use crate::limits::REASON_BYTES_MAX;
use crate::mutant::{self, Mutant};
use crate::text;
use crate::time::Instant;

use room::Room;
pub use watch::Watch;

/// Bytes of a service's own words in a reason, which says more than them.
const WORDS_BYTES_MAX: usize = REASON_BYTES_MAX - 500;

/// Everything that one judgement looks at.
#[derive(Clone, Copy, Debug)]
pub struct Bench<'a> {
    /// The time.
    pub now: Instant,
    /// What the log says.
    pub fleet: &'a Fleet,
    /// What the members say.
    pub evidence: &'a Evidence,
    /// The group.
    pub name: &'a GroupName,
    /// The group.
    pub group: &'a Group,
    /// Its rollout under way.
    pub rollout: &'a Rollout,
}

impl<'a> Bench<'a> {
    /// What is to be decided now, if anything.
    pub fn judge(self, watch: &mut Watch) -> Option<Decision> {
        watch.start(self.now, self.rollout);
        if !self.rollout.may_start() {
            return None;
        }
        if self.rollout.is_back() { self.back(watch) } else { self.forward(watch) }
    }

    fn forward(self, watch: &mut Watch) -> Option<Decision> {
        if let Some(verdict) = self.failure(watch) {
            return Some(self.verdict(verdict));
        }
        let target = self.rollout.release;
        let behind: BTreeSet<_> = self.fleet.behind(self.group, target).collect();
        let found = self.found(&behind, target);
        if !found.is_empty() {
            return Some(Decision { found_on_target: found, ..self.decision() });
        }
        let total = self.group.counted().count();
        let arrived = total - behind.len();
        let quota = self.quota(total);
        let last_stage = self.rollout.stage + 1 >= self.group.policy.stages.len();
        if arrived >= quota && self.permits().next().is_none() {
            if !last_stage {
                return self.soak(watch, &behind);
            }
            if total > 0 && behind.is_empty() && !self.awaits_newcomers(watch) {
                return Some(self.verdict(Verdict::Done));
            }
        }
        // One that was removed under its permit is not among those that are to arrive.
        let on_their_way = self.permits().filter(|permit| self.group.counts(permit.node)).count();
        let wanted = quota.saturating_sub(arrived + on_their_way);
        let decision = self.grants(&behind, target, wanted);
        self.with_block(watch, &behind, decision)
    }

    fn back(self, watch: &mut Watch) -> Option<Decision> {
        let target = self.rollout.previous?;
        let mut failed = self.permits().filter(|permit| permit.failure.is_some());
        if let Some(permit) = failed.next() {
            let failure = permit.failure.as_deref().unwrap_or_default();
            let failure = text::cut(failure, WORDS_BYTES_MAX);
            let reason = format!(
                "rollback incomplete: {} does not get ready on the release before either: {failure}",
                self.called(permit.node)
            );
            return Some(self.verdict(Verdict::Pause { reason }));
        }
        let behind: BTreeSet<_> = self.fleet.behind(self.group, target).collect();
        let found = self.found(&behind, target);
        if !found.is_empty() {
            return Some(Decision { found_on_target: found, ..self.decision() });
        }
        if behind.is_empty() && self.permits().next().is_none() {
            return Some(self.verdict(Verdict::RolledBack));
        }
        let decision = self.grants(&behind, target, behind.len());
        self.with_block(watch, &behind, decision)
    }

    fn failure(self, watch: &mut Watch) -> Option<Verdict> {
        let (node, reason) = Fleet::failures(self.rollout)
            .next()
            .map(|(node, reason)| (node, reason.to_owned()))
            .or_else(|| self.death(watch))?;
        let name = self.called(node);
        let reason = text::cut(&reason, WORDS_BYTES_MAX);
        let reason = format!("{name} not ready: {reason} (on {name}: baton logs -g {})", self.name);
        let goes_back =
            self.group.policy.on_failure == OnFailure::Rollback && self.rollout.previous.is_some();
        Some(if goes_back { Verdict::Rollback { reason } } else { Verdict::Pause { reason } })
    }

    /// A member on which the release died by itself: one that had arrived, or, in a group's first
    /// rollout, one that does not count yet.
    fn death(self, watch: &mut Watch) -> Option<(NodeId, String)> {
        if watch.is_early(self.now) {
            return None; // what is heard may be from before it
        }
        let holders = self.holders();
        let arrived = self.group.members.iter().filter(|(node, it)| {
            it.standing == Standing::Counted
                && it.running == Some(self.rollout.release)
                && !holders.contains(node)
        });
        let newcomers = self.newcomers().filter(|_| self.rollout.previous.is_none());
        let mut on_release = arrived.map(|(node, _)| *node).chain(newcomers);
        on_release.find_map(|node| {
            let service = self.evidence.service(self.now, self.fleet, self.name, node)?;
            match &service.condition {
                Condition::Dead { reason } if service.release == Some(self.rollout.release) => {
                    Some((node, reason.clone()))
                }
                _ => None,
            }
        })
    }

    fn newcomers(self) -> impl Iterator<Item = NodeId> + 'a {
        let new = self.group.members.iter().filter(|(_, it)| it.standing == Standing::New);
        new.map(|(node, _)| *node)
    }

    /// Whether new members are still on their way to their first proof. One that has never said a
    /// word is not waited for.
    fn awaits_newcomers(self, watch: &mut Watch) -> bool {
        let early = watch.is_early(self.now);
        self.newcomers().any(|node| early || self.evidence.last_report(node).is_some())
    }

    /// Members of the stage under way and those before it: its share, rounded up.
    fn quota(self, total: usize) -> usize {
        let share = self.group.policy.stages.get(self.rollout.stage).copied().unwrap_or(100);
        (total * usize::from(share)).div_ceil(100).clamp(1.min(total), total)
    }

    /// Lets what has arrived prove itself for a while, all of it and without a break.
    fn soak(self, watch: &mut Watch, behind: &BTreeSet<NodeId>) -> Option<Decision> {
        let arrived = self.group.counted().filter(|node| !behind.contains(node));
        let release = self.rollout.release;
        let serves = |node| self.evidence.serves(self.now, self.fleet, self.name, node, release);
        if !arrived.into_iter().all(serves) {
            watch.stop_soaking();
            return self.with_block(watch, behind, self.decision());
        }
        if self.is_blocked() {
            return Some(self.verdict(Verdict::Unblock));
        }
        let over = watch.soaked(self.now, self.rollout.stage, self.group.policy.soak);
        (self.rollout.promoted || over).then(|| self.verdict(Verdict::Advance))
    }

    fn is_blocked(self) -> bool {
        matches!(self.rollout.phase, Phase::Blocked { .. })
    }

    /// Members that run the target although the log does not know it yet, such as one that a person
    /// brought back.
    fn found(self, behind: &BTreeSet<NodeId>, target: ReleaseId) -> BTreeSet<NodeId> {
        let holders = self.holders();
        let serves = |node: &&NodeId| {
            !holders.contains(node)
                && self.evidence.serves(self.now, self.fleet, self.name, **node, target)
        };
        behind.iter().filter(serves).copied().collect()
    }

    /// Permits for as many of `behind` as the caps and `wanted` allow: those that serve nobody and the ill first, as
    /// mending them takes nothing away.
    fn grants(self, behind: &BTreeSet<NodeId>, target: ReleaseId, wanted: usize) -> Decision {
        let mut decision = self.decision();
        let mut room = Room::around(self.now, self.fleet, self.evidence, self.name);
        for (node, kind) in self.candidates(behind, target) {
            if decision.grants.len() >= wanted {
                break;
            }
            if !room.admits(node, kind) {
                continue;
            }
            if kind == PermitKind::Restart {
                let unavailable = room.unavailable_beside(node);
                let owned = unavailable.map(|(name, nodes)| (name.clone(), nodes.collect()));
                decision.unavailable.extend(owned);
            }
            room.take(node);
            decision.grants.insert(node, kind);
        }
        decision
    }

    /// Who holds a permit, in whatever group.
    fn holders(self) -> BTreeSet<NodeId> {
        self.fleet.permits().values().map(|permit| permit.node).collect()
    }

    /// Who of `behind` could go now, and on what grounds, in the order of need.
    fn candidates(self, behind: &BTreeSet<NodeId>, target: ReleaseId) -> Vec<(NodeId, PermitKind)> {
        let holders = self.holders();
        let ready = behind.iter().copied().filter(|node| !holders.contains(node)).filter(|node| {
            let report = self.evidence.fresh(self.now, self.fleet, *node);
            report.is_some_and(|report| report.staged.contains(&target))
                && !self.evidence.is_double(self.now, *node)
        });
        let (mut idle, mut ill, mut well) = (Vec::new(), Vec::new(), Vec::new());
        for node in ready {
            if self.evidence.serves_nobody(self.now, self.fleet, self.name, node) {
                idle.push((node, PermitKind::Repair));
            } else if self.evidence.is_available(self.now, self.fleet, self.name, node) {
                well.push((node, PermitKind::Restart));
            } else {
                ill.push((node, PermitKind::Restart));
            }
        }
        [idle, ill, well].concat()
    }

    /// Says what blocks a rollout in which nothing moves, and when that is over.
    fn with_block(
        self,
        watch: &mut Watch,
        behind: &BTreeSet<NodeId>,
        grants: Decision,
    ) -> Option<Decision> {
        let newest = self.permits().map(|permit| permit.id).max();
        let moved = watch.moved(self.now, newest, behind.len());
        if !grants.grants.is_empty() {
            let verdict = self.is_blocked().then_some(Verdict::Unblock);
            return Some(Decision { verdict, ..grants });
        }
        if moved {
            return self.is_blocked().then(|| self.verdict(Verdict::Unblock));
        }
        if !watch.is_stuck(self.now) {
            return None;
        }
        let target = self.rollout.target()?;
        let reason = self.blocker(behind, target);
        match &self.rollout.phase {
            Phase::Blocked { reason: said, .. } if *said == reason => None,
            _ if watch.may_tell(self.now, self.is_blocked()) => {
                Some(self.verdict(Verdict::Block { reason }))
            }
            _ => None,
        }
    }

    fn is_silent(self, node: NodeId) -> bool {
        self.evidence.fresh(self.now, self.fleet, node).is_none()
    }

    fn called(self, node: NodeId) -> String {
        let fleet = self.fleet;
        let member = fleet.members().get(&node).or_else(|| fleet.removed().get(&node));
        member.map_or_else(|| node.short(), |member| member.name.to_string())
    }

    fn permits(self) -> impl Iterator<Item = &'a Permit> {
        let id = self.rollout.id;
        self.fleet.permits().values().filter(move |permit| permit.rollout == id)
    }

    fn verdict(self, verdict: Verdict) -> Decision {
        Decision { verdict: Some(verdict), ..self.decision() }
    }

    /// A decision that decides nothing yet.
    fn decision(self) -> Decision {
        Decision {
            rollout: self.rollout.id,
            expected: self.group.generation,
            verdict: None,
            judged_at: self.fleet.applied(),
            unavailable: BTreeMap::new(),
            found_on_target: BTreeSet::new(),
            grants: BTreeMap::new(),
        }
    }
}

/// Whether the evidence of this moment still allows a granted permit to begin: within the cap with
/// all that is unavailable by now, or, for a repair, still serving nobody.
pub fn evidence_allows(now: Instant, fleet: &Fleet, evidence: &Evidence, permit: &Permit) -> bool {
    if permit.kind == PermitKind::Repair {
        return evidence.serves_nobody(now, fleet, &permit.group, permit.node);
    }
    if mutant::active(Mutant::CapIgnored) {
        return true;
    }
    let mut groups = fleet.groups().iter().filter(|(_, group)| group.counts(permit.node));
    groups.all(|(name, group)| {
        let Ok(limit) = fleet.limit(group) else { return false };
        let mut out = fleet.disrupted(name, group);
        // Where the cap has fallen below the permits that are out, those begin one after the other,
        // the oldest first: all of them would wait for each other for ever.
        let later = |it: &&Permit| !it.has_begun() && it.id > permit.id;
        for waiting in fleet.permits().values().filter(later) {
            out.remove(&waiting.node);
        }
        out.extend(evidence.unavailable(now, fleet, name, group));
        out.len() <= limit as usize
    })
}
