//! The root key as text that a person can write down, and read back on the day it is needed.
//!
//! 32 bytes of seed and 3 of checksum are 56 letters of base32, in 14 groups of four.

use data_encoding::BASE32;

use crate::trust::key::SecretKey;

/// Letters of one group.
const GROUP: usize = 4;
/// Letters of the whole text: (32 + 3) · 8 / 5.
const LETTERS: usize = 56;

/// Why a recovery text gives no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// Letters are missing, or there are too many.
    #[error("the recovery text has {0} letters, and {LETTERS} make a key (14 groups of {GROUP})")]
    Length(usize),
    /// A character that no recovery text has.
    #[error("'{letter}' is in no recovery text (group {group}): it has A to Z and 2 to 7 alone")]
    Letter {
        /// The character.
        letter: char,
        /// The group that it stands in, from 1.
        group: usize,
    },
    /// A letter is wrong, or two have changed places.
    #[error("the recovery text is mistyped: its checksum does not fit")]
    Checksum,
}

/// The recovery text of a key. It *is* the key: whoever reads it owns the mesh.
pub fn to_text(key: &SecretKey) -> String {
    let seed = key.seed();
    let letters = BASE32.encode(&[seed.as_slice(), &checksum(&seed)].concat());
    let mut text = String::with_capacity(LETTERS + LETTERS / GROUP);
    for (n, letter) in letters.chars().enumerate() {
        if n > 0 && n % GROUP == 0 {
            text.push('-');
        }
        text.push(letter);
    }
    text
}

/// The key of a recovery text. Case, spaces and dashes do not matter; a 0 is read as O and an 8 as
/// B, which the text has no digits for.
///
/// # Errors
/// See [`RecoveryError`].
pub fn from_text(text: &str) -> Result<SecretKey, RecoveryError> {
    let letters: Vec<char> =
        text.chars().filter(|c| !c.is_whitespace() && *c != '-').map(as_meant).collect();
    if let Some(n) = letters.iter().position(|c| !matches!(c, 'A'..='Z' | '2'..='7')) {
        let letter = letters.get(n).copied().unwrap_or_default();
        return Err(RecoveryError::Letter { letter, group: n / GROUP + 1 });
    }
    let letters: String = letters.into_iter().collect();
    if letters.len() != LETTERS {
        return Err(RecoveryError::Length(letters.len()));
    }
    let bytes = BASE32.decode(letters.as_bytes()).map_err(|_| RecoveryError::Checksum)?;
    let (seed, sum) = bytes.split_first_chunk::<32>().ok_or(RecoveryError::Checksum)?;
    if checksum(seed) != sum {
        return Err(RecoveryError::Checksum);
    }
    Ok(SecretKey::from_seed(*seed))
}

fn as_meant(letter: char) -> char {
    match letter.to_ascii_uppercase() {
        '0' => 'O',
        '8' => 'B',
        other => other,
    }
}

fn checksum(seed: &[u8; 32]) -> [u8; 3] {
    let mut sum = [0; 3];
    // With a context of its own: the hash of a secret must be of use nowhere else.
    let mut hasher = blake3::Hasher::new_derive_key("baton v1 recovery text checksum");
    hasher.update(seed).finalize_xof().fill(&mut sum);
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_text() {
        let key = SecretKey::from_seed(core::array::from_fn(|n| n as u8));
        assert_eq!(
            to_text(&key),
            "AAAQ-EAYE-AUDA-OCAJ-BIFQ-YDIO-B4IB-CEQT-CQKR-MFYY-DENB-WHA5-DYPZ-JCVX"
        );
    }

    #[test]
    fn it_is_read_as_people_write_it() {
        let key = SecretKey::from_seed([0x41; 32]);
        let text = to_text(&key);
        let sloppy = text.to_lowercase().replace('-', "  ").replace('o', "0").replace('b', "8");
        assert_eq!(from_text(&sloppy).unwrap().seed(), key.seed());
    }

    #[test]
    fn slips_are_named() {
        let text = to_text(&SecretKey::from_seed([0x41; 32]));
        assert_eq!(from_text(&text[1..]).unwrap_err(), RecoveryError::Length(55));
        assert_eq!(from_text("").unwrap_err(), RecoveryError::Length(0));
        let odd = text.replacen('-', "-!", 1);
        assert_eq!(from_text(&odd).unwrap_err(), RecoveryError::Letter { letter: '!', group: 2 });
        assert!(from_text("ß—\u{1F600}").is_err());
    }

    proptest! {
        #[test]
        fn every_key_comes_back(seed: [u8; 32]) {
            let key = SecretKey::from_seed(seed);
            prop_assert_eq!(from_text(&to_text(&key)).unwrap().seed(), seed);
        }

        #[test]
        fn any_flipped_bit_is_refused(bit in 0usize..35 * 8) {
            let text = to_text(&SecretKey::from_seed([0x41; 32])).replace('-', "");
            let mut bytes = BASE32.decode(text.as_bytes()).unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let flipped = from_text(&BASE32.encode(&bytes));
            prop_assert_eq!(flipped.unwrap_err(), RecoveryError::Checksum);
        }

        #[test]
        fn noise_is_an_error(text: String) {
            prop_assert!(from_text(&text).is_err());
        }
    }
}
