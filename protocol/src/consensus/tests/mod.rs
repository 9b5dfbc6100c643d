//! The consensus under faults.

mod admission;
mod random;
mod scenarios;
mod world;
