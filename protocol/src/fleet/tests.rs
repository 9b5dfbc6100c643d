//! What the log refuses, whoever proposes it.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::command::{
    Candidate, Command, Decision, Envelope, NewRollout, Order, PolicyChange, Proof, Verdict,
};
use super::event::{Event, Refusal};
use super::group::Ports;
use super::permit::{PermitKind, PermitPhase};
use super::{Applied, Fleet};
use crate::artifact::header::{ChunkRef, Header};
use crate::codec;
use crate::consensus::Entry;
use crate::id::{
    ChunkHash, GroupName, Incarnation, KeyId, MeshId, NodeId, Nonce, PermitId, ReleaseId,
    RolloutId, Sequence,
};
use crate::time::UnixTime;
use crate::trust::certificate::{Certificate, Role};
use crate::trust::key::SecretKey;
use crate::trust::{self, token::JoinToken};

/// A fleet, told commands one after the other.
pub(crate) struct Mesh {
    pub(crate) fleet: Fleet,
    pub(crate) group: GroupName,
    pub(crate) rollout: RolloutId,
    pub(crate) new: ReleaseId,
    /// All that it was told, in the form of the log.
    said: Vec<(String, Vec<u8>)>,
}

fn key(number: u8) -> SecretKey {
    SecretKey::from_seed([number; 32])
}

pub(crate) fn node(number: u8) -> NodeId {
    NodeId(key(number).public())
}

fn candidate(certificate: Certificate, number: u8) -> Candidate {
    Candidate {
        certificate,
        name: format!("n{number}").parse().unwrap(),
        zone: None,
        addresses: Vec::new(),
        incarnation: Incarnation(1),
    }
}

impl Mesh {
    /// A mesh of `count` nodes, all in service on version 1, with a rollout of version 2 under way.
    pub(crate) fn new(count: u8, cap: &str) -> Self {
        let (root, publisher) = (key(200), key(201));
        let group: GroupName = "web".parse().unwrap();
        let mut mesh = Self {
            fleet: Fleet::default(),
            group: group.clone(),
            rollout: RolloutId::default(),
            new: ReleaseId([0; 32]),
            said: Vec::new(),
        };
        let founder = trust::founder(&root, [9; 32], node(1));
        let found = Command::Found {
            mesh: MeshId(root.public()),
            name: "test".parse().unwrap(),
            founder: candidate(founder, 1),
            publisher: KeyId(publisher.public()),
        };
        mesh.ok(1, found);
        (2..=count).for_each(|number| mesh.admit(number));
        let [old, new] = [1, 2].map(|sequence| mesh.register(&publisher, sequence));
        for number in 1..=count {
            mesh.ok(number, Command::JoinGroup { group: group.clone(), ports: Ports::default() });
            let (group, incarnation) = (group.clone(), Incarnation(1));
            mesh.ok(number, Command::Enroll { group, release: old, rollout: None, incarnation });
        }
        let max_unavailable = Some(cap.parse().unwrap());
        let change = PolicyChange { max_unavailable, ..PolicyChange::default() };
        let person = String::new();
        mesh.ok(1, Command::SetGroup { group: group.clone(), change, person });
        mesh.roll_out(old);
        let done = Decision { verdict: Some(Verdict::Done), ..mesh.decision() };
        mesh.ok(1, Command::Decide(done));
        mesh.roll_out(new);
        mesh.new = new;
        mesh
    }

    pub(crate) fn admit(&mut self, number: u8) {
        let (root, name) = (key(200), "test".parse().unwrap());
        let token =
            JoinToken::issue(&root, name, [8; 32], UnixTime(100), 99, Role::Member, Vec::new());
        let certificate = token.certify(node(number), Role::Member).unwrap();
        self.ok(number, Command::Admit(candidate(certificate, number)));
    }

