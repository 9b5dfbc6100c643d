//! Who a node is connected to, and who is alive.
//!
//! Up to [`FULL_MESH_MAX`] members everybody is connected to everybody. In a larger mesh a node keeps
//! an active view: [`VIEW`] neighbours, most of them of its own zone and the rest anywhere, besides
//! the leader and, for a voter, the other voters. Which neighbours is a matter of a hash of both ends,
//! so that two nodes agree on whether they are neighbours without a word.
//!
//! The members come from the committed roster. Until there is one, and whenever nobody is left, the
//! bootstrap addresses and the address book lead to the mesh.

mod address;
mod dialer;

pub use address::{Address, AddressError};

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::codec;
use crate::id::{NodeId, ZoneName};
use crate::machine::Machine;
use crate::rng::Rng;
use crate::time::Instant;

use dialer::Dialer;

/// Members up to which everybody is connected to everybody.
pub const FULL_MESH_MAX: usize = 64;

/// Neighbours that a node chooses in a larger mesh. Others choose it as well, so that it has about
/// as many again that it did not choose.
const VIEW: usize = 14;

/// Of those, how many are chosen in the own zone.
const VIEW_OWN_ZONE: usize = 9;

/// A member that has not been heard for so long is silent. Gossip speaks each second.
const SILENT_AFTER: Duration = Duration::from_secs(5);

/// Pause between two looks at whom to dial.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Time that the node with the higher id leaves to the other one to dial first.
const GRACE: Duration = Duration::from_secs(2);

/// Members whose addresses are remembered on disk.
const BOOK_MAX: usize = 256;

/// A member, as the roster has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterEntry {
    /// Who.
    pub node: NodeId,
    /// Where it stands.
    pub zone: Option<ZoneName>,
    /// Where it is reached.
    pub addresses: Vec<Address>,
    /// Whether it votes.
    pub voter: bool,
}

/// What can happen to a membership.
#[derive(Clone, Debug)]
pub enum Input {
    /// The moment of `poll_timeout` is here.
    Timeout,
    /// The committed members have changed.
    Roster(Vec<RosterEntry>),
    /// Addresses at which the mesh may be found.
    Bootstrap(Vec<Address>),
    /// The address book that was last given out by [`Output::Remember`].
    Remembered(Vec<u8>),
    /// A connection is open.
    Connected {
        /// To whom.
        node: NodeId,
        /// What was dialled.
        address: Option<Address>,
        /// Whether this node dialled.
        outbound: bool,
    },
    /// The node at the other end has proved its membership.
    Admitted {
        /// Who.
        node: NodeId,
    },
    /// A connection is closed.
    Disconnected {
        /// To whom it was.
        node: NodeId,
    },
    /// A dial came to nothing.
    DialFailed {
        /// What was dialled.
        address: Address,
    },
    /// A frame came.
    Heard {
        /// From whom.
        node: NodeId,
    },
    /// Who leads the log.
    Leader(Option<NodeId>),
}

/// What a membership wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Open a connection.
    Dial {
        /// Where.
        address: Address,
        /// Who must be there, if known.
        expect: Option<NodeId>,
    },
    /// Close one.
    HangUp {
        /// To whom.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// Keep this on disk.
    Remember(Vec<u8>),
    /// A neighbour that has proved itself is there.
    Up {
        /// Who.
        node: NodeId,
        /// Where it stands.
        zone: Option<ZoneName>,
    },
    /// It is there no more.
    Down {
        /// Who.
        node: NodeId,
    },
}

/// Whether a member is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Heard within the last seconds.
    Alive,
    /// Not heard, or not connected to this node.
    Silent,
}

#[derive(Clone, Debug)]
struct Link {
    admitted: bool,
    heard: Instant,
}

/// The membership of one node.
#[derive(Debug)]
pub struct Membership {
    me: NodeId,
    zone: Option<ZoneName>,
    roster: BTreeMap<NodeId, RosterEntry>,
    view: BTreeSet<NodeId>,
    links: BTreeMap<NodeId, Link>,
    leader: Option<NodeId>,
    bootstrap: Vec<Address>,
    book: BTreeMap<NodeId, Vec<Address>>,
    remembered: Vec<u8>,
    dialer: Dialer,
    now: Instant,
    started: Option<Instant>,
    look_at: Instant,
    outputs: VecDeque<Output>,
}

impl Membership {
    /// A node that knows nobody. `seed` is for the jitter of its dials.
    pub fn new(me: NodeId, zone: Option<ZoneName>, seed: u64) -> Self {
        Self {
            me,
            zone,
            roster: BTreeMap::new(),
            view: BTreeSet::new(),
            links: BTreeMap::new(),
            leader: None,
            bootstrap: Vec::new(),
            book: BTreeMap::new(),
            remembered: Vec::new(),
            dialer: Dialer::new(Rng::new(seed)),
            now: Instant::ZERO,
            started: None,
            look_at: Instant::ZERO,
            outputs: VecDeque::new(),
        }
    }

    /// Whether `node` was heard lately.
    pub fn status(&self, node: NodeId) -> Status {
        let heard = self.links.get(&node).filter(|link| link.admitted).map(|link| link.heard);
        match heard {
            _ if node == self.me => Status::Alive,
            Some(heard) if self.now.since(heard) <= SILENT_AFTER => Status::Alive,
            _ => Status::Silent,
        }
    }

    /// Connected nodes that have proved themselves.
    pub fn neighbours(&self) -> impl Iterator<Item = NodeId> {
        self.links.iter().filter(|(_, link)| link.admitted).map(|(node, _)| *node)
    }

