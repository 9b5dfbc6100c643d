//! What each side of a new connection shows before anything else is said.
//!
//! The transport has proved that the peer holds the key of its `NodeId`, and nothing more: any
//! stranger can make a key. The proof says that the mesh let this very key in. It is no secret, and
//! worth nothing to a peer that cannot also hold the connection as its node.

use serde::{Deserialize, Serialize};

use crate::id::{MeshId, NodeId};
use crate::trust::certificate::{Certificate, Grant};
use crate::trust::chain::{self, ChainError};

/// The proof of one side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The chain root → token → node, down to the side that shows it.
    pub certificate: Certificate,
}

/// Checks that the peer which the transport proved to be `transport_peer` was let into `mesh`, and
/// gives the grant that it was let in by. Whether it is a member *still* is the roster's to say.
///
/// # Errors
/// [`ChainError::WrongPeer`] where the certificate is another node's, and else as
/// [`chain::verify`].
pub fn check(mesh: MeshId, transport_peer: NodeId, proof: &Proof) -> Result<Grant, ChainError> {
    let node = proof.certificate.node;
    // First, as it costs nothing: no stranger makes us verify signatures of somebody else's chain.
    if node != transport_peer {
        return Err(ChainError::WrongPeer { peer: transport_peer, named: node });
    }
    chain::verify(mesh, &proof.certificate)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trust::founder;
    use crate::trust::key::SecretKey;

    const NODE: NodeId = NodeId([3; 32]);

    fn mesh() -> MeshId {
        MeshId(SecretKey::from_seed([1; 32]).public())
    }

    fn proof() -> Proof {
        Proof { certificate: founder(&SecretKey::from_seed([1; 32]), [2; 32], NODE) }
    }

    #[test]
    fn a_member_proves_itself() {
        assert_eq!(check(mesh(), NODE, &proof()).map(|grant| grant.mesh), Ok(mesh()));
    }

    #[test]
    fn a_copied_certificate_proves_nothing_for_another_peer() {
        let thief = NodeId([4; 32]);
        let refused = ChainError::WrongPeer { peer: thief, named: NODE };
        assert_eq!(check(mesh(), thief, &proof()), Err(refused));
    }

    #[test]
    fn a_copied_certificate_under_the_thiefs_name_proves_nothing() {
        let thief = NodeId([4; 32]);
        let mut proof = proof();
        proof.certificate.node = thief;
        assert_eq!(check(mesh(), thief, &proof), Err(ChainError::ForgedNode));
    }

    #[test]
    fn a_member_of_another_mesh_is_a_stranger() {
        let other = SecretKey::from_seed([9; 32]);
        let proof = Proof { certificate: founder(&other, [2; 32], NODE) };
        let found = MeshId(other.public());
        let refused = ChainError::WrongMesh { expected: mesh(), found };
        assert_eq!(check(mesh(), NODE, &proof), Err(refused));
    }

    proptest! {
        #[test]
        fn any_other_peer_is_refused(peer: [u8; 32]) {
            prop_assume!(peer != NODE.0);
            prop_assert!(check(mesh(), NodeId(peer), &proof()).is_err());
        }
    }
}