    fn register(&mut self, publisher: &SecretKey, sequence: u64) -> ReleaseId {
        let header = Header {
            service: "web".parse().unwrap(),
            version: format!("v{sequence}").parse().unwrap(),
            sequence: Sequence(sequence),
            expires: None,
            manifest: vec![ChunkRef { hash: ChunkHash([7; 32]), len: 10 }],
            size_bytes: 0,
            files: 0,
        };
        let signed = trust::release::sign(&header, publisher);
        let id = signed.id();
        self.ok(1, Command::Register { header: signed });
        id
    }

    pub(crate) fn roll_out(&mut self, release: ReleaseId) {
        let group = self.group.clone();
        let expected = self.fleet.groups()[&group].generation;
        let person = String::new();
        let new = NewRollout { group, release, expected, back: false, person };
        let applied = self.say(1, Command::CreateRollout(new));
        assert!(applied.outcome.is_ok(), "{applied:?}");
        self.rollout = RolloutId(applied.index);
    }

    pub(crate) fn say(&mut self, number: u8, command: Command) -> Applied {
        let at = UnixTime(50);
        let envelope = Envelope { by: node(number), request: 0, at, command };
        let index = self.fleet.applied().next();
        let bytes = codec::encode(&envelope);
        let words = format!("{:?}", envelope.command);
        let name = words.split(|it: char| !it.is_alphanumeric()).next().unwrap_or_default();
        self.said.push((name.to_owned(), bytes.clone()));
        self.fleet.apply(index, &Entry::Command(bytes))
    }

    pub(crate) fn ok(&mut self, number: u8, command: Command) -> Vec<Event> {
        let applied = self.say(number, command);
        applied.outcome.unwrap_or_else(|refusal| panic!("{refusal}"))
    }

    fn decision(&self) -> Decision {
        Decision {
            rollout: self.rollout,
            expected: self.fleet.groups()[&self.group].generation,
            verdict: None,
            judged_at: self.fleet.applied(),
            unavailable: BTreeMap::new(),
            found_on_target: BTreeSet::new(),
            grants: BTreeMap::new(),
        }
    }

    /// Grants to the nodes of these numbers, while others are said to be unavailable.
    pub(crate) fn grant(&mut self, to: &[u8], kind: PermitKind, out: &[u8]) -> Result<(), Refusal> {
        let grants = to.iter().map(|number| (node(*number), kind)).collect();
        let out = out.iter().map(|number| node(*number)).collect();
        let unavailable = [(self.group.clone(), out)].into();
        let decision = Decision { grants, unavailable, ..self.decision() };
        self.say(1, Command::Decide(decision)).outcome.map(drop)
    }

    pub(crate) fn permit(&self, number: u8) -> PermitId {
        self.fleet.permit_of(node(number)).unwrap().id
    }

    pub(crate) fn begin(&mut self, number: u8) -> Result<Vec<Event>, Refusal> {
        let (permit, incarnation) = (self.permit(number), Incarnation(1));
        self.say(number, Command::Begin { permit, incarnation, nonce: Nonce(5) }).outcome
    }

    fn steer(&mut self, order: Order) -> Result<Vec<Event>, Refusal> {
        let (group, person) = (self.group.clone(), String::new());
        let (rollout, stage) = (self.rollout, 0);
        self.say(1, Command::Steer { group, rollout, stage, order, person }).outcome
    }

    fn close(&mut self, number: u8, by: u8, proof: Proof) -> Result<Vec<Event>, Refusal> {
        let (permit, incarnation) = (self.permit(number), Incarnation(1));
        self.say(by, Command::Close { permit, incarnation, proof }).outcome
    }
}

#[test]
fn a_permit_over_the_cap_is_refused_and_changes_nothing() {
    let mut mesh = Mesh::new(8, "2");
    mesh.grant(&[1, 2], PermitKind::Restart, &[]).unwrap();
    let before = mesh.fleet.permits().clone();
    let refused = mesh.grant(&[3], PermitKind::Restart, &[]).unwrap_err();
    assert_eq!(refused, Refusal::CapUsedUp { group: mesh.group.clone(), limit: 2 });
    assert_eq!(*mesh.fleet.permits(), before);
}

