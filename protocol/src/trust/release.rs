//! Who may release what: the publishers' signatures of a release.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::artifact::header::{Header, SignedHeader};
use crate::codec::{self, DecodeError};
use crate::id::{KeyId, ServiceName};
use crate::limits::COMMAND_BYTES_MAX;
use crate::trust::key::{self, Purpose, SecretKey};

/// Signatures of one release that are looked at: each costs a verification, and a peer chooses how
/// many it sends. Far more than any threshold asks for.
pub const SIGNATURES_MAX: usize = 32;

/// Bytes of a header that are read: no more fits into the log. Each signature is over all of them.
const HEADER_BYTES_MAX: usize = COMMAND_BYTES_MAX;

/// What a publisher may release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PublisherScope {
    /// Any service.
    All,
    /// These services.
    Services(BTreeSet<ServiceName>),
}

impl PublisherScope {
    /// Whether releases of `service` are among it.
    pub fn allows(&self, service: &ServiceName) -> bool {
        match self {
            Self::All => true,
            Self::Services(services) => services.contains(service),
        }
    }
}

/// Why a release is not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// The header's bytes are no header.
    #[error("the release's header cannot be read: {0}")]
    Malformed(#[from] DecodeError),
    /// A header larger than any that is read.
    #[error("the release's header has {0} bytes; at most {HEADER_BYTES_MAX} are read")]
    TooLarge(usize),
    /// More signatures than are looked at.
    #[error("the release has {0} signatures; at most {SIGNATURES_MAX} are read")]
    TooManySignatures(usize),
    /// Publishers signed it, and too few of them may release this service.
    #[error(
        "{valid} of {threshold} signatures that releases of {service} need; {} may not release it",
        key.short()
    )]
    OutOfScope {
        /// What it is a release of.
        service: ServiceName,
        /// One publisher that signed and may not release this service.
        key: KeyId,
        /// Publishers that signed and may.
        valid: usize,
        /// How many are needed.
        threshold: usize,
    },
    /// Too few publishers signed these bytes.
    #[error("{valid} of {threshold} publishers' signatures that the release needs")]
    TooFew {
        /// Publishers that signed and may.
        valid: usize,
        /// How many are needed.
        threshold: usize,
    },
}

/// Checks that at least `threshold` *different* publishers that may release the header's service
/// signed its bytes. A threshold of 0 counts as 1. Unknown keys and signatures that do not hold
/// count nothing, and do no harm: a revoked publisher's signature beside enough good ones is fine.
///
/// Sequence and expiry are the log's to judge, when a rollout is created.
///
/// # Errors
/// See [`ReleaseError`].
pub fn verify(
    signed: &SignedHeader,
    publishers: &BTreeMap<KeyId, PublisherScope>,
    threshold: usize,
) -> Result<Header, ReleaseError> {
    let threshold = threshold.max(1);
    if signed.signatures.len() > SIGNATURES_MAX {
        return Err(ReleaseError::TooManySignatures(signed.signatures.len()));
    }
    if signed.bytes.len() > HEADER_BYTES_MAX {
        return Err(ReleaseError::TooLarge(signed.bytes.len()));
    }
    let header = signed.header()?;
    let (mut allowed, mut others) = (BTreeSet::new(), BTreeSet::new());
    for (key, scope) in signers(signed, publishers) {
        let set = if scope.allows(&header.service) { &mut allowed } else { &mut others };
        set.insert(key);
    }
    let valid = allowed.len();
    if valid >= threshold {
        return Ok(header);
    }
    Err(match others.first() {
        Some(&key) => ReleaseError::OutOfScope { service: header.service, key, valid, threshold },
        None => ReleaseError::TooFew { valid, threshold },
    })
}

/// The publishers whose signature holds; one that signed twice is named twice.
fn signers<'a>(
    signed: &'a SignedHeader,
    publishers: &'a BTreeMap<KeyId, PublisherScope>,
) -> impl Iterator<Item = (KeyId, &'a PublisherScope)> {
    signed.signatures.iter().filter_map(|(key, signature)| {
        let scope = publishers.get(key)?;
        key::verify(&key.0, Purpose::Release, &signed.bytes, signature).ok()?;
        Some((*key, scope))
    })
}

/// A header signed by its first publisher.
pub fn sign(header: &Header, publisher: &SecretKey) -> SignedHeader {
    let mut signed = SignedHeader { bytes: codec::encode(header), signatures: Vec::new() };
    cosign(&mut signed, publisher);
    signed
}

