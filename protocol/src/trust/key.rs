//! Ed25519 keys, and signatures that say what they are for.

use core::fmt;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};

use crate::artifact::header::Signature;

/// What a signature is for. Its text is signed before the bytes, so that a signature made for one
/// purpose can never be shown as one for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The root grants a token.
    Grant,
    /// A token admits a node.
    Admission,
    /// A publisher releases.
    Release,
}

impl Purpose {
    /// Ends in a zero byte and holds no other, so that none of these is the start of another.
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Grant => b"baton grant v1\0",
            Self::Admission => b"baton node v1\0",
            Self::Release => b"baton release v1\0",
        }
    }

    fn message(self, bytes: &[u8]) -> Vec<u8> {
        [self.prefix(), bytes].concat()
    }
}

/// A signature does not hold: other bytes, another key, another purpose, or no signature at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not hold")]
pub struct BadSignature;

/// An Ed25519 secret key. Its memory is wiped when it is dropped, and it never shows in a log.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key of a seed: 32 random bytes that the driver drew.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// The seed, for the key's own file, a token's text and the recovery text alone.
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public key: the bytes of a `NodeId`, a `MeshId` or a `KeyId`.
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// The signature of `bytes` for one purpose.
    pub fn sign(&self, purpose: Purpose, bytes: &[u8]) -> Signature {
        Signature(self.0.sign(&purpose.message(bytes)).to_bytes().to_vec())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// Checks that `public` signed `bytes` for this purpose. Strict: weak keys and the encodings that
/// some libraries accept and others do not are refused, so that all nodes judge alike.
///
/// # Errors
/// [`BadSignature`], also when the key or the signature is malformed.
pub fn verify(
    public: &[u8; 32],
    purpose: Purpose,
    bytes: &[u8],
    signature: &Signature,
) -> Result<(), BadSignature> {
    let key = VerifyingKey::from_bytes(public).map_err(|_| BadSignature)?;
    let signature = ed25519_dalek::Signature::from_slice(&signature.0).map_err(|_| BadSignature)?;
    key.verify_strict(&purpose.message(bytes), &signature).map_err(|_| BadSignature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_purpose_bytes_and_key_alone() {
        let key = SecretKey::from_seed([1; 32]);
        let signature = key.sign(Purpose::Grant, b"x");
        assert_eq!(verify(&key.public(), Purpose::Grant, b"x", &signature), Ok(()));
        let other = SecretKey::from_seed([2; 32]).public();
        for (public, purpose, bytes) in [
            (key.public(), Purpose::Release, b"x"),
            (key.public(), Purpose::Admission, b"x"),
            (key.public(), Purpose::Grant, b"y"),
            (other, Purpose::Grant, b"x"),
        ] {
            assert_eq!(verify(&public, purpose, bytes, &signature), Err(BadSignature));
        }
    }

    #[test]
    fn weak_keys_and_stubs_are_refused() {
        // The neutral point as key and as R, with s = 0: a plain check accepts it for any bytes.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let signature = Signature([neutral, [0; 32]].concat());
        assert_eq!(verify(&neutral, Purpose::Grant, b"x", &signature), Err(BadSignature));
        let key = SecretKey::from_seed([1; 32]);
        for stub in [vec![], vec![7], vec![0xff; 64], vec![0; 65]] {
            let stub = Signature(stub);
            assert_eq!(verify(&key.public(), Purpose::Grant, b"x", &stub), Err(BadSignature));
        }
    }

    #[test]
    fn a_secret_key_does_not_show() {
        assert_eq!(format!("{:?}", SecretKey::from_seed([0x41; 32])), "SecretKey(..)");
    }
}
