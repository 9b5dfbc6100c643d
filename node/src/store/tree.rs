//! A release's files and where in them each chunk is.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use baton_protocol::artifact::dedup::Place;
use baton_protocol::artifact::header::ChunkRef;
use baton_protocol::artifact::manifest::{Kind, Manifest};
use baton_protocol::id::ReleaseId;

use super::error::{At, in_tree};
use super::files::{Files, Use};
use super::{StoreError, disk};

#[derive(Debug)]
pub(super) struct Tree {
    pub release: ReleaseId,
    /// The directory that holds the files.
    pub dir: PathBuf,
    pub manifest: Arc<Manifest>,
    /// Where each of the manifest's distinct chunks belongs.
    places: Vec<Vec<Place>>,
}

impl Tree {
    pub fn new(release: ReleaseId, dir: PathBuf, manifest: Arc<Manifest>) -> Self {
        let places = manifest.places();
        Self { release, dir, manifest, places }
    }

    /// The chunk of that number, and every place where it belongs.
    pub fn chunk(&self, index: u32) -> Result<(ChunkRef, &[Place]), StoreError> {
        let at = index as usize;
        let chunk = self.manifest.unique_chunks().get(at).zip(self.places.get(at));
        let unknown = StoreError::NoChunk { release: self.release, index };
        chunk.map(|(chunk, places)| (*chunk, places.as_slice())).ok_or(unknown)
    }

    /// The number of distinct chunks.
    pub fn chunks(&self) -> u32 {
        // The manifest was refused if it had more.
        u32::try_from(self.places.len()).unwrap_or(u32::MAX)
    }

    /// Where the file of a place is.
    pub fn path(&self, entry: usize) -> PathBuf {
        let entry = self.manifest.entries().get(entry);
        entry.map_or_else(|| self.dir.clone(), |entry| in_tree(&self.dir, &entry.path))
    }

    /// The bytes at a place, or `None` if they are not those of the chunk.
    pub fn read(
        &self,
        files: &Files,
        used: Use,
        place: Place,
        chunk: ChunkRef,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(place.entry);
        let open = || match used {
            Use::Fill => disk::open_to_fill(&path),
            Use::Read => File::open(&path).at("open", &path),
        };
        let file = files.get((self.release, used, place.entry), open)?;
        let bytes = disk::read_at(&file, &path, place.offset, chunk.len as usize)?;
        Ok(bytes.filter(|bytes| chunk.matches(bytes)))
    }

    /// Writes bytes that were verified to a place.
    pub fn write(&self, files: &Files, place: Place, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path(place.entry);
        let key = (self.release, Use::Fill, place.entry);
        let file = files.get(key, || disk::open_to_fill(&path))?;
        disk::write_at(&file, &path, place.offset, bytes)
    }

    /// The files: each one's place in the manifest, its length and its chunks.
    pub fn files(&self) -> impl Iterator<Item = (usize, u64, &[ChunkRef])> {
        let entries = self.manifest.entries().iter().enumerate();
        entries.filter_map(|(at, entry)| match &entry.kind {
            Kind::File { size, chunks, .. } => Some((at, *size, chunks.as_slice())),
            Kind::Dir { .. } | Kind::Symlink { .. } => None,
        })
    }
}
