//! The check of a node's certificate: root → token → node.

use crate::artifact::header::Signature;
use crate::codec::{self, DecodeError};
use crate::id::{MeshId, NodeId};
use crate::time::UnixTime;
use crate::trust::certificate::{Certificate, Grant, Role};
use crate::trust::key::{self, Purpose, SecretKey};

/// Bytes of the largest grant that is read. One has some 80; the rest is room to grow.
const GRANT_BYTES_MAX: usize = 512;

/// Why a certificate proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The grant is larger than any grant is.
    #[error("the grant has {0} bytes; at most {GRANT_BYTES_MAX} are read")]
    TooLarge(usize),
    /// The grant's bytes are no grant.
    #[error("the grant cannot be read: {0}")]
    Malformed(#[from] DecodeError),
    /// The grant is for another mesh.
    #[error("the grant is for mesh {}, and this is mesh {}", .found.short(), .expected.short())]
    WrongMesh {
        /// The mesh that was to be joined.
        expected: MeshId,
        /// The mesh that the grant names.
        found: MeshId,
    },
    /// The mesh's root never signed this grant.
    #[error("the grant is not signed by the mesh's root key")]
    ForgedGrant,
    /// The node claims a role that its token may not give.
    #[error("a token for the role {granted:?} cannot admit a node as {claimed:?}")]
    RoleEscalation {
        /// The role that the token gives.
        granted: Role,
        /// The role that the certificate names.
        claimed: Role,
    },
    /// The token never signed this node in this role.
    #[error("the node is not signed by the token of its grant")]
    ForgedNode,
    /// A peer showed the certificate of another node. [`super::proof`] alone says this.
    #[error("the certificate is of node {}, and the peer is node {}", .named.short(), .peer.short())]
    WrongPeer {
        /// The node that the connection proved.
        peer: NodeId,
        /// The node that the certificate names.
        named: NodeId,
    },
}

/// Checks a certificate from end to end, and gives the grant that it rests on.
///
/// It says that `cert.node` was admitted to `mesh` as `cert.role`. That the peer at the other end
/// *is* `cert.node` is proved by its connection: [`super::proof::check`] compares the two. Expiry and
/// the number of uses are judged by the leader, once, when the node is admitted: see
/// [`Grant::expired_at`].
///
/// # Errors
/// See [`ChainError`].
pub fn verify(mesh: MeshId, cert: &Certificate) -> Result<Grant, ChainError> {
    let grant = verify_grant(mesh, &cert.grant, &cert.by_root)?;
    if !grant.role.may_admit(cert.role) {
        return Err(ChainError::RoleEscalation { granted: grant.role, claimed: cert.role });
    }
    let statement = admission(&cert.grant, cert.node, cert.role);
    key::verify(&grant.token.0, Purpose::Admission, &statement, &cert.by_token)
        .map_err(|_| ChainError::ForgedNode)?;
    Ok(grant)
}

/// Checks the chain's first link alone.
pub(super) fn verify_grant(
    mesh: MeshId,
    bytes: &[u8],
    by_root: &Signature,
) -> Result<Grant, ChainError> {
    if bytes.len() > GRANT_BYTES_MAX {
        return Err(ChainError::TooLarge(bytes.len()));
    }
    let grant: Grant = codec::decode(bytes)?;
    if grant.mesh != mesh {
        return Err(ChainError::WrongMesh { expected: mesh, found: grant.mesh });
    }
    key::verify(&mesh.0, Purpose::Grant, bytes, by_root).map_err(|_| ChainError::ForgedGrant)?;
    Ok(grant)
}

/// Makes the chain's last link.
pub(super) fn admit(
    grant: &[u8],
    by_root: &Signature,
    token: &SecretKey,
    node: NodeId,
    role: Role,
) -> Certificate {
    let by_token = token.sign(Purpose::Admission, &admission(grant, node, role));
    Certificate { grant: grant.to_vec(), by_root: by_root.clone(), node, role, by_token }
}

/// What a token signs: this node, in this role, under this very grant. The grant's hash is in it so
/// that a second grant to the same token cannot lend its terms to nodes of the first.
fn admission(grant: &[u8], node: NodeId, role: Role) -> Vec<u8> {
    let role = match role {
        Role::Member => 0,
        Role::Witness => 1,
    };
    [blake3::hash(grant).as_bytes().as_slice(), &node.0, &[role]].concat()
}

impl Grant {
    /// Whether the grant admits nobody any more.
    pub fn expired_at(&self, now: UnixTime) -> bool {
        now > self.expires
    }
}

