//! The wires, on loopback.

// What fails here must fail loudly.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use baton_node::net::{BulkFrame, Net, NetConfig, NetEvent, OPEN_WITHIN};
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
    node_with(number, OPEN_WITHIN).await
}

async fn node_with(number: u8, open_within: Duration) -> Node {
    let key_seed = [number; 32];
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let net = Net::start(NetConfig { key_seed, listen, open_within }).await.unwrap();
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
    pair_with(OPEN_WITHIN).await
}

async fn pair_with(open_within: Duration) -> (Node, Node) {
    let (mut a, mut b) = (node_with(1, open_within).await, node_with(2, open_within).await);
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
async fn a_peer_that_has_proved_itself_may_be_silent() {
    let within = Duration::from_millis(300);
    let (mut a, mut b) = pair_with(within).await;
    a.net.handle.admit(b.id);
    b.net.handle.admit(a.id);
    tokio::time::sleep(3 * within).await;
    a.net.handle.send_control(b.id, b"still here".to_vec());
    assert!(
        matches!(event(&mut b).await, NetEvent::Control { bytes, .. } if bytes == b"still here")
    );
    assert!(a.net.events.try_recv().is_err(), "nothing happened");
}

#[tokio::test]
async fn a_long_frame_waits_until_its_sender_is_known() {
    let (a, mut b) = pair().await;
    a.net.handle.send_control(b.id, vec![1; 200 << 10]);
    a.net.handle.send_control(b.id, vec![2; 8]);
    let early = timeout(Duration::from_millis(300), b.net.events.recv()).await;
    assert!(early.is_err(), "{early:?}");
    b.net.handle.admit(a.id);
    for length in [200 << 10, 8] {
        let came = event(&mut b).await;
        assert!(matches!(&came, NetEvent::Control { bytes, .. } if bytes.len() == length));
    }
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_given_up_before_the_memory_is() {
    let (mut a, b) = pair().await;
    // Not admitted at b, which therefore reads none of it.
    (0..64).for_each(|_| a.net.handle.send_control(b.id, vec![0; 1 << 20]));
    match event(&mut a).await {
        NetEvent::Disconnected { reason, .. } => {
            assert!(reason.contains("does not read"), "{reason}")
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let a = node(1).await;
    let listen = vec![a.net.handle.listen_addresses()[0]];
    let error = Net::start(NetConfig { key_seed: [5; 32], listen, open_within: OPEN_WITHIN })
        .await
        .err()
        .unwrap();
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
