//! Who a node is connected to, and who is alive.
//!
//! Up to [`FULL_MESH_MAX`] members everybody is connected to everybody. In a larger mesh a node has
//! some thirty neighbours, most of them of its own zone and the rest anywhere, besides the leader and,
//! for a voter, the other voters: see `view`.
//!
//! The members come from the committed roster. Until there is one, and whenever nobody is left, the
//! bootstrap addresses and the address book lead to the mesh.
//!
//! Of two members that want a connection the one with the lower id dials; the other one only when it
//! has waited for [`GRACE`]. Who dialled a connection hangs up when it wants it no more and the other end,
//! as far as it knows, does not either. If that one still does, it dials, and then it is for it to hang up.
//!
//! A neighbour is **near** while it is connected: chunks go there. The leader and others who are connected
//! are not, so that nobody has to pass on more than its share. So who hears the leader and none of some
//! thirty neighbours gets no chunks until one of those is back.

mod address;
mod book;
mod circles;
mod dialer;
mod event;
mod roster;
#[cfg(test)]
mod tests;
mod view;

pub use address::{Address, AddressError};
pub use event::{Input, Output};
pub use roster::{Roster, RosterEntry, Status};
pub use view::FULL_MESH_MAX;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::id::{NodeId, ZoneName};
use crate::machine::Machine;
use crate::rng::Rng;
use crate::time::Instant;

use book::Book;
use dialer::Dialer;

/// A member that has not been heard for so long is silent. Gossip speaks each 3.6 s at the least.
const SILENT_AFTER: Duration = Duration::from_secs(5);

/// Pause between two looks at whom to dial, while somebody is missing.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The same while nobody is.
const LOOK_RARELY: Duration = Duration::from_secs(1);

/// Time that the node with the higher id leaves to the other one to dial first: several round trips
/// on a long link.
const GRACE: Duration = Duration::from_secs(1);

/// Time after which a second address of a node is tried beside the first.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_secs(1);

/// A member without neighbours tries its address book and the bootstrap addresses only after so long:
/// most often its neighbours answer, or are about to dial it.
const ALONE_FOR: Duration = Duration::from_secs(3);

/// Bootstrap addresses are tried so often while some neighbour is missing, as the roster's addresses
/// may all be out of date.
const BOOTSTRAP_EVERY: Duration = Duration::from_secs(60);

/// Bootstrap addresses that are used; those after them are not.
const BOOTSTRAP_MAX: usize = 64;

/// Dials under way at which a lost node begins no more to the members of its address book.
const BOOK_DIALS: usize = 8;

/// A connection that held for so long makes its address a good one.
const LASTED: Duration = Duration::from_secs(5);

/// A connection that this node dialled and wants no more is kept for so long, as it may change its
/// mind when the leader or the roster does.
const UNWANTED_FOR: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
struct Link {
    admitted: bool,
    near: bool,
    /// Where it stands, as was said when it became near.
    zone: Option<ZoneName>,
    /// What was dialled, where this node dialled.
    address: Option<Address>,
    since: Instant,
    heard: Instant,
    unwanted_since: Option<Instant>,
}

/// A member that this node wants to be connected to and is not.
#[derive(Clone, Copy, Debug)]
struct Absent {
    since: Instant,
    dialled: Option<Instant>,
}

/// The membership of one node.
#[derive(Debug)]
pub struct Membership {
    me: NodeId,
    roster: Arc<Roster>,
    view: BTreeSet<NodeId>,
    links: BTreeMap<NodeId, Link>,
    absent: BTreeMap<NodeId, Absent>,
    leader: Option<NodeId>,
    bootstrap: Vec<Address>,
    bootstrap_at: Instant,
    alone_since: Option<Instant>,
    book: Book,
    dialer: Dialer,
    now: Instant,
    look_at: Instant,
    outputs: VecDeque<Output>,
}

impl Membership {
    /// A node that knows nobody. `seed` is for the jitter of its dials.
    pub fn new(me: NodeId, seed: u64) -> Self {
        Self {
            me,
            roster: Arc::default(),
            view: BTreeSet::new(),
            links: BTreeMap::new(),
            absent: BTreeMap::new(),
            leader: None,
            bootstrap: Vec::new(),
            bootstrap_at: Instant::ZERO,
            alone_since: None,
            book: Book::default(),
            dialer: Dialer::new(Rng::new(seed)),
            now: Instant::ZERO,
            look_at: Instant::ZERO,
            outputs: VecDeque::new(),
        }
    }

    /// Whether `node` was heard lately.
    pub fn status(&self, node: NodeId) -> Status {
        let heard = self.links.get(&node).is_some_and(|link| self.is_heard(link));
        if heard || node == self.me { Status::Alive } else { Status::Silent }
    }

