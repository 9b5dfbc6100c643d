//! What of a new tree is on the disk already: left by an interrupted attempt, or in older releases.
//!
//! There is no record of what was written, because no record could be trusted after a power cut
//! without a sync per chunk. The files themselves are hashed, at gigabytes per second.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex};

use baton_protocol::artifact::dedup::{self, Place, PlannedChunk, Source};
use baton_protocol::artifact::header::ChunkRef;
use baton_protocol::artifact::manifest::Kind;
use baton_protocol::id::ServiceName;
use baton_protocol::swarm::Bitmap;

use super::error::{At, in_tree};
use super::files::Use;
use super::partial::Filled;
use super::tree::Tree;
use super::{Store, StoreError, disk, parallel};

/// Where the bytes of a file that was not made just now came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// An interrupted attempt.
    Left,
    /// The file of the same path in an older release, whose blocks it shares.
    Cloned,
}

/// The places of a file that hold what belongs there.
struct Found {
    origin: Origin,
    good: Vec<Place>,
}

/// How a chunk came to be here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Here {
    Missing,
    Resumed,
    Reused,
}

impl Store {
    pub(super) fn fill(&self, tree: Tree, service: &ServiceName) -> Result<Filled, StoreError> {
        let older = self.older_trees(service);
        make_dirs(&tree)?;
        self.check_space(&tree)?;
        let files: Vec<_> = tree.files().collect();
        let found = parallel::map(files.len(), |at| match files.get(at) {
            Some(&(entry, size, chunks)) => open_file(&tree, entry, size, chunks, &older),
            None => Ok(None),
        })?;
        let found: Vec<_> = found.into_iter().flatten().collect();
        let of = |origin| found.iter().filter(move |file| file.origin == origin);
        let places = |origin| of(origin).flat_map(|file| file.good.iter().copied()).collect();
        let (left, cloned): (BTreeSet<Place>, BTreeSet<Place>) =
            (places(Origin::Left), places(Origin::Cloned));
        let releases: Vec<_> = older.iter().map(|old| (old.release, &*old.manifest)).collect();
        let plan = dedup::plan(&tree.manifest, &releases);
        let here = parallel::map(plan.chunks.len(), |at| match plan.chunks.get(at) {
            Some(planned) => self.complete(&tree, planned, &left, &cloned, &older),
            None => Ok(Here::Missing),
        })?;
        Ok(summed(tree, &here))
    }

    /// Brings a chunk that is somewhere on the disk to every place where it belongs.
    fn complete(
        &self,
        tree: &Tree,
        planned: &PlannedChunk,
        left: &BTreeSet<Place>,
        cloned: &BTreeSet<Place>,
        older: &[Arc<Tree>],
    ) -> Result<Here, StoreError> {
        let is_good = |place: &&Place| left.contains(place) || cloned.contains(place);
        let good = planned.places.iter().find(is_good).copied();
        let from = match good {
            Some(place) if left.contains(&place) => Here::Resumed,
            _ => Here::Reused,
        };
        if planned.places.iter().all(|place| is_good(&place)) {
            return Ok(from);
        }
        let bytes = match (good, planned.source) {
            (Some(place), _) => tree.read(&self.files, Use::Fill, place, planned.chunk)?,
            (None, Some(source)) => self.read_source(source, planned.chunk, older),
            (None, None) => None,
        };
        let Some(bytes) = bytes else { return Ok(Here::Missing) };
        for place in planned.places.iter().filter(|place| !is_good(place)) {
            tree.write(&self.files, *place, &bytes)?;
        }
        Ok(from)
    }

    /// A chunk of an older release. What cannot be read there, or has rotted, comes from the mesh.
    fn read_source(&self, source: Source, chunk: ChunkRef, older: &[Arc<Tree>]) -> Option<Vec<u8>> {
        let old = older.iter().find(|old| old.release == source.release)?;
        old.read(&self.files, Use::Read, source.place, chunk).ok().flatten()
    }

