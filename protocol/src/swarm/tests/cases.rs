//! Small cases by hand: hostile messages, bounds, and the cost of an event.

use std::collections::BTreeSet;

use super::super::*;
use super::network::{chunks, id};
use super::object;
use crate::codec;
use crate::machine::Machine;
use crate::time::Instant;

fn swarm() -> Swarm {
    Swarm::new(Config { zone: "a".parse().unwrap(), seed: 1, pace: Pace::default() })
}

fn up(swarm: &mut Swarm, node: usize) {
    swarm.handle(Instant::ZERO, Input::PeerUp { node: id(node), zone: "a".parse().unwrap() });
}

fn want(swarm: &mut Swarm, have: Bitmap) {
    let chunks = chunks(have.len() as usize, 1);
    let want = Want { object: object(), chunks, have, origin: false, priority: 0 };
    swarm.handle(Instant::ZERO, Input::Want(want));
}

fn interest(swarm: &mut Swarm, node: usize, have: Bitmap) {
    say(
        swarm,
        node,
        SwarmMessage::Interest { object: object(), have, origin: false, answer: false },
    );
}

fn say(swarm: &mut Swarm, node: usize, message: SwarmMessage) {
    swarm.handle(Instant::ZERO, Input::Message { from: id(node), message });
}

fn outputs(swarm: &mut Swarm) -> Vec<Output> {
    core::iter::from_fn(|| swarm.poll_output()).collect()
}

fn misbehaviours(swarm: &mut Swarm) -> Vec<Misbehaviour> {
    let reason = |output| match output {
        Output::Misbehaved { reason, .. } => Some(reason),
        _ => None,
    };
    outputs(swarm).into_iter().filter_map(reason).collect()
}

#[test]
fn what_a_node_learns_too_early_is_asked_for_again_when_it_wants_the_object() {
    let mut swarm = swarm();
    up(&mut swarm, 1);
    interest(&mut swarm, 1, Bitmap::full(3));
    assert_eq!(outputs(&mut swarm), vec![], "an unknown object is ignored");
    want(&mut swarm, Bitmap::empty(3));
    let asked = outputs(&mut swarm);
    let answer = |output: &Output| {
        matches!(output, Output::Send { message: SwarmMessage::Interest { answer: true, .. }, .. })
    };
    assert!(asked.iter().any(answer), "{asked:?}");
}

#[test]
fn indexes_that_do_not_exist_are_refused_whoever_names_them() {
    let mut swarm = swarm();
    up(&mut swarm, 1);
    want(&mut swarm, Bitmap::full(3));
    interest(&mut swarm, 1, Bitmap::empty(3));
    let (object, indexes) = (object(), vec![3]);
    outputs(&mut swarm);
    say(&mut swarm, 1, SwarmMessage::Have { object, indexes: indexes.clone(), owed: vec![] });
    say(&mut swarm, 1, SwarmMessage::Have { object, indexes: vec![], owed: indexes.clone() });
    say(&mut swarm, 1, SwarmMessage::Request { object, indexes: indexes.clone() });
    interest(&mut swarm, 1, Bitmap::full(4));
    say(&mut swarm, 1, SwarmMessage::Cancel { object, indexes: indexes.clone() });
    say(&mut swarm, 1, SwarmMessage::Refuse { object, indexes });
    assert_eq!(misbehaviours(&mut swarm), vec![Misbehaviour::OutOfRange; 4]);
}

#[test]
fn one_that_asks_for_everything_at_once_is_named_and_served_no_faster() {
    let mut swarm = swarm();
    up(&mut swarm, 1);
    want(&mut swarm, Bitmap::full(2_000));
    interest(&mut swarm, 1, Bitmap::empty(2_000));
    outputs(&mut swarm);
    let request = SwarmMessage::Request { object: object(), indexes: (0..2_000).collect() };
    say(&mut swarm, 1, request);
    let all = outputs(&mut swarm);
    let uploads = all.iter().filter(|output| matches!(output, Output::Upload { .. })).count();
    assert!((1..=12).contains(&uploads), "{uploads}");
    let reason = Misbehaviour::TooManyRequests;
    assert!(all.contains(&Output::Misbehaved { node: id(1), reason }));
}

