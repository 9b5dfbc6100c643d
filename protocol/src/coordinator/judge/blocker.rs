//! What a rollout in which nothing moves waits for, in words that say what mends it.

use std::collections::BTreeSet;

use super::{Bench, Room};
use crate::fleet::permit::Permit;
use crate::id::{NodeId, ReleaseId};
use crate::text;

/// Members that a reason names before it only counts.
const NAMED_MAX: usize = 3;

/// Bytes of what is said of each.
const COMPLAINT_BYTES_MAX: usize = 400;

impl<'a> Bench<'a> {
    /// Why none of those that are `behind` gets a permit for `target`.
    pub(super) fn blocker(self, behind: &BTreeSet<NodeId>, target: ReleaseId) -> String {
        if let Err(error) = self.fleet.limit(self.group) {
            return error.to_string();
        }
        self.lost_holder()
            .or_else(|| self.evidence.blindness(self.now, self.fleet, self.name, self.group))
            .or_else(|| self.out_of_service())
            .or_else(|| self.elsewhere(behind))
            .unwrap_or_else(|| self.not_staged(behind, target))
    }

    /// Permits that take a place under this group's cap, of whichever rollout.
    fn places(self) -> impl Iterator<Item = &'a Permit> {
        let disrupted = self.fleet.disrupted(self.name, self.group);
        self.fleet.permits().values().filter(move |permit| disrupted.contains(&permit.node))
    }

    fn lost_holder(self) -> Option<String> {
        let removed = |node: NodeId| self.fleet.removed().contains_key(&node);
        let lost = |it: &&Permit| removed(it.node) || self.is_silent(it.node);
        let permit = self.places().find(lost)?;
        let how = if removed(permit.node) { "was removed" } else { "is silent" };
        Some(format!(
            "{} holds permit {} and {how}: bring it back, or if it is powered off or out of the \
             balancer: baton rollout override {} --fenced --reason WHY",
            self.called(permit.node),
            permit.id,
            permit.id
        ))
    }

    fn out_of_service(self) -> Option<String> {
        let unavailable = self.evidence.unavailable(self.now, self.fleet, self.name, self.group);
        let newcomers = self.newcomers().filter(|node| self.evidence.last_report(*node).is_some());
        let doubles = self.group.counted().filter(|node| self.evidence.is_double(self.now, *node));
        let ill: BTreeSet<_> = unavailable.into_iter().chain(newcomers).chain(doubles).collect();
        let mut named: Vec<_> = ill.iter().map(|node| self.complaint(*node)).collect();
        // A holder that is in no count any more still takes its place.
        let uncounted = self.places().filter(|permit| !self.group.counts(permit.node));
        named.extend(
            uncounted
                .map(|permit| format!("{} holds permit {}", self.called(permit.node), permit.id)),
        );
        let out = cut(named)?;
        let name = self.name;
        Some(format!(
            "{out}; mend it, or take it out of the count: baton nodes quarantine NODE -g {name}"
        ))
    }

    /// Another group of a member has no room for it.
    fn elsewhere(self, behind: &BTreeSet<NodeId>) -> Option<String> {
        let room = Room::around(self.now, self.fleet, self.evidence, self.name);
        let full = |node: NodeId| {
            let names: Vec<_> = room.full(node).map(ToString::to_string).collect();
            let of = names.join(", ");
            (!names.is_empty())
                .then(|| format!("{} is in {of} too, whose cap is used up", self.called(node)))
        };
        cut(behind.iter().filter_map(|node| full(*node)).collect())
    }

    fn not_staged(self, behind: &BTreeSet<NodeId>, target: ReleaseId) -> String {
        let lacks = |node: &NodeId| {
            let report = self.evidence.fresh(self.now, self.fleet, *node)?;
            if report.staged.contains(&target) {
                return None;
            }
            let trouble = report.troubles.get(&target).map(|trouble| format!(" ({trouble})"));
            Some(format!("{}{}", self.called(*node), trouble.unwrap_or_default()))
        };
        let lacking = cut(behind.iter().filter_map(lacks).collect());
        lacking.map_or_else(
            || "waiting for word of the members".to_owned(),
            |nodes| format!("the release is not whole yet on {nodes}"),
        )
    }

    fn complaint(self, node: NodeId) -> String {
        let complaint = self.evidence.complaint(self.now, self.fleet, self.name, node);
        let refusal = self.evidence.refusal(self.now, self.fleet, self.name, node);
        let refusal = refusal.map(|refusal| format!(", and {refusal}")).unwrap_or_default();
        let complaint = text::cut(&complaint, COMPLAINT_BYTES_MAX);
        format!("{} is {complaint}{refusal}", self.called(node))
    }
}

/// The first few of `named`, and how many more there are; `None` where there is none.
fn cut(mut named: Vec<String>) -> Option<String> {
    let more = named.len().saturating_sub(NAMED_MAX);
    named.truncate(NAMED_MAX);
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    (!named.is_empty()).then(|| named.join("; "))
}
