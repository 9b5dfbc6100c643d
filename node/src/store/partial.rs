//! A release on its way in: its header, then the pieces of its manifest, then its chunks.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use baton_protocol::artifact::header::{ChunkRef, Header, SignedHeader};
use baton_protocol::artifact::manifest::Manifest;
use baton_protocol::codec;
use baton_protocol::failpoint::{self, Failpoint};
use baton_protocol::id::ReleaseId;
use baton_protocol::swarm::Bitmap;

use super::error::At;
use super::layout::{HEADER, MANIFEST, MANIFEST_PART, TREE};
use super::tree::Tree;
use super::{Store, StoreError, disk, header_of, read_header, read_manifest};

/// What is here of a release that was announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is staged.
    Staged,
    /// It is not whole. These pieces of its manifest are here; older releases gave what they had.
    Partial {
        /// Indexes into the header's list of pieces.
        pieces: Bitmap,
    },
}

/// A release whose manifest is here and whose tree is being filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Its manifest.
    pub manifest: Arc<Manifest>,
    /// The chunks that are here, verified: indexes into the manifest's distinct chunks.
    pub present: Bitmap,
    /// Bytes that an interrupted attempt had left.
    pub resumed_bytes: u64,
    /// Bytes that older releases gave.
    pub reused_bytes: u64,
}

/// A release that this process is filling.
#[derive(Debug)]
pub(super) struct Partial {
    pub release: ReleaseId,
    pub dir: PathBuf,
    pub header: Header,
    /// The pieces of the manifest that are here.
    pieces: Mutex<Bitmap>,
    /// The tree, once the manifest is whole. Locked as long as it is being prepared.
    filled: Mutex<Option<Arc<Filled>>>,
}

/// The tree of a release that is being filled.
#[derive(Debug)]
pub(super) struct Filled {
    pub tree: Tree,
    pub present: Mutex<Bitmap>,
    pub resumed_bytes: u64,
    pub reused_bytes: u64,
}

impl Partial {
    pub fn filled(&self) -> Result<Arc<Filled>, StoreError> {
        locked(&self.filled).clone().ok_or(StoreError::NoManifest(self.release))
    }

    /// A piece of the manifest and where in the frame it is.
    fn piece(&self, index: u32) -> Result<(ChunkRef, u64), StoreError> {
        let unknown = StoreError::NoChunk { release: self.release, index };
        piece_of(&self.header, index).ok_or(unknown)
    }

    fn part(&self) -> PathBuf {
        self.dir.join(MANIFEST_PART)
    }
}

impl Filled {
    pub fn missing(&self) -> u32 {
        let present = locked(&self.present);
        present.len() - present.count()
    }

    fn prepared(&self) -> Prepared {
        Prepared {
            manifest: Arc::clone(&self.tree.manifest),
            present: locked(&self.present).clone(),
            resumed_bytes: self.resumed_bytes,
            reused_bytes: self.reused_bytes,
        }
    }
}

/// The lock's value. Nothing that a panic could leave half done is ever behind one of these locks.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn piece_of(header: &Header, index: u32) -> Option<(ChunkRef, u64)> {
    let (before, after) = header.manifest.split_at_checked(index as usize)?;
    let offset = before.iter().map(|piece| u64::from(piece.len)).sum();
    Some((*after.first()?, offset))
}

impl Store {
    /// Begins, or goes on with, a release of which only the header is known.
    ///
    /// # Errors
    /// The header is refused, or the disk does.
    pub fn begin(&self, signed: &SignedHeader) -> Result<Begun, StoreError> {
        let release = signed.id();
        if self.is_staged(release) {
            return Ok(Begun::Staged);
        }
        if let Ok(partial) = self.partial(release) {
            return Ok(Begun::Partial { pieces: locked(&partial.pieces).clone() });
        }
        let header = header_of(release, signed)?;
        let dir = self.layout.partial(release);
        disk::ensure_private_dir(&dir)?;
        disk::sync_dir(&self.layout.staging())?;
        disk::write_atomically(&dir.join(HEADER), &codec::encode(signed))?;
        let pieces = self.pieces_here(release, &header, &dir)?;
        let begun = Begun::Partial { pieces: pieces.clone() };
        let (pieces, filled) = (Mutex::new(pieces), Mutex::default());
        let partial = Partial { release, dir, header, pieces, filled };
        self.state().partial.entry(release).or_insert_with(|| Arc::new(partial));
        Ok(begun)
    }

    /// Writes a piece of the manifest. True if the manifest is whole then.
    ///
    /// # Errors
    /// The bytes are not those of the piece: nothing is written. Or the disk refuses.
    pub fn write_manifest_piece(
        &self,
        release: ReleaseId,
        index: u32,
        bytes: &[u8],
    ) -> Result<bool, StoreError> {
        let partial = self.partial(release)?;
        let (piece, offset) = partial.piece(index)?;
        if !piece.matches(bytes) {
            return Err(StoreError::WrongBytes { release, index });
        }
        // Under the lock, so that no late piece makes the file again after it has been prepared.
        let mut pieces = locked(&partial.pieces);
        if !pieces.contains(index) {
            let part = partial.part();
            disk::write_at(&disk::open_to_fill(&part)?, &part, offset, bytes)?;
            pieces.insert(index);
        }
        Ok(pieces.is_full())
    }