    fn is_heard(&self, link: &Link) -> bool {
        link.admitted && self.now.since(link.heard) <= SILENT_AFTER
    }

    fn is_member(&self) -> bool {
        self.roster.get(self.me).is_some()
    }

    fn wants(&self, node: NodeId) -> bool {
        self.view.contains(&node) || self.leader == Some(node)
    }

    // --- the roster -------------------------------------------------------------------------------

    fn take_roster(&mut self, roster: Arc<Roster>) {
        if Arc::ptr_eq(&roster, &self.roster) || roster == self.roster {
            return;
        }
        let before = core::mem::replace(&mut self.roster, roster);
        let gone = |node: &NodeId| before.get(*node).is_some() && self.roster.get(*node).is_none();
        for node in self.links.keys().copied().filter(gone) {
            let reason = "it is no member any more".to_owned();
            self.outputs.push_back(Output::HangUp { node, reason });
        }
        self.view = view::choose(self.me, &self.roster);
        self.book.follow(self.me, &self.roster, &self.view);
        let members = self.links.keys().copied().filter(|it| self.roster.get(*it).is_some());
        for node in members.collect::<Vec<_>>() {
            self.note_near(node);
        }
        self.look_at = self.now;
    }

    // --- connections ------------------------------------------------------------------------------

    fn connected(&mut self, now: Instant, node: NodeId, address: Option<Address>) {
        if node == self.me {
            if let Some(address) = address {
                self.dialer.is_self(address);
            }
            let reason = "it is this node itself".to_owned();
            return self.outputs.push_back(Output::HangUp { node, reason });
        }
        if let Some(address) = &address {
            self.dialer.connected(address);
        }
        let link = Link {
            admitted: false,
            near: false,
            zone: None,
            address,
            since: now,
            heard: now,
            unwanted_since: None,
        };
        self.links.entry(node).or_insert(link);
        self.absent.remove(&node);
    }

    fn admitted(&mut self, now: Instant, node: NodeId) {
        let Some(link) = self.links.get_mut(&node) else { return };
        link.heard = now;
        if link.admitted {
            return;
        }
        link.admitted = true;
        if let Some(address) = &link.address {
            self.book.worked(node, address);
        }
        self.outputs.push_back(Output::Up { node });
        self.note_near(node);
    }

    /// Both ends see it alike once they follow the same roster: each knows whom the other one chose. Who is no
    /// member yet knows of no choice.
    fn is_near(&self, node: NodeId) -> bool {
        let chosen = || view::is_chosen_by(node, self.me, &self.roster);
        !self.is_member() || self.view.contains(&node) || chosen()
    }

    /// Says whether `node` is near, where that or its zone has changed.
    fn note_near(&mut self, node: NodeId) {
        let near = self.is_near(node);
        let zone = self.roster.get(node).and_then(|entry| entry.zone.clone());
        let Some(link) = self.links.get_mut(&node).filter(|link| link.admitted) else { return };
        if near && !(link.near && link.zone == zone) {
            self.outputs.push_back(Output::Near { node, zone: zone.clone() });
        } else if link.near && !near {
            self.outputs.push_back(Output::Far { node });
        }
        (link.near, link.zone) = (near, zone);
    }

    fn disconnected(&mut self, now: Instant, node: NodeId) {
        let Some(link) = self.links.remove(&node) else { return };
        let good = link.admitted && now.since(link.since) >= LASTED;
        let known: BTreeSet<_> = link.address.into_iter().chain(self.addresses(node)).collect();
        for address in known {
            match good {
                true => self.dialer.lasted(now, &address),
                // One that is refused each time is dialled ever more rarely.
                false => self.dialer.failed(now, &address),
            }
        }
        if link.admitted {
            self.outputs.push_back(Output::Down { node });
        }
        self.look_at = now;
    }

    /// Where `node` may be reached, the best first.
    fn addresses(&self, node: NodeId) -> Vec<Address> {
        match self.book.addresses(node) {
            [] => self.roster.get(node).map(|it| book::merge(&it.addresses, &[])),
            known => Some(known.to_vec()),
        }
        .unwrap_or_default()
    }

    // --- whom to dial and to leave ------------------------------------------------------------------

    fn look(&mut self, now: Instant) {
        if now < self.look_at {
            return;
        }
        self.dialer.expire(now);
        self.note_absent(now);
        self.note_alone(now);
        self.dial_absent(now);
        self.dial_book(now);
        self.dial_bootstrap(now);
        self.leave_unwanted(now);
        if let Some(book) = self.book.write(now) {
            self.outputs.push_back(Output::Remember(book));
        }
        let calm = self.absent.is_empty() && self.alone_since.is_none();
        self.look_at = now.after(if calm { LOOK_RARELY } else { LOOK_EVERY });
    }

