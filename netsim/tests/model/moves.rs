//! What can happen next, what then is, and what must hold.

use std::collections::BTreeSet;

use stateright::{Model, Property};

use crate::log::Grants;
use crate::state::{Action, HOLDERS, Held, Holder, Mistake, Said, State, VOTERS, Voter};

impl Grants {
    fn voter_actions(&self, state: &State, at: usize, actions: &mut Vec<Action>) {
        let voter = &state.voters[at];
        let last = |voter: &Voter| (voter.log.last().map_or(0, |it| it.0), voter.log.len());
        let others = (0..VOTERS).filter(|other| *other != at);
        if state.voters.iter().all(|it| it.term < self.bounds.terms) {
            let votes = others.clone().filter(|it| last(&state.voters[*it]) <= last(voter));
            actions.extend(votes.map(|other| Action::Elect(at, other)));
        }
        if !voter.leads {
            return;
        }
        let behind = others.filter(|other| {
            let other = &state.voters[*other];
            other.term < voter.term || (other.term == voter.term && other.log != voter.log)
        });
        actions.extend(behind.map(|other| Action::Replicate(at, other)));
        let log: Vec<_> = voter.log.iter().map(|(_, said)| *said).collect();
        if log.iter().filter(|it| **it != Said::Nothing).count() >= self.bounds.entries {
            return;
        }
        let is_grant = |said: &Said| matches!(said, Said::Grant { .. });
        let granted = log.iter().filter(|it| is_grant(it)).count();
        let first = !state.voters.iter().any(|it| it.log.iter().any(|(_, said)| is_grant(said)));
        let holders = if first { 1 } else { HOLDERS }; // none is unlike another yet
        let grants = (0..holders).filter(|_| granted < self.bounds.grants);
        let grants = grants.map(|to| Said::Grant { to });
        let words = state.words.iter().copied();
        let said = grants.chain(words).filter(|said| self.changes(&log, *said));
        actions.extend(said.map(|said| Action::Append(at, said)));
    }

    fn holder_actions(&self, state: &State, at: usize, actions: &mut Vec<Action>) {
        let holder = &state.holders[at];
        let sees = |seen: &usize| self.held(&state.agreed[..*seen])[at];
        let news = (holder.seen + 1..=state.agreed.len()).find(|it| sees(it) != sees(&holder.seen));
        actions.extend(news.map(|seen| Action::Learn(at, seen)));
        if state.crashes < self.bounds.crashes {
            actions.push(Action::Crash(at));
        }
        if holder.asks.is_some() {
            actions.push(Action::GiveUp(at));
        }
        if holder.down {
            actions.push(Action::Serve(at));
        }
        if holder.acts {
            actions.push(Action::Act(at));
            return;
        }
        let Some((permit, begun)) = sees(&holder.seen) else { return };
        let handed_back = holder.handed_back == Some(permit);
        let echo = holder
            .asks
            .is_some_and(|(asked, nonce)| asked == permit && begun == Some((holder.life, nonce)));
        if holder.renewed && !holder.down {
            // It has begun in the life that says so, or does so anew.
            if begun.is_some_and(|(life, _)| life == holder.life) {
                actions.push(Action::SayReady(at, permit));
            } else if holder.asks.is_none() && holder.nonces < self.bounds.nonces {
                actions.push(Action::Ask(at, permit));
            }
            return;
        }
        let may_act = echo || (self.has(Mistake::ActsOnGrant) && !holder.down);
        if may_act && !holder.down {
            actions.push(Action::Record(at, permit));
        }
        let left_in_service = holder.begun == Some(permit) && !holder.down && begun.is_some();
        if left_in_service && (!echo || self.has(Mistake::GivesBackAndActs)) {
            actions.push(Action::GiveBack(at, permit));
        }
        let untouched = holder.begun != Some(permit) && !holder.down;
        if untouched && holder.asks.is_none() && !handed_back {
            actions.push(Action::HandBack(at, permit));
        }
        let may_ask = !handed_back || self.has(Mistake::ForgetsHandBack);
        if may_ask && holder.asks.is_none() && holder.nonces < self.bounds.nonces {
            actions.push(Action::Ask(at, permit));
        }
    }

    /// What a leader may count as agreed, is.
    fn agree(&self, state: &mut State, at: usize) {
        let leader = &state.voters[at];
        if !leader.leads {
            return;
        }
        let has = |voter: &&Voter, length: usize| {
            voter.term == leader.term && voter.log.get(..length) == leader.log.get(..length)
        };
        let needed = if self.has(Mistake::AgreesAlone) { 1 } else { VOTERS / 2 + 1 };
        let agreed = (1..=leader.log.len()).rev().find(|length| {
            let of_term = leader.log[length - 1].0 == leader.term;
            of_term && state.voters.iter().filter(|it| has(it, *length)).count() >= needed
        });
        let Some(length) = agreed else { return };
        let log: Vec<_> = leader.log[..length].iter().map(|(_, said)| *said).collect();
        let same = log.iter().zip(&state.agreed).all(|(a, b)| a == b);
        state.diverged |= !same;
        if log.len() > state.agreed.len() {
            state.agreed = log;
        }
    }
}

