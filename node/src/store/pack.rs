//! A directory becomes a staged release. What is released is a copy, which is cut and hashed after
//! it was made, so that nobody's later change to the directory can reach the mesh.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use baton_protocol::artifact::chunker::Params;
use baton_protocol::artifact::dedup;
use baton_protocol::artifact::header::{ChunkRef, Header, Signature, SignedHeader};
use baton_protocol::artifact::manifest::{Entry, Kind, Manifest};
use baton_protocol::artifact::path::SafePath;
use baton_protocol::artifact::service::{self, ServiceFile};
use baton_protocol::codec;
use baton_protocol::id::{KeyId, ReleaseId, Sequence, ServiceName, Version};
use baton_protocol::time::UnixTime;

use super::error::{At, in_tree};
use super::layout::{HEADER, MANIFEST, TREE};
use super::walk::{Found, walk};
use super::{SourceError, Store, StoreError, disk, parallel};

/// The service definition at the root of what is released.
const SERVICE_FILE: &str = "baton.toml";

/// What is to be released.
#[derive(Clone, Debug)]
pub struct PackRequest {
    /// The directory.
    pub source: PathBuf,
    /// What it is a release of, whatever its `baton.toml` says.
    pub service: Option<ServiceName>,
    /// What people call it.
    pub version: Version,
    /// Its place among the service's releases.
    pub sequence: Sequence,
    /// After this no rollout forward to it may be created.
    pub expires: Option<UnixTime>,
    /// Releases that the mesh knows, here or not: what they are called stays theirs.
    pub known: Vec<SignedHeader>,
}

/// How far packing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackProgress {
    /// Files that are done.
    pub files_done: u64,
    /// Files in all.
    pub files: u64,
    /// Bytes that are done.
    pub bytes_done: u64,
    /// Bytes in all.
    pub bytes: u64,
}

/// A directory that is now a staged release on this host.
#[derive(Clone, Debug)]
pub struct Packed {
    /// Which release.
    pub id: ReleaseId,
    /// Its header, without signatures where it is new: see [`Store::set_signatures`].
    pub signed: SignedHeader,
    /// What the header says.
    pub header: Header,
    /// Its manifest.
    pub manifest: Arc<Manifest>,
    /// Bytes of chunks that no earlier release of the service on this host has.
    pub new_bytes: u64,
    /// Files and directories with mode bits that a release does not carry, such as set-user-id.
    pub dropped_bits: Vec<SafePath>,
    /// The very same version with the same contents was staged already, and nothing was made.
    pub was_staged: bool,
}

/// Counts what is done, over several threads.
struct Counter<'a> {
    files: AtomicU64,
    bytes: AtomicU64,
    of: &'a Found,
    tell: &'a (dyn Fn(PackProgress) + Sync),
}

impl Store {
    /// Makes a release of a directory and stages it. It is not signed yet.
    ///
    /// # Errors
    /// The directory is refused, with the path to blame, or the disk refuses. Nothing is left then.
    pub fn pack(
        &self,
        request: &PackRequest,
        progress: &(dyn Fn(PackProgress) + Sync),
    ) -> Result<Packed, StoreError> {
        let source = request.source.canonicalize().at("find", &request.source)?;
        if self.layout.root.starts_with(&source) {
            return Err(StoreError::source(source, SourceError::HoldsStore));
        }
        let found = walk(&source)?;
        let dir = self.layout.staging().join(format!("pack-{}", self.next_number()));
        disk::ensure_private_dir(&dir)?;
        let packed = self.pack_into(&dir, &source, request, &found, progress);
        // Where it failed, or made nothing new: what was copied has no use.
        if dir.exists() {
            let discarded = self.discard(&dir);
            return packed.and_then(|packed| discarded.map(|()| packed));
        }
        packed
    }

    /// Adds the publishers' signatures to a staged release, durably.
    ///
    /// # Errors
    /// The release is not staged, or the disk refuses.
    pub fn set_signatures(
        &self,
        release: ReleaseId,
        signatures: Vec<(KeyId, Signature)>,
    ) -> Result<SignedHeader, StoreError> {
        let dir = self.release_dir(release)?;
        let signed = SignedHeader { signatures, ..super::read_header(&dir, release)? };
        disk::write_atomically(&dir.join(HEADER), &codec::encode(&signed))?;
        Ok(signed)
    }

