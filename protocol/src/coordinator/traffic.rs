//! What the leader knows of the balancers in front of a group, by the nodes that watch them.
//!
//! Where somebody watches, silence is no consent: what is not freshly seen to be sent to is not
//! available, and its permit does not close. A group that nobody watches is judged without.

use crate::agent::balancer::{Sight, Tally, Traffic, Word};
use crate::agent::report::Condition;
use crate::coordinator::evidence::Evidence;
use crate::fleet::Fleet;
use crate::fleet::group::Group;
use crate::id::{GroupName, NodeId};
use crate::mutant::{self, Mutant};
use crate::time::Instant;

impl Evidence {
    /// What the balancers of `group` are freshly seen to do for `node`; `None` where nobody watches
    /// them, or the node is none.
    pub fn traffic(
        &self,
        now: Instant,
        fleet: &Fleet,
        name: &GroupName,
        node: NodeId,
    ) -> Option<Word> {
        let watchers = fleet.groups().get(name).map(|group| &group.watchers)?;
        if watchers.is_empty() {
            return None;
        }
        let called = &fleet.members().get(&node)?.name;
        let (mut tally, mut asked) = (Tally::default(), None);
        for watcher in watchers {
            let look = self.fresh(now, fleet, *watcher).and_then(|it| it.balancers.get(name));
            tally.add(look.map(|look| &look.sight), called);
            let answered = look.map(|look| look.asked).unwrap_or_default();
            asked = Some(asked.map_or(answered, |asked: (u64, _)| asked.min(answered)));
        }
        Some(Word { traffic: tally.traffic(), asked: asked? })
    }

    /// Whether `node` is sent to, where somebody watches.
    pub fn is_sent_to(&self, now: Instant, fleet: &Fleet, name: &GroupName, node: NodeId) -> bool {
        let word = self.traffic(now, fleet, name, node);
        word.is_none_or(|word| word.traffic == Traffic::Everywhere)
            || mutant::active(Mutant::UnseenByBalancer)
    }

    /// Whether the service is proven to serve nobody, so that mending it takes nothing away: it is dead,
    /// or not ready while each balancer is seen to send it nothing.
    pub fn serves_nobody(
        &self,
        now: Instant,
        fleet: &Fleet,
        name: &GroupName,
        node: NodeId,
    ) -> bool {
        let word = self.traffic(now, fleet, name, node);
        let cut_off = word.is_some_and(|word| matches!(word.traffic, Traffic::Nowhere { .. }));
        match self.service(now, fleet, name, node).map(|service| &service.condition) {
            Some(Condition::Dead { .. }) => true,
            Some(Condition::Unready { .. }) => cut_off,
            _ => false,
        }
    }

    /// The first thing that keeps the balancers of `group` from being known, for people.
    pub fn blindness(
        &self,
        now: Instant,
        fleet: &Fleet,
        name: &GroupName,
        group: &Group,
    ) -> Option<String> {
        let watchers = group.watchers.iter();
        watchers.filter_map(|node| Some((*node, fleet.members().get(node)?))).find_map(
            |(node, member)| {
                let called = &member.name;
                let Some(report) = self.fresh(now, fleet, node) else {
                    return Some(format!(
                        "{called}, which watches the balancer of {name}, is silent: bring it back, or \
                         take it out for good: baton nodes remove {called}"
                    ));
                };
                let why = match report.balancers.get(name).map(|look| &look.sight) {
                    Some(Sight::Seen(_)) => return None,
                    Some(Sight::Unreadable { reason }) => reason,
                    None => "not looked at yet",
                };
                Some(format!("{called} cannot read its balancer for {name}: {why}"))
            },
        )
    }