#[test]
fn a_decision_is_taken_as_a_whole_or_not_at_all() {
    let mut mesh = Mesh::new(8, "2");
    assert!(mesh.grant(&[1, 2, 3], PermitKind::Restart, &[]).is_err());
    assert!(mesh.fleet.permits().is_empty());
}

#[test]
fn what_is_down_already_counts_and_mending_it_does_not() {
    let mut mesh = Mesh::new(8, "2");
    mesh.grant(&[1], PermitKind::Restart, &[7]).unwrap();
    assert!(mesh.grant(&[2], PermitKind::Restart, &[7]).is_err());
    mesh.grant(&[7], PermitKind::Repair, &[7]).unwrap();
    assert!(mesh.grant(&[8], PermitKind::Repair, &[7, 8]).is_err(), "D alone is at the cap");
}

/// The leader does not name who was in D, and may be ill.
#[test]
fn grants_that_were_judged_before_a_permit_closed_without_a_proof_are_refused() {
    let mut mesh = Mesh::new(8, "1");
    mesh.grant(&[1], PermitKind::Restart, &[]).unwrap();
    let judged = mesh.decision();
    mesh.close(1, 1, Proof::NeverBegan).unwrap();
    let nobody = [(mesh.group.clone(), BTreeSet::new())].into();
    let grants = [(node(2), PermitKind::Restart)].into();
    let decision = Decision { grants, unavailable: nobody, ..judged };
    let outcome = mesh.say(1, Command::Decide(decision.clone())).outcome;
    assert!(matches!(outcome, Err(Refusal::JudgedTooEarly(_))), "{outcome:?}");
    assert!(mesh.fleet.permits().is_empty());
    mesh.ok(1, Command::Decide(Decision { judged_at: mesh.fleet.applied(), ..decision }));
}

#[test]
fn a_permit_closes_by_its_holder_s_proof_in_the_life_that_began_it_and_not_otherwise() {
    let mut mesh = Mesh::new(4, "1");
    mesh.grant(&[2], PermitKind::Restart, &[]).unwrap();
    let ready = Proof::Ready { release: mesh.new, rollout: mesh.rollout };
    assert!(mesh.close(2, 2, ready.clone()).is_err(), "it has not begun");
    mesh.begin(2).unwrap();
    assert!(mesh.close(2, 3, ready.clone()).is_err(), "another node's");
    assert!(
        mesh.close(2, 2, Proof::Ready { release: ReleaseId([4; 32]), rollout: mesh.rollout })
            .is_err()
    );
    mesh.ok(2, Command::Live { incarnation: Incarnation(2) });
    assert!(mesh.close(2, 2, ready.clone()).is_err(), "an old life's");
    let (permit, incarnation) = (mesh.permit(2), Incarnation(2));
    mesh.ok(2, Command::Begin { permit, incarnation, nonce: Nonce(6) });
    mesh.ok(2, Command::Close { permit, incarnation, proof: ready });
    assert!(mesh.fleet.permits().is_empty());
    assert_eq!(mesh.fleet.groups()[&mesh.group].members[&node(2)].running, Some(mesh.new));
}

/// What is proven of a release says nothing once another was wanted meanwhile: the holder may be on its way.
#[test]
fn a_proof_for_one_rollout_closes_nothing_in_a_later_one_of_the_same_release() {
    let mut mesh = Mesh::new(4, "1");
    let (first, release) = (mesh.rollout, mesh.new);
    mesh.grant(&[2], PermitKind::Restart, &[]).unwrap();
    mesh.begin(2).unwrap();
    let another = mesh.register(&key(201), 3);
    for wanted in [another, release] {
        mesh.steer(Order::Abort).unwrap();
        mesh.roll_out(wanted);
    }
    let rollout = mesh.rollout;
    assert!(mesh.close(2, 2, Proof::Ready { release, rollout: first }).is_err());
    mesh.close(2, 2, Proof::Ready { release, rollout }).unwrap();
}

