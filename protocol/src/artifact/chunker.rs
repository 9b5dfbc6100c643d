//! How a file is cut: FastCDC (Xia et al., 2020), by the crate `fastcdc`.
//!
//! A boundary depends on the bytes around it alone, so that an insertion moves the boundaries near
//! it and no others. The parameters stand in the manifest and are kept from release to release, or
//! nothing deduplicates.

use fastcdc::v2020::{FastCDC, Normalization};
use serde::{Deserialize, Serialize};

use crate::limits::CHUNK_BYTES_MAX;

/// The average for trees of up to [`TREE_BYTES_AT_SMALLEST`]: small enough that an edit costs
/// little, large enough that the manifest stays under a thousandth of the tree.
const AVERAGE_SMALLEST: u32 = 64 * 1024;

/// The largest average that `fastcdc` takes; its upper bound is then [`CHUNK_BYTES_MAX`].
const AVERAGE_LARGEST: u32 = 4 * 1024 * 1024;

/// From here on the average doubles with the tree, so that a manifest names at most some 262,144
/// chunks (9 MiB) up to trees of 1 TiB.
const TREE_BYTES_AT_SMALLEST: u64 = 16 * 1024 * 1024 * 1024;

/// How far a tree may grow or shrink from the size that its parameters fit before they are changed:
/// a change costs the whole deduplication once.
const KEPT_UP_TO_FACTOR: u32 = 4;

/// The bounds of a chunk's size. Always even, in order, and within what `fastcdc` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Params(Raw);

/// Parameters as they are written, before anything is known of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Raw {
    min: u32,
    avg: u32,
    max: u32,
}

/// Sizes that the algorithm cannot work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "chunk sizes {min}, {avg}, {max} bytes are not usable: they must be even, grow, and end at {CHUNK_BYTES_MAX}"
)]
pub struct ParamsError {
    min: u32,
    avg: u32,
    max: u32,
}

impl Params {
    /// What small trees and manifests are cut by: 16, 64 and 256 KiB.
    pub const SMALL: Self = Self::of_average(AVERAGE_SMALLEST);

    const fn of_average(avg: u32) -> Self {
        Self(Raw { min: avg / 4, avg, max: avg * 4 })
    }

    /// Parameters with these bounds, in bytes.
    ///
    /// # Errors
    /// `fastcdc` cannot work with them.
    pub fn new(min: u32, avg: u32, max: u32) -> Result<Self, ParamsError> {
        let even = [min, avg, max].iter().all(|size| size % 2 == 0);
        let usable = even
            && (64..=1024 * 1024).contains(&min)
            && (256..=AVERAGE_LARGEST).contains(&avg)
            && (1024..=CHUNK_BYTES_MAX as u32).contains(&max)
            && min < avg
            && avg < max;
        usable.then_some(Self(Raw { min, avg, max })).ok_or(ParamsError { min, avg, max })
    }

    /// The parameters for a tree of `bytes` that has no earlier release.
    pub fn for_size(bytes: u64) -> Self {
        let mut avg = AVERAGE_SMALLEST;
        let mut fits = TREE_BYTES_AT_SMALLEST;
        while bytes > fits && avg < AVERAGE_LARGEST {
            avg *= 2;
            fits = fits.saturating_mul(2);
        }
        Self::of_average(avg)
    }

    /// The parameters for a tree of `bytes` whose last release was cut by `previous`: those, unless
    /// the tree has outgrown them by far.
    pub fn for_successor(previous: Self, bytes: u64) -> Self {
        let fitting = Self::for_size(bytes);
        let (small, large) = (fitting.0.avg.min(previous.0.avg), fitting.0.avg.max(previous.0.avg));
        if large / small > KEPT_UP_TO_FACTOR { fitting } else { previous }
    }

    /// Bytes of the smallest chunk, except at the end of a file.
    pub const fn min(self) -> usize {
        self.0.min as usize
    }

    /// Bytes of a chunk on average.
    pub const fn avg(self) -> usize {
        self.0.avg as usize
    }

    /// Bytes of the largest chunk.
    pub const fn max(self) -> usize {
        self.0.max as usize
    }

    /// The length of the chunk that `buffer` starts with. `buffer` must hold at least
    /// [`max`](Self::max) bytes or all that is left of the file; 0 only where it is empty.
    pub fn next_len(self, buffer: &[u8]) -> usize {
        // Normalization level 2 found the most duplicates in published comparisons of chunkers.
        let cutter =
            FastCDC::with_level(buffer, self.min(), self.avg(), self.max(), Normalization::Level2);
        cutter.cut(0, buffer.len()).1
    }

