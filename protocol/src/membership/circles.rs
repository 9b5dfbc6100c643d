//! Pseudorandom circles on which all members stand: one for each zone, and some for the whole mesh.
//!
//! The places are hashes of the nodes' ids, so that all who have the same roster agree on them without a
//! word, and a node that comes or goes changes nothing but what is beside it.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{NodeId, ZoneName};
use crate::membership::RosterEntry;

/// Circles of the whole mesh.
const MESH_CIRCLES: usize = 6;

/// A place on a circle, where distances wrap around.
type Place = u64;

/// Nodes by their places.
#[derive(Debug, Default)]
struct Circle(Vec<(Place, NodeId)>);

/// All circles of a mesh.
#[derive(Debug)]
pub(super) struct Circles {
    /// `None`: the circle that small zones share.
    zones: BTreeMap<Option<Option<ZoneName>>, Circle>,
    shared: BTreeSet<Option<ZoneName>>,
    mesh: [Circle; MESH_CIRCLES],
}

impl Circle {
    fn sort(&mut self) {
        self.0.sort_unstable();
    }

    /// Up to `reach` nodes on each side of `me`, which stands at `place`, whether it is on the circle or not.
    fn beside(&self, me: NodeId, place: Place, reach: usize) -> impl Iterator<Item = NodeId> {
        let at = self.0.partition_point(|it| *it < (place, me));
        let (before, after) = self.0.split_at(at);
        let next = after.iter().chain(before).map(|(_, node)| *node);
        let last = before.iter().rev().chain(after.iter().rev()).map(|(_, node)| *node);
        let others = move |node: &NodeId| *node != me;
        next.filter(others).take(reach).chain(last.filter(others).take(reach))
    }
}

impl Circles {
    /// The circles of these members. Zones of fewer than `least` members have none of their own: they share
    /// one; where even that is too small, the smallest of the other zones shares it too.
    pub(super) fn of(roster: &BTreeMap<NodeId, RosterEntry>, least: usize) -> Self {
        let shared = zones_that_share(roster, least);
        let mut zones: BTreeMap<_, Circle> = BTreeMap::new();
        let mut mesh: [Circle; MESH_CIRCLES] = core::array::from_fn(|_| Circle::default());
        for entry in roster.values() {
            let places = places(entry.node);
            let own = (!shared.contains(&entry.zone)).then(|| entry.zone.clone());
            zones.entry(own).or_default().0.push((places[0], entry.node));
            for (circle, place) in mesh.iter_mut().zip(&places[1..]) {
                circle.0.push((*place, entry.node));
            }
        }
        zones.values_mut().chain(&mut mesh).for_each(Circle::sort);
        Self { zones, shared, mesh }
    }

    /// Up to `reach` nodes on each side of `me` on the circle of `zone`.
    pub(super) fn in_zone(
        &self,
        me: NodeId,
        zone: &Option<ZoneName>,
        reach: usize,
    ) -> impl Iterator<Item = NodeId> {
        let own = (!self.shared.contains(zone)).then(|| zone.clone());
        let circle = self.zones.get(&own);
        circle.into_iter().flat_map(move |circle| circle.beside(me, places(me)[0], reach))
    }

    /// The nodes beside `me` on each circle of the whole mesh.
    pub(super) fn in_mesh(&self, me: NodeId) -> impl Iterator<Item = NodeId> {
        let places = places(me).into_iter().skip(1);
        self.mesh.iter().zip(places).flat_map(move |(circle, place)| circle.beside(me, place, 1))
    }
}

fn zones_that_share(
    roster: &BTreeMap<NodeId, RosterEntry>,
    least: usize,
) -> BTreeSet<Option<ZoneName>> {
    let mut sizes: BTreeMap<Option<ZoneName>, usize> = BTreeMap::new();
    for entry in roster.values() {
        *sizes.entry(entry.zone.clone()).or_default() += 1;
    }
    let mut ranked: Vec<_> = sizes.into_iter().map(|(zone, size)| (size, zone)).collect();
    ranked.sort_unstable();
    let mut shared = BTreeSet::new();
    let mut members = 0;
    for (size, zone) in ranked {
        if size >= least && (members == 0 || members >= least) {
            break;
        }
        members += size;
        shared.insert(zone);
    }
    shared
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
