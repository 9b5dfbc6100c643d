//! A model of a node's store: which chunks of which release are on its disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use baton_protocol::agent::library::{Contents, StoreCommand, StoreEvent};
use baton_protocol::artifact::header::{ChunkRef, SignedHeader};
use baton_protocol::id::{ChunkHash, ReleaseId};
use baton_protocol::rng::Rng;
use baton_protocol::swarm::{Bitmap, ObjectId, Part};
use serde::Deserialize;

/// A release as its publisher made it.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) signed: SignedHeader,
    pub(crate) manifest: Arc<[ChunkRef]>,
    pub(crate) contents: Contents,
    /// How its service behaves.
    pub(crate) temper: Temper,
}

/// How the service of a release behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Temper {
    /// It gets ready and stays.
    Good,
    /// It runs and never gets ready.
    NeverReady,
    /// It ends soon after its start.
    Dies,
    /// It gets ready late, though in time.
    Slow,
    /// It gets ready, is not for a moment, and is again.
    Wavers,
}

/// All releases that there are.
pub(crate) type Catalog = BTreeMap<ReleaseId, Made>;

impl Made {
    pub(crate) fn chunks(&self, part: Part) -> &Arc<[ChunkRef]> {
        match part {
            Part::Manifest => &self.manifest,
            Part::Content => &self.contents.chunks,
        }
    }
}

#[derive(Debug, Default)]
struct Kept {
    manifest: BTreeSet<u32>,
    content: BTreeSet<u32>,
    /// Chunks whose bytes have changed since.
    rotten: BTreeSet<u32>,
    sealed: bool,
}

/// What of the releases one host has.
#[derive(Debug, Default)]
pub(crate) struct Store {
    kept: BTreeMap<ReleaseId, Kept>,
}

impl Store {
    /// Puts a whole release there, as a person's `seed` does.
    pub(crate) fn seed(&mut self, made: &Made) -> StoreEvent {
        let count = |chunks: &[ChunkRef]| (0..chunks.len() as u32).collect();
        let kept = Kept {
            manifest: count(&made.manifest),
            content: count(&made.contents.chunks),
            rotten: BTreeSet::new(),
            sealed: true,
        };
        self.kept.insert(made.signed.id(), kept);
        let (header, contents) = (made.signed.clone(), made.contents.clone());
        StoreEvent::Present { header, contents, origin: true }
    }

    /// What a starting daemon is told.
    pub(crate) fn found(&self, catalog: &Catalog) -> StoreEvent {
        let made = self.sealed().filter_map(|id| catalog.get(&id));
        let staged = made.map(|made| (made.signed.clone(), made.contents.clone())).collect();
        StoreEvent::Found { staged }
    }

