//! `baton`, as a test stops it: at the failpoint that `BATON_FAILPOINT` names the process freezes, once,
//! as by SIGSTOP. Then the test kills it, or something else, or lets it go on.

use std::process::ExitCode;
use std::sync::Once;

use baton_protocol::failpoint::{Failpoint, arm};
use rustix::process::{Signal, getpid, kill_process};

fn main() -> ExitCode {
    if let Ok(name) = std::env::var("BATON_FAILPOINT") {
        let named = |point: &Failpoint| format!("{point:?}") == name;
        let Some(point) = Failpoint::ALL.into_iter().find(named) else {
            eprintln!("no failpoint is called {name}");
            return ExitCode::from(2);
        };
        arm(point, freeze);
    }
    baton::main()
}

fn freeze() {
    static FROZEN: Once = Once::new();
    FROZEN.call_once(|| {
        let _ = kill_process(getpid(), Signal::STOP);
    });
}