/// Adds one more publisher's signature, for meshes that want several.
pub fn cosign(signed: &mut SignedHeader, publisher: &SecretKey) {
    let signature = publisher.sign(Purpose::Release, &signed.bytes);
    signed.signatures.push((KeyId(publisher.public()), signature));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::artifact::header::{ChunkRef, Signature};
    use crate::id::{ChunkHash, Sequence};

    fn header(service: &str) -> Header {
        Header {
            service: service.parse().unwrap(),
            version: "1.4.0".parse().unwrap(),
            sequence: Sequence(14),
            expires: None,
            manifest: vec![ChunkRef { hash: ChunkHash([7; 32]), len: 65_536 }],
            size_bytes: 1_000_000,
            files: 12,
        }
    }

    fn publisher(n: u8) -> SecretKey {
        SecretKey::from_seed([n; 32])
    }

    fn publishers(scopes: &[(u8, PublisherScope)]) -> BTreeMap<KeyId, PublisherScope> {
        scopes.iter().map(|(n, scope)| (KeyId(publisher(*n).public()), scope.clone())).collect()
    }

    fn only(service: &str) -> PublisherScope {
        PublisherScope::Services([service.parse().unwrap()].into())
    }

    #[test]
    fn a_publishers_release_is_read() {
        let signed = sign(&header("web"), &publisher(1));
        for scope in [PublisherScope::All, only("web")] {
            assert_eq!(verify(&signed, &publishers(&[(1, scope)]), 1), Ok(header("web")));
        }
    }

    #[test]
    fn strangers_count_nothing_and_do_no_harm() {
        let known = publishers(&[(1, PublisherScope::All)]);
        let mut signed = sign(&header("web"), &publisher(2));
        let none = ReleaseError::TooFew { valid: 0, threshold: 1 };
        assert_eq!(verify(&signed, &known, 1), Err(none.clone()));
        assert_eq!(verify(&signed, &known, 0), Err(none));
        cosign(&mut signed, &publisher(1));
        assert!(verify(&signed, &known, 1).is_ok());
    }

    #[test]
    fn a_release_of_another_service_is_refused() {
        let signed = sign(&header("billing"), &publisher(1));
        let error = verify(&signed, &publishers(&[(1, only("web"))]), 1).unwrap_err();
        let key = KeyId(publisher(1).public());
        let service = "billing".parse().unwrap();
        assert_eq!(error, ReleaseError::OutOfScope { service, key, valid: 0, threshold: 1 });
    }

    #[test]
    fn one_publisher_counts_once_however_often_it_signs() {
        let known = publishers(&[(1, PublisherScope::All), (2, PublisherScope::All)]);
        let mut signed = sign(&header("web"), &publisher(1));
        cosign(&mut signed, &publisher(1));
        let error = verify(&signed, &known, 2).unwrap_err();
        assert_eq!(error, ReleaseError::TooFew { valid: 1, threshold: 2 });
        cosign(&mut signed, &publisher(2));
        assert!(verify(&signed, &known, 2).is_ok());
    }

    #[test]
    fn anothers_signature_under_a_publishers_name_is_refused() {
        let known = publishers(&[(1, PublisherScope::All)]);
        let mut signed = sign(&header("web"), &publisher(2));
        signed.signatures[0].0 = KeyId(publisher(1).public());
        assert!(verify(&signed, &known, 1).is_err());
    }

    #[test]
    fn too_many_signatures_are_not_looked_at() {
        let known = publishers(&[(1, PublisherScope::All)]);
        let mut signed = sign(&header("web"), &publisher(1));
        let stub = (KeyId([0; 32]), Signature(vec![]));
        signed.signatures.extend(vec![stub; SIGNATURES_MAX]);
        let error = ReleaseError::TooManySignatures(SIGNATURES_MAX + 1);
        assert_eq!(verify(&signed, &known, 1), Err(error));
    }

    #[test]
    fn a_huge_header_is_not_read() {
        let known = publishers(&[(1, PublisherScope::All)]);
        let bytes = vec![1; HEADER_BYTES_MAX + 1];
        let signed = SignedHeader { bytes, signatures: Vec::new() };
        assert_eq!(verify(&signed, &known, 1), Err(ReleaseError::TooLarge(HEADER_BYTES_MAX + 1)));
    }

    #[test]
    fn golden_header() {
        let golden = include_str!("../../golden/trust-signed-header.hex").trim();
        let golden = data_encoding::HEXLOWER.decode(golden.as_bytes()).unwrap();
        assert_eq!(codec::encode(&sign(&header("web"), &publisher(1))), golden);
        let known = publishers(&[(1, PublisherScope::All)]);
        assert_eq!(verify(&codec::decode(&golden).unwrap(), &known, 1), Ok(header("web")));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_refused(bit in 0..codec::encode(&sign(&header("web"), &publisher(1))).len() * 8) {
            let known = publishers(&[(1, PublisherScope::All)]);
            let mut bytes = codec::encode(&sign(&header("web"), &publisher(1)));
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = codec::decode::<SignedHeader>(&bytes);
            prop_assert!(read.map_or(true, |signed| verify(&signed, &known, 1).is_err()));
        }

        #[test]
        fn noise_is_an_error(bytes: Vec<u8>, signature: Vec<u8>) {
            let known = publishers(&[(1, PublisherScope::All)]);
            let key = KeyId(publisher(1).public());
            let signed = SignedHeader { bytes, signatures: vec![(key, Signature(signature))] };
            prop_assert!(verify(&signed, &known, 1).is_err());
        }
    }
}
