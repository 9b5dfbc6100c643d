//! Open files, kept for a while: a chunk is read or written in microseconds, and opening its file
//! each time would cost as much again.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use baton_protocol::id::ReleaseId;

use super::error::StoreError;

/// Files open at once. Far below the usual limit of 1024 for a process, which has sockets as well.
const OPEN_MAX: usize = 256;

/// Which file: of a release that is being filled or of a staged one, and its place in the manifest.
pub(super) type Key = (ReleaseId, Use, usize);

/// What a file was opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Use {
    Fill,
    Read,
}

#[derive(Debug, Default)]
pub(super) struct Files(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    /// The files, each with the time of its last use.
    files: BTreeMap<Key, (u64, Arc<File>)>,
    /// Counts the uses.
    time: u64,
}

impl Files {
    /// The file of `key`, which `open` opens if it is not open already.
    pub fn get(
        &self,
        key: Key,
        open: impl FnOnce() -> Result<File, StoreError>,
    ) -> Result<Arc<File>, StoreError> {
        if let Some(file) = self.lock().used(key) {
            return Ok(file);
        }
        // Not under the lock: the disk may take its time.
        let file = Arc::new(open()?);
        Ok(self.lock().insert(key, file))
    }

    /// Closes all files of a release, which moves or goes.
    pub fn close(&self, release: ReleaseId) {
        self.lock().files.retain(|(of, ..), _| *of != release);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn used(&mut self, key: Key) -> Option<Arc<File>> {
        self.time += 1;
        let (last, file) = self.files.get_mut(&key)?;
        *last = self.time;
        Some(Arc::clone(file))
    }

    fn insert(&mut self, key: Key, file: Arc<File>) -> Arc<File> {
        if self.files.len() >= OPEN_MAX {
            let oldest = self.files.iter().min_by_key(|(_, (last, _))| *last);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.files.remove(&oldest);
            }
        }
        self.time += 1;
        self.files.insert(key, (self.time, Arc::clone(&file)));
        file
    }
}
