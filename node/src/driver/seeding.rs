//! Makes a release of a directory, beside the node's loop.

use std::sync::Arc;

use baton_protocol::artifact::header::SignedHeader;
use baton_protocol::id::{Sequence, Version};
use baton_protocol::trust;
use baton_protocol::trust::key::SecretKey;
use tokio::sync::{mpsc, oneshot};

use super::handle::{Seed, SeedError, Seeded};
use super::packing::Packing;
use crate::store::{PackProgress, PackRequest, Store};

/// What came of one seed, and who waits for it.
pub(super) struct Outcome {
    pub(super) result: Result<Seeded, SeedError>,
    answer: oneshot::Sender<Result<Seeded, SeedError>>,
}

impl Outcome {
    pub(super) fn tell(self) {
        let _ = self.answer.send(self.result);
    }
}

/// Seeds that have ended.
pub(super) struct Inbox {
    tell: mpsc::UnboundedSender<Outcome>,
    told: mpsc::UnboundedReceiver<Outcome>,
    packing: Packing,
}

impl Inbox {
    pub(super) fn new(packing: Packing) -> Self {
        // One for each seed that somebody waits for, which are as many as the API has requests.
        let (tell, told) = mpsc::unbounded_channel();
        Self { tell, told, packing }
    }

    pub(super) async fn next(&mut self) -> Option<Outcome> {
        self.told.recv().await
    }

    pub(super) fn start(
        &self,
        store: Arc<Store>,
        publisher: Option<Arc<SecretKey>>,
        known: Vec<SignedHeader>,
        seed: Seed,
        answer: oneshot::Sender<Result<Seeded, SeedError>>,
    ) {
        let (tell, packing) = (self.tell.clone(), self.packing.clone());
        tokio::task::spawn_blocking(move || {
            let note = |progress| packing.note(&seed.directory, progress);
            let result = pack(&store, publisher.as_deref(), &known, &seed, &note);
            packing.ended(&seed.directory);
            let _ = tell.send(Outcome { result, answer });
        });
    }
}

fn pack(
    store: &Store,
    publisher: Option<&SecretKey>,
    known: &[SignedHeader],
    seed: &Seed,
    note: &(dyn Fn(PackProgress) + Sync),
) -> Result<Seeded, SeedError> {
    let publisher = publisher.ok_or_else(|| {
        let text = "this host has no publisher key, so that nobody would run what it seeds; seed on \
                    the host that founded the mesh";
        SeedError::NotAPublisher(text.to_owned())
    })?;
    let highest =
        known.iter().filter_map(|signed| signed.header().ok()).map(|it| it.sequence).max();
    let version = match &seed.version {
        Some(version) => version.clone(),
        None => date_version(),
    };
    let request = PackRequest {
        source: seed.directory.clone(),
        service: seed.service.clone(),
        version,
        sequence: Sequence(highest.unwrap_or_default().0 + 1),
        expires: None,
        known: known.to_vec(),
    };
    let packed = store.pack(&request, note);
    let packed = packed.map_err(|error| SeedError::Source(error.to_string()))?;
    let signed = trust::release::sign(&packed.header, publisher);
    let header = store.set_signatures(packed.id, signed.signatures);
    let header = header.map_err(|error| SeedError::Source(error.to_string()))?;
    Ok(Seeded { header, known: packed.was_staged })
}

/// A version for a release that nobody named: when it was made, in seconds since 1970.
fn date_version() -> Version {
    let name = format!("t{}", super::clock::wall().0);
    #[allow(clippy::expect_used)]
    name.parse().expect("Invariant: a letter and digits are a name")
}
