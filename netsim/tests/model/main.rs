//! Every interleaving of grant, act and close, on the real [`Fleet`]: two holders of which one may be down,
//! three voters whose logs a new leader overwrites, and words that arrive as late as they like or never.
//!
//! The voters are the abstract ones of the Raft paper (Ongaro and Ousterhout, "In Search of an Understandable
//! Consensus Algorithm", 2014, figure 2), and the holders do by hand what `agent/unit` does; what a log comes
//! to is said by [`Fleet::apply`] alone. The bounds are small on purpose: within them nothing is left out.
//!
//! * `state`: what it is made of; `founding`: the mesh that it begins with; `log`: what a log comes to;
//!   `moves`: what can happen, and what must hold

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod founding;
mod log;
mod moves;
mod state;

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model};

use log::Grants;
use state::{Bounds, Mistake};

/// Runs the model to its end, or to the first property that does not hold.
fn check(bounds: Bounds, mistake: Option<Mistake>) -> impl Checker<Grants> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checker = Grants::new(bounds, mistake).checker().threads(threads);
    checker.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join()
}

/// Two holders after each other, each with its grant, its begin and its close.
const ONE_LEADER: Bounds =
    Bounds { terms: 1, entries: 6, grants: 2, nonces: 1, crashes: 0, overrides: 1 };
const TWO_LEADERS: Bounds = Bounds { terms: 2, ..ONE_LEADER };
const A_CRASH: Bounds = Bounds { crashes: 1, ..ONE_LEADER };
/// One holder, which may ask anew after a crash.
const ASKS_ANEW: Bounds = Bounds { grants: 1, nonces: 2, ..A_CRASH };
/// The same, and it asks once more while a proof of its own is under way.
const ASKS_ONCE_MORE: Bounds = Bounds { entries: 7, nonces: 3, overrides: 0, ..ASKS_ANEW };

#[test]
fn nothing_that_can_happen_takes_two_down() {
    for bounds in [TWO_LEADERS, A_CRASH] {
        let checker = check(bounds, None);
        println!("{bounds:?}: {} states", checker.unique_state_count());
        checker.assert_properties();
    }
}

#[test]
fn a_permit_that_is_given_back_moves_nothing() {
    for bounds in [ASKS_ANEW, ASKS_ONCE_MORE] {
        let checker = check(bounds, None);
        println!("{bounds:?}: {} states", checker.unique_state_count());
        let found: Vec<_> = checker.discoveries().into_keys().collect();
        assert!(found.is_empty(), "{found:?}");
    }
}

#[test]
fn the_model_finds_mistakes() {
    let found = |bounds, mistake| {
        let found = check(bounds, Some(mistake)).discoveries();
        BTreeSet::from_iter(found.into_keys())
    };
    let two_down = "no more than one is down";
    let uncovered = "who is down has a permit that has begun";
    let acts = found(ONE_LEADER, Mistake::ActsOnGrant);
    assert!(acts.contains(two_down) || acts.contains(uncovered), "{acts:?}");
    let forgets = found(ONE_LEADER, Mistake::ForgetsHandBack);
    assert!(forgets.contains(two_down) || forgets.contains(uncovered), "{forgets:?}");
    let gives_back = found(ASKS_ANEW, Mistake::GivesBackAndActs);
    assert!(gives_back.contains(uncovered), "{gives_back:?}");
    let alone = found(TWO_LEADERS, Mistake::AgreesAlone);
    assert!(alone.contains("what was agreed stays"), "{alone:?}");
}
