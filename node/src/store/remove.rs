//! Removing releases. A directory is renamed into the trash before it is emptied, so that half a
//! release is never taken for a whole one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use baton_protocol::id::ReleaseId;

use super::layout::Layout;
use super::{Store, StoreError, disk, entries};

impl Store {
    /// Removes the releases that are not in `keep`, whole or not, and returns them: also what an earlier
    /// run had begun to fetch, and nobody wants any more. What a group's link points at is kept in any
    /// case, and what was packed here until it is in `keep` for the first time: a release is seeded
    /// beside whoever decides what is kept, who may not have heard of it.
    ///
    /// # Errors
    /// A directory cannot be moved or removed; those before it are gone.
    pub fn retain(&self, keep: &BTreeSet<ReleaseId>) -> Result<Vec<ReleaseId>, StoreError> {
        let pinned = self.pinned()?;
        let mut going = self.unwanted(keep, &pinned);
        for &release in &going {
            let dir = self.release_dir(release)?;
            let mut state = self.state();
            state.staged.remove(&release);
            state.loaded.retain(|(id, _)| *id != release);
            drop(state);
            self.files.close(release);
            self.discard(&dir)?;
        }
        for release in self.partials()?.into_iter().filter(|id| !keep.contains(id)) {
            self.remove_partial(release)?;
            going.push(release);
        }
        Ok(going)
    }

    /// The staged releases that nothing keeps.
    fn unwanted(&self, keep: &BTreeSet<ReleaseId>, pinned: &BTreeSet<ReleaseId>) -> Vec<ReleaseId> {
        let mut state = self.state();
        state.unheard.retain(|id| !keep.contains(id));
        let kept = [keep, pinned, &state.unheard];
        let staged = state.staged.keys().copied();
        staged.filter(|id| !kept.iter().any(|set| set.contains(id))).collect()
    }

    /// Forgets a release that is not whole, and removes what is there of it.
    fn remove_partial(&self, release: ReleaseId) -> Result<(), StoreError> {
        self.state().partial.remove(&release);
        self.files.close(release);
        self.discard(&self.layout.partial(release))
    }

    /// The releases that are not whole, those of earlier runs included.
    pub(super) fn partials(&self) -> Result<Vec<ReleaseId>, StoreError> {
        let paths = entries(&self.layout.staging())?;
        let id = |path: &Path| path.file_name()?.to_str()?.parse().ok();
        Ok(paths.iter().filter_map(|path| id(path)).collect())
    }

    /// Moves a directory out of sight, durably, and then removes it.
    pub(super) fn discard(&self, dir: &Path) -> Result<(), StoreError> {
        let trash = self.layout.trash().join(self.next_number().to_string());
        disk::rename(dir, &trash)?;
        dir.parent().map_or(Ok(()), disk::sync_dir)?;
        disk::remove_tree(&trash)
    }

    /// Removes what an earlier run had no time to remove, and releases that it was making.
    pub(super) fn empty_trash(&self) -> Result<(), StoreError> {
        for path in entries(&self.layout.trash())? {
            disk::remove_tree(&path)?;
        }
        for path in entries(&self.layout.staging())? {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            if name.is_some_and(|name| name.starts_with("pack-")) {
                disk::remove_tree(&path)?;
            }
        }
        Ok(())
    }

    fn pinned(&self) -> Result<BTreeSet<ReleaseId>, StoreError> {
        let links = entries(&self.layout.currents())?;
        let target = |link: &Path| Layout::release_of_link(&fs::read_link(link).ok()?);
        Ok(links.iter().filter_map(|link| target(link)).collect())
    }
}
