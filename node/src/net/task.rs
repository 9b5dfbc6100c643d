//! The loop that drives libp2p.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use baton_protocol::id::NodeId;
use futures::StreamExt as _;
use libp2p::core::Transport as _;
use libp2p::core::upgrade::Version;
use libp2p::identity::{Keypair, PublicKey, ed25519};
use libp2p::multiaddr::{Multiaddr, Protocol};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{PeerId, Swarm, tcp, tls, yamux};
use tokio::sync::mpsc;

use super::behaviour::{Behaviour, Opened, Purpose};
use super::pairs::{Pair, Pairs, Verdict};
use super::stream::{self, Outlet};
use super::{BulkEvent, NetConfig, NetError, NetEvent, Order, Outlets, socket};

/// A connection may be idle for as long as it likes: gossip speaks on it every few seconds.
const IDLE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long the first listen address may take to be bound.
const LISTEN_WITHIN: Duration = Duration::from_secs(5);

/// Where the loop tells what happens.
pub(super) struct Told {
    pub(super) events: mpsc::Sender<NetEvent>,
    pub(super) bulk: mpsc::Sender<BulkEvent>,
    pub(super) outlets: Outlets,
}

/// A dial under way.
struct Dial {
    address: String,
    multiaddr: Multiaddr,
    purpose: Purpose,
}

/// What comes back to the loop from tasks of its own.
enum Note {
    /// A connection has had its time to become one of a pair.
    Due(ConnectionId),
    Resolved(String, Option<NodeId>, Result<SocketAddr, String>),
    Ended(NodeId, u64, String),
}

struct Task {
    swarm: Swarm<Behaviour>,
    pairs: Pairs,
    dials: BTreeMap<ConnectionId, Dial>,
    told: Told,
    notes: mpsc::UnboundedSender<Note>,
    open_within: Duration,
}

/// Binds the addresses and starts the loop.
pub(super) async fn start(
    config: &NetConfig,
    orders: mpsc::UnboundedReceiver<Order>,
    told: Told,
) -> Result<Vec<SocketAddr>, NetError> {
    let (mut swarm, me) = swarm(config)?;
    let mut bound = Vec::new();
    for address in &config.listen {
        bound.push(listen(&mut swarm, *address).await?);
    }
    // Two for each connection and one for each dial, of which libp2p and the machines have a bound.
    let (notes, noted) = mpsc::unbounded_channel();
    let (pairs, dials, open_within) = (Pairs::new(me), BTreeMap::new(), config.open_within);
    let task = Task { swarm, pairs, dials, told, notes, open_within };
    tokio::spawn(task.run(orders, noted));
    Ok(bound)
}

/// libp2p, set up for the node with the key of `config`, and that node's id.
pub(super) fn swarm(config: &NetConfig) -> Result<(Swarm<Behaviour>, NodeId), NetError> {
    let setup = |error: &dyn std::fmt::Display| NetError::Setup(error.to_string());
    let mut seed = config.key_seed;
    let secret = ed25519::SecretKey::try_from_bytes(&mut seed).map_err(|it| setup(&it))?;
    let key = Keypair::from(ed25519::Keypair::from(secret));
    let me = node_of(&key.public()).ok_or_else(|| NetError::Setup("not an Ed25519 key".into()))?;
    let transport = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .map(|stream, _| socket::prepare(stream))
        .upgrade(Version::V1Lazy)
        .authenticate(tls::Config::new(&key).map_err(|it| setup(&it))?)
        .multiplex(yamux::Config::default())
        .timeout(config.open_within)
        .boxed();
    let swarm_config =
        libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(IDLE_MAX);
    let peer = key.public().to_peer_id();
    Ok((Swarm::new(transport, Behaviour::default(), peer, swarm_config), me))
}

async fn listen(swarm: &mut Swarm<Behaviour>, address: SocketAddr) -> Result<SocketAddr, NetError> {
    let refused = |reason: String| NetError::Listen { address, reason };
    // libp2p shares a port that another process has; this asks whether one does.
    std::net::TcpListener::bind(address).map_err(|it| refused(it.to_string()))?;
    let listener = swarm.listen_on(multiaddr_of(address)).map_err(|it| refused(it.to_string()))?;
    let bound = async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, address } if listener_id == listener => {
                    return socket_of(&address).ok_or_else(|| "no TCP address".to_owned());
                }
                SwarmEvent::ListenerClosed { listener_id, reason, .. }
                    if listener_id == listener =>
                {
                    return Err(reason.err().map_or_else(String::new, |it| it.to_string()));
                }
                _ => {}
            }
        }
    };
    let bound = tokio::time::timeout(LISTEN_WITHIN, bound).await;
    bound.map_err(|_| refused("no answer from the system".to_owned()))?.map_err(refused)
}

