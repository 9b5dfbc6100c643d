//! The same protocol code as in the daemon, under a virtual clock, network, disk and services.
//!
//! One seed decides everything that happens in a run: the same seed gives the same trace, byte for
//! byte. After every event the properties of the design are checked (see `invariants`).
//!
//! * `world`: the queue of events and virtual time; `link`: the network; `disk`: what a crash leaves
//! * `service` and `store`: models of a node's runtime and of its releases; `balancer`: of the load
//!   balancer in front of all services
//! * `shape`: what a seed's mesh is like; `scenario`: what a run does with it; `faults` and `traps`:
//!   what goes wrong, at any time and at the worst moments
//! * `trace`: the hash over all that happened

mod balancer;
mod disk;
mod event;
mod faults;
mod invariants;
mod link;
mod lives;
mod mesh;
mod rig;
mod scenario;
mod service;
mod shape;
mod store;
mod trace;
mod traffic;
mod traps;
mod world;

pub use scenario::{Failure, Options, Summary, run};

use baton_protocol::mutant::Mutant;

/// The deliberate mistakes that must be caught.
pub const MUTANTS: [Mutant; 11] = [
    Mutant::PermitExpires,
    Mutant::SkippedSync,
    Mutant::BeginWithoutEcho,
    Mutant::BeginWithoutEvidence,
    Mutant::SilenceIsConsent,
    Mutant::CapIgnored,
    Mutant::CapOverLiveOnly,
    Mutant::StepBeforePersist,
    Mutant::VoterIdReused,
    Mutant::RemovedForgotten,
    Mutant::OldIncarnation,
];
