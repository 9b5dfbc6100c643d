//! What an observer saw of a run, for its picture: how each host stood, look by look.

use core::time::Duration;
use std::collections::BTreeMap;

use baton_protocol::fleet::permit::Permit;
use baton_protocol::id::ReleaseId;
use baton_protocol::time::Instant;

use crate::event::Host;
use crate::mesh::group;
use crate::rig::Rig;
use crate::world::World;

/// How a host stood at one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stand {
    /// What its service serves.
    pub(crate) serves: Option<ReleaseId>,
    /// Whether its agent took the service out of action, and nothing else did.
    pub(crate) taken: bool,
    pub(crate) daemon: Daemon,
    pub(crate) permit: Held,
}

/// A daemon, as a picture shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Daemon {
    Up,
    Leads,
    StandsStill,
    Down,
    Lost,
}

/// The permit of a host, as a picture shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    None,
    Granted,
    Begun,
}

/// How a host stood from one moment on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) since: Duration,
    pub(crate) stand: Stand,
}

/// A whole run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chronicle {
    pub(crate) hosts: Vec<Vec<Span>>,
    /// |D| and k, where they changed.
    pub(crate) cap: Vec<(Duration, usize, u32)>,
    /// On how many hosts each release was staged, where that changed.
    pub(crate) spread: BTreeMap<ReleaseId, Vec<(Duration, usize)>>,
    pub(crate) faults: Vec<(Duration, String)>,
    pub(crate) end: Duration,
}

impl Chronicle {
    /// Takes a look at the world.
    pub(crate) fn look(&mut self, world: &World) {
        let now = world.now.since(Instant::ZERO);
        self.end = now;
        self.hosts.resize(world.hosts.len(), Vec::new());
        for (host, spans) in (0..).zip(&mut self.hosts) {
            let stand = stand(world, host);
            if spans.last().is_none_or(|last| last.stand != stand) {
                spans.push(Span { since: now, stand });
            }
        }
        let fleet = world.judge.newest();
        let open = fleet.permits().values().filter(|permit| permit.group == group()).count();
        let cap = (open, world.judge.limit());
        if self.cap.last().is_none_or(|(_, open, limit)| (*open, *limit) != cap) {
            self.cap.push((now, cap.0, cap.1));
        }
        for release in world.catalog.keys() {
            let staged = world.hosts.iter().filter(|rig| rig.store.is_sealed(*release)).count();
            let steps = self.spread.entry(*release).or_default();
            if steps.last().is_none_or(|(_, last)| *last != staged) {
                steps.push((now, staged));
            }
        }
    }

    pub(crate) fn fault(&mut self, now: Instant, text: &str) {
        self.faults.push((now.since(Instant::ZERO), text.to_owned()));
    }
}

fn stand(world: &World, host: Host) -> Stand {
    let rig = &world.hosts[host];
    let permit = world.judge.newest().permit_of(rig.config.node);
    let permit = match permit.map(Permit::has_begun) {
        None => Held::None,
        Some(false) => Held::Granted,
        Some(true) => Held::Begun,
    };
    let serves = rig.service.release().filter(|_| rig.service.serves());
    Stand { serves, taken: rig.service.taken, daemon: daemon(rig), permit }
}

fn daemon(rig: &Rig) -> Daemon {
    match &rig.peer {
        _ if rig.lost => Daemon::Lost,
        None => Daemon::Down,
        Some(_) if rig.stopped.is_some() => Daemon::StandsStill,
        Some(peer) if peer.leads() => Daemon::Leads,
        Some(_) => Daemon::Up,
    }
}
