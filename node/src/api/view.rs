//! What the API shows: plain shapes, made of the node's state. `-o json` of the command line prints
//! just these; fields are only ever added.

use std::collections::BTreeMap;
use std::path::PathBuf;

use baton_protocol::agent::report::Condition;
use baton_protocol::fleet::Fleet;
use baton_protocol::fleet::group::{Group, Standing};
use baton_protocol::fleet::permit::PermitPhase;
use baton_protocol::fleet::rollout::Phase;
use baton_protocol::id::{GroupName, NodeId, ReleaseId, RolloutId};
use baton_protocol::peer::Peer;
use baton_protocol::swarm::{ObjectId, Part};
use baton_protocol::time::Instant;
use baton_protocol::trust::certificate::Role;
use serde::{Deserialize, Serialize};

use crate::store::PackProgress;

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

/// A release.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReleaseView {
    /// Its id.
    pub id: String,
    /// Of which service.
    pub service: String,
    /// What it is called.
    pub version: String,
    /// Its place among the service's releases.
    pub sequence: u64,
    /// Bytes of its files.
    pub size_bytes: u64,
    /// Number of its files.
    pub files: u64,
    /// Whether it is staged on this node.
    pub staged_here: bool,
    /// Whether the log has it.
    pub registered: bool,
}

/// An open permit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PermitView {
    /// Its id.
    pub id: String,
    /// Who holds it.
    pub node: String,
    /// For which group.
    pub group: String,
    /// What the holder is to run.
    pub version: String,
    /// `restart` or `repair`.
    pub kind: String,
    /// Whether the holder may have moved.
    pub begun: bool,
    /// What the holder reported when it failed.
    pub failure: Option<String>,
}

/// A rollout.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RolloutView {
    /// Its id.
    pub id: String,
    /// On which group.
    pub group: String,
    /// What it brings.
    pub version: String,
    /// What it goes back to.
    pub previous: Option<String>,
    /// `forward`, `blocked`, `paused`, `rolling-back`, `done`, `rolled-back`, `aborted`, `superseded`.
    pub phase: String,
    /// Why, where the phase has a reason.
    pub reason: Option<String>,
    /// Whether it was on its way back when it paused.
    pub back: bool,
    /// Whether a person paused it, and no failure did.
    #[serde(default)]
    pub paused_by_person: bool,
    /// Whether nothing more happens in it.
    pub over: bool,
    /// Who leads the log, as far as this node knows: without it nothing more is granted.
    pub leader: Option<String>,
    /// The stage under way, from 1.
    pub stage: usize,
    /// Stages in all.
    pub stages: usize,
    /// Members that count.
    pub total: usize,
    /// Members that are where the rollout wants them.
    pub arrived: usize,
    /// How many may be down at once.
    pub limit: Option<u32>,
    /// How many have a permit.
    pub permits: usize,
    /// Each member.
    pub nodes: Vec<RolloutNode>,
}

/// A member in a rollout.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RolloutNode {
    /// What it is called.
    pub name: String,
    /// Whether it counts: `new`, `counted`, `quarantined`.
    pub standing: String,
    /// On which version it last proved ready.
    pub version: Option<String>,
    /// How its service stands; known to the leader alone.
    pub condition: Option<String>,
    /// Whether it has the rollout's release; known to the leader alone.
    pub staged: Option<bool>,
    /// How much of it it has, in thousandths, while it fetches; known to the leader alone.
    #[serde(default)]
    pub fetched: Option<u16>,
    /// Its open permit.
    pub permit: Option<String>,
    /// What it said when it failed.
    pub failure: Option<String>,
}

/// What would happen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// On which group.
    pub group: String,
    /// What would be rolled out.
    pub version: Option<String>,
    /// What runs.
    pub previous: Option<String>,
    /// Members that install it without a permit, as they have never been ready.
    pub installs: Vec<String>,
    /// Members that would restart under a permit.
    pub restarts: Vec<String>,
    /// Members that run it already.
    pub current: Vec<String>,
    /// The cap, as written.
    pub max_unavailable: String,
    /// How many may be down at once.
    pub limit: Option<u32>,
    /// Members that are not proven available now, and count against the cap. Known to the leader.
    pub unavailable: Option<Vec<String>>,
    /// What would refuse or stop it.
    pub blocked: Option<String>,
}

