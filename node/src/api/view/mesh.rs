//! The mesh, its members and its groups.

use std::collections::BTreeSet;

use baton_protocol::fleet::Fleet;
use baton_protocol::fleet::group::{Group, Standing};
use baton_protocol::fleet::roster::Member;
use baton_protocol::id::{GroupName, NodeId};
use baton_protocol::peer::Peer;
use baton_protocol::time::Instant;
use baton_protocol::trust::certificate::Role;
use serde::{Deserialize, Serialize};

use super::rollout::in_words;
use super::{name, version};

/// The mesh, as one node sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// What people call the mesh; nothing while the node is not in it yet.
    pub mesh: Option<String>,
    /// This node's id.
    pub id: String,
    /// What this node is called in the mesh; nothing while it is no member.
    pub node: Option<String>,
    /// Members.
    pub members: usize,
    /// Members to which this node is connected, itself included.
    pub connected: usize,
    /// Who leads the log.
    pub leader: Option<String>,
    /// Who votes.
    pub voters: Vec<String>,
    /// Voters that can be lost without losing the quorum.
    pub voters_to_spare: usize,
    /// Nodes that speak in two lives, as from a cloned or a restored disk, and get no permit; known to the
    /// leader alone.
    #[serde(default)]
    pub there_twice: Option<Vec<String>>,
    /// The last entry of the log that this node has.
    pub applied: u64,
    /// The groups.
    pub groups: Vec<GroupView>,
}

/// A member.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeView {
    /// What it is called.
    pub name: String,
    /// Its id.
    pub id: String,
    /// `member` or `witness`.
    pub role: String,
    /// Its failure domain.
    pub zone: Option<String>,
    /// Where it is reached.
    pub addresses: Vec<String>,
    /// Whether it votes.
    pub votes: bool,
    /// Whether this node is connected to it, or is it.
    pub connected: bool,
    /// Groups whose count it is out of, by a person's word.
    #[serde(default)]
    pub quarantined_in: Vec<String>,
}

/// A group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupView {
    /// What it is called.
    pub name: String,
    /// What it runs releases of.
    pub service: Option<String>,
    /// The version that its last rollout completed.
    pub version: Option<String>,
    /// Members that count.
    pub counted: usize,
    /// Members in all.
    pub members: usize,
    /// Members that are out of the count by a person's word.
    #[serde(default)]
    pub quarantined: Vec<String>,
    /// The cap, as written.
    pub max_unavailable: String,
    /// How many of the members may be down at once.
    pub limit: Option<u32>,
    /// Why none may.
    pub obstacle: Option<String>,
    /// How many have a permit.
    pub permits: usize,
    /// The state of the last rollout.
    pub rollout: Option<String>,
    /// The nodes that read a balancer in front of it.
    pub watchers: Vec<String>,
}

/// The mesh.
pub fn status(peer: &Peer, now: Instant) -> Status {
    let fleet = peer.fleet();
    let there_twice = peer.coordinator().map(|coordinator| {
        let twice = |node: &&NodeId| coordinator.evidence().is_double(now, **node);
        fleet.members().keys().filter(twice).map(|node| name(fleet, *node)).collect()
    });
    let voters: Vec<_> = fleet.voters().voters.values().map(|node| name(fleet, *node)).collect();
    Status {
        mesh: fleet.mesh().map(|(_, name)| name.to_string()),
        id: peer.id().to_string(),
        node: fleet.members().get(&peer.id()).map(|member| member.name.to_string()),
        members: fleet.members().len(),
        connected: peer.connected().count() + 1,
        leader: peer.leader().map(|node| name(fleet, node)),
        voters_to_spare: voters.len().saturating_sub(1) / 2,
        voters,
        there_twice,
        applied: fleet.applied().0,
        groups: groups(peer),
    }
}

/// The members.
pub fn nodes(peer: &Peer) -> Vec<NodeView> {
    let fleet = peer.fleet();
    let connected: BTreeSet<_> = peer.connected().collect();
    let view = |(node, member): (&NodeId, &Member)| NodeView {
        name: member.name.to_string(),
        id: node.to_string(),
        role: match member.role {
            Role::Member => "member".to_owned(),
            Role::Witness => "witness".to_owned(),
        },
        zone: member.zone.as_ref().map(ToString::to_string),
        addresses: member.addresses.iter().map(ToString::to_string).collect(),
        votes: fleet.votes(*node),
        connected: *node == peer.id() || connected.contains(node),
        quarantined_in: quarantined_in(fleet, *node),
    };
    let mut nodes: Vec<_> = fleet.members().iter().map(view).collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    nodes
}

fn is_quarantined(group: &Group, node: NodeId) -> bool {
    group.members.get(&node).is_some_and(|it| it.standing == Standing::Quarantined)
}

fn quarantined_in(fleet: &Fleet, node: NodeId) -> Vec<String> {
    let groups = fleet.groups().iter().filter(|(_, group)| is_quarantined(group, node));
    groups.map(|(name, _)| name.to_string()).collect()
}

/// The groups.
pub fn groups(peer: &Peer) -> Vec<GroupView> {
    let fleet = peer.fleet();
    let view = |(group_name, group): (&GroupName, &Group)| {
        let limit = fleet.planned_limit(group);
        let quarantined = group.members.keys().filter(|node| is_quarantined(group, **node));
        GroupView {
            name: group_name.to_string(),
            service: group.service.as_ref().map(ToString::to_string),
            version: group.stable.map(|release| version(fleet, release)),
            counted: group.counted().count(),
            members: group.members.len(),
            quarantined: quarantined.map(|node| name(fleet, *node)).collect(),
            max_unavailable: group.policy.max_unavailable.to_string(),
            limit: limit.as_ref().ok().copied(),
            obstacle: limit.err().map(|error| error.to_string()),
            permits: fleet.disrupted(group_name, group).len(),
            rollout: group.rollouts.last().map(|rollout| in_words(&rollout.phase).0.to_owned()),
            watchers: group.watchers.iter().map(|node| name(fleet, *node)).collect(),
        }
    };
    fleet.groups().iter().map(view).collect()
}
