//! The daemon's loop: turns events into inputs of the [`Peer`](baton_protocol::peer::Peer) and its
//! outputs into I/O. Decides nothing.

mod handle;

pub use handle::{NodeHandle, Seed, SeedError, Seeded};
