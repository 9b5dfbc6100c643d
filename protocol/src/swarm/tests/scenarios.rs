//! What a user would notice: how long it takes, what it costs, and that everybody finishes.

use core::time::Duration;

use super::super::*;
use super::network::{Kind, Network, RATE};
use crate::time::Instant;

const LATENCY: Duration = Duration::from_millis(1);

fn started(nodes: usize, count: usize, latency: Duration, seed: u64) -> (Network, Vec<usize>) {
    let mut network = Network::new(nodes, count, latency, seed);
    network.seed(0);
    let receivers: Vec<usize> = (1..nodes).collect();
    receivers.iter().for_each(|&node| network.want(node));
    (network, receivers)
}

/// Prints and returns the time of the last over the bound, and the origin's bytes over the object's.
fn report(name: &str, network: &Network, who: &[usize], bound: f64) -> (f64, f64) {
    let (last, bytes) = (network.last(who), network.bytes() as f64);
    let origin = network.nodes[0].sent as f64 / bytes;
    let spread: f64 = network.nodes.iter().map(|node| node.sent as f64).sum();
    let control: f64 = network.nodes.iter().map(|node| node.control_bytes as f64).sum();
    println!(
        "{name}: {last:.2} s, ratio {:.3}, origin {origin:.3} F, duplicates {:.3} %, control {:.2} %, {} events",
        last / bound,
        100.0 * network.duplicates() as f64 / spread,
        100.0 * control / spread,
        network.events
    );
    (last / bound, origin)
}

#[test]
fn twenty_equal_receivers_finish_close_to_the_bound() {
    for (seed, latency) in [(1, 1), (2, 1), (3, 10), (4, 30)] {
        let (mut network, receivers) = started(21, 512, Duration::from_millis(latency), seed);
        assert!(network.run(100.0, |it| it.finished(&receivers)));
        let bound = network.bound(&receivers);
        let name = format!("20 receivers, 512 chunks, {latency} ms");
        let (ratio, origin) = report(&name, &network, &receivers, bound);
        assert!(ratio <= 1.15, "{ratio}");
        assert!(origin <= 1.1, "{origin}");
    }
}

/// An origin, and receivers which lack no more than 40 chunks in the middle.
fn nearly_up_to_date(nodes: usize, receivers: &[usize], seed: u64) -> Network {
    let mut network = Network::new(nodes, 1_700, LATENCY, seed);
    network.seed(0);
    receivers.iter().for_each(|&node| network.want_with(node, lacking_the_middle(), false));
    network
}

fn lacking_the_middle() -> Bitmap {
    let mut have = Bitmap::full(1_700);
    (820..860).for_each(|index| assert!(have.remove(index)));
    have
}

/// Few events come in such a transfer; each must bring the first pass to the next chunk that is
/// lacking, however many are not.
#[test]
fn little_that_is_new_in_a_large_release_arrives_without_waiting_for_anything() {
    let mut network = nearly_up_to_date(3, &[1, 2], 8);
    // 40 chunks of 64 KiB take less than half a second at these rates.
    assert!(network.run(2.0, |it| it.finished(&[1, 2])));
    assert!(network.nodes[0].sent < 50 * 131_072, "{}", network.nodes[0].sent);
}

/// Few have the chunks at first. Those who come meanwhile wait for a busy one of these rather than turn
/// to the origin all at once.
#[test]
fn those_who_come_when_few_have_it_leave_the_origin_alone() {
    let all: Vec<usize> = (1..21).collect();
    let mut network = nearly_up_to_date(21, &all[..1], 8);
    assert!(!network.run(0.2, |it| it.finished(&all[..1])));
    all[1..].iter().for_each(|&node| network.want_with(node, lacking_the_middle(), false));
    assert!(network.run(2.0, |it| it.finished(&all)));
    let (sent, lacked) = (network.nodes[0].sent, 40 * 65_536);
    assert!(sent < lacked * 5 / 4, "{sent} of {lacked} that each lacked");
}

