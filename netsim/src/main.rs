//! Runs seeds of the simulator.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use anyhow::{Context as _, bail};
use baton_netsim::{
    Failure, Item, Large, MUTANTS, Options, Story, Summary, Tally, hosts_for, run, scale, shrink,
};
use baton_protocol::mutant::Mutant;
use clap::{Parser, Subcommand, ValueEnum};

/// Thousands of nodes are millions of small pieces, which several threads take and give back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One mesh under a virtual clock; one seed decides everything.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// Hosts of the mesh: 20, or what shows a mistake best.
    #[arg(long, global = true)]
    hosts: Option<usize>,
    /// Nothing fails.
    #[arg(long, global = true)]
    calm: bool,
    /// Seeds that run at the same time, or threads of a large mesh; by default one on each processor.
    #[arg(long, global = true)]
    threads: Option<usize>,
    /// How the totals are printed.
    #[arg(short, long, global = true, default_value = "text")]
    output: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
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
        /// Items of its plan of faults to leave out, as `1.3,2.7`.
        #[arg(long, value_delimiter = ',')]
        without: Vec<Item>,
        /// The deliberate mistake to make, as `mutants` names it.
        #[arg(long, value_parser = mutant_named)]
        mutant: Option<Mutant>,
        /// Where a picture of it goes, as SVG.
        #[arg(long)]
        picture: Option<PathBuf>,
        /// Should it fail, leave out of its plan whatever it fails without as well.
        #[arg(long)]
        shrink: bool,
    },
    /// Run a large mesh on a calm day: spread 1 GiB, roll it out at 1 %, and measure both.
    Scale {
        /// How many; several are run one after the other.
        #[arg(long, value_delimiter = ',', default_value = "20,100,1000")]
        nodes: Vec<usize>,
        /// What it begins with.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Let things happen at any moment, share the links anew with each chunk, and tell of each as daemons
        /// do, instead of less often: slow.
        #[arg(long)]
        full: bool,
    },
    /// Run a scenario from a file, such as those in `netsim/scenarios/`.
    Run {
        /// Which.
        scenario: PathBuf,
        /// Its faults to leave out, as `0.1,0.3`.
        #[arg(long, value_delimiter = ',')]
        without: Vec<Item>,
        /// Where a picture of it goes, as SVG.
        #[arg(long)]
        picture: Option<PathBuf>,
    },
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let hosts = args.hosts.unwrap_or(Options::default().hosts);
    let options = Options { hosts, faults: !args.calm, ..Options::default() };
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.unwrap_or_else(processors);
    match args.command {
        Command::Explore { seeds, from, keep_going } => {
            explore(&options, from..from + seeds, threads, keep_going, args.output)
        }
        Command::Mutants { seeds } => mutants(&options, args.hosts, seeds, threads),
        Command::Replay { seed, quiet, without, mutant, picture, shrink: smaller } => {
            let without = BTreeSet::from_iter(without);
            let options = Options { without, mutant, picture: picture.is_some(), ..options };
            let loud = !quiet && !smaller;
            match show_run(seed, Options { loud, ..options.clone() }, picture.as_deref())? {
                Ok(summary) if quiet => println!("{}", summary.trace),
                Ok(summary) => print_total(&summary.tally),
                Err(failure) => {
                    if smaller {
                        show(&shrink(&failure));
                    }
                    bail!("seed {seed}: {}", failure.reason);
                }
            }
            Ok(())
        }
        Command::Scale { nodes, seed, full } => {
            let meshes = nodes.into_iter().map(|nodes| Large { nodes, seed, full, threads });
            measure(meshes, args.output)
        }
        Command::Run { scenario, without, picture } => {
            let story = Story::open(&scenario)
                .with_context(|| format!("{} cannot be read", scenario.display()))?;
            println!("{}", story.about);
            let (seed, options) = (story.seed, Options::of(story));
            let (without, picture_too) = (BTreeSet::from_iter(without), picture.is_some());
            let options = Options { loud: true, without, picture: picture_too, ..options };
            match show_run(seed, options, picture.as_deref())? {
                Ok(summary) => print_total(&summary.tally),
                Err(failure) => bail!("{}", failure.reason),
            }
            Ok(())
        }
    }
}

