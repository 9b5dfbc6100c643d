//! What the API shows: plain shapes, made of the node's state. `-o json` of the command line prints
//! just these; fields are only ever added.

mod audit;
mod mesh;
mod release;
mod rollout;

use baton_protocol::fleet::Fleet;
use baton_protocol::id::{NodeId, ReleaseId};

pub use {audit::*, mesh::*, release::*, rollout::*};

fn name(fleet: &Fleet, node: NodeId) -> String {
    let member = fleet.members().get(&node).or_else(|| fleet.removed().get(&node));
    member.map_or_else(|| node.short(), |member| member.name.to_string())
}

fn version(fleet: &Fleet, release: ReleaseId) -> String {
    let known = fleet.releases().get(&release);
    known.map_or_else(|| release.short(), |it| it.header.version.to_string())
}
