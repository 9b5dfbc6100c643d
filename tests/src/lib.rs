//! Tests of the whole: real `baton` processes on loopback, each running a real service, watched from
//! outside.
//!
//! * [`haproxy`]: a real HAProxy in front of a mesh
//! * [`mesh`]: starts nodes, and ends everything that it started
//! * [`ports`]: ports that stay free until they are used
//! * [`prober`]: knows only ports, and says who was down when

// This crate is tests through and through: what fails in it must fail loudly.
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod haproxy;
pub mod mesh;
pub mod ports;
pub mod prober;

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
