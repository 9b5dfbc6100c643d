//! A node's disk: batches become durable in order, some time after they were handed over.

use std::collections::{BTreeMap, VecDeque};

use baton_protocol::consensus::Kept;
use baton_protocol::disk::{Batch, Key, Value};
use baton_protocol::id::GroupName;
use baton_protocol::rng::Rng;

/// What is synced, and what is still on its way there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    durable: BTreeMap<Key, Value>,
    pending: VecDeque<Batch>,
}

impl Disk {
    /// Takes a batch; it is durable after a call of [`Disk::sync`].
    pub(crate) fn write(&mut self, batch: Batch) {
        self.pending.push_back(batch);
    }

    /// Makes the oldest pending batch durable.
    pub(crate) fn sync(&mut self) -> Option<Batch> {
        let batch = self.pending.pop_front()?;
        self.put(&batch);
        Some(batch)
    }

    fn put(&mut self, batch: &Batch) {
        for (key, value) in &batch.writes {
            match value {
                Some(value) => self.durable.insert(key.clone(), value.clone()),
                None => self.durable.remove(key),
            };
        }
    }

    /// A crash: of what was not synced a prefix survives, any one of them.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        let survivors = rng.below(self.pending.len() as u64 + 1);
        for _ in 0..survivors {
            self.sync();
        }
        self.pending.clear();
    }

    /// What a disk has before its first daemon, of one that has run in another run.
    pub(crate) fn begin(&mut self, group: GroupName, journal: Value) {
        self.durable.insert(Key::Journal(group), journal);
    }

    /// The same, where that is more.
    pub(crate) fn extend(&mut self, kept: BTreeMap<Key, Value>) {
        self.durable.extend(kept);
    }

    /// A copy of what is durable now.
    pub(crate) fn copy(&self) -> Self {
        Self { durable: self.durable.clone(), pending: VecDeque::new() }
    }

    /// What the disk binds its voter to.
    pub(crate) fn kept(&self) -> Kept {
        Kept::read(&self.durable)
    }

    /// What a starting daemon reads.
    pub(crate) fn contents(&self) -> &BTreeMap<Key, Value> {
        &self.durable
    }
}
