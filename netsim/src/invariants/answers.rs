//! What people are told: every answer is what a sequential `fleet` says at some entry of the
//! committed log, of the person's own request, between the asking and the answer. (Linearizability,
//! as Herlihy and Wing have it, of a system whose order of events is known.)
//!
//! The log is read from what replicas send each other, and applied here once more, one entry after
//! the other, by a `fleet` of the judge's own.

use std::collections::BTreeMap;

use baton_protocol::codec;
use baton_protocol::consensus::Entry;
use baton_protocol::fleet::Fleet;
use baton_protocol::fleet::command::{Command, Envelope};
use baton_protocol::fleet::event::{Event, Refusal};
use baton_protocol::fleet::group::Group;
use baton_protocol::id::{LogIndex, NodeId, NodeName};
use baton_protocol::peer::{Answer, Failure, Operation};
use baton_protocol::replica::LogMessage;
use baton_protocol::wire::Message;

/// How far the log may run ahead of what was read of it, before it is taken up again from a replica:
/// some entries are never sent, as whoever lacks them gets a snapshot.
const BEHIND_MAX: u64 = 64;

/// One entry that somebody asked for.
#[derive(Debug)]
struct Asked {
    index: LogIndex,
    by: NodeId,
    command: Command,
    said: Result<Answer, Failure>,
}

/// An answer whose entry has not been read yet.
#[derive(Debug)]
struct Given {
    by: NodeId,
    operation: Operation,
    answer: Result<Answer, Failure>,
    /// The log when it was asked for, and when it was answered.
    span: (LogIndex, LogIndex),
}

/// The log as it was read, and the answers that it must explain.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    fleet: Fleet,
    ahead: BTreeMap<LogIndex, Entry>,
    asked: Vec<Asked>,
    given: Vec<Given>,
}

impl Ledger {
    /// A host sends `frame`.
    pub(super) fn read(&mut self, frame: &[u8]) {
        let Some((first, count)) = span_of(frame) else { return };
        if first + count <= self.fleet.applied().0 + 1 {
            return;
        }
        let Ok(Message::Log(LogMessage::Entries { first, entries })) = codec::decode(frame) else {
            return;
        };
        self.ahead.extend((first.0..).map(LogIndex).zip(entries));
        while let Some((index, entry)) = self.ahead.pop_first() {
            if index > self.fleet.applied().next() {
                self.ahead.insert(index, entry);
                return;
            }
            if index == self.fleet.applied().next() {
                self.apply(index, &entry);
            }
        }
    }

    fn apply(&mut self, index: LogIndex, entry: &Entry) {
        let applied = self.fleet.apply(index, entry);
        let Entry::Command(bytes) = entry else { return };
        let Ok(Envelope { by, command, .. }) = codec::decode::<Envelope>(bytes) else { return };
        self.asked.push(Asked { index, by, command, said: said(applied.outcome) });
    }

    /// A node answers a person; `replica` is its state.
    pub(super) fn answered(
        &mut self,
        by: NodeId,
        replica: &Fleet,
        since: LogIndex,
        operation: &Operation,
        answer: &Result<Answer, Failure>,
    ) {
        let open = matches!(answer, Err(Failure::NoQuorum(_) | Failure::Busy));
        if open || (answer.is_err() && is_unknown(replica, operation)) {
            return;
        }
        let span = (since, replica.applied());
        let (operation, answer) = (operation.clone(), answer.clone());
        self.given.push(Given { by, operation, answer, span });
    }

    /// `newest` is the furthest state of any host.
    pub(super) fn check(&mut self, newest: &Fleet) -> Result<(), String> {
        let applied = self.fleet.applied();
        if newest.applied().0 > applied.0 + BEHIND_MAX {
            self.fleet = newest.clone();
            self.ahead.retain(|index, _| *index > newest.applied());
            self.given.clear();
            return Ok(());
        }
        if applied == newest.applied() && self.fleet != *newest {
            return Err(format!("answers: entry {applied} applied in order is another state"));
        }
        let read = |given: &mut Given| given.span.1 <= applied;
        for given in self.given.extract_if(.., read).collect::<Vec<_>>() {
            self.explain(&given)?;
        }
        Ok(())
    }

    fn explain(&self, given: &Given) -> Result<(), String> {
        let (since, until) = given.span;
        let explains = |asked: &&Asked| {
            asked.by == given.by
                && since < asked.index
                && asked.index <= until
                && self.is_of(&asked.command, &given.operation)
        };
        let mut theirs = self.asked.iter().filter(explains);
        if theirs.any(|asked| asked.said == given.answer) {
            return Ok(());
        }
        Err(format!(
            "answers: a person who asked {:?} for {:?} is told {:?}, and nothing in the log after \
             entry {since} and up to {until} says so",
            given.by, given.operation, given.answer
        ))
    }

