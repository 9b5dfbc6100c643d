//! What a leader decides on what it hears.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::agent::report::{Condition, Report, ServiceReport};
use crate::coordinator::{Coordinator, Input, Output};
use crate::fleet::command::{Command, Order, PolicyChange, Proof};
use crate::fleet::group::Ports;
use crate::fleet::permit::PermitKind;
use crate::fleet::rollout::{Phase, Rollout};
use crate::fleet::tests::{Mesh, node};
use crate::id::{GroupName, Incarnation, NodeId, Question, ReleaseId};
use crate::time::Instant;

const TERM: u64 = 5;

/// A leader and what its members would tell it.
struct Lead {
    mesh: Mesh,
    coordinator: Coordinator,
    now: Instant,
    question: Question,
    services: BTreeMap<NodeId, BTreeMap<GroupName, ServiceReport>>,
    silent: BTreeSet<NodeId>,
}

fn dead() -> Condition {
    Condition::Dead { reason: "exit 1".into() }
}

fn unready() -> Condition {
    Condition::Unready { reason: "status 503".into() }
}

impl Lead {
    /// Of a mesh of `count` nodes that all serve on the old release, the new one under way.
    fn new(count: u8, cap: &str) -> Self {
        let mesh = Mesh::new(count, cap);
        let mut lead = Self {
            coordinator: Coordinator::new(Instant::ZERO, TERM),
            now: Instant::ZERO,
            question: Question::default(),
            services: BTreeMap::new(),
            silent: BTreeSet::new(),
            mesh,
        };
        for number in 1..=count {
            lead.says(number, Condition::Available, lead.old());
        }
        lead.coordinator.handle(lead.now, &lead.mesh.fleet, Input::Changed { roster: true });
        lead
    }

    fn old(&self) -> ReleaseId {
        self.mesh.fleet.groups()[&self.mesh.group].stable.unwrap()
    }

    fn says(&mut self, number: u8, condition: Condition, release: ReleaseId) {
        self.says_in("web", number, condition, release);
    }

    fn says_in(&mut self, group: &str, number: u8, condition: Condition, release: ReleaseId) {
        let report = ServiceReport { release: Some(release), condition };
        let services = self.services.entry(node(number)).or_default();
        services.insert(group.parse().unwrap(), report);
    }

    fn report(&self, node: NodeId) -> Report {
        Report {
            question: (TERM, self.question),
            incarnation: Incarnation(1),
            staged: [self.old(), self.mesh.new].into(),
            services: self.services[&node].clone(),
            ..Report::default()
        }
    }

    fn passes(&mut self, seconds: u64) {
        for _ in 0..seconds * 2 {
            self.now = self.now.after(Duration::from_millis(500));
            self.handle(Input::Timeout);
            for node in self.services.keys().copied().collect::<Vec<_>>() {
                if !self.silent.contains(&node) {
                    self.handle(Input::Report(node, self.report(node)));
                }
            }
        }
    }

    fn handle(&mut self, input: Input) {
        self.coordinator.handle(self.now, &self.mesh.fleet, input);
        while let Some(output) = self.coordinator.poll_output() {
            match output {
                Output::Ask(question) => self.question = question,
                Output::Decide(group, command) => {
                    self.mesh.say(1, command);
                    let fleet = &self.mesh.fleet;
                    self.coordinator.handle(self.now, fleet, Input::Changed { roster: true });
                    self.coordinator.handle(self.now, fleet, Input::Decided(group));
                }
                Output::Propose(_) | Output::Voters(_) | Output::Tell(..) => {}
            }
        }
    }

    fn holders(&self) -> Vec<(NodeId, PermitKind)> {
        let permits = self.mesh.fleet.permits().values();
        permits.map(|permit| (permit.node, permit.kind)).collect()
    }

