//! What an operator would notice, one story at a time.

use super::super::message::Body;
use super::super::*;
use super::world::{CALM, Faults, World, names, node_of};
use crate::disk::Key;
use crate::id::{LogIndex, VoterId};
use crate::machine::Machine;
use crate::time::Instant;

const V1: VoterId = VoterId(1);

#[test]
fn the_founder_leads_at_once_and_commits() {
    let mut world = World::new(1, CALM);
    world.run(50);
    assert!(matches!(world.voter(V1).role(), Role::Leader { .. }));
    let Entry::Voters(members) = &world.truth[&1].0 else { panic!("the log begins elsewhere") };
    assert_eq!(names(members), (vec![1], vec![], vec![]));
    world.commit(3);
    assert_eq!(world.done.len(), 3);
}

#[test]
fn a_mesh_grows_from_one_to_three_to_five() {
    let mut world = World::grown(2, 3, CALM);
    assert_eq!(names(&world.members()), (vec![1, 2, 3], vec![], vec![]));
    world.commit(5);
    world.grow(5);
    assert_eq!(names(&world.members()), (vec![1, 2, 3, 4, 5], vec![], vec![]));
    world.commit(5);
    world.settle();
    let applied: Vec<_> = world.ids().iter().map(|id| world.voter(*id).applied()).collect();
    assert!(applied.iter().all(|index| *index == applied[0]), "{applied:?}");
}

#[test]
fn it_survives_the_death_of_its_leader_within_seconds() {
    let mut world = World::grown(3, 3, CALM);
    world.commit(3);
    let dead = world.leader().unwrap();
    world.crash(dead);
    let before = world.now;
    world.run_until("a new leader", |world| world.leader().is_some());
    assert!(world.now.since(before).as_secs() < 5, "{:?}", world.now.since(before));
    world.commit(3);
    world.restart(dead);
    world.settle();
    assert_eq!(world.done.len(), 6);
}

#[test]
fn a_lost_voter_is_replaced_in_one_joint_step() {
    let mut world = World::grown(4, 3, CALM);
    let leader = world.leader().unwrap();
    let lost = world.ids().into_iter().find(|id| *id != leader).unwrap();
    world.crash(lost);
    world.run(3_000);
    let progress = world.voter(leader).progress();
    assert!(!progress[&lost].recently_active);
    let active = progress.iter().filter(|(id, _)| **id != lost).all(|(_, it)| it.recently_active);
    assert!(active, "{progress:?}");

    let new = world.add_learner();
    world.commit(2);
    world.settle();
    let last = world.voter(leader).applied();
    world.run_until("the successor caught up", |world| {
        world.voter(leader).progress()[&new].matched >= last
    });
    world.replace(&[new], &[lost]);
    let members = world.members();
    assert!(members.voters.contains_key(&new) && !members.voters.contains_key(&lost));
    let joint = world.truth.values().any(|(entry, _)| {
        matches!(entry, Entry::Voters(members) if members.outgoing.contains_key(&lost)
            && members.voters.contains_key(&new))
    });
    assert!(joint, "the replacement was not one joint step");
    world.commit(2);
}

#[test]
fn a_second_change_is_refused_while_one_is_pending() {
    let mut world = World::grown(5, 3, CALM);
    let leader = world.leader().unwrap();
    let (a, b) = (world.new_host(), world.new_host());
    world.input(leader, Input::AddLearner { voter: a, node: node_of(a) });
    world.input(leader, Input::AddLearner { voter: b, node: node_of(b) });
    assert_eq!(world.refused, [Refusal::Pending]);
    world.run(1_000);
    assert_eq!(names(&world.members()).1, [a.0]);
}

