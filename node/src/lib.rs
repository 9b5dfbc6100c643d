//! The daemon: sockets, disk, processes and the local API around the machines of `baton-protocol`.

pub mod api;
mod balancer;
pub mod config;
pub mod driver;
pub mod keys;
pub mod net;
pub mod runtime;
pub mod store;

pub use driver::{STATE_FILE, run};
