//! Every interleaving of grant, act and close, on the real [`Fleet`]: two holders of which one may be down,
//! three voters whose logs a new leader overwrites, and words that arrive as late as they like or never.
//!
//! The voters are the abstract ones of the Raft paper (Ongaro and Ousterhout, "In Search of an Understandable
//! Consensus Algorithm", 2014, figure 2), and the holders do by hand what `agent/unit` does; what a log comes
//! to is said by [`Fleet::apply`] alone. The bounds are small on purpose: within them nothing is left out.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use baton_protocol::artifact::header::{ChunkRef, Header};
use baton_protocol::codec;
use baton_protocol::consensus::Entry;
use baton_protocol::fleet::Fleet;
use baton_protocol::fleet::command::{
    Candidate, Command, Decision, Envelope, NewRollout, PolicyChange, Proof, Verdict,
};
use baton_protocol::fleet::group::Ports;
use baton_protocol::fleet::permit::{PermitKind, PermitPhase};
use baton_protocol::id::{
    ChunkHash, GroupName, Incarnation, KeyId, LogIndex, MeshId, NodeId, Nonce, PermitId, ReleaseId,
    RolloutId, Sequence,
};
use baton_protocol::time::UnixTime;
use baton_protocol::trust::certificate::{Certificate, Role};
use baton_protocol::trust::key::SecretKey;
use baton_protocol::trust::{self, token::JoinToken};
use stateright::{Checker, HasDiscoveries, Model, Property};

const VOTERS: usize = 3;
const HOLDERS: usize = 2;

/// A mistake that the model must be able to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    /// A holder acts as soon as it sees its permit, and does not ask to begin.
    ActsOnGrant,
    /// A holder that said "never began" asks to begin all the same.
    ForgetsHandBack,
    /// A leader takes for agreed what it has alone.
    AgreesAlone,
}

/// How far the model goes.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    terms: u8,
    entries: usize,
    grants: usize,
    nonces: u8,
    crashes: u8,
}

/// A place in the log, from 0, after what the mesh was founded with.
type Place = u8;

