//! Peers that keep to libp2p and not to the rest, which only this module can play.

use std::time::Duration;

use futures::StreamExt as _;
use libp2p::Swarm;
use libp2p::multiaddr::{Multiaddr, Protocol};
use libp2p::swarm::SwarmEvent;
use libp2p::swarm::dial_opts::DialOpts;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use super::behaviour::{Behaviour, Purpose};
use super::{Net, NetConfig, task};

const SHORT: Duration = Duration::from_millis(300);
const SOON: Duration = Duration::from_secs(20);

fn config(number: u8) -> NetConfig {
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    NetConfig { key_seed: [number; 32], listen, open_within: SHORT }
}

/// A peer that dials `net` and opens the streams of `purposes` only, a connection each.
fn peer(net: &Net, purposes: &[Option<Purpose>]) -> Swarm<Behaviour> {
    let (mut swarm, _) = task::swarm(&config(9)).unwrap();
    let port = net.handle.listen_addresses()[0].port();
    let ip = std::net::Ipv4Addr::LOCALHOST;
    let address = Multiaddr::from(ip).with(Protocol::Tcp(port));
    for purpose in purposes {
        let options = DialOpts::unknown_peer_id().address(address.clone()).build();
        if let Some(purpose) = purpose {
            swarm.behaviour_mut().expect(options.connection_id(), *purpose);
        }
        swarm.dial(options).unwrap();
    }
    swarm
}

async fn closed(swarm: &mut Swarm<Behaviour>) {
    // On a busy machine even the handshake may take longer than it may.
    let is_over = |event: &SwarmEvent<_>| {
        matches!(
            event,
            SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. }
        )
    };
    let closed = async { while !is_over(&swarm.select_next_some().await) {} };
    timeout(SOON, closed).await.expect("the connection is closed in time");
}

#[tokio::test]
async fn who_says_nothing_at_all_is_cut() {
    let net = Net::start(config(1)).await.unwrap();
    let address = net.handle.listen_addresses()[0];
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut bytes = Vec::new();
    let read = timeout(SOON, stream.read_to_end(&mut bytes)).await;
    assert!(read.is_ok(), "held open");
}

#[tokio::test]
async fn who_opens_no_stream_or_one_of_the_two_only_is_cut() {
    let net = Net::start(config(1)).await.unwrap();
    for purposes in [[None], [Some(Purpose::Control)], [Some(Purpose::Bulk)]] {
        closed(&mut peer(&net, &purposes)).await;
    }
}

#[tokio::test]
async fn one_peer_has_few_connections() {
    let net = Net::start(NetConfig { open_within: SOON, ..config(1) }).await.unwrap();
    let mut peer = peer(&net, &[None; 40]);
    let mut refused = 0;
    while refused < 32 {
        match timeout(SOON, peer.select_next_some()).await.expect("32 of 40 are refused in time") {
            SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. } => {
                refused += 1;
            }
            _ => {}
        }
    }
    let more = async {
        while !matches!(peer.select_next_some().await, SwarmEvent::ConnectionClosed { .. }) {}
    };
    assert!(timeout(SHORT, more).await.is_err(), "the others stay");
}
