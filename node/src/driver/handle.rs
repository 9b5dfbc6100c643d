//! How the rest of the daemon, its API first of all, talks to the running node.

use std::path::PathBuf;

use baton_protocol::artifact::header::SignedHeader;
use baton_protocol::id::{GroupName, ServiceName, Version};
use baton_protocol::peer::{Answer, Failure, Operation, Peer};
use baton_protocol::time::Instant;
use tokio::sync::{mpsc, oneshot};

use super::packing::Packing;
use crate::store::PackProgress;

/// A question to the node, answered between two of its inputs.
pub(super) type View = Box<dyn FnOnce(&Peer, Instant) + Send>;

/// What the node's loop is asked for from inside the daemon.
pub(super) enum Request {
    Operate(Operation, oneshot::Sender<Result<Answer, Failure>>),
    Look(View),
    Seed(Seed, oneshot::Sender<Result<Seeded, SeedError>>),
}

/// A directory that is to become a release.
#[derive(Clone, Debug)]
pub struct Seed {
    /// The directory, on this machine.
    pub directory: PathBuf,
    /// The service; without it the one that `baton.toml` names.
    pub service: Option<ServiceName>,
    /// What the release is called; without it, a name made from its content.
    pub version: Option<Version>,
}

/// A release that was seeded.
#[derive(Clone, Debug)]
pub struct Seeded {
    /// Its signed header.
    pub header: SignedHeader,
    /// Whether this very release was here already, so that nothing was done.
    pub known: bool,
}

/// Why a directory did not become a release. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The directory or its `baton.toml` cannot be released.
    #[error("{0}")]
    Source(String),
    /// This host may not sign releases.
    #[error("{0}")]
    NotAPublisher(String),
    /// The node ends.
    #[error("the node is shutting down")]
    Ending,
}

/// A running node. Cheap to clone.
#[derive(Clone)]
pub struct NodeHandle {
    requests: mpsc::Sender<Request>,
    run_dir: PathBuf,
    packing: Packing,
}

impl NodeHandle {
    pub(super) fn new(requests: mpsc::Sender<Request>, run_dir: PathBuf, packing: Packing) -> Self {
        Self { requests, run_dir, packing }
    }

    /// Does what a person wants, and waits until the log has it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn operate(&self, operation: Operation) -> Result<Answer, Failure> {
        let (tell, told) = oneshot::channel();
        let ending = || Failure::NoQuorum("the node is shutting down".to_owned());
        let sent = self.requests.send(Request::Operate(operation, tell)).await;
        sent.map_err(|_| ending())?;
        told.await.unwrap_or_else(|_| Err(ending()))
    }

    /// Looks at the node between two of its inputs; `None` when it ends.
    pub async fn look<T: Send + 'static>(
        &self,
        view: impl FnOnce(&Peer, Instant) -> T + Send + 'static,
    ) -> Option<T> {
        let (tell, told) = oneshot::channel();
        let view: View = Box::new(move |peer, now| {
            let _ = tell.send(view(peer, now));
        });
        self.requests.send(Request::Look(view)).await.ok()?;
        told.await.ok()
    }

    /// Makes a release of a directory and announces it to the mesh.
    ///
    /// # Errors
    /// See [`SeedError`].
    pub async fn seed(&self, seed: Seed) -> Result<Seeded, SeedError> {
        let (tell, told) = oneshot::channel();
        let sent = self.requests.send(Request::Seed(seed, tell)).await;
        sent.map_err(|_| SeedError::Ending)?;
        told.await.unwrap_or(Err(SeedError::Ending))
    }

    /// The directories that are being made into releases, and how far that is.
    pub fn packing(&self) -> Vec<(PathBuf, PackProgress)> {
        self.packing.list()
    }

    /// The last lines of a service's output on this node. Blocking.
    pub fn tail(&self, group: &GroupName, lines: u32) -> Vec<String> {
        crate::runtime::logs::tail(&self.service_dir(group), lines as usize).unwrap_or_default()
    }

    /// Where the shim of a group's service lives.
    pub fn service_dir(&self, group: &GroupName) -> PathBuf {
        self.run_dir.join(group.as_str())
    }
}
