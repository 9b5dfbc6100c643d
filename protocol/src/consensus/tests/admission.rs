//! What a voter takes from others, and what not.

use super::super::message::{Body, Position};
use super::super::*;
use super::world::{CALM, World, node_of};
use crate::codec;
use crate::id::{LogIndex, VoterId};

/// A heartbeat of a far higher term, which would unseat any leader that believed it.
fn usurper(from: VoterId, to: VoterId) -> VoterMessage {
    let body = Body::Heartbeat { commit: 0 };
    VoterMessage { from, to, session: u64::MAX, number: 1, term: 1_000, body }
}

fn settled(seed: u64) -> (World, VoterId, VoterId) {
    let mut world = World::grown(seed, 3, CALM);
    world.commit(2);
    world.settle();
    let leader = world.leader().unwrap();
    let follower = world.ids().into_iter().find(|id| *id != leader).unwrap();
    (world, leader, follower)
}

#[test]
fn who_speaks_for_another_is_ignored() {
    let (mut world, leader, follower) = settled(1);
    let role = world.voter(leader).role();
    let other = world.ids().into_iter().find(|id| ![leader, follower].contains(id)).unwrap();
    let tries = [
        (node_of(follower), usurper(other, leader), Dropped::Forged),
        (node_of(VoterId(77)), usurper(follower, leader), Dropped::Forged),
        (node_of(leader), usurper(leader, leader), Dropped::Forged),
        (node_of(VoterId(77)), usurper(VoterId(77), leader), Dropped::Stranger),
        (node_of(follower), usurper(follower, other), Dropped::WrongRecipient),
    ];
    for (from, message, reason) in tries {
        let before = world.voter(leader).dropped().get(&reason).copied().unwrap_or(0);
        world.input(leader, Input::Message { from, message });
        assert_eq!(world.voter(leader).dropped()[&reason], before + 1, "{reason:?}");
        assert_eq!(world.voter(leader).role(), role);
    }
    assert_eq!(world.strangers, [VoterId(77)]);
    // From its own node, the same message would have been believed.
    let message = usurper(follower, leader);
    world.input(leader, Input::Message { from: node_of(follower), message });
    assert_ne!(world.voter(leader).role(), role);
}

#[test]
fn a_proposal_has_no_form_in_which_a_peer_could_send_it() {
    let mut bytes = codec::encode(&usurper(VoterId(1), VoterId(2)));
    let known = (0..=250u8).filter(|kind| {
        // The kind of the body is the last byte but one; from 251 on, numbers take more than one.
        let at = bytes.len() - 2;
        bytes[at] = *kind;
        let padded = [&bytes[..], &[0; 128]].concat();
        (bytes.len() - 1..padded.len())
            .any(|end| codec::decode::<VoterMessage>(&padded[..end]).is_ok())
    });
    let known: Vec<u8> = known.collect();
    // Append, its two answers, votes, heartbeats, snapshots and "time out now": no proposal.
    assert!(known.iter().all(|kind| *kind <= 9), "{known:?}");
}

#[test]
fn bounds_hold_and_parts_must_fit() {
    let (mut world, leader, follower) = settled(2);
    let entry = |index: u64, size: usize| LogEntry {
        term: 1,
        index: LogIndex(index),
        body: entry::Body::Command(vec![1; size]),
    };
    let append =
        |entries| Body::Append { previous: Position { index: 5, term: 1 }, commit: 0, entries };
    let huge = crate::limits::COMMAND_BYTES_MAX + 1;
    let tries = [
        (append(vec![entry(6, huge)]), Dropped::Oversize),
        (append((6..12).map(|index| entry(index, huge - 1)).collect()), Dropped::Oversize),
        (append(vec![entry(6, 1), entry(8, 1)]), Dropped::Unsound),
        (append(vec![entry(u64::MAX, 1)]), Dropped::Unsound),
    ];
    for (body, reason) in tries {
        let (session, number) = (u64::MAX, 1);
        let message = VoterMessage { from: leader, to: follower, session, number, term: 1, body };
        world.input(follower, Input::Message { from: node_of(leader), message });
        assert!(world.voter(follower).dropped().contains_key(&reason), "{reason:?}");
    }
    assert!(!world.voter(follower).has_failed());
}

#[test]
fn a_message_of_an_older_session_is_dropped() {
    let (mut world, leader, follower) = settled(3);
    let mut old = usurper(leader, follower);
    (old.session, old.term) = (0, 1);
    let before = world.voter(follower).dropped().get(&Dropped::Stale).copied().unwrap_or(0);
    world.input(follower, Input::Message { from: node_of(leader), message: old });
    assert_eq!(world.voter(follower).dropped()[&Dropped::Stale], before + 1);
}

#[test]
fn a_snapshot_of_other_bytes_is_not_installed() {
    let mut world = World::grown(4, 3, CALM);
    world.commit(40);
    world.faults.fetch_loss = 100;
    let new = world.add_learner();
    let before = world.installs;
    let leader = world.leader().unwrap();
    for _ in 0..3 {
        world.run_until("a snapshot on its way", |world| world.voter(new).fetching.is_some());
        let (meta, data) = world.voter(leader).snapshot().unwrap();
        let (index, mut data) = (meta.index, data.to_vec());
        data[9] ^= 1;
        world.input(new, Input::SnapshotFetched { index, data });
    }
    world.run(2_000);
    assert_eq!(world.installs, before);
    assert_eq!(world.voter(new).applied(), LogIndex(0));
    assert!(world.voter(new).dropped()[&Dropped::Unasked] > 0);
}

#[test]
fn a_panic_of_the_library_ends_the_voter_and_nothing_else() {
    let (mut world, leader, follower) = settled(5);
    let term = match world.voter(leader).role() {
        Role::Leader { term } => term,
        role => panic!("{role:?}"),
    };
    // A commit far beyond its log is what a voter hears that came back with an empty disk.
    let body = Body::Heartbeat { commit: 1_000_000 };
    let message =
        VoterMessage { from: leader, to: follower, session: u64::MAX, number: 1, term, body };
    world.input(follower, Input::Message { from: node_of(leader), message });
    assert!(world.hosts[&follower].failed.is_some());
    assert!(world.voter(follower).has_failed());
    // It says nothing any more, and the others go on.
    let handle = world.propose_at(follower);
    assert!(!world.rejected.contains_key(&handle));
    world.commit(3);
}