/// Nodes that have chosen what of the last release they can use come one after the other. The origin
/// answers each first, as it has nothing else to do.
#[test]
fn an_origin_that_answers_first_is_not_asked_for_what_others_have_too() {
    let all: Vec<usize> = (1..21).collect();
    let mut network = nearly_up_to_date(21, &all[..1], 8);
    all.iter().for_each(|&node| network.nodes[node].busy = Duration::from_millis(40));
    for (place, &node) in all.iter().enumerate().skip(1) {
        assert!(!network.run(0.5 + 0.1 * place as f64, |_| false));
        network.want_with(node, lacking_the_middle(), false);
    }
    assert!(network.run(5.0, |it| it.finished(&all)));
    let (sent, lacked) = (network.nodes[0].sent, 40 * 65_536);
    assert!(sent < lacked * 11 / 10, "{sent} of {lacked} that each lacked");
}

/// Who alone has it is asked soon, whoever else is there and knows nothing of it.
#[test]
fn an_origin_is_asked_although_others_never_say_what_they_have() {
    let mut network = nearly_up_to_date(5, &[1], 8);
    assert!(network.run(2.0, |it| it.finished(&[1])));
    network.kill(1);
    network.run(4.0, |_| false);
    network.want_with(2, lacking_the_middle(), false);
    assert!(network.run(6.0, |it| it.finished(&[2])));
}

/// What only such a node lacks is most of the object, and none of the others' business.
#[test]
fn a_new_node_that_is_slow_or_takes_nothing_does_not_hold_up_those_that_lack_little() {
    for (name, down, deaf) in [("slow", RATE / 200.0, 0), ("deaf", RATE, 1_000)] {
        let mut network = nearly_up_to_date(5, &[1, 2, 3], 8);
        network.nodes[4].down = down;
        network.nodes[4].deaf_until = Instant::from_micros(deaf * 1_000_000);
        network.want(4);
        // What it was given before it was known waits 10 s for its receipt.
        assert!(network.run(12.0, |it| it.finished(&[1, 2, 3])), "{name}");
    }
}

#[test]
fn an_origin_whose_chunks_nobody_confirms_can_still_be_asked() {
    let (mut network, receivers) = started(3, 40, LATENCY, 9);
    for node in &receivers {
        network.nodes[*node].deaf_until = Instant::from_micros(30_000_000);
    }
    assert!(network.run(120.0, |it| it.finished(&receivers)));
}

#[test]
fn a_slow_one_does_not_hold_up_the_others() {
    let (mut network, receivers) = started(21, 512, LATENCY, 5);
    (network.nodes[7].up, network.nodes[7].down) = (RATE / 10.0, RATE / 10.0);
    let others: Vec<usize> = receivers.iter().copied().filter(|&node| node != 7).collect();
    let bound = network.bound(&others);
    assert!(network.run(400.0, |it| it.finished(&receivers)));
    let (ratio, _) = report("one at a tenth, the others", &network, &others, bound);
    assert!(ratio <= 1.3, "{ratio}");
    let (ratio, _) = report("one at a tenth, itself", &network, &[7], bound * 10.0);
    assert!(ratio <= 1.3, "{ratio}");
}

#[test]
fn the_survivors_finish_when_a_tenth_dies_midway() {
    let (mut network, receivers) = started(21, 512, LATENCY, 6);
    let bound = network.bound(&receivers);
    assert!(!network.run(bound / 2.0, |_| false));
    network.kill(4);
    network.kill(13);
    let survivors: Vec<usize> =
        receivers.into_iter().filter(|node| ![4, 13].contains(node)).collect();
    assert!(network.run(60.0, |it| it.finished(&survivors)));
    let (ratio, origin) = report("two of 20 die midway", &network, &survivors, bound);
    assert!(ratio <= 1.45, "{ratio}: the death is noticed after a second, 0.19 of the bound");
    assert!(origin <= 1.25, "{origin}");
}