/// How much of a release went where, on this node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Transfer {
    /// Of which release.
    pub release: String,
    /// What it is called, where the log or the library knows.
    pub version: Option<String>,
    /// Bytes of its chunks and its manifest.
    pub bytes_total: u64,
    /// Bytes that are here.
    pub bytes_have: u64,
    /// Bytes that came over the network and were new.
    pub bytes_received: u64,
    /// Bytes that came though they were here.
    pub bytes_duplicate: u64,
    /// Bytes sent to others.
    pub bytes_sent: u64,
    /// Whether it is whole, verified and synced.
    pub staged: bool,
}

/// A directory that is being made into a release on this node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SeedView {
    /// The directory.
    pub directory: String,
    /// Files that are done.
    pub files_done: u64,
    /// Files in all.
    pub files: u64,
    /// Bytes that are done.
    pub bytes_done: u64,
    /// Bytes in all.
    pub bytes: u64,
}

/// Something that somebody did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditView {
    /// Its place in the log.
    pub index: u64,
    /// Seconds since 1970, by the leader's clock.
    pub at: u64,
    /// Through which node.
    pub node: String,
    /// Who, where it was a person.
    pub person: Option<String>,
    /// What.
    pub what: String,
    /// Why it was refused, if it was.
    pub refused: Option<String>,
}

fn name(fleet: &Fleet, node: NodeId) -> String {
    let member = fleet.members().get(&node).or_else(|| fleet.removed().get(&node));
    member.map_or_else(|| node.short(), |member| member.name.to_string())
}

fn version(fleet: &Fleet, release: ReleaseId) -> String {
    let known = fleet.releases().get(&release);
    known.map_or_else(|| release.short(), |it| it.header.version.to_string())
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::New => "new",
        Standing::Counted => "counted",
        Standing::Quarantined => "quarantined",
    }
}

fn in_words(phase: &Phase) -> (&'static str, Option<String>) {
    match phase {
        Phase::Forward => ("forward", None),
        Phase::Blocked { reason, .. } => ("blocked", Some(reason.clone())),
        Phase::Paused { reason, .. } => ("paused", Some(reason.clone())),
        Phase::RollingBack { reason } => ("rolling-back", Some(reason.clone())),
        Phase::Done => ("done", None),
        Phase::RolledBack { reason } => ("rolled-back", Some(reason.clone())),
        Phase::Aborted => ("aborted", None),
        Phase::Superseded => ("superseded", None),
    }
}

fn condition(condition: &Condition) -> String {
    match condition {
        Condition::Available => "available".to_owned(),
        Condition::Absent => "absent".to_owned(),
        Condition::Unready { reason } => format!("not ready: {reason}"),
        Condition::Moving { step } => step.clone(),
        Condition::Settling => "ready for less than min_healthy".to_owned(),
        Condition::Dead { reason } => format!("dead: {reason}"),
    }
}

/// The mesh.
pub fn status(peer: &Peer) -> Status {
    let fleet = peer.fleet();
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
        applied: fleet.applied().0,
        groups: groups(peer),
    }
}

