//! The wires, on loopback.

// What fails here must fail loudly.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use baton_node::net::{BulkFrame, Net, NetConfig, NetEvent};
use baton_protocol::id::{NodeId, ReleaseId};
use baton_protocol::trust::key::SecretKey;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

struct Node {
    id: NodeId,
    net: Net,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.net.handle.shutdown();
    }
}

async fn node(number: u8) -> Node {
    let key_seed = [number; 32];
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let net = Net::start(NetConfig { key_seed, listen }).await.unwrap();
    Node { id: NodeId(SecretKey::from_seed(key_seed).public()), net }
}

fn address(node: &Node) -> String {
    node.net.handle.listen_addresses()[0].to_string()
}

async fn event(node: &mut Node) -> NetEvent {
    timeout(SOON, node.net.events.recv()).await.expect("an event in time").expect("a running net")
}

async fn connected(node: &mut Node) -> NodeId {
    match event(node).await {
        NetEvent::Connected { node, .. } => node,
        other => panic!("not connected: {other:?}"),
    }
}

/// Two nodes, the first of which has dialled the second.
async fn pair() -> (Node, Node) {
    let (mut a, mut b) = (node(1).await, node(2).await);
    a.net.handle.dial(address(&b), Some(b.id));
    assert_eq!(connected(&mut a).await, b.id);
    assert_eq!(connected(&mut b).await, a.id);
    (a, b)
}

#[tokio::test]
async fn control_passes_while_bulk_stands_still() {
    let (a, mut b) = pair().await;
    a.net.handle.admit(b.id);
    b.net.handle.admit(a.id);
    let bytes = vec![7; 1 << 20];
    for ticket in 0..32 {
        let frame = BulkFrame {
            release: ReleaseId([3; 32]),
            manifest: false,
            index: 5,
            bytes: bytes.clone(),
        };
        assert!(a.net.handle.send_bulk(b.id, ticket, frame));
    }
    // Nobody takes b's chunks yet, beyond its queue.
    a.net.handle.send_control(b.id, b"hello".to_vec());
    assert!(matches!(event(&mut b).await, NetEvent::Control { bytes, .. } if bytes == b"hello"));
    for _ in 0..32 {
        let chunk = timeout(SOON, b.net.bulk.recv()).await.unwrap().unwrap();
        assert_eq!((chunk.from, chunk.frame.index, chunk.frame.bytes.len()), (a.id, 5, 1 << 20));
    }
}

#[tokio::test]
async fn a_node_that_is_not_the_expected_one_is_not_connected() {
    let (mut a, b) = (node(1).await, node(2).await);
    a.net.handle.dial(address(&b), Some(NodeId(SecretKey::from_seed([9; 32]).public())));
    assert!(matches!(event(&mut a).await, NetEvent::DialFailed { .. }));
}

#[tokio::test]
async fn two_that_dial_each_other_keep_one_pair() {
    let (mut a, mut b) = (node(1).await, node(2).await);
    a.net.handle.dial(address(&b), Some(b.id));
    b.net.handle.dial(address(&a), Some(a.id));
    let mut up = 0_i32;
    let settle = async {
        loop {
            match event(&mut a).await {
                NetEvent::Connected { .. } => up += 1,
                NetEvent::Disconnected { .. } => up -= 1,
                _ => {}
            }
        }
    };
    let _ = timeout(Duration::from_secs(2), settle).await;
    assert_eq!(up, 1, "one pair, up");
    a.net.handle.send_control(b.id, b"still here".to_vec());
    loop {
        if let NetEvent::Control { bytes, .. } = event(&mut b).await {
            assert_eq!(bytes, b"still here");
            break;
        }
    }
}

#[tokio::test]
async fn a_frame_over_the_limit_ends_the_connection() {
    let (a, mut b) = pair().await;
    a.net.handle.send_control(b.id, vec![0; 2 << 20]);
    assert!(matches!(event(&mut b).await, NetEvent::Disconnected { .. }));
}

#[tokio::test]
async fn a_peer_that_does_not_prove_itself_is_cut() {
    let (mut a, _b) = pair().await;
    assert!(matches!(event(&mut a).await, NetEvent::Disconnected { .. }));
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let a = node(1).await;
    let listen = vec![a.net.handle.listen_addresses()[0]];
    let error = Net::start(NetConfig { key_seed: [5; 32], listen }).await.err().unwrap();
    assert!(error.to_string().contains(&address(&a)), "{error}");
}

#[tokio::test]
async fn twenty_nodes_make_a_full_mesh() {
    let mut nodes = Vec::new();
    for number in 1..=20 {
        nodes.push(node(number).await);
    }
    for (at, from) in nodes.iter().enumerate() {
        for to in &nodes[at + 1..] {
            from.net.handle.dial(address(to), Some(to.id));
        }
    }
    for node in &mut nodes {
        let mut met = std::collections::BTreeSet::new();
        while met.len() < 19 {
            if let NetEvent::Connected { node, .. } = event(node).await {
                met.insert(node);
            }
        }
    }
}
