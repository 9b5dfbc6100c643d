//! Which permits, promotions and rollbacks to propose next. Lives on the leader alone.
//!
//! It asks every member for evidence, judges each group's rollout by it ([`judge`]), and looks after
//! the voters ([`voters`]). All that it decides is proposed to the log, where `fleet` checks it
//! again. A new leader knows nobody's health and so grants nothing until it does.
//!
//! It reads the fleet with every input, and so takes it as an argument of [`Coordinator::handle`];
//! otherwise it has the face of every machine.

pub mod evidence;
pub mod judge;
pub mod traffic;
pub mod voters;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use crate::agent::balancer::Word;
use crate::agent::report::{Condition, Report, ServiceReport};
use crate::consensus::Progress;
use crate::fleet::Fleet;
use crate::fleet::command::Command;
use crate::id::{GroupName, NodeId, PermitId, Question, VoterId};
use crate::time::{Instant, earliest};

use evidence::Evidence;
use judge::{Bench, Watch};
use voters::{Care, VoterStep};

/// Pause between two questions to everybody while something is to be decided by the answers.
const ASK_EVERY: Duration = Duration::from_millis(1000);

/// Pause between two questions while nothing is: an idle leader of twenty then took 0.83 % of a core and
/// not 0.97. Short enough for the last answers to be fresh when a rollout begins ([`EVIDENCE_AGE_MAX`]).
///
/// [`EVIDENCE_AGE_MAX`]: crate::limits::EVIDENCE_AGE_MAX
const ASK_IDLE_EVERY: Duration = Duration::from_millis(2000);

/// How long a decision may be on its way to the log before it is thought lost.
const DECISION_LOST_AFTER: Duration = Duration::from_secs(3);

/// How often the rollouts are judged at most where nothing new is heard: evidence grows old without a
/// word. The next old word, or the next look at the voters, brings it about.
const JUDGE_EVERY: Duration = Duration::from_millis(250);

/// Pause between two judgements for each member: one looks at all of them.
const JUDGE_PAUSE: Duration = Duration::from_micros(10);

/// Pause between two looks at the voters.
const VOTERS_EVERY: Duration = Duration::from_millis(500);

/// What can happen to a coordinator.
#[derive(Clone, Debug)]
pub enum Input {
    /// The moment of `poll_timeout` is here.
    Timeout,
    /// The fleet has changed.
    Changed {
        /// Its members too.
        roster: bool,
    },
    /// A member, known by its connection, reports.
    Report(NodeId, Report),
    /// A decision on this group was applied or refused: the next may follow.
    Decided(GroupName),
    /// How far the voters are, as the consensus has it.
    Voters(BTreeMap<VoterId, Progress>),
}

/// What a coordinator wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Ask every member for evidence, this node too.
    Ask(Question),
    /// Put this into the log.
    Propose(Command),
    /// A decision for the log; `Decided` when it is applied.
    Decide(GroupName, Command),
    /// A change of the voters.
    Voters(VoterStep),
    /// Tell the holder of a permit what the balancers of its group do for it.
    Tell(NodeId, PermitId, Word),
}

/// The leader's judgement.
#[derive(Debug)]
pub struct Coordinator {
    evidence: Evidence,
    watches: BTreeMap<GroupName, Watch>,
    in_flight: BTreeMap<GroupName, Instant>,
    /// What each holder of an open permit was last told.
    told: BTreeMap<PermitId, Word>,
    care: Care,
    asked_at: Option<Instant>,
    ask_at: Instant,
    voters_at: Instant,
    look_at: Option<Instant>,
    /// Whether something new was heard since the last judgement.
    news: bool,
    /// When that is judged at the earliest, and when all is judged without it.
    judge_from: Instant,
    judge_by: Instant,
    outputs: VecDeque<Output>,
}

impl Coordinator {
    /// The coordinator of a node that became leader of `term` at `now`.
    pub fn new(now: Instant, term: u64) -> Self {
        Self {
            evidence: Evidence::new(term),
            watches: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            told: BTreeMap::new(),
            care: Care::new(now),
            asked_at: None,
            ask_at: now,
            voters_at: now,
            look_at: None,
            news: false,
            judge_from: now,
            judge_by: now,
            outputs: VecDeque::new(),
        }
    }

    /// Takes one input that happened at `now`, while the log says `fleet`.
    pub fn handle(&mut self, now: Instant, fleet: &Fleet, input: Input) {
        let mut news = true;
        let mut traffic = true;
        match input {
            Input::Timeout => news = self.look_due().is_some_and(|at| at <= now),
            Input::Changed { roster } => {
                if roster {
                    self.evidence.follow(now, fleet);
                }
                self.watches.retain(|name, _| fleet.groups().contains_key(name));
                self.in_flight.retain(|name, _| fleet.groups().contains_key(name));
            }
            Input::Report(node, report) => {
                traffic = !report.balancers.is_empty();
                news = self.evidence.take(now, node, report);
            }
            Input::Decided(group) => {
                self.in_flight.remove(&group);
            }
            Input::Voters(progress) => {
                self.care.progress(now, progress);
                news = false;
            }
        }
        self.ask(now, fleet);
        self.news |= news;
        if news || traffic {
            self.tell_holders(now, fleet);
        }
        if now >= if self.news { self.judge_from } else { self.judge_by } {
            self.judge_all(now, fleet);
        }
        self.care_for_voters(now, fleet);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When it wants to be woken.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let look = if self.news { Some(self.judge_from) } else { self.look_due() };
        // What falls due before the next judgement waits for that.
        let look = look.map(|at| at.max(self.judge_from));
        earliest(Some(self.ask_at.min(self.voters_at)), look)
    }