impl Model for Grants {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let voter = Voter { term: 0, leads: false, log: Vec::new() };
        let holder = Holder { life: 1, ..Holder::default() };
        vec![State {
            voters: vec![voter; VOTERS],
            agreed: Vec::new(),
            diverged: false,
            holders: vec![holder; HOLDERS],
            words: BTreeSet::new(),
            crashes: 0,
            overrides: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        (0..VOTERS).for_each(|at| self.voter_actions(state, at, actions));
        (0..HOLDERS).for_each(|at| self.holder_actions(state, at, actions));
        if state.overrides < self.bounds.overrides {
            let open = self.held(&state.agreed);
            actions.extend(
                open.iter().flatten().map(|(permit, begun)| Action::Override(*permit, *begun)),
            );
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Elect(at, other) => {
                let term = state.voters.iter().map(|it| it.term).max().unwrap_or_default() + 1;
                (state.voters[at].term, state.voters[at].leads) = (term, true);
                state.voters[at].log.push((term, Said::Nothing));
                (state.voters[other].term, state.voters[other].leads) = (term, false);
            }
            Action::Replicate(at, other) => {
                let Voter { term, log, .. } = state.voters[at].clone();
                state.voters[other] = Voter { term, leads: false, log };
            }
            Action::Append(at, said) => {
                let voter = &mut state.voters[at];
                voter.log.push((voter.term, said));
            }
            Action::Override(permit, begun) => {
                state.overrides += 1;
                state.words.insert(Said::Override { permit, begun });
            }
            Action::Learn(at, seen) => state.holders[at].seen = seen,
            Action::Ask(by, permit) => {
                let holder = &mut state.holders[by];
                holder.nonces += 1;
                let (life, nonce) = (holder.life, holder.nonces);
                holder.asks = Some((permit, nonce));
                state.words.insert(Said::Begin { by, permit, life, nonce });
            }
            Action::GiveUp(at) => state.holders[at].asks = None,
            Action::HandBack(by, permit) => {
                let holder = &mut state.holders[by];
                holder.handed_back = Some(permit);
                state.words.insert(Said::NeverBegan { by, permit, life: holder.life });
            }
            Action::GiveBack(by, permit) => {
                let Holder { life, seen, .. } = state.holders[by];
                let held = self.held(&state.agreed[..seen])[by];
                let (_, begun) = held.and_then(|(_, begun)| begun)?;
                state.words.insert(Said::Serves { by, permit, life, begun });
            }
            Action::Record(at, permit) => {
                let holder = &mut state.holders[at];
                (holder.asks, holder.begun, holder.acts) = (None, Some(permit), true);
            }
            Action::Act(at) => {
                let holder = &mut state.holders[at];
                (holder.acts, holder.down) = (false, true);
            }
            Action::Serve(at) => {
                let holder = &mut state.holders[at];
                (holder.down, holder.renewed) = (false, true);
            }
            Action::SayReady(by, permit) => {
                let life = state.holders[by].life;
                state.words.insert(Said::Ready { by, permit, life });
            }
            Action::Crash(by) => {
                state.crashes += 1;
                let holder = &mut state.holders[by];
                holder.life += 1;
                (holder.asks, holder.acts, holder.handed_back, holder.seen) =
                    (None, false, None, 0);
                state.words.insert(Said::Live { by, life: holder.life });
            }
        }
        for at in 0..VOTERS {
            self.agree(&mut state, at);
        }
        state.voters.sort();
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no more than one is down", |_: &Self, state: &State| {
                state.holders.iter().filter(|it| it.down).count() <= 1
            }),
            Property::always(
                "who is down has a permit that has begun",
                |model: &Self, state: &State| {
                    let held = model.held(&state.agreed);
                    let covered = |(holder, held): (&Holder, &Held)| {
                        !holder.down || held.is_some_and(|(_, begun)| begun.is_some())
                    };
                    state.holders.iter().zip(held.iter()).all(covered)
                },
            ),
            Property::always("what was agreed stays", |_: &Self, state: &State| !state.diverged),
            Property::sometimes("all are on the new release", |model: &Self, state: &State| {
                let closed = model.held(&state.agreed).iter().all(Option::is_none);
                closed && state.holders.iter().all(|it| it.renewed && !it.down)
            }),
        ]
    }
}
