//! Orders of people while a rollout is under way: at every step of a node that holds a permit, and two
//! at once.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use baton_tests::mesh::{Mesh, wait};
use baton_tests::prober::{Prober, probe};

/// Starts a rollout of `version` and stops the last node at `step` of it.
fn stop_at(mesh: &mut Mesh, version: &str, step: &str) -> usize {
    let at = mesh.nodes.len() - 1;
    mesh.kill(at);
    mesh.up_until(at, step);
    mesh.settle();
    let source = mesh.release(version, "");
    mesh.cli(0, &["deploy", &source, "-g", "web", "--version", version, "--no-wait"]).code(0);
    wait(&format!("the holder is at {step}"), || mesh.is_frozen(at).then_some(()));
    at
}

fn wait_for_end(mesh: &Mesh, code: i32) {
    mesh.cli(0, &["rollout", "status", "-g", "web", "--wait", "--timeout", "60s"]).code(code);
}

fn no_permits(mesh: &Mesh) {
    wait("no permit is open", || {
        let permits = mesh.json(0, "permits")?;
        permits.as_array()?.is_empty().then_some(())
    });
}

fn order(mesh: &Mesh, word: &str) {
    mesh.cli(0, &["rollout", word, "-g", "web"]).code(0);
}

#[test]
fn pause_and_resume_at_any_step_end_in_the_new_version() {
    let mut mesh = Mesh::start(4, "1");
    mesh.deploy("v0");
    let prober = Prober::start(&mesh.ports());
    for (version, step) in [("v1", "Granted"), ("v2", "Stopped"), ("v3", "Proven")] {
        let at = stop_at(&mut mesh, version, step);
        order(&mesh, "pause");
        mesh.thaw(at);
        no_permits(&mesh);
        order(&mesh, "resume");
        wait_for_end(&mesh, 0);
        mesh.assert_version(version);
    }
    assert_eq!(prober.finish().most_down, 1);
}

#[test]
fn a_rollback_at_any_step_ends_in_the_old_version() {
    let mut mesh = Mesh::start(4, "1");
    mesh.deploy("v0");
    let prober = Prober::start(&mesh.ports());
    for (version, step) in [("v1", "Begun"), ("v2", "Drained"), ("v3", "Started")] {
        let at = stop_at(&mut mesh, version, step);
        mesh.cli(0, &["rollout", "rollback", "-g", "web", "--no-wait"]).code(0);
        mesh.thaw(at);
        wait_for_end(&mesh, 3);
        mesh.assert_version("v0");
    }
    assert_eq!(prober.finish().most_down, 1);
}

#[test]
fn an_abort_at_any_step_ends_what_has_begun_and_starts_nothing() {
    let mut mesh = Mesh::start(4, "1");
    mesh.deploy("v0");
    let prober = Prober::start(&mesh.ports());
    for (version, step, begun) in
        [("v1", "Granted", false), ("v2", "BegunRecorded", true), ("v3", "Ready", true)]
    {
        let at = stop_at(&mut mesh, version, step);
        let before: Vec<_> = mesh.ports().into_iter().take(at).map(probe).collect();
        let held = probe(mesh.nodes[at].service_port);
        order(&mesh, "abort");
        mesh.thaw(at);
        no_permits(&mesh);
        let after: Vec<_> = mesh.ports().into_iter().take(at).map(probe).collect();
        assert_eq!(after, before, "nobody else is touched after the abort");
        let now = probe(mesh.nodes[at].service_port);
        assert_eq!(now, if begun { Some(version.to_owned()) } else { held }, "at {step}");
    }
    assert_eq!(prober.finish().most_down, 1);
}

#[test]
fn of_two_deploys_at_once_one_is_refused() {
    let mesh = Mesh::start(4, "1");
    mesh.deploy("v1");
    for version in ["v2", "v3"] {
        mesh.cli(0, &["seed", &mesh.release(version, ""), "--version", version]).code(0);
    }
    let deploy = |at, version| mesh.command(at, &["deploy", version, "-g", "web", "--no-wait"]);
    let (mut one, mut other) = (deploy(0, "v2"), deploy(1, "v3"));
    let (mut one, mut other) = (one.spawn().unwrap(), other.spawn().unwrap());
    let codes = [one.wait().unwrap().code().unwrap(), other.wait().unwrap().code().unwrap()];
    let winner = match codes {
        [0, 5] => "v2",
        [5, 0] => "v3",
        _ => panic!("exit codes {codes:?}"),
    };
    wait_for_end(&mesh, 0);
    mesh.assert_version(winner);
}

#[test]
fn a_cap_that_falls_below_the_permits_that_are_out_takes_none_back_and_grants_none() {
    let mut mesh = Mesh::start(5, "2");
    mesh.deploy("v1");
    // The quorum goes on while these stand still.
    let holders: Vec<_> = (1..5).filter(|at| !mesh.votes(*at)).take(2).collect();
    for at in holders.clone() {
        mesh.kill(at);
        mesh.up_until(at, "Started");
    }
    mesh.settle();
    let source = mesh.release("v2", "");
    mesh.cli(0, &["deploy", &source, "-g", "web", "--version", "v2", "--no-wait"]).code(0);
    wait("both are at their step", || holders.iter().all(|at| mesh.is_frozen(*at)).then_some(()));
    mesh.cli(0, &["group", "set", "web", "--max-unavailable", "1"]).code(0);
    // From now on; before, two others may have been down at once.
    let mut others = mesh.ports();
    others.retain(|port| !holders.iter().any(|at| mesh.nodes[*at].service_port == *port));
    let prober = Prober::start(&others);
    let open = mesh.json(0, "permits").unwrap().as_array().unwrap().len();
    assert_eq!(open, 2, "nothing is taken back");
    for at in holders {
        mesh.thaw(at);
    }
    wait_for_end(&mesh, 0);
    mesh.assert_version("v2");
    assert!(prober.finish().most_down <= 1, "the others were restarted under the new cap");
}

#[test]
fn a_group_that_loses_a_member_and_gets_one_while_a_permit_is_out_ends_in_the_new_version() {
    let mut mesh = Mesh::start(5, "1");
    mesh.deploy("v0");
    let at = stop_at(&mut mesh, "v1", "Started");
    let prober = Prober::start(&mesh.ports());
    let leaves = (1..at).find(|at| !mesh.votes(*at)).unwrap();
    let name = mesh.nodes[leaves].name.clone();
    mesh.kill(leaves);
    mesh.cli(0, &["nodes", "remove", &name]).code(0);
    let comes = mesh.grow();
    wait("the group has the new one", || {
        let groups = mesh.json(0, "status")?["groups"].clone();
        let web = groups.as_array()?.iter().find(|it| it["name"] == "web")?.clone();
        (web["members"] == 5).then_some(())
    });
    mesh.thaw(at);
    wait_for_end(&mesh, 0);
    mesh.nodes.remove(leaves);
    wait("the new one serves", || probe(mesh.nodes[comes - 1].service_port));
    mesh.assert_version("v1");
    assert!(prober.finish().most_down <= 1);
}