    fn pack_into(
        &self,
        dir: &Path,
        source: &Path,
        request: &PackRequest,
        found: &Found,
        progress: &(dyn Fn(PackProgress) + Sync),
    ) -> Result<Packed, StoreError> {
        let tree = dir.join(TREE);
        make_dirs(&tree, found)?;
        let file = service_file(source, found)?;
        let service = request.service.clone().or(file.service);
        let service = service.ok_or_else(|| StoreError::source(source, SourceError::NoService))?;
        let params = self.params(&service, found.size_bytes);
        let counter = Counter { files: 0.into(), bytes: 0.into(), of: found, tell: progress };
        let entries = parallel::map(found.entries.len(), |at| match found.entries.get(at) {
            Some(entry) => copy_entry(source, &tree, entry, params, &counter).map(Some),
            None => Ok(None),
        })?;
        let refused = |error| StoreError::source(source, error);
        let entries = entries.into_iter().flatten().collect();
        let manifest = Manifest::new(params, file.spec, entries).map_err(refused)?;
        let (frame, pieces) = manifest.to_frame().map_err(refused)?;
        let header = Header {
            service,
            version: request.version.clone(),
            sequence: request.sequence,
            expires: request.expires,
            manifest: pieces,
            size_bytes: manifest.size_bytes(),
            files: manifest.files(),
        };
        let signed = match known_as(&header, &request.known, source)? {
            Some(known) => known.clone(),
            None => SignedHeader { bytes: codec::encode(&header), signatures: Vec::new() },
        };
        let mut packed = self.described(signed, manifest, found.dropped_bits.clone())?;
        if let Some(staged) = self.same_version(source, &packed.header)? {
            return Ok(Packed { was_staged: true, ..self.described_staged(staged, packed)? });
        }
        packed.new_bytes = self.new_bytes(&packed);
        self.state().unheard.insert(packed.id);
        disk::write_atomically(&dir.join(MANIFEST), &frame)?;
        disk::write_atomically(&dir.join(HEADER), &codec::encode(&packed.signed))?;
        self.stage(dir, packed.id, &packed.header, &packed.manifest)?;
        Ok(packed)
    }

    fn described(
        &self,
        signed: SignedHeader,
        manifest: Manifest,
        dropped_bits: Vec<SafePath>,
    ) -> Result<Packed, StoreError> {
        let (id, manifest) = (signed.id(), Arc::new(manifest));
        let header = super::header_of(id, &signed)?;
        Ok(Packed { id, signed, header, manifest, new_bytes: 0, dropped_bits, was_staged: false })
    }

    fn described_staged(&self, id: ReleaseId, packed: Packed) -> Result<Packed, StoreError> {
        let signed = self.header(id)?;
        let header = super::header_of(id, &signed)?;
        Ok(Packed { id, signed, header, ..packed })
    }

    /// The staged release of the same version, which must have the same contents.
    fn same_version(&self, source: &Path, new: &Header) -> Result<Option<ReleaseId>, StoreError> {
        let list = self.list();
        let same = |staged: &&super::Staged| {
            staged.service == new.service && staged.version == new.version
        };
        let Some(staged) = list.iter().find(same) else { return Ok(None) };
        let old = super::header_of(staged.id, &self.header(staged.id)?)?;
        if old.manifest == new.manifest {
            return Ok(Some(staged.id));
        }
        Err(version_taken(source, new))
    }

    /// How the service's last release on this host was cut, or what fits.
    fn params(&self, service: &ServiceName, bytes: u64) -> Params {
        let last = self.older_trees(service).first().map(|old| old.manifest.params());
        last.map_or_else(|| Params::for_size(bytes), |last| Params::for_successor(last, bytes))
    }

    fn new_bytes(&self, packed: &Packed) -> u64 {
        let older = self.older_trees(&packed.header.service);
        let releases: Vec<_> = older.iter().map(|old| (old.release, &*old.manifest)).collect();
        dedup::plan(&packed.manifest, &releases).missing_bytes
    }
}

/// The release of the same version that the mesh knows, which must have the same contents. A release
/// that is only gone from this disk comes back as itself, and not as a second one of its name.
fn known_as<'a>(
    new: &Header,
    known: &'a [SignedHeader],
    source: &Path,
) -> Result<Option<&'a SignedHeader>, StoreError> {
    for signed in known {
        let Ok(old) = signed.header() else { continue };
        if old.service == new.service && old.version == new.version {
            let same = old.manifest == new.manifest;
            return if same { Ok(Some(signed)) } else { Err(version_taken(source, new)) };
        }
    }
    Ok(None)
}

