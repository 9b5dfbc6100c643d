//! How releases come to this node's disk: header, manifest, chunks, seal.
//!
//! ```text
//! Fetching manifest → Opening → Preparing → Fetching content → Sealing → Staged
//! ```
//! Any step that fails is taken again from the start after a pause; what is on disk is found again
//! by hashing, so that little is fetched twice.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::artifact::header::{ChunkRef, Header, SignedHeader};
use crate::artifact::service::ServiceSpec;
use crate::id::ReleaseId;
use crate::swarm::{Bitmap, ObjectId, Part};
use crate::text;
use crate::time::{Instant, earliest};

/// Pause before a release whose staging failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Releases that one node may have under way or on disk. More are refused until some are dropped.
const RELEASES_MAX: usize = 64;

/// Bytes of what is told of a release that does not come.
const TROUBLE_BYTES_MAX: usize = 256;

/// What the store is to do. Each is answered by a [`StoreEvent`], unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreCommand {
    /// Make room for the manifest's pieces. Not answered.
    Begin {
        /// Which release.
        header: SignedHeader,
    },
    /// Read, verify and keep the manifest, whose pieces are all there.
    Open {
        /// Which release.
        release: ReleaseId,
    },
    /// Make the tree, find what an earlier try left and what older releases have.
    Prepare {
        /// Which release.
        release: ReleaseId,
    },
    /// Sync the whole tree and move it into its place.
    Seal {
        /// Which release.
        release: ReleaseId,
    },
    /// Forget every release but these. Not answered.
    Retain {
        /// What stays.
        keep: BTreeSet<ReleaseId>,
    },
}

/// What the store has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreEvent {
    /// What was staged when the daemon started. It is told first of all, and all at once: whoever
    /// knows a part of it would let the rest go.
    Found {
        /// Headers, and what the manifests say.
        staged: Vec<(SignedHeader, Contents)>,
    },
    /// Just put there, as by a person's `seed`.
    Present {
        /// Its header.
        header: SignedHeader,
        /// What its manifest says.
        contents: Contents,
        /// Whether it was seeded on this node, so that the mesh has it from here.
        origin: bool,
    },
    /// The manifest is kept.
    Opened {
        /// Of which release.
        release: ReleaseId,
        /// What it says.
        contents: Contents,
    },
    /// The tree is made.
    Prepared {
        /// Of which release.
        release: ReleaseId,
        /// The chunks that are in it already.
        have: Bitmap,
    },
    /// The release is whole, verified and synced.
    Sealed {
        /// Which release.
        release: ReleaseId,
    },
    /// A step did not work.
    Failed {
        /// Of which release.
        release: ReleaseId,
        /// Why.
        reason: String,
    },
}

fn count(chunks: &[ChunkRef]) -> u32 {
    u32::try_from(chunks.len()).unwrap_or(u32::MAX)
}

/// What the machines need to know of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Its distinct chunks, in the order of its files.
    pub chunks: Arc<[ChunkRef]>,
    /// How its service is run, where it has one.
    pub service: Option<ServiceSpec>,
}

/// What the library wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LibraryOutput {
    /// By the store.
    Store(StoreCommand),
    /// By the swarm: get, or serve, this.
    Want {
        /// Which object.
        object: ObjectId,
        /// Its chunks.
        chunks: Arc<[ChunkRef]>,
        /// Those that are here.
        have: Bitmap,
        /// Whether the mesh has it from this node.
        origin: bool,
    },
    /// By the swarm: let go of this release.
    Unwant(ReleaseId),
    /// A release is staged, or no longer is.
    Changed(ReleaseId),
}

#[derive(Clone, Debug)]
enum Step {
    FetchingManifest,
    Opening,
    Preparing,
    FetchingContent,
    Sealing,
    Staged,
    Failed { reason: String, again_at: Instant },
}

#[derive(Clone, Debug)]
struct Volume {
    signed: SignedHeader,
    header: Header,
    contents: Option<Contents>,
    step: Step,
}

