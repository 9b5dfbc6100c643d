//! One host: a daemon that may be dead, and what outlives it.

use std::collections::{BTreeMap, VecDeque};

use baton_protocol::id::{LogIndex, RequestId};
use baton_protocol::peer::{Config, Input, Operation, Peer};
use baton_protocol::time::Instant;

use crate::disk::Disk;
use crate::liar::Liar;
use crate::service::Service;
use crate::spells::Spells;
use crate::store::Store;

/// The longest that a sync of a good disk takes.
pub(crate) const SYNC_MILLIS: u64 = 8;

/// Drift is told in parts of this.
const MILLION: u64 = 1_000_000;

/// What a person has asked a daemon for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) operation: Operation,
    pub(crate) tries: u32,
    /// Where the log ended then.
    pub(crate) since: LogIndex,
}

/// One host.
pub(crate) struct Rig {
    pub(crate) config: Config,
    pub(crate) peer: Option<Peer>,
    /// Counts the daemon's lives.
    pub(crate) life: u64,
    pub(crate) lost: bool,
    /// Its first life founds the mesh.
    pub(crate) founds: bool,
    /// Its disk was put back to an older state: its node is not what the mesh knows any more.
    pub(crate) restored: bool,
    /// Its disk takes no writes.
    pub(crate) full: bool,
    /// Of the chunks that reach it, so many in a thousand are garbled.
    pub(crate) garbled_permille: u64,
    pub(crate) liar: Option<Liar>,
    /// Counts its lies.
    pub(crate) lies: u64,
    /// The number of the process that was made ill.
    pub(crate) ill: Option<u64>,
    /// How long what was done to it lasts.
    pub(crate) spells: Spells,
    pub(crate) disk: Disk,
    pub(crate) store: Store,
    pub(crate) service: Service,
    /// What this host's steady clock shows at the world's start, in microseconds.
    pub(crate) offset: u64,
    /// By how many millionths it runs faster than the world's.
    pub(crate) drift_ppm: i64,
    /// By how many seconds its wall clock is ahead.
    pub(crate) wall_ahead: i64,
    /// What waits for a daemon that stands still.
    pub(crate) stopped: Option<VecDeque<Input>>,
    /// The longest that a sync takes, in milliseconds.
    pub(crate) sync_millis: u64,
    pub(crate) wake_at: Option<Instant>,
    pub(crate) synced_until: Instant,
    pub(crate) requests: BTreeMap<RequestId, Asked>,
    pub(crate) requested: u64,
}

impl Rig {
    pub(crate) fn new(config: Config, offset: u64) -> Self {
        Self {
            config,
            peer: None,
            life: 0,
            lost: false,
            founds: false,
            restored: false,
            full: false,
            garbled_permille: 0,
            liar: None,
            lies: 0,
            ill: None,
            spells: Spells::default(),
            disk: Disk::default(),
            store: Store::default(),
            service: Service::new(),
            offset,
            drift_ppm: 0,
            wall_ahead: 0,
            stopped: None,
            sync_millis: SYNC_MILLIS,
            wake_at: None,
            synced_until: Instant::ZERO,
            requests: BTreeMap::new(),
            requested: 0,
        }
    }

    fn rate(&self) -> u128 {
        u128::from(MILLION.saturating_add_signed(self.drift_ppm))
    }

    /// What this host's own clock shows at a moment of the world.
    pub(crate) fn local(&self, now: Instant) -> Instant {
        let passed = u128::from(now.as_micros()) * self.rate() / u128::from(MILLION);
        Instant::from_micros(self.offset.saturating_add(passed as u64))
    }

    /// The first moment of the world at which this host's own clock shows `local`.
    pub(crate) fn global(&self, local: Instant) -> Instant {
        let passed = u128::from(local.as_micros().saturating_sub(self.offset));
        Instant::from_micros((passed * u128::from(MILLION)).div_ceil(self.rate()) as u64)
    }
}
