//! What each group runs: a link that is replaced in one step.

use std::fs;
use std::io;

use baton_protocol::id::{GroupName, ReleaseId};

use super::error::At;
use super::layout::Layout;
use super::{Store, StoreError, disk};

impl Store {
    /// Points the link of `group` at a staged release, durably and in one step.
    ///
    /// # Errors
    /// The release is not staged, or the link cannot be replaced; it is then as before.
    pub fn set_current(&self, group: &GroupName, release: ReleaseId) -> Result<(), StoreError> {
        let staged = self.state().staged.get(&release).cloned();
        let staged = staged.ok_or(StoreError::Unknown(release))?;
        let (link, currents) = (self.layout.current(group), self.layout.currents());
        // No group's name starts with a dot.
        let new = currents.join(format!(".new-{}", self.next_number()));
        if new.symlink_metadata().is_ok() {
            disk::remove_file(&new)?;
        }
        disk::make_link(&new, &Layout::link(&staged.service, release))?;
        disk::rename(&new, &link)?;
        disk::sync_dir(&currents)
    }

    /// The release that the link of `group` points at, if there is one.
    ///
    /// # Errors
    /// The link cannot be read.
    pub fn current(&self, group: &GroupName) -> Result<Option<ReleaseId>, StoreError> {
        let link = self.layout.current(group);
        match fs::read_link(&link) {
            Ok(target) => Ok(Layout::release_of_link(&target)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).at("read the link", &link),
        }
    }
}
