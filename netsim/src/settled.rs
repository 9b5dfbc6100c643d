//! How a run must end: everybody there, with the same log, and serving what it is to serve.

use std::collections::BTreeMap;

use baton_protocol::fleet::Fleet;
use baton_protocol::fleet::group::Standing;
use baton_protocol::fleet::rollout::Phase;

use crate::event::Host;
use crate::mesh::group;
use crate::rig::Rig;
use crate::scenario::Director;
use crate::service::Process;
use crate::story::End;
use crate::tally::count;
use crate::world::World;

impl Director {
    /// Liveness after the last rollout: no permit stays open, every node that is there has the whole log,
    /// and every server counts and serves what it is to serve.
    pub(crate) fn unsettled(&self, world: &World) -> Option<String> {
        let fleet = world.judge.newest();
        if let Some(permit) = fleet.permits().values().next() {
            return Some(format!("a permit is open: {permit:?}"));
        }
        let last = fleet.groups().get(&group()).and_then(|group| group.rollouts.last());
        let ended = last.map(|rollout| &rollout.phase);
        let even = matches!(ended, Some(Phase::Done | Phase::RolledBack { .. }));
        (0..).zip(&world.hosts).filter(|(_, rig)| !rig.lost).find_map(|(host, rig)| {
            let applied = rig.peer.as_ref().map(|peer| peer.fleet().applied());
            if applied != Some(fleet.applied()) {
                return Some(format!("host {host} is at entry {applied:?} of {}", fleet.applied()));
            }
            let same = even && !self.returned.contains(&host);
            if self.shape.is_witness(host) { None } else { unserved(fleet, host, rig, same) }
        })
    }

    /// Whether a scenario ended as it must.
    pub(crate) fn compare(&self, world: &mut World) {
        let group = world.judge.newest().groups().get(&group());
        let last = group.and_then(|it| it.rollouts.last()).map(|it| End::of(&it.phase));
        let Some(story) = &self.options.story else { return };
        if last != Some(story.ends) {
            let text = format!("scenario: must end {:?}, and ends {last:?}", story.ends);
            world.judge.fail(&text);
        }
        // It would not show what it says.
        if !world.tally.in_vain.is_empty() {
            let text = format!("scenario: nobody feels some faults: {:?}", world.tally.in_vain);
            world.judge.fail(&text);
        }
    }
}

/// How the rollouts that the log remembers ended.
pub(crate) fn ends(fleet: &Fleet) -> BTreeMap<&'static str, u64> {
    let mut ends = BTreeMap::new();
    for rollout in fleet.groups().values().flat_map(|group| &group.rollouts) {
        count(&mut ends, End::of(&rollout.phase).name());
    }
    ends
}

/// Why a server does not serve what it is to serve: what the log says that it runs, and, where it must be
/// the `same`, what the group runs.
fn unserved(fleet: &Fleet, host: Host, rig: &Rig, same: bool) -> Option<String> {
    let group = fleet.groups().get(&group())?;
    let member = group.members.get(&rig.config.node).filter(|it| it.standing == Standing::Counted);
    let Some(member) = member else {
        let standing = group.members.get(&rig.config.node).map(|it| it.standing);
        return Some(format!("host {host} is a server and {standing:?} in its group"));
    };
    let running = match rig.service.process {
        Process::Running { release, ready: true } => Some(release),
        _ => None,
    };
    let right = running == member.running && (!same || running == group.stable);
    (!rig.service.serves() || !right).then(|| {
        format!(
            "host {host} has {:?}, drained {}, and the log says {:?} of it and {:?} of the group",
            rig.service.process, rig.service.drained, member.running, group.stable
        )
    })
}
