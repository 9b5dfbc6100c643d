//! How rollouts are created, judged, steered and ended.

use crate::fleet::Fleet;
use crate::fleet::command::{Decision, Envelope, NewRollout, Order, Verdict};
use crate::fleet::event::{Event, Refusal};
use crate::fleet::group::{Group, Standing};
use crate::fleet::rollout::{Phase, Rollout};
use crate::id::{GroupName, LogIndex, NodeId, ReleaseId, RolloutId};
use crate::limits::ROLLOUT_HISTORY;
use crate::time::UnixTime;

impl Fleet {
    pub(super) fn create_rollout(
        &mut self,
        index: LogIndex,
        envelope: &Envelope,
        new: &NewRollout,
    ) -> Result<Vec<Event>, Refusal> {
        let origin = (envelope.by, envelope.request);
        let group = self.group(&new.group)?;
        if let Some(active) = group.active() {
            // The same request again, because its answer was lost, finds what it made.
            return if active.origin == origin {
                Ok(vec![Event::RolloutChanged(active.id)])
            } else {
                Err(Refusal::Conflict(active.id))
            };
        }
        self.check_new(group, new, envelope.at)?;
        let id = RolloutId(index);
        let rollout = Rollout {
            id,
            group: new.group.clone(),
            release: new.release,
            previous: group.stable.filter(|stable| *stable != new.release),
            phase: Phase::Forward,
            stage: 0,
            promoted: false,
            failed: std::collections::BTreeMap::new(),
            resumed: 0,
            person: new.person.clone(),
            origin,
            created_at: envelope.at,
            ended_at: None,
        };
        let service = self.releases.get(&new.release).map(|it| it.header.service.clone());
        let group = self.group_mut(&new.group)?;
        group.service = service;
        group.generation = group.generation.next();
        group.rollouts.push(rollout);
        if group.rollouts.len() > ROLLOUT_HISTORY {
            group.rollouts.remove(0);
        }
        let mut events = vec![Event::RolloutChanged(id)];
        events.extend(self.take_over(id, new));
        Ok(events)
    }

    /// What an aborted rollout has left under way ends in this one.
    fn take_over(&mut self, id: RolloutId, new: &NewRollout) -> Vec<Event> {
        let members = &self.members;
        let left = self.permits.values_mut().filter(|permit| permit.group == new.group);
        let left = left.filter(|permit| members.contains_key(&permit.node));
        let taken = left.map(|permit| {
            permit.rollout = id;
            permit.release = new.release;
            permit.failure = None;
            Event::PermitChanged(permit.id, permit.node)
        });
        taken.collect()
    }

    fn check_new(&self, group: &Group, new: &NewRollout, now: UnixTime) -> Result<(), Refusal> {
        if group.generation != new.expected {
            return Err(Refusal::Stale(group.generation));
        }
        let release = self.releases.get(&new.release);
        let release =
            release.ok_or_else(|| Refusal::Unknown(format!("release {}", new.release)))?;
        let header = &release.header;
        if group.service.as_ref().is_some_and(|service| *service != header.service) {
            let text = format!("{} runs another service than {}", new.group, header.service);
            return Err(Refusal::NotForward(text));
        }
        self.planned_limit(group)?;
        if group.completed.contains(&new.release) && (new.back || group.stable == Some(new.release))
        {
            return Ok(());
        }
        if header.expires.is_some_and(|expires| expires <= now) {
            return Err(Refusal::ReleaseExpired);
        }
        if group.sequence.is_some_and(|last| header.sequence <= last) {
            let text = format!(
                "{} {} is not newer than what {} had; to go back to it: baton rollout rollback -g {} --to {}",
                header.service, header.version, new.group, new.group, header.version
            );
            return Err(Refusal::NotForward(text));
        }
        Ok(())
    }

    pub(super) fn decide(
        &mut self,
        index: LogIndex,
        now: UnixTime,
        decision: &Decision,
    ) -> Result<Vec<Event>, Refusal> {
        let name = self.group_of_active(decision.rollout)?;
        let generation = self.group(&name)?.generation;
        if generation != decision.expected {
            return Err(Refusal::Stale(generation));
        }
        let group = self.group(&name)?.clone();
        let permits = self.permits.clone();
        let result = self.judge(index, now, &name, decision);
        if result.is_err() {
            self.groups.insert(name, group); // a refused entry changes nothing
            self.permits = permits;
        }
        result
    }

