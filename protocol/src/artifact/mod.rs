//! What is released: trees of files, cut into content-addressed chunks.
//!
//! * [`header`]: the small signed description of a release, which gossip carries
//! * [`service`]: how the release's service is run, probed and drained (`baton.toml`)
//! * [`manifest`]: the whole tree, which travels as chunks itself
//! * [`chunker`], [`path`], [`dedup`]: how a tree is cut, which paths are safe, what need not travel

pub mod header;
pub mod service;
