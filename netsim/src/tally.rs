//! What a run was put through, and what came of it, in numbers.

use core::time::Duration;
use std::collections::BTreeMap;

use serde::Serialize;

/// Counts of one run, or of many together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Runs.
    pub seeds: u64,
    /// What the trace records: frames, wakes, steps of the log and what is said of them.
    pub events: u64,
    /// Virtual time.
    #[serde(rename = "virtual_hours", serialize_with = "as_hours")]
    pub time: Duration,
    /// Permits that were granted.
    pub permits: u64,
    /// Rollouts that the log remembers in the end, by how they ended.
    pub rollouts: BTreeMap<&'static str, u64>,
    /// Faults and orders that somebody felt, by their kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Those that nobody did: whom they were meant for was down or gone, say.
    pub in_vain: BTreeMap<&'static str, u64>,
    /// What ought to be noticed, and is not yet, by its kind.
    pub unnoticed: BTreeMap<&'static str, u64>,
    /// Traps that were sprung, by the moment that they waited for.
    pub traps: BTreeMap<&'static str, u64>,
    /// Answers to people, by what they said.
    pub answers: BTreeMap<&'static str, u64>,
}

fn as_hours<S: serde::Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64((time.as_secs_f64() / 36.0).round() / 100.0)
}

/// One more of `kind`.
pub(crate) fn count(counts: &mut BTreeMap<&'static str, u64>, kind: &'static str) {
    *counts.entry(kind).or_default() += 1;
}

impl Tally {
    /// Adds what another run came to.
    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.events += other.events;
        self.time += other.time;
        self.permits += other.permits;
        let both = [
            (&mut self.rollouts, &other.rollouts),
            (&mut self.faults, &other.faults),
            (&mut self.in_vain, &other.in_vain),
            (&mut self.unnoticed, &other.unnoticed),
            (&mut self.traps, &other.traps),
            (&mut self.answers, &other.answers),
        ];
        for (mine, theirs) in both {
            for (kind, count) in theirs {
                *mine.entry(kind).or_default() += count;
            }
        }
    }
}
