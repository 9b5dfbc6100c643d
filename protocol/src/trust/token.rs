//! Join tokens: one line of text that lets a new server into a mesh.

use core::fmt;
use core::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use crate::artifact::header::Signature;
use crate::codec::{self, DecodeError};
use crate::id::{KeyId, MeshId, MeshName, NodeId};
use crate::time::UnixTime;
use crate::trust::certificate::{Certificate, Grant, Role};
use crate::trust::chain::{self, ChainError};
use crate::trust::key::{Purpose, SecretKey};

/// What each token's text starts with.
const PREFIX: &str = "btn1.";
/// Bytes of the checksum at the text's end.
const CHECKSUM_BYTES: usize = 8;
/// Bytes of the longest text that is read: room for the most and the longest addresses.
const TEXT_BYTES_MAX: usize = 8 * 1024;
/// Addresses in a token. A joining node needs one that answers; a few more are for bad days.
pub const TOKEN_ADDRESSES_MAX: usize = 16;
/// Bytes of one address: the longest DNS name, a colon and a port.
pub const TOKEN_ADDRESS_BYTES_MAX: usize = 260;

/// Why a token cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The text is something else.
    #[error("this is no join token: one starts with \"{PREFIX}\"")]
    Prefix,
    /// A letter is wrong, or some are missing.
    #[error("the token is incomplete or mistyped")]
    Checksum,
    /// The text is whole, and of another form.
    #[error("the token cannot be read: {0}")]
    Malformed(#[from] DecodeError),
    /// The mesh's root did not sign the token's grant.
    #[error("the token is forged: {0}")]
    Chain(#[from] ChainError),
    /// The secret belongs to another grant.
    #[error("the token is forged: its secret is not the one that its grant names")]
    Secret,
    /// More or longer addresses than a token holds.
    #[error(
        "a token holds at most {TOKEN_ADDRESSES_MAX} addresses of {TOKEN_ADDRESS_BYTES_MAX} bytes"
    )]
    Addresses,
    /// It may not admit a node in this role.
    #[error("a token for the role {granted:?} cannot admit a node as {asked:?}")]
    Role {
        /// The role that the token gives.
        granted: Role,
        /// The role that was asked for.
        asked: Role,
    },
}

/// A join token. Whoever holds one can join the mesh with it, until it expires or is used up.
#[derive(Clone, Debug)]
pub struct JoinToken {
    /// The mesh that it opens.
    pub mesh: MeshId,
    /// What people call that mesh.
    pub mesh_name: MeshName,
    /// The frame of its [`Grant`].
    pub grant: Vec<u8>,
    /// The root's signature of `grant`.
    pub by_root: Signature,
    /// The key that signs the nodes which it admits.
    pub secret: SecretKey,
    /// `host:port` of nodes that were there when it was made.
    pub addresses: Vec<String>,
}

/// The content of the text. The mesh is in the grant.
#[derive(Serialize, Deserialize)]
struct Body {
    mesh_name: MeshName,
    grant: Vec<u8>,
    by_root: Signature,
    seed: [u8; 32],
    addresses: Vec<String>,
}

impl JoinToken {
    /// A new token. `token_secret` is 32 fresh random bytes. Of the addresses, only as many are
    /// kept as a token holds, and none that is longer than an address can be.
    pub fn issue(
        root: &SecretKey,
        mesh_name: MeshName,
        token_secret: [u8; 32],
        expires: UnixTime,
        uses: u32,
        role: Role,
        mut addresses: Vec<String>,
    ) -> Self {
        addresses.retain(|address| address.len() <= TOKEN_ADDRESS_BYTES_MAX);
        addresses.truncate(TOKEN_ADDRESSES_MAX);
        let mesh = MeshId(root.public());
        let secret = SecretKey::from_seed(token_secret);
        let token = KeyId(secret.public());
        let grant = codec::encode(&Grant { mesh, token, expires, uses, role });
        let by_root = root.sign(Purpose::Grant, &grant);
        Self { mesh, mesh_name, grant, by_root, secret, addresses }
    }

