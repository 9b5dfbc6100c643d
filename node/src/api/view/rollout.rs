//! Rollouts, their permits, and what one would do.

use baton_protocol::agent::report::Condition;
use baton_protocol::fleet::group::Standing;
use baton_protocol::fleet::permit::PermitPhase;
use baton_protocol::fleet::rollout::Phase;
use baton_protocol::id::{GroupName, ReleaseId, RolloutId};
use baton_protocol::peer::Peer;
use baton_protocol::time::Instant;
use serde::{Deserialize, Serialize};

use super::{name, version};

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

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::New => "new",
        Standing::Counted => "counted",
        Standing::Quarantined => "quarantined",
    }
}

pub(super) fn in_words(phase: &Phase) -> (&'static str, Option<String>) {
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
        Condition::Unseen => "not looked at yet".to_owned(),
        Condition::Dead { reason } => format!("dead: {reason}"),
    }
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
    for (node, member) in group.members.iter() {
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