#[test]
fn changes_that_make_no_sense_are_refused() {
    let mut world = World::grown(6, 3, CALM);
    let leader = world.leader().unwrap();
    let other = world.ids().into_iter().find(|id| *id != leader).unwrap();
    let add = |voter, node| Input::AddLearner { voter, node };
    let replace = |promote: &[VoterId], remove: &[VoterId]| Input::ReplaceVoters {
        promote: promote.to_vec(),
        remove: remove.to_vec(),
    };
    let tries = [
        (add(other, node_of(other)), Refusal::IdTaken),
        (add(VoterId(0), node_of(other)), Refusal::IdTaken),
        (replace(&[VoterId(99)], &[]), Refusal::NoLearner),
        (replace(&[], &[VoterId(99)]), Refusal::NoMember),
        (replace(&[], &[]), Refusal::Size),
        (replace(&[], &world.ids()), Refusal::Size),
        (Input::TransferLeadership { to: VoterId(99) }, Refusal::NoMember),
    ];
    for (input, refusal) in tries {
        world.refused.clear();
        world.input(leader, input.clone());
        assert_eq!(world.refused, [refusal], "{input:?}");
    }
    world.refused.clear();
    world.input(other, add(VoterId(50), node_of(VoterId(50))));
    assert_eq!(world.refused, [Refusal::NotLeader]);
}

#[test]
fn a_leader_that_is_to_go_hands_over_first() {
    let mut world = World::grown(7, 3, CALM);
    let old = world.leader().unwrap();
    let new = world.add_learner();
    world.settle();
    world.refused.clear();
    let remove = Input::ReplaceVoters { promote: vec![new], remove: vec![old] };
    world.input(old, remove);
    assert_eq!(world.refused, [Refusal::HandingOver]);
    world.run_until("another leader", |world| world.leader().is_some_and(|id| id != old));
    world.settle();
    world.replace(&[new], &[old]);
    assert!(!world.members().voters.contains_key(&old));
    world.commit(3);
    assert!(world.hosts[&old].failed.is_none());
    assert!(!matches!(world.voter(old).role(), Role::Leader { .. }));
}

#[test]
fn the_lead_goes_where_it_is_sent() {
    let mut world = World::grown(8, 3, CALM);
    let old = world.leader().unwrap();
    let to = world.ids().into_iter().find(|id| *id != old).unwrap();
    world.input(old, Input::TransferLeadership { to });
    world.run(300);
    assert_eq!(world.leader(), Some(to));
}

#[test]
fn a_follower_refuses_proposals_and_names_the_leader() {
    let mut world = World::grown(9, 3, CALM);
    let leader = world.leader().unwrap();
    let follower = world.ids().into_iter().find(|id| *id != leader).unwrap();
    assert_eq!(world.voter(follower).role(), Role::Follower { leader: Some(node_of(leader)) });
    let before = world.truth.len();
    let handle = world.propose_at(follower);
    world.run(1_000);
    assert_eq!(world.rejected[&handle], Rejection::NotLeader);
    assert_eq!(world.truth.len(), before, "the follower passed the proposal on");
}

#[test]
fn commands_of_no_size_or_too_much_are_rejected() {
    let mut world = World::new(10, CALM);
    world.run(50);
    for (handle, size) in [(100, 0), (101, crate::limits::COMMAND_BYTES_MAX + 1)] {
        world.input(V1, Input::Propose { handle, command: vec![0; size] });
        assert_eq!(world.rejected[&handle], Rejection::Size);
    }
}

#[test]
fn an_overwritten_proposal_is_told() {
    let mut world = World::grown(11, 3, CALM);
    let old = world.leader().unwrap();
    world.isolate(old);
    let handle = world.propose_at(old);
    world.run_until("another leader", |world| world.leader().is_some_and(|id| id != old));
    world.commit(2);
    world.run(2_000);
    assert!(!world.voter(old).leads(), "a leader that hears no quorum goes on");
    world.heal();
    world.settle();
    assert_eq!(world.rejected.get(&handle), Some(&Rejection::Overwritten));
}

#[test]
fn a_learner_that_comes_late_gets_a_snapshot() {
    let mut world = World::grown(12, 3, CALM);
    world.commit(60);
    world.settle();
    let before = world.installs;
    let new = world.add_learner();
    world.settle();
    assert!(world.installs > before, "no snapshot was installed");
    world.replace(&[new], &[]);
    world.commit(3);
    world.settle();
    assert_eq!(world.voter(new).membership(), &world.members());
}