    /// The chunks of a file that is wholly in memory, in order.
    pub fn cut(self, bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
        let mut rest = bytes;
        core::iter::from_fn(move || {
            let (chunk, after) = rest.split_at_checked(self.next_len(rest))?;
            rest = after;
            (!chunk.is_empty()).then_some(chunk)
        })
    }
}

/// As [`Params::next_len`].
pub fn next_cut(params: &Params, buffer: &[u8]) -> usize {
    params.next_len(buffer)
}

impl TryFrom<Raw> for Params {
    type Error = ParamsError;

    fn try_from(raw: Raw) -> Result<Self, ParamsError> {
        Self::new(raw.min, raw.avg, raw.max)
    }
}

impl From<Params> for Raw {
    fn from(params: Params) -> Self {
        params.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes that are the same everywhere and for ever: xorshift64*, from a fixed seed.
    fn noise(len: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
        };
        core::iter::repeat_with(&mut next).flatten().take(len).collect()
    }

    fn cuts(bytes: &[u8]) -> Vec<usize> {
        Params::SMALL
            .cut(bytes)
            .scan(0, |at, c| {
                *at += c.len();
                Some(*at)
            })
            .collect()
    }

    // Other positions would mean that no release deduplicates against those of an older baton.
    #[test]
    fn boundaries_are_the_same_for_ever() {
        let known = [
            73457, 149_147, 231_478, 331_775, 398_410, 492_486, 561_860, 587_427, 655_451, 726_721,
            793_159, 947_682, 1_014_708, 1_048_576,
        ];
        assert_eq!(cuts(&noise(1024 * 1024, 7)), known);
    }

    #[test]
    fn an_insertion_moves_only_the_boundaries_near_it() {
        let before = noise(4 * 1024 * 1024, 1);
        let mut after = before.clone();
        after.splice(1_000_000..1_000_000, *b"inserted");
        let old: Vec<&[u8]> = Params::SMALL.cut(&before).collect();
        let changed = Params::SMALL.cut(&after).filter(|chunk| !old.contains(chunk)).count();
        assert!((1..=3).contains(&changed), "{changed} chunks changed");
    }

    #[test]
    fn a_window_of_the_largest_chunk_is_enough() {
        let bytes = noise(2 * 1024 * 1024, 3);
        let mut at = 0;
        for chunk in Params::SMALL.cut(&bytes) {
            let window = &bytes[at..bytes.len().min(at + Params::SMALL.max())];
            assert_eq!(Params::SMALL.next_len(window), chunk.len());
            at += chunk.len();
        }
        assert_eq!(at, bytes.len());
    }

    #[test]
    fn large_trees_get_large_chunks() {
        const GIB: u64 = 1024 * 1024 * 1024;
        assert_eq!(Params::for_size(0).avg(), 64 * 1024);
        assert_eq!(Params::for_size(16 * GIB), Params::SMALL);
        assert_eq!(Params::for_size(16 * GIB + 1).avg(), 128 * 1024);
        assert_eq!(Params::for_size(u64::MAX).max(), CHUNK_BYTES_MAX);
        assert_eq!(Params::for_successor(Params::SMALL, 40 * GIB), Params::SMALL);
        assert_ne!(Params::for_successor(Params::SMALL, 400 * GIB), Params::SMALL);
    }

    #[test]
    fn sizes_that_would_panic_are_refused() {
        for (min, avg, max) in [(0, 0, 0), (64, 64, 64), (65, 256, 1024), (64, 256, u32::MAX)] {
            assert!(Params::new(min, avg, max).is_err(), "{min} {avg} {max}");
        }
        assert_eq!(Params::new(16384, 65536, 262_144), Ok(Params::SMALL));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn chunks_join_to_the_file_and_keep_their_bounds(len in 0usize..600_000, seed in 1u64..) {
            let bytes = noise(len, seed);
            let chunks: Vec<&[u8]> = Params::SMALL.cut(&bytes).collect();
            prop_assert_eq!(&chunks.concat(), &bytes);
            for (i, chunk) in chunks.iter().enumerate() {
                prop_assert!(chunk.len() <= Params::SMALL.max());
                prop_assert!(i + 1 == chunks.len() || chunk.len() >= Params::SMALL.min());
            }
        }
    }
}
