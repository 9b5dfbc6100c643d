//! Gossips among themselves, in a network that this folder makes up, and what hostile ones try.

mod net;

use core::time::Duration;
use std::collections::BTreeSet;

use crate::artifact::header::SignedHeader;
use crate::codec;
use crate::gossip::{Gossip, GossipMessage, Head, Input, Output};
use crate::id::{LogIndex, ReleaseId};
use crate::limits::{CONTROL_FRAME_BYTES_MAX, MANIFEST_PIECES_MAX, RELEASES_PER_SERVICE};
use crate::machine::Machine as _;
use crate::time::Instant;
use crate::wire::Message;

use net::{Net, SECOND, node_id, release};

fn head(index: u64) -> Head {
    Head { index: LogIndex(index), term: 3, leader: Some(node_id(0)) }
}

// --- what everybody hears -------------------------------------------------------------------------

#[test]
fn a_header_is_everywhere_after_a_few_round_trips_and_travels_less_than_twice_to_each() {
    for (count, within) in [(20, 45), (200, 400)] {
        let mut net = Net::linked(count, 1);
        net.run(3 * SECOND);
        net.forget_counts();
        net.feed(0, Input::Publish(release("web", 1, 1)));
        let took = net.run_until_all_have(1, 5 * SECOND).unwrap();
        net.run(SECOND);
        let (copies, lists) = (net.sent("headers"), net.sent("ids"));
        println!("{count} nodes: {took:?}, {copies} copies, {lists} lists");
        assert!(took <= Duration::from_millis(within), "{took:?}");
        assert!((count - 1..2 * count).contains(&copies), "{copies}");
        // One list on each link, and a few more where a digest was quicker.
        assert!(lists <= net.links.len() * 2 * 3 / 2, "{lists}");
    }
}

#[test]
fn a_header_is_everywhere_within_seconds_though_a_fifth_of_all_messages_is_lost() {
    for count in [20, 200] {
        for seed in 0..5 {
            let mut net = Net::linked(count, seed);
            net.loss_percent = 20;
            net.run(3 * SECOND);
            net.forget_counts();
            net.feed(3, Input::Publish(release("web", 1, 1)));
            let took = net.run_until_all_have(1, 10 * SECOND).unwrap();
            let all = ["headers", "ids", "pull", "head"].map(|kind| net.sent(kind));
            let each = all.iter().sum::<usize>() / count;
            println!("{count} nodes, seed {seed}: {took:?}, {each} messages each");
            assert!(took <= 5 * SECOND, "{took:?}");
            assert!(each <= 100, "{each} messages each");
        }
    }
}

#[test]
fn where_nothing_happens_a_neighbour_hears_a_digest_every_two_seconds_and_nothing_else() {
    let mut net = Net::linked(20, 2);
    net.feed(0, Input::Publish(release("web", 1, 1)));
    net.run(10 * SECOND);
    net.forget_counts();
    net.run(60 * SECOND);
    let digests = net.sent("digest");
    let all: usize = net.hosts.iter().flat_map(|host| host.sent.values()).sum();
    assert_eq!(all, digests, "only digests");
    // 19 neighbours, each 2.0 to 2.4 s.
    assert!((20 * 19 * 25..=20 * 19 * 30).contains(&digests), "{digests}");
}

#[test]
fn in_a_crowd_a_neighbour_hears_a_digest_every_three_seconds_also_while_the_log_moves() {
    let mut net = Net::linked(40, 2);
    (0..40).for_each(|at| net.feed(at, Input::Head(head(0))));
    net.run(10 * SECOND);
    net.forget_counts();
    for index in 1..=60 {
        (0..40).for_each(|at| net.feed(at, Input::Head(head(index - at as u64 % 2))));
        net.run(SECOND);
    }
    let links = net.links.len() * 2;
    // Each 3.0 to 3.6 s.
    assert!((links * 16..=links * 20).contains(&net.sent("digest")), "{}", net.sent("digest"));
}

