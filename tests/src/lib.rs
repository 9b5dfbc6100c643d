//! Tests of the whole: real `baton` processes on loopback, each running a real service, watched from
//! outside.
//!
//! * [`mesh`]: starts nodes, and ends everything that it started
//! * [`api`]: a node's API, asked quickly
//! * [`processes`]: those of a node, to be looked at and killed
//! * [`ports`]: ports that stay free until they are used
//! * [`prober`]: knows only ports, and says who was down when
//! * [`second_opinion`]: the same by a program of its own, from the prober's log
//! * [`haproxy`], [`client`]: a real load balancer, and requests through it that nothing slows down
//! * [`watched`]: a real load balancer with a witness beside it that reads it
//! * [`trial`]: a mesh behind the balancer, under load, and what all of these saw
//! * [`soak`], [`mischief`]: rollout after rollout, with something killed in each
//! * [`namespace`]: a network of its own, which can be muted
//! * [`skip`]: says which tests cannot run here
//! * [`upkeep`]: what processes hold on to

// This crate is tests through and through: what fails in it must fail loudly.
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod api;
pub mod client;
pub mod haproxy;
pub mod mesh;
pub mod mischief;
pub mod namespace;
pub mod ports;
pub mod prober;
pub mod processes;
pub mod second_opinion;
pub mod skip;
pub mod soak;
pub mod trial;
pub mod upkeep;
pub mod watched;

/// Bytes in which no chunk is like another, the same in every run.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(len).collect()
}
