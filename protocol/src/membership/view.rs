//! Who is whose neighbour in a mesh that is too large for everybody to be everybody's.
//!
//! Each node stands at pseudorandom places on several circles, and its neighbours are those next to
//! it: unions of random cycles are expanders with a high probability (Law and Siu, "Distributed
//! construction of random expander networks", 2003). The places are hashes of the node's id, so that
//! all who have the same roster agree on every link without a word, each has about the same number of
//! them, and a node that comes or goes changes nothing but the links of those beside it.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{NodeId, ZoneName};
use crate::membership::RosterEntry;

/// Members up to which everybody is connected to everybody.
pub const FULL_MESH_MAX: usize = 64;

/// Neighbours on each side on the circle of the own zone.
const ZONE_REACH: usize = 9;

/// Circles of the whole mesh, with one neighbour on each side. With the zone's circle they make 30
/// neighbours, of which a few coincide.
const MESH_CIRCLES: usize = 6;

/// Neighbours that a node has at the least. Where too many coincide, it chooses some more.
pub(super) const NEIGHBOURS_MIN: usize = 24;

/// Members from which on a zone has a circle of its own: fewer cannot fill [`ZONE_REACH`].
const ZONE_CIRCLE_MIN: usize = 2 * ZONE_REACH + 1;

/// A place on a circle, where distances wrap around.
type Place = u64;

/// The neighbours of `me`, the leader not counted.
pub(super) fn choose(me: NodeId, roster: &BTreeMap<NodeId, RosterEntry>) -> BTreeSet<NodeId> {
    let others = || roster.values().filter(move |entry| entry.node != me);
    if roster.len() <= FULL_MESH_MAX {
        return others().map(|entry| entry.node).collect();
    }
    let mut view = beside_in_zone(me, roster);
    view.extend(beside_in_mesh(me, roster));
    fill(me, roster, &mut view);
    if roster.get(&me).is_some_and(|entry| entry.voter) {
        view.extend(others().filter(|entry| entry.voter).map(|entry| entry.node));
    }
    view
}

fn beside_in_zone(me: NodeId, roster: &BTreeMap<NodeId, RosterEntry>) -> BTreeSet<NodeId> {
    let shared = zones_that_share(roster);
    let circle = |entry: &RosterEntry| match shared.contains(&entry.zone) {
        true => None,
        false => Some(entry.zone.clone()),
    };
    let Some(own) = roster.get(&me).map(circle) else { return BTreeSet::new() };
    let mine = places(me)[0];
    let mates = roster.values().filter(|entry| entry.node != me && circle(entry) == own);
    let mut mates: Vec<_> =
        mates.map(|entry| (places(entry.node)[0].wrapping_sub(mine), entry.node)).collect();
    mates.sort_unstable();
    let after = mates.iter().take(ZONE_REACH);
    let before = mates.iter().rev().take(ZONE_REACH);
    after.chain(before).map(|(_, node)| *node).collect()
}

/// Zones too small for a circle of their own. They share one; where even that is too small, the
/// smallest of the other zones shares it too.
fn zones_that_share(roster: &BTreeMap<NodeId, RosterEntry>) -> BTreeSet<Option<ZoneName>> {
    let mut sizes: BTreeMap<Option<ZoneName>, usize> = BTreeMap::new();
    for entry in roster.values() {
        *sizes.entry(entry.zone.clone()).or_default() += 1;
    }
    let mut ranked: Vec<_> = sizes.into_iter().map(|(zone, size)| (size, zone)).collect();
    ranked.sort_unstable();
    let mut shared = BTreeSet::new();
    let mut members = 0;
    for (size, zone) in ranked {
        if size >= ZONE_CIRCLE_MIN && (members == 0 || members >= ZONE_CIRCLE_MIN) {
            break;
        }
        members += size;
        shared.insert(zone);
    }
    shared
}

fn beside_in_mesh(me: NodeId, roster: &BTreeMap<NodeId, RosterEntry>) -> BTreeSet<NodeId> {
    let mine = places(me);
    let mut next: [Option<(Place, NodeId)>; MESH_CIRCLES] = [None; MESH_CIRCLES];
    let mut last = next;
    for node in roster.keys().copied().filter(|node| *node != me) {
        let steps = places(node).into_iter().zip(mine).skip(1);
        let steps = steps.map(|(theirs, mine)| (theirs.wrapping_sub(mine), node));
        for ((step, next), last) in steps.zip(&mut next).zip(&mut last) {
            *next = Some(next.map_or(step, |best| best.min(step)));
            *last = Some(last.map_or(step, |best| best.max(step)));
        }
    }
    next.into_iter().chain(last).flatten().map(|(_, node)| node).collect()
}

/// The places of a node: first that on its zone's circle, then those on the mesh's.
fn places(node: NodeId) -> [Place; 1 + MESH_CIRCLES] {
    let mut bytes = [0; 8 * (1 + MESH_CIRCLES)];
    blake3::Hasher::new().update(&node.0).finalize_xof().fill(&mut bytes);
    let mut places = [0; 1 + MESH_CIRCLES];
    for (place, bytes) in places.iter_mut().zip(bytes.chunks_exact(8)) {
        *place = bytes.iter().fold(0, |place, byte| (place << 8) | u64::from(*byte));
    }
    places
}

/// Adds the nodes whose hash with `me` is lowest, until there are enough.
fn fill(me: NodeId, roster: &BTreeMap<NodeId, RosterEntry>, view: &mut BTreeSet<NodeId>) {
    if view.len() >= NEIGHBOURS_MIN {
        return;
    }
    let others = roster.keys().filter(|node| **node != me && !view.contains(node));
    let mut ranked: Vec<_> = others.map(|node| (affinity(me, *node), *node)).collect();
    ranked.sort_unstable();
    let short = NEIGHBOURS_MIN - view.len();
    view.extend(ranked.into_iter().take(short).map(|(_, node)| node));
}

/// The same from both ends, so that two nodes that are short of neighbours choose each other.
fn affinity(a: NodeId, b: NodeId) -> [u8; 32] {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    let mut hasher = blake3::Hasher::new();
    hasher.update(&low.0).update(&high.0);
    *hasher.finalize().as_bytes()
}
