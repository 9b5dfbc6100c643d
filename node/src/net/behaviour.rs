//! Which connection is which, towards libp2p.
//!
//! The dialler says by the protocol of the one stream that it opens whether a connection is for
//! control or for bulk; the listener learns it from there.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use libp2p::PeerId;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::ConnectionEvent;
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, Stream, StreamProtocol, SubstreamProtocol, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    Control,
    Bulk,
}

const CONTROL: StreamProtocol = StreamProtocol::new("/baton/control/1");
const BULK: StreamProtocol = StreamProtocol::new("/baton/bulk/1");

impl Purpose {
    fn protocol(self) -> StreamProtocol {
        match self {
            Self::Control => CONTROL,
            Self::Bulk => BULK,
        }
    }
}

/// A connection's stream is open.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) peer: PeerId,
    pub(super) connection: ConnectionId,
    pub(super) purpose: Purpose,
    pub(super) outbound: bool,
    pub(super) stream: Stream,
}

/// Connections that are not yet of use, from others. Each has its time; see `open_within`.
const PENDING_MAX: u32 = 128;

/// Connections from others: those of a full mesh, four to each node while two dial each other, twice over.
const INCOMING_MAX: u32 = 512;

/// Connections to one node, either way: two pairs, of which one is about to go, and one more of each.
const PER_PEER_MAX: u32 = 8;

pub(super) struct Behaviour {
    limits: connection_limits::Behaviour,
    dialled: BTreeMap<ConnectionId, Purpose>,
    opened: VecDeque<Opened>,
    refused: VecDeque<(PeerId, ConnectionId)>,
    waker: Option<std::task::Waker>,
}

impl Default for Behaviour {
    fn default() -> Self {
        let limits = ConnectionLimits::default()
            .with_max_pending_incoming(Some(PENDING_MAX))
            .with_max_established_incoming(Some(INCOMING_MAX))
            .with_max_established_per_peer(Some(PER_PEER_MAX));
        Self {
            limits: connection_limits::Behaviour::new(limits),
            dialled: BTreeMap::new(),
            opened: VecDeque::new(),
            refused: VecDeque::new(),
            waker: None,
        }
    }
}

impl Behaviour {
    /// The dial with this id is for that purpose.
    pub(super) fn expect(&mut self, connection: ConnectionId, purpose: Purpose) {
        self.dialled.insert(connection, purpose);
    }

    /// The dial with this id came to nothing.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        self.dialled.remove(&connection);
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Opened;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        here: &Multiaddr,
        there: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.limits.handle_pending_inbound_connection(connection, here, there)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        here: &Multiaddr,
        there: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.limits.handle_established_inbound_connection(connection, peer, here, there)?;
        Ok(Handler { ask_for: None, opened: None, failed: false })
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        there: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.limits.handle_established_outbound_connection(connection, peer, there, role, port)?;
        let ask_for = self.dialled.remove(&connection);
        Ok(Handler { ask_for, opened: None, failed: false })
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.limits.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {
            Some((purpose, outbound, stream)) => {
                self.opened.push_back(Opened { peer, connection, purpose, outbound, stream });
            }
            None => self.refused.push_back((peer, connection)),
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(opened) = self.opened.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(opened));
        }
        if let Some((peer_id, connection)) = self.refused.pop_front() {
            let connection = libp2p::swarm::CloseConnection::One(connection);
            return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection });
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// One connection: opens its stream, or waits for the other end's.
pub(super) struct Handler {
    ask_for: Option<Purpose>,
    opened: Option<(Purpose, bool, Stream)>,
    failed: bool,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Option<(Purpose, bool, Stream)>;
    type InboundProtocol = Offer;
    type OutboundProtocol = Offer;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Offer, ()> {
        SubstreamProtocol::new(Offer(None), ())
    }

    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Offer, (), Self::ToBehaviour>> {
        if let Some(purpose) = self.ask_for.take() {
            let protocol = SubstreamProtocol::new(Offer(Some(purpose)), ());
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        if let Some(opened) = self.opened.take() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Some(opened)));
        }
        if core::mem::take(&mut self.failed) {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(None));
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Offer, Offer, (), ()>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(opened) => {
                let (purpose, stream) = opened.protocol;
                self.opened = Some((purpose, false, stream));
            }
            ConnectionEvent::FullyNegotiatedOutbound(opened) => {
                let (purpose, stream) = opened.protocol;
                self.opened = Some((purpose, true, stream));
            }
            ConnectionEvent::DialUpgradeError(_) | ConnectionEvent::ListenUpgradeError(_) => {
                self.failed = true;
            }
            _ => {}
        }
    }
}

/// The one protocol that a dialler asks for, or both for a listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer(Option<Purpose>);

impl UpgradeInfo for Offer {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        match self.0 {
            Some(purpose) => vec![purpose.protocol()].into_iter(),
            None => vec![CONTROL, BULK].into_iter(),
        }
    }
}

fn purpose_of(protocol: &StreamProtocol) -> Purpose {
    if *protocol == BULK { Purpose::Bulk } else { Purpose::Control }
}

impl InboundUpgrade<Stream> for Offer {
    type Output = (Purpose, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((purpose_of(&protocol), stream)))
    }
}

impl OutboundUpgrade<Stream> for Offer {
    type Output = (Purpose, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((purpose_of(&protocol), stream)))
    }
}
