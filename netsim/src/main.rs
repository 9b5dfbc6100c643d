//! Runs seeds of the simulator.

use anyhow::bail;
use baton_netsim::{Failure, MUTANTS, Options, run};
use clap::{Parser, Subcommand};

/// One mesh under a virtual clock; one seed decides everything.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// Hosts of the mesh.
    #[arg(long, global = true, default_value_t = 20)]
    hosts: usize,
    /// Nothing fails.
    #[arg(long, global = true)]
    calm: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run many seeds, and stop at the first that breaks a property.
    Explore {
        /// How many.
        #[arg(long)]
        seeds: u64,
        /// The first.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Go on after a failure.
        #[arg(long)]
        keep_going: bool,
    },
    /// Make each deliberate mistake, and count the seeds until it is caught.
    Mutants {
        /// How many seeds at most.
        #[arg(long, default_value_t = 100)]
        seeds: u64,
    },
    /// Run one seed and print what happens.
    Replay {
        /// Which.
        seed: u64,
        /// Only the hash of what happened.
        #[arg(long)]
        quiet: bool,
    },
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let options = Options { hosts: args.hosts, faults: !args.calm, ..Options::default() };
    match args.command {
        Command::Explore { seeds, from, keep_going } => explore(options, from, seeds, keep_going),
        Command::Mutants { seeds } => mutants(options, seeds),
        Command::Replay { seed, quiet } => {
            let summary = run(seed, Options { loud: !quiet, ..options });
            match summary {
                Ok(summary) if quiet => println!("{}", summary.trace),
                Ok(summary) => println!("{summary:#?}"),
                Err(failure) => bail!("seed {seed}: {}", failure.reason),
            }
            Ok(())
        }
    }
}

fn explore(options: Options, from: u64, seeds: u64, keep_going: bool) -> anyhow::Result<()> {
    let mut failed = 0_u64;
    for seed in from..from + seeds {
        match run(seed, options) {
            Ok(it) => println!(
                "{seed}: ok, {} events, {:?} of virtual time, joined {:?}, v1 {:?}, v2 {:?}, {} permits, {}",
                it.events, it.time, it.joined, it.rollouts[0], it.rollouts[1], it.permits, it.end
            ),
            Err(failure) => {
                failed += 1;
                show(&failure, !keep_going);
                if !keep_going {
                    bail!("seed {seed} broke a property");
                }
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {seeds} seeds broke a property");
    }
    Ok(())
}

fn mutants(options: Options, seeds: u64) -> anyhow::Result<()> {
    let mut missed = 0_u64;
    for mutant in MUTANTS {
        let options = Options { mutant: Some(mutant), ..options };
        match (1..=seeds).find_map(|seed| run(seed, options).err()) {
            Some(failure) => {
                println!("{mutant:?}: caught by seed {}: {}", failure.seed, failure.reason);
            }
            None => {
                missed += 1;
                println!("{mutant:?}: NOT caught by {seeds} seeds");
            }
        }
    }
    if missed > 0 {
        bail!("{missed} mistakes were not caught");
    }
    Ok(())
}

fn show(failure: &Failure, tail: bool) {
    println!("{}: FAILED: {}", failure.seed, failure.reason);
    println!("replay: netsim replay {}", failure.seed);
    if tail {
        for line in &failure.tail {
            println!("  {line}");
        }
    }
}
