//! A mesh on a calm day, as `netsim scale` measures larger ones.

#![allow(clippy::unwrap_used)]

use baton_netsim::scale;

/// More than have each other as neighbours; a debug build is some ten times slower.
const NODES: usize = if cfg!(debug_assertions) { 12 } else { 80 };

#[test]
fn a_rollout_takes_hardly_longer_than_its_restarts_and_takes_nobody_out_beyond_the_cap() {
    let run = || scale(NODES, 1, false, &|line| println!("{line}"));
    let it = run().unwrap();
    assert_eq!((it.nodes, it.cap), (NODES, 1));
    assert!(it.over_restarts <= 1.05, "{it:?}");
    assert_eq!(it.most_down, 1, "{it:?}");
    // Nothing comes faster than the links bear, and nobody waits for each node in turn.
    assert!((1.0..2.5).contains(&it.over_bound), "{it:?}");
    assert_eq!(run(), Ok(it), "which thread is faster shows");
}
