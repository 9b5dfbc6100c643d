//! The golden forms of what voters say, and of what they keep.

use crate::codec;
use crate::consensus::entry::{Body as EntryBody, LogEntry};
use crate::consensus::membership::{Change, Membership};
use crate::consensus::message::{Body, Position, SnapshotMeta, VoterMessage};
use crate::consensus::stored::{Identity, write_entry, write_hard_state, write_snapshot};
use crate::id::{ChunkHash, LogIndex, NodeId, VoterId};
use crate::trust::key::SecretKey;
use crate::wire::Message;

fn node() -> NodeId {
    NodeId(SecretKey::from_seed([1; 32]).public())
}

fn members() -> Membership {
    Membership {
        voters: [(VoterId(1), node())].into(),
        learners: [(VoterId(9), node())].into(),
        ..Membership::default()
    }
}

fn entries() -> Vec<LogEntry> {
    let change = Change::AddLearner { voter: VoterId(9), node: node() };
    let bodies = [EntryBody::Nothing, EntryBody::Command(vec![1, 2]), EntryBody::Change(change)];
    let entry = |(index, body)| LogEntry { term: 2, index: LogIndex(index), body };
    (300..).zip(bodies).map(entry).collect()
}

fn meta() -> SnapshotMeta {
    let (index, hash) = (LogIndex(300), ChunkHash([6; 32]));
    SnapshotMeta { index, term: 2, members: members(), hash, length: 70_000 }
}

#[test]
fn what_voters_say_and_keep_keeps_its_form() {
    let at = |index| Position { index, term: 2 };
    let (last, commit) = (at(300), at(299));
    let (trial, transfer, granted) = (true, false, true);
    let bodies = [
        ("append", Body::Append { previous: at(299), commit: 298, entries: entries() }),
        ("appended", Body::Appended { index: 300, commit: 299 }),
        ("append-rejected", Body::AppendRejected { index: 300, hint: at(7), commit: 299 }),
        ("request-vote", Body::RequestVote { trial, transfer, last, commit }),
        ("vote", Body::Vote { trial, granted, commit }),
        ("heartbeat", Body::Heartbeat { commit: 299 }),
        ("heartbeat-reply", Body::HeartbeatReply { commit: 299 }),
        ("snapshot", Body::Snapshot(meta())),
        ("snapshot-lost", Body::SnapshotLost),
        ("timeout-now", Body::TimeoutNow),
    ];
    let mut values = Vec::new();
    for (name, body) in bodies {
        let (from, to) = (VoterId(1), VoterId(9));
        let message =
            Message::Voter(VoterMessage { from, to, session: 4, number: 5, term: 3, body });
        let bytes = codec::encode(&message);
        assert_eq!(codec::decode(&bytes), Ok(message), "{name}");
        values.push((name, bytes));
    }
    let identity = Identity { voter: VoterId(9), node: node(), life: 3 };
    let state = crate::consensus::raft_types::RaftHardState {
        term: 3,
        vote: 9,
        commit: 299,
        ..Default::default()
    };
    let mut kept = vec![
        ("disk-identity", identity.write()),
        ("disk-hard-state", write_hard_state(&state)),
        ("disk-snapshot", write_snapshot(&meta(), &[1, 2, 3])),
    ];
    let names = ["disk-entry-nothing", "disk-entry-command", "disk-entry-change"];
    kept.extend(names.into_iter().zip(entries().iter().map(write_entry)));
    for (name, (key, value)) in kept {
        let mut bytes = codec::encode(&key);
        bytes.extend(value.iter().flat_map(|value| value.iter()));
        values.push((name, bytes));
    }
    crate::golden::holds("voters.txt", include_str!("../../../golden/voters.txt"), &values);
}
