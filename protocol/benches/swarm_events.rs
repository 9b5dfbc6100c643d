//! What one event costs a swarm with many chunks, against one with few, in the same run.
//!
//! `cargo bench -p baton-protocol`. A machine that scans all chunks at each event costs sixteen times as
//! much with sixteen times the chunks; one that does not, little more.

#![allow(clippy::disallowed_types, reason = "a benchmark reads the clock")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::expect_used, reason = "a benchmark may end")]

use std::sync::Arc;
use std::time::Duration;

use baton_protocol::artifact::header::ChunkRef;
use baton_protocol::id::{ChunkHash, NodeId, ReleaseId};
use baton_protocol::machine::Machine as _;
use baton_protocol::swarm::{
    Bitmap, Config, Input, ObjectId, Output, Pace, Part, Swarm, SwarmMessage, Want,
};
use baton_protocol::time::Instant;

const PEERS: u8 = 20;
const FEW: u32 = 1_024;
const MANY: u32 = 16 * FEW;
const OBJECT: ObjectId = ObjectId { release: ReleaseId([9; 32]), part: Part::Content };

fn main() {
    for (name, origin) in [("a receiver", false), ("an origin with little that is new", true)] {
        let run = if origin { seed } else { receive };
        run(FEW); // warms up
        let (few, many) = (run(FEW), run(MANY));
        let ratio = many.as_secs_f64() / few.as_secs_f64();
        println!("{name}: {few:?} an event with {FEW} chunks, {many:?} with {MANY}: {ratio:.1} x");
    }
}

fn swarm(chunks: u32, have: Bitmap, origin: bool) -> Swarm {
    let zone: baton_protocol::id::ZoneName = "a".parse().expect("a name");
    let mut swarm = Swarm::new(Config { zone: zone.clone(), seed: 1, pace: Pace::default() });
    let hash = |n: u32| ChunkHash(*blake3::hash(&n.to_le_bytes()).as_bytes());
    let chunks: Arc<[_]> = (0..chunks).map(|n| ChunkRef { hash: hash(n), len: 65_536 }).collect();
    for peer in 1..=PEERS {
        let node = NodeId([peer; 32]);
        swarm.handle(Instant::ZERO, Input::PeerUp { node, zone: zone.clone() });
    }
    let want = Want { object: OBJECT, chunks, have, origin, priority: 0 };
    swarm.handle(Instant::ZERO, Input::Want(want));
    swarm
}

fn say(swarm: &mut Swarm, now: Instant, peer: u8, message: SwarmMessage) {
    swarm.handle(now, Input::Message { from: NodeId([peer; 32]), message });
}

fn interest(swarm: &mut Swarm, have: &Bitmap) {
    for peer in 1..=PEERS {
        let have = have.clone();
        let message = SwarmMessage::Interest { object: OBJECT, have, origin: false, answer: false };
        say(swarm, Instant::ZERO, peer, message);
    }
}

/// Twenty peers get the chunks one after the other, and this node asks them.
fn receive(chunks: u32) -> Duration {
    let mut swarm = swarm(chunks, Bitmap::empty(chunks), false);
    interest(&mut swarm, &Bitmap::empty(chunks));
    let began = std::time::Instant::now();
    let (mut now, mut events) = (Instant::ZERO, 0);
    for batch in 0..chunks / 64 {
        let indexes: Vec<u32> = (batch * 64..(batch + 1) * 64).collect();
        for peer in 1..=PEERS {
            events += 1;
            let indexes = indexes.clone();
            say(
                &mut swarm,
                now,
                peer,
                SwarmMessage::Have { object: OBJECT, indexes, owed: vec![] },
            );
        }
        now = now.after(Duration::from_millis(100));
        while let Some(output) = swarm.poll_output() {
            let Output::Send { to, message: SwarmMessage::Request { indexes, .. } } = output else {
                continue;
            };
            for index in indexes {
                events += 2;
                swarm.handle(now, Input::Verified { object: OBJECT, index, from: to });
                swarm.handle(now, Input::Stored { object: OBJECT, index });
            }
        }
    }
    began.elapsed() / events
}

/// Twenty peers lack the last 64 chunks, and tell of each that comes to them.
fn seed(chunks: u32) -> Duration {
    let mut swarm = swarm(chunks, Bitmap::full(chunks), true);
    let mut have = Bitmap::full(chunks);
    (chunks - 64..chunks).for_each(|index| assert!(have.remove(index), "it was there"));
    interest(&mut swarm, &have);
    let began = std::time::Instant::now();
    let (mut now, mut events) = (Instant::ZERO, 0);
    while let Some(output) = swarm.poll_output() {
        let Output::Upload { to, object, index } = output else { continue };
        now = now.after(Duration::from_millis(5));
        events += 1;
        swarm.handle(now, Input::Uploaded { to, object, index });
        for peer in 1..=PEERS {
            events += 1;
            let message = SwarmMessage::Have { object, indexes: vec![index], owed: vec![] };
            say(&mut swarm, now, peer, message);
        }
    }
    began.elapsed() / events
}
