//! What can go wrong, as data: one value says all of it, so that a plan of them can be numbered,
//! read from a file, and made smaller.

use core::time::Duration;

use baton_protocol::fleet::command::Order;
use baton_protocol::id::ReleaseId;
use serde::Deserialize;

use crate::event::Host;
use crate::liar::Manner;

/// One thing that goes wrong, or that a person orders in the middle of it all.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Fault {
    /// A daemon is gone, with what it had not synced, and starts again after `wait`.
    Crash {
        host: Host,
        #[serde(with = "seconds")]
        wait: Duration,
    },
    /// The same of the daemon that leads at that moment.
    CrashLeader {
        #[serde(with = "seconds")]
        wait: Duration,
    },
    /// The same of one that has taken its service out of action, or may.
    CrashHolder {
        #[serde(with = "seconds")]
        wait: Duration,
    },
    /// Many machines lose their power at once, services and all.
    PowerCut {
        hosts: Vec<Host>,
        #[serde(with = "seconds")]
        wait: Duration,
    },
    /// A machine goes, service and all, and is back after `wait`.
    Away {
        host: Host,
        #[serde(with = "seconds")]
        wait: Duration,
    },
    /// A daemon stands still, as one that is stopped or swapped out.
    Pause {
        host: Host,
        #[serde(with = "seconds")]
        wait: Duration,
    },
    /// A machine never comes back.
    Lose { host: Host },
    /// The same of one that holds a permit at that moment.
    LoseHolder,
    /// A machine loses its disk, and comes back as a new node.
    Wipe {
        host: Host,
        #[serde(with = "seconds")]
        wait: Duration,
    },
    /// The state of a daemon is put back to what it was `age` before.
    Restore {
        host: Host,
        #[serde(with = "seconds")]
        age: Duration,
    },
    /// A steady clock has counted a sleep of the whole machine.
    Sleep {
        host: Host,
        #[serde(with = "seconds")]
        by: Duration,
    },
    /// A wall clock is set, forward or back, and put right after `wait`.
    WallClock {
        host: Host,
        by_seconds: i64,
        #[serde(with = "seconds")]
        wait: Duration,
    },
    /// The same of the node that leads at that moment: it judges what has expired.
    LeaderClock {
        by_seconds: i64,
        #[serde(with = "seconds")]
        wait: Duration,
    },

    /// Frames from some hosts to others are held back for a while.
    Partition {
        ways: Vec<(Host, Host)>,
        #[serde(with = "seconds")]
        wait: Duration,
    },
    /// A host, and some others with it, are cut off from all the rest.
    CutOff {
        host: Host,
        others: usize,
        #[serde(with = "seconds")]
        wait: Duration,
    },
    /// Ways are clogged one after the other, and freed in another order.
    Clog {
        ways: Vec<(Host, Host)>,
        #[serde(with = "seconds")]
        wait: Duration,
    },
    /// Some connections break, whichever there are.
    Breaks { count: usize },
    /// Of what a host sends and gets, so many packets in a thousand are lost: frames wait, and chunks
    /// are slow.
    Loss {
        host: Host,
        permille: u64,
        #[serde(with = "seconds")]
        wait: Duration,
    },
    /// The link of a host has so many bytes in a millisecond, each way.
    Thin {
        host: Host,
        bytes_per_ms: u64,
        #[serde(with = "seconds")]
        wait: Duration,
    },

    /// Of the chunks that reach a host, so many in a thousand are not as they were sent.
    Garble {
        host: Host,
        permille: u64,
        #[serde(with = "seconds")]
        wait: Duration,
    },
    /// A person puts a server into maintenance at the balancer.
    Maintenance {
        host: Host,
        #[serde(with = "seconds")]
        wait: Duration,
    },

    /// Syncs of a disk take up to `millis`.
    SlowDisk {
        host: Host,
        millis: u64,
        #[serde(with = "seconds")]
        wait: Duration,
    },
    /// A disk takes no writes.
    FullDisk {
        host: Host,
        #[serde(with = "seconds")]
        wait: Duration,
    },
    /// Chunks change on a disk after they were stored. A node notices when it hashes them: to send
    /// them, or to use them for another release. It does not hash a whole release before it starts it.
    Rot { host: Host, count: usize },

    /// A service ends by itself.
    ServiceDies { host: Host },
    /// A service is there and not ready.
    ServiceIll {
        host: Host,
        #[serde(with = "seconds")]
        wait: Duration,
    },
    /// A service ends by itself again and again.
    ServiceFlaps { host: Host, times: u32 },

    /// A member does what no honest one does.
    Lies {
        host: Host,
        manner: Manner,
        #[serde(with = "seconds")]
        wait: Duration,
    },

    /// A person wants a release rolled out.
    #[serde(skip)]
    Deploy { release: ReleaseId },
    /// A person steers the rollout under way.
    Steer { order: Order },
    /// A person sets the cap.
    Cap { count: u32 },
    /// A person takes a node out of the mesh.
    Remove { host: Host },
    /// A person takes a node out of the count.
    Quarantine { host: Host },
    /// A person says that a permit which has not begun may go.
    Override { host: Host },
}

/// What a restored disk is counted as, when it comes to it.
pub(crate) const RESTORED: &str = "old disk restored";

