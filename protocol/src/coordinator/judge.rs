//! The judgement of one group's rollout: a verdict, and the permits that follow from it.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::agent::report::Condition;
use crate::coordinator::evidence::Evidence;
use crate::fleet::Fleet;
use crate::fleet::command::{Decision, Verdict};
use crate::fleet::group::{Group, Standing};
use crate::fleet::permit::{Permit, PermitKind};
use crate::fleet::policy::OnFailure;
use crate::fleet::rollout::{Phase, Rollout};
use crate::id::{GroupName, NodeId, ReleaseId, RolloutId};
use crate::mutant::{self, Mutant};
use crate::time::{Instant, earliest};

/// How long nothing may move before the rollout says what blocks it.
const BLOCKED_AFTER: Duration = Duration::from_secs(10);

/// How long the first answers of new members are waited for, before silence means absence.
const FIRST_WORD_WITHIN: Duration = Duration::from_secs(5);

/// Members that a reason names before it only counts.
const NAMED_MAX: usize = 3;

/// What the leader remembers of a rollout from one judgement to the next. A new leader starts anew:
/// it soaks again.
#[derive(Debug, Default)]
pub struct Watch {
    rollout: RolloutId,
    since: Option<Instant>,
    soaking: Option<(usize, Instant)>,
    still: Option<(u64, Instant)>,
    due: Option<Instant>,
}

