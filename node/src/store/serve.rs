//! Chunks for the mesh. Every byte is hashed before it is handed out, so that a disk that has
//! forgotten something harms nobody else.

use std::fs::File;

use baton_protocol::artifact::dedup::Place;
use baton_protocol::artifact::header::ChunkRef;
use baton_protocol::artifact::manifest::Kind;
use baton_protocol::id::ReleaseId;

use super::error::At;
use super::files::{Files, Use};
use super::layout::MANIFEST;
use super::partial::{locked, piece_of};
use super::tree::Tree;
use super::{Store, StoreError, disk, header_of, parallel, read_header};

impl Store {
    /// The bytes of a chunk, verified, of a release that is staged or has that chunk already.
    ///
    /// # Errors
    /// The chunk is not here, or its bytes have changed on the disk.
    pub fn read_chunk(&self, release: ReleaseId, index: u32) -> Result<Vec<u8>, StoreError> {
        let Ok(partial) = self.partial(release) else {
            return read_any(&*self.staged_tree(release)?, &self.files, Use::Read, index);
        };
        let filled = partial.filled()?;
        if !locked(&filled.present).contains(index) {
            return Err(StoreError::NoChunk { release, index });
        }
        read_any(&filled.tree, &self.files, Use::Fill, index)
    }

    /// The bytes of a piece of a release's manifest, verified.
    ///
    /// # Errors
    /// The piece is not here, or its bytes have changed on the disk.
    pub fn read_manifest_piece(
        &self,
        release: ReleaseId,
        index: u32,
    ) -> Result<Vec<u8>, StoreError> {
        if let Ok(partial) = self.partial(release) {
            return self.read_part(&partial, index);
        }
        let dir = self.release_dir(release)?;
        let header = header_of(release, &read_header(&dir, release)?)?;
        let unknown = StoreError::NoChunk { release, index };
        let (piece, offset) = piece_of(&header, index).ok_or(unknown)?;
        let path = dir.join(MANIFEST);
        let file = File::open(&path).at("open", &path)?;
        let bytes = disk::read_at(&file, &path, offset, piece.len as usize)?;
        let verified = bytes.filter(|bytes| piece.matches(bytes));
        verified.ok_or(StoreError::Rot { path, offset })
    }

    /// Reads a whole staged release and returns the chunks that have changed on the disk, in any of
    /// their places.
    ///
    /// # Errors
    /// The release is not staged, or cannot be read at all.
    pub fn scrub(&self, release: ReleaseId) -> Result<Vec<u32>, StoreError> {
        let tree = self.staged_tree(release)?;
        let rotten = parallel::map(tree.chunks() as usize, |at| {
            let index = u32::try_from(at).unwrap_or(u32::MAX);
            let (chunk, places) = tree.chunk(index)?;
            let bad = self.rotten_places(&tree, chunk, places)?;
            Ok::<_, StoreError>((!bad.is_empty()).then_some(index))
        })?;
        Ok(rotten.into_iter().flatten().collect())
    }

    /// Puts the right bytes of a chunk back where they have changed. Each file is replaced by a
    /// mended copy, because a program that runs from it cannot be written to.
    ///
    /// # Errors
    /// The bytes are not those of the chunk, or the disk refuses.
    pub fn heal_chunk(
        &self,
        release: ReleaseId,
        index: u32,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let tree = self.staged_tree(release)?;
        let (chunk, places) = tree.chunk(index)?;
        if !chunk.matches(bytes) {
            return Err(StoreError::WrongBytes { release, index });
        }
        for place in self.rotten_places(&tree, chunk, places)? {
            mend(&tree, place, bytes)?;
            self.files.close(release);
        }
        Ok(())
    }

    fn rotten_places(
        &self,
        tree: &Tree,
        chunk: ChunkRef,
        places: &[Place],
    ) -> Result<Vec<Place>, StoreError> {
        let mut bad = Vec::new();
        for &place in places {
            if tree.read(&self.files, Use::Read, place, chunk)?.is_none() {
                bad.push(place);
            }
        }
        Ok(bad)
    }
}

/// The chunk from the first place that still has it.
fn read_any(tree: &Tree, files: &Files, used: Use, index: u32) -> Result<Vec<u8>, StoreError> {
    let (chunk, places) = tree.chunk(index)?;
    for &place in places {
        if let Some(bytes) = tree.read(files, used, place, chunk)? {
            return Ok(bytes);
        }
    }
    let unknown = StoreError::NoChunk { release: tree.release, index };
    let place = places.first().ok_or(unknown)?;
    Err(StoreError::Rot { path: tree.path(place.entry), offset: place.offset })
}

fn mend(tree: &Tree, place: Place, bytes: &[u8]) -> Result<(), StoreError> {
    let path = tree.path(place.entry);
    let entry = tree.manifest.entries().get(place.entry).map(|entry| &entry.kind);
    let Some(Kind::File { mode, size, .. }) = entry else { return Ok(()) };
    // Beside the tree and not in it, so that a crash leaves nothing there that is not released.
    let mended = tree.dir.with_file_name("mended");
    let mut from = File::open(&path).at("open", &path)?;
    let mut to = disk::create(&mended)?;
    disk::copy_all(&mut from, &mut to, &mended)?;
    disk::set_len(&to, &mended, *size)?;
    disk::write_at(&to, &mended, place.offset, bytes)?;
    disk::set_mode(&mended, *mode)?;
    disk::sync(&to, &mended)?;
    disk::rename(&mended, &path)?;
    path.parent().map_or(Ok(()), disk::sync_dir)
}