    /// Refuses a release for which there is no room, before hours are spent on fetching it.
    fn check_space(&self, tree: &Tree) -> Result<(), StoreError> {
        use std::os::unix::fs::MetadataExt;
        let root = &self.layout.root;
        let disk = rustix::fs::statvfs(root).at("ask for the free space of", root)?;
        let available = disk.f_bavail.saturating_mul(disk.f_frsize);
        let allocated = |entry| tree.path(entry).metadata().map_or(0, |file| file.blocks() * 512);
        let missing = |(entry, size, _): (usize, u64, _)| size.saturating_sub(allocated(entry));
        let needed: u64 = tree.files().map(missing).sum();
        if needed <= available {
            return Ok(());
        }
        Err(StoreError::NoSpace { path: root.clone(), needed, available })
    }
}

fn make_dirs(tree: &Tree) -> Result<(), StoreError> {
    disk::ensure_private_dir(&tree.dir)?;
    // A directory comes before what is in it.
    for entry in tree.manifest.entries() {
        if matches!(entry.kind, Kind::Dir { .. }) {
            disk::ensure_private_dir(&in_tree(&tree.dir, &entry.path))?;
        }
    }
    Ok(())
}

/// Gives a file its length, and finds the chunks that it holds already. `None` for a new file.
fn open_file(
    tree: &Tree,
    entry: usize,
    size: u64,
    chunks: &[ChunkRef],
    older: &[Arc<Tree>],
) -> Result<Option<Found>, StoreError> {
    let path = tree.path(entry);
    let was_there = path.symlink_metadata().is_ok_and(|file| file.len() > 0);
    let file = disk::open_to_fill(&path)?;
    let origin = if was_there {
        Some(Origin::Left)
    } else {
        clone_older(tree, entry, &file, older).then_some(Origin::Cloned)
    };
    disk::set_len(&file, &path, size)?;
    let good = |origin| Ok(Found { origin, good: good_places(&file, &path, entry, chunks)? });
    origin.map(good).transpose()
}

/// Shares the blocks of the file that has the same path in an older release. Costs no space and no
/// reading; whatever in it has changed is found when it is hashed.
fn clone_older(tree: &Tree, entry: usize, file: &File, older: &[Arc<Tree>]) -> bool {
    let Some(path) = tree.manifest.entries().get(entry).map(|entry| &entry.path) else {
        return false;
    };
    let has = |old: &&Arc<Tree>| {
        let entry = old.manifest.get(path.as_str());
        entry.is_some_and(|entry| !entry.kind.chunks().is_empty())
    };
    let Some(old) = older.iter().find(has) else { return false };
    let from = File::open(in_tree(&old.dir, path));
    from.is_ok_and(|from| disk::share_blocks(&from, file, &tree.path(entry)))
}

fn good_places(
    file: &File,
    path: &Path,
    entry: usize,
    chunks: &[ChunkRef],
) -> Result<Vec<Place>, StoreError> {
    let mut good = Vec::new();
    let mut offset = 0;
    for chunk in chunks {
        let bytes = disk::read_at(file, path, offset, chunk.len as usize)?;
        if bytes.is_some_and(|bytes| chunk.matches(&bytes)) {
            good.push(Place { entry, offset });
        }
        offset += u64::from(chunk.len);
    }
    Ok(good)
}

fn summed(tree: Tree, here: &[Here]) -> Filled {
    let mut present = Bitmap::empty(tree.chunks());
    let (mut resumed_bytes, mut reused_bytes) = (0, 0);
    for ((index, here), chunk) in (0..).zip(here).zip(tree.manifest.unique_chunks()) {
        match here {
            Here::Missing => continue,
            Here::Resumed => resumed_bytes += u64::from(chunk.len),
            Here::Reused => reused_bytes += u64::from(chunk.len),
        }
        present.insert(index);
    }
    Filled { tree, present: Mutex::new(present), resumed_bytes, reused_bytes }
}
