//! What runs on every change: some seeds with faults, the deliberate mistakes, and that a seed does
//! the same in another process.

use std::process::Command;

use baton_netsim::{MUTANTS, Options, run};
use baton_protocol::mutant::Mutant;

/// Seeds with faults that must hold. A debug build is some ten times slower.
const SEEDS: u64 = if cfg!(debug_assertions) { 4 } else { 40 };

fn hold(seeds: impl Iterator<Item = u64>) {
    for seed in seeds {
        if let Err(failure) = run(seed, Options::default()) {
            panic!("{}\nreplay: netsim replay {seed}\n{}", failure.reason, failure.tail.join("\n"));
        }
    }
}

#[test]
fn every_property_holds_under_faults_even_seeds() {
    hold((1..=SEEDS).filter(|seed| seed % 2 == 0));
}

#[test]
fn every_property_holds_under_faults_odd_seeds() {
    hold((1..=SEEDS).filter(|seed| seed % 2 == 1));
}

/// Seeds that failed once. 1: a life was told of before its number was on disk, and a founder that
/// crashed at once left a mesh that nobody could found. 121 to 282 and 425: a member proved ready on a
/// release that was to be installed no more, and so began to count while it replaced it without a
/// permit. 6: a failed node did not try again when a person resumed. 206: a snapshot that could not be
/// had was never asked for again, and the full log took nothing more. Any change may give a seed
/// another run; each of these mistakes has a test of its own in `protocol` too, but for seed 1's.
#[test]
fn seeds_that_failed_once_hold() {
    let all = [1, 6, 121, 194, 206, 276, 282, 425];
    hold(all.into_iter().take(if cfg!(debug_assertions) { 2 } else { all.len() }));
}

/// 20 nodes at 10 % take ten rounds: a permit that is free is granted at once, and no node restarts
/// twice.
#[test]
fn a_calm_rollout_takes_the_restarts_that_it_must() {
    let options = Options { faults: false, ..Options::default() };
    let summary = run(1, options).unwrap();
    assert_eq!(summary.permits, 20);
    assert_eq!(summary.end, "Done");
    // Ten rounds of a drain, a start of up to 4 s and 10 s of min_healthy.
    assert!(summary.rollouts[1].as_secs() <= 10 * 18, "{:?}", summary.rollouts);
}

/// How many seeds each mistake may take until it is caught.
fn seeds_to_catch(mutant: Mutant) -> u64 {
    match mutant {
        Mutant::BeginWithoutEcho
        | Mutant::CapIgnored
        | Mutant::SkippedSync
        | Mutant::StepBeforePersist
        | Mutant::OldIncarnation => 2,
        Mutant::SilenceIsConsent | Mutant::CapOverLiveOnly => 10,
        Mutant::PermitExpires => 20,
        Mutant::VoterIdReused | Mutant::RemovedForgotten => 40,
        Mutant::BeginWithoutEvidence => 80,
        // Not in MUTANTS. No requests run here that a drain left out could fail; and that a permit closes
        // unseen by the balancer is not caught in as many seeds as can be run on every change.
        Mutant::DrainLeftOut | Mutant::UnseenByBalancer => 0,
    }
}

#[test]
fn every_deliberate_mistake_is_caught() {
    for mutant in MUTANTS {
        let seeds = seeds_to_catch(mutant);
        if cfg!(debug_assertions) && seeds > 2 {
            continue; // too slow without optimisation
        }
        let options = Options { mutant: Some(mutant), ..Options::default() };
        // A seed that fails without the mistake has caught something else.
        let sound = |seed| run(seed, Options::default()).is_ok();
        let caught = (1..=seeds).any(|seed| run(seed, options).is_err() && sound(seed));
        assert!(caught, "{mutant:?} is not caught within {seeds} seeds");
    }
}

#[test]
fn a_seed_does_the_same_in_another_process() {
    let here = run(7, Options::default()).unwrap().trace;
    let there = Command::new(env!("CARGO_BIN_EXE_netsim"))
        .args(["replay", "7", "--quiet"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(there.stdout).unwrap().trim(), here);
    let other = run(8, Options::default()).unwrap().trace;
    assert_ne!(other, here, "another seed is another run");
}