#[test]
fn all_finish_when_the_origin_dies_after_one_pass() {
    let (mut network, receivers) = started(21, 512, LATENCY, 7);
    assert!(network.run(60.0, |it| it.all_out()));
    network.kill(0);
    assert!(!network.finished(&receivers));
    let bound = network.bound(&receivers);
    assert!(network.run(60.0, |it| it.finished(&receivers)));
    let (ratio, _) = report("the origin dies after one pass", &network, &receivers, bound);
    assert!(ratio <= 1.3, "{ratio}");
}

#[test]
fn a_late_joiner_gets_all_at_its_own_rate_and_hardly_from_the_origin() {
    let (mut network, receivers) = started(21, 512, LATENCY, 8);
    network.nodes[20].alive = false;
    let first: Vec<usize> = receivers.iter().copied().filter(|&node| node != 20).collect();
    let bound = network.bound(&first);
    network.run(bound * 0.6, |_| false);
    let joined = network.now.as_micros() as f64 / 1e6;
    network.revive(20);
    network.want(20);
    assert!(network.run(60.0, |it| it.finished(&receivers)));
    report("a late joiner, the others", &network, &first, bound);
    let took = (network.last(&[20]) - joined) / bound;
    println!("a late joiner, itself: {took:.3} of F/d");
    assert!(took <= 1.15, "{took}");
    assert!(network.last(&first) / bound <= 1.25);
    let origin = network.nodes[0].sent as f64 / network.bytes() as f64;
    assert!(origin <= 1.15, "{origin}");
}

#[test]
fn liars_leeches_and_corrupters_stop_nobody() {
    for kind in [Kind::Liar, Kind::Leech, Kind::Corrupter] {
        let (mut network, receivers) = started(21, 512, LATENCY, 9);
        network.nodes[5].kind = kind;
        network.nodes[11].kind = kind;
        let honest: Vec<usize> =
            receivers.into_iter().filter(|node| ![5, 11].contains(node)).collect();
        let bound = network.bound(&honest);
        let done = network.run(120.0, |it| it.finished(&honest));
        let (ratio, origin) = report(&format!("two of kind {kind:?}"), &network, &honest, bound);
        assert!(done && ratio <= 2.0, "{kind:?}: {ratio}");
        assert!(origin <= 2.0, "{kind:?}: {origin}");
        let blamed = network.misbehaved.iter().all(|(_, who)| [5, 11].contains(who));
        assert!(blamed, "an honest node was blamed");
        assert_eq!(kind == Kind::Corrupter, !network.misbehaved.is_empty());
    }
}

/// Its memory was bad, or the way to it, and nobody else has the release.
#[test]
fn an_only_source_that_has_sent_rubbish_is_asked_again() {
    let (mut network, receivers) = started(6, 40, LATENCY, 9);
    network.nodes[0].kind = Kind::Corrupter;
    assert!(!network.run(20.0, |it| it.finished(&receivers)));
    let sent = network.nodes[0].sent;
    network.nodes[0].kind = Kind::Honest;
    assert!(network.run(60.0, |it| it.finished(&receivers)));
    assert!(sent < 3 * network.bytes(), "{sent} bytes of rubbish");
}

#[test]
fn two_nodes_take_the_time_of_the_link() {
    for (latency, limit) in [(1, 1.03), (50, 1.1)] {
        let (mut network, receivers) = started(2, 512, Duration::from_millis(latency), 10);
        let bound = network.bound(&receivers);
        assert!(network.run(60.0, |it| it.finished(&receivers)));
        let name = format!("two nodes, {latency} ms");
        let (ratio, origin) = report(&name, &network, &receivers, bound);
        assert!(ratio <= limit, "{ratio}");
        assert!(origin <= 1.0, "{origin}");
    }
}

#[test]
fn one_chunk_goes_to_all() {
    let (mut network, receivers) = started(21, 1, LATENCY, 11);
    assert!(network.run(10.0, |it| it.finished(&receivers)));
    assert!(network.last(&receivers) < 0.5, "{}", network.last(&receivers));
}