/// What can stand in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Said {
    /// The first entry of a leader's term (section 5.4.2 of the paper).
    Nothing,
    Grant {
        to: usize,
    },
    Begin {
        by: usize,
        permit: Place,
        life: u8,
        nonce: u8,
    },
    Ready {
        by: usize,
        permit: Place,
        life: u8,
    },
    NeverBegan {
        by: usize,
        permit: Place,
        life: u8,
    },
    Live {
        by: usize,
        life: u8,
    },
    /// A person takes back a permit, and does not say that its holder is fenced.
    Override {
        permit: Place,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Voter {
    term: u8,
    leads: bool,
    log: Vec<(u8, Said)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Holder {
    /// Entries that it has applied.
    seen: usize,
    life: u8,
    nonces: u8,
    /// What it asks for in this life, under which number.
    asks: Option<(Place, u8)>,
    handed_back: Option<Place>,
    /// By its journal: it outlives the daemon.
    begun: Option<Place>,
    down: bool,
    /// Whether the new release runs.
    renewed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// In some order, as none is unlike another.
    voters: Vec<Voter>,
    /// What a majority of the voters once had, in the term of its leader.
    agreed: Vec<Said>,
    /// A leader found something else agreed than was agreed before it.
    diverged: bool,
    holders: Vec<Holder>,
    /// All that was ever said to a leader: it may arrive at any time.
    words: BTreeSet<Said>,
    crashes: u8,
    overridden: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// The first becomes leader by its own vote and the second's.
    Elect(usize, usize),
    /// The first, a leader, sends its log to the second.
    Replicate(usize, usize),
    /// A leader grants, or hears a word.
    Append(usize, Said),
    /// A holder applies entries until there is news for it.
    Learn(usize, usize),
    Ask(usize, Place),
    /// A holder's request is too old by now.
    GiveUp(usize),
    HandBack(usize, Place),
    Act(usize, Place),
    /// The new release is in service.
    Serve(usize),
    SayReady(usize, Place),
    /// A holder's daemon dies and starts again. Its service stays as it is.
    Crash(usize),
    Override(Place),
}

/// A holder's open permit, as some log has it: its place, and the life and the number that began it.
type Held = Option<(Place, Option<(u8, u8)>)>;

struct Grants {
    bounds: Bounds,
    mistake: Option<Mistake>,
    founded: Fleet,
    setting: Setting,
    /// What logs come to.
    known: Mutex<HashMap<Vec<Said>, Arc<[Held; HOLDERS]>>>,
}

/// Names that commands need.
#[derive(Clone)]
struct Setting {
    group: GroupName,
    rollout: RolloutId,
    release: ReleaseId,
}

fn key(number: u8) -> SecretKey {
    SecretKey::from_seed([number; 32])
}

fn node(holder: usize) -> NodeId {
    NodeId(key(u8::try_from(holder).unwrap() + 1).public())
}

fn say(fleet: &mut Fleet, by: usize, command: Command) -> bool {
    let envelope = Envelope { by: node(by), request: 0, at: UnixTime(50), command };
    let entry = Entry::Command(codec::encode(&envelope));
    fleet.apply(fleet.applied().next(), &entry).outcome.is_ok()
}

fn candidate(certificate: Certificate, holder: usize) -> Candidate {
    let name = format!("n{holder}").parse().unwrap();
    let incarnation = Incarnation(1);
    Candidate { certificate, name, zone: None, addresses: Vec::new(), incarnation }
}

/// A mesh of all holders, in service on an old release, with a rollout of a new one under way.
fn founded() -> (Fleet, Setting) {
    let (root, publisher, mut fleet) = (key(200), key(201), Fleet::default());
    let group: GroupName = "web".parse().unwrap();
    let mut ok = |by, command| assert!(say(&mut fleet, by, command));
    ok(
        0,
        Command::Found {
            mesh: MeshId(root.public()),
            name: "model".parse().unwrap(),
            founder: candidate(trust::founder(&root, [9; 32], node(0)), 0),
            publisher: KeyId(publisher.public()),
        },
    );
    let (name, never) = ("model".parse().unwrap(), UnixTime(100));
    let token = JoinToken::issue(&root, name, [8; 32], never, 9, Role::Member, Vec::new());
    for holder in 1..HOLDERS {
        let certificate = token.certify(node(holder), Role::Member).unwrap();
        ok(holder, Command::Admit(candidate(certificate, holder)));
    }
    let releases = [1, 2].map(|sequence| {
        let header = Header {
            service: "web".parse().unwrap(),
            version: format!("v{sequence}").parse().unwrap(),
            sequence: Sequence(sequence),
            expires: None,
            manifest: vec![ChunkRef { hash: ChunkHash([7; 32]), len: 10 }],
            size_bytes: 0,
            files: 0,
        };
        trust::release::sign(&header, &publisher)
    });
    let [old, release] = [0, 1].map(|at: usize| releases[at].id());
    releases.into_iter().for_each(|header| ok(0, Command::Register { header }));
    for holder in 0..HOLDERS {
        ok(holder, Command::JoinGroup { group: group.clone(), ports: Ports::default() });
        let (group, incarnation) = (group.clone(), Incarnation(1));
        ok(holder, Command::Enroll { group, release: old, incarnation });
    }
    let change =
        PolicyChange { max_unavailable: Some("1".parse().unwrap()), ..PolicyChange::default() };
    ok(0, Command::SetGroup { group: group.clone(), change, person: String::new() });
    let mut setting = Setting { group, rollout: RolloutId::default(), release: old };
    roll_out(&mut fleet, &mut setting);
    let done = Decision { verdict: Some(Verdict::Done), ..setting.decision(&fleet) };
    assert!(say(&mut fleet, 0, Command::Decide(done)));
    setting.release = release;
    roll_out(&mut fleet, &mut setting);
    (fleet, setting)
}

fn roll_out(fleet: &mut Fleet, setting: &mut Setting) {
    let (group, release) = (setting.group.clone(), setting.release);
    let expected = fleet.groups()[&group].generation;
    let new = NewRollout { group, release, expected, back: false, person: String::new() };
    assert!(say(fleet, 0, Command::CreateRollout(new)));
    setting.rollout = RolloutId(fleet.applied());
}

impl Setting {
    fn decision(&self, fleet: &Fleet) -> Decision {
        Decision {
            rollout: self.rollout,
            expected: fleet.groups()[&self.group].generation,
            verdict: None,
            unavailable: [(self.group.clone(), BTreeSet::new())].into(),
            found_on_target: BTreeSet::new(),
            grants: BTreeMap::new(),
        }
    }
}

impl Grants {
    fn new(bounds: Bounds, mistake: Option<Mistake>) -> Self {
        let (founded, setting) = founded();
        Self { bounds, mistake, founded, setting, known: Mutex::default() }
    }

    fn has(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    /// The holders' permits after this log, by the real fleet.
    fn held(&self, log: &[Said]) -> Arc<[Held; HOLDERS]> {
        if let Some(known) = self.known.lock().unwrap().get(log) {
            return Arc::clone(known);
        }
        let mut fleet = self.founded.clone();
        for said in log {
            self.tell(&mut fleet, *said);
        }
        let held = core::array::from_fn(|holder| {
            let permit = fleet.permit_of(node(holder))?;
            let begun = match permit.phase {
                PermitPhase::Granted => None,
                PermitPhase::Begun { incarnation, nonce } => {
                    Some((incarnation.0 as u8, nonce.0 as u8))
                }
            };
            let place = permit.id.granted_at.0 - self.founded.applied().0 - 1;
            Some((u8::try_from(place).unwrap(), begun))
        });
        let held = Arc::new(held);
        self.known.lock().unwrap().insert(log.to_vec(), Arc::clone(&held));
        held
    }

    fn tell(&self, fleet: &mut Fleet, said: Said) {
        let id = |place: Place| PermitId {
            granted_at: LogIndex(self.founded.applied().0 + 1 + u64::from(place)),
            ordinal: 0,
        };
        let life = |life: u8| Incarnation(u64::from(life));
        let (by, command) = match said {
            Said::Nothing => return,
            Said::Grant { to } => {
                let grants = [(node(to), PermitKind::Restart)].into();
                (0, Command::Decide(Decision { grants, ..self.setting.decision(fleet) }))
            }
            Said::Begin { by, permit, life: at, nonce } => {
                let (permit, incarnation) = (id(permit), life(at));
                (by, Command::Begin { permit, incarnation, nonce: Nonce(u64::from(nonce)) })
            }
            Said::Ready { by, permit, life: at } => {
                let (permit, incarnation) = (id(permit), life(at));
                let proof = Proof::Ready { release: self.setting.release };
                (by, Command::Close { permit, incarnation, proof })
            }
            Said::NeverBegan { by, permit, life: at } => {
                let (permit, incarnation) = (id(permit), life(at));
                (by, Command::Close { permit, incarnation, proof: Proof::NeverBegan })
            }
            Said::Live { by, life: at } => (by, Command::Live { incarnation: life(at) }),
            Said::Override { permit } => {
                let (reason, person) = (String::new(), String::new());
                (0, Command::Override { permit: id(permit), fenced: false, reason, person })
            }
        };
        say(fleet, by, command); // refused or not, as the fleet has it
    }

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
        let granted = log.iter().filter(|it| matches!(it, Said::Grant { .. })).count();
        let grants = (0..HOLDERS).filter(|_| granted < self.bounds.grants);
        let grants = grants.map(|to| Said::Grant { to });
        let words = state.words.iter().copied().filter(|it| !log.contains(it));
        let said = grants.chain(words).filter(|said| self.changes(&log, *said));
        actions.extend(said.map(|said| Action::Append(at, said)));
    }

    /// Whether this entry comes to anything after that log. One that is refused might as well come later.
    fn changes(&self, log: &[Said], said: Said) -> bool {
        let longer = [log, &[said]].concat();
        matches!(said, Said::Live { .. }) || self.held(&longer) != self.held(log)
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
            actions.push(Action::Act(at, permit));
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
            overridden: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        (0..VOTERS).for_each(|at| self.voter_actions(state, at, actions));
        (0..HOLDERS).for_each(|at| self.holder_actions(state, at, actions));
        if !state.overridden {
            let open = self.held(&state.agreed);
            actions.extend(open.iter().flatten().map(|(permit, _)| Action::Override(*permit)));
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
            Action::Override(permit) => {
                state.overridden = true;
                state.words.insert(Said::Override { permit });
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
            Action::Act(at, permit) => {
                let holder = &mut state.holders[at];
                (holder.asks, holder.begun, holder.down) = (None, Some(permit), true);
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
                (holder.asks, holder.handed_back, holder.seen) = (None, None, 0);
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

/// Runs the model to its end, or to the first property that does not hold.
fn check(bounds: Bounds, mistake: Option<Mistake>) -> impl Checker<Grants> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checker = Grants::new(bounds, mistake).checker().threads(threads);
    checker.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join()
}

/// Two holders after each other, each with its grant, its begin and its close.
const ONE_LEADER: Bounds = Bounds { terms: 1, entries: 6, grants: 2, nonces: 1, crashes: 0 };
const TWO_LEADERS: Bounds = Bounds { terms: 2, ..ONE_LEADER };
const A_CRASH: Bounds = Bounds { crashes: 1, ..ONE_LEADER };

#[test]
fn nothing_that_can_happen_takes_two_down() {
    for bounds in [TWO_LEADERS, A_CRASH] {
        let checker = check(bounds, None);
        println!("{bounds:?}: {} states", checker.unique_state_count());
        checker.assert_properties();
    }
}

#[test]
fn the_model_finds_mistakes() {
    let found = |bounds, mistake| {
        let found = check(bounds, Some(mistake)).discoveries();
        BTreeSet::from_iter(found.into_keys())
    };
    let two_down = "no more than one is down";
    let uncovered = "who is down has a permit that has begun";
    let acts = found(ONE_LEADER, Mistake::ActsOnGrant);
    assert!(acts.contains(two_down) || acts.contains(uncovered), "{acts:?}");
    let forgets = found(ONE_LEADER, Mistake::ForgetsHandBack);
    assert!(forgets.contains(two_down) || forgets.contains(uncovered), "{forgets:?}");
    let alone = found(TWO_LEADERS, Mistake::AgreesAlone);
    assert!(alone.contains("what was agreed stays"), "{alone:?}");
}
