//! Where things are in the data directory.
//!
//! ```text
//! store.lock                              held by the one process that has the store open
//! releases/<service>/<release>/header     the signed header
//! releases/<service>/<release>/manifest   the manifest's frame
//! releases/<service>/<release>/tree/      the files; what is here is whole and synced
//! staging/<release>/                      the same, not whole yet
//! staging/<release>/manifest.part         a manifest that is not whole yet
//! staging/pack-<n>/                       a release that is being made of a directory
//! current/<group>                         a link to the tree that the group runs
//! trash/                                  what is being removed
//! ```

use std::path::{Path, PathBuf};

use baton_protocol::id::{GroupName, ReleaseId, ServiceName};

pub(super) const HEADER: &str = "header";
pub(super) const MANIFEST: &str = "manifest";
pub(super) const MANIFEST_PART: &str = "manifest.part";
pub(super) const TREE: &str = "tree";

/// The data directory.
#[derive(Debug)]
pub(super) struct Layout {
    pub root: PathBuf,
}

impl Layout {
    pub fn lock(&self) -> PathBuf {
        self.root.join("store.lock")
    }

    pub fn releases(&self) -> PathBuf {
        self.root.join("releases")
    }

    pub fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    pub fn currents(&self) -> PathBuf {
        self.root.join("current")
    }

    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// The directory of a staged release.
    pub fn release(&self, service: &ServiceName, release: ReleaseId) -> PathBuf {
        self.releases().join(service.as_str()).join(release.to_string())
    }

    /// The directory of a release that is not whole yet.
    pub fn partial(&self, release: ReleaseId) -> PathBuf {
        self.staging().join(release.to_string())
    }

    pub fn current(&self, group: &GroupName) -> PathBuf {
        self.currents().join(group.as_str())
    }

    /// What the link of a group says: relative, so that the data directory can be moved.
    pub fn link(service: &ServiceName, release: ReleaseId) -> PathBuf {
        Path::new("../releases").join(service.as_str()).join(release.to_string()).join(TREE)
    }

    /// The release that a group's link points at.
    pub fn release_of_link(link: &Path) -> Option<ReleaseId> {
        link.parent()?.file_name()?.to_str()?.parse().ok()
    }
}
