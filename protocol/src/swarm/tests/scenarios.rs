//! What a user would notice: how long it takes, what it costs, and that everybody finishes.

use core::time::Duration;

use super::super::*;
use super::network::{Kind, Network, RATE};

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
        assert!(ratio <= 9.15, "{ratio}");
        assert!(origin <= 9.1, "{origin}");
    }
}

#[test]
fn a_slow_one_does_not_hold_up_the_others() {
    let (mut network, receivers) = started(21, 512, LATENCY, 5);
    (network.nodes[7].up, network.nodes[7].down) = (RATE / 10.0, RATE / 10.0);
    let others: Vec<usize> = receivers.iter().copied().filter(|&node| node != 7).collect();
    let bound = network.bound(&others);
    assert!(network.run(400.0, |it| it.finished(&receivers)));
    let (ratio, _) = report("one at a tenth, the others", &network, &others, bound);
    assert!(ratio <= 3.3, "{ratio}");
    let (ratio, _) = report("one at a tenth, itself", &network, &[7], bound * 10.0);
    assert!(ratio <= 3.3, "{ratio}");
}

#[test]
#[ignore = "diagnosis"]
fn diagnose() {
    let (mut network, receivers) = started(21, 512, LATENCY, 1);
    let bound = network.bound(&receivers);
    for step in 1..28 {
        let t = bound * step as f64 * 0.05;
        network.run(t, |it| it.finished(&receivers));
        let have: Vec<u32> = receivers.iter().map(|&n| network.have(n)).collect();
        let mean = have.iter().sum::<u32>() as f64 / 20.0;
        let owed: Vec<usize> = receivers.iter().map(|&n| network.nodes[n].swarm.objects[&super::object()].views.values().map(|v| v.owed.iter().filter(|i| !v.have.contains(**i)).count()).sum()).collect();
        let unsent = network.nodes[0].sent as f64 / network.bytes() as f64;
        println!("{:.2}: origin {unsent:.3} mean {:.3} min {} max {} owed {owed:?}", t / bound, mean / 512.0, have.iter().min().unwrap(), have.iter().max().unwrap());
    }
}
