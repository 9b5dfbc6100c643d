//! What each fault does to the world.

use core::time::Duration;
use std::collections::BTreeSet;

use baton_protocol::disk::Key;
use baton_protocol::fleet::policy::Cap;
use baton_protocol::id::NodeName;
use baton_protocol::peer::Operation;

use crate::bulk::LINK_BYTES_PER_MS;
use crate::disk::Disk;
use crate::event::{Event, Host, Step};
use crate::fault::{FLAP_EVERY, Fault, RESTORED};
use crate::mesh::group;
use crate::rig::SYNC_MILLIS;
use crate::shape::capped;
use crate::spells::Spell;
use crate::tally::count;
use crate::world::World;

/// What came of a fault.
enum Effect {
    /// Something is otherwise than it was, or a daemon was asked.
    Felt,
    /// Whoever it was meant for was gone, or as it wants them already.
    InVain,
    /// It tells when it comes to it.
    Later,
}

impl From<bool> for Effect {
    fn from(felt: bool) -> Self {
        if felt { Self::Felt } else { Self::InVain }
    }
}

impl World {
    pub(crate) fn inflict(&mut self, fault: Fault) {
        let (kind, text) = (fault.kind(), describe(&fault));
        self.note(&format!("FAULT {text}"));
        match self.strike(fault) {
            Effect::Felt => self.struck(kind, &text, true),
            Effect::InVain => self.struck(kind, &text, false),
            Effect::Later => {}
        }
    }

    /// Counts a fault once it is known whether anybody feels it.
    fn struck(&mut self, kind: &'static str, text: &str, felt: bool) {
        if !felt {
            self.note("in vain");
            return count(&mut self.tally.in_vain, kind);
        }
        count(&mut self.tally.faults, kind);
        if let Some(chronicle) = &mut self.chronicle {
            chronicle.fault(self.now, text);
        }
    }

    fn strike(&mut self, fault: Fault) -> Effect {
        match fault {
            Fault::Crash { host, wait } => self.crash_for(host, wait).into(),
            Fault::CrashLeader { wait } => {
                self.leader().is_some_and(|host| self.crash_for(host, wait)).into()
            }
            Fault::CrashHolder { wait } => {
                self.holder().is_some_and(|host| self.crash_for(host, wait)).into()
            }
            Fault::PowerCut { hosts, wait } => self.power_cut(&hosts, wait).into(),
            Fault::Away { host, wait } => {
                let died = self.service_dies(host);
                (self.crash_for(host, wait) || died).into()
            }
            Fault::Pause { host, wait } => self.pause(host, wait).into(),
            Fault::Lose { host } => self.lose(host).into(),
            Fault::LoseHolder => self.holder().is_some_and(|host| self.lose(host)).into(),
            Fault::Wipe { host, wait } => self.wipe(host, wait).into(),
            Fault::Restore { host, age } => {
                let disk = Box::new(self.hosts[host].disk.copy());
                self.after(age, Event::Restore { host, disk });
                Effect::Later
            }
            Fault::Sleep { host, by } => self.sleep(host, by).into(),
            Fault::WallClock { host, by_seconds, wait } => {
                self.set_clock(host, by_seconds, wait).into()
            }
            Fault::LeaderClock { by_seconds, wait } => {
                self.leader().is_some_and(|host| self.set_clock(host, by_seconds, wait)).into()
            }
            Fault::Partition { ways, wait } => self.part(&ways, wait).into(),
            Fault::CutOff { host, others, wait } => {
                let ways = self.ways_around(host, others);
                self.part(&ways, wait).into()
            }
            Fault::Clog { ways, wait } => self.clog(ways, wait).into(),
            Fault::Breaks { count } => self.cut_some(count).into(),
            Fault::Loss { host, permille, wait } => {
                self.net.set_loss(host, permille);
                self.bulk.set_loss(host, permille);
                self.flow();
                self.worse_for(host, Spell::Loss, wait)
            }
            Fault::Thin { host, bytes_per_ms, wait } => {
                self.bulk.set_link(host, bytes_per_ms);
                self.flow();
                self.worse_for(host, Spell::Link, wait)
            }
            Fault::Garble { host, permille, wait } => {
                self.hosts[host].garbled_permille = permille;
                self.worse_for(host, Spell::Garbles, wait)
            }
            Fault::Maintenance { host, wait } => self.maintain(host, wait).into(),
            Fault::SlowDisk { host, millis, wait } => {
                self.hosts[host].sync_millis = millis;
                self.worse_for(host, Spell::Syncs, wait)
            }
            Fault::FullDisk { host, wait } => {
                self.hosts[host].full = true;
                self.worse_for(host, Spell::Room, wait)
            }
            Fault::Rot { host, count } => self.rot(host, count).into(),
            Fault::ServiceDies { host } => self.service_dies(host).into(),
            Fault::ServiceIll { host, wait } => self.service_ill(host, wait).into(),
            Fault::ServiceFlaps { host, times } => self.flap(host, times).into(),
            Fault::Lies { host, manner, wait } => self.lies(host, manner, wait).into(),
            Fault::Deploy { release } => {
                let (group, person) = (group(), person());
                self.order(Operation::Deploy { group, release, back: false, person }).into()
            }
            Fault::Steer { order } => {
                let group_now = self.judge.newest().groups().get(&group());
                let steered = group_now.is_some_and(|it| it.active().is_some());
                let (group, person) = (group(), person());
                (self.order(Operation::Steer { group, order, person }) && steered).into()
            }
            Fault::Cap { count } => {
                let change = capped(Cap { count: Some(count), ..Cap::default() });
                let (group, person) = (group(), person());
                self.order(Operation::SetGroup { group, change, person }).into()
            }
            Fault::Remove { host } => {
                let (node, member) = (self.node_name(host), self.is_member(host));
                (self.order(Operation::Remove { node, person: person() }) && member).into()
            }
            Fault::Quarantine { host } => {
                let (node, member) = (self.node_name(host), self.is_member(host));
                let (group, person) = (group(), person());
                let operation = Operation::Quarantine { group, node, on: true, person };
                (self.order(operation) && member).into()
            }
            Fault::Override { host } => self.override_at(host).into(),
        }
    }