/// The members.
pub fn nodes(peer: &Peer) -> Vec<NodeView> {
    let fleet = peer.fleet();
    let connected: std::collections::BTreeSet<_> = peer.connected().collect();
    let view = |(node, member): (&NodeId, &baton_protocol::fleet::roster::Member)| NodeView {
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

/// The releases that the log knows, and those that only this node does.
pub fn releases(peer: &Peer) -> Vec<ReleaseView> {
    let fleet = peer.fleet();
    let library = peer.agent().library();
    let here = library.headers().map(|(signed, header)| (signed.id(), header.clone()));
    let registered = fleet.releases().iter().map(|(id, release)| (*id, release.header.clone()));
    let all: BTreeMap<_, _> = here.chain(registered).collect();
    let view = |(id, header): (ReleaseId, baton_protocol::artifact::header::Header)| ReleaseView {
        id: id.to_string(),
        service: header.service.to_string(),
        version: header.version.to_string(),
        sequence: header.sequence.0,
        size_bytes: header.size_bytes,
        files: header.files,
        staged_here: library.is_staged(id),
        registered: fleet.releases().contains_key(&id),
    };
    let mut releases: Vec<_> = all.into_iter().map(view).collect();
    releases.sort_by(|a, b| (&a.service, a.sequence).cmp(&(&b.service, b.sequence)));
    releases
}

/// The open permits.
pub fn permits(peer: &Peer) -> Vec<PermitView> {
    let fleet = peer.fleet();
    let permits = fleet.permits().values().map(|permit| PermitView {
        id: permit.id.to_string(),
        node: name(fleet, permit.node),
        group: permit.group.to_string(),
        version: version(fleet, permit.release),
        kind: format!("{:?}", permit.kind).to_lowercase(),
        begun: !matches!(permit.phase, PermitPhase::Granted),
        failure: permit.failure.clone(),
    });
    permits.collect()
}

/// A rollout of a group; without an id the last one.
pub fn rollout(
    peer: &Peer,
    now: Instant,
    group_name: &GroupName,
    id: Option<RolloutId>,
) -> Option<RolloutView> {
    let fleet = peer.fleet();
    let group = fleet.groups().get(group_name)?;
    let rollout = match id {
        Some(id) => group.rollouts.iter().find(|rollout| rollout.id == id)?,
        None => group.rollouts.last()?,
    };
    let target = rollout.target();
    let total = group.counted().count();
    let behind = target.map_or(0, |target| fleet.behind(group, target).count());
    let (phase, reason) = in_words(&rollout.phase);
    let evidence = peer.coordinator().map(|coordinator| coordinator.evidence());
    let nodes = group.members.iter().map(|(node, member)| {
        let report = evidence.and_then(|evidence| evidence.fresh(now, fleet, *node));
        let service = report.and_then(|report| report.services.get(group_name));
        RolloutNode {
            name: name(fleet, *node),
            standing: standing(member.standing).to_owned(),
            version: member.running.map(|release| version(fleet, release)),
            condition: match (evidence, service) {
                (None, _) => None,
                (Some(_), Some(service)) => Some(condition(&service.condition)),
                (Some(_), None) => Some("silent".to_owned()),
            },
            staged: report.map(|report| report.staged.contains(&rollout.release)),
            fetched: report.and_then(|report| report.fetching.get(&rollout.release).copied()),
            permit: fleet.permit_of(*node).map(|permit| permit.id.to_string()),
            failure: rollout.failed.get(node).cloned(),
        }
    });
    let mut nodes: Vec<_> = nodes.collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Some(RolloutView {
        id: rollout.id.to_string(),
        group: group_name.to_string(),
        version: version(fleet, rollout.release),
        previous: rollout.previous.map(|release| version(fleet, release)),
        phase: phase.to_owned(),
        reason,
        back: rollout.is_back(),
        paused_by_person: matches!(rollout.phase, Phase::Paused { ordered: true, .. }),
        over: rollout.phase.is_over(),
        leader: peer.leader().map(|node| name(fleet, node)),
        stage: rollout.stage + 1,
        stages: group.policy.stages.len(),
        total,
        arrived: total.saturating_sub(behind),
        limit: fleet.limit(group).ok(),
        permits: fleet.permits().values().filter(|permit| permit.rollout == rollout.id).count(),
        nodes,
    })
}

/// What a rollout of `release` on a group would do. Changes nothing.
pub fn plan(
    peer: &Peer,
    now: Instant,
    group_name: &GroupName,
    release: Option<ReleaseId>,
) -> Result<Plan, String> {
    let fleet = peer.fleet();
    let group = fleet.groups().get(group_name).ok_or_else(|| {
        format!(
            "there is no group {group_name}: name it in a node's config ([groups.{group_name}])"
        )
    })?;
    let limit = fleet.planned_limit(group);
    let mut plan = Plan {
        group: group_name.to_string(),
        version: release.map(|release| version(fleet, release)),
        previous: group.stable.map(|release| version(fleet, release)),
        installs: Vec::new(),
        restarts: Vec::new(),
        current: Vec::new(),
        max_unavailable: group.policy.max_unavailable.to_string(),
        limit: limit.ok(),
        unavailable: None,
        blocked: None,
    };
    for (node, member) in &group.members {
        let list = match member.standing {
            Standing::New => &mut plan.installs,
            Standing::Counted if release.is_some() && member.running == release => {
                &mut plan.current
            }
            Standing::Counted => &mut plan.restarts,
            Standing::Quarantined => continue,
        };
        list.push(name(fleet, *node));
    }
    for list in [&mut plan.installs, &mut plan.restarts, &mut plan.current] {
        list.sort();
    }
    if let Some(coordinator) = peer.coordinator() {
        let unavailable = coordinator.evidence().unavailable(now, fleet, group_name, group);
        plan.unavailable = Some(unavailable.into_iter().map(|node| name(fleet, node)).collect());
    }
    plan.blocked = match (limit, group.active()) {
        (Err(error), _) => Some(error.to_string()),
        (_, Some(active)) => Some(format!("rollout {} is under way", active.id)),
        _ => None,
    };
    Ok(plan)
}

/// How much of each release went where, on this node.
pub fn transfers(peer: &Peer) -> Vec<Transfer> {
    let mut by_release: BTreeMap<ReleaseId, Transfer> = BTreeMap::new();
    for object in peer.swarm().objects() {
        let ObjectId { release, part } = *object;
        let Some(progress) = peer.swarm().progress(ObjectId { release, part }) else { continue };
        let transfer = by_release.entry(release).or_default();
        transfer.bytes_total += progress.bytes_total;
        transfer.bytes_have += progress.bytes_have;
        transfer.bytes_received += progress.bytes_received.values().sum::<u64>();
        transfer.bytes_duplicate += progress.bytes_duplicate;
        transfer.bytes_sent += progress.bytes_sent;
        if part == Part::Content {
            transfer.staged = peer.agent().library().is_staged(release);
        }
    }
    let library = peer.agent().library();
    let versions: BTreeMap<_, _> = library
        .headers()
        .map(|(signed, header)| (signed.id(), header.version.to_string()))
        .collect();
    let named = by_release.into_iter().map(|(release, transfer)| Transfer {
        release: release.to_string(),
        version: versions.get(&release).cloned(),
        ..transfer
    });
    named.collect()
}

/// The seeds under way.
pub(super) fn seeds(packing: Vec<(PathBuf, PackProgress)>) -> Vec<SeedView> {
    let view = |(directory, progress): (PathBuf, PackProgress)| SeedView {
        directory: directory.display().to_string(),
        files_done: progress.files_done,
        files: progress.files,
        bytes_done: progress.bytes_done,
        bytes: progress.bytes,
    };
    packing.into_iter().map(view).collect()
}

/// What people and the coordinator did, oldest first.
pub fn audit(peer: &Peer) -> Vec<AuditView> {
    let fleet = peer.fleet();
    let entries = fleet.audit().tail().map(|entry| AuditView {
        index: entry.index.0,
        at: entry.at.0,
        node: name(fleet, entry.by),
        person: entry.person.clone(),
        what: entry.what.clone(),
        refused: entry.refused.clone(),
    });
    entries.collect()
}

/// The release that a person means by a version or an id.
pub fn find_release(peer: &Peer, group: &GroupName, text: &str) -> Option<ReleaseId> {
    let fleet = peer.fleet();
    let service = fleet.groups().get(group).and_then(|group| group.service.clone());
    let fits = |id: &ReleaseId, header: &baton_protocol::artifact::header::Header| {
        let of_service = service.as_ref().is_none_or(|service| *service == header.service);
        id.to_string() == text || (of_service && header.version.as_str() == text)
    };
    fleet.releases().iter().find(|(id, release)| fits(id, &release.header)).map(|(id, _)| *id)
}