    /// The certificate by which a node joins with this token.
    ///
    /// # Errors
    /// The token may not admit a node in this role, or is not whole.
    pub fn certify(&self, node: NodeId, role: Role) -> Result<Certificate, TokenError> {
        let granted = self.terms()?.role;
        if !granted.may_admit(role) {
            return Err(TokenError::Role { granted, asked: role });
        }
        Ok(chain::admit(&self.grant, &self.by_root, &self.secret, node, role))
    }

    /// What the token allows.
    ///
    /// # Errors
    /// The token is not whole: the root did not sign it, or its secret is another's.
    pub fn terms(&self) -> Result<Grant, TokenError> {
        let grant = chain::verify_grant(self.mesh, &self.grant, &self.by_root)?;
        if grant.token.0 != self.secret.public() {
            return Err(TokenError::Secret);
        }
        Ok(grant)
    }

    fn from_body(body: Body) -> Result<Self, TokenError> {
        let Body { mesh_name, grant, by_root, seed, addresses } = body;
        let too_long = |address: &String| address.len() > TOKEN_ADDRESS_BYTES_MAX;
        if addresses.len() > TOKEN_ADDRESSES_MAX || addresses.iter().any(too_long) {
            return Err(TokenError::Addresses);
        }
        let mesh = codec::decode::<Grant>(&grant)?.mesh;
        let secret = SecretKey::from_seed(seed);
        let token = Self { mesh, mesh_name, grant, by_root, secret, addresses };
        token.terms()?;
        Ok(token)
    }
}

/// Makes the certificate of a mesh's first node, which no token admits.
///
/// `token_secret` is 32 fresh random bytes, to be forgotten. The grant has expired from the start, so
/// that it lets nobody in should they be found: the leader judges that when a node asks to be
/// admitted, which the founder never does. A certificate itself has no end.
pub fn founder(root: &SecretKey, token_secret: [u8; 32], node: NodeId) -> Certificate {
    let secret = SecretKey::from_seed(token_secret);
    let grant = codec::encode(&Grant {
        mesh: MeshId(root.public()),
        token: KeyId(secret.public()),
        expires: UnixTime(0),
        uses: 1,
        role: Role::Member,
    });
    let by_root = root.sign(Purpose::Grant, &grant);
    chain::admit(&grant, &by_root, &secret, node, Role::Member)
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = codec::encode(&Body {
            mesh_name: self.mesh_name.clone(),
            grant: self.grant.clone(),
            by_root: self.by_root.clone(),
            seed: self.secret.seed(),
            addresses: self.addresses.clone(),
        });
        bytes.extend(checksum(&bytes));
        write!(f, "{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes))
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    /// Reads a token's text; white space around it does not matter.
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        if text.len() > TEXT_BYTES_MAX {
            return Err(TokenError::Checksum);
        }
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| TokenError::Checksum)?;
        let (body, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(TokenError::Checksum)?;
        if checksum(body) != *sum {
            return Err(TokenError::Checksum);
        }
        Self::from_body(codec::decode(body)?)
    }
}

