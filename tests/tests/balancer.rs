//! Permits and a real HAProxy, configured by `baton lb haproxy`, with one try for each request.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use baton_tests::client::Client;
use baton_tests::haproxy;
use baton_tests::mesh::{Balancer, Mesh, Plan, wait};
use baton_tests::prober::{Prober, probe};
use baton_tests::watched::Watched;

/// A mesh on its first version, and HAProxy in front of it.
fn mesh_behind(count: usize, cap: &str, change: fn(String) -> String) -> Option<(Mesh, Watched)> {
    let program = haproxy::find()?;
    let plan =
        Plan { nodes: count, max_unavailable: cap, balancer: Balancer::Read, ..Plan::default() };
    let mesh = Mesh::start_as(plan);
    mesh.deploy("v1");
    let balancer = Watched::start(&program, &mesh, change);
    Some((mesh, balancer))
}

fn roll_out(mesh: &Mesh, version: &str) {
    let source = mesh.release(version, "");
    mesh.cli(0, &["deploy", &source, "-g", "web", "--version", version, "--no-wait"]).code(0);
}

fn wait_for_the_end(mesh: &Mesh) {
    let waits = ["rollout", "status", "-g", "web", "--wait", "--timeout", "120s"];
    // Blocked is an end to the waiting, too.
    wait("the rollout ends", || (mesh.cli(0, &waits).code == 0).then_some(()));
}

fn blocked(mesh: &Mesh) -> String {
    wait("it says what blocks it", || {
        let view = mesh.json(0, "rollout status -g web")?;
        view["reason"].as_str().filter(|_| view["phase"] == "blocked").map(str::to_owned)
    })
}

#[test]
fn no_request_fails_through_a_rollout_without_any_delay_configured() {
    let Some((mesh, balancer)) = mesh_behind(3, "1", |text| text) else { return };
    let client = Client::start(balancer.haproxy.front, 100);
    let source = mesh.release("v2", "");
    std::thread::sleep(Duration::from_secs(1));
    mesh.cli(0, &["deploy", &source, "-g", "web", "--version", "v2"]).code(0);
    std::thread::sleep(Duration::from_secs(1));
    let served = client.finish();
    assert!(served.requests > 300, "{served:?} is no load");
    assert_eq!(served.failed, 0, "{served:?}");
    mesh.assert_version("v2");
}

#[test]
fn a_permit_closes_only_when_the_balancer_is_seen_to_send_again() {
    // HAProxy hears of the service's return long after it has been ready for `min_healthy`.
    let slow = |text: String| text.replace("agent-inter 1s", "agent-inter 5s");
    let Some((mesh, balancer)) = mesh_behind(2, "1", slow) else { return };
    roll_out(&mesh, "v2");
    let mut waited = Duration::ZERO;
    for _ in 0..2 {
        let holder = mesh.nodes[mesh.holder(0)].name.clone();
        let port = mesh.nodes.iter().find(|node| node.name == holder).unwrap().service_port;
        wait("it runs the new version", || (probe(port)? == "v2").then_some(()));
        let ready = Instant::now();
        wait("its permit closes", || {
            let permits = mesh.json(0, "permits")?;
            let held = permits.as_array()?.iter().any(|it| it["node"] == *holder);
            (!held).then_some(())
        });
        assert_eq!(balancer.haproxy.state(&holder), "UP 100", "{holder}");
        waited = waited.max(ready.elapsed());
    }
    assert!(
        waited > Duration::from_secs(2),
        "min_healthy is 1 s, and no permit waited: {waited:?}"
    );
    wait_for_the_end(&mesh);
}

#[test]
fn a_server_in_maintenance_counts_as_down_and_stays_there() {
    let Some((mesh, balancer)) = mesh_behind(5, "2", |text| text) else { return };
    balancer.haproxy.ask("set server web/n2 state maint");
    let prober = Prober::start(&mesh.ports());
    roll_out(&mesh, "v2");
    let reason = blocked(&mesh);
    assert!(reason.contains("lb's balancer has n2 in MAINT"), "{reason}");
    assert_eq!(balancer.haproxy.state("n2").split(' ').next(), Some("MAINT"));
    let seen = prober.finish();
    assert!(seen.most_down <= 2 && seen.ever_down >= 4, "2 may be down, and n2 is: {seen:?}");
    balancer.haproxy.ask("set server web/n2 state ready");
    wait_for_the_end(&mesh);
    mesh.assert_version("v2");
}

#[test]
fn without_the_node_beside_the_balancer_no_permit_closes() {
    let Some((mesh, mut balancer)) = mesh_behind(3, "1", |text| text) else { return };
    roll_out(&mesh, "v2");
    let holder = wait("a permit that has begun", || {
        let permits = mesh.json(0, "permits")?;
        let begun = permits.as_array()?.iter().find(|it| it["begun"] == true)?;
        begun["node"].as_str().map(str::to_owned)
    });
    balancer.kill_witness();
    let reason = blocked(&mesh);
    assert!(reason.contains("lb, which watches the balancer of web, is silent"), "{reason}");
    let permits = mesh.json(0, "permits").unwrap();
    let holders: Vec<_> = permits.as_array().unwrap().iter().map(|it| &it["node"]).collect();
    assert_eq!(holders, [&holder]);
    balancer.up();
    wait_for_the_end(&mesh);
    mesh.assert_version("v2");
}

#[test]
fn the_configuration_is_compared_and_applied_in_its_place_alone() {
    let Some((mesh, balancer)) = mesh_behind(2, "1", |text| text) else { return };
    let file = balancer.haproxy.config.to_str().unwrap();
    let before = std::fs::read_to_string(file).unwrap();
    assert!(before.contains("option httpchk GET /ready"), "as the release says: {before}");
    let same = mesh.cli(0, &["lb", "haproxy", "-g", "web", "--diff", file]).code(0);
    assert_eq!(same.stdout.trim(), "");
    let other = ["lb", "haproxy", "-g", "web", "--httpchk", "/health", "--diff", file];
    let other = mesh.cli(0, &other).code(0).stdout;
    assert!(other.contains("-    option httpchk GET /ready"), "{other}");
    assert!(other.contains("+    option httpchk GET /health"), "{other}");
    let apply = |path: &str, reload: &str| {
        let words = ["lb", "haproxy", "-g", "web", "--httpchk", path, "--reload", reload];
        balancer.cli(&[&words[..], &["--apply", file]].concat())
    };
    let bad = apply("/a \"b", "true").code(2);
    assert!(bad.stderr.contains("HAProxy refuses it"), "{}", bad.stderr);
    assert_eq!(std::fs::read_to_string(file).unwrap(), before, "nothing was changed");
    apply("/health", "true").code(0);
    let after = std::fs::read_to_string(file).unwrap();
    assert_eq!(after, before.replace("GET /ready", "GET /health"));
    let failed = apply("/ready", "false").code(1);
    assert!(failed.stderr.contains("not loaded"), "{}", failed.stderr);
}
