//! Tests that cannot run where they are.

use std::io::Write as _;

/// Says, past what holds a test's output back, that the one that asks is left out. With
/// `BATON_SKIPS_NOTHING` in the environment, as in CI, that is a failure.
#[track_caller]
pub fn skip(why: &str) {
    assert!(std::env::var_os("BATON_SKIPS_NOTHING").is_none(), "{why}");
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {why}");
}
