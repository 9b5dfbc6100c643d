//! What each fault does to the world.

use core::time::Duration;
use std::collections::BTreeSet;

use baton_protocol::disk::Key;
use baton_protocol::fleet::command::PolicyChange;
use baton_protocol::fleet::policy::Cap;
use baton_protocol::peer::Operation;

use crate::bulk::LINK_BYTES_PER_MS;
use crate::disk::Disk;
use crate::event::{Event, Host, Mended, Step};
use crate::fault::{FLAP_EVERY, Fault};
use crate::mesh::group;
use crate::rig::SYNC_MILLIS;
use crate::shape::capped;
use crate::tally::count;
use crate::world::World;

impl World {
    pub(crate) fn inflict(&mut self, fault: Fault) {
        count(&mut self.tally.faults, fault.kind());
        let text = describe(&fault);
        self.note(&format!("FAULT {text}"));
        if let Some(chronicle) = &mut self.chronicle {
            chronicle.fault(self.now, &text);
        }
        match fault {
            Fault::Crash { host, wait } => self.crash_for(host, wait),
            Fault::CrashLeader { wait } => {
                if let Some(host) = self.leader() {
                    self.crash_for(host, wait);
                }
            }
            Fault::CrashHolder { wait } => self.crash_holder(wait),
            Fault::PowerCut { hosts, wait } => self.power_cut(&hosts, wait),
            Fault::Away { host, wait } => {
                self.service_dies(host);
                self.crash_for(host, wait);
            }
            Fault::Pause { host, wait } => self.pause(host, wait),
            Fault::Lose { host } => self.lose(host),
            Fault::Wipe { host, wait } => self.wipe(host, wait),
            Fault::Restore { host, age } => {
                let disk = Box::new(self.hosts[host].disk.copy());
                self.after(age, Event::Restore { host, disk });
            }
            Fault::Sleep { host, by } => self.sleep(host, by),
            Fault::WallClock { host, by_seconds } => self.hosts[host].wall_ahead += by_seconds,
            Fault::Partition { ways, wait } => {
                self.partition(&ways);
                self.after(wait, Event::Heal);
            }
            Fault::CutOff { host, others, wait } => {
                self.cut_off(host, others);
                self.after(wait, Event::Heal);
            }
            Fault::Clog { ways, wait } => self.clog(ways, wait),
            Fault::Breaks { count } => self.cut_some(count),
            Fault::Loss { host, permille, wait } => {
                self.net.set_loss(host, permille);
                self.after(wait, Event::Mended { host, what: Mended::Loss });
            }
            Fault::Thin { host, bytes_per_ms, wait } => {
                self.bulk.set_link(host, bytes_per_ms);
                self.flow();
                self.after(wait, Event::Mended { host, what: Mended::Link });
            }
            Fault::SlowDisk { host, millis, wait } => {
                self.hosts[host].sync_millis = millis;
                self.after(wait, Event::Mended { host, what: Mended::Syncs });
            }
            Fault::FullDisk { host, wait } => {
                self.hosts[host].full = true;
                self.after(wait, Event::Mended { host, what: Mended::Room });
            }
            Fault::Rot { host, count } => self.rot(host, count),
            Fault::ServiceDies { host } => self.service_dies(host),
            Fault::ServiceIll { host, wait } => self.service_ill(host, wait),
            Fault::ServiceFlaps { host, times } => {
                for at in 0..times {
                    let fault = Fault::ServiceDies { host };
                    self.after(FLAP_EVERY * at, Event::Fault(Box::new(fault)));
                }
            }
            Fault::Lies { host, manner, wait } => self.lies(host, manner, wait),
            order => self.order(order),
        }
    }

    /// A person orders something of some node.
    fn order(&mut self, order: Fault) {
        let (group, person) = (group(), "ann".to_owned());
        let node = |world: &Self, host: Host| world.hosts[host].config.name.clone();
        let operation = match order {
            Fault::Deploy { release } => Operation::Deploy { group, release, back: false, person },
            Fault::Steer { order } => Operation::Steer { group, order, person },
            Fault::Cap { count } => {
                let change: PolicyChange = capped(Cap { count: Some(count), ..Cap::default() });
                Operation::SetGroup { group, change, person }
            }
            Fault::Remove { host } => Operation::Remove { node: node(self, host), person },
            Fault::Quarantine { host } => {
                Operation::Quarantine { group, node: node(self, host), on: true, person }
            }
            Fault::Override { host } => {
                let permit = self.judge.newest().permit_of(self.hosts[host].config.node);
                let Some(permit) = permit.map(|permit| permit.id) else { return };
                Operation::Override { permit, fenced: false, reason: "tries".to_owned(), person }
            }
            _ => return,
        };
        let alive = self.alive();
        let host = self.rng.pick(&alive).copied().unwrap_or_default();
        self.operate(host, operation, 0);
    }

    /// What was worse for a while is as it should be.
    pub(crate) fn mended(&mut self, host: Host, what: Mended) {
        match what {
            Mended::Loss => self.net.set_loss(host, 0),
            Mended::Link => {
                self.bulk.set_link(host, LINK_BYTES_PER_MS);
                self.flow();
            }
            Mended::Syncs => self.hosts[host].sync_millis = SYNC_MILLIS,
            Mended::Room => self.hosts[host].full = false,
        }
    }

    fn service_dies(&mut self, host: Host) {
        let process = self.hosts[host].service.number;
        self.service_step(host, process, Step::Dies);
    }

    fn service_ill(&mut self, host: Host, wait: Duration) {
        let process = self.hosts[host].service.number;
        self.service_step(host, process, Step::Unready);
        self.after(wait, Event::Well { host, process });
    }

    fn rot(&mut self, host: Host, count: usize) {
        let others =
            (0..self.hosts.len()).filter(|other| *other != host && !self.hosts[*other].lost);
        let elsewhere: BTreeSet<_> =
            others.flat_map(|other| self.hosts[other].store.sealed()).collect();
        self.hosts[host].store.rot(&mut self.rng, count, &elsewhere);
    }

    /// Each way is clogged at its own time and freed at its own.
    fn clog(&mut self, ways: Vec<(Host, Host)>, wait: Duration) {
        for way in ways {
            let begin = self.within(wait / 2);
            let end = wait / 2 + self.within(wait / 2);
            self.after(begin, Event::Clog { way });
            self.after(end, Event::Unclog { ways: vec![way] });
        }
    }

    /// The daemon of `host` finds an older state of its disk. A voter's is left alone: one that
    /// forgets its votes is outside of what consensus bears.
    pub(crate) fn restore(&mut self, host: Host, disk: Disk) {
        let votes = |disk: &Disk| disk.contents().contains_key(&Key::Voter);
        let rig = &self.hosts[host];
        if rig.lost || votes(&disk) || votes(&rig.disk) || disk.contents().is_empty() {
            return;
        }
        self.crash(host);
        self.note(&format!("host {host} has an old disk"));
        self.hosts[host].disk = disk;
        self.hosts[host].restored = true;
        self.start(host);
    }
}

/// A fault for people: ways by their number.
pub(crate) fn describe(fault: &Fault) -> String {
    match fault {
        Fault::Partition { ways, wait } => format!("Partition of {} ways, {wait:?}", ways.len()),
        Fault::Clog { ways, wait } => format!("Clog of {} ways, {wait:?}", ways.len()),
        other => format!("{other:?}"),
    }
}
