//! Memberships among themselves, in a network that this folder makes up.

mod net;

use core::time::Duration;

use crate::machine::Machine as _;
use crate::membership::view::NEIGHBOURS_MIN;
use crate::membership::{Input, Membership, Output, Status};
use crate::rng::Rng;
use crate::time::Instant;

use net::{Net, SECOND, address, node_id, roster, shared};

const NEIGHBOURS_MAX: usize = 32;

#[test]
fn twenty_that_start_at_once_make_a_full_mesh_by_one_dial_for_each_link() {
    let mut net = Net::started(&roster(20, 3), 1);
    net.run(10 * SECOND);
    assert_eq!(net.links.len(), 190);
    assert_eq!((net.dials(), net.doubles), (190, 0));
}

/// Nobody's frames, dials or hang-ups are needed any more once all stand.
#[test]
fn a_calm_mesh_stays_as_it_is() {
    for count in [20, 200] {
        let mut net = Net::started(&roster(count, 4), 2);
        net.run(20 * SECOND);
        let (links, dials) = (net.links.clone(), net.dials());
        net.run(60 * SECOND);
        assert!((&net.links, net.dials()) == (&links, dials), "{count}");
        assert!(net.hosts.iter().all(|host| host.writes <= 2), "the book is written rarely");
    }
}

#[test]
fn two_hundred_have_some_thirty_neighbours_each_in_whatever_zones() {
    for zones in [1, 2, 3, 5, 10, 40, 200] {
        let mut net = Net::started(&roster(200, zones), 3);
        net.run(5 * SECOND);
        let others = |at: usize| net.neighbours(at).into_iter().filter(|other| *other >= 5).count();
        let degrees: Vec<_> = (5..200).map(|at| net.neighbours(at).len()).collect();
        let (least, most) = (*degrees.iter().min().unwrap(), *degrees.iter().max().unwrap());
        println!("{zones} zones: {least} to {most} neighbours, {} dials", net.dials());
        assert!(least >= NEIGHBOURS_MIN && most <= NEIGHBOURS_MAX, "{least} to {most}");
        assert!((0..5).all(|voter| others(voter) <= NEIGHBOURS_MAX));
        assert!((0..5).all(|a| (a + 1..5).all(|b| net.links.contains(&(a, b)))), "voters");
        assert!(net.is_whole(|_| true));
        assert!(net.dials() <= net.links.len() * 11 / 10, "{} dials", net.dials());
    }
}

/// So few that many of the places beside a node are taken by the same neighbours.
#[test]
fn a_mesh_just_too_large_to_be_a_full_one_has_no_fewer_neighbours() {
    for (count, zones) in [(65, 1), (65, 3), (66, 30), (70, 2), (80, 1), (100, 5)] {
        let mut net = Net::started(&roster(count, zones), 3);
        net.run(5 * SECOND);
        let degrees = (5..count).map(|at| net.neighbours(at).len());
        let (least, most) = (degrees.clone().min().unwrap(), degrees.max().unwrap());
        println!("{count} in {zones} zones: {least} to {most} neighbours");
        assert!(least >= NEIGHBOURS_MIN && most <= NEIGHBOURS_MAX, "{least} to {most}");
    }
}

/// Everybody is connected to the leader, which would have to pass everything on to all of them.
#[test]
fn the_leader_is_near_to_no_more_than_others_and_both_ends_say_so() {
    for (count, zones) in [(65, 1), (66, 30), (70, 2), (100, 3)] {
        let mut net = Net::started(&roster(count, zones), 3);
        let leader = 7;
        for at in 0..count {
            net.feed(at, Input::Leader(Some(node_id(leader))));
        }
        net.run(5 * SECOND);
        assert_eq!(net.neighbours(leader).len(), count - 1);
        for (at, host) in net.hosts.iter().enumerate() {
            let near = host.near.len();
            assert!((NEIGHBOURS_MIN..=NEIGHBOURS_MAX + 4).contains(&near), "{at}: {near}");
            assert!(host.near.iter().all(|other| net.hosts[*other].near.contains(&at)), "{at}");
        }
    }
}

#[test]
fn who_is_near_changes_with_the_roster() {
    let mut net = Net::started(&roster(100, 3), 3);
    net.tell_all(&roster(64, 3));
    net.run(5 * SECOND);
    let all_but = |at: usize| (0..64).filter(move |other| *other != at);
    assert!((0..64).all(|at| all_but(at).all(|other| net.hosts[at].near.contains(&other))));
    net.tell_all(&roster(100, 3));
    net.run(5 * SECOND);
    for (at, host) in net.hosts.iter().enumerate() {
        assert!((NEIGHBOURS_MIN..=NEIGHBOURS_MAX + 4).contains(&host.near.len()), "{at}");
        assert!(host.near.iter().all(|other| net.hosts[*other].near.contains(&at)), "{at}");
    }
}

