//! The demo, as somebody runs it who has just cloned the repository: what it promises holds by its
//! own prober, and nothing of it is left, however it ends.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::{Child, Command, Stdio};

use baton_tests::mesh::{Ended, baton, run, turn, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A directory for all that the demo makes. It starts from there too, and not from the repository.
fn place() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("bd-").tempdir_in("/tmp").unwrap()
}

fn demo(place: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(baton());
    command.arg("demo").args(words).current_dir(place).env("TMPDIR", place);
    command
}

fn summary(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"))
}

/// What is left of a demo: its directory, and processes that know of it.
fn left(place: &Path) -> Vec<String> {
    let files = std::fs::read_dir(place).unwrap().flatten().map(|it| it.path());
    let mut left: Vec<_> = files.map(|path| path.display().to_string()).collect();
    let place = place.to_str().unwrap();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let file = |name| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let words = [file("environ"), file("cmdline")].concat();
        let words = String::from_utf8_lossy(&words).into_owned();
        if words.contains(place) {
            left.push(format!("process {}: {words}", entry.file_name().display()));
        }
    }
    left
}

#[test]
fn twenty_nodes_are_upgraded_under_load_and_no_request_fails() {
    let (_turn, place) = (turn(), place());
    let ended = run(&mut demo(place.path(), &["--nodes", "20", "-o", "json"])).code(0);
    let seen = summary(&ended);
    let number = |name: &str| seen.pointer(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
    assert!((1.0..=2.0).contains(&number("/most_down")), "{seen:#}");
    assert_eq!(number("/requests_failed"), 0.0, "{seen:#}");
    assert!(number("/requests_a_second") >= 200.0, "{seen:#}");
    assert_eq!((number("/on_wanted"), &seen["wanted"]), (20.0, &"v2".into()), "{seen:#}");
    assert!(number("/first/sent_by_seed") <= 1.5 * number("/first/bytes"), "{seen:#}");
    let changed = number("/second/new_to_each_host");
    assert!(changed < number("/second/bytes") / 20.0, "{seen:#}");
    assert!(number("/second/sent_by_seed") <= 2.0 * changed, "{seen:#}");
    // CI installs it; without it the requests come from a stand-in.
    let haproxy = std::env::var_os("BATON_SKIPS_NOTHING").is_some();
    assert!(!haproxy || seen["balancer"] == "HAProxy", "{seen:#}");
    assert_eq!(left(place.path()), [""; 0]);
}

#[test]
fn a_version_that_never_gets_ready_is_stopped_within_the_cap_and_rolled_back() {
    let (_turn, place) = (turn(), place());
    let ended = run(&mut demo(place.path(), &["--bad", "-o", "json"])).code(3);
    let seen = summary(&ended);
    // The first to fail turns the rollout back, before or after the second one has gone down.
    assert!((1..=2).contains(&seen["most_down"].as_u64().unwrap()), "{seen:#}");
    assert_eq!(seen["requests_failed"], 0, "{seen:#}");
    assert_eq!((&seen["on_wanted"], &seen["wanted"]), (&20.into(), &"v1".into()), "{seen:#}");
    let reason = seen["rolled_back_because"].as_str().unwrap();
    assert!(reason.contains("broken on purpose") && reason.contains("baton logs"), "{reason}");
    assert_eq!(left(place.path()), [""; 0]);
}

/// A demo whose nodes serve version 1, so that there is something to leave behind.
fn under_way(place: &Path) -> Child {
    let mut command = demo(place, &["--nodes", "3", "--max-unavailable", "1"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let services = || left(place).iter().filter(|it| it.contains("demo-service")).count();
    wait("three services", || (services() >= 3).then_some(()));
    child.unwrap()
}

#[test]
fn nothing_is_left_of_a_demo_that_is_interrupted_or_killed() {
    let _turn = turn();
    for (signal, code) in [(Signal::INT, Some(130)), (Signal::KILL, None)] {
        let place = place();
        let mut child = under_way(place.path());
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), code);
        wait("nothing is left", || left(place.path()).is_empty().then_some(()));
    }
}