fn version_taken(source: &Path, new: &Header) -> StoreError {
    let (service, version) = (new.service.clone(), new.version.clone());
    StoreError::source(source, SourceError::VersionTaken { service, version })
}

impl Counter<'_> {
    fn add(&self, bytes: u64) {
        let files_done = self.files.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes_done = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let (files, bytes) = (self.of.files, self.of.size_bytes);
        (self.tell)(PackProgress { files_done, files, bytes_done, bytes });
    }
}

fn make_dirs(tree: &Path, found: &Found) -> Result<(), StoreError> {
    disk::ensure_private_dir(tree)?;
    for entry in &found.entries {
        if matches!(entry.kind, Kind::Dir { .. }) {
            disk::ensure_private_dir(&in_tree(tree, &entry.path))?;
        }
    }
    Ok(())
}

/// What the tree's `baton.toml` says; nothing where there is none.
fn service_file(source: &Path, found: &Found) -> Result<ServiceFile, StoreError> {
    if !found.entries.iter().any(|entry| entry.path.as_str() == SERVICE_FILE) {
        return Ok(ServiceFile { service: None, spec: None });
    }
    let path = source.join(SERVICE_FILE);
    let text = fs::read_to_string(&path).at("read", &path)?;
    service::parse(&text).map_err(|error| StoreError::source(path, error))
}

/// Copies a file into the new tree, and cuts and hashes the copy. Anything else is as it was found.
fn copy_entry(
    source: &Path,
    tree: &Path,
    entry: &Entry,
    params: Params,
    counter: &Counter<'_>,
) -> Result<Entry, StoreError> {
    let Kind::File { mode, size, .. } = entry.kind else { return Ok(entry.clone()) };
    let (from, to) = (in_tree(source, &entry.path), in_tree(tree, &entry.path));
    let copy = copy_file(&from, &to, size)?;
    let chunks = cut_file(&copy, &to, size, params)?;
    counter.add(size);
    Ok(Entry { path: entry.path.clone(), kind: Kind::File { mode, size, chunks } })
}

fn copy_file(from: &Path, to: &Path, size: u64) -> Result<File, StoreError> {
    let mut source = File::open(from).at("read", from)?;
    let mut copy = disk::open_to_fill(to)?;
    let before = source.metadata().at("look at", from)?;
    disk::copy_all(&mut source, &mut copy, to)?;
    let after = source.metadata().at("look at", from)?;
    let copied = copy.metadata().at("look at", to)?.len();
    let same = before.modified().ok() == after.modified().ok() && after.len() == size;
    if copied == size && same {
        return Ok(copy);
    }
    Err(StoreError::source(from, SourceError::Changed))
}

/// The chunks of a file. Chunks of zeros become holes.
fn cut_file(
    file: &File,
    path: &Path,
    size: u64,
    params: Params,
) -> Result<Vec<ChunkRef>, StoreError> {
    let mut chunks = Vec::new();
    let mut window = Vec::new();
    let (mut start, mut end) = (0, 0u64);
    while start < size {
        // Several of the largest chunks at once, so that little is moved and read.
        if window.len() < params.max() && end < size {
            let more = (params.max() as u64 * 4).min(size - end);
            end += read_more(file, &mut window, end, more).at("read", path)?;
        }
        let mut rest = window.as_slice();
        while rest.len() >= params.max() || (end == size && !rest.is_empty()) {
            let Some((chunk, after)) = rest.split_at_checked(params.next_len(rest)) else { break };
            if disk::is_zero(chunk) {
                disk::punch_hole(file, start, chunk.len());
            }
            chunks.push(ChunkRef::of(chunk));
            start += chunk.len() as u64;
            rest = after;
        }
        window = rest.to_vec();
    }
    Ok(chunks)
}

fn read_more(file: &File, window: &mut Vec<u8>, offset: u64, more: u64) -> io::Result<u64> {
    let kept = window.len();
    window.resize(kept + usize::try_from(more).map_err(io::Error::other)?, 0);
    let (_, free) = window.split_at_mut(kept);
    file.read_exact_at(free, offset)?;
    Ok(more)
}