    /// The holder takes the new release into service.
    fn arrives(&mut self, number: u8) {
        let (release, rollout, incarnation) = (self.mesh.new, self.mesh.rollout, Incarnation(1));
        let permit = self.mesh.permit(number);
        self.mesh.begin(number).unwrap();
        let proof = Proof::Ready { release, rollout };
        self.mesh.ok(number, Command::Close { permit, incarnation, proof });
        self.says(number, Condition::Available, release);
        self.handle(Input::Changed { roster: true });
    }

    fn policy(&mut self, change: PolicyChange) {
        let (group, person) = (self.mesh.group.clone(), String::new());
        self.mesh.ok(1, Command::SetGroup { group, change, person });
        self.handle(Input::Changed { roster: true });
    }

    fn rollout(&self) -> &Rollout {
        self.mesh.fleet.groups()[&self.mesh.group].rollouts.last().unwrap()
    }
}

#[test]
fn everybody_is_asked_half_as_often_while_nothing_is_to_be_decided() {
    let mut lead = Lead::new(3, "1");
    lead.silent = (1..=3).map(node).collect();
    lead.passes(1);
    let questions = |lead: &mut Lead| {
        let before = lead.question;
        lead.passes(10);
        lead.question.0 - before.0
    };
    assert_eq!(questions(&mut lead), 10);
    let (group, rollout, person) = (lead.mesh.group.clone(), lead.mesh.rollout, String::new());
    let order = Order::Abort;
    lead.mesh.ok(1, Command::Steer { group, rollout, stage: 0, order, person });
    assert_eq!(questions(&mut lead), 5);
}

#[test]
fn one_that_serves_badly_is_mended_before_one_that_serves_well_is_touched() {
    let mut lead = Lead::new(8, "1");
    lead.says(6, unready(), lead.old());
    lead.passes(2);
    assert_eq!(lead.holders(), [(node(6), PermitKind::Restart)]);
}

#[test]
fn those_that_serve_badly_use_the_cap_up() {
    let mut lead = Lead::new(8, "1");
    for number in [6, 7] {
        lead.says(number, unready(), lead.old());
    }
    lead.passes(2);
    assert_eq!(lead.holders(), [], "not even one of them: two would be out, and one may");
    lead.passes(12);
    let Phase::Blocked { reason, .. } = &lead.rollout().phase else {
        panic!("{:?}", lead.rollout())
    };
    assert!(reason.contains("n6 is not ready: status 503"), "{reason}");
}

/// Woken as a peer wakes it: it is told how far the voters are, and then the time.
#[test]
fn a_leader_sleeps_between_judgements() {
    let mut lead = Lead::new(8, "1");
    lead.passes(2);
    lead.handle(Input::Report(node(5), lead.report(node(5))));
    let until = lead.now.after(Duration::from_secs(1));
    let mut wakes = 0;
    while let Some(at) = lead.coordinator.poll_timeout().filter(|at| *at < until) {
        lead.now = at.max(lead.now);
        lead.handle(Input::Voters(BTreeMap::new()));
        lead.handle(Input::Timeout);
        wakes += 1;
        assert!(wakes <= 10, "it is awake all the time");
    }
    assert!(wakes > 0);
}

#[test]
fn the_dead_are_mended_whoever_else_is_out() {
    let mut lead = Lead::new(8, "1");
    for number in [5, 6, 7] {
        lead.says(number, dead(), lead.old());
    }
    lead.passes(2);
    assert_eq!(lead.holders(), [(node(5), PermitKind::Repair)]);
}

#[test]
fn answers_to_an_earlier_term_s_questions_prove_nothing() {
    let mut lead = Lead::new(4, "1");
    lead.handle(Input::Timeout);
    for number in 1..=4 {
        let question = (TERM - 1, lead.question);
        let report = Report { question, ..lead.report(node(number)) };
        lead.handle(Input::Report(node(number), report));
    }
    assert_eq!(lead.holders(), []);
}

