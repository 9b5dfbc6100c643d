//! The headers that a node keeps and spreads.
//!
//! There is room for so many, and which ones stay is a matter of the set alone and not of the order in
//! which they came: else two nodes would give each other for ever what the other one has just dropped.
//! Each service keeps its newest; where there are too many in all, the service that has most of them
//! loses its oldest.

use std::collections::{BTreeMap, BTreeSet};

use crate::artifact::header::SignedHeader;
use crate::id::{ReleaseId, Sequence, ServiceName};
use crate::limits::RELEASES_PER_SERVICE;

/// Headers that a node keeps. Their list fits into one message.
pub(super) const HEADERS_MAX: usize = 1024;

/// The headers, by release and by service.
#[derive(Debug)]
pub(super) struct Shelf {
    headers: BTreeMap<ReleaseId, SignedHeader>,
    services: BTreeMap<ServiceName, BTreeSet<(Sequence, ReleaseId)>>,
    digest: [u8; 32],
}

impl Shelf {
    pub(super) fn new() -> Self {
        let digest = digest(core::iter::empty());
        Self { headers: BTreeMap::new(), services: BTreeMap::new(), digest }
    }

    pub(super) fn headers(&self) -> &BTreeMap<ReleaseId, SignedHeader> {
        &self.headers
    }

    /// The BLAKE3 hash of the sorted ids.
    pub(super) fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Puts a header there and gives back what had to go for it, which may be that header itself.
    /// One that cannot be read has no place and goes at once.
    pub(super) fn put(&mut self, header: SignedHeader) -> Vec<ReleaseId> {
        let id = header.id();
        let Ok(content) = header.header() else { return vec![id] };
        self.headers.insert(id, header);
        let releases = self.services.entry(content.service.clone()).or_default();
        releases.insert((content.sequence, id));
        let mut gone = Vec::new();
        if releases.len() > RELEASES_PER_SERVICE {
            gone.extend(self.drop_oldest(&content.service));
        }
        if self.headers.len() > HEADERS_MAX {
            let largest = self.services.iter().max_by_key(|(_, releases)| releases.len());
            let largest = largest.map(|(service, _)| service.clone());
            gone.extend(largest.and_then(|service| self.drop_oldest(&service)));
        }
        self.digest = digest(self.headers.keys());
        gone
    }

    fn drop_oldest(&mut self, service: &ServiceName) -> Option<ReleaseId> {
        let (_, oldest) = self.services.get_mut(service)?.pop_first()?;
        self.headers.remove(&oldest);
        Some(oldest)
    }

    /// Takes a header away; false if it was not there.
    pub(super) fn remove(&mut self, release: ReleaseId) -> bool {
        if self.headers.remove(&release).is_none() {
            return false;
        }
        for releases in self.services.values_mut() {
            releases.retain(|(_, id)| *id != release);
        }
        self.services.retain(|_, releases| !releases.is_empty());
        self.digest = digest(self.headers.keys());
        true
    }
}

fn digest<'a>(ids: impl Iterator<Item = &'a ReleaseId>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for id in ids {
        hasher.update(&id.0);
    }
    *hasher.finalize().as_bytes()
}