#[test]
fn who_is_near_is_agreed_on_though_the_roster_comes_to_one_sooner_than_to_another() {
    let mut net = Net::new(100, 3);
    let mut rng = Rng::new(1);
    for members in [70, 100, 66, 90] {
        for at in 0..100 {
            match at < members {
                true if net.hosts[at].membership.is_none() => net.start(at),
                false => net.crash(at),
                true => {}
            }
        }
        let mut order: Vec<_> = (0..members).collect();
        rng.shuffle(&mut order);
        for at in order {
            net.feed(at, Input::Roster(shared(&roster(members, 3))));
            net.feed(at, Input::Leader(Some(node_id(7))));
            net.run(Duration::from_millis(rng.below(100)));
        }
        net.run(40 * SECOND);
        for (at, host) in net.hosts[..members].iter().enumerate() {
            let near = host.near.len();
            assert!((NEIGHBOURS_MIN..=NEIGHBOURS_MAX + 4).contains(&near), "{at}: {near}");
            assert!(host.near.iter().all(|other| net.hosts[*other].near.contains(&at)), "{at}");
        }
    }
}

#[test]
fn a_member_that_is_removed_does_not_come_near() {
    let mut membership = Membership::new(node_id(0), 1);
    let mut outputs = |input: Input| {
        membership.handle(Instant::ZERO, input);
        core::iter::from_fn(|| membership.poll_output()).collect::<Vec<_>>()
    };
    outputs(Input::Roster(shared(&roster(100, 3))));
    let is_near = |output: &Output| matches!(output, Output::Near { .. });
    let mut far = 0;
    for node in (1..100).map(node_id) {
        outputs(Input::Connected { node, address: None, outbound: false });
        far += usize::from(!outputs(Input::Admitted { node }).iter().any(is_near));
    }
    assert!(far > 50, "{far}");
    let after = outputs(Input::Roster(shared(&roster(1, 3))));
    let hang_ups = after.iter().filter(|output| matches!(output, Output::HangUp { .. })).count();
    assert_eq!((hang_ups, after.iter().any(is_near)), (99, false));
}

#[test]
fn who_stands_elsewhere_than_was_known_is_near_anew() {
    let mut membership = Membership::new(node_id(0), 1);
    let mut near = |input: Input| {
        membership.handle(Instant::ZERO, input);
        let outputs = core::iter::from_fn(|| membership.poll_output());
        let zones = outputs.filter_map(|output| match output {
            Output::Near { zone, .. } => Some(zone.map(|zone| zone.to_string())),
            _ => None,
        });
        zones.collect::<Vec<_>>()
    };
    let node = node_id(1);
    near(Input::Connected { node, address: None, outbound: false });
    assert_eq!(near(Input::Admitted { node }), [None], "it has not learnt yet who is a member");
    assert_eq!(near(Input::Roster(shared(&roster(2, 2)))), [Some("zone1".to_owned())]);
}

#[test]
fn neighbours_are_mostly_of_the_own_zone_and_every_zone_is_linked_to_every_other() {
    let mut net = Net::started(&roster(200, 4), 4);
    net.run(20 * SECOND);
    let own = net.links.iter().filter(|(a, b)| a % 4 == b % 4).count() * 100 / net.links.len();
    assert!((60..75).contains(&own), "{own} % of the links are within a zone");
    for (a, b) in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] {
        let across = net.links.iter().filter(|(x, y)| [(a, b), (b, a)].contains(&(x % 4, y % 4)));
        assert!(across.count() > 20);
    }
}

#[test]
fn a_mesh_that_has_just_lost_a_third_of_its_nodes_still_hangs_together() {
    for seed in 0..20 {
        let mut net = Net::started(&roster(200, 4), 5);
        net.run(5 * SECOND);
        let mut hosts: Vec<_> = (0..200).collect();
        Rng::new(seed).shuffle(&mut hosts);
        for at in &hosts[..60] {
            net.crash(*at);
        }
        assert!(net.is_whole(|at| net.hosts[at].membership.is_some()), "seed {seed}");
    }
}

