//! What people do beside the rollouts that a seed asks for: they ask again, resume and give up, and after
//! the faults they start, clear away and put back.

use core::time::Duration;
use std::collections::BTreeSet;

use baton_protocol::fleet::command::{Order, PolicyChange};
use baton_protocol::fleet::group::Standing;
use baton_protocol::fleet::permit::Permit;
use baton_protocol::fleet::policy::Cap;
use baton_protocol::fleet::rollout::Phase;
use baton_protocol::id::{NodeId, NodeName, ReleaseId, RolloutId};
use baton_protocol::peer::Operation;

use crate::event::{Event, Host};
use crate::mesh::{group, name};
use crate::scenario::Director;
use crate::store::Temper;
use crate::world::World;

/// Pause between two looks of the people at what is to be mended.
const MEND_EVERY: Duration = Duration::from_secs(5);

/// Times that people resume one rollout that paused by itself, before they give it up.
const RESUMES_MAX: u32 = 5;

impl Director {
    /// The people want the newest release.
    pub(crate) fn press(&mut self, world: &mut World) {
        if world.now > self.plan.last
            && let Some(release) = self.releases.last().copied()
        {
            self.press_for(world, release);
        }
    }

    /// Asks again for a rollout that was refused, as something had changed meanwhile, and resumes one
    /// that has paused.
    pub(crate) fn press_for(&mut self, world: &mut World, release: ReleaseId) {
        if world.now != self.mended_at {
            return;
        }
        let host = self.anybody(world);
        let active = world.judge.newest().groups().get(&group()).and_then(|it| it.active());
        match active.map(|active| (active.id, active.phase.clone())) {
            None => {
                let made = world.catalog.get(&release).map(|made| made.signed.clone());
                if let Some(header) = made {
                    ask(world, host, Operation::Register { header });
                }
                ask(world, host, deploy_of(release));
            }
            Some((id, Phase::Paused { .. })) => {
                let order = self.resume_or_abort(world, id, release);
                let (group, person) = (group(), "ann".to_owned());
                ask(world, host, Operation::Steer { group, order, person });
            }
            Some(_) => {}
        }
    }

    /// Liveness: people give a rollout up in the end, and that of a release that is good they need not.
    fn resume_or_abort(&mut self, world: &mut World, id: RolloutId, release: ReleaseId) -> Order {
        if self.resumed.0 != id {
            self.resumed = (id, 0);
        }
        self.resumed.1 += 1;
        if !self.resumed.1.is_multiple_of(RESUMES_MAX) {
            return Order::Resume;
        }
        let made = world.catalog.get(&release);
        if made.is_some_and(|made| made.temper == Temper::Good) {
            let rollout = world.judge.newest().groups().get(&group()).and_then(|it| it.active());
            let text = format!("progress: a good release pauses time and again: {rollout:?}");
            world.judge.fail(&text);
        }
        Order::Abort
    }

    /// After the faults: starts what is down, powers off and removes what is lost, puts back what is in
    /// quarantine, and changes what makes a rollout stand still.
    pub(crate) fn mend(&mut self, world: &mut World) {
        if world.now.since(self.mended_at) < MEND_EVERY {
            return;
        }
        self.mended_at = world.now;
        world.traps.clear();
        for host in 0..self.options.hosts {
            world.start(host);
        }
        self.clear_away(world);
        for host in 0..self.options.hosts {
            self.put_back(world, host);
        }
        self.raise_cap(world);
        self.seed_again(world);
        if self.outstanding(world).is_none() {
            self.go_back(world);
        }
    }

    /// A release may be lost with the last node that had it whole, while others wait for it. One that no
    /// fault has touched is not: that is for the mesh to keep.
    fn seed_again(&self, world: &mut World) {
        let stores = world.alive().into_iter().map(|host| &world.hosts[host].store);
        let (waiting, whole): (Vec<_>, Vec<_>) =
            stores.map(|store| (store.unsealed(), store.sound())).unzip();
        let whole: BTreeSet<ReleaseId> = whole.into_iter().flatten().collect();
        let waiting: BTreeSet<ReleaseId> = waiting.into_iter().flatten().collect();
        let lost = waiting.difference(&whole).filter(|it| world.touched.contains(it));
        for release in lost.copied().collect::<Vec<_>>() {
            if let Some(made) = world.catalog.get(&release).cloned() {
                let host = self.anybody(world);
                world.seed(host, made);
            }
        }
    }

    /// An aborted rollout leaves its last holders where they are: with a release that is no good, until
    /// the next rollout. People go back. A good one must get ready without them.
    fn go_back(&self, world: &mut World) {
        let fleet = world.judge.newest();
        let Some(group_now) = fleet.groups().get(&group()) else { return };
        let bad = |release: &ReleaseId| {
            world.catalog.get(release).is_none_or(|it| it.temper != Temper::Good)
        };
        let stuck = |permit: &Permit| permit.failure.is_some() && bad(&permit.release);
        let stuck = fleet.permits().values().any(stuck);
        let (Some(release), None, true) = (group_now.stable, group_now.active(), stuck) else {
            return;
        };
        let (host, person) = (self.anybody(world), "ann".to_owned());
        ask(world, host, Operation::Deploy { group: group(), release, back: true, person });
    }

