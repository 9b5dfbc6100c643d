//! The daemon's loop: turns events into inputs of the [`Peer`] and its outputs into I/O. It decides
//! nothing.
//!
//! * [`run`]: from a config to a running node; `identity`: who it is; `beginning`: founder or not
//! * `disk`: small durable state; `storage`: releases; `service`: processes; `clock`: time
//! * [`NodeHandle`]: how the daemon's API talks to the node

mod attempts;
mod beginning;
mod clock;
mod disk;
mod handle;
mod identity;
mod packing;
mod seeding;
mod service;
mod storage;
#[cfg(test)]
mod tests;

pub use disk::DiskError;
pub use handle::{NodeHandle, Seed, SeedError, Seeded};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use baton_protocol::agent::balancer::Sight;
use baton_protocol::agent::library::{StoreCommand, StoreEvent};
use baton_protocol::agent::service::ServiceEvent;
use baton_protocol::agent::unit::ServiceAction;
use baton_protocol::artifact::header::SignedHeader;
use baton_protocol::disk::{Batch, Token};
use baton_protocol::id::{GroupName, NodeId, RequestId};
use baton_protocol::machine::Machine as _;
use baton_protocol::peer::{Answer, Failure, Input, Note, Output, Peer, Unreadable};
use baton_protocol::swarm::{ObjectId, Part};
use baton_protocol::trust::key::SecretKey;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use crate::api;
use crate::balancer::HaProxy;
use crate::config::{BalancerConfig, Config};
use crate::keys::{self, KeyError, KeyFile};
use crate::net::{BulkFrame, Net, NetConfig, NetError, NetEvent, NetHandle, OPEN_WITHIN};
use crate::runtime::agent_check::AgentCheck;
use crate::runtime::exec::ShimProgram;
use crate::store::{Store, StoreError};

use beginning::Begun;
use handle::Request;
use packing::Packing;
use storage::Stored;

/// Where in the data directory the small durable state is: the log, and what must survive a crash.
pub const STATE_FILE: &str = "state.redb";

/// Requests from the API that may wait.
const REQUESTS_MAX: usize = 64;

/// Events of services that may wait.
const SERVICE_EVENTS_MAX: usize = 1024;

