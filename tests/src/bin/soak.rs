//! `cargo run --release --bin soak -- --rollouts 200`: rollouts with a random kill each, under load. It
//! ends with 0 only where all of it held.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::ExitCode;

use baton_tests::haproxy;
use baton_tests::mischief::Deed;
use baton_tests::soak::{Settings, run};
use clap::{Parser, ValueEnum};

/// Rollouts with a random kill each, under load.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many rollouts.
    #[arg(long, default_value_t = 200)]
    rollouts: usize,
    /// What decides all that is drawn; without it the time does.
    #[arg(long)]
    seed: Option<u64>,
    /// How many nodes.
    #[arg(long, default_value_t = 5)]
    nodes: usize,
    /// How many services may be down at once.
    #[arg(long, default_value_t = 2)]
    cap: usize,
    /// Requests a second.
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// What to do in each of them, instead of what is drawn.
    #[arg(long, value_enum)]
    deed: Option<Deed>,
    /// In which form to print the summary.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(program) = haproxy::find() else { return ExitCode::FAILURE };
    let seed = arguments.seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_secs()
    });
    eprintln!("seed {seed}, {} nodes, cap {}", arguments.nodes, arguments.cap);
    let settings = Settings {
        haproxy: &program,
        rollouts: arguments.rollouts,
        nodes: arguments.nodes,
        cap: arguments.cap,
        per_second: arguments.rate,
        seed,
        deed: arguments.deed,
    };
    let summary = run(settings, |line| eprintln!("{line}"));
    match arguments.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&summary).unwrap()),
        Output::Text => println!("{summary:#?}"),
    }
    if summary.held() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
