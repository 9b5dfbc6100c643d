//! Machines in trouble: a full or read-only disk, no descriptors left, a long sleep, a second daemon, a
//! socket that is gone. A clear reason, nothing lost, and on it goes when it can.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use baton_tests::mesh::{Mesh, baton, run, wait};
use baton_tests::noise;
use baton_tests::prober::{Prober, probe};
use baton_tests::skip::skip;

/// Something mounted on a directory, until this value goes.
struct Mount(PathBuf);

impl Mount {
    /// A file system of its own for a directory, with all that was in it; `None` where this user may
    /// not mount.
    fn small(dir: &Path, size: &str) -> Option<Self> {
        let saved = dir.with_extension("saved");
        run(Command::new("cp").arg("-a").arg(dir).arg(&saved)).code(0);
        let small = Self::new(dir, &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])?;
        run(Command::new("cp").arg("-a").arg(saved.join(".")).arg(dir)).code(0);
        Some(small)
    }

    /// The directory as it is, but for that nothing in it can be opened to be written.
    fn read_only(dir: &Path) -> Option<Self> {
        let bound = Self::new(dir, &["--bind", dir.to_str().unwrap()])?;
        bound.change("bind,ro");
        Some(bound)
    }

    fn new(dir: &Path, how: &[&str]) -> Option<Self> {
        let mounted = run(Command::new("mount").args(how).arg(dir));
        if mounted.code != 0 {
            skip(&format!("this user may not mount: {}", mounted.stderr.trim()));
        }
        (mounted.code == 0).then(|| Self(dir.to_owned()))
    }

    fn change(&self, options: &str) {
        let options = format!("remount,{options}");
        run(Command::new("mount").args(["-o", &options]).arg(&self.0)).code(0);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily, as services of the node may still run from it.
        run(Command::new("umount").arg("-l").arg(&self.0));
    }
}

fn wait_for_end(mesh: &Mesh) {
    mesh.cli(0, &["rollout", "status", "-g", "web", "--wait", "--timeout", "90s"]).code(0);
}

#[test]
fn a_node_whose_disk_is_full_says_so_and_goes_on_when_there_is_room() {
    let mut mesh = Mesh::start(3, "1");
    mesh.deploy("v1");
    let at = 2;
    mesh.kill(at);
    mesh.kill_service(at);
    let Some(small) = Mount::small(mesh.data_dir(at), "16m") else { return };
    mesh.up(at);
    mesh.settle();
    wait("its service is back", || probe(mesh.nodes[at].service_port));
    let source = mesh.release("v2", "");
    std::fs::write(format!("{source}/big"), noise(24 << 20)).unwrap();
    mesh.cli(0, &["deploy", &source, "-g", "web", "--version", "v2", "--no-wait"]).code(0);
    let log = mesh.data_dir(at).join("log");
    wait("it says that there is no room", || {
        let log = std::fs::read_to_string(&log).ok()?;
        log.contains("are free").then_some(())
    });
    assert_eq!(probe(mesh.nodes[at].service_port).as_deref(), Some("v1"));
    small.change("size=128m");
    wait_for_end(&mesh);
    mesh.assert_version("v2");
}

#[test]
fn a_daemon_on_a_read_only_disk_says_so_and_its_service_serves_on() {
    let mut mesh = Mesh::start(3, "1");
    mesh.deploy("v1");
    let prober = Prober::start(&mesh.ports());
    mesh.kill(2);
    let Some(read_only) = Mount::read_only(mesh.data_dir(2)) else { return };
    let refused = mesh.foreground(2).code(1);
    assert!(refused.stderr.contains("Read-only file system"), "{}", refused.stderr);
    drop(read_only);
    mesh.up(2);
    mesh.settle();
    assert_eq!(prober.finish().most_down, 0);
    mesh.deploy("v2");
}

#[test]
fn a_second_daemon_on_the_same_directory_is_refused_and_the_first_goes_on() {
    let mesh = Mesh::start(3, "1");
    let second = mesh.foreground(1).code(1);
    assert!(second.stderr.contains("another"), "{}", second.stderr);
    mesh.deploy("v1");
}

#[test]
fn a_daemon_whose_socket_is_gone_is_told_of_and_a_restart_brings_it_back() {
    let mut mesh = Mesh::start(3, "1");
    mesh.deploy("v1");
    std::fs::remove_file(mesh.data_dir(1).join("baton.sock")).unwrap();
    let refused = mesh.cli(1, &["status"]).code(1);
    assert!(refused.stderr.contains("baton.sock"), "{}", refused.stderr);
    let prober = Prober::start(&mesh.ports());
    mesh.kill(1);
    mesh.up(1);
    mesh.settle();
    assert_eq!(prober.finish().most_down, 0);
    mesh.deploy("v2");
}

/// Longer than evidence, requests to begin, elections and pings last.
const SLEEP: Duration = Duration::from_secs(20);

#[test]
fn a_mesh_that_slept_in_the_middle_of_a_rollout_goes_on() {
    let mesh = Mesh::start(4, "1");
    mesh.deploy("v1");
    let source = mesh.release("v2", "");
    mesh.cli(0, &["deploy", &source, "-g", "web", "--version", "v2", "--no-wait"]).code(0);
    mesh.holder(0);
    for at in 0..4 {
        mesh.freeze(at);
    }
    std::thread::sleep(SLEEP);
    let prober = Prober::start(&mesh.ports());
    for at in 0..4 {
        mesh.thaw(at);
    }
    wait_for_end(&mesh);
    mesh.assert_version("v2");
    assert!(prober.finish().most_down <= 1);
}

#[test]
fn a_daemon_without_descriptors_left_takes_no_service_along() {
    let mut mesh = Mesh::start(3, "1");
    mesh.deploy("v1");
    let prober = Prober::start(&mesh.ports());
    mesh.kill(2);
    let mut few = Command::new("prlimit");
    few.arg("--nofile=40").arg(baton());
    mesh.launch(2, &mut few);
    std::thread::sleep(Duration::from_secs(3));
    mesh.kill(2);
    mesh.up(2);
    mesh.settle();
    assert_eq!(prober.finish().most_down, 0);
    mesh.deploy("v2");
}