    /// Makes the tree of a release whose manifest is whole: finds what an interrupted attempt left,
    /// by hashing it, and takes from older releases what they have. Reads and writes much; a second
    /// call only tells what is here.
    ///
    /// # Errors
    /// The manifest is not whole, or is refused: then the release can only be removed. Or there is no
    /// room.
    pub fn prepare(&self, release: ReleaseId) -> Result<Prepared, StoreError> {
        let partial = self.partial(release)?;
        let mut filled = locked(&partial.filled);
        if let Some(filled) = filled.as_ref() {
            return Ok(filled.prepared());
        }
        let manifest = Arc::new(self.assembled(&partial)?);
        let tree = Tree::new(release, partial.dir.join(TREE), manifest);
        let new = Arc::new(self.fill(tree, &partial.header.service)?);
        Ok(filled.insert(new).prepared())
    }

    /// Writes a chunk to every place where it belongs. True if the release has every chunk then.
    ///
    /// # Errors
    /// The bytes are not those of the chunk: nothing is written. Or the disk refuses.
    pub fn write_chunk(
        &self,
        release: ReleaseId,
        index: u32,
        bytes: &[u8],
    ) -> Result<bool, StoreError> {
        let filled = self.partial(release)?.filled()?;
        let (chunk, places) = filled.tree.chunk(index)?;
        if !chunk.matches(bytes) {
            return Err(StoreError::WrongBytes { release, index });
        }
        if !locked(&filled.present).contains(index) {
            for &place in places {
                filled.tree.write(&self.files, place, bytes)?;
            }
        }
        let mut present = locked(&filled.present);
        present.insert(index);
        if present.count() >= present.len().div_ceil(2) {
            failpoint::reach(Failpoint::HalfFetched);
        }
        Ok(present.is_full())
    }

    pub(super) fn partial(&self, release: ReleaseId) -> Result<Arc<Partial>, StoreError> {
        self.state().partial.get(&release).cloned().ok_or(StoreError::Unknown(release))
    }

    /// The manifest, from its pieces. From then on it is a file that is whole.
    fn assembled(&self, partial: &Partial) -> Result<Manifest, StoreError> {
        let release = partial.release;
        let pieces = locked(&partial.pieces);
        if !pieces.is_full() {
            return Err(StoreError::NoManifest(release));
        }
        if partial.dir.join(MANIFEST).exists() {
            return read_manifest(&partial.dir, release);
        }
        let part = partial.part();
        let frame = fs::read(&part).at("read", &part)?;
        let manifest = Manifest::of_header(&partial.header, &frame)
            .map_err(|cause| StoreError::Manifest { release, cause })?;
        disk::write_atomically(&partial.dir.join(MANIFEST), &frame)?;
        disk::remove_file(&part)?;
        Ok(manifest)
    }

    /// The pieces of a manifest that an earlier attempt or an older release has.
    fn pieces_here(
        &self,
        release: ReleaseId,
        header: &Header,
        dir: &std::path::Path,
    ) -> Result<Bitmap, StoreError> {
        let count = u32::try_from(header.manifest.len()).unwrap_or(u32::MAX);
        let whole = dir.join(MANIFEST);
        if whole.exists() {
            if read_manifest(dir, release).is_ok() {
                return Ok(Bitmap::full(count));
            }
            disk::remove_file(&whole)?;
        }
        let path = dir.join(MANIFEST_PART);
        let part = disk::open_to_fill(&path)?;
        disk::set_len(&part, &path, header.manifest_len())?;
        let older = self.older_pieces(header);
        let mut pieces = Bitmap::empty(count);
        for index in 0..count {
            let Some((piece, offset)) = piece_of(header, index) else { break };
            let left = disk::read_at(&part, &path, offset, piece.len as usize)?;
            if left.is_some_and(|bytes| piece.matches(&bytes)) {
                pieces.insert(index);
            } else if let Some(bytes) = older.iter().find(|bytes| piece.matches(bytes)) {
                disk::write_at(&part, &path, offset, bytes)?;
                pieces.insert(index);
            }
        }
        Ok(pieces)
    }

    /// The pieces of the newest release of the service that the new manifest has as well.
    fn older_pieces(&self, header: &Header) -> Vec<Vec<u8>> {
        let list = self.list();
        let newest = list.iter().rev().find(|staged| staged.service == header.service);
        let frame = newest.and_then(|staged| {
            let dir = self.layout.release(&staged.service, staged.id);
            let old = read_header(&dir, staged.id).ok()?.header().ok()?;
            Some((old, fs::read(dir.join(MANIFEST)).ok()?))
        });
        let Some((old, frame)) = frame else { return Vec::new() };
        let mut rest = frame.as_slice();
        let mut shared = Vec::new();
        for piece in &old.manifest {
            let Some((bytes, after)) = rest.split_at_checked(piece.len as usize) else { break };
            rest = after;
            if header.manifest.contains(piece) {
                shared.push(bytes.to_vec());
            }
        }
        shared
    }

    /// A verified piece of a manifest that is not whole yet.
    pub(super) fn read_part(&self, partial: &Partial, index: u32) -> Result<Vec<u8>, StoreError> {
        let (piece, offset) = partial.piece(index)?;
        let pieces = locked(&partial.pieces);
        if !pieces.contains(index) {
            return Err(StoreError::NoChunk { release: partial.release, index });
        }
        let whole = partial.dir.join(MANIFEST);
        let path = if whole.exists() { whole } else { partial.part() };
        let file = File::open(&path).at("open", &path)?;
        let bytes = disk::read_at(&file, &path, offset, piece.len as usize)?;
        let verified = bytes.filter(|bytes| piece.matches(bytes));
        verified.ok_or(StoreError::Rot { path, offset })
    }
}