#[test]
fn a_soak_begins_anew_when_one_that_had_arrived_falls_ill() {
    let mut lead = Lead::new(8, "1");
    let (stages, soak) = (Some(vec![10, 100]), Some(Duration::from_secs(20)));
    lead.policy(PolicyChange { stages, soak, ..PolicyChange::default() });
    lead.passes(2);
    let [(canary, _)] = lead.holders()[..] else { panic!("{:?}", lead.holders()) };
    let number = (1..=8).find(|number| node(*number) == canary).unwrap();
    lead.arrives(number);
    lead.passes(15);
    lead.says(number, unready(), lead.mesh.new);
    lead.passes(15);
    assert_eq!(lead.rollout().stage, 0, "it is ill");
    lead.says(number, Condition::Available, lead.mesh.new);
    lead.passes(15);
    assert_eq!(lead.rollout().stage, 0, "it has been well for 15 s");
    lead.passes(7);
    assert_eq!(lead.rollout().stage, 1);
}

#[test]
fn a_release_that_dies_after_it_arrived_is_turned_back() {
    let mut lead = Lead::new(8, "1");
    let (stages, soak) = (Some(vec![10, 100]), Some(Duration::from_secs(600)));
    lead.policy(PolicyChange { stages, soak, ..PolicyChange::default() });
    lead.passes(6);
    let [(canary, _)] = lead.holders()[..] else { panic!("{:?}", lead.holders()) };
    let number = (1..=8).find(|number| node(*number) == canary).unwrap();
    lead.arrives(number);
    lead.says(number, dead(), lead.mesh.new);
    lead.passes(2);
    assert!(lead.rollout().is_back(), "{:?}", lead.rollout().phase);
    assert_eq!(lead.holders(), [(canary, PermitKind::Repair)]);
}

#[test]
fn a_way_back_that_is_blocked_says_by_whom() {
    let mut lead = Lead::new(8, "1");
    lead.passes(2);
    let [(lost, _)] = lead.holders()[..] else { panic!("{:?}", lead.holders()) };
    let number = (1..=8).find(|number| node(*number) == lost).unwrap();
    lead.mesh.begin(number).unwrap();
    lead.silent.insert(lost);
    let (group, rollout, person) = (lead.mesh.group.clone(), lead.mesh.rollout, String::new());
    let order = Order::Rollback;
    lead.mesh.ok(1, Command::Steer { group, rollout, stage: 0, order, person });
    lead.handle(Input::Changed { roster: true });
    lead.passes(15);
    let Phase::Blocked { reason, back } = &lead.rollout().phase else {
        panic!("{:?}", lead.rollout())
    };
    assert!(reason.contains(&format!("n{number} holds permit")), "{reason}");
    assert!(reason.contains("--fenced --reason"), "a command that can be typed: {reason}");
    assert!(back.is_some(), "it is on its way back still");
}

#[test]
fn a_node_that_is_there_twice_gets_no_permit() {
    let mut lead = Lead::new(4, "1");
    for number in 2..=4 {
        lead.says(number, unready(), lead.mesh.new);
    }
    lead.mesh.ok(1, Command::Live { incarnation: Incarnation(2) });
    lead.handle(Input::Changed { roster: true });
    lead.passes(3); // n1 answers in its older life only
    for number in 2..=4 {
        lead.says(number, Condition::Available, lead.old());
    }
    for _ in 0..5 {
        lead.passes(1);
        let young = Report { incarnation: Incarnation(2), ..lead.report(node(1)) };
        lead.handle(Input::Report(node(1), young));
    }
    assert!(lead.holders().iter().all(|(holder, _)| *holder != node(1)), "{:?}", lead.holders());
    assert!(!lead.holders().is_empty());
}

