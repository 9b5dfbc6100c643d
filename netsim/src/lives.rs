//! How daemons start, stop, crash and are lost.

use core::time::Duration;

use baton_protocol::peer::{Input, Peer};
use baton_protocol::time::Instant;

use crate::event::{Event, Host};
use crate::mesh::{mesh_name, name};
use crate::news::News;
use crate::rig::Rig;
use crate::service::Spoken;
use crate::spells::Spell;
use crate::world::{PROBE_EVERY, World};

/// Inputs that a daemon which stands still has waiting: what the kernel's queues hold, and more.
const WAITING_MAX: usize = 100_000;

/// How long the other ends of a dead daemon's connections take to notice.
const CUT_WITHIN: Duration = Duration::from_millis(200);

/// Pause before a host starts a daemon again that has ended by itself.
const RESTART_PAUSE: Duration = Duration::from_secs(5);

impl World {
    /// Starts a daemon: the founder's first life founds the mesh.
    pub(crate) fn start(&mut self, host: Host) {
        let there = self.hosts[host].spells.is_over(Spell::Down, self.now);
        if !there || self.hosts[host].peer.is_some() || self.hosts[host].lost {
            return;
        }
        let (seed, wall) = (self.rng.next_u64(), self.wall_clock(host));
        let state = self.state.clone();
        let publisher = self.mesh.publisher();
        let rig = &mut self.hosts[host];
        rig.life += 1;
        if state.is_none() {
            rig.config.seed = seed;
        }
        rig.service.spoken = Spoken::Nothing;
        let (config, local) = (rig.config.clone(), rig.local(self.now));
        let disk = rig.disk.contents();
        let peer = match state {
            Some(state) => Peer::start_with(config, local, wall, disk, state),
            None if rig.founds && disk.is_empty() => {
                Peer::found(config, local, wall, mesh_name(), publisher)
            }
            None => Peer::start(config, local, wall, disk),
        };
        match peer {
            Ok(peer) => rig.peer = Some(peer),
            Err(error) => return self.judge.fail(&format!("host {host} cannot start: {error}")),
        }
        self.note(&format!("host {host} starts"));
        self.judge.found(self.now, &self.hosts, host);
        let life = self.hosts[host].life;
        let found = self.hosts[host].store.found(&self.catalog);
        self.feed(host, Input::Store(found));
        let event = self.hosts[host].service.found();
        let delay = self.within(Duration::from_millis(100));
        self.after(delay, Event::News(host, News::Seen { life, event }));
        // A daemon asks what it has found at once; the answer takes what it takes.
        let probe = self.within(PROBE_EVERY);
        self.after(delay + probe, Event::Probe { host, life });
        self.after(Duration::from_secs(1), Event::News(host, News::Clock { life }));
        self.feed(host, Input::Timeout);
    }

    pub(crate) fn crash(&mut self, host: Host) {
        if self.hosts[host].peer.is_none() {
            return;
        }
        self.note(&format!("host {host} crashes"));
        let rig = &mut self.hosts[host];
        rig.peer = None;
        rig.life += 1;
        self.judge.silent(self.now, host);
        rig.wake_at = None;
        rig.disk.crash(&mut self.rng);
        rig.store.crash(&mut self.rng);
        rig.synced_until = Instant::ZERO;
        rig.stopped = None;
        rig.spells.end(Spell::Still);
        let requests = core::mem::take(&mut rig.requests);
        for asked in requests.into_values() {
            self.again(asked.operation, asked.tries);
        }
        for other in self.net.peers_of(host) {
            if let Some(conn) = self.net.between(host, other) {
                let delay = self.within(CUT_WITHIN);
                self.after(delay, Event::Cut { conn });
            }
        }
    }

    /// A daemon is gone for a while; whether there was one.
    pub(crate) fn crash_for(&mut self, host: Host, wait: Duration) -> bool {
        let lived = self.hosts[host].peer.is_some();
        self.crash(host);
        self.spell(host, Spell::Down, wait);
        lived
    }