    /// Whether a holder that asks to begin may, by the evidence of this moment. One that has moved
    /// already, in an earlier life, goes on, and so does one that is where it is to end. Where the echo
    /// never came, or too late, and nothing was moved, it is judged like the first time: a service that
    /// is not proven ready, as its daemon has just started, may serve all the same.
    pub fn may_begin(&self, now: Instant, fleet: &Fleet, node: NodeId, permit: PermitId) -> bool {
        let held = fleet.permits().get(&permit).filter(|permit| permit.node == node);
        held.is_some_and(|permit| {
            let service = self.evidence.service(now, fleet, &permit.group, node);
            let harmless = |it: &ServiceReport| match it.condition {
                Condition::Moving { .. } | Condition::Absent | Condition::Dead { .. } => true,
                Condition::Available
                | Condition::Settling
                | Condition::Unready { .. }
                | Condition::Unseen => it.release == Some(permit.release),
            };
            let goes_on = permit.has_begun() && service.is_some_and(harmless);
            let once = !self.evidence.is_double(now, node);
            once && (goes_on || judge::evidence_allows(now, fleet, &self.evidence, permit))
        })
    }

    /// Whether a holder whose service is ready may close: the balancers are seen to send to it.
    pub fn may_close(&self, now: Instant, fleet: &Fleet, node: NodeId, permit: PermitId) -> bool {
        let held = fleet.permits().get(&permit);
        held.is_none_or(|permit| self.evidence.is_sent_to(now, fleet, &permit.group, node))
    }

    /// What the members last said.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    fn ask(&mut self, now: Instant, fleet: &Fleet) {
        let decides = fleet.groups().values().any(|group| group.active().is_some());
        let pause = if decides || !fleet.permits().is_empty() { ASK_EVERY } else { ASK_IDLE_EVERY };
        let due = |asked: Option<Instant>| asked.map_or(now, |asked| asked.after(pause));
        if now >= due(self.asked_at) {
            self.asked_at = Some(now);
            let question = self.evidence.ask(now);
            self.outputs.push_back(Output::Ask(question));
        }
        self.ask_at = due(self.asked_at);
    }

    /// Each answer of a watcher is news to the holders, as it is to a newer question.
    fn tell_holders(&mut self, now: Instant, fleet: &Fleet) {
        let before = core::mem::take(&mut self.told);
        for permit in fleet.permits().values() {
            let word = self.evidence.traffic(now, fleet, &permit.group, permit.node);
            let Some(word) = word else { continue };
            if before.get(&permit.id) != Some(&word) {
                self.outputs.push_back(Output::Tell(permit.node, permit.id, word));
            }
            self.told.insert(permit.id, word);
        }
    }

    /// When time alone may change a judgement.
    fn look_due(&self) -> Option<Instant> {
        let lost = self.in_flight.values().map(|since| since.after(DECISION_LOST_AFTER)).min();
        earliest(self.look_at, lost)
    }

    fn judge_all(&mut self, now: Instant, fleet: &Fleet) {
        let members = u32::try_from(fleet.members().len()).unwrap_or(u32::MAX);
        self.news = false;
        self.judge_from = now.after(JUDGE_PAUSE.saturating_mul(members));
        self.judge_by = now.after(JUDGE_EVERY).max(self.judge_from);
        self.in_flight.retain(|_, since| now.since(*since) < DECISION_LOST_AFTER);
        self.look_at = None;
        for (name, group) in fleet.groups() {
            let Some(rollout) = group.active() else {
                self.watches.remove(name);
                continue;
            };
            let watch = self.watches.entry(name.clone()).or_default();
            let bench = Bench { now, fleet, evidence: &self.evidence, name, group, rollout };
            let decision = bench.judge(watch);
            self.look_at = earliest(self.look_at, watch.poll_timeout(now));
            let Some(decision) = decision.filter(|_| !self.in_flight.contains_key(name)) else {
                continue;
            };
            self.in_flight.insert(name.clone(), now);
            self.outputs.push_back(Output::Decide(name.clone(), Command::Decide(decision)));
        }
    }

    fn care_for_voters(&mut self, now: Instant, fleet: &Fleet) {
        if now < self.voters_at {
            return;
        }
        self.voters_at = now.after(VOTERS_EVERY);
        match self.care.look(now, fleet, &self.evidence) {
            None => {}
            Some(VoterStep::Allot(node)) => {
                self.outputs.push_back(Output::Propose(Command::AllotVoter { node }));
            }
            Some(step) => self.outputs.push_back(Output::Voters(step)),
        }
    }
}
