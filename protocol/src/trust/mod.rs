//! Who may do what: keys, join tokens, certificates and signatures.
//!
//! The chain is root → token → node: the mesh's root key signs a token's grant, the token signs the
//! key that a node made for itself, and the node's connection proves that key. Publishers sign
//! releases.

pub mod certificate;
