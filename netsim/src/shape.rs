//! What a seed's mesh is like, before anything happens to it.

use core::time::Duration;

use baton_protocol::fleet::command::PolicyChange;
use baton_protocol::fleet::policy::Cap;
use baton_protocol::limits::LOG_TAIL_ENTRIES;
use baton_protocol::rng::Rng;
use baton_protocol::swarm::Pace;

use crate::balancer::Traits;
use crate::event::Host;
use crate::link::{Latency, ZONES};

/// Drift of a host's clock against the world's, at most: twice what a poor crystal has.
const DRIFT_PPM_MAX: u64 = 200;

/// One mesh's traits.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) hosts: usize,
    /// The last host is a voter without services.
    pub(crate) witness: bool,
    pub(crate) policy: PolicyChange,
    /// Entries between two snapshots of the log.
    pub(crate) log_tail: usize,
    /// Each host's drift, in millionths.
    pub(crate) drift_ppm: Vec<i64>,
    /// By how many seconds each host's wall clock is ahead.
    pub(crate) wall_ahead: Vec<i64>,
    pub(crate) latency: Latency,
    /// How often neighbours tell each other of new chunks.
    pub(crate) pace: Pace,
    /// Every service takes the same time for the same step.
    pub(crate) even: bool,
    /// By what the time of a service's steps is divided, but for the least that each takes.
    pub(crate) brisk: u32,
    /// Faults come while the mesh is founded and joined as well.
    pub(crate) early_faults: bool,
    /// The first release is given up half way for another.
    pub(crate) restarted_first: bool,
    /// The balancer that stands beside one of the hosts, which watches it.
    pub(crate) balancer: Option<Traits>,
}

impl Shape {
    /// A cap of 10 %, and nothing special.
    pub(crate) fn calm(hosts: usize) -> Self {
        Self {
            hosts,
            witness: false,
            policy: capped(Cap { percent: Some(10), ..Cap::default() }),
            log_tail: LOG_TAIL_ENTRIES,
            pace: Pace::default(),
            brisk: 1,
            drift_ppm: vec![0; hosts],
            wall_ahead: vec![0; hosts],
            latency: latency(500, |_| 2000),
            even: true,
            early_faults: false,
            restarted_first: false,
            balancer: None,
        }
    }

    pub(crate) fn drawn(hosts: usize, rng: &mut Rng) -> Self {
        let cap = match rng.below(5) {
            0 => Cap { count: Some(1), ..Cap::default() },
            1 => Cap { percent: Some(25), ..Cap::default() },
            2 => Cap { count: Some(3), percent: Some(20), ..Cap::default() },
            _ => Cap { percent: Some(10), ..Cap::default() },
        };
        let mut policy = capped(cap);
        if rng.chance(1, 3) {
            policy.stages = Some(vec![5, 25, 100]);
            policy.soak = Some(Duration::from_secs(rng.below(6)));
        }
        let drift = |rng: &mut Rng| {
            let ppm = rng.below(2 * DRIFT_PPM_MAX + 1);
            i64::try_from(ppm).unwrap_or_default() - DRIFT_PPM_MAX.cast_signed()
        };
        let ahead = |rng: &mut Rng| i64::try_from(rng.below(600)).unwrap_or_default() - 300;
        Self {
            hosts,
            witness: rng.chance(1, 3),
            policy,
            log_tail: if rng.chance(1, 2) { 24 + rng.below(64) as usize } else { LOG_TAIL_ENTRIES },
            pace: Pace::default(),
            brisk: 1,
            drift_ppm: (0..hosts).map(|_| drift(rng)).collect(),
            wall_ahead: (0..hosts).map(|_| ahead(rng)).collect(),
            latency: latency(100 + rng.below(900), |_| 1000 + rng.below(39_000)),
            even: false,
            early_faults: rng.chance(2, 3),
            restarted_first: rng.chance(1, 6),
            balancer: None,
        }
    }

    pub(crate) fn is_witness(&self, host: Host) -> bool {
        self.witness && host + 1 == self.hosts
    }

    /// Whether the balancer stands beside this host.
    pub(crate) fn watches(&self, host: Host) -> bool {
        self.balancer.as_ref().is_some_and(|balancer| balancer.host == host)
    }

    /// Hosts that run the service.
    pub(crate) fn servers(&self) -> usize {
        self.hosts - usize::from(self.witness)
    }
}

/// What frames take within a zone and from zone to zone, in microseconds.
fn latency(within: u64, mut between: impl FnMut(usize) -> u64) -> Latency {
    let mut latency = [[within; ZONES]; ZONES];
    for (a, b) in (0..ZONES).flat_map(|a| (0..a).map(move |b| (a, b))) {
        let micros = between(a);
        (latency[a][b], latency[b][a]) = (micros, micros);
    }
    latency
}

pub(crate) fn capped(cap: Cap) -> PolicyChange {
    PolicyChange {
        max_unavailable: Some(cap),
        allow_half: Some(cap.allow_half),
        allow_downtime: Some(cap.allow_downtime),
        ..PolicyChange::default()
    }
}
