//! Who votes: more voters as members come, and another one for one that stays away.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::consensus::Progress;
use crate::coordinator::evidence::Evidence;
use crate::fleet::Fleet;
use crate::id::{LogIndex, NodeId, VoterId, ZoneName};
use crate::time::Instant;
use crate::trust::certificate::Role;

/// How long a voter may be silent before it is replaced: longer than a restart of its host.
const GONE_AFTER: Duration = Duration::from_secs(30);

/// The longest pause between two replacements; it doubles from [`GONE_AFTER`] with each.
const PAUSE_MAX: Duration = Duration::from_secs(960);

/// Entries that a learner may be behind when it becomes a voter.
const BEHIND_MAX: u64 = 64;

/// A change of the voters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VoterStep {
    /// A member is to become a voter.
    Allot(NodeId),
    /// It starts to receive the log.
    AddLearner(VoterId, NodeId),
    /// Learners become voters and others go, in one step.
    Replace {
        /// Learners that have caught up.
        promote: Vec<VoterId>,
        /// Voters that are gone.
        remove: Vec<VoterId>,
    },
}

/// What the leader knows of the voters.
#[derive(Debug)]
pub struct Care {
    progress: BTreeMap<VoterId, Progress>,
    heard: BTreeMap<VoterId, Instant>,
    replacements: u32,
    not_before: Instant,
}

/// Voters for so many nodes that can vote: a sole one below 3, 3 below 7, then 5.
pub fn wanted(candidates: usize) -> usize {
    match candidates {
        0..=2 => 1,
        3..=6 => 3,
        _ => 5,
    }
}

impl Care {
    /// Nothing known yet.
    pub fn new(now: Instant) -> Self {
        Self { progress: BTreeMap::new(), heard: BTreeMap::new(), replacements: 0, not_before: now }
    }

    /// How far the voters are.
    pub fn progress(&mut self, now: Instant, progress: BTreeMap<VoterId, Progress>) {
        self.heard.retain(|voter, _| progress.contains_key(voter));
        for (voter, it) in &progress {
            let heard = self.heard.entry(*voter).or_insert(now);
            if it.recently_active {
                *heard = now;
            }
        }
        self.progress = progress;
    }

    /// The next step, if one is due. One at a time: the consensus refuses a second.
    pub fn look(&mut self, now: Instant, fleet: &Fleet, evidence: &Evidence) -> Option<VoterStep> {
        let voters = fleet.voters();
        if !voters.outgoing.is_empty() || self.progress.is_empty() {
            return None;
        }
        let lost_learner = voters.learners.keys().find(|voter| self.is_gone(now, **voter));
        if let Some(learner) = lost_learner {
            return Some(VoterStep::Replace { promote: Vec::new(), remove: vec![*learner] });
        }
        let gone: Vec<_> =
            voters.voters.keys().copied().filter(|voter| self.is_gone(now, *voter)).collect();
        // A voter that is gone is replaced, also where what is left would want fewer.
        let wanted = wanted(self.alive(now, fleet, evidence).count()).max(voters.voters.len());
        let staying = voters.voters.len() - gone.len();
        let missing = wanted.saturating_sub(staying);
        if missing == 0 || (!gone.is_empty() && now < self.not_before) {
            return None;
        }
        self.seat_learners(now, fleet, &gone, missing)
            .or_else(|| self.add_learner(fleet, missing))
            .or_else(|| self.allot(now, fleet, evidence, missing))
    }

    fn is_gone(&self, now: Instant, voter: VoterId) -> bool {
        self.heard.get(&voter).is_some_and(|heard| now.since(*heard) > GONE_AFTER)
    }

    /// Makes voters of learners that have caught up, once there are enough for an odd number.
    fn seat_learners(
        &mut self,
        now: Instant,
        fleet: &Fleet,
        gone: &[VoterId],
        missing: usize,
    ) -> Option<VoterStep> {
        let caught_up = fleet.voters().learners.keys().filter(|it| self.has_caught_up(fleet, **it));
        let mut promote: Vec<_> = caught_up.copied().take(missing).collect();
        let staying = fleet.voters().voters.len() - gone.len();
        if (staying + promote.len()).is_multiple_of(2) {
            promote.pop(); // it waits for one more
        }
        if promote.is_empty() {
            return None;
        }
        if !gone.is_empty() {
            let pause = GONE_AFTER.saturating_mul(1 << self.replacements.min(5)).min(PAUSE_MAX);
            self.replacements += 1;
            self.not_before = now.after(pause);
        }
        Some(VoterStep::Replace { promote, remove: gone.to_vec() })
    }

    fn has_caught_up(&self, fleet: &Fleet, voter: VoterId) -> bool {
        self.progress.get(&voter).is_some_and(|it| {
            it.recently_active && LogIndex(it.matched.0 + BEHIND_MAX) >= fleet.applied()
        })
    }

    /// Starts to send the log to a member that was allotted an id.
    fn add_learner(&self, fleet: &Fleet, missing: usize) -> Option<VoterStep> {
        let voters = fleet.voters();
        if voters.learners.len() >= missing {
            return None;
        }
        let allotted = fleet.members().iter().filter_map(|(node, it)| Some((it.voter?, *node)));
        let mut fresh = allotted.filter(|(voter, _)| voters.node(*voter).is_none());
        fresh.next().map(|(voter, node)| VoterStep::AddLearner(voter, node))
    }

    /// Chooses one more member: in a zone that has the fewest voters, a witness before others.
    fn allot(
        &self,
        now: Instant,
        fleet: &Fleet,
        evidence: &Evidence,
        missing: usize,
    ) -> Option<VoterStep> {
        let voters = fleet.voters();
        if voters.learners.len() >= missing {
            return None;
        }
        let mut in_zone: BTreeMap<Option<&ZoneName>, usize> = BTreeMap::new();
        let zone = |node: &NodeId| fleet.members().get(node).and_then(|it| it.zone.as_ref());
        for node in voters.voters.values().chain(voters.learners.values()) {
            *in_zone.entry(zone(node)).or_default() += 1;
        }
        let taken: BTreeSet<_> = voters.voters.values().chain(voters.learners.values()).collect();
        let free = self.alive(now, fleet, evidence).filter(|node| !taken.contains(node));
        let rank = |node: &NodeId| {
            let witness = fleet.members().get(node).is_some_and(|it| it.role == Role::Witness);
            (in_zone.get(&zone(node)).copied().unwrap_or_default(), !witness, *node)
        };
        free.min_by_key(rank).map(VoterStep::Allot)
    }

    /// Members that could vote: those whose word is fresh.
    fn alive<'a>(
        &'a self,
        now: Instant,
        fleet: &'a Fleet,
        evidence: &'a Evidence,
    ) -> impl Iterator<Item = NodeId> + 'a {
        let members = fleet.members().keys().copied();
        members.filter(move |node| evidence.fresh(now, fleet, *node).is_some())
    }
}