#[test]
fn who_serves_in_a_later_life_gives_back_what_it_has_not_begun_anew() {
    let mut mesh = Mesh::new(4, "1");
    let old = mesh.fleet.groups()[&mesh.group].stable.unwrap();
    let serves = |begun| Proof::Serves { release: old, begun: Nonce(begun) };
    mesh.grant(&[2], PermitKind::Restart, &[]).unwrap();
    assert!(mesh.close(2, 2, serves(0)).is_err(), "it has not begun");
    mesh.begin(2).unwrap();
    let PermitPhase::Begun { nonce: first, .. } = mesh.fleet.permit_of(node(2)).unwrap().phase
    else {
        panic!("it has begun")
    };
    mesh.ok(2, Command::Live { incarnation: Incarnation(2) });
    let (permit, incarnation) = (mesh.permit(2), Incarnation(2));
    let nonce = Nonce(first.0 + 1);
    mesh.ok(2, Command::Begin { permit, incarnation, nonce });
    let close = |begun| Command::Close { permit, incarnation, proof: serves(begun) };
    assert!(mesh.say(2, close(first.0)).outcome.is_err(), "said before it began anew");
    let again = Command::Begin { permit, incarnation, nonce: first };
    assert!(mesh.say(2, again).outcome.is_err(), "it would be given back by a proof of that time");
    mesh.ok(2, Command::Begin { permit, incarnation, nonce });
    mesh.ok(2, close(nonce.0));
    assert!(mesh.fleet.permits().is_empty());
    assert_eq!(mesh.fleet.groups()[&mesh.group].members[&node(2)].running, Some(old));
}

#[test]
fn a_permit_that_has_begun_is_overridden_only_with_the_word_that_its_node_is_fenced() {
    let mut mesh = Mesh::new(4, "1");
    mesh.grant(&[2], PermitKind::Restart, &[]).unwrap();
    mesh.begin(2).unwrap();
    let permit = mesh.permit(2);
    let over = |phase, fenced| Command::Override {
        permit,
        phase,
        fenced,
        reason: "x".into(),
        person: "y".into(),
    };
    let phase = mesh.fleet.permits()[&permit].phase;
    let granted = mesh.say(1, over(PermitPhase::Granted, true)).outcome;
    assert_eq!(granted, Err(Refusal::MovedOn(permit)), "that was said before it had begun");
    assert_eq!(mesh.say(1, over(phase, false)).outcome, Err(Refusal::NotFenced(permit)));
    mesh.ok(1, over(phase, true));
    assert!(mesh.fleet.permits().is_empty());
    let member = mesh.fleet.groups()[&mesh.group].members[&node(2)];
    assert_eq!(member.running, None, "it may come back with either release");
}

/// Ready on an old release, it may be replacing that already, with its service down and no permit.
#[test]
fn a_new_member_counts_only_on_what_is_to_be_installed_now() {
    let mut mesh = Mesh::new(4, "1");
    let (group, incarnation) = (mesh.group.clone(), Incarnation(1));
    let [old, new] = [mesh.fleet.groups()[&group].stable.unwrap(), mesh.new];
    mesh.admit(5);
    mesh.ok(5, Command::JoinGroup { group: group.clone(), ports: Ports::default() });
    assert!(!mesh.fleet.groups()[&group].counts(node(5)));
    let enroll = |release, rollout| {
        let (group, rollout) = (group.clone(), Some(rollout));
        Command::Enroll { group, release, rollout, incarnation }
    };
    let earlier = mesh.rollout;
    assert!(mesh.say(5, enroll(new, earlier)).outcome.is_err());
    mesh.steer(Order::Abort).unwrap();
    mesh.roll_out(new);
    let late = mesh.say(5, enroll(old, earlier)).outcome;
    assert!(late.is_err(), "it may have been told to install something else since");
    assert!(!mesh.fleet.groups()[&group].counts(node(5)));
    mesh.ok(5, enroll(old, mesh.rollout));
    assert!(mesh.fleet.groups()[&group].counts(node(5)));
}