    /// A cap may let nobody go when members have left, which blocks the rollout and says so.
    fn raise_cap(&self, world: &mut World) {
        let fleet = world.judge.newest();
        let group_now = fleet.groups().get(&group());
        let limit = group_now.map(|group| fleet.planned_limit(group));
        if let Some(Err(_)) = limit {
            let cap = Cap { count: Some(1), allow_half: true, ..Cap::default() };
            let max_unavailable = Some(cap);
            let host = self.anybody(world);
            ask(
                world,
                host,
                set_group(PolicyChange { max_unavailable, ..PolicyChange::default() }),
            );
        }
    }

    /// A node that is gone, or that somebody has removed: its machine is powered off, which its
    /// permit's override says, and the node is out of the mesh. Some machines come back as new nodes.
    fn clear_away(&self, world: &mut World) {
        for host in 0..self.options.hosts {
            let node = world.hosts[host].config.node;
            let removed = world.judge.newest().removed().contains_key(&node);
            let (odd, known) = (host % 2 == 1, world.gone.contains_key(&node));
            let outlived = self.is_outlived(world, host);
            if (removed && !known && odd) || outlived {
                world.wipe(host, Duration::from_secs(1));
            } else if removed && !known {
                world.lose(host);
            }
        }
        for (node, name) in world.gone.clone() {
            self.replace_voter(world, node);
            self.fence(world, node, name);
        }
    }

    /// A voter that is lost leaves its seat to another member only. Where all vote, a new machine comes.
    fn replace_voter(&self, world: &mut World, node: NodeId) {
        let fleet = world.judge.newest();
        let votes = fleet.votes(node);
        let spare = |host: &Host| {
            let node = world.hosts[*host].config.node;
            fleet.members().contains_key(&node) && !fleet.votes(node)
        };
        let spare = world.alive().iter().any(spare);
        let place = world.hosts.iter().position(|rig| rig.lost && rig.config.node == node);
        if let Some(host) = place.filter(|_| votes && !spare) {
            world.after(Duration::from_secs(1), Event::Reborn { host });
        }
    }

    /// Whether the disk of a host was put back so far that the mesh takes it for another life.
    fn is_outlived(&self, world: &World, host: Host) -> bool {
        let rig = &world.hosts[host];
        let known = world.judge.newest().members().get(&rig.config.node).map(|it| it.incarnation);
        let own = rig.peer.as_ref().map(|it| it.agent().report(rig.local(world.now)).incarnation);
        rig.restored && own.is_some() && own < known
    }

    fn fence(&self, world: &mut World, node: NodeId, name: NodeName) {
        let asked = self.anybody(world);
        let person = "ann".to_owned();
        let fleet = world.judge.newest();
        let permit = fleet.permit_of(node).map(|permit| permit.id);
        let member = fleet.members().contains_key(&node);
        // Some remove first, and some override first.
        let remove_first = node.0[0].is_multiple_of(2);
        if member && (permit.is_none() || remove_first) {
            ask(world, asked, Operation::Remove { node: name, person: person.clone() });
        }
        if let Some(permit) = permit.filter(|_| !member || !remove_first) {
            let reason = "powered off".to_owned();
            ask(world, asked, Operation::Override { permit, fenced: true, reason, person });
        }
    }

    fn put_back(&mut self, world: &mut World, host: Host) {
        let node = world.hosts[host].config.node;
        let group_now = world.judge.newest().groups().get(&group());
        let member = group_now.and_then(|it| it.members.get(&node));
        if member.is_some_and(|it| it.standing == Standing::Quarantined) {
            self.returned.insert(host);
            let (node, asked) = (world.hosts[host].config.name.clone(), self.anybody(world));
            let (group, person) = (group(), "ann".to_owned());
            ask(world, asked, Operation::Quarantine { group, node, on: false, person });
        }
    }

    pub(crate) fn is_mended(&self, world: &World) -> bool {
        let fleet = world.judge.newest();
        let left =
            |node: &NodeId| fleet.members().contains_key(node) || fleet.permit_of(*node).is_some();
        !world.gone.keys().any(left)
    }
}

pub(crate) fn ask(world: &mut World, host: Host, operation: Operation) {
    let event = Event::Operate { host, operation: Box::new(operation), tries: 0 };
    world.after(Duration::from_millis(1), event);
}

pub(crate) fn set_group(change: PolicyChange) -> Operation {
    Operation::SetGroup { group: group(), change, person: "ann".to_owned() }
}

pub(crate) fn deploy_of(release: ReleaseId) -> Operation {
    Operation::Deploy { group: name("web"), release, back: false, person: "ann".to_owned() }
}