    fn is_of(&self, command: &Command, operation: &Operation) -> bool {
        use {Command as C, Operation as O};
        match (command, operation) {
            (C::SetGroup { group, change, .. }, O::SetGroup { group: of, change: to, .. }) => {
                group == of && change == to
            }
            (C::Register { header }, O::Register { header: of }) => header == of,
            (C::CreateRollout(new), O::Deploy { group, release, back, .. }) => {
                new.group == *group && new.release == *release && new.back == *back
            }
            (C::Steer { group, order, .. }, O::Steer { group: of, order: to, .. }) => {
                group == of && order == to
            }
            (C::Override { permit, fenced, .. }, O::Override { permit: of, fenced: is, .. }) => {
                permit == of && fenced == is
            }
            (C::Remove { node, .. }, O::Remove { node: name, .. }) => self.is_called(node, name),
            (C::Quarantine { node, on, .. }, O::Quarantine { node: name, on: to, .. }) => {
                self.is_called(node, name) && on == to
            }
            _ => false,
        }
    }

    fn is_called(&self, node: &NodeId, name: &NodeName) -> bool {
        let known = self.fleet.members().get(node).or_else(|| self.fleet.removed().get(node));
        known.is_some_and(|member| member.name == *name)
    }
}

/// Whether `operation` names what the node that was asked does not know: it says so by itself.
fn is_unknown(replica: &Fleet, operation: &Operation) -> bool {
    match operation {
        Operation::Remove { node, .. } | Operation::Quarantine { node, .. } => {
            !replica.members().values().any(|member| member.name == *node)
        }
        Operation::Deploy { group, .. } => !replica.groups().contains_key(group),
        Operation::Steer { group, .. } => {
            replica.groups().get(group).and_then(Group::active).is_none()
        }
        _ => false,
    }
}

/// What a person is to be told of an entry.
fn said(outcome: Result<Vec<Event>, Refusal>) -> Result<Answer, Failure> {
    match outcome {
        Ok(events) => {
            let mut rollouts = events.into_iter().filter_map(|event| match event {
                Event::RolloutChanged(rollout) => Some(Answer::Rollout(rollout)),
                _ => None,
            });
            Ok(rollouts.next().unwrap_or(Answer::Done))
        }
        Err(refusal @ (Refusal::Conflict(_) | Refusal::Stale(_))) => {
            Err(Failure::Conflict(refusal.to_string()))
        }
        Err(refusal) => Err(Failure::Refused(refusal.to_string())),
    }
}

/// Where the entries in a frame begin, and how many there are; `None` where it carries none. Read
/// from the first bytes, as most frames tell the judge nothing.
fn span_of(frame: &[u8]) -> Option<(u64, u64)> {
    const LOG: u8 = 6;
    const ENTRIES: u8 = 1;
    let rest = frame.strip_prefix(&[codec::VERSION, LOG, ENTRIES])?;
    let (first, rest) = varint(rest)?;
    Some((first, varint(rest)?.0))
}

/// A number as bincode writes small ones.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    match first {
        0..=250 => Some((u64::from(*first), rest)),
        251 => {
            let (number, rest) = rest.split_first_chunk::<2>()?;
            Some((u64::from(u16::from_le_bytes(*number)), rest))
        }
        252 => {
            let (number, rest) = rest.split_first_chunk::<4>()?;
            Some((u64::from(u32::from_le_bytes(*number)), rest))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u64, entries: usize) -> Vec<u8> {
        let (first, entries) = (LogIndex(first), vec![Entry::Nothing; entries]);
        codec::encode(&Message::Log(LogMessage::Entries { first, entries }))
    }

    #[test]
    fn the_span_of_entries_is_read_from_the_head_of_their_frame() {
        for first in [1, 250, 251, 65_535, 65_536] {
            assert_eq!(span_of(&frame(first, 3)), Some((first, 3)));
        }
        let pull = Message::Log(LogMessage::Pull { after: LogIndex(1) });
        assert_eq!(span_of(&codec::encode(&pull)), None);
    }

    #[test]
    fn entries_that_come_out_of_order_are_applied_in_order() {
        let mut ledger = Ledger::default();
        ledger.read(&frame(3, 2));
        assert_eq!(ledger.fleet.applied(), LogIndex(0));
        ledger.read(&frame(1, 3));
        assert_eq!(ledger.fleet.applied(), LogIndex(4));
    }

    #[test]
    fn an_answer_that_the_log_does_not_explain_is_a_lie() {
        let (mut ledger, mut replica) = (Ledger::default(), Fleet::default());
        let order = baton_protocol::fleet::command::Order::Pause;
        let (group, person) = (crate::mesh::group(), "ann".to_owned());
        let operation = Operation::Steer { group, order, person };
        replica.apply(LogIndex(1), &Entry::Nothing);
        ledger.answered(NodeId([1; 32]), &replica, LogIndex(0), &operation, &Ok(Answer::Done));
        assert_eq!(ledger.check(&Fleet::default()), Ok(())); // the entry is not read yet
        ledger.read(&frame(1, 1));
        assert!(ledger.check(&replica).is_err());
    }
}
