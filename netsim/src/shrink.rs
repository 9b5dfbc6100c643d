//! A failing plan made smaller: what it fails without is left out.

use std::collections::BTreeSet;

use crate::plan::Item;
use crate::scenario::{Failure, Options, run};

/// Runs that this may take: a few seconds each.
const RUNS_MAX: u32 = 80;

impl Failure {
    /// The command that shows it again.
    pub fn replay(&self) -> String {
        let without: Vec<_> = self.without.iter().map(ToString::to_string).collect();
        match without.is_empty() {
            true => format!("netsim replay {}", self.seed),
            false => format!("netsim replay {} --without {}", self.seed, without.join(",")),
        }
    }

    /// Which property did not hold: its name, without the circumstances.
    fn property(&self) -> &str {
        self.reason.split(':').next().unwrap_or_default()
    }
}

/// Leaves items out of the plan by halves, quarters and so on, as long as the same property breaks
/// (Zeller's delta debugging, without its complements: one more round finds what they would).
pub fn shrink(failure: &Failure, options: &Options) -> Failure {
    let mut best = failure.clone();
    let mut runs = 0;
    let mut size = best.plan.len().div_ceil(2);
    while size > 0 {
        let items: Vec<Item> = best.plan.iter().map(|(item, _)| *item).collect();
        for some in items.chunks(size) {
            runs += 1;
            if runs > RUNS_MAX {
                return best;
            }
            best = without(&best, some, options).unwrap_or(best);
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    best
}

/// The failure, if it is the same without `items` as well.
fn without(failure: &Failure, items: &[Item], options: &Options) -> Option<Failure> {
    let without: BTreeSet<Item> = failure.without.iter().chain(items).copied().collect();
    let options = Options { without, loud: false, ..options.clone() };
    run(failure.seed, &options).err().filter(|smaller| smaller.property() == failure.property())
}