/// Who is down for long is dialled now and then, and is back in the mesh soon after it is up.
#[test]
fn the_down_are_dialled_rarely_and_never_given_up() {
    let mut net = Net::started(&roster(20, 3), 6);
    net.run(10 * SECOND);
    net.crash(7);
    let before = net.dials();
    net.run(600 * SECOND);
    let dials = net.dials() - before;
    assert!((19 * 50..=19 * 90).contains(&dials), "{dials} dials of 19 nodes in ten minutes");
    net.start(7);
    net.feed(7, Input::Roster(shared(&roster(20, 3))));
    net.run(3 * SECOND);
    assert_eq!(net.neighbours(7).len(), 19);
}

#[test]
fn a_partition_heals_within_the_longest_pause() {
    for count in [20, 200] {
        let mut net = Net::started(&roster(count, 4), 7);
        net.run(10 * SECOND);
        let links = net.links.clone();
        net.split(count / 3);
        net.run(60 * SECOND);
        net.split_at = None;
        net.run(13 * SECOND);
        let lost = links.difference(&net.links).count();
        assert_eq!(lost, 0, "links that did not come back");
    }
}

#[test]
fn one_bootstrap_address_is_enough_to_join() {
    let mut net = Net::started(&roster(19, 3), 8);
    net.hosts.push(net::Host::default());
    net.run(5 * SECOND);
    net.start(19);
    net.feed(19, Input::Bootstrap(vec![address(19), address(4)]));
    net.run(2 * SECOND);
    assert_eq!(net.neighbours(19), vec![4]);
    // It is let in.
    net.tell_all(&roster(20, 3));
    net.run(5 * SECOND);
    assert_eq!(net.neighbours(19).len(), 19);
    assert_eq!((net.doubles, net.hosts[19].own_dials), (0, 1));
}

/// Two candidates that found only each other must not be content with that.
#[test]
fn a_candidate_goes_on_until_it_has_tried_all_bootstrap_addresses() {
    let mut net = Net::new(3, 9);
    for at in [0, 1] {
        net.start(at);
        net.feed(at, Input::Bootstrap(vec![address(0), address(1), address(2)]));
    }
    net.run(60 * SECOND);
    assert_eq!(net.neighbours(0), vec![1]);
    net.start(2);
    net.run(13 * SECOND);
    assert_eq!(net.neighbours(2), vec![0, 1]);
}

#[test]
fn the_address_book_leads_back_when_every_bootstrap_address_is_gone() {
    let mut net = Net::started(&roster(200, 3), 10);
    net.run(30 * SECOND);
    net.crash(11);
    for at in 100..200 {
        net.crash(at);
    }
    let book = net.hosts[11].book.clone().unwrap();
    net.start(11);
    net.feed(11, Input::Bootstrap(vec!["gone:1".parse().unwrap()]));
    net.feed(11, Input::Remembered(book));
    let before = net.hosts[11].dials;
    net.run(3 * SECOND);
    assert!(!net.neighbours(11).is_empty());
    assert!(net.hosts[11].dials - before < 40, "it does not dial the whole book at once");
}

#[test]
fn a_book_that_is_damaged_is_as_good_as_none() {
    let mut membership = Membership::new(node_id(0), 1);
    for book in [vec![], vec![1, 255, 255], b"\x01garbage".to_vec()] {
        membership.handle(Instant::ZERO, Input::Remembered(book));
    }
    assert_eq!(membership.poll_output(), None);
}

#[test]
fn the_removed_are_hung_up_on_and_not_dialled_again() {
    let mut net = Net::started(&roster(20, 3), 11);
    net.run(10 * SECOND);
    let rest = roster(19, 3);
    for at in 0..19 {
        net.feed(at, Input::Roster(shared(&rest)));
    }
    assert_eq!(net.neighbours(19), Vec::<usize>::new());
    net.crash(19);
    let dials = net.dials();
    net.run(60 * SECOND);
    assert_eq!(net.dials(), dials);
}

#[test]
fn a_mesh_that_grows_beyond_a_full_one_leaves_the_links_that_it_needs_no_more() {
    let mut net = Net::started(&roster(60, 3), 12);
    net.run(10 * SECOND);
    assert_eq!(net.links.len(), 60 * 59 / 2);
    for at in 60..200 {
        net.hosts.push(net::Host::default());
        net.start(at);
    }
    net.tell_all(&roster(200, 3));
    net.run(60 * SECOND);
    let most = (5..200).map(|at| net.neighbours(at).len()).max().unwrap();
    assert!(most <= NEIGHBOURS_MAX, "{most}");
    assert!(net.is_whole(|_| true));
}