/// Looks at the balancer that may wait: more would only be older.
const SIGHTS_MAX: usize = 4;

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is neither a mesh nor a token.
    #[error(
        "this node is in no mesh yet: found one with `baton init NAME`, or join one with `baton join \
         TOKEN` or `token` in the config"
    )]
    NoMesh,
    /// The token does not do.
    #[error("the join token: {0}")]
    Token(String),
    /// Keys or the mesh file.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// Releases on disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// State on disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The founder's state is gone.
    #[error(
        "{} has founded a mesh, and the state that it had, {STATE_FILE}, is gone: to go on from nothing \
         would be a second mesh of the same name. The mesh lives on in its other nodes, and this is \
         a new one: start it with an empty data directory and a new token (baton token --address \
         HOST:PORT, of another node), and keep root.key and publisher.key", .0.display()
    )]
    StateGone(PathBuf),
    /// What the state says.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The agent-check's port.
    #[error(
        "cannot answer HAProxy's agent-check on {address}: {cause}; set `agent_check`, or \"off\""
    )]
    AgentCheck {
        /// Where.
        address: std::net::SocketAddr,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The API.
    #[error(transparent)]
    Api(#[from] api::ApiError),
    /// The operating system.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// Runs a node until it is asked to end by SIGTERM or SIGINT. Services go on without it.
///
/// # Errors
/// It cannot start; see [`RunError`].
pub async fn run(config: Config) -> Result<(), RunError> {
    let socket = config.api_socket.clone();
    let (handle, node) = start(config, ShimProgram::default()).await?;
    let api = api::serve(socket, handle)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        result = node => result,
        result = api => result.map_err(RunError::from),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// Starts a node, whose services are run by `shim`: how to talk to it, and what must be polled for it
/// to live. When that is dropped the node ends, and its services go on.
///
/// # Errors
/// It cannot start; see [`RunError`].
pub async fn start(
    config: Config,
    shim: ShimProgram,
) -> Result<(NodeHandle, impl Future<Output = Result<(), RunError>>), RunError> {
    let identity = identity::establish(&config)?;
    // The store's lock is what keeps a second daemon off this directory.
    let store = Arc::new(Store::open(&config.data_dir)?);
    let disk = disk::open(&config.data_dir.join(STATE_FILE))?;
    let agent_check = match config.agent_check {
        None => None,
        Some(address) => {
            let bound = AgentCheck::bind(address).await;
            let bound = bound.map_err(|cause| RunError::AgentCheck { address, cause })?;
            Some(Arc::new(bound))
        }
    };
    let listen = vec![config.listen];
    let net =
        Net::start(NetConfig { key_seed: identity.key.seed(), listen, open_within: OPEN_WITHIN })
            .await?;
    let Begun { peer, founds } = beginning::begin(&config, &identity, &net.handle, &disk)?;
    tracing::info!(
        mesh = %identity.mesh.name,
        node = %config.name,
        id = identity.node.short(),
        listen = ?net.handle.listen_addresses(),
        "running"
    );
    let (requests, asked) = mpsc::channel(REQUESTS_MAX);
    let packing = Packing::default();
    let handle = NodeHandle::new(requests, config.run_dir.clone(), packing.clone());
    let publisher = keys::load(&config.data_dir, KeyFile::Publisher)?.map(Arc::new);
    let means = Means { store, agent_check, net: net.handle.clone(), publisher, shim };
    let seeded = seeding::Inbox::new(packing);
    let driver = Driver::new(config, peer, means, disk.batches, seeded)?;
    let sources = Sources { net, synced: disk.synced, asked, founds };
    Ok((handle, driver.run(sources)))
}

/// Reads the balancer beside this node, where there is one.
fn watch_balancer(config: &BalancerConfig) -> mpsc::Receiver<(GroupName, Sight)> {
    let (tell, sights) = mpsc::channel(SIGHTS_MAX);
    let haproxy = HaProxy { socket: config.haproxy.clone(), backends: config.backends.clone() };
    if !haproxy.backends.is_empty() {
        tokio::spawn(haproxy.watch(tell));
    }
    sights
}

/// Where inputs come from.
struct Sources {
    net: Net,
    synced: mpsc::UnboundedReceiver<Token>,
    asked: mpsc::Receiver<Request>,
    founds: bool,
}

impl Drop for Driver {
    fn drop(&mut self) {
        tracing::info!("ending; services go on");
        self.means.net.shutdown();
    }
}

/// What a node acts with.
struct Means {
    store: Arc<Store>,
    agent_check: Option<Arc<AgentCheck>>,
    net: NetHandle,
    publisher: Option<Arc<SecretKey>>,
    shim: ShimProgram,
}

/// Where outputs go to.
struct Driver {
    config: Config,
    peer: Peer,
    means: Means,
    batches: mpsc::UnboundedSender<Batch>,
    store_commands: mpsc::UnboundedSender<StoreCommand>,
    chunks: mpsc::Sender<crate::net::BulkEvent>,
    stored: Option<mpsc::Receiver<Stored>>,
    services: BTreeMap<GroupName, mpsc::UnboundedSender<ServiceAction>>,
    tell_service: mpsc::Sender<(GroupName, ServiceEvent)>,
    service_events: Option<mpsc::Receiver<(GroupName, ServiceEvent)>>,
    seeded: seeding::Inbox,
    answers: BTreeMap<RequestId, oneshot::Sender<Result<Answer, Failure>>>,
    last_request: RequestId,
    uploads: BTreeMap<u64, (NodeId, ObjectId, u32)>,
    last_ticket: u64,
    upload_reads: mpsc::UnboundedSender<u64>,
    failed_reads: Option<mpsc::UnboundedReceiver<u64>>,
}

impl Driver {
    fn new(
        config: Config,
        peer: Peer,
        means: Means,
        batches: mpsc::UnboundedSender<Batch>,
        seeded: seeding::Inbox,
    ) -> Result<Self, RunError> {
        let (tell_stored, stored) = mpsc::channel(storage::STORED_MAX);
        let (store_commands, chunks) = storage::start(Arc::clone(&means.store), tell_stored)?;
        let (tell_service, service_events) = mpsc::channel(SERVICE_EVENTS_MAX);
        // As many as the swarm has uploads under way: some dozens.
        let (upload_reads, failed_reads) = mpsc::unbounded_channel();
        Ok(Self {
            config,
            peer,
            means,
            batches,
            store_commands,
            chunks,
            stored: Some(stored),
            services: BTreeMap::new(),
            tell_service,
            service_events: Some(service_events),
            seeded,
            answers: BTreeMap::new(),
            last_request: RequestId::default(),
            uploads: BTreeMap::new(),
            last_ticket: 0,
            upload_reads,
            failed_reads: Some(failed_reads),
        })
    }

    async fn run(mut self, sources: Sources) -> Result<(), RunError> {
        let Sources { net, mut synced, mut asked, founds } = sources;
        let Net { mut events, bulk, .. } = net;
        tokio::spawn(forward(bulk, self.chunks.clone()));
        let (Some(mut stored), Some(mut services), Some(mut failed_reads)) =
            (self.stored.take(), self.service_events.take(), self.failed_reads.take())
        else {
            return Ok(());
        };
        let mut sights = watch_balancer(&self.config.balancer);
        let mut wall = interval(Duration::from_secs(1));
        wall.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.present()?;
        for group in self.config.groups.keys().cloned().collect::<Vec<_>>() {
            self.service(&group);
        }
        self.obey();
        if founds {
            self.found(&mut synced).await?;
        }
        loop {
            let wake = self.sleep();
            tokio::select! {
                biased;
                token = synced.recv() => match token {
                    Some(token) => self.feed(Input::Persisted(token)),
                    None => return Err(unwritable()),
                },
                Some(event) = events.recv() => self.take_net_event(event),
                Some(stored) = stored.recv() => self.take_stored(stored),
                Some((group, event)) = services.recv() => self.feed(Input::Service(group, event)),
                Some((group, sight)) = sights.recv() => self.feed(Input::Balancer(group, sight)),
                Some(ticket) = failed_reads.recv() => self.upload_failed(ticket),
                Some(outcome) = self.seeded.next() => self.take_seeded(outcome),
                Some(request) = asked.recv() => self.take_request(request),
                _ = wall.tick() => self.feed(Input::WallClock(clock::wall())),
                () = wake => self.feed(Input::Timeout),
            }
        }
    }

    /// Keeps that the mesh is founded, once it is, and before anybody hears of it.
    async fn found(&mut self, synced: &mut mpsc::UnboundedReceiver<Token>) -> Result<(), RunError> {
        let first = synced.recv().await.ok_or_else(unwritable)?;
        keys::mark_founded(&self.config.data_dir)?;
        self.feed(Input::Persisted(first));
        Ok(())
    }

    /// Tells the machines what is staged already.
    fn present(&mut self) -> Result<(), RunError> {
        let mut found = Vec::new();
        for staged in self.means.store.list() {
            match (
                self.means.store.header(staged.id),
                storage::contents(&self.means.store, staged.id),
            ) {
                (Ok(header), Ok(contents)) => found.push((header, contents)),
                (Err(error), _) | (_, Err(error)) => tracing::error!(%error, "a staged release"),
            }
        }
        self.feed(Input::Store(StoreEvent::Found { staged: found }));
        Ok(())
    }

    /// Until the machines want to be woken.
    fn sleep(&self) -> impl Future<Output = ()> + use<> {
        let at = self.peer.poll_timeout();
        let now = clock::now();
        async move {
            match at {
                Some(at) => tokio::time::sleep(at.since(now)).await,
                None => std::future::pending().await,
            }
        }
    }

    fn feed(&mut self, input: Input) {
        self.peer.handle(clock::now(), input);
        self.obey();
    }

    fn obey(&mut self) {
        while let Some(output) = self.peer.poll_output() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Dial { address, expect } => self.means.net.dial(address.to_string(), expect),
            Output::HangUp { node, reason } => self.means.net.disconnect(node, reason),
            Output::Admit(node) => self.means.net.admit(node),
            Output::Send { to, frame } => self.means.net.send_control(to, frame),
            Output::Upload { to, object, index } => self.upload(to, object, index),
            Output::CancelUpload { to, object, index } => self.cancel(to, object, index),
            Output::Persist(batch) => drop(self.batches.send(batch)),
            Output::Store(command) => drop(self.store_commands.send(command)),
            Output::Service(group, action) => drop(self.service(&group).send(action)),
            Output::Answer(request, answer) => {
                if let Some(waiting) = self.answers.remove(&request) {
                    let _ = waiting.send(answer);
                }
            }
            Output::Note(note) => write_note(&note),
        }
    }

    fn take_net_event(&mut self, event: NetEvent) {
        let input = match event {
            NetEvent::Connected { node, address } => {
                let address = address.and_then(|address| address.parse().ok());
                Input::Connected { node, address }
            }
            NetEvent::Disconnected { node, reason } => {
                tracing::info!(node = node.short(), reason, "disconnected");
                self.uploads.retain(|_, (to, _, _)| *to != node);
                Input::Disconnected { node }
            }
            NetEvent::DialFailed { address, reason } => {
                tracing::debug!(address, reason, "dial failed");
                match address.parse() {
                    Ok(address) => Input::DialFailed { address },
                    Err(_) => return,
                }
            }
            NetEvent::Control { from, bytes } => Input::Control { from, frame: bytes },
            NetEvent::BulkSent { ticket, .. } => match self.uploads.remove(&ticket) {
                Some((to, object, index)) => Input::Uploaded { to, object, index },
                None => return,
            },
            NetEvent::BulkDropped { ticket, .. } => return self.upload_failed(ticket),
        };
        self.feed(input);
    }

    fn take_stored(&mut self, stored: Stored) {
        match stored {
            Stored::Event(event) => self.feed(Input::Store(event)),
            Stored::Corrupt { from, object, index } => {
                self.feed(Input::ChunkCorrupt { from, object, index });
            }
            Stored::Chunk { from, object, index } => {
                let new = self.peer.swarm().wants(object, index);
                self.feed(Input::ChunkVerified { from, object, index });
                if new {
                    self.feed(Input::ChunkStored { object, index });
                }
            }
        }
    }

    // --- uploads ----------------------------------------------------------------------------------

    fn upload(&mut self, to: NodeId, object: ObjectId, index: u32) {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        self.uploads.insert(ticket, (to, object, index));
        let (store, net, failed) =
            (Arc::clone(&self.means.store), self.means.net.clone(), self.upload_reads.clone());
        tokio::task::spawn_blocking(move || {
            let sent = match storage::read(&store, object, index) {
                Ok(bytes) => {
                    let manifest = object.part == Part::Manifest;
                    let frame = BulkFrame { release: object.release, manifest, index, bytes };
                    net.send_bulk(to, ticket, frame)
                }
                Err(error) => {
                    tracing::warn!(%error, "a chunk cannot be served");
                    false
                }
            };
            if !sent {
                let _ = failed.send(ticket);
            }
        });
    }

    fn upload_failed(&mut self, ticket: u64) {
        if let Some((to, object, index)) = self.uploads.remove(&ticket) {
            self.feed(Input::UploadFailed { to, object, index });
        }
    }

    fn cancel(&mut self, to: NodeId, object: ObjectId, index: u32) {
        let wanted = (to, object, index);
        let ticket = self.uploads.iter().find(|(_, it)| **it == wanted).map(|(ticket, _)| *ticket);
        if let Some(ticket) = ticket {
            self.uploads.remove(&ticket);
            self.means.net.cancel_bulk(to, ticket);
        }
    }

    // --- services and people ------------------------------------------------------------------------

    fn service(&mut self, group: &GroupName) -> &mpsc::UnboundedSender<ServiceAction> {
        self.services.entry(group.clone()).or_insert_with(|| {
            let vars = self.config.groups.get(group).map(|it| it.vars.clone()).unwrap_or_default();
            service::start(service::Setup {
                group: group.clone(),
                dir: self.config.run_dir.join(group.as_str()),
                vars,
                shim: self.means.shim.clone(),
                store: Arc::clone(&self.means.store),
                agent_check: self.means.agent_check.clone(),
                tell: self.tell_service.clone(),
            })
        })
    }

    fn take_request(&mut self, request: Request) {
        match request {
            Request::Operate(operation, answer) => {
                self.last_request = self.last_request.next();
                self.answers.insert(self.last_request, answer);
                self.feed(Input::Operate(self.last_request, operation));
            }
            Request::Look(view) => view(&self.peer, clock::now()),
            Request::Seed(seed, answer) => {
                let known = self.known_releases();
                let publisher = self.means.publisher.clone();
                self.seeded.start(Arc::clone(&self.means.store), publisher, known, seed, answer);
            }
        }
    }

    fn known_releases(&self) -> Vec<SignedHeader> {
        let registered = self.peer.fleet().releases().values().map(|it| it.signed.clone());
        let here = self.peer.agent().library().headers().map(|(signed, _)| signed.clone());
        registered.chain(here).collect()
    }

    fn take_seeded(&mut self, outcome: seeding::Outcome) {
        if let Ok(seeded) = &outcome.result {
            match storage::contents(&self.means.store, seeded.header.id()) {
                Ok(contents) => {
                    let header = seeded.header.clone();
                    let event = StoreEvent::Present { header, contents, origin: true };
                    self.feed(Input::Store(event));
                }
                Err(error) => tracing::error!(%error, "what was seeded"),
            }
        }
        outcome.tell();
    }
}

fn unwritable() -> RunError {
    std::io::Error::other("the state cannot be written; see the log").into()
}

async fn forward(
    mut bulk: mpsc::Receiver<crate::net::BulkEvent>,
    chunks: mpsc::Sender<crate::net::BulkEvent>,
) {
    while let Some(chunk) = bulk.recv().await {
        if chunks.send(chunk).await.is_err() {
            return;
        }
    }
}

fn write_note(note: &Note) {
    match note {
        Note::Member { name } => tracing::info!(%name, "member of the mesh"),
        Note::NotAdmitted { reason } => {
            tracing::error!(reason, "the mesh does not let this node in")
        }
        Note::Leader(Some(leader)) => tracing::info!(leader = leader.short(), "leader"),
        Note::Leader(None) => tracing::warn!("nobody leads the log that this node knows of"),
        Note::Misbehaved { node, reason } => {
            tracing::warn!(node = node.short(), reason, "a peer misbehaves");
        }
        Note::Refused { reason } => tracing::warn!(reason, "refused"),
        Note::Rollout { group, rollout, phase } => {
            tracing::info!(%group, %rollout, phase, "rollout");
        }
        Note::Outlived { by } => tracing::error!(
            life = by.0,
            "the mesh knows a later life of this node: its disk was restored or cloned. It moves \
             nothing; start with an empty data directory and a new token"
        ),
        Note::ControlFailed { reason } => {
            tracing::error!(reason, "this node votes no more; chunks and services go on");
        }
    }
}
