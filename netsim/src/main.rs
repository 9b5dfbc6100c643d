//! Runs seeds of the simulator.

use core::time::Duration;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use anyhow::bail;
use baton_netsim::{Failure, MUTANTS, Options, Summary, run};
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
    /// Seeds that run at the same time; by default one on each processor.
    #[arg(long, global = true)]
    threads: Option<usize>,
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
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.unwrap_or_else(processors);
    match args.command {
        Command::Explore { seeds, from, keep_going } => {
            explore(options, from, seeds, threads, keep_going)
        }
        Command::Mutants { seeds } => mutants(options, seeds, threads),
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

/// Runs seeds on all processors, each on one thread, and hands their outcomes over as they come;
/// `false` ends it.
fn each_seed(
    options: Options,
    seeds: Range<u64>,
    threads: usize,
    mut take: impl FnMut(u64, Result<Summary, Failure>) -> bool,
) {
    let next = AtomicU64::new(seeds.start);
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (tell, next, end) = (tell.clone(), &next, seeds.end);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || tell.send((seed, run(seed, options))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(tell);
        for (seed, outcome) in told {
            if !take(seed, outcome) {
                // Those below it have begun already, and are waited for: the first to fail counts.
                next.store(seeds.end, Ordering::Relaxed);
            }
        }
    });
}

fn explore(
    options: Options,
    from: u64,
    seeds: u64,
    threads: usize,
    keep_going: bool,
) -> anyhow::Result<()> {
    let begun = std::time::Instant::now();
    let (mut ran, mut failed, mut permits) = (0_u64, Vec::new(), 0);
    let mut virtually = Duration::ZERO;
    each_seed(options, from..from + seeds, threads, |seed, outcome| {
        ran += 1;
        match outcome {
            Ok(it) => {
                virtually += it.time;
                permits += it.permits;
                println!(
                    "{seed}: ok, {} events, {:?} of virtual time, joined {:?}, v1 {:?}, v2 {:?}, {} permits, {}",
                    it.events,
                    it.time,
                    it.joined,
                    it.rollouts[0],
                    it.rollouts[1],
                    it.permits,
                    it.end
                );
            }
            Err(failure) => {
                failed.push(seed);
                show(&failure, !keep_going);
            }
        }
        keep_going || failed.is_empty()
    });
    let took = begun.elapsed();
    println!(
        "{ran} seeds in {took:.1?}, {:.2} a second; {:.1} hours of virtual time, {permits} permits",
        ran as f64 / took.as_secs_f64(),
        virtually.as_secs_f64() / 3600.0,
    );
    if !failed.is_empty() {
        failed.sort_unstable();
        bail!("{} of {ran} seeds broke a property: {failed:?}", failed.len());
    }
    Ok(())
}

fn mutants(options: Options, seeds: u64, threads: usize) -> anyhow::Result<()> {
    let mut missed = 0_u64;
    for mutant in MUTANTS {
        let options = Options { mutant: Some(mutant), ..options };
        let mut caught: Vec<Failure> = Vec::new();
        each_seed(options, 1..seeds + 1, threads, |seed, outcome| {
            // A seed that fails without the mistake has caught something else.
            let sound = || run(seed, Options { mutant: None, ..options }).is_ok();
            caught.extend(outcome.err().filter(|_| sound()));
            caught.is_empty()
        });
        match caught.into_iter().min_by_key(|failure| failure.seed) {
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