impl Role {
    /// Whether a grant of this role may admit a node as `role`: the same, or less. A member may
    /// hold back and be a witness; a witness never runs a service.
    pub fn may_admit(self, role: Self) -> bool {
        self == Self::Member || role == Self::Witness
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::KeyId;
    use crate::trust::founder;

    fn root() -> SecretKey {
        SecretKey::from_seed([1; 32])
    }

    fn mesh() -> MeshId {
        MeshId(root().public())
    }

    fn grant(role: Role) -> Grant {
        let token = KeyId(SecretKey::from_seed([2; 32]).public());
        Grant { mesh: mesh(), token, expires: UnixTime(1_800_000_000), uses: 3, role }
    }

    fn certificate(grant: &Grant, role: Role) -> Certificate {
        let bytes = codec::encode(grant);
        let by_root = root().sign(Purpose::Grant, &bytes);
        admit(&bytes, &by_root, &SecretKey::from_seed([2; 32]), NodeId([3; 32]), role)
    }

    #[test]
    fn an_honest_chain_gives_its_grant() {
        let expected = grant(Role::Member);
        let cert = certificate(&expected, Role::Member);
        assert_eq!(verify(mesh(), &cert), Ok(expected));
        let founded = founder(&root(), [9; 32], NodeId([3; 32]));
        assert_eq!(verify(mesh(), &founded).map(|grant| grant.uses), Ok(1));
    }

    #[test]
    fn another_mesh_is_refused() {
        let cert = certificate(&grant(Role::Member), Role::Member);
        let other = MeshId([5; 32]);
        let error = verify(other, &cert).unwrap_err();
        assert_eq!(error, ChainError::WrongMesh { expected: other, found: mesh() });
    }

    #[test]
    fn another_node_cannot_use_the_certificate() {
        let mut cert = certificate(&grant(Role::Member), Role::Member);
        cert.node = NodeId([4; 32]);
        assert_eq!(verify(mesh(), &cert), Err(ChainError::ForgedNode));
    }

    #[test]
    fn a_forged_grant_is_refused() {
        let bytes = codec::encode(&grant(Role::Member));
        let mallory = SecretKey::from_seed([6; 32]);
        let by_mallory = mallory.sign(Purpose::Grant, &bytes);
        let token = SecretKey::from_seed([2; 32]);
        let cert = admit(&bytes, &by_mallory, &token, NodeId([3; 32]), Role::Member);
        assert_eq!(verify(mesh(), &cert), Err(ChainError::ForgedGrant));
    }

    #[test]
    fn better_terms_of_another_grant_are_refused() {
        let mut cert = certificate(&grant(Role::Member), Role::Member);
        let better = codec::encode(&Grant { uses: 1000, ..grant(Role::Member) });
        cert.by_root = root().sign(Purpose::Grant, &better);
        cert.grant = better;
        assert_eq!(verify(mesh(), &cert), Err(ChainError::ForgedNode));
    }

    #[test]
    fn a_role_goes_down_and_never_up() {
        use Role::{Member, Witness};
        for (granted, claimed) in [(Member, Member), (Member, Witness), (Witness, Witness)] {
            assert!(verify(mesh(), &certificate(&grant(granted), claimed)).is_ok());
        }
        let escalated = certificate(&grant(Witness), Member);
        let expected = ChainError::RoleEscalation { granted: Witness, claimed: Member };
        assert_eq!(verify(mesh(), &escalated), Err(expected));
        // A witness that is signed as one, and then says it is a member.
        let mut changed = certificate(&grant(Member), Witness);
        changed.role = Member;
        assert_eq!(verify(mesh(), &changed), Err(ChainError::ForgedNode));
    }

    #[test]
    fn a_grant_ends_after_its_last_second() {
        let grant = grant(Role::Member);
        assert!(!grant.expired_at(UnixTime(1_800_000_000)));
        assert!(grant.expired_at(UnixTime(1_800_000_001)));
    }

    #[test]
    fn a_huge_grant_is_not_read() {
        let mut cert = certificate(&grant(Role::Member), Role::Member);
        cert.grant = vec![1; GRANT_BYTES_MAX + 1];
        assert_eq!(verify(mesh(), &cert), Err(ChainError::TooLarge(GRANT_BYTES_MAX + 1)));
    }

    /// The bytes of the format, as any later baton must read and write them.
    fn assert_golden<T>(value: &T, golden: &str)
    where
        T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + core::fmt::Debug,
    {
        let golden = data_encoding::HEXLOWER.decode(golden.trim().as_bytes()).unwrap();
        assert_eq!(codec::encode(value), golden);
        assert_eq!(codec::decode::<T>(&golden).as_ref(), Ok(value));
    }

    #[test]
    fn golden_grant() {
        let golden = include_str!("../../golden/trust-grant.hex");
        assert_golden(&grant(Role::Member), golden);
    }

    #[test]
    fn golden_certificate() {
        let golden = include_str!("../../golden/trust-certificate.hex");
        let cert = certificate(&grant(Role::Member), Role::Witness);
        assert_golden(&cert, golden);
        assert!(verify(mesh(), &cert).is_ok());
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_refused(bit in 0..codec::encode(&certificate(&grant(Role::Member), Role::Member)).len() * 8) {
            let mut bytes = codec::encode(&certificate(&grant(Role::Member), Role::Member));
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = codec::decode::<Certificate>(&bytes);
            prop_assert!(read.map_or(true, |cert| verify(mesh(), &cert).is_err()));
        }

        #[test]
        fn noise_is_an_error(grant: Vec<u8>, by_root: Vec<u8>, by_token: Vec<u8>, node: [u8; 32], mesh: [u8; 32]) {
            let (by_root, by_token) = (Signature(by_root), Signature(by_token));
            let cert = Certificate { grant, by_root, node: NodeId(node), role: Role::Member, by_token };
            prop_assert!(verify(MeshId(mesh), &cert).is_err());
        }
    }
}
