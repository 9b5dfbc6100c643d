//! `baton`, as the tests break it: with the deliberate mistake that `BATON_MUTANT` names, which they must
//! see; or frozen, as by SIGSTOP and once, at the failpoint that `BATON_FAILPOINT` names. Then the test
//! kills it, or something else, or lets it go on. A crate of its own, as its features would otherwise be
//! those of the shipped program.

use std::fmt::Debug;
use std::process::ExitCode;
use std::sync::Once;

use baton_protocol::failpoint::{Failpoint, arm};
use baton_protocol::mutant::{Mutant, set_everywhere};
use nix::sys::signal::{Signal, raise};

/// Those that can be told from outside, by the services' ports and the requests to them.
const MUTANTS: [Mutant; 4] =
    [Mutant::CapIgnored, Mutant::DrainLeftOut, Mutant::UnseenByBalancer, Mutant::PermitExpires];

fn main() -> ExitCode {
    match (named("BATON_MUTANT", &MUTANTS), named("BATON_FAILPOINT", &Failpoint::ALL)) {
        (Ok(mutant), Ok(failpoint)) => {
            mutant.into_iter().for_each(set_everywhere);
            failpoint.into_iter().for_each(|failpoint| arm(failpoint, freeze));
            baton::main()
        }
        (Err(why), _) | (_, Err(why)) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

/// Which of `all` the environment names, if any.
fn named<T: Copy + Debug>(variable: &str, all: &[T]) -> Result<Option<T>, String> {
    let Ok(name) = std::env::var(variable) else { return Ok(None) };
    let found = all.iter().find(|it| format!("{it:?}") == name);
    found.copied().map(Some).ok_or_else(|| format!("{variable}: nothing is called {name}"))
}

/// Stops the process by this very thread: sent to the process, the signal is for the main thread first,
/// and this one would go past its failpoint until that one has woken up (signal(7)).
fn freeze() {
    static FROZEN: Once = Once::new();
    FROZEN.call_once(|| {
        let _ = raise(Signal::SIGSTOP);
    });
}
