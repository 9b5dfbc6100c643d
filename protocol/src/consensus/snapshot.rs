//! Snapshots: our own, that let the log be cut, and the leader's, that stand in for entries that it
//! has no more. Only their hash and length pass through the library; the bytes are fetched like any
//! other content, verified, made durable, and then installed.

use std::sync::Arc;

use super::config::SNAPSHOT_PATIENCE_TICKS;
use super::event::{Dropped, Output};
use super::membership::Membership;
use super::message::{Body, SnapshotMeta, VoterMessage};
use super::outbox::Step;
use super::raft_types::{ProgressState, SnapshotStatus};
use super::ready::forget;
use super::stored::{write_hard_state, write_snapshot};
use super::voter::Voter;
use crate::id::{ChunkHash, LogIndex, NodeId, VoterId};

/// A snapshot that the owner was asked for, with what is true at its place.
#[derive(Debug)]
pub(super) struct Wanted {
    index: LogIndex,
    term: u64,
    members: Membership,
}

/// The leader's offer of a snapshot, while its bytes are fetched.
#[derive(Debug)]
pub(super) struct Fetching {
    meta: SnapshotMeta,
    offer: VoterMessage,
}

impl Voter {
    /// The latest snapshot, for those that fetch its bytes from this node.
    pub fn snapshot(&self) -> Option<(&SnapshotMeta, &Arc<[u8]>)> {
        self.raft.store().latest()
    }

    /// Asks for a snapshot where the log has grown long, or where ours is too old for a member. It is
    /// asked for again at each later entry until there is one: who is asked may be ahead of this log,
    /// and were it never asked again, the log would fill up and take nothing more.
    pub(super) fn want_snapshot(&mut self) {
        let applied = self.applied();
        let last = self.raft.store().snapshot_index();
        let due = applied.0.saturating_sub(last.0) >= self.config.snapshot_every;
        let outdated = self.raft.store().take_outdated() && applied > last;
        let asked = self.wanted.as_ref().is_some_and(|wanted| wanted.index == applied);
        if asked || self.outbox.installs() || !(due || outdated) {
            return;
        }
        let Ok(term) = self.raft.raft.raft_log.term(applied.0) else { return };
        self.wanted = Some(Wanted { index: applied, term, members: self.members.clone() });
        self.push(Output::WantSnapshot { at: applied });
    }

    pub(super) fn snapshot_ready(&mut self, index: LogIndex, data: Vec<u8>) {
        let Some(wanted) = self.wanted.take_if(|wanted| wanted.index == index) else {
            return self.count(Dropped::Unasked);
        };
        let meta = SnapshotMeta {
            index,
            term: wanted.term,
            members: wanted.members,
            hash: ChunkHash(*blake3::hash(&data).as_bytes()),
            length: data.len() as u64,
        };
        let mut writes = vec![write_snapshot(&meta, &data)];
        let keep = self.config.keep_behind;
        forget(&mut writes, self.raft.mut_store().compact(meta, data.into(), keep));
        // The stored commit must not lie below the stored snapshot.
        writes.push(write_hard_state(&self.raft.raft.hard_state()));
        let term = self.raft.raft.term;
        self.persist(Step { term, ..Step::default() }, writes);
    }

    /// Whether the library would install this snapshot, so that its bytes are needed.
    pub(super) fn must_fetch(&self, term: u64, meta: &SnapshotMeta) -> bool {
        let raft = &self.raft.raft;
        let has_it = raft.raft_log.match_term(meta.index.0, meta.term);
        term >= raft.term && meta.index.0 > raft.raft_log.committed && !has_it
    }

    /// Asks the owner for the bytes that `offer` tells of. Asked again for each offer, as a broken
    /// stream may have ended the owner's first try.
    pub(super) fn fetch(&mut self, from: NodeId, offer: VoterMessage) {
        let Body::Snapshot(meta) = &offer.body else { return };
        let meta = meta.clone();
        let (index, hash, length) = (meta.index, meta.hash, meta.length);
        self.push(Output::NeedSnapshot { from, index, hash, length });
        self.fetching = Some(Fetching { meta, offer });
    }

    pub(super) fn snapshot_fetched(&mut self, index: LogIndex, data: Vec<u8>) {
        let asked = self.fetching.take_if(|fetching| fetching.meta.index == index);
        let Some(Fetching { meta, offer }) = asked else {
            return self.count(Dropped::Unasked);
        };
        if !meta.fits(&data) {
            self.count(Dropped::Unasked);
            return self.give_up(&offer);
        }
        // A later log may have come meanwhile; then the library only answers how far we are.
        if self.must_fetch(offer.term, &meta) {
            self.arriving = Some((meta, data.into()));
        }
        self.step(&offer);
    }

    pub(super) fn snapshot_failed(&mut self, index: LogIndex) {
        let asked = self.fetching.take_if(|fetching| fetching.meta.index == index);
        if let Some(Fetching { offer, .. }) = asked {
            self.give_up(&offer);
        }
    }

    fn give_up(&mut self, offer: &VoterMessage) {
        self.say(offer.from, offer.term, Body::SnapshotLost);
    }

    /// Takes offers that were never answered for lost, so that they are made again.
    pub(super) fn watch_offers(&mut self) {
        if !self.leads() {
            return self.offered.clear();
        }
        let fetching: Vec<VoterId> = self.fetching_members().collect();
        self.offered.retain(|voter, _| fetching.contains(voter));
        for voter in fetching {
            let ticks = self.offered.entry(voter).or_default();
            *ticks += 1;
            if *ticks >= SNAPSHOT_PATIENCE_TICKS {
                *ticks = 0;
                self.raft.report_snapshot(voter.0, SnapshotStatus::Failure);
            }
        }
    }

    fn fetching_members(&self) -> impl Iterator<Item = VoterId> + '_ {
        let tracked = self.raft.raft.prs().iter();
        let fetching = tracked.filter(|(_, progress)| progress.state == ProgressState::Snapshot);
        fetching.map(|(id, _)| VoterId(*id))
    }
}