#[test]
fn in_a_large_mesh_who_is_furthest_behind_is_served_first() {
    let mut swarm = swarm();
    swarm.handle(Instant::ZERO, Input::MeshSize { nodes: FULL_MESH_MAX + 1 });
    want(&mut swarm, Bitmap::full(10));
    for (node, has) in [(1, 5), (2, 6), (3, 7), (4, 1)] {
        let mut have = Bitmap::empty(10);
        (0..has).for_each(|index| assert!(have.insert(index)));
        up(&mut swarm, node);
        interest(&mut swarm, node, have);
    }
    outputs(&mut swarm);
    let mut served = Vec::new();
    let mut note = |swarm: &mut Swarm| {
        served.extend(outputs(swarm).into_iter().filter_map(|output| match output {
            Output::Upload { to, .. } => Some(to),
            _ => None,
        }));
    };
    for node in 1..=4 {
        say(&mut swarm, node, SwarmMessage::Request { object: object(), indexes: vec![9] });
        note(&mut swarm);
    }
    let done = Input::Uploaded { to: id(1), object: object(), index: 9 };
    swarm.handle(Instant::ZERO, done);
    note(&mut swarm);
    assert_eq!(served, [1, 2, 4].map(id), "two at first, and 3 waits longer than 4");
}

#[test]
fn a_flood_is_dropped_and_named_once() {
    let mut swarm = swarm();
    up(&mut swarm, 1);
    want(&mut swarm, Bitmap::full(1_000));
    interest(&mut swarm, 1, Bitmap::empty(1_000));
    for _ in 0..1_000 {
        let indexes = (0..1_000).collect();
        say(&mut swarm, 1, SwarmMessage::Cancel { object: object(), indexes });
    }
    assert_eq!(misbehaviours(&mut swarm), vec![Misbehaviour::Flood]);
}

#[test]
fn a_stranger_is_not_heard() {
    let mut swarm = swarm();
    want(&mut swarm, Bitmap::full(3));
    interest(&mut swarm, 1, Bitmap::empty(3));
    say(&mut swarm, 1, SwarmMessage::Request { object: object(), indexes: vec![0] });
    assert_eq!(outputs(&mut swarm), vec![Output::Complete { object: object() }]);
}

