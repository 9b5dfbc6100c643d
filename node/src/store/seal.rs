//! From whole to staged: links and modes, everything synced, and then one rename.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use baton_protocol::artifact::header::Header;
use baton_protocol::artifact::manifest::{Kind, Manifest};
use baton_protocol::failpoint::{self, Failpoint};
use baton_protocol::id::ReleaseId;

use super::error::{At, in_tree};
use super::layout::TREE;
use super::{Staged, Store, StoreError, disk, parallel};

/// From this many files on, the whole file system is synced at once: a sync of each would wait for
/// the journal as many times.
const SYNC_ALL_FROM_FILES: u64 = 512;

/// Everybody may look at what a release has at its top; what is below has the release's own modes.
const TOP_MODE: u32 = 0o755;

impl Store {
    /// Makes a release that has every chunk a staged one, durably. Does nothing if it is staged.
    ///
    /// # Errors
    /// Chunks are missing, or the disk refuses. The release is then not staged, and sealing can be
    /// tried again.
    pub fn seal(&self, release: ReleaseId) -> Result<(), StoreError> {
        if self.is_staged(release) {
            return Ok(());
        }
        let partial = self.partial(release)?;
        let filled = partial.filled()?;
        let missing = filled.missing();
        if missing > 0 {
            return Err(StoreError::NotWhole { release, missing });
        }
        self.stage(&partial.dir, release, &partial.header, &filled.tree.manifest)
    }

    /// Finishes the tree in `dir` and moves it to where staged releases are.
    pub(super) fn stage(
        &self,
        dir: &Path,
        release: ReleaseId,
        header: &Header,
        manifest: &Manifest,
    ) -> Result<(), StoreError> {
        finish(&dir.join(TREE), manifest)?;
        disk::set_mode(dir, TOP_MODE)?;
        disk::sync_dir(dir)?;
        let to = self.layout.release(&header.service, release);
        if let Some(service) = to.parent() {
            disk::ensure_dir(service)?;
            disk::sync_dir(&self.layout.releases())?;
        }
        self.files.close(release);
        failpoint::reach(Failpoint::Synced);
        disk::rename(dir, &to)?;
        failpoint::reach(Failpoint::Renamed);
        for parent in [to.parent(), dir.parent()].into_iter().flatten() {
            disk::sync_dir(parent)?;
        }
        let mut state = self.state();
        state.partial.remove(&release);
        state.staged.insert(release, Staged::of(release, header.clone()));
        drop(state);
        // Whoever read or wrote while the directory moved may have opened a file anew.
        self.files.close(release);
        Ok(())
    }
}

/// Gives a tree that has all its bytes its links and modes, and syncs it.
fn finish(tree: &Path, manifest: &Manifest) -> Result<(), StoreError> {
    let mut files = Vec::new();
    let mut dirs = BTreeMap::from([(tree.to_owned(), TOP_MODE)]);
    for entry in manifest.entries() {
        let path = in_tree(tree, &entry.path);
        match &entry.kind {
            Kind::Symlink { target } => disk::make_link(&path, Path::new(target))?,
            Kind::Dir { mode } => drop(dirs.insert(path, *mode)),
            Kind::File { mode, .. } => files.push((path, *mode)),
        }
    }
    // One file system, so that one sync covers it all.
    let sync_all = manifest.files() >= SYNC_ALL_FROM_FILES;
    parallel::map(files.len(), |at| match files.get(at) {
        Some((path, mode)) => finish_file(path, *mode, !sync_all),
        None => Ok(()),
    })?;
    // What is in a directory comes before it, as its mode may then shut it.
    for (path, mode) in dirs.iter().rev() {
        finish_dir(path, *mode, !sync_all)?;
    }
    if sync_all {
        disk::sync_all(tree)?;
    }
    Ok(())
}

fn finish_file(path: &Path, mode: u32, sync: bool) -> Result<(), StoreError> {
    // Opened before the mode is set, which may forbid that.
    let file = disk::open_to_fill(path)?;
    disk::set_mode(path, mode)?;
    if sync { disk::sync(&file, path) } else { Ok(()) }
}

fn finish_dir(path: &PathBuf, mode: u32, sync: bool) -> Result<(), StoreError> {
    let dir = File::open(path).at("open", path)?;
    disk::set_mode(path, mode)?;
    if sync { disk::sync(&dir, path) } else { Ok(()) }
}