#[test]
fn a_neighbour_that_says_something_else_hears_a_digest_each_second() {
    let mut victim = Victim::new();
    let mut digests = |theirs: [u8; 32]| {
        victim.hears(GossipMessage::Digest(theirs, Head::default()));
        victim.sent.clear();
        for _ in 0..600 {
            victim.now = victim.now.after(SECOND / 10);
            victim.gossip.handle(victim.now, Input::Timeout);
        }
        victim.drain();
        victim.sent.iter().filter(|it| matches!(it, GossipMessage::Digest(..))).count()
    };
    let agreed = digests(super::shelf::Shelf::new().digest());
    let differ = digests([9; 32]);
    assert!((25..=30).contains(&agreed) && (50..=60).contains(&differ), "{agreed} {differ}");
}

#[test]
fn the_head_of_the_log_is_known_everywhere_and_not_told_back() {
    let mut net = Net::linked(20, 3);
    net.run(3 * SECOND);
    net.forget_counts();
    net.feed(0, Input::Head(head(7)));
    net.run(Duration::from_millis(45));
    assert!((1..20).all(|at| net.hosts[at].heads[&0] == head(7)));
    for at in 1..20 {
        net.feed(at, Input::Head(head(7)));
    }
    assert!(net.hosts[1..].iter().all(|host| host.sent.get("head").is_none_or(|told| *told < 19)));
    assert_eq!(net.hosts[0].sent["head"], 19);
}

/// The leader tells them the entries themselves.
#[test]
fn that_the_log_moves_is_told_with_the_digests() {
    let mut net = Net::linked(2, 4);
    net.feed(0, Input::Head(head(0)));
    net.run(SECOND);
    net.forget_counts();
    for index in 1..1000 {
        net.feed(0, Input::Head(head(index)));
        net.run(Duration::from_millis(1));
    }
    assert_eq!(net.hosts[0].sent.get("head"), None);
    net.run(SECOND * 6 / 5);
    assert_eq!(net.hosts[1].heads[&0], head(999));
}

#[test]
fn another_leader_is_told_at_once_and_fifty_times_a_second_at_most() {
    let mut net = Net::linked(2, 4);
    net.run(SECOND);
    net.forget_counts();
    for term in 0..1000 {
        net.feed(0, Input::Head(Head { term, ..head(5) }));
        net.run(Duration::from_millis(1));
    }
    assert!((45..=51).contains(&net.hosts[0].sent["head"]), "{:?}", net.hosts[0].sent);
    net.run(SECOND / 10);
    assert_eq!(net.hosts[1].heads[&0].term, 999, "and the last one is told");
}

#[test]
fn two_halves_that_meet_again_know_what_both_know() {
    let mut net = Net::linked(20, 5);
    let across: Vec<_> = net.links.iter().copied().filter(|(a, b)| (*a < 7) != (*b < 7)).collect();
    for (a, b) in &across {
        net.cut(*a, *b);
    }
    for sequence in 0..30 {
        let at = if sequence % 2 == 0 { 3 } else { 12 };
        net.feed(at, Input::Publish(release("web", sequence, 1)));
        net.run(SECOND / 5);
    }
    assert!((0..20).all(|at| net.gossip(at).headers().len() == 15));
    for (a, b) in across {
        net.link(a, b);
    }
    let took = net.run_until_all_have(30, 5 * SECOND).unwrap();
    assert!(took < SECOND / 2, "{took:?}");
}

#[test]
fn a_node_that_joins_by_one_neighbour_gets_all_there_is() {
    let mut net = Net::linked(3, 6);
    for service in 0..16 {
        for sequence in 0..60 {
            net.feed(0, Input::Publish(release(&format!("s{service}"), sequence, 4)));
        }
        net.run(6 * SECOND);
    }
    assert!(net.run_until_all_have(960, 10 * SECOND).is_some());
    net.cut(0, 2);
    net.cut(1, 2);
    let mut joined = Net::linked(3, 7);
    core::mem::swap(&mut joined.hosts[2], &mut net.hosts[2]);
    net.link(1, 2);
    let took = net.run_until_all_have(960, 30 * SECOND).unwrap();
    println!("960 headers in {took:?}");
    assert!(took < 8 * SECOND, "{took:?}");
    assert!(net.hosts.iter().all(|host| host.scoldings.is_empty()));
}

