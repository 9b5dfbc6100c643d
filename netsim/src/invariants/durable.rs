//! What must be on disk before it is said or done: a vote, the log that a voter says it holds, the
//! number of a life, the permit under which a service is taken down, the release that is started.
//! (Design, section 3: what the `Persist` of the machines is for.)
//!
//! It is checked at the moment of the word or the deed, so that no crash has to fall into the gap.
//! What was promised is kept here as well, and compared with what a voter says later: a vote is not
//! given twice, also by a voter whose disk has forgotten it.

use std::collections::BTreeMap;

use baton_protocol::agent::journal::{Journal, Step};
use baton_protocol::codec;
use baton_protocol::consensus::{Kept, Promise, VoterMessage};
use baton_protocol::disk::Key;
use baton_protocol::fleet::command::Command;
use baton_protocol::id::{GroupName, Incarnation, LogIndex, PermitId, ReleaseId, VoterId};
use baton_protocol::wire::Message;

use crate::event::Host;
use crate::rig::Rig;

/// What was promised so far, by any life of any voter.
#[derive(Debug, Default)]
pub(super) struct Promises {
    votes: BTreeMap<(VoterId, u64), VoterId>,
    /// The last word of each voter on how far its log reaches, with the term of that word.
    held: BTreeMap<VoterId, (u64, LogIndex)>,
    /// The highest life that each host has spoken of, and in which of its lives it did.
    lives: BTreeMap<Host, (Incarnation, u64)>,
}

impl Promises {
    /// `host` sends `message`.
    pub(super) fn sent(&mut self, host: Host, rig: &Rig, message: &Message) -> Result<(), String> {
        match message {
            Message::Voter(message) => self.voter(host, rig, message),
            Message::Apply(candidate) => self.life(host, rig, candidate.incarnation),
            Message::Propose(_, Command::Live { incarnation }) => {
                self.life(host, rig, *incarnation)
            }
            _ => Ok(()),
        }
    }

    /// `host` is a new node from now on.
    pub(super) fn reborn(&mut self, host: Host) {
        self.lives.remove(&host);
    }

    fn voter(&mut self, host: Host, rig: &Rig, message: &VoterMessage) -> Result<(), String> {
        let Some(promise) = message.promise() else { return Ok(()) };
        let (voter, term) = (message.from, message.term());
        let kept = rig.disk.kept();
        match promise {
            Promise::Voted(candidate) => {
                let first = *self.votes.entry((voter, term)).or_insert(candidate);
                if first != candidate {
                    return Err(format!(
                        "votes: voter {voter} (host {host}) votes for {candidate} in term {term}, \
                         and has voted for {first}"
                    ));
                }
                let there = kept.term > term || (kept.term == term && kept.vote == candidate);
                there.then_some(()).ok_or_else(|| {
                    format!(
                        "durable: host {host} votes for {candidate} in term {term}, and its disk \
                         has term {} and a vote for {}",
                        kept.term, kept.vote
                    )
                })
            }
            Promise::Holds(index) => {
                self.held.insert(voter, (term, index));
                if kept.last >= index {
                    return Ok(());
                }
                Err(format!(
                    "durable: host {host} acknowledges entry {index}, and its disk ends at {}",
                    kept.last
                ))
            }
        }
    }

    fn life(&mut self, host: Host, rig: &Rig, incarnation: Incarnation) -> Result<(), String> {
        let (spoken, in_life) = *self.lives.entry(host).or_insert((incarnation, rig.life));
        let again = spoken > incarnation || (spoken == incarnation && in_life != rig.life);
        if again && !rig.restored {
            return Err(format!(
                "durable: host {host} says that it is in life {incarnation}, and an earlier life \
                 of it was {spoken}"
            ));
        }
        self.lives.insert(host, (incarnation, rig.life));
        let kept = rig.disk.contents().get(&Key::Incarnation);
        let kept: Option<Incarnation> = kept.and_then(|bytes| codec::decode(bytes).ok());
        if kept >= Some(incarnation) {
            return Ok(());
        }
        Err(format!("durable: host {host} says that it is in life {incarnation}, and has {kept:?}"))
    }

    /// What `host` finds on its disk when it starts: all that its voter has promised.
    pub(super) fn found(
        &self,
        host: Host,
        voter: Option<VoterId>,
        kept: Kept,
    ) -> Result<(), String> {
        let Some((voter, (term, index))) = voter.and_then(|it| Some((it, *self.held.get(&it)?)))
        else {
            return Ok(());
        };
        // In a later term a leader may have cut the log.
        if kept.term > term || (kept.term == term && kept.last >= index) {
            return Ok(());
        }
        Err(format!(
            "durable: voter {voter} (host {host}) has acknowledged entry {index} in term {term}, \
             and its disk is back at entry {} of term {}",
            kept.last, kept.term
        ))
    }
}

fn journal(rig: &Rig, group: &GroupName) -> Journal {
    let bytes = rig.disk.contents().get(&Key::Journal(group.clone()));
    bytes.and_then(|bytes| codec::decode(bytes).ok()).unwrap_or_default()
}

/// The holder on `host` asks to begin for the first time under `permit`.
pub(super) fn asks(
    host: Host,
    rig: &Rig,
    group: &GroupName,
    permit: PermitId,
) -> Result<(), String> {
    match journal(rig, group).step {
        Step::Asked(told, _) | Step::Begun(told) if told == permit => Ok(()),
        _ => Err(format!(
            "durable: host {host} asks to begin under permit {permit} before its disk has it"
        )),
    }
}

/// The agent of `host` takes its service down under `permit`.
pub(super) fn moves(
    host: Host,
    rig: &Rig,
    group: &GroupName,
    permit: PermitId,
) -> Result<(), String> {
    if journal(rig, group).begun() == Some(permit) {
        return Ok(());
    }
    Err(format!(
        "durable: host {host} takes its service down under permit {permit} before its disk has it"
    ))
}

/// The agent of `host` starts `release`.
pub(super) fn starts(
    host: Host,
    rig: &Rig,
    group: &GroupName,
    release: ReleaseId,
) -> Result<(), String> {
    if journal(rig, group).installed == Some(release) {
        return Ok(());
    }
    Err(format!("durable: host {host} starts {release:?} before its disk has it"))
}
