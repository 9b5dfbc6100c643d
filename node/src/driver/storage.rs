//! Carries the machines' wishes to the store, one after the other, and what came of them back.

use std::sync::Arc;

use baton_protocol::agent::library::{Contents, StoreCommand, StoreEvent};
use baton_protocol::id::{NodeId, ReleaseId};
use baton_protocol::swarm::{ObjectId, Part};
use tokio::sync::mpsc;

use crate::net::{BulkEvent, BulkFrame};
use crate::store::{Store, StoreError};

/// Chunks that may wait to be written. Beyond that the network waits.
const WRITES_MAX: usize = 64;

/// Outcomes that may wait for the node's loop. Beyond that the store waits, and with it the network.
pub(super) const STORED_MAX: usize = 256;

/// What came of the store's work.
#[derive(Debug)]
pub(super) enum Stored {
    /// A command is done.
    Event(StoreEvent),
    /// A chunk is written.
    Chunk { from: NodeId, object: ObjectId, index: u32 },
    /// A chunk was not what it should be.
    Corrupt { from: NodeId, object: ObjectId, index: u32 },
}

/// What the store is to do.
pub(super) enum Job {
    Command(StoreCommand),
    Chunk(BulkEvent),
}

/// Starts the thread that does all writing, in order.
pub(super) fn start(
    store: Arc<Store>,
    told: mpsc::Sender<Stored>,
) -> std::io::Result<(mpsc::UnboundedSender<StoreCommand>, mpsc::Sender<BulkEvent>)> {
    // A release has one command under way, and a library has so many releases; so the loop never waits
    // for the store, which may wait for the loop.
    let (commands, mut commanded) = mpsc::unbounded_channel::<StoreCommand>();
    let (chunks, mut came) = mpsc::channel::<BulkEvent>(WRITES_MAX);
    std::thread::Builder::new().name("store".to_owned()).spawn(move || {
        let next = async || {
            tokio::select! {
                // A command waits for the chunks that came before it: `Seal` is only said when the
                // last chunk was written, so that the order between the two does not matter.
                command = commanded.recv() => command.map(Job::Command),
                chunk = came.recv() => chunk.map(Job::Chunk),
            }
        };
        let mut next = next;
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return };
        while let Some(job) = runtime.block_on(next()) {
            let result = match job {
                Job::Command(command) => obey(&store, command),
                Job::Chunk(chunk) => write(&store, chunk),
            };
            if result.is_some_and(|result| told.blocking_send(result).is_err()) {
                return;
            }
        }
    })?;
    Ok((commands, chunks))
}

fn obey(store: &Store, command: StoreCommand) -> Option<Stored> {
    let (release, result) = match command {
        StoreCommand::Begin { header } => {
            let release = header.id();
            match store.begin(&header) {
                Ok(_) => return None,
                Err(error) => (release, Err(error)),
            }
        }
        StoreCommand::Open { release } => (release, open(store, release)),
        StoreCommand::Prepare { release } => (release, prepare(store, release)),
        StoreCommand::Seal { release } => {
            (release, store.seal(release).map(|()| StoreEvent::Sealed { release }))
        }
        StoreCommand::Retain { keep } => {
            if let Err(error) = store.retain(&keep) {
                tracing::warn!(%error, "removing releases");
            }
            return None;
        }
    };
    Some(Stored::Event(result.unwrap_or_else(|error| {
        tracing::error!(%error, "store");
        StoreEvent::Failed { release, reason: error.to_string() }
    })))
}

fn open(store: &Store, release: ReleaseId) -> Result<StoreEvent, StoreError> {
    // The store reads the manifest and makes the tree in one go; `Prepare` then finds it made.
    store.prepare(release)?;
    Ok(StoreEvent::Opened { release, contents: contents(store, release)? })
}

/// What the machines need to know of a release's manifest.
pub(super) fn contents(store: &Store, release: ReleaseId) -> Result<Contents, StoreError> {
    let manifest = store.manifest(release)?;
    Ok(Contents { chunks: manifest.unique_chunks().into(), service: manifest.service().cloned() })
}

fn prepare(store: &Store, release: ReleaseId) -> Result<StoreEvent, StoreError> {
    Ok(StoreEvent::Prepared { release, have: store.prepare(release)?.present })
}

fn write(store: &Store, BulkEvent { from, frame }: BulkEvent) -> Option<Stored> {
    let BulkFrame { release, manifest, index, bytes } = frame;
    let part = if manifest { Part::Manifest } else { Part::Content };
    let object = ObjectId { release, part };
    let written = match part {
        Part::Manifest => store.write_manifest_piece(release, index, &bytes),
        Part::Content => store.write_chunk(release, index, &bytes),
    };
    match written {
        Ok(_) => Some(Stored::Chunk { from, object, index }),
        Err(StoreError::WrongBytes { .. }) => Some(Stored::Corrupt { from, object, index }),
        // Let go of, or staged meanwhile: nobody waits for it.
        Err(StoreError::Unknown(_) | StoreError::NoManifest(_)) => None,
        Err(error) => {
            let reason = error.to_string();
            Some(Stored::Event(StoreEvent::Failed { release, reason }))
        }
    }
}

/// The bytes of a chunk, verified. Blocking.
pub(super) fn read(store: &Store, object: ObjectId, index: u32) -> Result<Vec<u8>, StoreError> {
    match object.part {
        Part::Manifest => store.read_manifest_piece(object.release, index),
        Part::Content => store.read_chunk(object.release, index),
    }
}