fn mutant_named(name: &str) -> Result<Mutant, String> {
    let named = |mutant: &&Mutant| format!("{mutant:?}").eq_ignore_ascii_case(name);
    let names = || MUTANTS.map(|mutant| format!("{mutant:?}")).join(", ");
    MUTANTS.iter().find(named).copied().ok_or_else(|| format!("it is one of {}", names()))
}

/// Runs one seed, and writes its picture, also that of a failure.
fn show_run(
    seed: u64,
    options: Options,
    picture: Option<&Path>,
) -> anyhow::Result<Result<Summary, Failure>> {
    let outcome = run(seed, &options);
    let drawn = match &outcome {
        Ok(summary) => &summary.picture,
        Err(failure) => &failure.picture,
    };
    if let Some((file, drawn)) = picture.zip(drawn.as_ref()) {
        std::fs::write(file, drawn)?;
    }
    Ok(outcome)
}

/// Works on seeds on all processors, each on one thread, and hands over what came of them as it comes;
/// `false` ends it.
fn each_seed<T: Send>(
    seeds: Range<u64>,
    threads: usize,
    work: impl Fn(u64) -> T + Sync,
    mut take: impl FnMut(u64, T) -> bool,
) {
    let next = AtomicU64::new(seeds.start);
    // Bounded, so that nobody works far ahead of what ends it.
    let (tell, told) = mpsc::sync_channel(threads);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (tell, next, work, end) = (tell.clone(), &next, &work, seeds.end);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || tell.send((seed, work(seed))).is_err() {
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
    options: &Options,
    seeds: Range<u64>,
    threads: usize,
    keep_going: bool,
    format: Format,
) -> anyhow::Result<()> {
    let begun = std::time::Instant::now();
    let mut failed: Vec<Failure> = Vec::new();
    let mut total = Tally::default();
    each_seed(
        seeds,
        threads,
        |seed| run(seed, options),
        |seed, outcome| {
            match outcome {
                Ok(it) => {
                    if format == Format::Text {
                        println!("{}", line(seed, &it));
                    }
                    total.add(&it.tally);
                }
                Err(failure) => {
                    eprintln!("{seed}: FAILED: {}", failure.reason);
                    failed.push(failure);
                }
            }
            keep_going || failed.is_empty()
        },
    );
    match format {
        Format::Text => {
            let took = begun.elapsed().as_secs_f64();
            println!("{took:.0} s, {:.2} seeds a second", total.seeds as f64 / took);
            print_total(&total);
        }
        Format::Json => println!("{}", serde_json::to_string_pretty(&total)?),
    }
    failed.sort_by_key(|failure| failure.seed);
    let Some(first) = failed.first() else { return Ok(()) };
    if !keep_going {
        show(&shrink(first));
    }
    let numbers: Vec<_> = failed.iter().map(|failure| failure.seed).collect();
    bail!(
        "{} of {} seeds broke a property: {numbers:?}",
        failed.len(),
        total.seeds + numbers.len() as u64
    )
}

fn line(seed: u64, it: &Summary) -> String {
    format!(
        "{seed}: ok, {:.0?} of virtual time, joined {:.1?}, first {:.1?}, later {:.1?}, {} faults, {} permits, {}",
        it.tally.time,
        it.joined,
        it.rollouts[0],
        it.rollouts[1],
        it.tally.faults.values().sum::<u64>(),
        it.tally.permits,
        in_words(&it.tally.rollouts),
    )
}

fn in_words<'a>(counts: impl IntoIterator<Item = (&'a &'static str, &'a u64)>) -> String {
    let words = counts.into_iter().map(|(kind, count)| format!("{count} {kind}"));
    words.collect::<Vec<_>>().join(", ")
}