#[test]
fn a_removed_holder_still_counts() {
    let mut mesh = Mesh::new(9, "1");
    mesh.grant(&[2], PermitKind::Restart, &[]).unwrap();
    mesh.begin(2).unwrap();
    mesh.ok(1, Command::Remove { node: node(2), person: String::new() });
    assert!(mesh.grant(&[3], PermitKind::Restart, &[]).is_err());
}

#[test]
fn a_cap_that_falls_revokes_nothing_and_grants_nothing() {
    let mut mesh = Mesh::new(8, "2");
    mesh.grant(&[1, 2], PermitKind::Restart, &[]).unwrap();
    let max_unavailable = Some("1".parse().unwrap());
    let change = PolicyChange { max_unavailable, ..PolicyChange::default() };
    let group = mesh.group.clone();
    mesh.ok(1, Command::SetGroup { group, change, person: String::new() });
    assert_eq!(mesh.fleet.permits().len(), 2);
    mesh.begin(1).unwrap();
    mesh.close(1, 1, Proof::Ready { release: mesh.new, rollout: mesh.rollout }).unwrap();
    assert!(mesh.grant(&[3], PermitKind::Restart, &[]).is_err());
}

#[test]
fn no_time_of_proof_must_be_allowed_in_so_many_words() {
    let mut mesh = Mesh::new(8, "2");
    let mut set = |min_healthy, allow_unproven| {
        let min_healthy = Some(Duration::from_secs(min_healthy));
        let change = PolicyChange { min_healthy, allow_unproven, ..PolicyChange::default() };
        let (group, person) = (mesh.group.clone(), String::new());
        mesh.say(1, Command::SetGroup { group, change, person }).outcome
    };
    let refused = set(0, None).unwrap_err().to_string();
    assert!(refused.contains("--allow-unproven"), "{refused}");
    assert!(set(1, None).is_ok());
    assert!(set(0, Some(true)).is_ok());
    assert!(set(0, None).is_ok(), "what is allowed stays allowed");
    assert!(set(0, Some(false)).is_err());
}

#[test]
fn turning_back_retargets_the_permits_that_are_out() {
    let mut mesh = Mesh::new(8, "2");
    mesh.grant(&[1, 2], PermitKind::Restart, &[]).unwrap();
    mesh.begin(1).unwrap();
    let (permit, incarnation) = (mesh.permit(1), Incarnation(1));
    let release = mesh.new;
    mesh.ok(1, Command::Fail { permit, incarnation, release, reason: "no".into() });
    let back = Verdict::Rollback { reason: "no".into() };
    let decision = Decision { verdict: Some(back), ..mesh.decision() };
    mesh.ok(1, Command::Decide(decision));
    let targets: BTreeSet<_> = mesh.fleet.permits().values().map(|it| it.release).collect();
    assert_eq!(targets.len(), 1);
    assert!(!targets.contains(&mesh.new));
}

#[test]
fn who_resumes_lets_those_that_failed_try_again() {
    let mut mesh = Mesh::new(4, "1");
    mesh.grant(&[1], PermitKind::Restart, &[]).unwrap();
    mesh.begin(1).unwrap();
    let (permit, incarnation) = (mesh.permit(1), Incarnation(1));
    let release = mesh.new;
    mesh.ok(1, Command::Fail { permit, incarnation, release, reason: "no".into() });
    mesh.steer(Order::Pause).unwrap();
    assert!(mesh.fleet.permits()[&permit].failure.is_some(), "a pause forgets nothing");
    let events = mesh.steer(Order::Resume).unwrap();
    assert!(mesh.fleet.permits()[&permit].failure.is_none());
    assert!(events.contains(&Event::PermitChanged(permit, node(1))), "its holder is told");
}

