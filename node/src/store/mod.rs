//! The releases on this host's disk: made of directories, filled chunk by chunk, served, and removed.
//!
//! All of it is synchronous and takes `&self`: call it from blocking tasks. No byte that fails its
//! hash is written or handed out. A release is *staged* when its directory stands under `releases/`,
//! which happens by one rename after everything in it was synced; nothing else needs to be
//! remembered. A release that is not whole is hashed again after a restart, and goes on from there.
//!
//! * [`Store::pack`]: a directory becomes a staged release
//! * [`Store::begin`], [`Store::write_manifest_piece`], [`Store::prepare`], [`Store::write_chunk`],
//!   [`Store::seal`]: a release comes from the mesh
//! * [`Store::read_chunk`], [`Store::read_manifest_piece`]: and goes on into it
//! * [`Store::set_current`], [`Store::retain`]: what runs, and what is removed

mod current;
mod disk;
mod error;
mod files;
mod layout;
mod pack;
mod parallel;
mod partial;
mod prepare;
mod remove;
mod seal;
mod serve;
mod tree;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use baton_protocol::artifact::header::{Header, SignedHeader};
use baton_protocol::artifact::manifest::Manifest;
use baton_protocol::codec;
use baton_protocol::id::{ReleaseId, Sequence, ServiceName, Version};
use rustix::fs::{FlockOperation, flock};

pub use error::{SourceError, StoreError};
pub use pack::{PackProgress, PackRequest, Packed};
pub use partial::{Begun, Prepared};

use error::At;
use files::Files;
use layout::{HEADER, Layout, MANIFEST, TREE};
use partial::Partial;
use tree::Tree;

/// Staged releases whose manifests are kept in memory to serve from: some 30 MiB each for a release
/// of 16 GiB.
const LOADED_MAX: usize = 4;

/// The releases on this host's disk.
#[derive(Debug)]
pub struct Store {
    layout: Layout,
    files: Files,
    state: Mutex<State>,
    /// Held as long as the store is open.
    _lock: File,
}

#[derive(Debug, Default)]
struct State {
    /// Every staged release.
    staged: BTreeMap<ReleaseId, Staged>,
    /// Releases that were packed here, and that nobody has asked to keep yet: who decides what is kept
    /// may not have heard of them.
    unheard: BTreeSet<ReleaseId>,
    /// Releases that are being filled by this process.
    partial: BTreeMap<ReleaseId, Arc<Partial>>,
    /// Trees of staged releases that are served, the last used one at the end.
    loaded: Vec<(ReleaseId, Arc<Tree>)>,
    /// Numbers what is being made of directories and what is in the trash.
    counter: u64,
}

/// A release that is whole, verified and synced on this disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// Which release.
    pub id: ReleaseId,
    /// What it is a release of.
    pub service: ServiceName,
    /// What people call it.
    pub version: Version,
    /// Its place among the service's releases.
    pub sequence: Sequence,
    /// Bytes of all its files.
    pub size_bytes: u64,
}

impl Staged {
    fn of(id: ReleaseId, header: Header) -> Self {
        let Header { service, version, sequence, size_bytes, .. } = header;
        Self { id, service, version, sequence, size_bytes }
    }
}