impl Watch {
    /// When time alone may change the judgement.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        self.due.filter(|due| *due > now)
    }

    fn start(&mut self, now: Instant, rollout: RolloutId) -> Instant {
        if self.rollout != rollout {
            *self = Self { rollout, ..Self::default() };
        }
        self.due = None;
        *self.since.get_or_insert(now)
    }

    /// Since when `mark`, which any progress changes, has been the same.
    fn still_since(&mut self, now: Instant, mark: u64) -> Instant {
        match self.still {
            Some((last, since)) if last == mark => since,
            _ => {
                self.still = Some((mark, now));
                now
            }
        }
    }
}

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
        let since = watch.start(self.now, self.rollout.id);
        match &self.rollout.phase {
            Phase::Forward | Phase::Blocked { .. } => self.forward(watch, since),
            Phase::RollingBack { .. } => self.back(watch),
            _ => None,
        }
    }

    fn forward(self, watch: &mut Watch, since: Instant) -> Option<Decision> {
        if let Some(verdict) = self.failure() {
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
                return self.soak(watch);
            }
            if total > 0 && behind.is_empty() && !self.awaits_newcomers(watch, since) {
                return Some(self.verdict(Verdict::Done));
            }
        }
        let room = quota.saturating_sub(arrived + self.permits().count());
        let decision = self.grants(&behind, target, room);
        self.with_block(watch, arrived, decision)
    }

    fn back(self, watch: &mut Watch) -> Option<Decision> {
        let target = self.rollout.previous?;
        let mut failed = self.permits().filter(|permit| permit.failure.is_some());
        if let Some(permit) = failed.next() {
            let failure = permit.failure.clone().unwrap_or_default();
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
        watch.still = None;
        let decision = self.grants(&behind, target, behind.len());
        (!decision.grants.is_empty()).then_some(decision)
    }

    fn failure(self) -> Option<Verdict> {
        let (node, reason) = Fleet::failures(self.rollout)
            .next()
            .map(|(node, reason)| (node, reason.to_owned()))
            .or_else(|| self.dead_newcomer())?;
        let name = self.called(node);
        let reason = format!("{name} not ready: {reason} (on {name}: baton logs -g {})", self.name);
        let goes_back =
            self.group.policy.on_failure == OnFailure::Rollback && self.rollout.previous.is_some();
        Some(if goes_back { Verdict::Rollback { reason } } else { Verdict::Pause { reason } })
    }

    /// In a group's first rollout no member counts yet: one that is dead is its failure.
    fn dead_newcomer(self) -> Option<(NodeId, String)> {
        if self.rollout.previous.is_some() {
            return None;
        }
        self.newcomers().find_map(|node| {
            let service = self.evidence.service(self.now, self.fleet, self.name, node)?;
            match &service.condition {
                Condition::Dead { reason } => Some((node, reason.clone())),
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
    fn awaits_newcomers(self, watch: &mut Watch, since: Instant) -> bool {
        let first_words_until = since.after(FIRST_WORD_WITHIN);
        let early = self.now < first_words_until;
        if early {
            watch.due = earliest(watch.due, Some(first_words_until));
        }
        self.newcomers().any(|node| early || self.evidence.last_report(node).is_some())
    }

    /// Members of the stage under way and those before it: its share, rounded up.
    fn quota(self, total: usize) -> usize {
        let share = self.group.policy.stages.get(self.rollout.stage).copied().unwrap_or(100);
        (total * usize::from(share)).div_ceil(100).clamp(1.min(total), total)
    }

    fn soak(self, watch: &mut Watch) -> Option<Decision> {
        let stage = self.rollout.stage;
        let since = match watch.soaking {
            Some((soaking, since)) if soaking == stage => since,
            _ => self.now,
        };
        watch.soaking = Some((stage, since));
        let ends = since.after(self.group.policy.soak);
        if self.rollout.promoted || self.now >= ends {
            return Some(self.verdict(Verdict::Advance));
        }
        watch.due = earliest(watch.due, Some(ends));
        None
    }

    /// Members that run the target although the log does not know it yet, such as one that a person
    /// brought back.
    fn found(self, behind: &BTreeSet<NodeId>, target: ReleaseId) -> BTreeSet<NodeId> {
        let serves = |node: &&NodeId| {
            self.fleet.permit_of(**node).is_none()
                && self.evidence.serves(self.now, self.fleet, self.name, **node, target)
        };
        behind.iter().filter(serves).copied().collect()
    }

    /// Permits for as many of `behind` as the cap and `room` allow: the dead first, as mending them
    /// takes nothing away.
    fn grants(self, behind: &BTreeSet<NodeId>, target: ReleaseId, room: usize) -> Decision {
        let mut decision = self.decision();
        let Ok(limit) = self.fleet.limit(self.group) else { return decision };
        let limit = if mutant::active(Mutant::CapIgnored) { u32::MAX } else { limit };
        let staged = |node: &NodeId| {
            let report = self.evidence.fresh(self.now, self.fleet, *node);
            report.is_some_and(|report| report.staged.contains(&target))
        };
        let free = behind.iter().filter(|node| self.fleet.permit_of(**node).is_none());
        let (dead, alive): (Vec<_>, Vec<_>) =
            free.copied().filter(staged).partition(|node| self.is_dead(*node));
        let mut disrupted = self.fleet.disrupted(self.name, self.group);
        let mut out: BTreeSet<_> = disrupted.union(&decision.unavailable).copied().collect();
        for node in dead {
            if disrupted.len() < limit as usize && decision.grants.len() < room {
                disrupted.insert(node);
                decision.grants.insert(node, PermitKind::Repair);
            }
        }
        out.extend(&disrupted);
        for node in alive.into_iter().filter(|node| !decision.unavailable.contains(node)) {
            if out.len() < limit as usize && decision.grants.len() < room {
                out.insert(node);
                decision.grants.insert(node, PermitKind::Restart);
            }
        }
        decision
    }

    fn is_dead(self, node: NodeId) -> bool {
        let service = self.evidence.service(self.now, self.fleet, self.name, node);
        service.is_some_and(|service| matches!(service.condition, Condition::Dead { .. }))
    }

    /// Says what blocks a rollout in which nothing moves, and when that is over.
    fn with_block(self, watch: &mut Watch, arrived: usize, grants: Decision) -> Option<Decision> {
        let blocked = matches!(self.rollout.phase, Phase::Blocked { .. });
        if !grants.grants.is_empty() {
            watch.still = None;
            return Some(Decision { verdict: blocked.then_some(Verdict::Unblock), ..grants });
        }
        let newest = self.permits().map(|permit| permit.id.granted_at.0).max().unwrap_or_default();
        let mark = newest.wrapping_mul(1_000_003).wrapping_add(arrived as u64);
        let due = watch.still_since(self.now, mark).after(BLOCKED_AFTER);
        if self.now < due {
            watch.due = earliest(watch.due, Some(due));
            return None;
        }
        let reason = self.blocker();
        match &self.rollout.phase {
            Phase::Blocked { reason: said } if *said == reason => None,
            _ => Some(self.verdict(Verdict::Block { reason })),
        }
    }

    fn blocker(self) -> String {
        if let Err(error) = self.fleet.limit(self.group) {
            return error.to_string();
        }
        let holders: Vec<_> = self.permits().filter(|permit| self.is_silent(permit.node)).collect();
        if let Some(permit) = holders.first() {
            let name = self.called(permit.node);
            return format!(
                "{name} holds permit {} and is silent: bring it back, or if it is powered off or out \
                 of the balancer: baton rollout override {} --fenced",
                permit.id, permit.id
            );
        }
        let out = self.decision().unavailable;
        let mut named: Vec<_> =
            out.iter().take(NAMED_MAX).map(|node| self.complaint(*node)).collect();
        if out.len() > NAMED_MAX {
            named.push(format!("and {} more", out.len() - NAMED_MAX));
        }
        let newcomers = self.newcomers().filter(|node| self.evidence.last_report(*node).is_some());
        named.extend(newcomers.take(NAMED_MAX).map(|node| self.complaint(node)));
        if named.is_empty() {
            return "waiting for the release to be staged".to_owned();
        }
        format!(
            "{}; mend it, or take it out of the count: baton nodes quarantine NODE -g {}",
            named.join("; "),
            self.name
        )
    }

    fn complaint(self, node: NodeId) -> String {
        let complaint = self.evidence.complaint(self.now, self.fleet, self.name, node);
        format!("{} is {complaint}", self.called(node))
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
        let groups = self.fleet.groups().iter();
        // Groups that share a member with this one are protected by the same permit.
        let touched = groups.filter(|(name, group)| {
            *name == self.name || group.counted().any(|node| self.group.counts(node))
        });
        Decision {
            rollout: self.rollout.id,
            expected: self.group.generation,
            verdict: None,
            unavailable: self.evidence.unavailable(self.now, self.fleet, touched),
            found_on_target: BTreeSet::new(),
            grants: BTreeMap::new(),
        }
    }
}

/// Whether the evidence of this moment still allows a granted permit to begin: within the cap with
/// all that is unavailable by now, or, for a repair, still dead.
pub fn evidence_allows(now: Instant, fleet: &Fleet, evidence: &Evidence, permit: &Permit) -> bool {
    if permit.kind == PermitKind::Repair {
        let service = evidence.service(now, fleet, &permit.group, permit.node);
        return service.is_some_and(|it| matches!(it.condition, Condition::Dead { .. }));
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
        out.extend(evidence.unavailable(now, fleet, core::iter::once((name, group))));
        out.len() <= limit as usize
    })
}
