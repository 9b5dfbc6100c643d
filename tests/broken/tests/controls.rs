//! Negative controls: with a mistake built in, the prober or the client goes red. Without it, what they
//! look at is green, under the same load.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::time::Duration;

use baton_tests::haproxy;
use baton_tests::mesh::Plan;
use baton_tests::trial::{Judged, Trial};

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