    fn node_name(&self, host: Host) -> NodeName {
        self.hosts[host].config.name.clone()
    }

    fn is_member(&self, host: Host) -> bool {
        self.judge.newest().members().contains_key(&self.hosts[host].config.node)
    }

    /// A person orders something of some node; whether one is there to be asked.
    fn order(&mut self, operation: Operation) -> bool {
        let alive = self.alive();
        let host = self.rng.pick(&alive).copied();
        self.operate(host.unwrap_or_default(), operation, 0);
        host.is_some()
    }

    /// The permit of `host` may go, or any other where it holds none: there are few holders.
    fn override_at(&mut self, host: Host) -> bool {
        let fleet = self.judge.newest();
        let own = fleet.permit_of(self.hosts[host].config.node).map(|permit| permit.id);
        let all: Vec<_> = fleet.permits().keys().copied().collect();
        let Some(permit) = own.or_else(|| self.rng.pick(&all).copied()) else { return false };
        let (reason, person) = ("tries".to_owned(), person());
        self.order(Operation::Override { permit, fenced: false, reason, person })
    }

    /// Something of `host` is worse, and is mended after `wait`.
    fn worse_for(&mut self, host: Host, spell: Spell, wait: Duration) -> Effect {
        self.spell(host, spell, wait);
        self.is_there_within(host, wait).into()
    }

    /// Whether the daemon of `host` runs at some time before `wait` is over, as far as is known now.
    fn is_there_within(&self, host: Host, wait: Duration) -> bool {
        let rig = &self.hosts[host];
        !rig.lost && rig.spells.is_over(Spell::Down, self.now.after(wait))
    }

    /// Frames of these ways are held back for a while; whether both ends of one are there.
    fn part(&mut self, ways: &[(Host, Host)], wait: Duration) -> bool {
        self.partition(ways);
        self.after(wait, Event::Heal { ways: ways.to_vec() });
        self.joins_any(ways, wait)
    }

    fn joins_any(&self, ways: &[(Host, Host)], wait: Duration) -> bool {
        let there = |host| self.is_there_within(host, wait);
        ways.iter().any(|(a, b)| there(*a) && there(*b))
    }

    /// Something of `host` is otherwise for a while.
    pub(crate) fn spell(&mut self, host: Host, spell: Spell, wait: Duration) {
        let until = self.hosts[host].spells.extend(spell, self.now.after(wait));
        self.at(until, Event::Over { host, spell });
    }