/// The first to fail has turned the rollout back; the second one's word is of the release that failed.
#[test]
fn a_failure_on_what_a_permit_is_no_longer_for_is_old_news() {
    let mut mesh = Mesh::new(8, "2");
    mesh.grant(&[1, 2], PermitKind::Restart, &[]).unwrap();
    mesh.begin(2).unwrap();
    let (permit, incarnation, release) = (mesh.permit(2), Incarnation(1), mesh.new);
    let back = Verdict::Rollback { reason: "no".into() };
    let decision = Decision { verdict: Some(back), ..mesh.decision() };
    mesh.ok(1, Command::Decide(decision));
    let late = Command::Fail { permit, incarnation, release, reason: "no".into() };
    assert!(mesh.say(2, late).outcome.is_err());
    assert_eq!(mesh.fleet.permits()[&permit].failure, None);
}

#[test]
fn what_an_aborted_rollout_left_under_way_ends_in_the_next_one() {
    let mut mesh = Mesh::new(8, "1");
    mesh.grant(&[1], PermitKind::Restart, &[]).unwrap();
    mesh.begin(1).unwrap();
    let (permit, incarnation, release) = (mesh.permit(1), Incarnation(1), mesh.new);
    mesh.ok(1, Command::Fail { permit, incarnation, release, reason: "no".into() });
    mesh.steer(Order::Abort).unwrap();
    let next = mesh.register(&key(201), 3);
    mesh.roll_out(next);
    let left = &mesh.fleet.permits()[&permit];
    assert_eq!((left.rollout, left.release, &left.failure), (mesh.rollout, next, &None));
    assert!(left.has_begun(), "its holder goes on from where it is");
}

#[test]
fn an_order_said_twice_steers_no_other_rollout_and_promotes_no_other_stage() {
    let mut mesh = Mesh::new(4, "1");
    let old = mesh.rollout;
    mesh.steer(Order::Abort).unwrap();
    mesh.roll_out(mesh.new);
    let late = |order| Command::Steer {
        group: "web".parse().unwrap(),
        rollout: old,
        stage: 0,
        order,
        person: String::new(),
    };
    let refused = mesh.say(1, late(Order::Abort)).outcome.unwrap_err();
    assert_eq!(refused, Refusal::Conflict(mesh.rollout));
    let stages = Some(vec![25, 50, 100]);
    let change = PolicyChange { stages, ..PolicyChange::default() };
    let group = mesh.group.clone();
    mesh.ok(1, Command::SetGroup { group, change, person: String::new() });
    let advance = Decision { verdict: Some(Verdict::Advance), ..mesh.decision() };
    mesh.ok(1, Command::Decide(advance));
    mesh.steer(Order::Promote).unwrap();
    let promoted = |mesh: &Mesh| mesh.fleet.groups()[&mesh.group].active().unwrap().promoted;
    assert!(!promoted(&mesh), "that was for the stage before");
}

/// A node in two groups has one permit for both; to count in the second, it must not hold the first's.
#[test]
fn a_holder_comes_to_count_in_no_other_group() {
    let mut mesh = Mesh::new(4, "1");
    let db: GroupName = "db".parse().unwrap();
    let incarnation = Incarnation(1);
    let old = mesh.fleet.groups()[&mesh.group].stable.unwrap();
    let enroll = Command::Enroll { group: db.clone(), release: old, rollout: None, incarnation };
    mesh.ok(1, Command::JoinGroup { group: db.clone(), ports: Ports::default() });
    mesh.grant(&[1], PermitKind::Restart, &[]).unwrap();
    assert!(mesh.say(1, enroll.clone()).outcome.is_err());
    mesh.begin(1).unwrap();
    mesh.close(1, 1, Proof::Ready { release: mesh.new, rollout: mesh.rollout }).unwrap();
    mesh.ok(1, enroll);
}

