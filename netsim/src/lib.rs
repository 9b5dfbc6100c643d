//! The same protocol code as in the daemon, under a virtual clock, network, disk and services.
//!
//! One seed decides everything that happens in a run: the same seed gives the same trace, byte for
//! byte. After every event the properties of the design are checked (see `invariants`).
//!
//! * `world`: virtual time, and what happens in it; `news`: what is news for one daemon; `queue`: what will
//!   happen; `link` and `bulk`: the network; `disk`: what a crash leaves
//! * `service` and `store`: models of a node's runtime and of its releases; `balancer`: of the load
//!   balancer in front of all services
//! * `shape`: what a seed's mesh is like; `run`: a seed from its first event to its last; `scenario`: the
//!   stages that it goes through, `people`: what people do meanwhile, `settled`: how it must end
//! * `fault`: what can go wrong; `plan` and `traps`: when it does, at any time and at the worst
//!   moments; `inflict`: what it does to the world, `spells`: for how long; `liar`: members that are not
//!   honest
//! * `story`: scenarios that people write; `chronicle` and `picture`: a run to look at; `shrink`: the
//!   least of a plan that still fails
//! * `scale`: a mesh of hundreds or thousands on a calm day; `founding`: how it begins; `together`: what
//!   happens within a moment of it; `meter`: what it says
//! * `trace`: the hash over all that happened; `tally`: it in numbers; `restarts`: how long they took

mod balancer;
mod bulk;
mod chronicle;
mod disk;
mod event;
mod fault;
mod founding;
mod inflict;
mod invariants;
mod liar;
mod link;
mod lives;
mod mesh;
mod meter;
mod news;
mod people;
mod picture;
mod plan;
mod queue;
mod restarts;
mod rig;
mod run;
mod scale;
mod scenario;
mod service;
mod settled;
mod shape;
mod shrink;
mod spells;
mod store;
mod story;
mod tally;
mod together;
mod trace;
mod traffic;
mod traps;
mod world;

pub use plan::Item;
pub use restarts::Restart;
pub use run::{Failure, Options, Summary, run};
pub use scale::{Large, Measures, scale};
pub use shrink::shrink;
pub use story::{Story, StoryError};
pub use tally::Tally;

use baton_protocol::mutant::Mutant;

/// Hosts of the mesh in which a mistake is looked for. What goes wrong with voters shows soonest where
/// most members vote.
pub fn hosts_for(mutant: Mutant) -> usize {
    if mutant == Mutant::VoterIdReused { 7 } else { 20 }
}

/// The deliberate mistakes that must be caught.
pub const MUTANTS: [Mutant; 19] = [
    Mutant::PermitExpires,
    Mutant::SkippedSync,
    Mutant::SendBeforePersist,
    Mutant::BeginWithoutEcho,
    Mutant::LateEcho,
    Mutant::AskBeforePersist,
    Mutant::BeginWithoutEvidence,
    Mutant::SilenceIsConsent,
    Mutant::CapIgnored,
    Mutant::CapOverLiveOnly,
    Mutant::StepBeforePersist,
    Mutant::VoterIdReused,
    Mutant::RemovedForgotten,
    Mutant::OldIncarnation,
    Mutant::UnseenByBalancer,
    Mutant::AnswerBeforeCommit,
    Mutant::CloseUnproven,
    Mutant::MoveForgotten,
    Mutant::OldEvidence,
];