    /// What was otherwise for a while is as it should be, unless it lasts longer meanwhile.
    pub(crate) fn over(&mut self, host: Host, spell: Spell) {
        if !self.hosts[host].spells.is_over(spell, self.now) {
            return;
        }
        match spell {
            Spell::Down => self.start(host),
            Spell::Still => self.go_on(host),
            Spell::Loss => {
                self.net.set_loss(host, 0);
                self.bulk.set_loss(host, 0);
                self.flow();
            }
            Spell::Link => {
                self.bulk.set_link(host, LINK_BYTES_PER_MS);
                self.flow();
            }
            Spell::Garbles => self.hosts[host].garbled_permille = 0,
            Spell::Syncs => self.hosts[host].sync_millis = SYNC_MILLIS,
            Spell::Room => self.hosts[host].full = false,
            Spell::Ill => {
                if let Some(process) = self.hosts[host].ill.take() {
                    self.service_step(host, process, Step::Ready);
                }
            }
            Spell::Lie => self.hosts[host].liar = None,
        }
    }

    fn set_clock(&mut self, host: Host, by_seconds: i64, wait: Duration) -> bool {
        self.hosts[host].wall_ahead += by_seconds;
        self.after(wait, Event::ClockRight { host, by_seconds });
        self.is_there_within(host, wait)
    }

    /// A service ends by itself; whether there was one.
    pub(crate) fn service_dies(&mut self, host: Host) -> bool {
        let service = &self.hosts[host].service;
        let (process, lives) = (service.number, service.release().is_some());
        self.service_step(host, process, Step::Dies);
        lives
    }

    /// A service that is ready is not for a while; whether it was, or was ill already.
    fn service_ill(&mut self, host: Host, wait: Duration) -> bool {
        let rig = &mut self.hosts[host];
        let (process, ready) = (rig.service.number, rig.service.is_ready());
        if ready {
            rig.spells.end(Spell::Ill);
            rig.ill = Some(process);
        } else if rig.ill != Some(process) {
            return false; // what was not ready does not get ready by being ill
        }
        self.service_step(host, process, Step::Unready);
        self.spell(host, Spell::Ill, wait);
        true
    }

    /// A service dies now, and so many times in all; whether there was one to begin with.
    pub(crate) fn flap(&mut self, host: Host, times: u32) -> bool {
        if let Some(left) = times.checked_sub(1).filter(|left| *left > 0) {
            self.after(FLAP_EVERY, Event::Flap { host, left });
        }
        self.service_dies(host)
    }

    fn rot(&mut self, host: Host, count: usize) -> bool {
        let others =
            (0..self.hosts.len()).filter(|other| *other != host && !self.hosts[*other].lost);
        let elsewhere: BTreeSet<_> =
            others.flat_map(|other| self.hosts[other].store.sealed()).collect();
        let rig = &mut self.hosts[host];
        self.touched.extend(rig.store.sealed());
        rig.store.rot(&mut self.rng, count, &elsewhere) && !rig.lost
    }

    /// Each way is clogged at its own time and freed at its own.
    fn clog(&mut self, ways: Vec<(Host, Host)>, wait: Duration) -> bool {
        let felt = self.joins_any(&ways, wait);
        for way in ways {
            let begin = self.within(wait / 2);
            let end = wait / 2 + self.within(wait / 2);
            self.after(begin, Event::Clog { way });
            self.after(end, Event::Heal { ways: vec![way] });
        }
        felt
    }

    /// The daemon of `host` finds an older state of its disk, if it is one that may.
    pub(crate) fn restore(&mut self, host: Host, disk: Disk) {
        let felt = self.may_restore(host, &disk);
        self.struck(RESTORED, &format!("old disk of {host}"), felt);
        if !felt {
            return;
        }
        self.crash(host);
        self.note(&format!("host {host} has an old disk"));
        self.hosts[host].disk = disk;
        self.hosts[host].restored = true;
        self.start(host);
    }

    /// A voter's disk is left alone: one that forgets its votes is outside of what consensus bears.
    fn may_restore(&self, host: Host, disk: &Disk) -> bool {
        let votes = |disk: &Disk| disk.contents().contains_key(&Key::Voter);
        let rig = &self.hosts[host];
        !rig.lost && !votes(disk) && !votes(&rig.disk) && !disk.contents().is_empty()
    }
}

fn person() -> String {
    "ann".to_owned()
}

/// A fault for people: ways by their number.
pub(crate) fn describe(fault: &Fault) -> String {
    match fault {
        Fault::Partition { ways, wait } => format!("Partition of {} ways, {wait:?}", ways.len()),
        Fault::Clog { ways, wait } => format!("Clog of {} ways, {wait:?}", ways.len()),
        other => format!("{other:?}"),
    }
}
