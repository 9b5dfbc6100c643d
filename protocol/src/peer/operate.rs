//! What people ask of a node, and how they are answered.

use crate::fleet::Applied;
use crate::fleet::command::{Command, NewRollout};
use crate::fleet::event::{Event, Refusal};
use crate::fleet::group::Group;
use crate::id::{NodeId, NodeName, RequestId};
use crate::mutant::{self, Mutant};
use crate::peer::Peer;
use crate::peer::event::{Answer, Failure, Operation, Output};
use crate::peer::requests::Asker;
use crate::time::Instant;

impl Peer {
    pub(super) fn operate(&mut self, now: Instant, id: RequestId, operation: Operation) {
        let command = match self.command(operation) {
            Ok(command) => command,
            Err(failure) => return self.outputs.push_back(Output::Answer(id, Err(failure))),
        };
        if mutant::active(Mutant::AnswerBeforeCommit) {
            self.outputs.push_back(Output::Answer(id, Ok(Answer::Done)));
        }
        if self.requests.add(now, Asker::Person(id), command).is_none() {
            self.outputs.push_back(Output::Answer(id, Err(Failure::Busy)));
        }
    }

    fn command(&self, operation: Operation) -> Result<Command, Failure> {
        Ok(match operation {
            Operation::SetGroup { group, change, person } => {
                Command::SetGroup { group, change, person }
            }
            Operation::Register { header } => Command::Register { header },
            Operation::Deploy { group, release, back, person } => {
                let known = self.fleet().groups().get(&group);
                let known = known.ok_or_else(|| {
                    Failure::Refused(format!(
                        "there is no group {group}: name it in a node's config ([groups.{group}])"
                    ))
                })?;
                let expected = known.generation;
                Command::CreateRollout(NewRollout { group, release, expected, back, person })
            }
            Operation::Steer { group, order, person } => {
                let known = self.fleet().groups().get(&group);
                let active = known.and_then(Group::active).ok_or_else(|| {
                    Failure::Refused(format!("there is no rollout under way on {group}"))
                })?;
                let (rollout, stage) = (active.id, active.stage);
                Command::Steer { group, rollout, stage, order, person }
            }
            Operation::Override { permit, fenced, reason, person } => {
                let known = self.fleet().permits().get(&permit);
                let known = known.ok_or_else(|| {
                    Failure::Refused(format!(
                        "there is no permit {permit}; `baton permits` lists those that are open"
                    ))
                })?;
                Command::Override { permit, phase: known.phase, fenced, reason, person }
            }
            Operation::Remove { node, person } => {
                Command::Remove { node: self.named(&node)?, person }
            }
            Operation::Quarantine { group, node, on, person } => {
                Command::Quarantine { group, node: self.named(&node)?, on, person }
            }
        })
    }

    fn named(&self, name: &NodeName) -> Result<NodeId, Failure> {
        let found = self.fleet().members().iter().find(|(_, member)| member.name == *name);
        let found = found.map(|(node, _)| *node);
        found.ok_or_else(|| Failure::Refused(format!("there is no node {name}")))
    }

    /// Sends requests that are due, and ends those that nobody answers.
    pub(super) fn wake_requests(&mut self, now: Instant) {
        for pending in self.requests.given_up(now) {
            if let Asker::Person(id) = pending.asker {
                let why = pending.obstacle.unwrap_or_else(|| self.no_quorum());
                let failure = Failure::NoQuorum(why);
                self.outputs.push_back(Output::Answer(id, Err(failure)));
            }
        }
        for (number, command) in self.requests.due(now) {
            self.propose(now, number, command);
        }
    }

    fn no_quorum(&self) -> String {
        let voters = self.fleet().voters();
        let total = voters.voters.len();
        let here = |node: &&NodeId| **node == self.config.node || self.sessions.is_member(**node);
        let reached = voters.voters.values().filter(here).count();
        format!("{reached} of {total} voters are reached, {} are needed", total / 2 + 1)
    }
}

/// What the log says to a person's request.
pub(super) fn answer(applied: &Applied) -> Result<Answer, Failure> {
    let events = applied.outcome.as_ref().map_err(|refusal| match refusal {
        Refusal::Conflict(_) | Refusal::Stale(_) => Failure::Conflict(refusal.to_string()),
        _ => Failure::Refused(refusal.to_string()),
    })?;
    let rollout = events.iter().find_map(|event| match event {
        Event::RolloutChanged(rollout) => Some(*rollout),
        _ => None,
    });
    Ok(rollout.map_or(Answer::Done, Answer::Rollout))
}