impl Fault {
    /// What it is counted as.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Crash { .. } => "crash",
            Self::CrashLeader { .. } => "crash of the leader",
            Self::CrashHolder { .. } => "crash of a permit's holder",
            Self::PowerCut { .. } => "power cut",
            Self::Away { .. } => "machine away",
            Self::Pause { .. } => "daemon stands still",
            Self::Lose { .. } => "machine lost for ever",
            Self::LoseHolder => "a permit's holder lost for ever",
            Self::Wipe { .. } => "disk wiped",
            Self::Restore { .. } => RESTORED,
            Self::Sleep { .. } => "clock jumps",
            Self::WallClock { .. } => "wall clock set",
            Self::LeaderClock { .. } => "wall clock of the leader set",
            Self::Partition { .. } => "partition",
            Self::CutOff { .. } => "cut off",
            Self::Clog { .. } => "ways clogged",
            Self::Breaks { .. } => "connections break",
            Self::Loss { .. } => "packets lost",
            Self::Thin { .. } => "link slow",
            Self::Garble { .. } => "chunks garbled on the way",
            Self::Maintenance { .. } => "maintenance at the balancer",
            Self::SlowDisk { .. } => "disk slow",
            Self::FullDisk { .. } => "disk full",
            Self::Rot { .. } => "disk rots",
            Self::ServiceDies { .. } => "service dies",
            Self::ServiceIll { .. } => "service ill",
            Self::ServiceFlaps { .. } => "service flaps",
            Self::Lies { manner, .. } => manner.kind(),
            Self::Deploy { .. } => "order: deploy",
            Self::Steer { order: Order::Pause } => "order: pause",
            Self::Steer { order: Order::Resume } => "order: resume",
            Self::Steer { order: Order::Promote } => "order: promote",
            Self::Steer { order: Order::Abort } => "order: abort",
            Self::Steer { order: Order::Rollback } => "order: rollback",
            Self::Cap { .. } => "order: cap",
            Self::Remove { .. } => "order: remove",
            Self::Quarantine { .. } => "order: quarantine",
            Self::Override { .. } => "order: override",
        }
    }

    /// How long after its begin it is over, at the latest.
    pub(crate) fn lasts(&self) -> Duration {
        match self {
            Self::Crash { wait, .. }
            | Self::CrashLeader { wait }
            | Self::CrashHolder { wait }
            | Self::PowerCut { wait, .. }
            | Self::Away { wait, .. }
            | Self::Pause { wait, .. }
            | Self::Wipe { wait, .. }
            | Self::Restore { age: wait, .. }
            | Self::WallClock { wait, .. }
            | Self::LeaderClock { wait, .. }
            | Self::Partition { wait, .. }
            | Self::CutOff { wait, .. }
            | Self::Clog { wait, .. }
            | Self::Loss { wait, .. }
            | Self::Thin { wait, .. }
            | Self::Garble { wait, .. }
            | Self::Maintenance { wait, .. }
            | Self::SlowDisk { wait, .. }
            | Self::FullDisk { wait, .. }
            | Self::ServiceIll { wait, .. }
            | Self::Lies { wait, .. } => *wait,
            Self::ServiceFlaps { times, .. } => FLAP_EVERY * *times,
            Self::Lose { .. }
            | Self::LoseHolder
            | Self::Sleep { .. }
            | Self::Breaks { .. }
            | Self::Rot { .. }
            | Self::ServiceDies { .. }
            | Self::Deploy { .. }
            | Self::Steer { .. }
            | Self::Cap { .. }
            | Self::Remove { .. }
            | Self::Quarantine { .. }
            | Self::Override { .. } => Duration::ZERO,
        }
    }

    /// The hosts that it names.
    pub(crate) fn hosts(&self) -> Vec<Host> {
        match self {
            Self::Crash { host, .. }
            | Self::Away { host, .. }
            | Self::Pause { host, .. }
            | Self::Lose { host }
            | Self::Wipe { host, .. }
            | Self::Restore { host, .. }
            | Self::Sleep { host, .. }
            | Self::WallClock { host, .. }
            | Self::CutOff { host, .. }
            | Self::Loss { host, .. }
            | Self::Thin { host, .. }
            | Self::Garble { host, .. }
            | Self::Maintenance { host, .. }
            | Self::SlowDisk { host, .. }
            | Self::FullDisk { host, .. }
            | Self::Rot { host, .. }
            | Self::ServiceDies { host }
            | Self::ServiceIll { host, .. }
            | Self::ServiceFlaps { host, .. }
            | Self::Lies { host, .. }
            | Self::Remove { host }
            | Self::Quarantine { host }
            | Self::Override { host } => vec![*host],
            Self::PowerCut { hosts, .. } => hosts.clone(),
            Self::Partition { ways, .. } | Self::Clog { ways, .. } => {
                ways.iter().flat_map(|(from, to)| [*from, *to]).collect()
            }
            Self::CrashLeader { .. }
            | Self::CrashHolder { .. }
            | Self::LoseHolder
            | Self::LeaderClock { .. }
            | Self::Breaks { .. }
            | Self::Deploy { .. }
            | Self::Steer { .. }
            | Self::Cap { .. } => Vec::new(),
        }
    }
}

/// Pause between two deaths of a service that flaps: it has time to get ready, and not to prove
/// itself healthy.
pub(crate) const FLAP_EVERY: Duration = Duration::from_secs(8);

/// Durations as seconds, in files.
pub(crate) mod seconds {
    use core::time::Duration;

    use serde::de::{Deserialize as _, Deserializer, Error as _};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(from)?).map_err(D::Error::custom)
    }
}