#[test]
fn a_corrupt_chunk_is_asked_of_another() {
    let mut swarm = swarm();
    up(&mut swarm, 1);
    want(&mut swarm, Bitmap::empty(1));
    interest(&mut swarm, 1, Bitmap::full(1));
    outputs(&mut swarm);
    let now = Instant::from_micros(1_000);
    swarm.handle(now, Input::Corrupt { object: object(), index: 0, from: id(1) });
    let asked = |swarm: &mut Swarm| {
        let all = outputs(swarm).into_iter();
        all.filter_map(|output| match output {
            Output::Send { to, message: SwarmMessage::Request { .. } } => Some(to),
            _ => None,
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(asked(&mut swarm), vec![]);
    interest(&mut swarm, 1, Bitmap::full(1));
    assert_eq!(asked(&mut swarm), vec![], "a new claim does not make it honest");
    say(&mut swarm, 1, SwarmMessage::Leave { object: object() });
    interest(&mut swarm, 1, Bitmap::full(1));
    swarm.handle(Instant::ZERO, Input::PeerDown { node: id(1) });
    up(&mut swarm, 1);
    interest(&mut swarm, 1, Bitmap::full(1));
    assert_eq!(asked(&mut swarm), vec![], "nor does coming back");
    up(&mut swarm, 2);
    interest(&mut swarm, 2, Bitmap::full(1));
    assert_eq!(asked(&mut swarm), vec![id(2)]);
}

/// As by a library that asks anew, since nothing has come.
#[test]
fn who_sent_rubbish_is_not_asked_sooner_as_the_object_is_wanted_anew() {
    let mut swarm = swarm();
    up(&mut swarm, 1);
    want(&mut swarm, Bitmap::empty(1));
    interest(&mut swarm, 1, Bitmap::full(1));
    swarm.handle(Instant::ZERO, Input::Corrupt { object: object(), index: 0, from: id(1) });
    swarm.handle(Instant::ZERO, Input::Forget { object: object() });
    want(&mut swarm, Bitmap::empty(1));
    outputs(&mut swarm);
    interest(&mut swarm, 1, Bitmap::full(1));
    let requests = |output: &Output| {
        matches!(output, Output::Send { message: SwarmMessage::Request { .. }, .. })
    };
    swarm.handle(Instant::from_micros(29_999_999), Input::Timeout);
    assert!(!outputs(&mut swarm).iter().any(requests));
    swarm.handle(Instant::from_micros(30_000_000), Input::Timeout);
    assert!(outputs(&mut swarm).iter().any(requests), "and then it is");
}

#[test]
fn what_else_is_under_way_from_one_that_sends_rubbish_is_called_off() {
    let mut swarm = swarm();
    up(&mut swarm, 1);
    want(&mut swarm, Bitmap::empty(3));
    interest(&mut swarm, 1, Bitmap::full(3));
    let asked = |output| match output {
        Output::Send { message: SwarmMessage::Request { indexes, .. }, .. } => Some(indexes),
        _ => None,
    };
    let asked: Vec<u32> = outputs(&mut swarm).into_iter().filter_map(asked).flatten().collect();
    assert!(asked.len() > 1, "{asked:?}");
    swarm.handle(Instant::ZERO, Input::Corrupt { object: object(), index: asked[0], from: id(1) });
    let called_off = |output| match output {
        Output::Send { message: SwarmMessage::Cancel { indexes, .. }, .. } => Some(indexes),
        _ => None,
    };
    let called_off = outputs(&mut swarm).into_iter().filter_map(called_off).flatten();
    assert_eq!(called_off.collect::<BTreeSet<_>>(), asked.into_iter().collect());
}

/// More has come from 1 than may wait for the disk.
fn lag(swarm: &mut Swarm) {
    want(swarm, Bitmap::empty(2_000));
    interest(swarm, 1, Bitmap::full(2_000));
    for index in 0..1_900 {
        swarm.handle(Instant::ZERO, Input::Verified { object: object(), index, from: id(1) });
    }
}

#[test]
fn a_disk_that_lags_stops_requests_and_senders() {
    let mut swarm = swarm();
    up(&mut swarm, 1);
    lag(&mut swarm);
    let stop = Output::Send { to: id(1), message: SwarmMessage::Credit { bytes: 0 } };
    assert!(outputs(&mut swarm).contains(&stop));
    for index in 0..1_900 {
        swarm.handle(Instant::ZERO, Input::Stored { object: object(), index });
    }
    let goes_on = |output: &Output| {
        matches!(output, Output::Send { message: SwarmMessage::Credit { bytes: 1.. }, .. })
    };
    assert!(outputs(&mut swarm).iter().any(goes_on));
}

/// It ignored what it was told before.
#[test]
fn in_a_large_mesh_who_asks_what_is_here_is_told_again_how_much_may_come() {
    let mut swarm = swarm();
    swarm.handle(Instant::ZERO, Input::MeshSize { nodes: FULL_MESH_MAX + 1 });
    up(&mut swarm, 1);
    lag(&mut swarm);
    let stop = Output::Send { to: id(1), message: SwarmMessage::Credit { bytes: 0 } };
    assert!(outputs(&mut swarm).contains(&stop));
    let (object, have) = (object(), Bitmap::full(2_000));
    say(&mut swarm, 1, SwarmMessage::Interest { object, have, origin: false, answer: true });
    assert!(outputs(&mut swarm).contains(&stop));
}

#[test]
fn who_stands_elsewhere_than_was_known_keeps_what_is_under_way() {
    let mut swarm = swarm();
    up(&mut swarm, 1);
    want(&mut swarm, Bitmap::empty(3));
    interest(&mut swarm, 1, Bitmap::full(3));
    outputs(&mut swarm);
    let zone = "b".parse().unwrap();
    swarm.handle(Instant::ZERO, Input::PeerUp { node: id(1), zone });
    let anew = |output: &Output| {
        let Output::Send { message, .. } = output else { return true };
        matches!(message, SwarmMessage::Interest { .. } | SwarmMessage::Cancel { .. })
    };
    assert!(!outputs(&mut swarm).iter().any(anew));
    for index in 0..3 {
        swarm.handle(Instant::ZERO, Input::Corrupt { object: object(), index, from: id(1) });
    }
    let called_off = |output: &Output| {
        matches!(output, Output::Send { message: SwarmMessage::Cancel { .. }, .. })
    };
    assert!(outputs(&mut swarm).iter().any(called_off));
}

#[test]
fn a_higher_priority_goes_first() {
    let mut swarm = swarm();
    up(&mut swarm, 1);
    let urgent = ObjectId { part: Part::Manifest, ..object() };
    for (object, priority) in [(object(), 1), (urgent, 9)] {
        let (chunks, have) = (chunks(4, 1), Bitmap::full(4));
        let want = Want { object, chunks, have, origin: false, priority };
        swarm.handle(Instant::ZERO, Input::Want(want));
    }
    assert_eq!(swarm.objects(), [urgent, object()]);
}

#[test]
fn idle_swarms_sleep() {
    let mut swarm = swarm();
    up(&mut swarm, 1);
    want(&mut swarm, Bitmap::full(4));
    interest(&mut swarm, 1, Bitmap::full(4));
    assert_eq!(swarm.poll_timeout(), None);
}

#[test]
fn messages_survive_the_wire() {
    let message = SwarmMessage::Have { object: object(), indexes: vec![1, 70_000], owed: vec![3] };
    assert_eq!(codec::decode::<SwarmMessage>(&codec::encode(&message)), Ok(message));
}
