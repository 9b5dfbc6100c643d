//! The golden forms of all that nodes say to each other but for what voters say, which is in
//! `consensus`, and for commands, which are in `fleet`.

use std::collections::BTreeSet;

use super::*;
use crate::agent::balancer::{Look, Server, Sight, Traffic};
use crate::agent::report::{Condition, ServiceReport};
use crate::artifact::header::SignedHeader;
use crate::codec;
use crate::consensus::Entry;
use crate::gossip::Head;
use crate::id::{ChunkHash, GroupName, Incarnation, LogIndex, NodeId, PermitId, ReleaseId};
use crate::swarm::{Bitmap, ObjectId, Part};
use crate::trust;
use crate::trust::key::SecretKey;

const RELEASE: ReleaseId = ReleaseId([7; 32]);

fn node() -> NodeId {
    NodeId(SecretKey::from_seed([1; 32]).public())
}

fn certificate() -> Certificate {
    trust::founder(&SecretKey::from_seed([2; 32]), [9; 32], node())
}

fn memberships() -> Vec<(&'static str, Message)> {
    let candidate = Candidate {
        certificate: certificate(),
        name: "n1".parse().unwrap(),
        zone: Some("east".parse().unwrap()),
        addresses: vec!["n1.example:7400".parse().unwrap()],
        incarnation: Incarnation(3),
    };
    vec![
        ("proof", Message::Proof(certificate())),
        ("apply", Message::Apply(candidate)),
        ("verdict-ok", Message::Verdict(Ok(()))),
        ("verdict-no", Message::Verdict(Err("no".into()))),
    ]
}

fn gossips() -> Vec<(&'static str, Message)> {
    let head = Head { index: LogIndex(300), term: 2, leader: Some(node()) };
    let header = SignedHeader { bytes: vec![1, 2, 3], signatures: Vec::new() };
    let all = [
        ("gossip-headers", GossipMessage::Headers(vec![header])),
        ("gossip-head", GossipMessage::Head(head)),
        ("gossip-digest", GossipMessage::Digest([5; 32], head)),
        ("gossip-ids", GossipMessage::Ids(vec![RELEASE])),
        ("gossip-pull", GossipMessage::Pull(vec![RELEASE])),
    ];
    all.map(|(name, message)| (name, Message::Gossip(message))).into()
}

fn swarms() -> Vec<(&'static str, Message)> {
    let object = ObjectId { release: RELEASE, part: Part::Content };
    let mut some = Bitmap::empty(20);
    some.insert(9);
    let interest = |have| SwarmMessage::Interest { object, have, origin: true, answer: false };
    let indexes = vec![1, 300];
    let all = [
        ("swarm-interest-none", interest(Bitmap::empty(20))),
        ("swarm-interest-some", interest(some)),
        ("swarm-interest-all", interest(Bitmap::full(20))),
        ("swarm-leave", SwarmMessage::Leave { object }),
        ("swarm-have", SwarmMessage::Have { object, indexes: indexes.clone(), owed: vec![2] }),
        ("swarm-request", SwarmMessage::Request { object, indexes: indexes.clone() }),
        ("swarm-cancel", SwarmMessage::Cancel { object, indexes: indexes.clone() }),
        ("swarm-refuse", SwarmMessage::Refuse { object, indexes }),
        ("swarm-credit", SwarmMessage::Credit { bytes: 1 << 20 }),
    ];
    all.map(|(name, message)| (name, Message::Swarm(message))).into()
}

fn logs() -> Vec<(&'static str, Message)> {
    let (hash, index) = (ChunkHash([6; 32]), LogIndex(300));
    let entries = vec![Entry::Command(vec![1, 2]), Entry::Nothing];
    let bytes = vec![1, 2, 3];
    let all = [
        ("log-pull", LogMessage::Pull { after: index }),
        ("log-entries", LogMessage::Entries { first: index, entries }),
        ("log-snapshot", LogMessage::Snapshot { index, hash, length: 70_000 }),
        ("log-pull-piece", LogMessage::PullPiece { hash, offset: 70_000 }),
        ("log-piece", LogMessage::Piece { hash, offset: 0, bytes }),
    ];
    all.map(|(name, message)| (name, Message::Log(message))).into()
}

fn reports() -> Vec<(&'static str, Message)> {
    let web: GroupName = "web".parse().unwrap();
    let reason = || "no".to_owned();
    let conditions = [
        ("report-available", Condition::Available),
        ("report-absent", Condition::Absent),
        ("report-unready", Condition::Unready { reason: reason() }),
        ("report-moving", Condition::Moving { step: reason() }),
        ("report-dead", Condition::Dead { reason: reason() }),
    ];
    let report = Report {
        question: (2, Question(5)),
        incarnation: Incarnation(3),
        staged: BTreeSet::from([RELEASE]),
        fetching: [(RELEASE, 500)].into(),
        troubles: [(RELEASE, reason())].into(),
        ..Report::default()
    };
    let of = |condition| {
        let service = ServiceReport { release: Some(RELEASE), condition };
        Message::Report(Report { services: [(web.clone(), service)].into(), ..report.clone() })
    };
    conditions.map(|(name, condition)| (name, of(condition))).into()
}

fn balancers() -> Vec<(&'static str, Message)> {
    let web: GroupName = "web".parse().unwrap();
    let server = Server { sends: true, sessions: 3, state: "UP".to_owned() };
    let seen = Sight::Seen([("n1".parse().unwrap(), server)].into());
    let torn = Sight::Unreadable { reason: "no".to_owned() };
    let look = |sight| Look { asked: (2, Question(4)), sight };
    let report = Report {
        balancers: [(web.clone(), look(seen)), ("api".parse().unwrap(), look(torn))].into(),
        ..Report::default()
    };
    let word = |traffic| Word { traffic, asked: (2, Question(5)) };
    let permit = PermitId { granted_at: LogIndex(9), ordinal: 1 };
    let said = |traffic| Message::Balancers(permit, word(traffic));
    vec![
        ("report-balancers", Message::Report(report)),
        ("balancers-unknown", said(Traffic::Unknown)),
        ("balancers-everywhere", said(Traffic::Everywhere)),
        ("balancers-somewhere", said(Traffic::Somewhere)),
        ("balancers-nowhere", said(Traffic::Nowhere { sessions: 3 })),
    ]
}

fn leaders() -> Vec<(&'static str, Message)> {
    vec![
        ("propose", Message::Propose(1, Command::Live { incarnation: Incarnation(3) })),
        ("not-proposed", Message::NotProposed(1, "no".into())),
        ("ask", Message::Ask(2, Question(5))),
    ]
}

#[test]
fn what_nodes_say_keeps_its_form() {
    let all = [memberships(), gossips(), swarms(), logs(), reports(), balancers(), leaders()];
    let all: Vec<_> = all.into_iter().flatten().collect();
    for (name, message) in &all {
        assert_eq!(codec::decode(&codec::encode(message)).as_ref(), Ok(message), "{name}");
    }
    let encoded: Vec<_> =
        all.iter().map(|(name, message)| (*name, codec::encode(message))).collect();
    crate::golden::holds("wire.txt", include_str!("../../golden/wire.txt"), &encoded);
}
