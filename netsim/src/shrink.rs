//! A failing plan made smaller: what it fails without is left out. And the command that shows a failure
//! again.

use std::collections::BTreeSet;

use crate::plan::Item;
use crate::run::{Failure, Options, run};

/// Runs that this may take: a few seconds each.
const RUNS_MAX: u32 = 80;

impl Failure {
    /// The command that shows it again, in a checkout.
    pub fn replay(&self) -> String {
        let Options { hosts, faults, mutant, without, story, .. } = &*self.options;
        let mut words = vec!["cargo run --release --bin netsim --".to_owned()];
        match story {
            Some(story) => words.push(format!("run {}", story.file().display())),
            None => {
                words.push(format!("replay {}", self.seed));
                words.extend(
                    (*hosts != Options::default().hosts).then(|| format!("--hosts {hosts}")),
                );
                words.extend((!faults).then(|| "--calm".to_owned()));
                words.extend(mutant.map(|mutant| format!("--mutant {mutant:?}")));
            }
        }
        if !without.is_empty() {
            let items: Vec<_> = without.iter().map(ToString::to_string).collect();
            words.push(format!("--without {}", items.join(",")));
        }
        words.join(" ")
    }

    /// Which property did not hold: its name, without the circumstances and numbers.
    fn property(&self) -> String {
        let name = self.reason.split(':').next().unwrap_or_default();
        name.chars().filter(|it| !it.is_ascii_digit()).collect()
    }
}

/// Leaves items out of the plan by halves, quarters and so on, and then one by one until none can go,
/// as long as the same property breaks (Zeller's delta debugging, without its complements: the last
/// rounds find what they would).
pub fn shrink(failure: &Failure) -> Failure {
    let mut best = failure.clone();
    let mut left = RUNS_MAX;
    let mut size = best.plan.len().div_ceil(2);
    loop {
        let before = best.plan.len();
        best = pass(best, size, &mut left);
        match size {
            0 | 1 if left == 0 || best.plan.len() >= before => return best,
            0 | 1 => {}
            _ => size = size.div_ceil(2),
        }
    }
}

/// Tries without each `size` items in turn.
fn pass(mut best: Failure, size: usize, left: &mut u32) -> Failure {
    let items: Vec<Item> = best.plan.iter().map(|(item, _)| *item).collect();
    for some in items.chunks(size.max(1)) {
        if *left == 0 {
            break;
        }
        *left -= 1;
        best = without(&best, some).unwrap_or(best);
    }
    best
}

/// The failure, if it is the same without `items` as well.
fn without(failure: &Failure, items: &[Item]) -> Option<Failure> {
    let without: BTreeSet<Item> = failure.options.without.iter().chain(items).copied().collect();
    let options = Options { without, loud: false, ..(*failure.options).clone() };
    run(failure.seed, &options).err().filter(|smaller| smaller.property() == failure.property())
}

#[cfg(test)]
mod tests {
    use baton_protocol::mutant::Mutant;

    use super::*;

    #[test]
    fn the_command_says_all_that_the_run_was_given() {
        let without = ["1.2", "3.1"].map(|item| item.parse().unwrap()).into();
        let mutant = Some(Mutant::CapIgnored);
        let options = Box::new(Options { hosts: 7, mutant, without, ..Options::default() });
        let failure = Failure {
            seed: 17,
            options,
            reason: "cap: 3 are down".to_owned(),
            tail: Vec::new(),
            plan: Vec::new(),
            picture: None,
        };
        let command = "cargo run --release --bin netsim -- replay 17 --hosts 7 --mutant CapIgnored \
                       --without 1.2,3.1";
        assert_eq!(failure.replay(), command);
    }

    #[test]
    fn what_is_left_of_a_plan_fails_the_same_and_with_nothing_more_left_out() {
        let options = Options { hosts: 5, mutant: Some(Mutant::CapIgnored), ..Options::default() };
        let failure = (1..9).find_map(|seed| run(seed, &options).err()).unwrap();
        let least = shrink(&failure);
        assert_eq!(least.property(), failure.property());
        assert!(least.plan.len() <= failure.plan.len());
        let again = run(least.seed, &least.options).unwrap_err();
        assert_eq!(again, least);
        for (item, _) in &least.plan {
            assert!(without(&least, &[*item]).is_none());
        }
    }
}
