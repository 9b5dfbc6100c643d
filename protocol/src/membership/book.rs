//! The address book: where members were met, so that a restarted node finds the mesh again when
//! every bootstrap address is gone.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::codec;
use crate::id::NodeId;
use crate::membership::{Address, Roster};
use crate::time::Instant;

/// Members whose addresses are remembered: for a mesh of which nine in ten have moved since, enough
/// are left.
const BOOK_MAX: usize = 256;

/// Addresses of one member.
pub(super) const ADDRESSES_PER_NODE: usize = 4;

/// Pause between two writes. The roster on disk has most of it as well.
const WRITE_EVERY: Duration = Duration::from_secs(10);

/// Where members were met; the address that worked last comes first.
#[derive(Debug, Default)]
pub(super) struct Book {
    known: BTreeMap<NodeId, Vec<Address>>,
    written: Vec<u8>,
    changed: bool,
    write_at: Instant,
}

impl Book {
    /// Takes what was on disk. A book that cannot be read is as good as none: the bootstrap
    /// addresses are left.
    pub(super) fn restore(&mut self, bytes: &[u8]) {
        let stored: BTreeMap<NodeId, Vec<Address>> = codec::decode(bytes).unwrap_or_default();
        self.known = stored.into_iter().take(BOOK_MAX).collect();
        for addresses in self.known.values_mut() {
            addresses.truncate(ADDRESSES_PER_NODE);
        }
        self.written = bytes.to_vec();
    }

    /// Follows the roster: the neighbours and the voters first, then as many others as there is room
    /// for. Who is no member is forgotten.
    pub(super) fn follow(&mut self, me: NodeId, roster: &Roster, near: &BTreeSet<NodeId>) {
        let first: BTreeSet<_> = roster.voters().chain(near.iter().copied()).collect();
        let others = roster.nodes().filter(|node| !first.contains(node));
        let ranked = first.iter().copied().chain(others).filter(|node| *node != me);
        let old = core::mem::take(&mut self.known);
        for entry in ranked.filter_map(|node| roster.get(node)).take(BOOK_MAX) {
            let before = old.get(&entry.node).map(Vec::as_slice).unwrap_or_default();
            self.known.insert(entry.node, merge(&entry.addresses, before));
        }
        self.changed = true;
    }

    /// A connection to `node` came about by dialling `address`.
    pub(super) fn worked(&mut self, node: NodeId, address: &Address) {
        let Some(addresses) = self.known.get_mut(&node) else { return };
        if addresses.first() == Some(address) {
            return;
        }
        addresses.retain(|known| known != address);
        addresses.insert(0, address.clone());
        addresses.truncate(ADDRESSES_PER_NODE);
        self.changed = true;
    }

    pub(super) fn addresses(&self, node: NodeId) -> &[Address] {
        self.known.get(&node).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.known.keys().copied()
    }

    /// What is to be written now, if anything is.
    pub(super) fn write(&mut self, now: Instant) -> Option<Vec<u8>> {
        if !self.changed || now < self.write_at || self.known.is_empty() {
            return None;
        }
        self.changed = false;
        let bytes = codec::encode(&self.known);
        if bytes == self.written {
            return None;
        }
        self.write_at = now.after(WRITE_EVERY);
        self.written.clone_from(&bytes);
        Some(bytes)
    }
}

/// The addresses of the roster, those that were known before in their old order; then, where there is
/// room, old ones that the roster does not have.
pub(super) fn merge(fresh: &[Address], old: &[Address]) -> Vec<Address> {
    let still = old.iter().filter(|address| fresh.contains(address));
    let mut merged: Vec<Address> = Vec::new();
    for address in still.chain(fresh).chain(old) {
        if merged.len() < ADDRESSES_PER_NODE && !merged.contains(address) {
            merged.push(address.clone());
        }
    }
    merged
}
