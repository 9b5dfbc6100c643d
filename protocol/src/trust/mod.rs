//! Who may do what: keys, join tokens, certificates and signatures.
//!
//! The chain is root → token → node: the mesh's root key signs a token's grant, the token signs the
//! key that a node made for itself, and the node's connection proves that key. Publishers sign
//! releases.
//!
//! * [`key`]: secret keys, and signatures that say what they are for
//! * [`certificate`], [`chain`]: a node's proof of membership, and its check
//! * [`proof`]: the first word on each connection, which shows the certificate
//! * [`token`]: the text that lets a server in
//! * [`release`]: who may release what
//! * [`recovery`]: the root key on paper

pub mod certificate;
pub mod chain;
pub mod key;
pub mod proof;
pub mod recovery;
pub mod release;
pub mod token;

pub use token::founder;
