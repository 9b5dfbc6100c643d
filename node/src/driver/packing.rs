//! How far the seeds under way are, for whoever asks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::PackProgress;

/// The directories that are being packed. Clones are views of the same.
#[derive(Clone, Default)]
pub(super) struct Packing(Arc<Mutex<BTreeMap<PathBuf, PackProgress>>>);

impl Packing {
    pub(super) fn note(&self, directory: &Path, progress: PackProgress) {
        let mut all = self.all();
        match all.get_mut(directory) {
            // Several threads count, and the one that was first may speak last.
            Some(seen) if seen.files_done > progress.files_done => {}
            Some(seen) => *seen = progress,
            None => drop(all.insert(directory.to_owned(), progress)),
        }
    }

    pub(super) fn ended(&self, directory: &Path) {
        self.all().remove(directory);
    }

    pub(super) fn list(&self) -> Vec<(PathBuf, PackProgress)> {
        self.all().iter().map(|(directory, progress)| (directory.clone(), *progress)).collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<PathBuf, PackProgress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_never_goes_back_and_ends() {
        let (packing, place) = (Packing::default(), Path::new("/srv/shop"));
        for files_done in [1, 3, 2] {
            packing.note(place, PackProgress { files_done, files: 3, ..PackProgress::default() });
        }
        let seen = packing.list();
        assert_eq!(seen.iter().map(|(_, it)| it.files_done).collect::<Vec<_>>(), [3]);
        packing.ended(place);
        assert!(packing.list().is_empty());
    }
}
