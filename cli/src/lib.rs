//! `baton`: the one program. The daemon, and what people type. A library too, so that the tests can
//! build the same program with places at which it stops.

mod cli;
mod client;
mod commands;
mod demo;
mod exit;
mod output;
mod progress;

use std::process::ExitCode;

/// The whole of the program.
pub fn main() -> ExitCode {
    // The shim is this program too: small, without any of what follows.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "shim") {
        return baton_node::runtime::shim::main(arguments);
    }
    cli::run()
}