    fn judge(
        &mut self,
        index: LogIndex,
        now: UnixTime,
        name: &GroupName,
        decision: &Decision,
    ) -> Result<Vec<Event>, Refusal> {
        let target = self.active(name)?.target();
        if let Some(target) = target {
            for node in &decision.found_on_target {
                if self.permit_of(*node).is_none() {
                    self.record_running(name, *node, Some(target));
                }
            }
        }
        let mut events = Vec::new();
        if let Some(verdict) = &decision.verdict {
            events.push(Event::RolloutChanged(decision.rollout));
            events.extend(self.pronounce(name, verdict, now)?);
        }
        if !decision.grants.is_empty() {
            let rollout = self.active(name)?;
            let target = rollout.target().filter(|_| rollout.may_start());
            let target = target.ok_or_else(|| Refusal::Order("no permits now".to_owned()))?;
            events.extend(self.grant(index, name, target, decision)?);
        }
        Ok(events)
    }

    fn pronounce(
        &mut self,
        name: &GroupName,
        verdict: &Verdict,
        now: UnixTime,
    ) -> Result<Vec<Event>, Refusal> {
        let mut events = vec![Event::GroupChanged(name.clone())];
        match verdict {
            Verdict::Advance => {
                let last = self.group(name)?.policy.stages.len().saturating_sub(1);
                let rollout = self.active_mut(name)?;
                rollout.stage = (rollout.stage + 1).min(last);
                rollout.promoted = false;
            }
            Verdict::Done => self.complete(name, now)?,
            Verdict::Block { reason } => {
                let rollout = self.active_mut(name)?;
                let (reason, back) = (reason.clone(), rollout.back().cloned());
                rollout.phase = Phase::Blocked { reason, back };
            }
            Verdict::Unblock => {
                let rollout = self.active_mut(name)?;
                if matches!(rollout.phase, Phase::Blocked { .. }) {
                    rollout.phase = Phase::under_way(rollout.back().cloned());
                }
            }
            Verdict::Pause { reason } => self.active_mut(name)?.pause(reason, false),
            Verdict::Rollback { reason } => events.extend(self.turn_back(name, reason)?),
            Verdict::RolledBack => self.complete_rollback(name, now)?,
        }
        let group = self.group_mut(name)?;
        group.generation = group.generation.next();
        Ok(events)
    }

    /// Turns the rollout back, and with it every permit that is out: one that has begun ends on the
    /// release before, one that has not begun has nothing left to do.
    fn turn_back(&mut self, name: &GroupName, reason: &str) -> Result<Vec<Event>, Refusal> {
        let rollout = self.active_mut(name)?;
        if rollout.is_back() {
            return Err(Refusal::Order("the rollout is on its way back already".to_owned()));
        }
        let Some(previous) = rollout.previous else {
            let text = "there is no earlier release to go back to";
            return Err(Refusal::Order(text.to_owned()));
        };
        rollout.phase = Phase::RollingBack { reason: reason.to_owned() };
        let id = rollout.id;
        let of_rollout = self.permits.values_mut().filter(|permit| permit.rollout == id);
        let retargeted = of_rollout.map(|permit| {
            permit.release = previous;
            permit.failure = None;
            Event::PermitChanged(permit.id, permit.node)
        });
        Ok(retargeted.collect())
    }

    fn complete(&mut self, name: &GroupName, now: UnixTime) -> Result<(), Refusal> {
        let rollout = self.active(name)?;
        let (id, release) = (rollout.id, rollout.release);
        self.check_complete(name, id, release)?;
        let sequence = self.releases.get(&release).map(|it| it.header.sequence);
        let group = self.group_mut(name)?;
        group.stable = Some(release);
        group.completed.insert(release);
        group.sequence = group.sequence.max(sequence);
        self.end(name, Phase::Done, now)
    }

    fn complete_rollback(&mut self, name: &GroupName, now: UnixTime) -> Result<(), Refusal> {
        let rollout = self.active(name)?;
        let Some(reason) = rollout.back().cloned() else {
            return Err(Refusal::Order("the rollout is not on its way back".to_owned()));
        };
        let (id, previous) = (rollout.id, rollout.previous);
        if let Some(previous) = previous {
            self.check_complete(name, id, previous)?;
        }
        self.end(name, Phase::RolledBack { reason }, now)
    }

    fn end(&mut self, name: &GroupName, phase: Phase, now: UnixTime) -> Result<(), Refusal> {
        let rollout = self.active_mut(name)?;
        rollout.phase = phase;
        rollout.ended_at = Some(now);
        Ok(())
    }

