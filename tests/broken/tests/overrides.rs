//! Permits whose holders do not come back, and holders that come back when it is too late.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use baton_tests::mesh::{Mesh, wait};
use baton_tests::prober::{Prober, probe};
use serde_json::Value;

/// A mesh of four that runs v1, whose last node will freeze at `failpoint`, and a rollout of v2 until
/// it has.
fn frozen_at(failpoint: &str, version: &str) -> (Mesh, usize) {
    let mut mesh = Mesh::start(4, "1");
    mesh.deploy("v1");
    let at = 3;
    mesh.kill(at);
    mesh.up_until(at, failpoint);
    mesh.settle();
    let source = mesh.release(version, "");
    mesh.cli(0, &["deploy", &source, "-g", "web", "--version", version, "--no-wait"]).code(0);
    wait("the holder is at its step", || mesh.is_frozen(at).then_some(()));
    (mesh, at)
}

/// Why the rollout is blocked, once `about` stands in the reason.
fn blocked(mesh: &Mesh, about: &str) -> String {
    wait("it says what blocks it", || {
        let view = mesh.json(0, "rollout status -g web")?;
        let reason = view["reason"].as_str().filter(|_| view["phase"] == "blocked")?;
        reason.contains(about).then(|| reason.to_owned())
    })
}

/// The arguments of the command that a reason names, up to the end of the reason.
fn named_command(reason: &str) -> Vec<&str> {
    let (_, command) = reason.rsplit_once("baton ").unwrap();
    command.split(' ').collect()
}

fn only_permit(mesh: &Mesh) -> Value {
    let permits = mesh.json(0, "permits").unwrap();
    let [permit] = permits.as_array().unwrap().as_slice() else { panic!("{permits}") };
    permit.clone()
}

#[test]
fn a_holder_that_never_comes_back_is_named_and_a_person_ends_its_permit() {
    let (mut mesh, at) = frozen_at("Stopped", "v2");
    mesh.kill(at);
    mesh.kill_service(at);
    let others: Vec<_> = mesh.ports().into_iter().take(at).collect();
    let prober = Prober::start(&others);
    let reason = blocked(&mesh, "holds permit");
    assert!(reason.starts_with("n4 holds permit"), "{reason}");
    let held = only_permit(&mesh);
    assert_eq!(held["node"], "n4", "{held}");

    let words = named_command(&reason);
    let unfenced: Vec<_> = words.iter().copied().filter(|word| *word != "--fenced").collect();
    let refused = mesh.cli(0, &unfenced);
    assert!(refused.code != 0 && refused.stderr.contains("fenced"), "{refused:?}");
    assert_eq!(only_permit(&mesh), held, "an override that states nothing closes nothing");
    mesh.cli(0, &words).code(0);
    assert_eq!(mesh.json(0, "permits").unwrap(), serde_json::json!([]));
    let audit = mesh.cli(0, &["audit"]).code(0).stdout;
    assert!(audit.contains("(fenced: true): WHY"), "{audit}");

    // The node is still missing, which is said too, and how to go on without it.
    let reason = blocked(&mesh, "quarantine").replace("NODE", "n4");
    mesh.cli(0, &named_command(&reason)).code(0);
    mesh.cli(0, &["rollout", "status", "-g", "web", "--wait", "--timeout", "60s"]).code(0);
    assert!(prober.finish().most_down <= 1);
}

#[test]
fn a_holder_that_is_removed_counts_until_somebody_says_that_it_is_fenced() {
    let mut mesh = Mesh::start(5, "1");
    mesh.deploy("v1");
    // A voter could not be removed.
    let at = (1..5).find(|at| !mesh.votes(*at)).unwrap();
    mesh.kill(at);
    mesh.up_until(at, "Stopped");
    mesh.settle();
    let source = mesh.release("v2", "");
    mesh.cli(0, &["deploy", &source, "-g", "web", "--version", "v2", "--no-wait"]).code(0);
    wait("the holder is at its step", || mesh.is_frozen(at).then_some(()));
    mesh.kill(at);
    mesh.kill_service(at);
    let mut others = mesh.ports();
    others.remove(at);
    let watched = Prober::start(&others);
    mesh.cli(0, &["nodes", "remove", &mesh.nodes[at].name]).code(0);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(watched.finish().ever_down, 0, "its permit is as good as before");
    let permit = only_permit(&mesh)["id"].as_str().unwrap().to_owned();
    let statement = ["--fenced", "--reason", "it is powered off"];
    let prober = Prober::start(&others);
    mesh.cli(0, &[&["rollout", "override", &permit][..], &statement].concat()).code(0);
    mesh.cli(0, &["rollout", "status", "-g", "web", "--wait", "--timeout", "60s"]).code(0);
    for port in &others {
        assert_eq!(probe(*port).as_deref(), Some("v2"));
    }
    assert!(prober.finish().most_down <= 1);
}

#[test]
fn a_node_that_comes_back_after_its_permit_was_overridden_starts_nothing() {
    for failpoint in ["Granted", "Begun"] {
        let (mesh, at) = frozen_at(failpoint, "v2");
        let prober = Prober::start(&mesh.ports()[at..]);
        let permit = only_permit(&mesh)["id"].as_str().unwrap().to_owned();
        let statement = ["--fenced", "--reason", "it is out of the balancer"];
        mesh.cli(0, &[&["rollout", "override", &permit][..], &statement].concat()).code(0);
        mesh.cli(0, &["rollout", "abort", "-g", "web"]).code(0);
        // Longer than a request to begin is good for.
        std::thread::sleep(Duration::from_secs(6));
        mesh.thaw(at);
        mesh.settle();
        std::thread::sleep(Duration::from_secs(4));
        assert_eq!(prober.finish().ever_down, 0, "{failpoint}");
        assert_eq!(probe(mesh.nodes[at].service_port).as_deref(), Some("v1"), "{failpoint}");
    }
}
