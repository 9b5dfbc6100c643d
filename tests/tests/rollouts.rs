//! Rollouts on real processes, judged by a prober that knows only ports.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use baton_tests::mesh::{Mesh, wait};
use baton_tests::prober::{Prober, pid, probe};
use baton_tests::processes::Part;
use baton_tests::upkeep::Held;

#[test]
fn an_upgrade_takes_down_one_at_a_time_and_reaches_all() {
    let mesh = Mesh::start(5, "1");
    mesh.deploy("v1");
    let prober = Prober::start(&mesh.ports());
    mesh.deploy("v2");
    let seen = prober.finish();
    assert_eq!(seen.most_down, 1, "{seen:?}");
    assert_eq!(seen.ever_down, 5, "each was restarted once: {seen:?}");
}

#[test]
fn a_release_that_never_gets_ready_is_rolled_back() {
    let mesh = Mesh::start(4, "1");
    mesh.deploy("v1");
    let prober = Prober::start(&mesh.ports());
    let source = mesh.release("v2", "unready");
    let ended = mesh.cli(0, &["deploy", &source, "-g", "web", "--version", "v2"]).code(3);
    assert!(ended.stdout.contains("no database"), "the service's own words: {}", ended.stdout);
    let seen = prober.finish();
    assert_eq!(seen.most_down, 1, "{seen:?}");
    mesh.assert_version("v1");
}

#[test]
fn a_release_that_crashes_says_its_last_lines() {
    let mesh = Mesh::start(3, "1");
    mesh.deploy("v1");
    let source = mesh.release("v2", "crash");
    let ended = mesh.cli(0, &["deploy", &source, "-g", "web", "--version", "v2"]).code(3);
    assert!(ended.stdout.contains("KeyError: DB_URL"), "{}", ended.stdout);
    mesh.assert_version("v1");
}

#[test]
fn a_release_that_leaks_descriptors_is_rolled_back_and_takes_none_of_its_shim() {
    let mesh = Mesh::start(3, "1");
    mesh.deploy("v1");
    let shims = |mesh: &Mesh| -> Vec<u64> {
        let all = (0..3).flat_map(|at| mesh.processes(at));
        let shims = all.filter(|process| process.part == Part::Shim);
        shims.map(|shim| Held::by(shim.pid).unwrap().descriptors).collect()
    };
    let before = shims(&mesh);
    let source = mesh.release("v2", "leak");
    mesh.cli(0, &["deploy", &source, "-g", "web", "--version", "v2"]).code(3);
    mesh.assert_version("v1");
    let after = shims(&mesh);
    assert!(after.iter().zip(&before).all(|(after, before)| *after <= before + 5), "{after:?}");
}

#[test]
fn the_coordinator_is_killed_and_another_one_goes_on() {
    let mut mesh = Mesh::start(4, "1");
    mesh.deploy("v1");
    let leader = mesh.leader();
    let other = (leader + 1) % 4;
    let source = mesh.release("v2", "");
    mesh.cli(0, &["seed", &source, "--version", "v2"]).code(0);
    let prober = Prober::start(&mesh.ports());
    mesh.cli(other, &["deploy", "v2", "-g", "web", "--no-wait"]).code(0);
    mesh.holder(other);
    mesh.kill(leader);
    std::thread::sleep(Duration::from_secs(3));
    mesh.up(leader);
    mesh.cli(other, &["rollout", "status", "-g", "web", "--wait", "--timeout", "60s"]).code(0);
    let seen = prober.finish();
    assert_eq!(seen.most_down, 1, "{seen:?}");
    mesh.assert_version("v2");
}

#[test]
fn a_holder_that_is_killed_keeps_its_permit_and_goes_on() {
    let mut mesh = Mesh::start(4, "1");
    mesh.deploy_as("v1", "drained");
    let leader = mesh.leader();
    let source = mesh.release("v2", "");
    mesh.cli(0, &["seed", &source, "--version", "v2"]).code(0);
    let prober = Prober::start(&mesh.ports());
    // Connections that stay open keep a service from being stopped; the leader's turn passes, as its
    // death is another test.
    let mut ports = mesh.ports();
    ports.remove(leader);
    let connect = |port: &u16| TcpStream::connect(("127.0.0.1", *port)).unwrap();
    let open: Vec<_> = ports.iter().map(connect).collect();
    mesh.cli(leader, &["deploy", "v2", "-g", "web", "--no-wait"]).code(0);
    let holder = wait("a holder that does not lead", || {
        Some(mesh.holder(leader)).filter(|holder| *holder != leader)
    });
    let name = mesh.nodes[holder].name.clone();
    wait("it drains", || {
        let permits = mesh.json(leader, "permits")?;
        (permits[0]["begun"] == true).then_some(())
    });
    let ports = mesh.ports();
    let pids = || ports.iter().map(|port| wait("its pid", || pid(*port))).collect::<Vec<_>>();
    let before = pids();
    mesh.kill(holder);
    std::thread::sleep(Duration::from_secs(6));
    let permits = mesh.json(leader, "permits").unwrap();
    let holders: Vec<_> = permits.as_array().unwrap().iter().map(|it| &it["node"]).collect();
    assert_eq!(holders, [&name], "its permit is open, and with a cap of 1 nobody else has one");
    assert_eq!(pids(), before, "nobody's service was due to stop, not even the holder's");
    mesh.up(holder);
    drop(open);
    mesh.cli(leader, &["rollout", "status", "-g", "web", "--wait", "--timeout", "60s"]).code(0);
    let seen = prober.finish();
    assert_eq!(seen.most_down, 1, "{seen:?}");
    mesh.assert_version("v2");
}

