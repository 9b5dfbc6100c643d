//! What is released: trees of files, cut into content-addressed chunks.
//!
//! * [`header`]: the small signed description of a release, which gossip carries
//! * [`service`]: how the release's service is run, probed and drained (`baton.toml`)
//! * [`manifest`]: the whole tree, which travels as chunks itself
//! * [`chunker`], [`path`], [`dedup`]: how a tree is cut, which paths are safe, what need not travel
//! * [`keys`], [`duration`]: the manners of every file that people write

pub mod chunker;
pub mod dedup;
pub mod duration;
pub mod header;
pub mod keys;
mod links;
pub mod manifest;
pub mod path;
pub mod service;
mod service_file;
mod template;