#[test]
fn the_log_stays_short_in_memory_and_on_disk() {
    let mut world = World::grown(13, 3, CALM);
    world.commit(200);
    world.settle();
    world.run(1_000);
    for host in world.hosts.values() {
        let entries = host.disk.keys().filter(|key| matches!(key, Key::Entry(_))).count();
        assert!(entries <= 12 + 4 + 2, "{entries} entries on a disk");
    }
}

/// Were it asked for once only, the log would fill up and take nothing more.
#[test]
fn a_snapshot_that_was_not_handed_over_is_asked_for_again() {
    let mut world = World::grown(22, 3, CALM);
    world.unanswered = 6;
    world.commit(200);
    world.settle();
    assert_eq!(world.unanswered, 0);
}

#[test]
fn a_lost_offer_of_a_snapshot_is_made_again() {
    let mut world = World::grown(14, 3, CALM);
    world.commit(40);
    world.faults.fetch_loss = 100;
    let new = world.add_learner();
    world.run(5_000);
    assert_eq!(world.voter(new).applied(), LogIndex(0));
    world.faults.fetch_loss = 0;
    world.run(2_000);
    assert!(world.voter(new).applied() > LogIndex(40));
}

#[test]
fn a_stream_that_breaks_under_a_snapshot_costs_no_long_wait() {
    let mut world = World::grown(21, 3, CALM);
    world.commit(40);
    let leader = world.leader().unwrap();
    let new = world.new_host();
    world.input(leader, Input::AddLearner { voter: new, node: node_of(new) });
    world.run_until("a snapshot on its way", |world| world.voter(new).fetching.is_some());
    world.crash(new);
    world.restart(new);
    world.run(2_000);
    assert!(world.voter(new).applied() > LogIndex(40));
}

#[test]
fn a_voter_that_nobody_answers_draws_anew_for_each_try() {
    let mut world = World::grown(22, 3, CALM);
    world.isolate(V1);
    world.run(5_000);
    let term = world.voter(V1).raft.raft.term;
    let drawn = (0..20).map(|_| {
        world.run(1_000);
        world.voter(V1).raft.raft.randomized_election_timeout()
    });
    let drawn: std::collections::BTreeSet<_> = drawn.collect();
    assert_eq!(world.voter(V1).raft.raft.term, term, "trial votes do not raise the term");
    assert!(drawn.len() > 3, "{drawn:?}");
}

#[test]
fn an_offer_that_nobody_ever_answered_is_made_again() {
    let mut world = World::grown(15, 3, CALM);
    world.commit(40);
    let leader = world.leader().unwrap();
    let new = world.new_host();
    world.input(leader, Input::AddLearner { voter: new, node: node_of(new) });
    // The follower dies with the offer in its hands, and no stream is seen to break.
    for _ in 0..400 {
        world.run(1);
        world.faults.fetch_loss = 100;
    }
    world.hosts.get_mut(&new).unwrap().voter = None;
    world.faults.fetch_loss = 0;
    world.run(500);
    world.restart(new);
    world.settle();
    assert!(world.voter(new).applied() > LogIndex(40));
}

#[test]
fn a_restart_brings_back_snapshot_and_tail() {
    let mut world = World::grown(16, 3, CALM);
    world.commit(30);
    world.settle();
    world.run(1_000);
    let before = world.done.len();
    for id in world.ids() {
        world.crash(id);
    }
    for id in world.ids() {
        world.restart(id);
    }
    world.settle();
    world.commit(3);
    world.settle();
    assert_eq!(world.done.len(), before + 3);
    assert_eq!(names(&world.members()).0, [1, 2, 3]);
}

#[test]
fn a_broken_disk_is_an_error_and_not_a_panic() {
    let mut world = World::grown(17, 3, CALM);
    world.commit(30);
    world.settle();
    world.run(1_000);
    let whole = world.hosts[&V1].disk.clone();
    let config = Config::new(0);
    let restore = |disk| Voter::restore(config.clone(), Instant::ZERO, &disk).err();
    assert_eq!(restore(whole.clone()), None);
    assert_eq!(restore(Default::default()), Some(RestoreError::NoVoter));

    let entries: Vec<_> = whole.keys().filter(|key| matches!(key, Key::Entry(_))).collect();
    let (first, last) = (entries[0], entries[entries.len() - 1]);
    for key in whole.keys() {
        let mut cut = whole.clone();
        cut.insert(key.clone(), whole[key][..3].into());
        assert!(restore(cut).is_some(), "{key:?} cut short");
        let mut gone = whole.clone();
        gone.remove(key);
        // The outermost entries cannot be told from entries that never were.
        if key != first && key != last {
            assert!(restore(gone).is_some(), "{key:?} gone");
        }
    }
}