/// The releases of one node.
#[derive(Debug, Default)]
pub struct Library {
    volumes: BTreeMap<ReleaseId, Volume>,
    outputs: VecDeque<LibraryOutput>,
}

impl Library {
    /// Starts to fetch a release, unless it is known already.
    pub fn fetch(&mut self, signed: &SignedHeader) {
        let id = signed.id();
        if self.volumes.contains_key(&id) || self.volumes.len() >= RELEASES_MAX {
            return;
        }
        let Ok(header) = signed.header() else { return };
        let step = Step::FetchingManifest;
        self.volumes.insert(id, Volume { signed: signed.clone(), header, contents: None, step });
        self.begin(id);
    }

    fn begin(&mut self, id: ReleaseId) {
        let Some(volume) = self.volumes.get_mut(&id) else { return };
        volume.step = Step::FetchingManifest;
        let chunks: Arc<[ChunkRef]> = volume.header.manifest.clone().into();
        let have = Bitmap::empty(count(&chunks));
        let header = volume.signed.clone();
        self.outputs.push_back(LibraryOutput::Store(StoreCommand::Begin { header }));
        self.want(id, Part::Manifest, chunks, have, false);
    }

    fn want(
        &mut self,
        release: ReleaseId,
        part: Part,
        chunks: Arc<[ChunkRef]>,
        have: Bitmap,
        origin: bool,
    ) {
        let object = ObjectId { release, part };
        self.outputs.push_back(LibraryOutput::Want { object, chunks, have, origin });
    }

    /// The swarm has every chunk of `object`, each written.
    pub fn complete(&mut self, object: ObjectId) {
        let Some(volume) = self.volumes.get_mut(&object.release) else { return };
        let release = object.release;
        let command = match (&volume.step, object.part) {
            (Step::FetchingManifest, Part::Manifest) => {
                volume.step = Step::Opening;
                StoreCommand::Open { release }
            }
            (Step::FetchingContent, Part::Content) => {
                volume.step = Step::Sealing;
                StoreCommand::Seal { release }
            }
            _ => return,
        };
        self.outputs.push_back(LibraryOutput::Store(command));
    }

    /// Takes what the store says.
    pub fn stored(&mut self, now: Instant, event: StoreEvent) {
        match event {
            StoreEvent::Found { staged } => {
                for (header, contents) in staged {
                    self.present(&header, contents, false);
                }
            }
            StoreEvent::Present { header, contents, origin } => {
                self.present(&header, contents, origin);
            }
            StoreEvent::Opened { release, contents } => {
                let Some(volume) = self.volumes.get_mut(&release) else { return };
                volume.contents = Some(contents);
                volume.step = Step::Preparing;
                self.outputs.push_back(LibraryOutput::Store(StoreCommand::Prepare { release }));
            }
            StoreEvent::Prepared { release, have } => {
                let Some(volume) = self.volumes.get_mut(&release) else { return };
                let Some(contents) = &volume.contents else { return };
                let chunks = Arc::clone(&contents.chunks);
                volume.step = Step::FetchingContent;
                self.want(release, Part::Content, chunks, have, false);
            }
            StoreEvent::Sealed { release } => {
                let Some(volume) = self.volumes.get_mut(&release) else { return };
                volume.step = Step::Staged;
                self.outputs.push_back(LibraryOutput::Changed(release));
            }
            StoreEvent::Failed { release, reason } => {
                let Some(volume) = self.volumes.get_mut(&release) else { return };
                volume.step = Step::Failed { reason, again_at: now.after(RETRY_PAUSE) };
                self.outputs.push_back(LibraryOutput::Unwant(release));
            }
        }
    }