impl Task {
    async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        mut noted: mpsc::UnboundedReceiver<Note>,
    ) {
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Dial(address, expect)) => self.resolve(address, expect),
                    Some(Order::Disconnect(node, reason)) => self.disconnect(node, reason).await,
                    Some(Order::Shutdown) | None => return,
                },
                Some(note) = noted.recv() => match note {
                    Note::Resolved(address, expect, found) => self.dial(address, expect, found).await,
                    Note::Due(connection) => self.due(connection).await,
                    Note::Ended(node, generation, reason) => self.ended(node, generation, reason).await,
                },
                event = self.swarm.select_next_some() => self.take(event).await,
            }
        }
    }

    async fn tell(&mut self, event: NetEvent) {
        let _ = self.told.events.send(event).await;
    }

    fn resolve(&self, address: String, expect: Option<NodeId>) {
        let notes = self.notes.clone();
        tokio::spawn(async move {
            let found = match tokio::net::lookup_host(&address).await {
                Ok(mut all) => all.next().ok_or_else(|| "no such host".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            let _ = notes.send(Note::Resolved(address, expect, found));
        });
    }

    async fn dial(
        &mut self,
        address: String,
        expect: Option<NodeId>,
        found: Result<SocketAddr, String>,
    ) {
        let connected = expect.is_some_and(|node| self.pairs.contains(node));
        let found = if connected { Err("connected already".to_owned()) } else { found };
        match found {
            Err(reason) => self.tell(NetEvent::DialFailed { address, reason }).await,
            Ok(socket) => {
                let peer = expect.and_then(peer_of);
                self.open(address, multiaddr_of(socket), peer, Purpose::Control).await;
            }
        }
    }

    async fn open(
        &mut self,
        address: String,
        multiaddr: Multiaddr,
        peer: Option<PeerId>,
        purpose: Purpose,
    ) {
        // A port of its own for each: two connections to one address cannot share the listener's.
        let options = match peer {
            Some(peer) => DialOpts::peer_id(peer)
                .condition(PeerCondition::Always)
                .addresses(vec![multiaddr.clone()])
                .allocate_new_port()
                .build(),
            None => {
                DialOpts::unknown_peer_id().address(multiaddr.clone()).allocate_new_port().build()
            }
        };
        let id = options.connection_id();
        self.swarm.behaviour_mut().expect(id, purpose);
        self.dials.insert(id, Dial { address: address.clone(), multiaddr, purpose });
        if let Err(error) = self.swarm.dial(options) {
            self.dial_failed(id, error.to_string()).await;
        }
    }

    async fn dial_failed(&mut self, id: ConnectionId, reason: String) {
        self.swarm.behaviour_mut().forget(id);
        if let Some(dial) = self.dials.remove(&id) {
            tracing::debug!(address = dial.address, purpose = ?dial.purpose, reason, "dial failed");
            self.tell(NetEvent::DialFailed { address: dial.address, reason }).await;
        }
    }

    async fn take(&mut self, event: SwarmEvent<Opened>) {
        match event {
            SwarmEvent::Behaviour(opened) => self.opened(opened).await,
            SwarmEvent::ConnectionEstablished { connection_id, .. } => {
                self.await_pair(connection_id)
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.dial_failed(connection_id, error.to_string()).await;
            }
            SwarmEvent::ConnectionClosed { connection_id, cause, .. } => {
                if self.dials.contains_key(&connection_id) {
                    self.dial_failed(connection_id, "closed by the other end".to_owned()).await;
                }
                if let Some(node) = self.pairs.owner(connection_id) {
                    let reason = cause.map_or_else(|| "closed".to_owned(), |it| it.to_string());
                    self.disconnect(node, reason).await;
                }
            }
            _ => {}
        }
    }

    fn await_pair(&self, connection: ConnectionId) {
        let (notes, within) = (self.notes.clone(), self.open_within);
        tokio::spawn(async move {
            tokio::time::sleep(within).await;
            let _ = notes.send(Note::Due(connection));
        });
    }

    /// Closes a connection that is not one of a whole pair: a peer that opens no stream, or one of the
    /// two only, would hold it for ever, and keep this node from dialling anew.
    async fn due(&mut self, connection: ConnectionId) {
        let owner = self.pairs.owner(connection);
        let pair = owner.and_then(|node| self.pairs.get_mut(node));
        if pair.is_some_and(|pair| pair.complete_since.is_some()) {
            return;
        }
        self.swarm.close_connection(connection);
        if let Some(node) = owner {
            self.disconnect(node, "its second connection did not open in time".to_owned()).await;
        }
    }

    async fn opened(&mut self, opened: Opened) {
        let Opened { peer, connection, purpose, outbound, stream } = opened;
        let dial = self.dials.remove(&connection);
        let Some(node) = node_of_peer(&peer) else {
            self.swarm.close_connection(connection);
            return;
        };
        let address = dial.as_ref().map(|dial| dial.address.clone());
        match self.pairs.decide(node, outbound, purpose, address.clone(), Instant::now()) {
            Verdict::Keep => {}
            Verdict::Replace(old) => self.drop_pair(node, old, "replaced by a newer one").await,
            Verdict::Refuse => {
                self.swarm.close_connection(connection);
                if let Some(address) = address {
                    let reason = "connected already".to_owned();
                    self.tell(NetEvent::DialFailed { address, reason }).await;
                }
                return;
            }
        }
        let Some(pair) = self.pairs.get_mut(node) else { return };
        pair.connections.insert(purpose, connection);
        pair.waiting.insert(purpose, stream);
        if let Some(dial) = dial.filter(|dial| dial.purpose == Purpose::Control) {
            self.open(dial.address, dial.multiaddr, Some(peer), Purpose::Bulk).await;
        }
        self.complete(node).await;
    }

    /// Hands a pair over once both of its streams are there.
    async fn complete(&mut self, node: NodeId) {
        let Some(pair) = self.pairs.get_mut(node) else { return };
        if pair.waiting.len() < 2 {
            return;
        }
        let streams = (pair.waiting.remove(&Purpose::Control), pair.waiting.remove(&Purpose::Bulk));
        let (Some(control), Some(bulk)) = streams else { return };
        pair.complete_since = Some(Instant::now());
        let (generation, address) = (pair.generation, pair.address.clone());
        let (outlet, inlet) = Outlet::new();
        self.outlets().insert(node, outlet);
        self.tell(NetEvent::Connected { node, address }).await;
        let (events, chunks) = (self.told.events.clone(), self.told.bulk.clone());
        let (notes, within) = (self.notes.clone(), self.open_within);
        tokio::spawn(async move {
            let reason = stream::run(node, control, bulk, inlet, within, events, chunks).await;
            let _ = notes.send(Note::Ended(node, generation, reason));
        });
    }

    fn outlets(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, Outlet>> {
        self.told.outlets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ended(&mut self, node: NodeId, generation: u64, reason: String) {
        if self.pairs.get_mut(node).is_some_and(|pair| pair.generation == generation) {
            self.disconnect(node, reason).await;
        }
    }

    async fn disconnect(&mut self, node: NodeId, reason: String) {
        if let Some(pair) = self.pairs.remove(node) {
            self.drop_pair(node, pair, &reason).await;
        }
    }

    async fn drop_pair(&mut self, node: NodeId, pair: Pair, reason: &str) {
        for connection in pair.connections.values() {
            self.swarm.close_connection(*connection);
        }
        if pair.complete_since.is_some() {
            self.outlets().remove(&node);
            let reason = reason.to_owned();
            self.tell(NetEvent::Disconnected { node, reason }).await;
        } else if let Some(address) = pair.address {
            let reason = reason.to_owned();
            self.tell(NetEvent::DialFailed { address, reason }).await;
        }
    }
}

fn node_of(key: &PublicKey) -> Option<NodeId> {
    key.clone().try_into_ed25519().ok().map(|key| NodeId(key.to_bytes()))
}

/// A peer id of an Ed25519 key holds the key itself: an identity multihash of its protobuf form, which
/// is 4 bytes of type and length and then the key.
fn node_of_peer(peer: &PeerId) -> Option<NodeId> {
    let multihash = peer.as_ref();
    let key = PublicKey::try_decode_protobuf(multihash.digest()).ok()?;
    node_of(&key)
}

fn peer_of(node: NodeId) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(&node.0).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

fn multiaddr_of(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()))
}

fn socket_of(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}
