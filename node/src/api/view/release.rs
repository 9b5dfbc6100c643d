//! Releases: which there are, how they travel, and how a directory becomes one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use baton_protocol::artifact::header::Header;
use baton_protocol::id::{GroupName, ReleaseId};
use baton_protocol::peer::Peer;
use baton_protocol::swarm::{ObjectId, Part};
use serde::{Deserialize, Serialize};

use crate::store::PackProgress;

/// A release.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReleaseView {
    /// Its id.
    pub id: String,
    /// Of which service.
    pub service: String,
    /// What it is called.
    pub version: String,
    /// Its place among the service's releases.
    pub sequence: u64,
    /// Bytes of its files.
    pub size_bytes: u64,
    /// Number of its files.
    pub files: u64,
    /// Whether it is staged on this node.
    pub staged_here: bool,
    /// Whether the log has it.
    pub registered: bool,
}

/// How much of a release went where, on this node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Transfer {
    /// Of which release.
    pub release: String,
    /// What it is called, where the log or the library knows.
    pub version: Option<String>,
    /// Bytes of its chunks and its manifest.
    pub bytes_total: u64,
    /// Bytes that are here.
    pub bytes_have: u64,
    /// Bytes that came over the network and were new.
    pub bytes_received: u64,
    /// Bytes that came though they were here.
    pub bytes_duplicate: u64,
    /// Bytes sent to others.
    pub bytes_sent: u64,
    /// Whether it is whole, verified and synced.
    pub staged: bool,
}

/// A directory that is being made into a release on this node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SeedView {
    /// The directory.
    pub directory: String,
    /// Files that are done.
    pub files_done: u64,
    /// Files in all.
    pub files: u64,
    /// Bytes that are done.
    pub bytes_done: u64,
    /// Bytes in all.
    pub bytes: u64,
}

/// The releases that the log knows, and those that only this node does.
pub fn releases(peer: &Peer) -> Vec<ReleaseView> {
    let fleet = peer.fleet();
    let library = peer.agent().library();
    let here = library.headers().map(|(signed, header)| (signed.id(), header.clone()));
    let registered = fleet.releases().iter().map(|(id, release)| (*id, release.header.clone()));
    let all: BTreeMap<_, _> = here.chain(registered).collect();
    let view = |(id, header): (ReleaseId, Header)| ReleaseView {
        id: id.to_string(),
        service: header.service.to_string(),
        version: header.version.to_string(),
        sequence: header.sequence.0,
        size_bytes: header.size_bytes,
        files: header.files,
        staged_here: library.is_staged(id),
        registered: fleet.releases().contains_key(&id),
    };
    let mut releases: Vec<_> = all.into_iter().map(view).collect();
    releases.sort_by(|a, b| (&a.service, a.sequence).cmp(&(&b.service, b.sequence)));
    releases
}

/// How much of each release went where, on this node.
pub fn transfers(peer: &Peer) -> Vec<Transfer> {
    let mut by_release: BTreeMap<ReleaseId, Transfer> = BTreeMap::new();
    for object in peer.swarm().objects() {
        let ObjectId { release, part } = *object;
        let Some(progress) = peer.swarm().progress(ObjectId { release, part }) else { continue };
        let transfer = by_release.entry(release).or_default();
        transfer.bytes_total += progress.bytes_total;
        transfer.bytes_have += progress.bytes_have;
        transfer.bytes_received += progress.bytes_received.values().sum::<u64>();
        transfer.bytes_duplicate += progress.bytes_duplicate;
        transfer.bytes_sent += progress.bytes_sent;
        if part == Part::Content {
            transfer.staged = peer.agent().library().is_staged(release);
        }
    }
    let library = peer.agent().library();
    let versions: BTreeMap<_, _> = library
        .headers()
        .map(|(signed, header)| (signed.id(), header.version.to_string()))
        .collect();
    let named = by_release.into_iter().map(|(release, transfer)| Transfer {
        release: release.to_string(),
        version: versions.get(&release).cloned(),
        ..transfer
    });
    named.collect()
}

/// The seeds under way.
pub fn seeds(packing: Vec<(PathBuf, PackProgress)>) -> Vec<SeedView> {
    let view = |(directory, progress): (PathBuf, PackProgress)| SeedView {
        directory: directory.display().to_string(),
        files_done: progress.files_done,
        files: progress.files,
        bytes_done: progress.bytes_done,
        bytes: progress.bytes,
    };
    packing.into_iter().map(view).collect()
}

/// The release that a person means by a version or an id.
pub fn find_release(peer: &Peer, group: &GroupName, text: &str) -> Option<ReleaseId> {
    let fleet = peer.fleet();
    let service = fleet.groups().get(group).and_then(|group| group.service.clone());
    let fits = |id: &ReleaseId, header: &Header| {
        let of_service = service.as_ref().is_none_or(|service| *service == header.service);
        id.to_string() == text || (of_service && header.version.as_str() == text)
    };
    fleet.releases().iter().find(|(id, release)| fits(id, &release.header)).map(|(id, _)| *id)
}
