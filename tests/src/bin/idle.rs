//! `cargo run --release --bin idle`: what the daemons of an idle mesh cost: resident memory, and processor
//! time over a minute. It ends with 0 only where each stays under 40 MiB and 1 % of a core.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use baton_tests::mesh::{Mesh, Plan};
use baton_tests::upkeep::{Held, processor_time};
use clap::Parser;

const RESIDENT_KIB_MAX: u64 = 40 * 1024;
const CORE_SHARE_MAX: f64 = 0.01;

/// After the start and the first rollout, before anything is measured.
const SETTLE: Duration = Duration::from_secs(20);

/// What the daemons of an idle mesh cost.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many nodes.
    #[arg(long, default_value_t = 20)]
    nodes: usize,
    /// For how many seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let plan = Plan { nodes: arguments.nodes, max_unavailable: "2", ..Plan::default() };
    let mesh = Mesh::start_as(plan);
    mesh.deploy_as("v1", "calm");
    std::thread::sleep(SETTLE);
    let leader = mesh.leader();
    let pids: Vec<_> =
        (0..plan.nodes).map(|at| mesh.daemon(at).as_raw_nonzero().get().unsigned_abs()).collect();
    let used = || pids.iter().map(|pid| processor_time(*pid).unwrap()).collect::<Vec<_>>();
    let (begun, before) = (Instant::now(), used());
    std::thread::sleep(Duration::from_secs(arguments.seconds));
    let (after, lasted) = (used(), begun.elapsed());
    let mut good = true;
    for (at, pid) in pids.iter().enumerate() {
        let held = Held::by(*pid).unwrap();
        let share = (after[at] - before[at]).as_secs_f64() / lasted.as_secs_f64();
        let role = if at == leader { ", leads" } else { "" };
        println!(
            "{}: {:.1} MiB, {:.2} % of a core, {} descriptors{role}",
            mesh.nodes[at].name,
            held.resident_kib as f64 / 1024.0,
            share * 100.0,
            held.descriptors
        );
        good &= held.resident_kib < RESIDENT_KIB_MAX && share < CORE_SHARE_MAX;
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
