//! Daemons, shims and seeds that are killed between two steps of theirs: nothing is lost, the cap holds,
//! and what was begun ends. The prober is the judge.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use baton_tests::mesh::{Mesh, baton, wait};
use baton_tests::noise;
use baton_tests::prober::{Prober, probe};
use baton_tests::skip::skip;
use rustix::process::{Pid, Signal, kill_process_group};

/// The steps of a node that holds a permit, in their order, and then those of a release on its way.
const STEPS: [&str; 15] = [
    "Granted",
    "Begun",
    "BegunRecorded",
    "Draining",
    "Drained",
    "Stopped",
    "StartRecorded",
    "CurrentMoved",
    "Started",
    "Ready",
    "Proven",
    "Closed",
    "HalfFetched",
    "Synced",
    "Renamed",
];

/// Restarts the nodes after the first one so that each freezes at its own step of the rollout of the
/// version of that number, and does `harm` to each that has come there.
fn roll_out(
    mesh: &mut Mesh,
    number: usize,
    steps: &[&str],
    mut harm: impl FnMut(&mut Mesh, usize),
) {
    let mut left: Vec<_> = (1..).zip(steps).collect();
    for (at, step) in &left {
        mesh.kill(*at);
        mesh.up_until(*at, step);
    }
    mesh.settle();
    let version = format!("v{number}");
    let source = mesh.release(&version, "");
    // A MiB that the version before did not have.
    std::fs::write(format!("{source}/big"), noise(number << 20)).unwrap();
    mesh.cli(0, &["deploy", &source, "-g", "web", "--version", &version, "--no-wait"]).code(0);
    while !left.is_empty() {
        let place = wait(&format!("a daemon is at its step of {left:?}"), || {
            left.iter().position(|(at, _)| mesh.is_frozen(*at))
        });
        let (at, _) = left.remove(place);
        harm(mesh, at);
    }
    mesh.cli(0, &["rollout", "status", "-g", "web", "--wait", "--timeout", "60s"]).code(0);
    mesh.assert_version(&version);
}

#[test]
fn a_daemon_that_is_killed_at_any_step_goes_on_from_there() {
    let mut mesh = Mesh::start(4, "1");
    mesh.cli(0, &["group", "set", "web", "--min-healthy", "200ms"]).code(0);
    mesh.deploy("v0");
    let prober = Prober::start(&mesh.ports());
    for (number, steps) in (1..).zip(STEPS.chunks(3)) {
        roll_out(&mut mesh, number, steps, |mesh, at| {
            mesh.kill(at);
            mesh.up(at);
        });
    }
    let seen = prober.finish();
    assert_eq!((seen.most_down, seen.ever_down), (1, 4), "{seen:?}");
}

#[test]
fn a_shim_that_is_killed_at_any_step_is_replaced() {
    let mut mesh = Mesh::start(4, "1");
    mesh.cli(0, &["group", "set", "web", "--min-healthy", "200ms"]).code(0);
    mesh.deploy("v0");
    let prober = Prober::start(&mesh.ports());
    for (number, steps) in
        (1..).zip([["Drained", "Stopped", "Started"], ["Begun", "CurrentMoved", "Proven"]])
    {
        roll_out(&mut mesh, number, &steps, |mesh, at| {
            mesh.kill_shim(at);
            mesh.thaw(at);
        });
    }
    let seen = prober.finish();
    assert_eq!((seen.most_down, seen.ever_down), (1, 4), "{seen:?}");
}

