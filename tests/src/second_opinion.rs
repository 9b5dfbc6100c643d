//! What a program that knows nothing of this project makes of a prober's log.

use std::process::Command;

use crate::mesh::{build, run};

/// The most ports down at once, as the program `downtime` reads it out of the log.
pub fn most_down(log: &str) -> usize {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), log).unwrap();
    let program = build(&["--bin", "downtime"], "downtime");
    let told = run(Command::new(program).arg(file.path())).code(0);
    let last = told.stdout.lines().last().and_then(|line| line.rsplit(": ").next());
    last.and_then(|number| number.parse().ok()).expect("a number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_by_another_program() {
        assert_eq!(most_down("0 4001 up\n0 4002 up\n5 4001 down\n6 4002 down\n7 4001 up\n"), 2);
    }
}