#[test]
fn a_removed_holder_counts_in_every_group_that_it_was_in() {
    let mut mesh = Mesh::new(4, "1");
    let db: GroupName = "db".parse().unwrap();
    let old = mesh.fleet.groups()[&mesh.group].stable.unwrap();
    for number in [1, 2, 3] {
        let (group, incarnation) = (db.clone(), Incarnation(1));
        mesh.ok(number, Command::JoinGroup { group: db.clone(), ports: Ports::default() });
        mesh.ok(number, Command::Enroll { group, release: old, rollout: None, incarnation });
    }
    mesh.grant(&[1], PermitKind::Restart, &[]).unwrap_err(); // of db nothing was said
    let nobody = [(mesh.group.clone(), BTreeSet::new()), (db.clone(), BTreeSet::new())].into();
    let grants = [(node(1), PermitKind::Restart)].into();
    let decision = Decision { grants, unavailable: nobody, ..mesh.decision() };
    mesh.ok(1, Command::Decide(decision));
    mesh.ok(2, Command::Remove { node: node(1), person: String::new() });
    assert_eq!(mesh.fleet.disrupted(&db, &mesh.fleet.groups()[&db]), [node(1)].into());
}

#[test]
fn a_text_without_end_is_refused() {
    let mut mesh = Mesh::new(4, "1");
    let (group, person) = (mesh.group.clone(), "x".repeat(100_000));
    let change = PolicyChange::default();
    let said = mesh.say(1, Command::SetGroup { group, change, person });
    assert!(matches!(said.outcome, Err(Refusal::Limit(_))), "{said:?}");
}

#[test]
fn a_second_rollout_and_one_on_a_stale_look_are_refused() {
    let mut mesh = Mesh::new(4, "1");
    let group = mesh.group.clone();
    let expected = mesh.fleet.groups()[&group].generation;
    let release = mesh.new;
    let new = NewRollout { group, release, expected, back: false, person: String::new() };
    let refused = mesh.say(2, Command::CreateRollout(new)).outcome.unwrap_err();
    assert_eq!(refused, Refusal::Conflict(mesh.rollout));
}

#[test]
fn two_that_take_the_same_log_are_the_same() {
    let (one, two) = (Mesh::new(5, "1"), Mesh::new(5, "1"));
    assert_eq!(codec::encode(&one.fleet), codec::encode(&two.fleet));
}

#[test]
fn who_reads_a_balancer_is_known_until_it_stops_or_is_removed() {
    let mut mesh = Mesh::new(3, "1");
    let incarnation = Incarnation(1);
    let watch =
        |group: &str, on| Command::WatchBalancer { group: group.parse().unwrap(), on, incarnation };
    let watchers = |mesh: &Mesh| mesh.fleet.groups()[&mesh.group].watchers.clone();
    let stale = mesh.decision();
    mesh.ok(2, watch("web", true));
    mesh.ok(3, watch("web", true));
    assert_eq!(watchers(&mesh), [node(2), node(3)].into());
    let outcome = mesh.say(1, Command::Decide(stale)).outcome;
    assert!(matches!(outcome, Err(Refusal::Stale(_))), "judged without a watcher: {outcome:?}");
    assert!(matches!(mesh.say(2, watch("typo", true)).outcome, Err(Refusal::Unknown(_))));
    mesh.ok(2, Command::Live { incarnation: Incarnation(2) });
    let late = mesh.say(2, watch("web", false)).outcome;
    assert_eq!(late, Err(Refusal::Incarnation), "an earlier life's");
    let (group, incarnation) = (mesh.group.clone(), Incarnation(2));
    mesh.ok(2, Command::WatchBalancer { group, on: false, incarnation });
    mesh.ok(1, Command::Remove { node: node(3), person: String::new() });
    assert_eq!(watchers(&mesh), BTreeSet::new());
}

