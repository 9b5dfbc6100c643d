//! Rollouts behind a real HAProxy, under load, judged by client, balancer and prober. Twenty nodes and
//! 20,000 requests, five times: `cargo run --release --bin rolling -- --times 5`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use baton_tests::haproxy;
use baton_tests::mesh::Plan;
use baton_tests::soak;
use baton_tests::trial::Trial;

#[test]
fn no_request_fails_through_a_rolling_rollout() {
    let Some(program) = haproxy::find() else { return };
    let plan = Plan { nodes: 8, max_unavailable: "2", ..Plan::default() };
    let mut trial = Trial::start(&program, plan);
    let judged = trial.under_load(100, 2_000, |mesh| {
        mesh.deploy("v2");
        mesh.assert_version("v2");
    });
    judged.assert_held(2);
}

#[test]
fn a_short_soak_holds() {
    let Some(haproxy) = haproxy::find() else { return };
    let haproxy = haproxy.as_path();
    let settings = soak::Settings {
        haproxy,
        rollouts: 3,
        nodes: 4,
        cap: 1,
        per_second: 30,
        seed: 4,
        deed: None,
    };
    let summary = soak::run(settings, |line| eprintln!("{line}"));
    assert!(summary.held() && summary.rollouts == 3, "{summary:#?}");
}
