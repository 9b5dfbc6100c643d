//! The wires between nodes: libp2p over TCP with TLS and yamux.
//!
//! Between two nodes there are two connections, one for control and one for bulk, so that a small
//! frame never waits behind a chunk. Each carries one stream of length-prefixed frames, which tasks
//! of its own read and write, off the loop that drives libp2p.
//!
//! * `behaviour`: which connection is which, towards libp2p
//! * `task`: the loop; `pairs`: which of two nodes' connections are kept
//! * `stream`: frames on one stream; `socket`: what is set on each socket

mod behaviour;
mod pairs;
mod socket;
mod stream;
mod task;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use baton_protocol::id::{NodeId, ReleaseId};
use tokio::sync::mpsc;

use stream::Outlet;

/// Events that may wait for the node's loop. When it lags, reading waits.
const EVENTS_MAX: usize = 4096;

/// Chunks that may wait for the node's loop.
const BULK_EVENTS_MAX: usize = 64;

/// How the wires are started.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// The seed of the node's Ed25519 key.
    pub key_seed: [u8; 32],
    /// Where to listen. Port 0 takes any free one.
    pub listen: Vec<SocketAddr>,
    /// How long each step may take by which a connection comes to be of use: the transport's
    /// handshakes; both connections with their streams; the peer's proof. Usually [`OPEN_WITHIN`].
    pub open_within: Duration,
}

/// Time enough for a handshake over a slow link and a busy processor, and little for one who only
/// holds a connection.
pub const OPEN_WITHIN: Duration = Duration::from_secs(10);

/// What happens on the wires.
#[derive(Debug)]
pub enum NetEvent {
    /// Both connections to a node are open.
    Connected {
        /// Who, as the transport has proved.
        node: NodeId,
        /// What was dialled, where this node dialled.
        address: Option<String>,
    },
    /// They are closed.
    Disconnected {
        /// Who.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// A dial came to nothing.
    DialFailed {
        /// What was dialled.
        address: String,
        /// Why.
        reason: String,
    },
    /// A control frame.
    Control {
        /// From whom.
        from: NodeId,
        /// The frame.
        bytes: Vec<u8>,
    },
    /// A chunk was handed to the socket.
    BulkSent {
        /// To whom.
        to: NodeId,
        /// The sender's number for it.
        ticket: u64,
    },
    /// A chunk was not sent.
    BulkDropped {
        /// To whom.
        to: NodeId,
        /// The sender's number for it.
        ticket: u64,
    },
}

/// A chunk that came.
#[derive(Debug)]
pub struct BulkEvent {
    /// From whom.
    pub from: NodeId,
    /// The chunk.
    pub frame: BulkFrame,
}

/// A chunk on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkFrame {
    /// Of which release.
    pub release: ReleaseId,
    /// Whether it is a piece of the manifest.
    pub manifest: bool,
    /// Its place in the object.
    pub index: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Why the wires could not be started.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// An address that cannot be listened on.
    #[error("cannot listen on {address}: {reason}; is another baton running, or set `listen`?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        reason: String,
    },
    /// libp2p refuses the key or its own set-up.
    #[error("the transport cannot be set up: {0}")]
    Setup(String),
}

/// The wires. Cheap to clone; no call waits.
#[derive(Clone)]
pub struct NetHandle {
    orders: mpsc::UnboundedSender<Order>,
    outlets: Outlets,
    listening: Vec<SocketAddr>,
}

pub(crate) type Outlets = Arc<Mutex<BTreeMap<NodeId, Outlet>>>;

/// What the loop is asked for. Their number is bounded by what the node's machines ask for.
pub(crate) enum Order {
    Dial(String, Option<NodeId>),
    Disconnect(NodeId, String),
    Shutdown,
}

/// The wires of one node, and what comes over them.
pub struct Net {
    /// To act with.
    pub handle: NetHandle,
    /// Connections and control frames.
    pub events: mpsc::Receiver<NetEvent>,
    /// Chunks. When they are not taken, the senders wait.
    pub bulk: mpsc::Receiver<BulkEvent>,
}

impl Net {
    /// Starts to listen.
    ///
    /// # Errors
    /// See [`NetError`].
    pub async fn start(config: NetConfig) -> Result<Self, NetError> {
        let (orders, taken) = mpsc::unbounded_channel();
        let (tell_events, events) = mpsc::channel(EVENTS_MAX);
        let (tell_bulk, bulk) = mpsc::channel(BULK_EVENTS_MAX);
        let outlets = Outlets::default();
        let told =
            task::Told { events: tell_events, bulk: tell_bulk, outlets: Arc::clone(&outlets) };
        let listening = task::start(&config, taken, told).await?;
        Ok(Self { handle: NetHandle { orders, outlets, listening }, events, bulk })
    }
}

impl NetHandle {
    /// Where this node listens.
    pub fn listen_addresses(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// Opens both connections to `host:port`. Answered by `Connected` or `DialFailed`.
    pub fn dial(&self, address: String, expect: Option<NodeId>) {
        let _ = self.orders.send(Order::Dial(address, expect));
    }

    /// Sends a control frame. A peer that does not take its frames is disconnected.
    pub fn send_control(&self, to: NodeId, bytes: Vec<u8>) {
        let result = self.with_outlet(to, |outlet| outlet.send_control(bytes));
        if result == Some(false) {
            self.disconnect(to, "it does not read what it is sent".to_owned());
        }
    }

    /// Sends a chunk; false if there is no connection or its queue is full.
    pub fn send_bulk(&self, to: NodeId, ticket: u64, frame: BulkFrame) -> bool {
        self.with_outlet(to, |outlet| outlet.send_bulk(ticket, frame)).unwrap_or(false)
    }

    /// Stops the sending of a chunk that still waits for its turn.
    pub fn cancel_bulk(&self, to: NodeId, ticket: u64) {
        self.with_outlet(to, |outlet| outlet.cancel_bulk(ticket));
    }

    /// Closes both connections to a node.
    pub fn disconnect(&self, node: NodeId, reason: String) {
        let _ = self.orders.send(Order::Disconnect(node, reason));
    }

    /// The node has proved itself: it may send more than a few frames from now on.
    pub fn admit(&self, node: NodeId) {
        self.with_outlet(node, |outlet| outlet.admit());
    }

    /// Closes everything.
    pub fn shutdown(&self) {
        let _ = self.orders.send(Order::Shutdown);
    }

    fn with_outlet<T>(&self, node: NodeId, act: impl FnOnce(&Outlet) -> T) -> Option<T> {
        let outlets = self.outlets.lock().unwrap_or_else(PoisonError::into_inner);
        outlets.get(&node).map(act)
    }
}
