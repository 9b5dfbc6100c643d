//! The consensus under faults.

mod admission;
mod golden;
mod random;
mod scenarios;
mod world;
