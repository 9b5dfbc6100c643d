//! The byte format of everything that is sent, stored or signed. The only file that names bincode.
//!
//! A frame is one version byte and then the value. Every decode has a limit and must use every byte.
//! What is signed or hashed is the bytes received, never a re-encoding. Enums only grow at the end;
//! the golden files in `protocol/golden/` hold the format fast.

use bincode::config::{Configuration, Limit, Varint};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::DECODE_BYTES_MAX;

/// The first byte of each frame. Bytes of another version are refused, not guessed at.
pub const VERSION: u8 = 1;

/// Room that is made for a frame before its size is known: most need no more.
const TYPICAL_FRAME_BYTES: usize = 128;

/// Why bytes could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Nothing at all where a frame was expected.
    #[error("empty frame")]
    Empty,
    /// Written by a baton that speaks another format.
    #[error("format version {found}, and this baton reads only version {VERSION}")]
    Version {
        /// The version byte that was read.
        found: u8,
    },
    /// More bytes than a frame may have.
    #[error("frame of {size} bytes; at most {limit} are read")]
    TooLarge {
        /// The size of the frame, in bytes.
        size: usize,
        /// The most bytes that a frame of this kind may have.
        limit: usize,
    },
    /// The bytes are no value of the type that was expected.
    #[error("malformed frame: {0}")]
    Malformed(String),
    /// A value, and then more.
    #[error("{0} bytes left over after the value")]
    Trailing(usize),
}

type Format<const LIMIT: usize> =
    Configuration<bincode::config::LittleEndian, Varint, Limit<LIMIT>>;

fn format<const LIMIT: usize>() -> Format<LIMIT> {
    bincode::config::standard().with_limit::<LIMIT>()
}

/// The frame of `value`: the version byte, then the value.
///
/// # Panics
/// Never for the types of this crate: writing to memory does not fail, and none of them holds a
/// sequence of unknown length.
#[allow(clippy::expect_used)] // see "Panics"
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(TYPICAL_FRAME_BYTES);
    bytes.push(VERSION);
    let unlimited = bincode::config::standard();
    bincode::serde::encode_into_std_write(value, &mut bytes, unlimited)
        .expect("Invariant: a value of this crate can be written to memory");
    bytes
}

/// The value in `bytes`, which must be one frame and nothing more.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    decode_with_limit::<T, DECODE_BYTES_MAX>(bytes)
}

/// As [`decode`], for frames of up to `LIMIT` bytes that were put together from verified pieces.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode_with_limit<T: DeserializeOwned, const LIMIT: usize>(
    bytes: &[u8],
) -> Result<T, DecodeError> {
    let (&version, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if version != VERSION {
        return Err(DecodeError::Version { found: version });
    }
    if bytes.len() > LIMIT {
        return Err(DecodeError::TooLarge { size: bytes.len(), limit: LIMIT });
    }
    let (value, used) = bincode::serde::decode_from_slice(body, format::<LIMIT>())
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    match body.len() - used {
        0 => Ok(value),
        left => Err(DecodeError::Trailing(left)),
    }
}

/// The value in `bytes`, which this node made or whose hash it has checked, of up to `LARGE` bytes.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode_large<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (&version, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if version != VERSION {
        return Err(DecodeError::Version { found: version });
    }
    let format = bincode::config::standard().with_limit::<LARGE>();
    let (value, used) = bincode::serde::decode_from_slice(body, format)
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    match body.len() - used {
        0 => Ok(value),
        left => Err(DecodeError::Trailing(left)),
    }
}

/// Bytes of the largest snapshot or manifest.
const LARGE: usize = 256 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back() {
        let value = (7u64, "web".to_string(), vec![1u8, 2, 3]);
        assert_eq!(decode::<(u64, String, Vec<u8>)>(&encode(&value)), Ok(value));
    }

    #[test]
    fn other_versions_leftovers_and_stubs_are_refused() {
        let mut bytes = encode(&7u64);
        assert_eq!(decode::<u64>(&[]), Err(DecodeError::Empty));
        bytes.push(0);
        assert_eq!(decode::<u64>(&bytes), Err(DecodeError::Trailing(1)));
        bytes[0] = 9;
        assert_eq!(decode::<u64>(&bytes), Err(DecodeError::Version { found: 9 }));
        assert!(matches!(decode::<u64>(&[VERSION]), Err(DecodeError::Malformed(_))));
    }

    #[test]
    fn a_length_that_lies_allocates_nothing() {
        let mut bytes = vec![VERSION];
        bytes.extend(encode(&u64::MAX).iter().skip(1));
        assert!(matches!(decode::<Vec<u8>>(&bytes), Err(DecodeError::Malformed(_))));
    }
}
