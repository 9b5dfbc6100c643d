//! A mesh on a calm day, as `netsim scale` measures larger ones.

#![allow(clippy::unwrap_used)]

use baton_netsim::{Large, scale};

/// More than have each other as neighbours; a debug build is some ten times slower.
const NODES: usize = if cfg!(debug_assertions) { 12 } else { 80 };

#[test]
fn a_rollout_takes_hardly_longer_than_its_restarts_and_takes_nobody_out_beyond_the_cap() {
    let run = |threads| {
        let mesh = Large { nodes: NODES, seed: 1, full: false, threads };
        scale(mesh, &|line| println!("{line}"))
    };
    let it = run(1).unwrap();
    assert_eq!((it.nodes, it.cap), (NODES, 1));
    assert!(it.over_restarts <= 1.05, "{it:?}");
    assert_eq!(it.most_down, 1, "{it:?}");
    // Nothing comes faster than the links bear, and nobody waits for each node in turn.
    assert!((1.0..1.6).contains(&it.over_bound), "{it:?}");
    assert_eq!(run(4), Ok(it), "which thread is faster shows");
}