#[test]
fn a_sole_voter_says_nothing_of_a_term_that_a_crash_could_take_back() {
    let mut world = World::new(18, CALM);
    world.settle();
    world.add_learner();
    world.commit(2);
    world.settle();
    world.crash(V1);
    world.restart(V1);
    world.run(50);
    // It wins alone, and its vote for itself does not reach the disk.
    world.faults = Faults { sync: 1_000_000, ..CALM };
    world.run_until("a winner that waits for its disk", |world| world.voter(V1).leads());
    let said = world.sent[&V1];
    world.run(1_000);
    assert_eq!(world.sent[&V1], said);
}

#[test]
fn a_sole_voter_that_was_unseated_writes_its_log_before_it_leads_again() {
    let mut world = World::new(19, CALM);
    world.settle();
    let learner = world.add_learner();
    world.settle();
    world.faults.sync = 1_000_000;
    world.propose_at(V1);
    let body = Body::Heartbeat { commit: 0 };
    let message =
        VoterMessage { from: learner, to: V1, session: u64::MAX, number: 1, term: 9, body };
    world.input(V1, Input::Message { from: node_of(learner), message });
    assert!(!world.voter(V1).leads());
    world.run(10_000);
    assert_eq!(world.hosts[&V1].failed, None);
    assert!(!world.voter(V1).leads());
    world.crash(V1);
    world.faults = CALM;
    world.restart(V1);
    world.commit(1);
}

#[test]
fn a_leader_that_the_last_step_left_out_steps_down() {
    let mut left_out = 0;
    for seed in 0..30 {
        let mut world = World::grown(seed, 3, CALM);
        let leader = world.leader().unwrap();
        let others: Vec<_> = world.ids().into_iter().filter(|id| *id != leader).collect();
        let (leaving, staying) = (others[0], others[1]);
        let new = world.add_learner();
        world.settle();
        let change = Input::ReplaceVoters { promote: vec![new], remove: vec![leaving] };
        world.input(leader, change);
        // The leader dies in the middle of the joint step, so that the leaving voter may win.
        world.run_until("the joint step", |world| {
            [leaving, staying, new].iter().all(|id| world.voter(*id).membership().is_joint())
        });
        world.crash(leader);
        world.run_until("a leader", |world| {
            [leaving, staying, new].iter().any(|id| world.voter(*id).leads())
        });
        left_out += u32::from(world.voter(leaving).leads());
        world.run(3_000);
        world.commit(2);
        world.settle();
        assert_ne!(world.leader(), Some(leaving));
        assert!(!world.members().voters.contains_key(&leaving));
        assert_eq!(world.hosts[&leaving].failed, None);
    }
    assert!(left_out > 0, "the leaving voter never won");
}

#[test]
fn a_long_sleep_is_not_made_up_for_tick_by_tick() {
    let config = Config::new(19);
    let mut voter = Voter::join(config, V1, node_of(V1), Instant::ZERO).unwrap();
    while voter.poll_output().is_some() {}
    let day = Instant::from_micros(86_400_000_000);
    voter.handle(day, Input::Timeout);
    assert_eq!(voter.poll_timeout(), Some(day.after(TICK)));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let trace = |seed| {
        let mut world = World::grown(seed, 3, Faults { loss: 5, delay: 60, sync: 60, ..CALM });
        for round in 0..6 {
            world.run(700);
            let ids = world.ids();
            world.crash(ids[round % ids.len()]);
            world.run(2_500);
            world.restart(ids[round % ids.len()]);
            for id in world.ids() {
                world.propose_at(id);
            }
        }
        world.trace()
    };
    assert_eq!(trace(20), trace(20));
    assert_ne!(trace(20), trace(21));
}