#[test]
fn what_blocks_a_rollout_is_a_node_that_is_there_twice_also_where_one_of_the_two_serves() {
    let mut lead = Lead::new(4, "1");
    for number in 2..=4 {
        lead.says(number, Condition::Dead { reason: String::new() }, lead.old());
    }
    lead.mesh.ok(1, Command::Live { incarnation: Incarnation(2) });
    lead.handle(Input::Changed { roster: true });
    lead.passes(2);
    for number in 2..=4 {
        lead.says(number, Condition::Available, lead.mesh.new);
        if lead.holders().iter().any(|(holder, _)| *holder == node(number)) {
            lead.arrives(number);
        }
        lead.passes(2);
    }
    for _ in 0..20 {
        lead.passes(1); // in its older life
        let young = Report { incarnation: Incarnation(2), ..lead.report(node(1)) };
        lead.handle(Input::Report(node(1), young));
    }
    let Phase::Blocked { reason, .. } = &lead.rollout().phase else {
        panic!("{:?}", lead.rollout())
    };
    assert!(reason.starts_with("n1 is there twice"), "{reason}");
}

/// Its permit takes a place under the cap, but no other member's turn.
#[test]
fn a_holder_that_is_removed_leaves_the_rest_their_turns() {
    let mut lead = Lead::new(7, "2");
    lead.passes(1);
    let [(other, _), (lost, _)] = lead.holders()[..] else { panic!("{:?}", lead.holders()) };
    let number = |of: NodeId| (1..=7).find(|number| node(*number) == of).unwrap();
    lead.mesh.begin(number(lost)).unwrap();
    lead.silent.insert(lost);
    lead.mesh.ok(1, Command::Remove { node: lost, person: String::new() });
    lead.arrives(number(other));
    for _ in 0..5 {
        lead.passes(2);
        let next = lead.holders().into_iter().find(|(holder, _)| *holder != lost);
        let (next, _) = next.expect("each gets its turn");
        lead.arrives(number(next));
    }
}

#[test]
fn who_is_ill_in_another_group_only_does_not_count_here() {
    let mut lead = Lead::new(4, "1");
    let (db, incarnation): (GroupName, _) = ("db".parse().unwrap(), Incarnation(1));
    for number in [1, 2] {
        let (group, release) = (db.clone(), lead.old());
        lead.mesh.ok(number, Command::JoinGroup { group: db.clone(), ports: Ports::default() });
        lead.mesh.ok(number, Command::Enroll { group, release, rollout: None, incarnation });
    }
    lead.says_in("db", 1, Condition::Available, lead.old());
    lead.says_in("db", 2, unready(), lead.old());
    lead.handle(Input::Changed { roster: true });
    lead.passes(2);
    let [(holder, _)] = lead.holders()[..] else { panic!("{:?}", lead.holders()) };
    assert_ne!(holder, node(1), "db has no room for it");
}

/// Its permit closes by a proof that says nothing of the other group.
#[test]
fn who_holds_a_permit_for_one_group_is_named_among_the_ill_of_another() {
    let mut lead = Lead::new(4, "1");
    let (db, incarnation): (GroupName, _) = ("db".parse().unwrap(), Incarnation(1));
    for number in 1..=3 {
        let (group, release) = (db.clone(), lead.old());
        lead.mesh.ok(number, Command::JoinGroup { group: db.clone(), ports: Ports::default() });
        lead.mesh.ok(number, Command::Enroll { group, release, rollout: None, incarnation });
        lead.says_in("db", number, Condition::Available, lead.old());
    }
    lead.says(1, unready(), lead.old());
    lead.says_in("db", 1, dead(), lead.old());
    lead.handle(Input::Changed { roster: true });
    lead.passes(2);
    assert_eq!(lead.holders(), [(node(1), PermitKind::Restart)], "the ill go first");
    let (fleet, web) = (&lead.mesh.fleet, &lead.mesh.group);
    let room = super::Room::around(lead.now, fleet, lead.coordinator.evidence(), web);
    let named: BTreeMap<_, Vec<_>> =
        room.unavailable_beside(node(2)).map(|(name, nodes)| (name, nodes.collect())).collect();
    assert_eq!(named, [(&db, vec![node(1)]), (web, vec![])].into());
}
