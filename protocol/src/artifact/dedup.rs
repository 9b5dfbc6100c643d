//! What of a release need not travel: the chunks that older releases on the same disk have.

use std::collections::BTreeMap;

use super::header::ChunkRef;
use super::manifest::{Entry, Manifest};
use crate::id::{ChunkHash, ReleaseId};

/// A place in a release's tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file's place in [`Manifest::entries`].
    pub entry: usize,
    /// Where in the file the chunk starts, in bytes.
    pub offset: u64,
}

/// Where the bytes of a chunk are already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The older release.
    pub release: ReleaseId,
    /// Where in that release.
    pub place: Place,
}

/// One distinct chunk of the new release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedChunk {
    /// The chunk.
    pub chunk: ChunkRef,
    /// Every place in the new tree where it belongs; at least one.
    pub places: Vec<Place>,
    /// Where it is on the disk already; `None` if it must travel.
    pub source: Option<Source>,
}

/// How a release's tree is put together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// One for each of [`Manifest::unique_chunks`], in their order.
    pub chunks: Vec<PlannedChunk>,
    /// Bytes of the distinct chunks that older releases have.
    pub saved_bytes: u64,
    /// Bytes of the distinct chunks that must travel.
    pub missing_bytes: u64,
}

/// Plans the tree of `new` from what the releases `olds` have. Where several have a chunk, the
/// first one named gives it.
pub fn plan(new: &Manifest, olds: &[(ReleaseId, &Manifest)]) -> Plan {
    let indexes = new.chunk_indexes();
    let unplanned = |&chunk| PlannedChunk { chunk, places: Vec::new(), source: None };
    let mut chunks: Vec<_> = new.unique_chunks().iter().map(unplanned).collect();
    for (place, chunk) in places(new.entries()) {
        if let Some(planned) = lookup(&mut chunks, &indexes, chunk) {
            planned.places.push(place);
        }
    }
    for (release, old) in olds {
        for (place, chunk) in places(old.entries()) {
            if let Some(planned) = lookup(&mut chunks, &indexes, chunk) {
                planned.source.get_or_insert(Source { release: *release, place });
            }
        }
    }
    summed(chunks)
}

/// Every chunk of a tree and its place, file by file.
fn places(entries: &[Entry]) -> impl Iterator<Item = (Place, ChunkRef)> {
    entries.iter().enumerate().flat_map(|(entry, Entry { kind, .. })| {
        kind.chunks().iter().scan(0, move |end, chunk| {
            let offset = *end;
            *end += u64::from(chunk.len);
            Some((Place { entry, offset }, *chunk))
        })
    })
}

fn lookup<'a>(
    chunks: &'a mut [PlannedChunk],
    indexes: &BTreeMap<ChunkHash, u32>,
    chunk: ChunkRef,
) -> Option<&'a mut PlannedChunk> {
    let planned = chunks.get_mut(*indexes.get(&chunk.hash)? as usize)?;
    (planned.chunk == chunk).then_some(planned)
}

fn summed(chunks: Vec<PlannedChunk>) -> Plan {
    let mut plan = Plan { chunks, ..Plan::default() };
    for PlannedChunk { chunk, source, .. } in &plan.chunks {
        let sum = if source.is_some() { &mut plan.saved_bytes } else { &mut plan.missing_bytes };
        *sum += u64::from(chunk.len);
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::chunker::Params;
    use crate::artifact::manifest::Kind;
    use proptest::prelude::*;

    /// Files of a few letters each: a letter is a chunk, longer for later letters.
    fn bytes_of(letter: u8) -> Vec<u8> {
        vec![letter; usize::from(letter - b'a') + 1]
    }

    fn manifest(files: &[String]) -> Manifest {
        let entry = |(i, text): (usize, &String)| {
            let chunks: Vec<_> = text.bytes().map(|b| ChunkRef::of(&bytes_of(b))).collect();
            let size = chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
            let path = format!("f{i}").parse().unwrap();
            Entry { path, kind: Kind::File { mode: 0o644, size, chunks } }
        };
        Manifest::new(Params::SMALL, None, files.iter().enumerate().map(entry).collect()).unwrap()
    }

    fn contents(files: &[String]) -> Vec<Vec<u8>> {
        files.iter().map(|text| text.bytes().flat_map(bytes_of).collect()).collect()
    }

    #[test]
    fn only_what_no_older_release_has_must_travel() {
        let old = manifest(&["abc".into()]);
        let new = manifest(&["ab".into(), "dbd".into()]);
        let plan = plan(&new, &[(ReleaseId([1; 32]), &old)]);
        assert_eq!((plan.saved_bytes, plan.missing_bytes), (1 + 2, 4));
        let b = &plan.chunks[1];
        let place = |entry, offset| Place { entry, offset };
        assert_eq!(b.places, [place(0, 1), place(1, 4)]);
        assert_eq!(b.source, Some(Source { release: ReleaseId([1; 32]), place: place(0, 1) }));
        assert_eq!(plan.chunks[2].source, None);
    }

    proptest! {
        #[test]
        fn a_tree_put_together_by_its_plan_is_the_tree(
            new in prop::collection::vec("[a-h]{0,6}", 0..5),
            first in prop::collection::vec("[a-h]{0,6}", 0..5),
            second in prop::collection::vec("[a-h]{0,6}", 0..5),
        ) {
            let ids = [ReleaseId([1; 32]), ReleaseId([2; 32])];
            let (one, two) = (manifest(&first), manifest(&second));
            let on_disk = [contents(&first), contents(&second)];
            let manifest = manifest(&new);
            let plan = plan(&manifest, &[(ids[0], &one), (ids[1], &two)]);
            let wanted = contents(&new);
            let mut tree: Vec<_> = wanted.iter().map(|file| vec![0; file.len()]).collect();
            for planned in &plan.chunks {
                let len = planned.chunk.len as usize;
                let bytes = match planned.source {
                    Some(Source { release, place }) => {
                        let at = place.offset as usize;
                        let old = usize::from(release == ids[1]);
                        on_disk[old][place.entry][at..at + len].to_vec()
                    }
                    None => bytes_of(b'a' + len as u8 - 1),
                };
                prop_assert!(planned.chunk.matches(&bytes));
                let known = first.iter().chain(&second).any(|t| t.contains(char::from(bytes[0])));
                prop_assert_eq!(planned.source.is_some(), known);
                for place in &planned.places {
                    let at = place.offset as usize;
                    tree[place.entry][at..at + len].copy_from_slice(&bytes);
                }
            }
            prop_assert_eq!(tree, wanted);
            let distinct: u64 = manifest.unique_chunks().iter().map(|c| u64::from(c.len)).sum();
            prop_assert_eq!(plan.saved_bytes + plan.missing_bytes, distinct);
        }
    }
}
