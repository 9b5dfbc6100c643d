//! The chain by which a node proves its membership, as data. [`super`] says how it is checked.

use serde::{Deserialize, Serialize};

use crate::artifact::header::Signature;
use crate::id::{KeyId, MeshId, NodeId};
use crate::time::UnixTime;

/// What a token allows whoever holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The mesh that it opens.
    pub mesh: MeshId,
    /// The token's own public key.
    pub token: KeyId,
    /// After this it admits nobody. The leader judges that, when the node asks to be admitted.
    pub expires: UnixTime,
    /// How many nodes it may admit.
    pub uses: u32,
    /// What those nodes become.
    pub role: Role,
}

/// What a node is in the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs services.
    Member,
    /// Votes, and runs no service.
    Witness,
}

/// A node's proof of membership: root → token → node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The frame of a [`Grant`].
    #[serde(with = "serde_bytes")]
    pub grant: Vec<u8>,
    /// The root's signature of `grant`.
    pub by_root: Signature,
    /// The node's own key.
    pub node: NodeId,
    /// The role that the node takes: the grant's, or less.
    pub role: Role,
    /// The token's signature of the node's key and role.
    pub by_token: Signature,
}