impl Store {
    /// Opens the store in `data_dir`, which is made if it is not there, and empties its trash.
    ///
    /// # Errors
    /// Another process has it open, or the directory cannot be used. A release whose header cannot
    /// be read is left out and told in the log, as it can be fetched again.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(data_dir).at("make the directory", data_dir)?;
        let root = data_dir.canonicalize().at("find the directory", data_dir)?;
        let layout = Layout { root };
        let lock = lock(&layout.lock())?;
        for dir in [layout.releases(), layout.staging(), layout.currents(), layout.trash()] {
            disk::ensure_dir(&dir)?;
        }
        disk::sync_dir(&layout.root)?;
        let staged = staged_in(&layout)?;
        let state = Mutex::new(State { staged, ..State::default() });
        let store = Self { layout, files: Files::default(), state, _lock: lock };
        store.empty_trash()?;
        Ok(store)
    }

    /// Every staged release, by service and sequence.
    pub fn list(&self) -> Vec<Staged> {
        let mut list: Vec<_> = self.state().staged.values().cloned().collect();
        list.sort_by(|a, b| (&a.service, a.sequence, a.id).cmp(&(&b.service, b.sequence, b.id)));
        list
    }

    /// Whether the release is whole, verified and synced here.
    pub fn is_staged(&self, release: ReleaseId) -> bool {
        self.state().staged.contains_key(&release)
    }

    /// The directory with the files of a staged release: what a process of it runs from.
    ///
    /// # Errors
    /// It is not staged.
    pub fn tree(&self, release: ReleaseId) -> Result<PathBuf, StoreError> {
        Ok(self.release_dir(release)?.join(TREE))
    }

    /// The signed header of a release that is staged, or that is being filled.
    ///
    /// # Errors
    /// The release is not here, or its header cannot be read.
    pub fn header(&self, release: ReleaseId) -> Result<SignedHeader, StoreError> {
        let dir = self.release_dir(release).unwrap_or_else(|_| self.layout.partial(release));
        if !dir.exists() {
            return Err(StoreError::Unknown(release));
        }
        read_header(&dir, release)
    }

    /// The manifest of a release that is staged, or that has been prepared.
    ///
    /// # Errors
    /// The release or its manifest is not here, or has rotted.
    pub fn manifest(&self, release: ReleaseId) -> Result<Arc<Manifest>, StoreError> {
        match self.partial(release) {
            Ok(partial) => Ok(Arc::clone(&partial.filled()?.tree.manifest)),
            Err(_) => Ok(Arc::clone(&self.staged_tree(release)?.manifest)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is a single insertion or removal, so that a panic of another
        // thread leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release_dir(&self, release: ReleaseId) -> Result<PathBuf, StoreError> {
        let state = self.state();
        let staged = state.staged.get(&release).ok_or(StoreError::Unknown(release))?;
        Ok(self.layout.release(&staged.service, release))
    }

    /// A staged release's manifest and the places of its chunks, from memory or from the disk.
    fn staged_tree(&self, release: ReleaseId) -> Result<Arc<Tree>, StoreError> {
        let dir = self.release_dir(release)?;
        if let Some(tree) = self.state().use_loaded(release) {
            return Ok(tree);
        }
        let manifest = Arc::new(read_manifest(&dir, release)?);
        let tree = Arc::new(Tree::new(release, dir.join(TREE), manifest));
        self.state().load(release, Arc::clone(&tree));
        Ok(tree)
    }

    /// The staged releases of a service, newest first, as many as are worth comparing with.
    fn older_trees(&self, service: &ServiceName) -> Vec<Arc<Tree>> {
        let list = self.list();
        let same = list.iter().rev().filter(|staged| staged.service == *service);
        // One that cannot be read has nothing to give.
        same.take(LOADED_MAX).filter_map(|staged| self.staged_tree(staged.id).ok()).collect()
    }

    fn next_number(&self) -> u64 {
        let mut state = self.state();
        state.counter += 1;
        state.counter
    }
}

impl State {
    fn use_loaded(&mut self, release: ReleaseId) -> Option<Arc<Tree>> {
        let at = self.loaded.iter().position(|(id, _)| *id == release)?;
        let used = self.loaded.remove(at);
        let tree = Arc::clone(&used.1);
        self.loaded.push(used);
        Some(tree)
    }

    fn load(&mut self, release: ReleaseId, tree: Arc<Tree>) {
        self.loaded.retain(|(id, _)| *id != release);
        if self.loaded.len() >= LOADED_MAX {
            self.loaded.remove(0);
        }
        self.loaded.push((release, tree));
    }
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let file = File::create(path).at("make the lock file", path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::InUse(path.to_owned())),
        Err(error) => Err(error).at("lock", path),
    }
}

fn staged_in(layout: &Layout) -> Result<BTreeMap<ReleaseId, Staged>, StoreError> {
    let mut staged = BTreeMap::new();
    for service in entries(&layout.releases())? {
        for dir in entries(&service)? {
            let name = dir.file_name().and_then(|name| name.to_str());
            let Some(id) = name.and_then(|name| name.parse::<ReleaseId>().ok()) else { continue };
            let header = read_header(&dir, id).map(|signed| signed.header());
            match header {
                Ok(Ok(header)) => drop(staged.insert(id, Staged::of(id, header))),
                Ok(Err(error)) => tracing::warn!(dir = %dir.display(), %error, "release left out"),
                Err(error) => tracing::warn!(%error, "release left out"),
            }
        }
    }
    Ok(staged)
}

/// The paths in a directory, sorted.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let read = fs::read_dir(dir).at("list", dir)?;
    let mut paths = Vec::new();
    for entry in read {
        paths.push(entry.at("list", dir)?.path());
    }
    paths.sort();
    Ok(paths)
}

fn read_header(dir: &Path, release: ReleaseId) -> Result<SignedHeader, StoreError> {
    let path = dir.join(HEADER);
    let bytes = fs::read(&path).at("read", &path)?;
    let signed = codec::decode::<SignedHeader>(&bytes).ok().filter(|read| read.id() == release);
    signed.ok_or(StoreError::Rot { path, offset: 0 })
}

fn read_manifest(dir: &Path, release: ReleaseId) -> Result<Manifest, StoreError> {
    let header = header_of(release, &read_header(dir, release)?)?;
    let path = dir.join(MANIFEST);
    let frame = fs::read(&path).at("read", &path)?;
    Manifest::of_header(&header, &frame).map_err(|cause| StoreError::Manifest { release, cause })
}

/// The header itself, if it can be used.
fn header_of(release: ReleaseId, signed: &SignedHeader) -> Result<Header, StoreError> {
    let header = signed.header().map_err(Into::into);
    let checked = header.and_then(|header| header.check().map(|()| header));
    checked.map_err(|cause| StoreError::Header { release, cause })
}

#[cfg(test)]
mod power_cut;
#[cfg(test)]
mod tests;
