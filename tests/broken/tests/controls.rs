//! Negative controls: with a mistake built in, the prober or the client goes red. Without it, what they
//! look at is green, under the same load.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::time::Duration;

use baton_tests::client::Client;
use baton_tests::haproxy;
use baton_tests::mesh::{Balancer, Mesh, Plan, wait};
use baton_tests::prober::{Prober, probe};
use baton_tests::trial::{Judged, Trial};
use baton_tests::watched::Watched;

/// Requests a second: enough that a service which goes without a drain has some.
const RATE: u32 = 200;

fn broken() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_baton-broken"))
}

/// A rollout of so many nodes under load; `None` where there is no HAProxy.
fn rollout(nodes: usize, cap: &str, mutant: Option<&str>) -> Option<Judged> {
    let program = haproxy::find()?;
    let plan = Plan { nodes, max_unavailable: cap, program: broken(), mutant, ..Plan::default() };
    let mut trial = Trial::start(&program, plan);
    Some(trial.under_load(RATE, 0, |mesh| mesh.deploy("v2")))
}

#[test]
fn a_load_without_a_rollout_and_one_with_it_fail_no_request() {
    let Some(program) = haproxy::find() else { return };
    let plan = Plan { nodes: 3, program: broken(), ..Plan::default() };
    let mut trial = Trial::start(&program, plan);
    let calm = trial.under_load(RATE, 0, |_| std::thread::sleep(Duration::from_secs(5)));
    calm.assert_held(0);
    trial.under_load(RATE, 0, |mesh| mesh.deploy("v2")).assert_held(1);
}

#[test]
fn a_cap_that_is_ignored_is_seen() {
    let Some(judged) = rollout(5, "1", Some("CapIgnored")) else { return };
    assert!(judged.seen.most_down > 1, "by the prober: {judged}");
    assert!(judged.second > 1, "by the second count: {judged}");
}

#[test]
fn a_drain_that_is_left_out_is_seen() {
    let Some(judged) = rollout(4, "1", Some("DrainLeftOut")) else { return };
    assert!(judged.served.failed > 0, "by the client: {judged}");
    assert!(judged.logged.failed > 0, "by HAProxy: {judged}");
}

/// Requests that fail in a rollout of two nodes behind a balancer which sends to a service again only long
/// after it is ready; `None` where there is no HAProxy.
fn failed_behind_a_slow_balancer(mutant: Option<&str>) -> Option<u64> {
    let program = haproxy::find()?;
    let balancer = Balancer::Read;
    let mesh =
        Mesh::start_as(Plan { nodes: 2, program: broken(), mutant, balancer, ..Plan::default() });
    mesh.deploy("v1");
    // One check that fails takes it out, and only very many bring it back.
    let slow = |text: String| text.replace("inter 1s fall 3 rise 2", "inter 50ms fall 1 rise 120");
    let balancer = Watched::start(&program, &mesh, slow);
    let client = Client::start(balancer.haproxy.front, 50);
    mesh.deploy_as("v2", "slow");
    Some(client.finish().failed)
}

#[test]
fn a_permit_that_closes_before_the_balancer_sees_its_node_is_seen() {
    let Some(failed) = failed_behind_a_slow_balancer(Some("UnseenByBalancer")) else { return };
    assert!(failed > 0);
    assert_eq!(failed_behind_a_slow_balancer(None), Some(0));
}

/// The most services down at once of twelve, two of which may be, when a holder dies in the middle of its
/// restart and is removed from the mesh: its permit must go on counting.
fn most_down_after_a_holder_is_removed(mutant: Option<&str>) -> usize {
    let plan =
        Plan { nodes: 12, max_unavailable: "2", program: broken(), mutant, ..Plan::default() };
    let mut mesh = Mesh::start_as(plan);
    mesh.deploy("v1");
    let (leader, prober) = (mesh.leader(), Prober::start(&mesh.ports()));
    let source = mesh.release("v2", "slow");
    mesh.cli(0, &["seed", &source, "--version", "v2"]).code(0);
    mesh.cli(leader, &["deploy", "v2", "-g", "web", "--no-wait"]).code(0);
    // A voter could not be removed.
    let free: Vec<_> = (1..12).filter(|at| !mesh.votes(*at)).collect();
    // By its permit, too, as one that is only slow to answer looks the same.
    let lost = wait("a holder's service is down", || {
        let permits = mesh.json(leader, "permits")?;
        let begun = permits.as_array()?.iter().filter(|permit| permit["begun"] == true);
        let holders: Vec<_> = begun.map(|permit| permit["node"].clone()).collect();
        let down = |at: &usize| {
            let node = &mesh.nodes[*at];
            probe(node.service_port).is_none() && holders.iter().any(|it| *it == *node.name)
        };
        free.iter().copied().find(down)
    });
    mesh.kill(lost);
    mesh.kill_service(lost);
    let name = mesh.nodes[lost].name.clone();
    mesh.cli(leader, &["nodes", "remove", &name]).code(0);
    // What is written into the log is the clock of the permit that expires.
    for seconds in 1..=12 {
        let healthy = format!("{seconds}00ms");
        mesh.cli(leader, &["group", "set", "web", "--min-healthy", &healthy]).code(0);
    }
    let behind = |mesh: &Mesh| {
        let ports = mesh.nodes.iter().map(|node| probe(node.service_port));
        ports.flatten().filter(|version| version != "v2").count()
    };
    wait("all others have it", || (behind(&mesh) == 0).then_some(()));
    std::thread::sleep(Duration::from_secs(1));
    prober.finish().most_down
}

#[test]
fn a_permit_that_expires_is_seen() {
    assert!(most_down_after_a_holder_is_removed(Some("PermitExpires")) > 2);
    assert_eq!(most_down_after_a_holder_is_removed(None), 2);
}