/// Against slips of the hand. Against forgery there is the root's signature.
fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = [0; CHECKSUM_BYTES];
    blake3::Hasher::new().update(bytes).finalize_xof().fill(&mut sum);
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(role: Role) -> JoinToken {
        let root = SecretKey::from_seed([1; 32]);
        let addresses = vec!["10.0.0.1:7400".into(), "web-1.example:7400".into()];
        let expires = UnixTime(1_800_000_000);
        JoinToken::issue(&root, "prod".parse().unwrap(), [2; 32], expires, 3, role, addresses)
    }

    fn text_of(body: &Body) -> String {
        let mut bytes = codec::encode(body);
        bytes.extend(checksum(&bytes));
        format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes))
    }

    fn body() -> Body {
        let token = token(Role::Member);
        Body {
            mesh_name: token.mesh_name,
            grant: token.grant,
            by_root: token.by_root,
            seed: [2; 32],
            addresses: token.addresses,
        }
    }

    #[test]
    fn a_token_comes_back_from_its_text_and_admits() {
        let read: JoinToken = format!("  {}\n", token(Role::Member)).parse().unwrap();
        assert_eq!(read.mesh_name.as_str(), "prod");
        assert_eq!(read.addresses, ["10.0.0.1:7400", "web-1.example:7400"]);
        let cert = read.certify(NodeId([3; 32]), Role::Member).unwrap();
        let mesh = MeshId(SecretKey::from_seed([1; 32]).public());
        let grant = chain::verify(mesh, &cert).unwrap();
        assert_eq!((grant.uses, grant.expires), (3, UnixTime(1_800_000_000)));
    }

    #[test]
    fn a_witness_token_makes_no_member() {
        let error = token(Role::Witness).certify(NodeId([3; 32]), Role::Member).unwrap_err();
        assert_eq!(error, TokenError::Role { granted: Role::Witness, asked: Role::Member });
        assert!(token(Role::Member).certify(NodeId([3; 32]), Role::Witness).is_ok());
    }

    #[test]
    fn a_stolen_grant_without_its_secret_is_refused() {
        let stolen = text_of(&Body { seed: [9; 32], ..body() });
        assert_eq!(stolen.parse::<JoinToken>().unwrap_err(), TokenError::Secret);
    }

    #[test]
    fn a_grant_that_somebody_bettered_is_refused() {
        let mut grant: Grant = codec::decode(&body().grant).unwrap();
        grant.uses = 1_000;
        let bettered = text_of(&Body { grant: codec::encode(&grant), ..body() });
        let forged = TokenError::Chain(ChainError::ForgedGrant);
        assert_eq!(bettered.parse::<JoinToken>().unwrap_err(), forged);
    }

    #[test]
    fn addresses_have_a_bound_both_ways() {
        let many = text_of(&Body { addresses: vec!["a:1".into(); 17], ..body() });
        assert_eq!(many.parse::<JoinToken>().unwrap_err(), TokenError::Addresses);
        let long = text_of(&Body { addresses: vec!["a".repeat(261)], ..body() });
        assert_eq!(long.parse::<JoinToken>().unwrap_err(), TokenError::Addresses);
        let root = SecretKey::from_seed([1; 32]);
        let addresses = vec!["a".repeat(260); 40];
        let name = "x".repeat(64).parse().unwrap();
        let end = UnixTime(u64::MAX);
        let full = JoinToken::issue(&root, name, [2; 32], end, u32::MAX, Role::Member, addresses);
        let read: JoinToken = full.to_string().parse().unwrap();
        assert_eq!(read.addresses.len(), 16);
    }

    #[test]
    fn other_text_and_cut_text_say_so() {
        let text = token(Role::Member).to_string();
        assert_eq!("hello".parse::<JoinToken>().unwrap_err(), TokenError::Prefix);
        assert_eq!("btn1.".parse::<JoinToken>().unwrap_err(), TokenError::Checksum);
        let cut = text[..text.len() - 3].parse::<JoinToken>().unwrap_err();
        assert_eq!(cut.to_string(), "the token is incomplete or mistyped");
    }

    #[test]
    fn its_secret_does_not_show_in_a_log() {
        let shown = format!("{:?}", token(Role::Member));
        assert!(shown.contains("SecretKey(..)"));
    }

    #[test]
    fn golden_text() {
        let golden = include_str!("../../golden/trust-token.txt");
        assert_eq!(token(Role::Member).to_string(), golden.trim());
        let read: JoinToken = golden.parse().unwrap();
        assert_eq!(read.terms(), token(Role::Member).terms());
    }

    #[test]
    fn the_founders_grant_lets_nobody_else_in() {
        let cert = founder(&SecretKey::from_seed([1; 32]), [2; 32], NodeId([3; 32]));
        let mesh = MeshId(SecretKey::from_seed([1; 32]).public());
        assert!(chain::verify(mesh, &cert).unwrap().expired_at(UnixTime(1)));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_refused(bit in 0..token(Role::Member).to_string().len() * 8) {
            let mut bytes = token(Role::Member).to_string().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = String::from_utf8(bytes).ok().map(|text| text.parse::<JoinToken>());
            prop_assert!(read.is_none_or(|read| read.is_err()));
        }

        #[test]
        fn noise_is_an_error(text: String, bytes: Vec<u8>) {
            prop_assert!(text.parse::<JoinToken>().is_err());
            let mut summed = bytes.clone();
            summed.extend(checksum(&bytes));
            let text = format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&summed));
            prop_assert!(text.parse::<JoinToken>().is_err());
        }
    }
}