#[test]
fn a_server_that_is_down_already_counts() {
    let mut mesh = Mesh::start(4, "1");
    mesh.deploy("v1");
    let leader = mesh.leader();
    // Neither who leads nor who signs.
    let dead = (1..4).find(|at| *at != leader).unwrap();
    mesh.kill(dead);
    mesh.kill_service(dead);
    assert_eq!(probe(mesh.nodes[dead].service_port), None);
    // Its last word may still be fresh.
    std::thread::sleep(Duration::from_secs(4));
    let source = mesh.release("v2", "");
    let mut others = mesh.ports();
    others.remove(dead);
    let prober = Prober::start(&others);
    mesh.cli(0, &["seed", &source, "--version", "v2"]).code(0);
    mesh.cli(leader, &["deploy", "v2", "-g", "web", "--no-wait"]).code(0);
    let reason = wait("it says what blocks it", || {
        let view = mesh.json(leader, "rollout status -g web")?;
        view["reason"].as_str().filter(|_| view["phase"] == "blocked").map(str::to_owned)
    });
    assert!(reason.contains(&format!("{} is silent", mesh.nodes[dead].name)), "{reason}");
    let seen = prober.finish();
    assert_eq!(seen.most_down, 0, "the cap of 1 was used up: {seen:?}");
}

#[test]
fn without_a_quorum_nothing_is_granted_and_chunks_still_spread() {
    let mut mesh = Mesh::start(4, "1");
    mesh.deploy("v1");
    let status = mesh.json(0, "status").unwrap();
    let voters: Vec<_> = status["voters"].as_array().unwrap().clone();
    let lost: Vec<_> =
        (1..4).filter(|at| voters.contains(&mesh.nodes[*at].name.clone().into())).collect();
    for at in &lost[..2] {
        mesh.kill(*at);
    }
    let living = (1..4).find(|at| !lost[..2].contains(at)).unwrap();
    let prober = Prober::start(&mesh.ports());
    let source = mesh.release("v2", "");
    let deploying = mesh
        .command(0, &["deploy", &source, "-g", "web", "--version", "v2"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait("the release reaches the other living node", || {
        let releases = mesh.json(living, "releases")?;
        let found = releases.as_array()?.iter().find(|it| it["version"] == "v2")?;
        (found["staged_here"] == true).then_some(())
    });
    let ended = deploying.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(6), "{words}");
    assert!(words.contains("quorum"), "{words}");
    let seen = prober.finish();
    assert_eq!(seen.most_down, 0, "{seen:?}");
    mesh.assert_version("v1");
}

#[test]
fn who_waits_is_told_that_the_quorum_is_lost() {
    let mut mesh = Mesh::start(3, "1");
    mesh.deploy("v1");
    let source = mesh.release("v2", "");
    mesh.cli(0, &["deploy", &source, "-g", "web", "--version", "v2", "--no-wait"]).code(0);
    mesh.kill(1);
    mesh.kill(2);
    let waited = mesh.cli(0, &["rollout", "status", "-g", "web", "--wait"]).code(6);
    assert!(waited.stderr.contains("no quorum"), "{}", waited.stderr);
    mesh.up(1);
    mesh.up(2);
    mesh.cli(0, &["rollout", "status", "-g", "web", "--wait"]).code(0);
    mesh.assert_version("v2");
}

#[test]
fn a_node_finds_the_mesh_again_when_its_bootstrap_address_is_gone() {
    let mut mesh = Mesh::start(4, "1");
    // Every node was let in by the first one, and knows no other address but that one's.
    std::thread::sleep(Duration::from_secs(1));
    mesh.kill(0);
    mesh.kill(3);
    mesh.up(3);
    wait("the last one meets the others", || {
        let status = mesh.json(3, "status")?;
        (status["connected"] == 3 && status["leader"].is_string()).then_some(())
    });
}
