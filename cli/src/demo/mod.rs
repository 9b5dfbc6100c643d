//! `baton demo`: the whole of baton on one machine, on real processes, and whether it keeps its word.

pub mod haproxy;
mod http;
mod load;
mod plan;
mod prober;
mod processes;
pub mod reaper;
pub mod service;
mod stage;
mod summary;
mod tally;
mod transfers;
mod tree;
mod view;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::output::Format;
use tokio::signal::unix::{SignalKind, signal};

/// Nodes that one machine is asked for at most: each is a process with a directory of its own.
const NODES_MAX: usize = 200;

/// Try baton on this machine: real nodes on loopback, a release, and a rollout under load
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The directory to release; without it a tree of 66 MiB and 1,000 files is made
    path: Option<PathBuf>,
    /// How many nodes
    #[arg(long, default_value_t = 20)]
    nodes: usize,
    /// How many services may be down at once: a count or a percentage
    #[arg(long, default_value = "10%")]
    max_unavailable: String,
    /// Leave all of it running, and say what to try next
    #[arg(long)]
    keep: bool,
    /// Make a version 2 that never gets ready: it is stopped and rolled back, and the exit code is 3
    #[arg(long)]
    bad: bool,
}

/// Runs the demo to its end, and cleans up. Its exit code is 0 only where all that is promised held;
/// 3 with `--bad`, where version 2 was rolled back as promised.
pub async fn run(args: Args, output: Format) -> ExitCode {
    let cap = match check(&args) {
        Ok(cap) => cap,
        Err(why) => {
            eprintln!("baton demo: {why}");
            return ExitCode::from(2);
        }
    };
    match run_or_be_stopped(&args, cap, output).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("baton demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check(args: &Args) -> Result<usize, String> {
    if !(2..=NODES_MAX).contains(&args.nodes) {
        return Err(format!("--nodes: from 2 to {NODES_MAX}"));
    }
    if let Some(path) = args.path.as_ref().filter(|path| !path.is_dir()) {
        return Err(format!("{} is no directory", path.display()));
    }
    plan::cap(&args.max_unavailable, args.nodes)
}

async fn run_or_be_stopped(args: &Args, cap: usize, output: Format) -> anyhow::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Whichever ends first: the other is dropped, and with it all processes and the directory.
    tokio::select! {
        ended = stage::play(args, cap, output) => ended,
        _ = interrupt.recv() => Ok(stopped(130)),
        _ = terminate.recv() => Ok(stopped(143)),
    }
}

fn stopped(code: u8) -> ExitCode {
    eprintln!("baton demo: stopped; everything was ended and removed");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(nodes: usize, max_unavailable: &str) -> Args {
        let max_unavailable = max_unavailable.to_owned();
        Args { path: None, nodes, max_unavailable, keep: false, bad: false }
    }

    #[test]
    fn what_cannot_be_is_refused_before_anything_starts() {
        assert_eq!(check(&args(20, "10%")), Ok(2));
        assert!(check(&args(1, "1")).is_err());
        assert!(check(&args(9, "10%")).is_err());
        assert!(check(&args(20, "10")).is_err());
        let missing = Args { path: Some("/nowhere/at/all".into()), ..args(2, "1") };
        assert!(check(&missing).is_err());
    }
}