fn print_total(total: &Tally) {
    println!(
        "{} seeds; {:.1} hours of virtual time, {} records in the traces, {} permits",
        total.seeds,
        total.time.as_secs_f64() / 3600.0,
        total.events,
        total.permits,
    );
    println!("rollouts that the log remembers: {}", in_words(&total.rollouts));
    println!("answers: {}", in_words(&total.answers));
    println!("faults, {} in all:", total.faults.values().sum::<u64>());
    for (kind, count) in &total.faults {
        println!("{count:>9} {kind}");
    }
    for (about, counts) in [
        ("in vain", &total.in_vain),
        ("not noticed", &total.unnoticed),
        ("traps sprung", &total.traps),
    ] {
        if !counts.is_empty() {
            println!("{about}: {}", in_words(counts));
        }
    }
}

fn mutants(
    options: &Options,
    hosts: Option<usize>,
    seeds: u64,
    threads: usize,
) -> anyhow::Result<()> {
    let mut missed = 0_u64;
    for mutant in MUTANTS {
        let hosts = hosts.unwrap_or(hosts_for(mutant));
        let options = Options { mutant: Some(mutant), hosts, ..options.clone() };
        let sound = Options { mutant: None, ..options.clone() };
        // A seed that fails without the mistake has caught something else.
        let catch = |seed| run(seed, &options).err().filter(|_| run(seed, &sound).is_ok());
        let mut caught: Vec<Failure> = Vec::new();
        each_seed(1..seeds + 1, threads, catch, |_, failure| {
            caught.extend(failure);
            caught.is_empty()
        });
        match caught.into_iter().min_by_key(|failure| failure.seed) {
            Some(failure) => {
                println!("{mutant:?}: caught by seed {}: {}", failure.seed, failure.reason);
                println!("  {}", failure.replay());
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

/// Measures one mesh after the other.
fn measure(meshes: impl Iterator<Item = Large>, format: Format) -> anyhow::Result<()> {
    if format == Format::Text {
        println!(
            "{:>6} {:>9} {:>7} {:>11} {:>4} {:>9} {:>9} {:>9} {:>10} {:>7} {:>5} {:>7}",
            "nodes",
            "spread s",
            "/bound",
            "frames/node",
            "cap",
            "rollout s",
            "/restarts",
            "leader/s",
            "leader B/s",
            "node/s",
            "down",
            "took s",
        );
    }
    for mesh in meshes {
        let (nodes, begun) = (mesh.nodes, std::time::Instant::now());
        let it = scale(mesh, &|line| eprintln!("{nodes} nodes: {line}"))
            .map_err(|reason| anyhow::anyhow!("{nodes} nodes: {reason}"))?;
        match format {
            Format::Json => println!("{}", serde_json::to_string(&it)?),
            Format::Text => println!(
                "{:>6} {:>9.1} {:>7.3} {:>11.0} {:>4} {:>9.1} {:>9.3} {:>9.0} {:>10.0} {:>7.1} {:>5} {:>7.0}",
                it.nodes,
                it.distribution_s,
                it.over_bound,
                it.frames_per_node,
                it.cap,
                it.rollout_s,
                it.over_restarts,
                it.leader_frames_per_s,
                it.leader_bytes_per_s,
                it.node_frames_per_s,
                it.most_down,
                begun.elapsed().as_secs_f64(),
            ),
        }
    }
    Ok(())
}

/// A failure for people: what, how to see it again, what it takes, and the last of what happened.
fn show(failure: &Failure) {
    println!("{}: FAILED: {}", failure.seed, failure.reason);
    println!("replay: {}", failure.replay());
    println!("its plan:");
    for (item, text) in &failure.plan {
        println!("{item:>5} {text}");
    }
    println!("the last of what happened:");
    for line in &failure.tail {
        println!("  {line}");
    }
}