#[test]
fn an_object_without_chunks_is_complete_at_once() {
    let mut network = Network::new(2, 0, LATENCY, 12);
    network.want(1);
    assert!(network.finished(&[1]));
}

#[test]
fn a_partition_heals() {
    let (mut network, receivers) = started(21, 512, LATENCY, 13);
    let bound = network.bound(&receivers);
    network.run(bound / 2.0, |_| false);
    network.split(|node| usize::from(node > 10), false);
    network.run(bound * 3.0, |_| false);
    let near: Vec<usize> = (1..=10).collect();
    assert!(network.finished(&near), "the origin's side finishes alone");
    assert!(!network.finished(&receivers));
    network.split(|_| 0, true);
    assert!(network.run(60.0, |it| it.finished(&receivers)));
    let after = network.last(&receivers) - bound * 3.0;
    println!("a partition heals: all have all {after:.2} s later");
    assert!(after < bound, "{after}");
}

#[test]
fn without_an_origin_a_whole_copy_spreads_by_asking_alone() {
    let mut network = Network::new(21, 512, LATENCY, 14);
    let receivers: Vec<usize> = (1..21).collect();
    network.want_with(0, Bitmap::full(512), false);
    receivers.iter().for_each(|&node| network.want(node));
    let bound = network.bound(&receivers);
    assert!(network.run(100.0, |it| it.finished(&receivers)));
    let (ratio, origin) = report("by asking alone", &network, &receivers, bound);
    assert!(ratio <= 1.8 && origin <= 1.8, "{ratio} {origin}");
}

#[test]
fn what_a_release_shares_with_the_last_one_does_not_travel() {
    let mut network = Network::new(11, 512, LATENCY, 15);
    network.seed(0);
    let receivers: Vec<usize> = (1..11).collect();
    let mut have = Bitmap::empty(512);
    (0..512).filter(|index| index % 20 != 3).for_each(|index| _ = have.insert(index));
    receivers.iter().for_each(|&node| network.want_with(node, have.clone(), false));
    assert!(network.run(10.0, |it| it.finished(&receivers)));
    let changed: u64 =
        (0..512).filter(|index| index % 20 == 3).map(|i| u64::from(network.chunks[i].len)).sum();
    let sent: u64 = network.nodes.iter().map(|node| node.sent).sum();
    assert!(sent as f64 <= 10.0 * 1.1 * changed as f64, "{sent} for {changed}");
    assert!(network.nodes[0].sent as f64 <= 1.2 * changed as f64);
}

#[test]
fn a_large_mesh_spares_the_links_between_zones() {
    let (nodes, zones) = (72, 3);
    let mut neighbours = crate::rng::Rng::new(1);
    let chosen: Vec<Vec<bool>> =
        (0..nodes).map(|_| (0..nodes).map(|_| neighbours.chance(1, 9)).collect()).collect();
    let linked = |a: usize, b: usize| {
        if a % zones == b % zones { !((a + b) / 3).is_multiple_of(3) } else { chosen[a][b] }
    };
    let mut network = Network::with_links(nodes, 96, LATENCY, 16, zones, linked);
    network.seed(0);
    let receivers: Vec<usize> = (1..nodes).collect();
    receivers.iter().for_each(|&node| network.want(node));
    let bound = network.bound(&receivers);
    assert!(network.run(100.0, |it| it.finished(&receivers)));
    report("72 nodes in 3 zones, 96 chunks", &network, &receivers, bound);
    let foreign: u64 = network.nodes.iter().map(|node| node.foreign_bytes).sum();
    let copies = foreign as f64 / network.bytes() as f64;
    println!("72 nodes in 3 zones: {copies:.2} F between zones, of 71 F in all");
    assert!(copies <= 10.0, "{copies}");
    assert!(network.last(&receivers) / bound <= 2.5);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let trace = |seed| {
        let (mut network, receivers) = started(8, 64, LATENCY, seed);
        assert!(network.run(60.0, |it| it.finished(&receivers)));
        network.trace.finalize()
    };
    assert_eq!(trace(17), trace(17));
    assert_ne!(trace(17), trace(18));
}
