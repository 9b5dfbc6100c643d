//! The golden forms of what daemon and shim say to each other and of what a shim writes down: the daemon
//! is upgraded while a shim of an older version serves on.

use std::net::SocketAddr;
use std::time::Duration;

use baton_protocol::codec;
use baton_protocol::id::ReleaseId;
use serde::Serialize;

use super::identity::Identity;
use super::message::{
    Containment, Ended, Event, Exited, Refusal, Request, Response, Running, Start, State, Status,
};
use super::record::{Record, Started};

const GOLDEN: &str = include_str!("../../../golden/shim.txt");

fn line(name: &str, value: &impl Serialize) -> String {
    let form = data_encoding::HEXLOWER.encode(&codec::encode(value));
    format!("{name} {form}\n")
}

fn address() -> SocketAddr {
    ([127, 0, 0, 1], 8080).into()
}

fn release() -> ReleaseId {
    ReleaseId([7; 32])
}

fn start() -> Start {
    Start {
        release: release(),
        version: "v1".parse().unwrap(),
        group: "web".parse().unwrap(),
        tree: "/t".into(),
        command: vec!["./serve".to_owned(), "-v".to_owned()],
        env: [("PORT".to_owned(), "8080".to_owned())].into(),
        listen: vec![address()],
        listen_from: Some("/s".into()),
    }
}

fn identity() -> Identity {
    Identity { pid: 300, start_time: 70_000, boot_id: "b".to_owned() }
}

fn exited(ended: Ended) -> Box<Exited> {
    let (ran_for, last_lines) = (Duration::from_millis(1_500), vec!["bye".to_owned()]);
    Box::new(Exited {
        release: release(),
        pid: 300,
        run: 2,
        ended,
        asked: true,
        ran_for,
        last_lines,
    })
}

fn status(state: State, containment: Containment) -> Response {
    let shim_version = "0.1.0".to_owned();
    Response::Status(Box::new(Status { shim_pid: 299, shim_version, state, containment }))
}

fn requests() -> Vec<String> {
    vec![
        line("Start", &Request::Start(Box::new(start()))),
        line("Stop", &Request::Stop { signal: 15, grace: Duration::from_secs(10) }),
        line("Status", &Request::Status),
        line("Subscribe", &Request::Subscribe),
        line("Tail", &Request::Tail { lines: 50 }),
        line("Quit", &Request::Quit),
        line("Sockets", &Request::Sockets),
    ]
}

fn responses() -> Vec<String> {
    let version = "v1".parse().unwrap();
    let running_for = Duration::from_secs(9);
    let running =
        Running { release: release(), version, pid: 300, run: 2, running_for, adopted: true };
    let cgroup = || Containment::Cgroup("/c".into());
    let tree = Containment::ProcessTree { because: "none".to_owned() };
    let offered = vec![(address(), 5)];
    vec![
        line("Started", &Response::Started { pid: 300 }),
        line("Stopped", &Response::Stopped(Some(exited(Ended::Code(1))))),
        line("Stopped never ran", &Response::Stopped(None)),
        line("Idle", &status(State::Idle, tree)),
        line("Running", &status(State::Running(running.clone()), cgroup())),
        line("Ending", &status(State::Ending(running), cgroup())),
        line("Exited", &status(State::Exited(exited(Ended::Signal(9))), cgroup())),
        line("Lines", &Response::Lines(vec!["one".to_owned()])),
        line("Quitting", &Response::Quitting),
        line("Sockets", &Response::Sockets { shim: identity(), offered }),
        line("event Exited", &Event::Exited(exited(Ended::Unknown))),
    ]
}

fn refusals() -> Vec<String> {
    let (release, pid) = (release(), 300);
    let all = [
        Refusal::AlreadyRunning { release, pid },
        Refusal::StillEnding { release, pid },
        Refusal::Unkillable(2),
        Refusal::BadSignal(99),
        Refusal::Listen { address: address(), cause: "taken".to_owned() },
        Refusal::CannotStart("no".to_owned()),
        Refusal::CannotRead("no".to_owned()),
        Refusal::Busy,
        Refusal::Strays(2),
    ];
    all.into_iter().map(|it| line(&format!("Refused {}", it), &Response::Refused(it))).collect()
}

fn records() -> Vec<String> {
    let (at, containment) = (Duration::from_secs(9), Containment::Cgroup("/c".into()));
    let started = Started { start: start(), run: 2, identity: identity(), at, containment };
    vec![
        line("record Started", &Record::Started(Box::new(started))),
        line("record Exited", &Record::Exited(exited(Ended::Code(0)))),
    ]
}

#[test]
fn what_is_said_and_written_keeps_its_form() {
    let found = [requests(), responses(), refusals(), records()].concat().concat();
    assert!(
        found == GOLDEN,
        "the format has changed, and shims of another version run beside this daemon: add variants at \
         the end. If that is done, node/golden/shim.txt becomes:\n{found}"
    );
}
