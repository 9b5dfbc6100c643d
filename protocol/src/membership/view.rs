//! Who is whose neighbour in a mesh that is too large for everybody to be everybody's.
//!
//! The neighbours of a node are those beside it on several random circles: unions of random cycles are
//! expanders with a high probability (Law and Siu, "Distributed construction of random expander
//! networks", 2003). All who have the same roster agree on every link, and each has about the same number
//! of them.

use std::collections::BTreeSet;

use crate::id::NodeId;
use crate::membership::Roster;

/// Members up to which everybody is connected to everybody.
pub const FULL_MESH_MAX: usize = 64;

/// Neighbours on each side on the circle of the own zone. With the one on each side on each circle of the
/// whole mesh they make 30, of which a few coincide.
const ZONE_REACH: usize = 9;

/// Neighbours that a node has at the least. Where too many coincide, it chooses some more.
pub(super) const NEIGHBOURS_MIN: usize = 24;

/// Members up to which so many may coincide. In a larger mesh that is rare, and then a node has one or two
/// fewer.
const COINCIDE_MAX: usize = 256;

/// Members from which on a zone has a circle of its own: fewer cannot fill [`ZONE_REACH`].
pub(super) const ZONE_CIRCLE_MIN: usize = 2 * ZONE_REACH + 1;

/// The neighbours of `me`, the leader not counted.
pub(super) fn choose(me: NodeId, roster: &Roster) -> BTreeSet<NodeId> {
    if roster.len() <= FULL_MESH_MAX {
        return roster.nodes().filter(|node| *node != me).collect();
    }
    let circles = roster.circles();
    let mut view: BTreeSet<_> = circles.in_mesh(me).collect();
    if let Some(entry) = roster.get(me) {
        view.extend(circles.in_zone(me, &entry.zone, ZONE_REACH));
    }
    fill(me, roster, &mut view);
    if roster.get(me).is_some_and(|entry| entry.voter) {
        view.extend(roster.voters().filter(|node| *node != me));
    }
    view
}

/// Whether `other`, which `me` has not chosen, has chosen `me`: it was short of neighbours. On the circles and
/// among voters two choose each other.
pub(super) fn is_chosen_by(other: NodeId, me: NodeId, roster: &Roster) -> bool {
    roster.len() <= COINCIDE_MAX && choose(other, roster).contains(&me)
}

/// Adds the nodes whose hash with `me` is lowest, until there are enough.
fn fill(me: NodeId, roster: &Roster, view: &mut BTreeSet<NodeId>) {
    if view.len() >= NEIGHBOURS_MIN || roster.len() > COINCIDE_MAX {
        return;
    }
    let others = roster.nodes().filter(|node| *node != me && !view.contains(node));
    let mut ranked: Vec<_> = others.map(|node| (affinity(me, node), node)).collect();
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
