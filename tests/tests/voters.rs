//! Voters that are slow, that hear and cannot speak, or whose clocks are wrong.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use baton_tests::mesh::{Mesh, Plan, baton, wait};
use baton_tests::namespace::Namespace;
use baton_tests::ports::free_port;
use baton_tests::prober::Prober;
use baton_tests::skip::skip;

/// A voter that does not lead.
fn follower(mesh: &Mesh) -> usize {
    let leader = mesh.leader();
    (1..mesh.nodes.len()).find(|at| *at != leader && mesh.votes(*at)).unwrap()
}

#[test]
fn a_slow_voter_holds_nothing_up() {
    let mesh = Mesh::start(4, "1");
    mesh.deploy("v1");
    let (slow, prober) = (follower(&mesh), Prober::start(&mesh.ports()));
    std::thread::scope(|scope| {
        let deploy = scope.spawn(|| mesh.deploy("v2"));
        while !deploy.is_finished() {
            mesh.freeze(slow);
            std::thread::sleep(Duration::from_millis(400));
            mesh.thaw(slow);
            std::thread::sleep(Duration::from_millis(100));
        }
        deploy.join().unwrap();
    });
    assert_eq!(prober.finish().most_down, 1);
}

/// A third voter in a namespace of its own, which serves nothing.
struct Witness(Child);

impl Witness {
    fn join(mesh: &Mesh, namespace: &Namespace) -> Self {
        let dir = mesh.dir().join("witness");
        std::fs::create_dir(&dir).unwrap();
        let founder = std::fs::read_to_string(mesh.data_dir(0).join("baton.toml")).unwrap();
        let listen = founder.lines().find_map(|line| line.strip_prefix("listen = ")).unwrap();
        let token = mesh.cli(0, &["token", "--address", listen.trim_matches('"')]).code(0).stdout;
        let text = format!(
            "data_dir = \"{}\"\nname = \"w\"\nlisten = \"{}:{}\"\nagent_check = \"off\"\n\
             witness = true\ntoken = \"{}\"\n",
            dir.display(),
            namespace.inside,
            free_port(),
            token.trim(),
        );
        std::fs::write(dir.join("baton.toml"), text).unwrap();
        let mut daemon = namespace.command(baton());
        daemon.args(["node", "--config"]).arg(dir.join("baton.toml"));
        daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let witness = Self(daemon.spawn().unwrap());
        wait("the witness votes", || {
            let status = mesh.json(0, "status")?;
            (status["voters"].as_array()?.len() == 3).then_some(())
        });
        witness
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_voter_that_hears_and_cannot_speak_holds_nothing_up_and_is_a_voter_again_when_it_can() {
    let Some(namespace) = Namespace::new() else { return };
    let mut mesh =
        Mesh::start_as(Plan { nodes: 2, address: &namespace.outside, ..Plan::default() });
    mesh.deploy("v1");
    let _witness = Witness::join(&mesh, &namespace);
    namespace.mute();
    let prober = Prober::start(&mesh.ports());
    mesh.deploy("v2");
    assert_eq!(prober.finish().most_down, 1);
    namespace.unmute();
    // With it, the other two are a majority.
    mesh.kill(1);
    let set = ["group", "set", "web", "--min-healthy", "2s"];
    wait("the witness votes again", || (mesh.cli(0, &set).code == 0).then_some(()));
}

/// What makes a program's clock another one; `None`, said aloud, where it is not installed.
fn libfaketime() -> Option<PathBuf> {
    let places = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let found = places
        .map(|place| place.path().join("faketime/libfaketime.so.1"))
        .find(|library| library.is_file());
    if found.is_none() {
        skip("no libfaketime is installed");
    }
    found
}

/// Their clocks jump while the daemons run, in the middle of a rollout.
#[test]
fn clocks_that_jump_a_day_back_or_a_year_ahead_change_nothing() {
    let Some(library) = libfaketime() else { return };
    let mut mesh = Mesh::start(4, "1");
    mesh.deploy("v1");
    let clock = |mesh: &Mesh, at| mesh.data_dir(at).with_extension("clock");
    let set = |mesh: &Mesh, at, offset: &str| std::fs::write(clock(mesh, at), offset).unwrap();
    for at in 0..4 {
        set(&mesh, at, "+0");
        mesh.kill(at);
        let mut daemon = Command::new(baton());
        daemon
            .env("LD_PRELOAD", &library)
            .env("FAKETIME_TIMESTAMP_FILE", clock(&mesh, at))
            .envs([("FAKETIME_NO_CACHE", "1"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")]);
        mesh.launch(at, &mut daemon);
    }
    mesh.settle();
    let prober = Prober::start(&mesh.ports());
    let (leader, other) = (mesh.leader(), follower(&mesh));
    for (version, at, offset) in
        [("v2", leader, "+365d"), ("v3", other, "-1d"), ("v4", leader, "-1d")]
    {
        let source = mesh.release(version, "");
        let deploy = ["deploy", &source, "-g", "web", "--version", version, "--no-wait"];
        mesh.cli(0, &deploy).code(0);
        mesh.holder(0);
        set(&mesh, at, offset);
        mesh.cli(0, &["rollout", "status", "-g", "web", "--wait", "--timeout", "60s"]).code(0);
        mesh.assert_version(version);
    }
    assert_eq!(prober.finish().most_down, 1);
}