    /// What a balancer says of `node`, to which it sends nothing, for people.
    pub fn refusal(
        &self,
        now: Instant,
        fleet: &Fleet,
        name: &GroupName,
        node: NodeId,
    ) -> Option<String> {
        let called = &fleet.members().get(&node)?.name;
        fleet.groups().get(name)?.watchers.iter().find_map(|watcher| {
            let look = self.fresh(now, fleet, *watcher)?.balancers.get(name)?;
            let Sight::Seen(servers) = &look.sight else { return None };
            let lb = &fleet.members().get(watcher)?.name;
            match servers.get(called) {
                Some(server) if server.sends => None,
                Some(server) => Some(format!("{lb}'s balancer has {called} in {}", server.state)),
                None => Some(format!(
                    "{lb}'s balancer has no server {called}: baton lb haproxy -g {name}"
                )),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::collections::BTreeSet;

    use super::*;
    use crate::agent::balancer::{Look, Server};
    use crate::agent::report::{Report, ServiceReport};
    use crate::fleet::command::Command;
    use crate::fleet::tests::{Mesh, node};
    use crate::id::Incarnation;

    /// Three nodes of a group; the third reads the balancer.
    struct Table {
        mesh: Mesh,
        evidence: Evidence,
        now: Instant,
    }

    impl Table {
        fn new() -> Self {
            let mut mesh = Mesh::new(3, "1");
            let (group, incarnation) = (mesh.group.clone(), Incarnation(1));
            mesh.ok(3, Command::WatchBalancer { group, on: true, incarnation });
            Self { mesh, evidence: Evidence::new(1), now: Instant::ZERO }
        }

        fn hear(&mut self, number: u8, condition: Condition, sight: Option<Sight>) {
            let question = (1, self.evidence.ask(self.now));
            let name = self.mesh.group.clone();
            let look = sight.map(|sight| (name.clone(), Look { asked: question, sight }));
            let report = Report {
                question,
                incarnation: Incarnation(1),
                services: [(name, ServiceReport { release: None, condition })].into(),
                balancers: look.into_iter().collect(),
                ..Report::default()
            };
            self.evidence.take(self.now, node(number), report);
        }

        fn all_are_available(&mut self, sight: Sight) {
            self.hear(1, Condition::Available, None);
            self.hear(2, Condition::Available, None);
            self.hear(3, Condition::Available, Some(sight));
        }

        fn out(&self) -> BTreeSet<NodeId> {
            let (name, fleet) = (&self.mesh.group, &self.mesh.fleet);
            self.evidence.unavailable(self.now, fleet, name, &fleet.groups()[name])
        }

        fn serves_nobody(&self, number: u8) -> bool {
            let name = &self.mesh.group;
            self.evidence.serves_nobody(self.now, &self.mesh.fleet, name, node(number))
        }

        fn refusal(&self, number: u8) -> Option<String> {
            let name = &self.mesh.group;
            self.evidence.refusal(self.now, &self.mesh.fleet, name, node(number))
        }

        fn blindness(&self) -> Option<String> {
            let (name, fleet) = (&self.mesh.group, &self.mesh.fleet);
            self.evidence.blindness(self.now, fleet, name, &fleet.groups()[name])
        }
    }

    fn seen(states: &[(&str, &str)]) -> Sight {
        let server =
            |state: &str| Server { sends: state == "UP", sessions: 0, state: state.to_owned() };
        let named = states.iter().map(|(name, state)| (name.parse().unwrap(), server(state)));
        Sight::Seen(named.collect())
    }

    #[test]
    fn who_is_sent_nothing_is_unavailable_whatever_its_own_probe_says() {
        let mut table = Table::new();
        table.all_are_available(seen(&[("n1", "UP"), ("n2", "UP"), ("n3", "UP")]));
        assert_eq!((table.out(), table.blindness()), (BTreeSet::new(), None));
        table.all_are_available(seen(&[("n1", "UP"), ("n2", "MAINT")]));
        assert_eq!(table.out(), [node(2), node(3)].into());
        assert_eq!(table.refusal(1), None);
        assert_eq!(table.refusal(2).unwrap(), "n3's balancer has n2 in MAINT");
        assert!(table.refusal(3).unwrap().contains("no server n3: baton lb haproxy -g web"));
    }

    #[test]
    fn a_watcher_that_sees_nothing_or_is_silent_leaves_nobody_available_and_is_named() {
        let mut table = Table::new();
        table.all_are_available(Sight::Unreadable { reason: "refused".to_owned() });
        assert_eq!(table.out().len(), 3);
        let blind = "n3 cannot read its balancer for web: refused";
        assert_eq!(table.blindness().as_deref(), Some(blind));
        table.all_are_available(seen(&[("n1", "UP"), ("n2", "UP"), ("n3", "UP")]));
        table.now = table.now.after(Duration::from_secs(4));
        table.hear(1, Condition::Available, None);
        assert_eq!(table.out().len(), 3);
        assert!(
            table
                .blindness()
                .unwrap()
                .starts_with("n3, which watches the balancer of web, is silent")
        );
    }

    #[test]
    fn what_is_not_ready_and_sent_nothing_serves_nobody() {
        let unready = || Condition::Unready { reason: "503".to_owned() };
        let dead = || Condition::Dead { reason: "gone".to_owned() };
        for (condition, state, expected) in [
            (unready(), "DOWN", true),
            (unready(), "UP", false),
            (Condition::Settling, "MAINT", false),
            (Condition::Unseen, "DOWN", false),
            (Condition::Available, "MAINT", false),
            (dead(), "UP", true),
        ] {
            let mut table = Table::new();
            table.all_are_available(seen(&[("n1", state)]));
            table.hear(1, condition.clone(), None);
            assert_eq!(table.serves_nobody(1), expected, "{condition:?} {state}");
        }
    }
}
