//! What a rollout costs beside the restarts that it must take: `cargo bench -p baton-tests --bench
//! rollout`. It judges nothing.
//!
//! A restart lasts from the moment at which the leader has the permit until it has it no more. It is
//! timed alone, in the first stage of a rollout, which is one of the twenty; and then in a rollout of all
//! of them in one stage, two at a time, which would at best take as long as ten of those.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use baton_tests::api;
use baton_tests::mesh::{Mesh, Plan, service, wait};
use baton_tests::ports::free_port;
use baton_tests::prober::probe;
use rustix::process::{Pid, Signal, kill_process};

const NODES: u32 = 20;
const CAP: u32 = 2;

/// Restarts that are timed alone; the median counts.
const ALONE: usize = 3;

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(2);

/// One permit, by the leader's word.
#[derive(Clone, Copy)]
struct Restart {
    granted: Instant,
    begun: Option<Instant>,
    closed: Instant,
}

/// Watches the permits of a rollout from the first until there have been none for a while.
fn watch(mesh: &Mesh, leader: usize, until: usize) -> Vec<Restart> {
    let socket = mesh.data_dir(leader).join("baton.sock");
    let mut seen: BTreeMap<String, Restart> = BTreeMap::new();
    let mut closed = 0;
    let deadline = Instant::now() + Duration::from_secs(300);
    while closed < until {
        assert!(Instant::now() < deadline, "{closed} of {until} restarts");
        let Some(permits) = api::get(&socket, "/v1/permits") else { continue };
        let now = Instant::now();
        let open: BTreeMap<String, bool> = permits
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (it["id"].as_str().unwrap().to_owned(), it["begun"] == true))
            .collect();
        for (id, has_begun) in &open {
            let new = Restart { granted: now, begun: None, closed: now };
            let restart = seen.entry(id.clone()).or_insert(new);
            restart.closed = now;
            restart.begun = restart.begun.or(has_begun.then_some(now));
        }
        closed = seen.len() - open.len();
        std::thread::sleep(LOOK);
    }
    seen.into_values().collect()
}

fn deploy(mesh: &Mesh, version: &str) {
    let source = mesh.release(version, "");
    mesh.cli(0, &["seed", &source, "--version", version]).code(0);
    for at in 0..mesh.nodes.len() {
        let socket = mesh.data_dir(at).join("baton.sock");
        wait("it is staged everywhere", || {
            let releases = api::get(&socket, "/v1/releases")?;
            let found = releases.as_array()?.iter().find(|it| it["version"] == version)?;
            (found["staged_here"] == true).then_some(())
        });
    }
    mesh.cli(0, &["deploy", version, "-g", "web", "--no-wait"]).code(0);
}

fn alone(mesh: &Mesh, version: &str) -> Duration {
    mesh.cli(0, &["group", "set", "web", "--stages", "5,100", "--soak", "5s"]).code(0);
    let leader = mesh.leader();
    deploy(mesh, version);
    let restarts = watch(mesh, leader, 1);
    mesh.cli(0, &["rollout", "promote", "-g", "web"]).code(0);
    mesh.cli(0, &["rollout", "status", "-g", "web", "--wait"]).code(0);
    restarts[0].closed - restarts[0].granted
}

fn all(mesh: &Mesh, version: &str) -> Vec<Restart> {
    mesh.cli(0, &["group", "set", "web", "--stages", "100"]).code(0);
    let leader = mesh.leader();
    deploy(mesh, version);
    watch(mesh, leader, NODES as usize)
}

/// Stops the service and starts it, with nothing around it.
fn bare(mesh: &Mesh) -> Duration {
    let port = free_port();
    let release = mesh.release("bare", "");
    let start = || {
        let mut command = Command::new(service());
        command.arg(port.to_string()).current_dir(&release).stdin(Stdio::null());
        let child = command.spawn().unwrap();
        wait("it answers", || probe(port));
        child
    };
    let mut child = start();
    let begun = Instant::now();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    child.wait().unwrap();
    child = start();
    let took = begun.elapsed();
    child.kill().unwrap();
    child.wait().unwrap();
    took
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// From each grant to the last close before it: what a place under the cap was left empty for.
fn gaps(restarts: &[Restart]) -> Vec<Duration> {
    let mut closes: Vec<_> = restarts.iter().map(|it| it.closed).collect();
    let mut grants: Vec<_> = restarts.iter().map(|it| it.granted).collect();
    closes.sort_unstable();
    grants.sort_unstable();
    grants.iter().skip(CAP as usize).zip(closes).map(|(grant, close)| *grant - close).collect()
}

fn main() {
    let cap = CAP.to_string();
    let plan = Plan { nodes: NODES as usize, max_unavailable: &cap, ..Plan::default() };
    let mesh = Mesh::start_as(plan);
    mesh.deploy("v1");
    let singles: Vec<_> = (0..ALONE).map(|n| alone(&mesh, &format!("alone{n}"))).collect();
    let restarts = all(&mesh, "all");
    let first = restarts.iter().map(|it| it.granted).min().unwrap();
    let last = restarts.iter().map(|it| it.closed).max().unwrap();
    let (rollout, single) = (last - first, median(singles.clone()));
    let best = single * NODES.div_ceil(CAP);
    let within = restarts.iter().map(|it| it.closed - it.granted).collect();
    let slowest = restarts.iter().max_by_key(|it| it.closed - it.granted).unwrap();
    let gaps = gaps(&restarts);
    let longest = gaps.iter().max().copied().unwrap_or_default();
    let begins = restarts.iter().filter_map(|it| Some(it.begun? - it.granted)).collect();
    println!("{NODES} nodes, {CAP} at a time, min_healthy {}", plan.min_healthy);
    println!("bare stop and start of the service   {:?}", bare(&mesh));
    println!("a restart alone, median of {ALONE}         {single:?} ({singles:?})");
    println!("a restart in the rollout, median     {:?}", median(within));
    println!(
        "  the slowest                        {:?}, begun after {:?}",
        slowest.closed - slowest.granted,
        slowest.begun.map(|begun| begun - slowest.granted)
    );
    println!("  from grant to begin, median        {:?}", median(begins));
    println!("from a close to the next grant       {:?}, longest {longest:?}", median(gaps));
    println!("the rollout                          {rollout:?}");
    println!(
        "over {} restarts alone               {:.3}",
        NODES.div_ceil(CAP),
        rollout.as_secs_f64() / best.as_secs_f64()
    );
}