#[test]
fn a_seed_gives_the_same_trace_each_time() {
    let run = |seed| {
        let mut net = Net::linked(20, seed);
        net.loss_percent = 10;
        net.feed(0, Input::Publish(release("web", 1, 1)));
        net.run(5 * SECOND);
        net.trace
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

// --- what the owner does not want -----------------------------------------------------------------

#[test]
fn what_was_refused_is_asked_for_ever_more_rarely_and_taken_once_it_is_good() {
    let mut net = Net::linked(5, 8);
    net.hosts[4].refuses = true;
    let header = release("web", 1, 1);
    net.feed(0, Input::Publish(header.clone()));
    net.run(300 * SECOND);
    assert!((4..=8).contains(&net.hosts[4].judged), "{} times", net.hosts[4].judged);
    assert!(!net.has(4, header.id()));
    // Its roster was late, say.
    net.hosts[4].refuses = false;
    net.run(320 * SECOND);
    assert!(net.has(4, header.id()));
}

#[test]
fn a_joiner_that_could_not_judge_yet_has_the_header_some_seconds_later() {
    let mut net = Net::linked(5, 9);
    net.hosts[4].refuses = true;
    net.feed(0, Input::Publish(release("web", 1, 1)));
    net.run(SECOND);
    net.hosts[4].refuses = false;
    assert!(net.run_until_all_have(1, 10 * SECOND).is_some());
}

#[test]
fn what_was_forgotten_does_not_come_back_from_a_neighbour_that_lags() {
    let mut net = Net::linked(10, 10);
    let header = release("web", 1, 1);
    net.feed(0, Input::Publish(header.clone()));
    net.run(2 * SECOND);
    for at in 0..9 {
        net.feed(at, Input::Forget(header.id()));
    }
    net.run(300 * SECOND);
    assert!((0..9).all(|at| !net.has(at, header.id()) && net.hosts[at].judged <= 1));
    net.feed(9, Input::Forget(header.id()));
    net.run(900 * SECOND);
    assert!((0..10).all(|at| !net.has(at, header.id())));
}

/// Whichever way they came, all keep the same ones, and nobody gives anybody what it has dropped.
#[test]
fn of_too_many_releases_all_nodes_keep_the_newest() {
    let mut net = Net::linked(4, 11);
    let count = RELEASES_PER_SERVICE as u64 + 36;
    for step in 0..count {
        // 0, 37, 74, …: each once, in a wild order.
        let header = release("web", step * 37 % count, 1);
        net.feed(usize::try_from(step % 4).unwrap(), Input::Publish(header));
        net.run(SECOND / 10);
    }
    net.run(10 * SECOND);
    let newest: BTreeSet<ReleaseId> = (36..count).map(|it| release("web", it, 1).id()).collect();
    for at in 0..4 {
        assert!(net.gossip(at).headers().keys().copied().eq(newest.iter().copied()), "{at}");
    }
    net.forget_counts();
    net.run(60 * SECOND);
    assert_eq!(net.sent("pull") + net.sent("headers") + net.sent("ids"), 0);
}

#[test]
fn a_mesh_of_many_services_keeps_the_newest_of_each() {
    let mut gossip = Gossip::new(1);
    for sequence in 0..60 {
        for service in 0..20 {
            let header = release(&format!("s{service}"), sequence, 1);
            gossip.handle(Instant::ZERO, Input::Publish(header));
        }
    }
    assert_eq!(gossip.headers().len(), super::shelf::HEADERS_MAX);
    for service in 0..20 {
        for sequence in 10..60 {
            let header = release(&format!("s{service}"), sequence, 1);
            assert!(gossip.headers().contains_key(&header.id()), "{service} {sequence}");
        }
    }
}

// --- what hostile neighbours try ------------------------------------------------------------------

struct Victim {
    gossip: Gossip,
    now: Instant,
    received: usize,
    sent: Vec<GossipMessage>,
    scoldings: Vec<String>,
}

impl Victim {
    fn new() -> Self {
        let mut gossip = Gossip::new(1);
        gossip.handle(Instant::ZERO, Input::Up { node: node_id(1) });
        let (sent, scoldings) = (Vec::new(), Vec::new());
        Self { gossip, now: Instant::ZERO, received: 0, sent, scoldings }
    }

    fn hears(&mut self, message: GossipMessage) {
        self.gossip.handle(self.now, Input::Message { from: node_id(1), message });
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.gossip.poll_output() {
            match output {
                Output::Send { message, .. } => self.sent.push(message),
                Output::Received { header, .. } => {
                    self.received += 1;
                    let verdict = Input::Verdict { release: header.id(), keep: false };
                    self.gossip.handle(self.now, verdict);
                }
                Output::Ahead { .. } => {}
                Output::Misbehaved { reason, .. } => self.scoldings.push(reason),
            }
        }
    }

    fn bytes_sent(&self) -> usize {
        self.sent.iter().map(|message| codec::encode(message).len()).sum()
    }
}

#[test]
fn a_flood_is_cut_off_and_said_once() {
    let mut victim = Victim::new();
    for sequence in 0..10_000 {
        victim.hears(GossipMessage::Headers(vec![release("web", sequence, 1)]));
    }
    assert!(victim.received <= 100, "{}", victim.received);
    assert_eq!(victim.scoldings.len(), 1);
    // Later it may speak again.
    victim.now = Instant::ZERO.after(6 * SECOND);
    victim.hears(GossipMessage::Headers(vec![release("late", 1, 1)]));
    assert!(victim.received > 50);
}

#[test]
fn lists_and_headers_over_the_limit_are_refused() {
    let many: Vec<_> = (0..2000u16).map(|it| ReleaseId([it.to_le_bytes()[0]; 32])).collect();
    let large = SignedHeader { bytes: vec![1; 300 * 1024], signatures: Vec::new() };
    let garbage = SignedHeader { bytes: vec![1, 2, 3], signatures: Vec::new() };
    for message in [
        GossipMessage::Ids(many.clone()),
        GossipMessage::Pull(many),
        GossipMessage::Headers(vec![large]),
        GossipMessage::Headers(vec![garbage]),
    ] {
        let mut victim = Victim::new();
        victim.hears(message);
        assert_eq!((victim.received, victim.scoldings.len()), (0, 1));
        assert!(victim.sent.iter().all(|it| matches!(it, GossipMessage::Digest(..))));
    }
}

/// Made-up ids cost one question, not one each time they are named.
#[test]
fn made_up_ids_are_asked_for_in_bounds() {
    let mut victim = Victim::new();
    for round in 0..1000u32 {
        let id = |at: u32| ReleaseId(*blake3::hash(&(round * 1000 + at).to_le_bytes()).as_bytes());
        victim.hears(GossipMessage::Ids((0..1000).map(id).collect()));
    }
    assert!(victim.bytes_sent() < 20_000, "{}", victim.bytes_sent());
}

#[test]
fn a_short_question_does_not_get_endless_answers() {
    let mut victim = Victim::new();
    let header = release("web", 1, MANIFEST_PIECES_MAX);
    victim.gossip.handle(Instant::ZERO, Input::Publish(header.clone()));
    for _ in 0..3 {
        victim.hears(GossipMessage::Pull(vec![header.id(); 256]));
    }
    assert!(victim.bytes_sent() < 20 * 1024 * 1024, "{}", victim.bytes_sent());
}

#[test]
fn the_largest_headers_travel_in_frames_that_are_read() {
    let mut victim = Victim::new();
    let headers: Vec<_> = (0..20).map(|it| release("web", it, MANIFEST_PIECES_MAX)).collect();
    for header in &headers {
        victim.gossip.handle(Instant::ZERO, Input::Publish(header.clone()));
    }
    victim.hears(GossipMessage::Pull(headers.iter().map(SignedHeader::id).collect()));
    let frames = victim.sent.iter().map(|it| codec::encode(&Message::Gossip(it.clone())).len());
    assert!(frames.max().unwrap() <= CONTROL_FRAME_BYTES_MAX);
    let sent = victim.sent.iter().map(|message| match message {
        GossipMessage::Headers(headers) => headers.len(),
        _ => 0,
    });
    // Pushed when they were published, and given when they were asked for.
    assert_eq!(sent.sum::<usize>(), 40);
}

#[test]
fn a_stranger_is_not_listened_to() {
    let mut gossip = Gossip::new(1);
    let message = GossipMessage::Headers(vec![release("web", 1, 1)]);
    gossip.handle(Instant::ZERO, Input::Message { from: node_id(9), message });
    assert_eq!(gossip.poll_output(), None);
}
