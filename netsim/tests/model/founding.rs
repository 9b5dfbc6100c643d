//! The mesh that the model begins with, on the real [`Fleet`].

use std::collections::{BTreeMap, BTreeSet};

use baton_protocol::artifact::header::{ChunkRef, Header};
use baton_protocol::codec;
use baton_protocol::consensus::Entry;
use baton_protocol::fleet::Fleet;
use baton_protocol::fleet::command::{
    Candidate, Command, Decision, Envelope, NewRollout, PolicyChange, Verdict,
};
use baton_protocol::fleet::group::Ports;
use baton_protocol::id::{
    ChunkHash, GroupName, Incarnation, KeyId, MeshId, NodeId, ReleaseId, RolloutId, Sequence,
};
use baton_protocol::time::UnixTime;
use baton_protocol::trust::certificate::{Certificate, Role};
use baton_protocol::trust::key::SecretKey;
use baton_protocol::trust::{self, token::JoinToken};

use crate::state::HOLDERS;

/// Names that commands need.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) group: GroupName,
    pub(crate) rollout: RolloutId,
    pub(crate) release: ReleaseId,
}

pub(crate) fn key(number: u8) -> SecretKey {
    SecretKey::from_seed([number; 32])
}

pub(crate) fn node(holder: usize) -> NodeId {
    NodeId(key(u8::try_from(holder).unwrap() + 1).public())
}

pub(crate) fn say(fleet: &mut Fleet, by: usize, command: Command) -> bool {
    let envelope = Envelope { by: node(by), request: 0, at: UnixTime(50), command };
    let entry = Entry::Command(codec::encode(&envelope));
    fleet.apply(fleet.applied().next(), &entry).outcome.is_ok()
}

pub(crate) fn candidate(certificate: Certificate, holder: usize) -> Candidate {
    let name = format!("n{holder}").parse().unwrap();
    let incarnation = Incarnation(1);
    Candidate { certificate, name, zone: None, addresses: Vec::new(), incarnation }
}

/// A mesh of all holders, in service on an old release, with a rollout of a new one under way.
pub(crate) fn founded() -> (Fleet, Setting) {
    let (root, publisher, mut fleet) = (key(200), key(201), Fleet::default());
    let group: GroupName = "web".parse().unwrap();
    let mut ok = |by, command| assert!(say(&mut fleet, by, command));
    ok(
        0,
        Command::Found {
            mesh: MeshId(root.public()),
            name: "model".parse().unwrap(),
            founder: candidate(trust::founder(&root, [9; 32], node(0)), 0),
            publisher: KeyId(publisher.public()),
        },
    );
    let (name, never) = ("model".parse().unwrap(), UnixTime(100));
    let token = JoinToken::issue(&root, name, [8; 32], never, 9, Role::Member, Vec::new());
    for holder in 1..HOLDERS {
        let certificate = token.certify(node(holder), Role::Member).unwrap();
        ok(holder, Command::Admit(candidate(certificate, holder)));
    }
    let releases = [1, 2].map(|sequence| {
        let header = Header {
            service: "web".parse().unwrap(),
            version: format!("v{sequence}").parse().unwrap(),
            sequence: Sequence(sequence),
            expires: None,
            manifest: vec![ChunkRef { hash: ChunkHash([7; 32]), len: 10 }],
            size_bytes: 0,
            files: 0,
        };
        trust::release::sign(&header, &publisher)
    });
    let [old, release] = [0, 1].map(|at: usize| releases[at].id());
    releases.into_iter().for_each(|header| ok(0, Command::Register { header }));
    for holder in 0..HOLDERS {
        ok(holder, Command::JoinGroup { group: group.clone(), ports: Ports::default() });
        let (group, incarnation) = (group.clone(), Incarnation(1));
        ok(holder, Command::Enroll { group, release: old, rollout: None, incarnation });
    }
    let change =
        PolicyChange { max_unavailable: Some("1".parse().unwrap()), ..PolicyChange::default() };
    ok(0, Command::SetGroup { group: group.clone(), change, person: String::new() });
    let mut setting = Setting { group, rollout: RolloutId::default(), release: old };
    roll_out(&mut fleet, &mut setting);
    let done = Decision { verdict: Some(Verdict::Done), ..setting.decision(&fleet) };
    assert!(say(&mut fleet, 0, Command::Decide(done)));
    setting.release = release;
    roll_out(&mut fleet, &mut setting);
    (fleet, setting)
}

pub(crate) fn roll_out(fleet: &mut Fleet, setting: &mut Setting) {
    let (group, release) = (setting.group.clone(), setting.release);
    let expected = fleet.groups()[&group].generation;
    let new = NewRollout { group, release, expected, back: false, person: String::new() };
    assert!(say(fleet, 0, Command::CreateRollout(new)));
    setting.rollout = RolloutId(fleet.applied());
}

impl Setting {
    pub(crate) fn decision(&self, fleet: &Fleet) -> Decision {
        Decision {
            rollout: self.rollout,
            expected: fleet.groups()[&self.group].generation,
            verdict: None,
            judged_at: fleet.applied(),
            unavailable: [(self.group.clone(), BTreeSet::new())].into(),
            found_on_target: BTreeSet::new(),
            grants: BTreeMap::new(),
        }
    }
}
