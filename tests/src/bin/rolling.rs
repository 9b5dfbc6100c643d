//! `cargo run --release --bin rolling`: rolling rollouts of a mesh behind HAProxy, under load. It ends
//! with 0 only where no request failed and the cap held.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::ExitCode;

use baton_tests::haproxy;
use baton_tests::mesh::Plan;
use baton_tests::trial::Trial;
use clap::Parser;

/// Rolling rollouts behind HAProxy, under load.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many rollouts, one after the other.
    #[arg(long, default_value_t = 1)]
    times: usize,
    /// How many nodes.
    #[arg(long, default_value_t = 20)]
    nodes: usize,
    /// How many services may be down at once.
    #[arg(long, default_value_t = 2)]
    cap: usize,
    /// Requests a second.
    #[arg(long, default_value_t = 400)]
    rate: u32,
    /// Requests of each rollout, at least.
    #[arg(long, default_value_t = 20_000)]
    requests: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(program) = haproxy::find() else { return ExitCode::FAILURE };
    let cap = arguments.cap.to_string();
    let plan = Plan { nodes: arguments.nodes, max_unavailable: &cap, ..Plan::default() };
    let mut trial = Trial::start(&program, plan);
    println!(
        "{} nodes behind HAProxy, cap {cap}, {} requests a second",
        plan.nodes, arguments.rate
    );
    let mut broken = 0;
    for time in 1..=arguments.times {
        let version = format!("v{}", time + 1);
        let judged =
            trial.under_load(arguments.rate, arguments.requests, |mesh| mesh.deploy(&version));
        println!("{time}: {judged}");
        let found = judged.broken(arguments.cap);
        found.iter().for_each(|found| println!("NOT HELD: {found}"));
        broken += usize::from(!found.is_empty());
    }
    println!("{} of {} rollouts held", arguments.times - broken, arguments.times);
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