    /// A crash: of what was not sealed, some chunks are lost.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        for kept in self.kept.values_mut().filter(|kept| !kept.sealed) {
            kept.content.retain(|_| rng.chance(1, 2));
            kept.manifest.retain(|_| rng.chance(1, 2));
        }
    }

    /// Whether the chunk is here.
    pub(crate) fn has(&self, object: ObjectId, index: u32) -> bool {
        self.kept.get(&object.release).is_some_and(|kept| match object.part {
            Part::Manifest => kept.manifest.contains(&index),
            Part::Content => kept.content.contains(&index) && !kept.rotten.contains(&index),
        })
    }

    /// The bytes of some chunks change, of releases that others have as well; whether there are any.
    pub(crate) fn rot(
        &mut self,
        rng: &mut Rng,
        count: usize,
        elsewhere: &BTreeSet<ReleaseId>,
    ) -> bool {
        let mut all: Vec<_> = self
            .kept
            .iter()
            .filter(|(id, _)| elsewhere.contains(id))
            .flat_map(|(id, kept)| kept.content.iter().map(|index| (*id, *index)))
            .collect();
        rng.shuffle(&mut all);
        let any = count > 0 && !all.is_empty();
        for (release, index) in all.into_iter().take(count) {
            if let Some(kept) = self.kept.get_mut(&release) {
                kept.rotten.insert(index);
            }
        }
        any
    }

    /// The releases that are whole here.
    pub(crate) fn sealed(&self) -> impl Iterator<Item = ReleaseId> {
        self.kept.iter().filter(|(_, kept)| kept.sealed).map(|(id, _)| *id)
    }

    /// The releases that this host can give to others.
    pub(crate) fn sound(&self) -> impl Iterator<Item = ReleaseId> {
        let sound = |kept: &Kept| kept.sealed && kept.rotten.is_empty();
        self.kept.iter().filter(move |(_, kept)| sound(kept)).map(|(id, _)| *id)
    }

    /// The releases that are on their way here.
    pub(crate) fn unsealed(&self) -> impl Iterator<Item = ReleaseId> {
        self.kept.iter().filter(|(_, kept)| !kept.sealed).map(|(id, _)| *id)
    }

    /// Whether the release is whole, verified and synced.
    pub(crate) fn is_sealed(&self, release: ReleaseId) -> bool {
        self.kept.get(&release).is_some_and(|kept| kept.sealed)
    }

    /// Whether bytes of the release have changed since.
    pub(crate) fn is_rotten(&self, release: ReleaseId) -> bool {
        self.kept.get(&release).is_some_and(|kept| !kept.rotten.is_empty())
    }

    /// A verified chunk is written, if there is room made for it.
    pub(crate) fn put(&mut self, object: ObjectId, index: u32) -> bool {
        let Some(kept) = self.kept.get_mut(&object.release) else { return false };
        match object.part {
            Part::Manifest => kept.manifest.insert(index),
            Part::Content => {
                kept.rotten.remove(&index);
                kept.content.insert(index)
            }
        };
        true
    }

    /// Carries a command out; the answer is for later.
    pub(crate) fn command(
        &mut self,
        catalog: &Catalog,
        command: StoreCommand,
    ) -> Option<StoreEvent> {
        match command {
            StoreCommand::Begin { header } => {
                let kept = self.kept.entry(header.id()).or_default();
                if !kept.sealed {
                    kept.manifest.clear();
                }
                None
            }
            StoreCommand::Retain { keep } => {
                self.kept.retain(|id, _| keep.contains(id));
                None
            }
            StoreCommand::Open { release } => Some(self.open(catalog, release)),
            StoreCommand::Prepare { release } => Some(self.prepare(catalog, release)),
            StoreCommand::Seal { release } => Some(self.seal(catalog, release)),
        }
    }

    fn open(&self, catalog: &Catalog, release: ReleaseId) -> StoreEvent {
        let made = catalog.get(&release);
        let whole = made.zip(self.kept.get(&release));
        let whole = whole.filter(|(made, kept)| kept.manifest.len() == made.manifest.len());
        match whole {
            Some((made, _)) => StoreEvent::Opened { release, contents: made.contents.clone() },
            None => failed(release, "the manifest is not whole"),
        }
    }

    fn prepare(&mut self, catalog: &Catalog, release: ReleaseId) -> StoreEvent {
        let Some(made) = catalog.get(&release) else { return failed(release, "unknown") };
        let known = self.hashes(catalog);
        let Some(kept) = self.kept.get_mut(&release) else {
            return failed(release, "no room was made");
        };
        let rotten = core::mem::take(&mut kept.rotten); // found by hashing
        kept.content.retain(|index| !rotten.contains(index));
        let mut have = Bitmap::empty(made.contents.chunks.len() as u32);
        for (index, chunk) in (0..).zip(made.contents.chunks.iter()) {
            if kept.content.contains(&index) || known.contains(&chunk.hash) {
                kept.content.insert(index);
                have.insert(index);
            }
        }
        StoreEvent::Prepared { release, have }
    }

    /// Chunks of sealed releases, which need not travel again.
    fn hashes(&self, catalog: &Catalog) -> BTreeSet<ChunkHash> {
        let sealed = self.kept.iter().filter(|(_, kept)| kept.sealed);
        let made = sealed.filter_map(|(id, kept)| Some((catalog.get(id)?, kept)));
        let sound = made.flat_map(|(made, kept)| {
            let chunks = (0..).zip(made.contents.chunks.iter());
            chunks.filter(|(index, _)| !kept.rotten.contains(index)).map(|(_, chunk)| chunk.hash)
        });
        sound.collect()
    }

    fn seal(&mut self, catalog: &Catalog, release: ReleaseId) -> StoreEvent {
        let chunks = catalog.get(&release).map(|made| made.contents.chunks.len());
        let whole = |kept: &&mut Kept| Some(kept.content.len()) == chunks && kept.rotten.is_empty();
        match self.kept.get_mut(&release).filter(whole) {
            Some(kept) => {
                kept.sealed = true;
                StoreEvent::Sealed { release }
            }
            None => failed(release, "chunks are missing"),
        }
    }
}

fn failed(release: ReleaseId, reason: &str) -> StoreEvent {
    StoreEvent::Failed { release, reason: reason.to_owned() }
}
