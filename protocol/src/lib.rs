//! This crate decides everything that a baton node does, and does nothing itself.
//!
//! It has no clock, no I/O, no threads and no global randomness: the daemon (`baton-node`) and the
//! simulator (`baton-netsim`) drive the very same machines. Each machine has the face of
//! [`machine::Machine`]: it takes an input and the time, and is then asked what it wants.
//!
//! [`peer::Peer`] is one whole node, made of the machines below; start reading there.

pub mod agent;
pub mod artifact;
pub mod codec;
pub mod consensus;
pub mod coordinator;
pub mod disk;
pub mod failpoint;
pub mod fleet;
#[cfg(test)]
mod golden;
pub mod gossip;
pub mod id;
pub mod limits;
pub mod machine;
pub mod membership;
pub mod mutant;
pub mod peer;
pub mod replica;
pub mod rng;
pub mod state;
pub mod swarm;
pub mod text;
pub mod time;
pub mod trust;
pub mod wire;
