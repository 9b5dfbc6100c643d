//! `baton`, with the deliberate mistake that `BATON_MUTANT` names: what shows that the tests would see
//! it. A crate of its own, as its features would otherwise be those of the shipped program.

use std::process::ExitCode;

use baton_protocol::mutant::{Mutant, set_everywhere};

/// Those that can be told from outside, by the services' ports and the requests to them.
const MUTANTS: [Mutant; 4] =
    [Mutant::CapIgnored, Mutant::DrainLeftOut, Mutant::UnseenByBalancer, Mutant::PermitExpires];

fn main() -> ExitCode {
    if let Ok(name) = std::env::var("BATON_MUTANT") {
        let named = |mutant: &Mutant| format!("{mutant:?}") == name;
        let Some(mutant) = MUTANTS.into_iter().find(named) else {
            eprintln!("no mistake is called {name}");
            return ExitCode::from(2);
        };
        set_everywhere(mutant);
    }
    baton::main()
}