#[test]
fn a_member_that_joins_again_only_says_where_it_is_reached() {
    let mut mesh = Mesh::new(2, "1");
    let before = mesh.fleet.groups()[&mesh.group].clone();
    let ports = Ports { service: Some(80), agent_check: Some(7401) };
    mesh.ok(2, Command::JoinGroup { group: mesh.group.clone(), ports });
    let after = &mesh.fleet.groups()[&mesh.group];
    assert_eq!(after.members[&node(2)].ports, ports);
    assert_eq!((after.generation, after.counts(node(2))), (before.generation, true));
}

/// Every command, and the state that they lead to: what stands in logs, snapshots and on disks.
#[test]
fn commands_and_the_state_keep_their_form() {
    let mut mesh = Mesh::new(5, "1");
    let (group, person) = (mesh.group.clone(), "ann".to_owned());
    let addresses = vec!["n1.example:7400".parse().unwrap()];
    mesh.ok(1, Command::Describe { addresses });
    mesh.ok(1, Command::AllotVoter { node: node(1) });
    mesh.ok(5, Command::Live { incarnation: Incarnation(2) });
    let incarnation = Incarnation(2);
    mesh.ok(5, Command::WatchBalancer { group: group.clone(), on: true, incarnation });
    let incarnation = Incarnation(1);
    mesh.grant(&[2], PermitKind::Restart, &[]).unwrap();
    mesh.begin(2).unwrap();
    let (permit, release) = (mesh.permit(2), mesh.new);
    mesh.ok(2, Command::Fail { permit, incarnation, release, reason: "no".into() });
    for order in [Order::Pause, Order::Resume, Order::Promote, Order::Rollback] {
        mesh.steer(order).unwrap();
    }
    mesh.begin(2).unwrap();
    let (release, rollout) = (mesh.fleet.permits()[&permit].release, mesh.rollout);
    mesh.ok(2, Command::Close { permit, incarnation, proof: Proof::Ready { release, rollout } });
    mesh.steer(Order::Abort).unwrap();
    mesh.roll_out(mesh.new);
    mesh.grant(&[3], PermitKind::Repair, &[]).unwrap();
    let permit = mesh.permit(3);
    mesh.ok(3, Command::Close { permit, incarnation, proof: Proof::NeverBegan });
    mesh.grant(&[3], PermitKind::Restart, &[]).unwrap();
    mesh.begin(3).unwrap();
    let permit = mesh.permit(3);
    let PermitPhase::Begun { nonce: begun, .. } = mesh.fleet.permits()[&permit].phase else {
        panic!("it has begun")
    };
    mesh.ok(3, Command::Close { permit, incarnation, proof: Proof::Serves { release, begun } });
    mesh.grant(&[3], PermitKind::Restart, &[]).unwrap();
    let permit = mesh.permit(3);
    let (fenced, reason) = (true, "gone".to_owned());
    let phase = mesh.fleet.permits()[&permit].phase;
    mesh.ok(1, Command::Override { permit, phase, fenced, reason, person: person.clone() });
    let (node, on) = (node(4), true);
    mesh.ok(1, Command::Quarantine { group, node, on, person: person.clone() });
    for verdict in [
        Verdict::Advance,
        Verdict::Block { reason: "no".into() },
        Verdict::Unblock,
        Verdict::Pause { reason: "no".into() },
        Verdict::Rollback { reason: "no".into() },
    ] {
        let decision = Decision { verdict: Some(verdict), ..mesh.decision() };
        mesh.ok(1, Command::Decide(decision));
    }
    mesh.ok(1, Command::Remove { node, person });
    let mut values: Vec<_> =
        mesh.said.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    values.push(("state", codec::encode(&mesh.fleet)));
    crate::golden::holds("commands.txt", include_str!("../../golden/commands.txt"), &values);
}