    /// One of those who hold a permit.
    pub(crate) fn holder(&mut self) -> Option<Host> {
        let holders = self.judge.newest().permits().values().map(|permit| permit.node);
        let holders: Vec<_> = holders.filter_map(|node| self.names.get(&node).copied()).collect();
        self.rng.pick(&holders).copied()
    }

    /// The machines go all at once, with daemons and services.
    pub(crate) fn power_cut(&mut self, hosts: &[Host], wait: Duration) -> bool {
        let mut felt = false;
        for host in hosts {
            let down = self.within(wait);
            felt |= self.service_dies(*host);
            felt |= self.crash_for(*host, down);
        }
        felt
    }

    pub(crate) fn lose(&mut self, host: Host) -> bool {
        if self.hosts[host].lost {
            return false;
        }
        self.take_away(host);
        true
    }

    /// The disk is gone: what comes back is a new node.
    pub(crate) fn wipe(&mut self, host: Host, wait: Duration) -> bool {
        if self.hosts[host].lost {
            return false;
        }
        self.take_away(host);
        let back = self.now.after(wait.max(2 * CUT_WITHIN));
        let back = self.hosts[host].spells.extend(Spell::Down, back);
        self.at(back, Event::Reborn { host });
        true
    }

    fn take_away(&mut self, host: Host) {
        self.crash(host);
        self.service_dies(host);
        let rig = &mut self.hosts[host];
        rig.lost = true;
        self.touched.extend(rig.store.sealed());
        self.gone.insert(rig.config.node, rig.config.name.clone());
    }

    pub(crate) fn reborn(&mut self, host: Host) {
        let mut config = self.mesh.config(host, false, &self.shape, &mut self.rng);
        let old = &mut self.hosts[host];
        self.names.remove(&old.config.node);
        config.name = name(&format!("{}-{}", config.name, old.life));
        self.names.insert(config.node, host);
        let mut rig = Rig::new(config, old.offset);
        (rig.drift_ppm, rig.wall_ahead, rig.life) = (old.drift_ppm, old.wall_ahead, old.life + 1);
        rig.service.number = old.service.number + 1;
        rig.requested = old.requested;
        *old = rig;
        self.judge.reborn(host);
        self.note(&format!("host {host} is a new node"));
        self.start(host);
    }

    /// A daemon stands still: nothing reaches it, and its clock goes on.
    pub(crate) fn pause(&mut self, host: Host, wait: Duration) -> bool {
        if self.hosts[host].peer.is_none() {
            return false;
        }
        self.judge.silent(self.now, host);
        self.hosts[host].stopped.get_or_insert_default();
        self.spell(host, Spell::Still, wait);
        true
    }

    pub(crate) fn go_on(&mut self, host: Host) {
        let Some(waiting) = self.hosts[host].stopped.take() else { return };
        self.note(&format!("host {host} goes on"));
        for input in waiting {
            self.feed(host, input);
        }
        self.feed(host, Input::Timeout);
    }

    /// Whether the input waits, as the daemon stands still.
    pub(crate) fn waits(&mut self, host: Host, input: &Input) -> bool {
        let Some(waiting) = &mut self.hosts[host].stopped else { return false };
        if waiting.len() < WAITING_MAX {
            waiting.push_back(input.clone());
        }
        true
    }

    /// The whole machine has slept, by its own clock.
    pub(crate) fn sleep(&mut self, host: Host, by: Duration) -> bool {
        let rig = &mut self.hosts[host];
        let lives = rig.peer.is_some();
        rig.offset += u64::try_from(by.as_micros()).unwrap_or_default();
        rig.wake_at = None;
        self.judge.slept(self.now, rig, host, by);
        self.feed(host, Input::Timeout);
        lives
    }

    /// The state cannot be written: the daemon ends, as what it says would rest on nothing, and its
    /// host starts it again and again.
    pub(crate) fn disk_refuses(&mut self, host: Host) {
        self.note(&format!("host {host} has no room for its state"));
        self.crash_for(host, RESTART_PAUSE);
    }
}