#[test]
fn all_two_hundred_are_connected_to_whoever_leads() {
    let mut net = Net::started(&roster(200, 3), 13);
    net.run(10 * SECOND);
    for leader in [2, 4] {
        for at in 0..200 {
            net.feed(at, Input::Leader(Some(node_id(leader))));
        }
        net.run(2 * SECOND);
        assert_eq!(net.neighbours(leader).len(), 199);
    }
    net.run(40 * SECOND);
    assert!(net.neighbours(2).len() < 40, "the old leader is left");
}

#[test]
fn who_is_not_heard_is_silent_though_connected() {
    let mut net = Net::started(&roster(3, 1), 14);
    net.run(10 * SECOND);
    let status =
        |net: &Net| net.hosts[0].membership.as_ref().map(|it| it.status(node_id(1))).unwrap();
    assert_eq!(status(&net), Status::Alive);
    net.hosts[1].mute = true;
    net.run(4 * SECOND);
    assert_eq!(status(&net), Status::Alive);
    net.run(3 * SECOND);
    assert_eq!(status(&net), Status::Silent);
    assert_eq!(net.neighbours(0), vec![1, 2]);
    net.hosts[1].mute = false;
    net.run(2 * SECOND);
    assert_eq!(status(&net), Status::Alive);
    net.cut(0, 1);
    assert_eq!(status(&net), Status::Silent);
}

/// A connection that is refused as soon as it stands must not be opened four times a second.
#[test]
fn who_hangs_up_at_once_is_dialled_ever_more_rarely() {
    let mut membership = Membership::new(node_id(0), 1);
    membership.handle(Instant::ZERO, Input::Roster(shared(&roster(2, 1))));
    let mut dials = 0;
    for tick in 0..2400 {
        let now = Instant::ZERO.after(Duration::from_millis(50) * tick);
        membership.handle(now, Input::Timeout);
        while let Some(output) = membership.poll_output() {
            let Output::Dial { address, .. } = output else { continue };
            dials += 1;
            let node = node_id(1);
            let address = Some(address);
            membership.handle(now, Input::Connected { node, address, outbound: true });
            membership.handle(now, Input::Disconnected { node });
        }
    }
    assert!((10..30).contains(&dials), "{dials} dials in two minutes");
}

#[test]
fn an_address_that_leads_to_the_node_itself_is_dialled_once() {
    let mut membership = Membership::new(node_id(0), 1);
    membership.handle(Instant::ZERO, Input::Bootstrap(vec![address(0)]));
    let dial = Output::Dial { address: address(0), expect: None };
    assert_eq!(membership.poll_output(), Some(dial));
    let node = node_id(0);
    let connected = Input::Connected { node, address: Some(address(0)), outbound: true };
    membership.handle(Instant::ZERO, connected);
    assert!(matches!(membership.poll_output(), Some(Output::HangUp { .. })));
    for second in 0..100 {
        membership.handle(Instant::ZERO.after(SECOND * second), Input::Timeout);
        assert_eq!(membership.poll_output(), None);
    }
}

#[test]
fn the_address_that_worked_is_tried_first_from_then_on() {
    let mut members = roster(2, 1);
    let two = ["dead:1", "good:1"].map(|text| text.parse().unwrap());
    members[1].addresses = two.to_vec();
    let mut membership = Membership::new(node_id(0), 1);
    let mut now = Instant::ZERO;
    let mut wait_for_dial = |membership: &mut Membership| loop {
        if let Some(Output::Dial { address, .. }) = membership.poll_output() {
            return (now, address);
        }
        now = now.after(Duration::from_millis(50));
        membership.handle(now, Input::Timeout);
    };
    membership.handle(Instant::ZERO, Input::Roster(shared(&members)));
    assert_eq!(wait_for_dial(&mut membership).1, two[0]);
    let (at, second) = wait_for_dial(&mut membership);
    assert_eq!(second, two[1], "the first does not answer");
    let node = node_id(1);
    membership.handle(at, Input::Connected { node, address: Some(second), outbound: true });
    membership.handle(at, Input::Admitted { node });
    membership.handle(at.after(10 * SECOND), Input::Disconnected { node });
    assert_eq!(wait_for_dial(&mut membership).1, two[1]);
}

#[test]
fn a_seed_gives_the_same_trace_each_time() {
    let run = |seed| {
        let mut net = Net::started(&roster(30, 3), seed);
        net.run(10 * SECOND);
        net.split(9);
        net.run(60 * SECOND);
        net.trace
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