    fn take_roster(&mut self, roster: Vec<RosterEntry>) {
        let before = core::mem::take(&mut self.roster);
        self.roster = roster.into_iter().map(|entry| (entry.node, entry)).collect();
        for node in before.keys().filter(|node| !self.roster.contains_key(node)) {
            self.book.remove(node);
            if self.links.contains_key(node) {
                let reason = "it is no member any more".to_owned();
                self.outputs.push_back(Output::HangUp { node: *node, reason });
            }
        }
        self.choose_view();
        self.remember();
    }

    /// Whom this node chooses: everybody, or those whose hash with this node is lowest, the own zone
    /// and the rest apart (rendezvous hashing).
    fn choose_view(&mut self) {
        let others = || self.roster.values().filter(|entry| entry.node != self.me);
        if self.roster.len() <= FULL_MESH_MAX {
            self.view = others().map(|entry| entry.node).collect();
            return;
        }
        let ranked = |own: bool, count: usize| {
            let in_zone = others().filter(|entry| (entry.zone == self.zone) == own);
            let mut ranked: Vec<_> =
                in_zone.map(|entry| (affinity(self.me, entry.node), entry.node)).collect();
            ranked.sort_unstable();
            ranked.into_iter().map(|(_, node)| node).take(count).collect::<Vec<_>>()
        };
        let mut view: BTreeSet<_> = ranked(true, VIEW_OWN_ZONE).into_iter().collect();
        view.extend(ranked(false, VIEW - view.len()));
        if view.len() < VIEW {
            view.extend(ranked(true, VIEW));
        }
        let votes = self.roster.get(&self.me).is_some_and(|entry| entry.voter);
        if votes {
            view.extend(others().filter(|entry| entry.voter).map(|entry| entry.node));
        }
        self.view = view;
    }

    fn remember(&mut self) {
        for entry in self.roster.values().filter(|entry| entry.node != self.me) {
            if self.book.len() < BOOK_MAX || self.book.contains_key(&entry.node) {
                self.book.insert(entry.node, entry.addresses.clone());
            }
        }
        let bytes = codec::encode(&self.book);
        if bytes != self.remembered && !self.book.is_empty() {
            self.remembered.clone_from(&bytes);
            self.outputs.push_back(Output::Remember(bytes));
        }
    }

    fn connected(&mut self, now: Instant, node: NodeId, address: Option<Address>) {
        if let Some(address) = &address {
            self.dialer.succeeded(address);
            if node == self.me {
                self.dialer.is_self(address.clone());
            }
        }
        self.links.entry(node).or_insert(Link { admitted: false, heard: now });
    }

    fn admitted(&mut self, now: Instant, node: NodeId) {
        let link = self.links.entry(node).or_insert(Link { admitted: false, heard: now });
        link.heard = now;
        if !link.admitted {
            link.admitted = true;
            let zone = self.roster.get(&node).and_then(|entry| entry.zone.clone());
            self.outputs.push_back(Output::Up { node, zone });
        }
    }

    fn disconnected(&mut self, node: NodeId) {
        if self.links.remove(&node).is_some_and(|link| link.admitted) {
            self.outputs.push_back(Output::Down { node });
        }
    }

    fn look(&mut self, now: Instant) {
        if now < self.look_at {
            return;
        }
        self.look_at = now.after(LOOK_EVERY);
        let early = now.since(*self.started.get_or_insert(now)) < GRACE;
        let mut targets: Vec<(NodeId, Vec<Address>)> = Vec::new();
        let wanted = self.view.iter().chain(&self.leader).filter(|node| **node != self.me);
        for node in wanted.filter(|node| !self.links.contains_key(node)) {
            // Both ends want this connection: one of them is to dial it.
            let theirs = *node < self.me && self.roster.len() <= FULL_MESH_MAX;
            if let Some(entry) = self.roster.get(node).filter(|_| !(theirs && early)) {
                targets.push((*node, entry.addresses.clone()));
            }
        }
        let alone = self.neighbours().next().is_none();
        if alone {
            targets.extend(self.book.iter().map(|(node, known)| (*node, known.clone())));
        }
        for (node, addresses) in targets {
            for address in addresses {
                self.dial(now, address, Some(node));
            }
        }
        if alone {
            for address in self.bootstrap.clone() {
                self.dial(now, address, None);
            }
        }
    }

    fn dial(&mut self, now: Instant, address: Address, expect: Option<NodeId>) {
        if self.dialer.may_dial(now, &address) {
            self.outputs.push_back(Output::Dial { address, expect });
        }
    }
}

/// How near two nodes are to each other, the same from both ends; lower is nearer.
fn affinity(a: NodeId, b: NodeId) -> [u8; 32] {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    let mut hasher = blake3::Hasher::new();
    hasher.update(&low.0).update(&high.0);
    *hasher.finalize().as_bytes()
}

impl Machine for Membership {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        self.now = now;
        match input {
            Input::Timeout => {}
            Input::Roster(roster) => self.take_roster(roster),
            Input::Bootstrap(addresses) => self.bootstrap = addresses,
            // A book that cannot be read is as good as none: the bootstrap addresses are left.
            Input::Remembered(book) => self.book = codec::decode(&book).unwrap_or_default(),
            Input::Connected { node, address, .. } => self.connected(now, node, address),
            Input::Admitted { node } => self.admitted(now, node),
            Input::Disconnected { node } => self.disconnected(node),
            Input::DialFailed { address } => self.dialer.failed(now, &address),
            Input::Heard { node } => {
                if let Some(link) = self.links.get_mut(&node) {
                    link.heard = now;
                }
            }
            Input::Leader(leader) => self.leader = leader,
        }
        self.look(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Some(self.look_at)
    }
}