    fn present(&mut self, signed: &SignedHeader, contents: Contents, origin: bool) {
        let Ok(header) = signed.header() else { return };
        let id = signed.id();
        let manifest: Arc<[ChunkRef]> = header.manifest.clone().into();
        let content = Arc::clone(&contents.chunks);
        let volume =
            Volume { signed: signed.clone(), header, contents: Some(contents), step: Step::Staged };
        self.volumes.insert(id, volume);
        let all = Bitmap::full(count(&manifest));
        self.want(id, Part::Manifest, manifest, all, origin);
        let all = Bitmap::full(count(&content));
        self.want(id, Part::Content, content, all, origin);
        self.outputs.push_back(LibraryOutput::Changed(id));
    }

    /// Asks for the chunks of a release that are still missing as if for the first time: nothing has
    /// come for long, so that whatever its neighbours believe of this node is better said anew.
    pub fn ask_anew(&mut self, release: ReleaseId) {
        let fetching = |volume: &&Volume| matches!(volume.step, Step::FetchingContent);
        if self.volumes.get(&release).filter(fetching).is_some() {
            self.outputs.push_back(LibraryOutput::Store(StoreCommand::Prepare { release }));
        }
    }

    /// Lets every release go that is not in `keep`.
    pub fn retain(&mut self, keep: &BTreeSet<ReleaseId>) {
        let gone: Vec<_> = self.volumes.keys().filter(|id| !keep.contains(id)).copied().collect();
        if gone.is_empty() {
            return;
        }
        for id in gone {
            self.volumes.remove(&id);
            self.outputs.push_back(LibraryOutput::Unwant(id));
            self.outputs.push_back(LibraryOutput::Changed(id));
        }
        let keep = self.volumes.keys().copied().collect();
        self.outputs.push_back(LibraryOutput::Store(StoreCommand::Retain { keep }));
    }

    /// Tries again what failed a while ago.
    pub fn wake(&mut self, now: Instant) {
        let due = |volume: &Volume| matches!(volume.step, Step::Failed { again_at, .. } if again_at <= now);
        let due: Vec<_> =
            self.volumes.iter().filter(|(_, it)| due(it)).map(|(id, _)| *id).collect();
        for id in due {
            self.begin(id);
        }
    }

    /// When [`Library::wake`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let again_at = |volume: &Volume| match volume.step {
            Step::Failed { again_at, .. } => Some(again_at),
            _ => None,
        };
        self.volumes.values().map(again_at).fold(None, earliest)
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<LibraryOutput> {
        self.outputs.pop_front()
    }

    /// Whether a release is whole, verified and synced.
    pub fn is_staged(&self, release: ReleaseId) -> bool {
        self.volumes.get(&release).is_some_and(|volume| matches!(volume.step, Step::Staged))
    }

    /// The staged releases.
    pub fn staged(&self) -> impl Iterator<Item = ReleaseId> {
        let staged = |(_, volume): &(&ReleaseId, &Volume)| matches!(volume.step, Step::Staged);
        self.volumes.iter().filter(staged).map(|(id, _)| *id)
    }

    /// Releases on their way.
    pub fn fetching(&self) -> impl Iterator<Item = ReleaseId> {
        let fetching = |(_, volume): &(&ReleaseId, &Volume)| !matches!(volume.step, Step::Staged);
        self.volumes.iter().filter(fetching).map(|(id, _)| *id)
    }

    /// Why releases do not come, whose last try failed.
    pub fn troubles(&self) -> impl Iterator<Item = (ReleaseId, String)> {
        self.volumes.iter().filter_map(|(id, volume)| match &volume.step {
            Step::Failed { reason, .. } => Some((*id, text::cut(reason, TROUBLE_BYTES_MAX))),
            _ => None,
        })
    }

    /// The headers of all releases here or on their way.
    pub fn headers(&self) -> impl Iterator<Item = (&SignedHeader, &Header)> {
        self.volumes.values().map(|volume| (&volume.signed, &volume.header))
    }

    /// How a release's service is run, once its manifest is here.
    pub fn service(&self, release: ReleaseId) -> Option<&ServiceSpec> {
        self.volumes.get(&release)?.contents.as_ref()?.service.as_ref()
    }
}
