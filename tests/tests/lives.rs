//! Disks that are lost, or older than the mesh remembers.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use baton_tests::mesh::{Mesh, baton, wait};
use baton_tests::ports::free_port;
use baton_tests::prober::{Prober, probe};

fn wait_for_end(mesh: &Mesh) {
    mesh.cli(0, &["rollout", "status", "-g", "web", "--wait", "--timeout", "120s"]).code(0);
}

fn blocked(mesh: &Mesh) -> String {
    wait("it says what blocks it", || {
        let view = mesh.json(0, "rollout status -g web")?;
        view["reason"].as_str().filter(|_| view["phase"] == "blocked").map(str::to_owned)
    })
}

#[test]
fn a_node_on_a_restored_disk_gets_no_permit_and_is_named() {
    let mut mesh = Mesh::start(4, "1");
    mesh.deploy("v1");
    let at = 3;
    let state = mesh.data_dir(at).join("state.redb");
    let backup = mesh.dir().join("backup");
    mesh.kill(at);
    std::fs::copy(&state, &backup).unwrap();
    for _ in 0..2 {
        mesh.up(at);
        mesh.settle();
        // A node tells the log of its new life within a second.
        std::thread::sleep(Duration::from_secs(2));
        mesh.kill(at);
    }
    std::fs::copy(&backup, &state).unwrap();
    mesh.up(at);
    mesh.settle();
    let prober = Prober::start(&mesh.ports());
    let source = mesh.release("v2", "");
    mesh.cli(0, &["deploy", &source, "-g", "web", "--version", "v2", "--no-wait"]).code(0);
    let reason = blocked(&mesh);
    assert!(reason.contains("n4 is there twice, from a cloned or restored disk"), "{reason}");
    mesh.cli(0, &["nodes", "quarantine", "n4", "-g", "web"]).code(0);
    wait_for_end(&mesh);
    assert_eq!(probe(mesh.nodes[at].service_port).as_deref(), Some("v1"));
    assert!(prober.finish().most_down <= 1);
}

/// A daemon on a copy of a node's disk, as on another host: nothing of the node runs there.
fn clone_of(mesh: &Mesh, at: usize) -> Child {
    let (origin, copy) = (mesh.data_dir(at), mesh.dir().join("copy"));
    assert!(Command::new("cp").arg("-a").args([origin, &copy]).status().unwrap().success());
    std::fs::remove_dir_all(copy.join("run")).unwrap();
    let config = copy.join("baton.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let other = |line: &str| match line.split_once(" = ") {
        Some(("data_dir", _)) => format!("data_dir = {copy:?}"),
        Some(("listen", _)) => format!("listen = \"127.0.0.1:{}\"", free_port()),
        Some(("vars", _)) => format!("vars = {{ port = \"{}\" }}", free_port()),
        _ => line.to_owned(),
    };
    let lines: Vec<_> = text.lines().map(other).collect();
    std::fs::write(&config, lines.join("\n")).unwrap();
    let mut daemon = Command::new(baton());
    daemon.arg("node").arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::null());
    daemon.spawn().unwrap()
}

/// Both start from the same count of lives, and the others let them in in turns.
#[test]
fn a_clone_and_its_origin_get_no_permit_and_are_named() {
    let mut mesh = Mesh::start(4, "1");
    mesh.deploy("v1");
    let at = (1..4).find(|at| !mesh.votes(*at)).unwrap();
    let name = mesh.nodes[at].name.clone();
    mesh.kill(at);
    let mut clone = clone_of(&mesh, at);
    mesh.up(at);
    wait("the leader sees both", || {
        let status = mesh.json(mesh.leader(), "status")?;
        status["there_twice"].as_array()?.contains(&name.clone().into()).then_some(())
    });
    let prober = Prober::start(&mesh.ports());
    let source = mesh.release("v2", "");
    mesh.cli(0, &["deploy", &source, "-g", "web", "--version", "v2", "--no-wait"]).code(0);
    let reason = blocked(&mesh);
    let words = format!("{name} is there twice, from a cloned or restored disk");
    assert!(reason.contains(&words), "{reason}");
    assert_eq!(probe(mesh.nodes[at].service_port).as_deref(), Some("v1"), "it had no permit");
    clone.kill().unwrap();
    clone.wait().unwrap();
    mesh.kill(at);
    mesh.up(at);
    wait_for_end(&mesh);
    mesh.assert_version("v2");
    assert!(prober.finish().most_down <= 1);
}

/// The voters' names but for the first node's.
fn other_voters(mesh: &Mesh) -> Vec<usize> {
    let status = mesh.json(0, "status").unwrap();
    let votes = |at: &usize| {
        status["voters"].as_array().unwrap().contains(&mesh.nodes[*at].name.clone().into())
    };
    (1..mesh.nodes.len()).filter(votes).collect()
}

#[test]
fn the_disks_of_two_of_three_voters_are_lost_one_after_the_other_and_nothing_else_is() {
    let mut mesh = Mesh::start(4, "1");
    mesh.deploy("v1");
    let source = mesh.release("v2", "");
    mesh.cli(0, &["deploy", &source, "-g", "web", "--version", "v2", "--no-wait"]).code(0);
    let first_voters = other_voters(&mesh);
    assert_eq!(first_voters.len(), 2);
    for at in first_voters {
        let name = mesh.nodes[at].name.clone();
        mesh.kill(at);
        mesh.kill_service(at);
        mesh.wipe(at);
        wait("another one votes in its place", || {
            let voters = other_voters(&mesh);
            (voters.len() == 2 && !voters.contains(&at)).then_some(())
        });
        mesh.up(at);
        // A name is not an identity: the new node is let in when the old one is no member any more.
        let log = mesh.data_dir(at).join("log");
        wait("it is told that its name is taken", || {
            std::fs::read_to_string(&log)
                .ok()?
                .contains(&format!("another node is called {name}"))
                .then_some(())
        });
        mesh.cli(0, &["nodes", "remove", &name]).code(0);
        for permit in mesh.json(0, "permits").unwrap().as_array().unwrap() {
            if permit["node"] == name.as_str() {
                let id = permit["id"].as_str().unwrap();
                mesh.cli(
                    0,
                    &["rollout", "override", id, "--fenced", "--reason", "its disk is lost"],
                )
                .code(0);
            }
        }
        wait("it is a member", || (mesh.json(0, "status")?["members"] == 4).then_some(()));
    }
    wait_for_end(&mesh);
    mesh.settle();
    wait("all run v2", || {
        let runs = |port: &u16| probe(*port).as_deref() == Some("v2");
        mesh.ports().iter().all(runs).then_some(())
    });
}