    fn check_complete(
        &self,
        name: &GroupName,
        rollout: RolloutId,
        release: ReleaseId,
    ) -> Result<(), Refusal> {
        let open = self.permits.values().any(|permit| permit.rollout == rollout);
        let behind = self.behind(self.group(name)?, release).next().is_some();
        if open || behind {
            return Err(Refusal::Order("not every member is there yet".to_owned()));
        }
        Ok(())
    }

    /// Members that count and have not proved ready on `release`, or hold a permit.
    pub fn behind<'a>(
        &'a self,
        group: &'a Group,
        release: ReleaseId,
    ) -> impl Iterator<Item = NodeId> + 'a {
        let arrived = move |node: NodeId, running: Option<ReleaseId>| {
            running == Some(release) && self.permit_of(node).is_none()
        };
        let counted = group.members.iter().filter(|(_, it)| it.standing == Standing::Counted);
        counted.filter(move |(node, it)| !arrived(**node, it.running)).map(|(node, _)| *node)
    }

    pub(super) fn steer(
        &mut self,
        name: &GroupName,
        (id, stage): (RolloutId, usize),
        order: &Order,
        now: UnixTime,
    ) -> Result<Vec<Event>, Refusal> {
        let rollout = self.active_mut(name)?;
        if rollout.id != id {
            return Err(Refusal::Conflict(rollout.id));
        }
        let mut events = vec![Event::RolloutChanged(id), Event::GroupChanged(name.clone())];
        match order {
            Order::Pause => {
                rollout.pause("paused by a person; `baton rollout resume` goes on", true);
            }
            Order::Resume => {
                resume(rollout)?;
                events.extend(self.try_again(id));
            }
            Order::Promote => rollout.promoted |= rollout.stage == stage,
            Order::Abort => {
                rollout.phase = Phase::Aborted;
                rollout.ended_at = Some(now);
            }
            Order::Rollback => {
                let reason = "ordered by a person";
                events.extend(self.turn_back(name, reason)?);
            }
        }
        let group = self.group_mut(name)?;
        group.generation = group.generation.next();
        Ok(events)
    }

    /// The person has seen what failed: its holders go on under the permits that they have.
    fn try_again(&mut self, rollout: RolloutId) -> Vec<Event> {
        let permits = self.permits.values_mut();
        let failed = permits.filter(|it| it.rollout == rollout && it.failure.is_some());
        let again = failed.map(|permit| {
            permit.failure = None;
            Event::PermitChanged(permit.id, permit.node)
        });
        again.collect()
    }

    /// The group of a rollout that is under way.
    fn group_of_active(&self, rollout: RolloutId) -> Result<GroupName, Refusal> {
        let active = self
            .groups
            .iter()
            .find(|(_, group)| group.active().is_some_and(|active| active.id == rollout));
        let name = active.map(|(name, _)| name.clone());
        name.ok_or_else(|| Refusal::Unknown(format!("rollout {rollout} under way")))
    }

    fn group(&self, name: &GroupName) -> Result<&Group, Refusal> {
        self.groups.get(name).ok_or_else(|| Refusal::Unknown(format!("group {name}")))
    }

    fn active(&self, name: &GroupName) -> Result<&Rollout, Refusal> {
        self.group(name)?.active().ok_or_else(|| nothing_under_way(name))
    }

    fn active_mut(&mut self, name: &GroupName) -> Result<&mut Rollout, Refusal> {
        self.group_mut(name)?.active_mut().ok_or_else(|| nothing_under_way(name))
    }

    /// Members on which a rollout that is under way has failed, with what they said.
    pub fn failures(rollout: &Rollout) -> impl Iterator<Item = (NodeId, &str)> {
        rollout.failed.iter().map(|(node, reason)| (*node, reason.as_str()))
    }
}

fn nothing_under_way(name: &GroupName) -> Refusal {
    Refusal::Unknown(format!("rollout under way on {name}"))
}

fn resume(rollout: &mut Rollout) -> Result<(), Refusal> {
    let Phase::Paused { back, .. } = &rollout.phase else {
        return Err(Refusal::Order("the rollout is not paused".to_owned()));
    };
    if back.is_none() {
        rollout.failed.clear(); // the person has seen them
    }
    rollout.resumed = rollout.resumed.saturating_add(1);
    rollout.phase = Phase::under_way(back.clone());
    Ok(())
}
