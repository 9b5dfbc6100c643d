//! A set of chunk indexes, one bit each: what a node has of an object.

use serde::{Deserialize, Serialize};

use super::CHUNKS_MAX;

const WORD_BITS: u32 = 64;

/// Why bytes are no bitmap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BitmapError {
    /// It speaks of more chunks than an object may have.
    #[error("a bitmap of {0} bits; at most {CHUNKS_MAX} are read")]
    TooLong(u32),
    /// Its bytes are not as many as its length says, or have bits beyond it.
    #[error("a bitmap of {bits} bits in {bytes} bytes")]
    Size {
        /// The length that it claims.
        bits: u32,
        /// The bytes that came with it.
        bytes: usize,
    },
}

/// A set of the numbers below [`len`](Bitmap::len). At most [`CHUNKS_MAX`] bits when it is read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Packed", into = "Packed")]
pub struct Bitmap {
    len: u32,
    ones: u32,
    words: Vec<u64>,
}

/// How a bitmap travels: the two commonest ones in a few bytes.
#[derive(Clone, Serialize, Deserialize)]
enum Packed {
    Empty(u32),
    Full(u32),
    Some {
        len: u32,
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
}

impl Bitmap {
    /// The empty set of numbers below `len`.
    pub fn empty(len: u32) -> Self {
        Self { len, ones: 0, words: vec![0; words_for(len)] }
    }

    /// All numbers below `len`.
    pub fn full(len: u32) -> Self {
        let mut words = vec![u64::MAX; words_for(len)];
        let rest = len % WORD_BITS;
        if let Some(last) = words.last_mut().filter(|_| rest != 0) {
            *last = (1 << rest) - 1;
        }
        Self { len, ones: len, words }
    }

    /// The bound of the numbers, not their count.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are no numbers to be had at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many numbers are in the set.
    pub fn count(&self) -> u32 {
        self.ones
    }

    /// Whether every number is in the set; true for an object without chunks.
    pub fn is_full(&self) -> bool {
        self.ones == self.len
    }

    /// Whether `index` is in the set; false where it is out of range.
    pub fn contains(&self, index: u32) -> bool {
        let word = self.words.get((index / WORD_BITS) as usize).copied().unwrap_or(0);
        word >> (index % WORD_BITS) & 1 == 1
    }

    /// Adds `index`. True if it was not there; false also where it is out of range.
    pub fn insert(&mut self, index: u32) -> bool {
        if index >= self.len || self.contains(index) {
            return false;
        }
        if let Some(word) = self.words.get_mut((index / WORD_BITS) as usize) {
            *word |= 1 << (index % WORD_BITS);
            self.ones += 1;
        }
        true
    }

    /// Takes `index` out. True if it was there.
    pub fn remove(&mut self, index: u32) -> bool {
        if !self.contains(index) {
            return false;
        }
        if let Some(word) = self.words.get_mut((index / WORD_BITS) as usize) {
            *word &= !(1 << (index % WORD_BITS));
            self.ones -= 1;
        }
        true
    }

    /// The numbers in the set, ascending. Costs a step per word and per number.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().zip(0u32..).flat_map(|(&word, place)| {
            let next = |left: &u64| Some(left & (left - 1)).filter(|&left| left != 0);
            core::iter::successors(Some(word).filter(|&word| word != 0), next)
                .map(move |left| place * WORD_BITS + left.trailing_zeros())
        })
    }
}

impl core::fmt::Debug for Bitmap {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}/{}", self.ones, self.len)
    }
}

fn words_for(len: u32) -> usize {
    len.div_ceil(WORD_BITS) as usize
}

impl From<Bitmap> for Packed {
    fn from(bitmap: Bitmap) -> Self {
        let len = bitmap.len;
        if bitmap.ones == 0 {
            return Self::Empty(len);
        }
        if bitmap.is_full() {
            return Self::Full(len);
        }
        let mut bytes: Vec<u8> = bitmap.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.truncate(len.div_ceil(8) as usize);
        Self::Some { len, bytes }
    }
}

impl TryFrom<Packed> for Bitmap {
    type Error = BitmapError;

    fn try_from(packed: Packed) -> Result<Self, BitmapError> {
        let (Packed::Empty(len) | Packed::Full(len) | Packed::Some { len, .. }) = packed;
        if len > CHUNKS_MAX {
            return Err(BitmapError::TooLong(len));
        }
        match packed {
            Packed::Empty(len) => Ok(Self::empty(len)),
            Packed::Full(len) => Ok(Self::full(len)),
            Packed::Some { len, bytes } => unpack(len, &bytes),
        }
    }
}

fn unpack(len: u32, bytes: &[u8]) -> Result<Bitmap, BitmapError> {
    let mut words = vec![0u64; words_for(len)];
    for (word, part) in words.iter_mut().zip(bytes.chunks(8)) {
        let mut whole = [0; 8];
        whole.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
        *word = u64::from_le_bytes(whole);
    }
    let ones = words.iter().map(|word| word.count_ones()).sum();
    let beyond = words
        .last()
        .is_some_and(|last| !len.is_multiple_of(WORD_BITS) && last >> (len % WORD_BITS) != 0);
    if bytes.len() != len.div_ceil(8) as usize || beyond {
        return Err(BitmapError::Size { bits: len, bytes: bytes.len() });
    }
    Ok(Bitmap { len, ones, words })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn numbers_go_in_and_out_once() {
        let mut set = Bitmap::empty(70);
        assert!(set.insert(0) && set.insert(69) && set.insert(64));
        assert!(!set.insert(69) && !set.insert(70));
        assert_eq!((set.iter().collect::<Vec<_>>(), set.count()), (vec![0, 64, 69], 3));
        assert!(set.remove(64) && !set.remove(64) && !set.remove(900));
        assert_eq!((set.contains(64), set.contains(69), set.count()), (false, true, 2));
    }

    #[test]
    fn every_kind_survives_the_wire() {
        for len in [0, 1, 63, 64, 65, 1000] {
            let mut some = Bitmap::empty(len);
            some.insert(len / 2);
            for set in [Bitmap::empty(len), Bitmap::full(len), some] {
                assert_eq!(codec::decode::<Bitmap>(&codec::encode(&set)), Ok(set));
            }
        }
        assert!(Bitmap::full(65).is_full() && Bitmap::full(65).iter().count() == 65);
        assert!(codec::encode(&Bitmap::full(CHUNKS_MAX)).len() < 10);
    }

    #[test]
    fn lies_about_the_size_are_refused() {
        for packed in [
            Packed::Full(CHUNKS_MAX + 1),
            Packed::Empty(u32::MAX),
            Packed::Some { len: 9, bytes: vec![1] },
            Packed::Some { len: 9, bytes: vec![1, 2] },
            Packed::Some { len: 9, bytes: vec![1, 1, 0] },
        ] {
            assert!(codec::decode::<Bitmap>(&codec::encode(&packed)).is_err());
        }
    }
}