    fn note_absent(&mut self, now: Instant) {
        let wanted = self.view.iter().chain(&self.leader).copied();
        let absent: Vec<_> =
            wanted.filter(|node| *node != self.me && !self.links.contains_key(node)).collect();
        self.absent.retain(|node, _| absent.contains(node));
        for node in absent {
            self.absent.entry(node).or_insert(Absent { since: now, dialled: None });
        }
    }

    fn note_alone(&mut self, now: Instant) {
        let alone = !self.links.values().any(|link| self.is_heard(link));
        self.alone_since = alone.then(|| self.alone_since.unwrap_or(now));
    }

    fn dial_absent(&mut self, now: Instant) {
        for (node, absent) in self.absent.clone() {
            // The leader does not look for a node that is not of its view.
            let theirs = node < self.me && self.view.contains(&node);
            let too_early = theirs && now.since(absent.since) < GRACE;
            let waiting = absent.dialled.is_some_and(|at| now.since(at) < NEXT_ADDRESS_AFTER);
            if too_early || waiting {
                continue;
            }
            let addresses = self.addresses(node);
            let dialled = addresses.into_iter().any(|it| self.dial(now, it, Some(node)));
            if let Some(absent) = self.absent.get_mut(&node).filter(|_| dialled) {
                absent.dialled = Some(now);
            }
        }
    }

    /// Whether somebody has to be found by other means than the roster.
    fn is_lost(&self, now: Instant) -> bool {
        let patience = if self.is_member() { ALONE_FOR } else { Duration::ZERO };
        self.alone_since.is_some_and(|since| now.since(since) >= patience)
    }

    fn dial_book(&mut self, now: Instant) {
        if !self.is_lost(now) {
            return;
        }
        let unlinked = |node: &NodeId| !self.links.contains_key(node) && !self.wants(*node);
        let mut nodes: Vec<_> = self.book.nodes().filter(unlinked).collect();
        self.dialer.shuffle(&mut nodes);
        for node in nodes {
            if self.dialer.in_flight() >= BOOK_DIALS {
                return;
            }
            for address in self.addresses(node) {
                self.dial(now, address, Some(node));
            }
        }
    }

    fn dial_bootstrap(&mut self, now: Instant) {
        let rarely = !self.absent.is_empty() && now >= self.bootstrap_at;
        if self.is_member() && !self.is_lost(now) && !rarely {
            return;
        }
        self.bootstrap_at = now.after(BOOTSTRAP_EVERY);
        for address in self.bootstrap.clone() {
            if !self.is_linked_at(&address) {
                self.dial(now, address, None);
            }
        }
    }

    fn is_linked_at(&self, address: &Address) -> bool {
        let mut links = self.links.iter();
        links.any(|(node, link)| {
            link.address.as_ref() == Some(address) || self.addresses(*node).contains(address)
        })
    }

    fn dial(&mut self, now: Instant, address: Address, expect: Option<NodeId>) -> bool {
        let own = self.roster.get(self.me).is_some_and(|it| it.addresses.contains(&address));
        let may = !own && self.dialer.may_dial(now, &address);
        if may {
            self.outputs.push_back(Output::Dial { address, expect });
        }
        may
    }

    fn leave_unwanted(&mut self, now: Instant) {
        // A candidate keeps whom it has: they let it in, and it does not know its place yet.
        let settled = self.is_member();
        let (leader, roster) = (self.leader, &self.roster);
        for (node, link) in &mut self.links {
            let own = link.admitted && link.address.is_some() && roster.get(*node).is_some();
            if !settled || !own || link.near || leader == Some(*node) {
                link.unwanted_since = None;
                continue;
            }
            let since = *link.unwanted_since.get_or_insert(now);
            if now.since(since) >= UNWANTED_FOR {
                link.unwanted_since = Some(now); // said again if it is not heeded
                let reason = "it is no neighbour in the mesh as it is now".to_owned();
                self.outputs.push_back(Output::HangUp { node: *node, reason });
            }
        }
    }
}

impl Machine for Membership {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        self.now = now;
        match input {
            Input::Timeout => {}
            Input::Roster(roster) => self.take_roster(roster),
            Input::Bootstrap(mut addresses) => {
                addresses.truncate(BOOTSTRAP_MAX);
                self.bootstrap = addresses;
            }
            Input::Remembered(book) => self.book.restore(&book),
            Input::Connected { node, address, .. } => self.connected(now, node, address),
            Input::Admitted { node } => self.admitted(now, node),
            Input::Disconnected { node } => self.disconnected(now, node),
            Input::DialFailed { address } => self.dialer.failed(now, &address),
            Input::Heard { node } => {
                if let Some(link) = self.links.get_mut(&node) {
                    link.heard = now;
                }
            }
            Input::Leader(leader) => {
                self.leader = leader;
                self.look_at = now;
            }
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
