//! Two nodes that are connected, and nothing else.

use core::time::Duration;

use crate::codec;
use crate::fleet::command::Command;
use crate::fleet::group::Ports;
use crate::id::{Incarnation, KeyId, MeshId, NodeId, RequestId};
use crate::limits::LOG_TAIL_ENTRIES;
use crate::machine::Machine as _;
use crate::peer::event::{Input, Note, Output};
use crate::peer::requests::Asker;
use crate::peer::{Config, Peer};
use crate::swarm::Pace;
use crate::time::{Instant, UnixTime};
use crate::trust::certificate::{Certificate, Role};
use crate::trust::key::SecretKey;
use crate::trust::token::{JoinToken, founder};
use crate::wire::Message;

const TODAY: UnixTime = UnixTime(1_800_000_000);

fn config(node: NodeId, mesh: MeshId, certificate: Certificate, name: &str) -> Config {
    Config {
        node,
        mesh,
        certificate,
        name: name.parse().unwrap(),
        zone: None,
        addresses: vec!["10.0.0.1:7400".parse().unwrap()],
        bootstrap: Vec::new(),
        groups: [("web".parse().unwrap(), Ports::default())].into(),
        watches: Vec::new(),
        seed: u64::from(node.0[0]),
        log_tail: LOG_TAIL_ENTRIES,
        pace: Pace::default(),
    }
}

/// The founder of a mesh, and one that wants to get in.
struct Pair {
    peers: [Peer; 2],
    now: Instant,
    /// When the second one has asked to be let in.
    asked: Vec<Duration>,
    refusals: Vec<String>,
}

impl Pair {
    /// The second one is called `name`; the founder is `web-01`.
    fn new(name: &str) -> Self {
        let [root, publisher, first, second] =
            [1, 2, 3, 4].map(|at| SecretKey::from_seed([at; 32]));
        let [first, second] = [first, second].map(|key| NodeId(key.public()));
        let mesh = MeshId(root.public());
        let (expires, role) = (UnixTime(TODAY.0 + 3600), Role::Member);
        let shop = "shop".parse().unwrap();
        let token = JoinToken::issue(&root, shop, [5; 32], expires, 10, role, Vec::new());
        let config = |node, certificate, name| config(node, mesh, certificate, name);
        let founds = config(first, founder(&root, [6; 32], first), "web-01");
        let joins = config(second, token.certify(second, role).unwrap(), name);
        let (now, shop) = (Instant::ZERO, "shop".parse().unwrap());
        let founder = Peer::found(founds, now, TODAY, shop, KeyId(publisher.public())).unwrap();
        let joiner = Peer::start(joins, now, TODAY, &[].into()).unwrap();
        let peers = [founder, joiner];
        let mut pair = Self { peers, now, asked: Vec::new(), refusals: Vec::new() };
        pair.passes(5); // the founder leads
        for (at, node) in [(0, second), (1, first)] {
            pair.peers[at].handle(pair.now, Input::Connected { node, address: None });
        }
        pair
    }

    fn passes(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.now = self.now.after(Duration::from_millis(100));
            self.peers.iter_mut().for_each(|peer| peer.handle(self.now, Input::Timeout));
            while let Some((at, output)) = self.next_output() {
                self.take(at, output);
            }
        }
    }

    fn next_output(&mut self) -> Option<(usize, Output)> {
        let mut peers = self.peers.iter_mut().enumerate();
        peers.find_map(|(at, peer)| peer.poll_output().map(|output| (at, output)))
    }

    fn take(&mut self, at: usize, output: Output) {
        match output {
            Output::Persist(batch) => {
                self.peers[at].handle(self.now, Input::Persisted(batch.token));
            }
            Output::Send { frame, .. } => {
                if let Ok(Message::Apply(_)) = codec::decode(&frame) {
                    self.asked.push(self.now.since(Instant::ZERO));
                }
                let from = self.peers[at].id();
                self.peers[1 - at].handle(self.now, Input::Control { from, frame });
            }
            Output::Note(Note::NotAdmitted { reason }) => self.refusals.push(reason),
            _ => {}
        }
    }

    fn members(&self) -> [usize; 2] {
        [0, 1].map(|at| self.peers[at].fleet().members().len())
    }
}

#[test]
fn who_has_a_token_is_let_in() {
    let mut pair = Pair::new("web-02");
    pair.passes(5);
    assert_eq!(pair.members(), [2, 2]);
    assert!(pair.refusals.is_empty());
}

/// Each asking is an entry in the log.
#[test]
fn who_is_told_no_is_silent_for_half_a_minute_and_asks_again_then() {
    let mut pair = Pair::new("web-01");
    pair.passes(20);
    assert_eq!(pair.asked.len(), 1);
    assert_eq!(pair.refusals.len(), 1);
    assert!(pair.refusals[0].contains("web-01"), "{:?}", pair.refusals);
    pair.passes(40);
    let [first, second] = pair.asked[..] else { panic!("{:?}", pair.asked) };
    let pause = second - first;
    assert!((30..=32).contains(&pause.as_secs()), "{pause:?}");
    assert_eq!(pair.members()[0], 1);
}

/// The founder leads. Anybody else might have been told by an old leader, or lie.
#[test]
fn only_the_leader_says_that_a_request_was_not_taken() {
    let mut pair = Pair::new("web-02");
    pair.passes(5);
    for (at, heard) in [(0, false), (1, true)] {
        let (now, from) = (pair.now, pair.peers[1 - at].id());
        let peer = &mut pair.peers[at];
        let command = Command::Live { incarnation: Incarnation(1) };
        let asker = Asker::Person(RequestId(1));
        let number = peer.requests.add(now, asker, command).unwrap();
        let frame = codec::encode(&Message::NotProposed(number, "no".to_owned()));
        peer.handle(now, Input::Control { from, frame });
        let pending = peer.requests.answered(number).unwrap();
        assert_eq!(pending.obstacle.is_some(), heard, "{at}");
    }
}