#[test]
fn all_that_the_seed_sent_once_reaches_everybody_without_it() {
    let mut mesh = Mesh::start(4, "1");
    mesh.deploy("v1");
    mesh.kill(0);
    mesh.up_until(0, "SeededOnce");
    mesh.settle();
    let source = mesh.release("v2", "");
    std::fs::write(format!("{source}/big"), noise(40 << 20)).unwrap();
    let mut seeding = mesh.command(0, &["seed", &source, "--version", "v2"]).spawn().unwrap();
    wait("the seed has sent each chunk once", || mesh.is_frozen(0).then_some(()));
    let whole = |mesh: &Mesh, at| {
        let releases = mesh.json(at, "releases")?;
        let found = releases.as_array()?.iter().find(|it| it["version"] == "v2")?;
        (found["staged_here"] == true).then_some(())
    };
    let early = (1..4).filter(|at| whole(&mesh, *at).is_some()).count();
    mesh.kill(0);
    for at in 1..4 {
        wait("a receiver has all of it", || whole(&mesh, at));
    }
    seeding.wait().unwrap();
    eprintln!("{early} of 3 receivers had all of it when the seed was killed");
}

/// Starts one daemon of a mesh by `launcher`; then `kill` ends it and all that is taken for a part of it.
fn a_service_outlives(mut launcher: Command, kill: impl FnOnce(Pid)) {
    let mut mesh = Mesh::start(3, "1");
    mesh.deploy("v1");
    let at = 2;
    mesh.kill(at);
    mesh.kill_service(at);
    mesh.launch(at, &mut launcher);
    mesh.settle();
    wait("its service is back", || probe(mesh.nodes[at].service_port));
    let before = mesh.service_pid(at);
    let prober = Prober::start(&mesh.ports()[at..]);
    kill(mesh.daemon(at));
    mesh.kill(at);
    mesh.up(at);
    mesh.settle();
    assert_eq!(prober.finish().ever_down, 0, "no request was refused");
    assert_eq!(mesh.service_pid(at), before);
}

/// As a terminal or a plain service manager does it.
#[test]
fn a_service_outlives_the_whole_process_group_of_its_daemon() {
    let mut launcher = Command::new(baton());
    launcher.process_group(0);
    a_service_outlives(launcher, |daemon| kill_process_group(daemon, Signal::KILL).unwrap());
}

/// As systemd does it, and the kernel where memory has run out.
#[test]
fn a_service_outlives_the_whole_cgroup_of_its_daemon() {
    let Some(cgroup) = Cgroup::new() else { return };
    let mut launcher = Command::new("sh");
    launcher
        .args(["-c", "echo 0 > \"$0/cgroup.procs\" && exec \"$@\""])
        .arg(&cgroup.0)
        .arg(baton());
    a_service_outlives(launcher, |_| std::fs::write(cgroup.0.join("cgroup.kill"), "1").unwrap());
}

/// As an update of baton does: another program takes over, and the shim of the one before serves on.
#[test]
fn a_daemon_that_is_replaced_by_another_program_goes_on_with_the_old_shim() {
    let mut mesh = Mesh::start(3, "1");
    mesh.deploy("v1");
    let prober = Prober::start(&mesh.ports());
    let before: Vec<_> = (0..3).map(|at| mesh.service_pid(at)).collect();
    for at in 0..3 {
        mesh.kill(at);
        mesh.launch(at, &mut Command::new(env!("CARGO_BIN_EXE_baton-broken")));
        mesh.settle();
    }
    assert_eq!(prober.finish().ever_down, 0);
    assert_eq!((0..3).map(|at| mesh.service_pid(at)).collect::<Vec<_>>(), before);
    mesh.deploy("v2");
}

struct Cgroup(PathBuf);

impl Cgroup {
    /// One right below the root; where none can be made, that is said.
    fn new() -> Option<Self> {
        let mounts = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
        let mount = mounts.into_iter().find(|it| it.join("cgroup.procs").exists());
        let Some(mount) = mount else {
            skip("no cgroup2 is mounted");
            return None;
        };
        let dir = mount.join(format!("test-{}", std::process::id()));
        match std::fs::create_dir(&dir) {
            Ok(()) => Some(Self(dir)),
            Err(error) => {
                skip(&format!("no cgroup can be made: {error}"));
                None
            }
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}
