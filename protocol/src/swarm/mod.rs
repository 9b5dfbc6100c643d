//! Which chunk to ask of whom, and what to send first. The swarm never sees bytes.
//!
//! The **origin**, where an object was seeded, sends each chunk once before it repeats any. A chunk
//! that comes from it unasked is *owed*: its first receiver promises it to all its other neighbours
//! and sends it to them (Mutualcast). What was promised and is late, and what nobody promised, is
//! asked for (pulled), rarest first. So the uplinks of all receivers work from start to end, and a
//! slow, late or silent node costs the others little. There is no choking and no barter: this is
//! one owner's mesh.
//!
//! * [`message`]: what two swarms say to each other; [`event`]: what the driver says and is told
//! * [`bitmap`]: a set of chunks
//! * `seeding`: the origin's first pass
//! * `rarest`, `asks`, `pull`: what is missing, what is asked for, and what is late
//! * `grace`, `distrust`: who is not asked for a while: an origin at first, and who sent rubbish
//! * `uploads`, `serve`: what goes out
//! * `link`, `neighbours`, `announce`, `inflow`: who is there, what it is told, and how much may come
//!
//! What the driver must do: carry control messages of one neighbour in their order, and say
//! `PeerDown` and `PeerUp` when it had to drop one; answer every `Upload` with `Uploaded`,
//! or `UploadFailed`, unless it was cancelled or its receiver went down; drop bulk bytes that
//! [`Swarm::wants`] does not want, but say `Verified` for whole ones all the same.

mod announce;
mod arrivals;
mod asks;
pub mod bitmap;
mod distrust;
pub mod event;
mod grace;
mod inflow;
mod link;
mod machine;
pub mod message;
mod neighbours;
mod object;
mod pull;
mod rarest;
mod seeding;
mod serve;

#[cfg(test)]
mod tests;
mod uploads;

pub use announce::Pace;
pub use bitmap::{Bitmap, BitmapError};
pub use event::{Input, Misbehaviour, Output, Progress, Want};
pub use machine::{Config, Swarm};
pub use message::{ObjectId, Part, SwarmMessage};

/// Chunks of one object, so that a bitmap of it (128 KiB) fits well into a control frame. 64 GiB in
/// chunks of 64 KiB; the chunker takes larger ones from 16 GiB on.
pub const CHUNKS_MAX: u32 = 1 << 20;
/// Objects that a node wants or serves at once: two for each release that its services keep.
pub const OBJECTS_MAX: usize = 512;
/// Up to so many nodes everybody is everybody's neighbour, and zones do not matter.
pub const FULL_MESH_MAX: usize = 64;
