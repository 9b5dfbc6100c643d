//! What people are told: every answer is what a sequential `fleet` says at some entry of the
//! committed log, of the person's own request, between the asking and the answer. (Linearizability,
//! as Herlihy and Wing have it, of a system whose order of events is known.)
//!
//! The judge feeds it the log, one entry after the other, each with what it came to.

use baton_protocol::fleet::command::{Command, Envelope};
use baton_protocol::fleet::event::{Event, Refusal};
use baton_protocol::fleet::group::Group;
use baton_protocol::fleet::{Applied, Fleet};
use baton_protocol::id::{LogIndex, NodeId, NodeName};
use baton_protocol::peer::{Answer, Failure, Operation};

/// One entry that somebody asked for.
#[derive(Debug)]
struct Asked {
    index: LogIndex,
    by: NodeId,
    command: Command,
    said: Result<Answer, Failure>,
}

/// An answer that is not explained yet.
#[derive(Debug)]
struct Given {
    by: NodeId,
    operation: Operation,
    answer: Result<Answer, Failure>,
    /// The log when it was asked for, and when it was answered.
    span: (LogIndex, LogIndex),
}

/// What was asked for by the log, and the answers that it must explain.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    asked: Vec<Asked>,
    given: Vec<Given>,
    /// Stretches of the log that the judge has not seen entry by entry: after the first, up to the
    /// second.
    skipped: Vec<(LogIndex, LogIndex)>,
    /// Answers that were explained, and those that a skipped stretch excuses.
    pub(super) explained: u64,
    pub(super) excused: u64,
}

impl Ledger {
    /// An entry is committed, and came to this.
    pub(super) fn committed(&mut self, envelope: Envelope, applied: Applied) {
        let (Envelope { by, command, .. }, index) = (envelope, applied.index);
        self.asked.push(Asked { index, by, command, said: said(applied.outcome) });
    }

    /// The log went from `after` to `until`, and nobody has seen how.
    pub(super) fn skip(&mut self, after: LogIndex, until: LogIndex) {
        self.skipped.push((after, until));
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

    /// `newest` is the furthest state of any host: whatever anybody knew when it answered. So nothing
    /// is left open.
    pub(super) fn check(&mut self, newest: &Fleet) -> Result<(), String> {
        for given in core::mem::take(&mut self.given) {
            if given.span.1 > newest.applied() {
                return Err(format!("answers: {:?} knows of more than anybody", given.by));
            }
            self.explain(newest, &given)?;
        }
        Ok(())
    }

    fn explain(&mut self, newest: &Fleet, given: &Given) -> Result<(), String> {
        let (since, until) = given.span;
        let explains = |asked: &&Asked| {
            asked.by == given.by
                && since < asked.index
                && asked.index <= until
                && is_of(newest, &asked.command, &given.operation)
        };
        let mut theirs = self.asked.iter().filter(explains);
        if theirs.any(|asked| asked.said == given.answer) {
            self.explained += 1;
            return Ok(());
        }
        if self.skipped.iter().any(|(after, to)| *after < until && since < *to) {
            self.excused += 1;
            return Ok(());
        }
        Err(format!(
            "answers: a person who asked {:?} for {:?} is told {:?}, and nothing in the log after \
             entry {since} and up to {until} says so",
            given.by, given.operation, given.answer
        ))
    }
}

fn is_of(fleet: &Fleet, command: &Command, operation: &Operation) -> bool {
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
        (C::Remove { node, .. }, O::Remove { node: name, .. }) => is_called(fleet, node, name),
        (C::Quarantine { node, on, .. }, O::Quarantine { node: name, on: to, .. }) => {
            is_called(fleet, node, name) && on == to
        }
        _ => false,
    }
}

fn is_called(fleet: &Fleet, node: &NodeId, name: &NodeName) -> bool {
    let known = fleet.members().get(node).or_else(|| fleet.removed().get(node));
    known.is_some_and(|member| member.name == *name)
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
        Operation::Override { permit, .. } => !replica.permits().contains_key(permit),
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

#[cfg(test)]
mod tests {
    use baton_protocol::consensus::Entry;
    use baton_protocol::fleet::command::Order;

    use super::*;

    const NODE: NodeId = NodeId([1; 32]);

    fn pause() -> Operation {
        let (group, person) = (crate::mesh::group(), "ann".to_owned());
        Operation::Steer { group, order: Order::Pause, person }
    }

    fn one_entry() -> Fleet {
        let mut replica = Fleet::default();
        replica.apply(LogIndex(1), &Entry::Nothing);
        replica
    }

    #[test]
    fn an_answer_that_the_log_does_not_explain_is_a_lie() {
        let (mut ledger, replica) = (Ledger::default(), one_entry());
        ledger.answered(NODE, &replica, LogIndex(0), &pause(), &Ok(Answer::Done));
        assert!(ledger.check(&replica).is_err());
    }

    #[test]
    fn a_stretch_that_nobody_has_seen_excuses_only_what_was_answered_over_it() {
        let (mut ledger, replica) = (Ledger::default(), one_entry());
        ledger.skip(LogIndex(0), LogIndex(1));
        ledger.answered(NODE, &replica, LogIndex(0), &pause(), &Ok(Answer::Done));
        assert_eq!(ledger.check(&replica), Ok(()));
        assert_eq!((ledger.explained, ledger.excused), (0, 1));
        ledger.answered(NODE, &replica, LogIndex(1), &pause(), &Ok(Answer::Done));
        assert!(ledger.check(&replica).is_err());
    }
}
