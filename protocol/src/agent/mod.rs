//! A node's own path: fetch, stage, permit, drain, switch, start, probe, report.
//!
//! * [`library`]: how releases come to the disk
//! * [`unit`]: one service, kept running and moved from release to release; [`service`]: its process;
//!   [`journal`]: what of it survives a crash
//! * [`brief`]: what the log says to this node; [`report`]: what this node says to the leader
//! * [`balancer`]: what the balancers in front of a service are seen to do

pub mod balancer;
pub mod brief;
pub mod journal;
pub mod library;
pub mod report;
pub mod service;
#[cfg(test)]
mod tests;
pub mod unit;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::artifact::header::{ChunkRef, SignedHeader};
use crate::codec;
use crate::disk::{Batch, Key, Token};
use crate::fleet::command::Command;
use crate::id::{GroupName, Incarnation, Nonce, PermitId, Question, ReleaseId};
use crate::machine::Machine;
use crate::rng::Rng;
use crate::swarm::{Bitmap, ObjectId};
use crate::time::{Instant, earliest};

use balancer::{Look, Sight, Word};
use brief::Brief;
use journal::Journal;
use library::{Library, LibraryOutput, StoreCommand, StoreEvent};
use report::Report;
use service::{Process, ServiceEvent};
use unit::{ServiceAction, Surroundings, Unit, UnitOutput};

/// Releases of each service that are fetched or kept although nothing runs them yet.
const AHEAD_MAX: usize = 3;

/// How long a release's share may stay the same before its missing chunks are asked for anew. The
/// swarm mends what it loses in less; this is for what it does not see.
const STALLED_AFTER: core::time::Duration = core::time::Duration::from_secs(15);

/// How old a look at a balancer may be when it is reported: four times the pause between two looks.
const LOOK_AGE_MAX: core::time::Duration = core::time::Duration::from_secs(2);

/// What can happen to an agent.
#[derive(Clone, Debug)]
pub enum Input {
    /// The moment of `poll_timeout` is here.
    Timeout,
    /// The log says something else.
    Brief(Box<Brief>),
    /// A release was heard of, and its publisher's signature holds.
    Heard(SignedHeader),
    /// The runtime says something of a group's service.
    Service(GroupName, ServiceEvent),
    /// The store says something.
    Store(StoreEvent),
    /// The swarm has every chunk of an object.
    Fetched(ObjectId),
    /// How much of a release is there, in thousandths.
    Progress(ReleaseId, u16),
    /// The leader of a term asks for evidence.
    Asked(u64, Question),
    /// What the balancer beside this node was seen to do for a group.
    Sight(GroupName, Sight),
    /// What the balancers were seen to do for the service that this permit is for, as the leader says.
    Word(PermitId, Word),
    /// The leader has not taken what was proposed.
    NotTaken,
    /// A batch is on disk.
    Persisted(Token),
}

/// What an agent wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Keep this on disk, then say `Persisted`.
    Persist(Batch),
    /// By the runtime.
    Service(GroupName, ServiceAction),
    /// By the store.
    Store(StoreCommand),
    /// By the swarm: get, or serve, this.
    Want {
        /// Which object.
        object: ObjectId,
        /// Its chunks.
        chunks: Arc<[ChunkRef]>,
        /// Those that are here.
        have: Bitmap,
        /// Whether the mesh has it from this node.
        origin: bool,
    },
    /// By the swarm: let go of this release.
    Unwant(ReleaseId),
    /// Everybody should hear of this release, which this node has or wants.
    Publish(SignedHeader),
    /// By the leader, who may lose it without a word; `NotTaken` where it says that it does not.
    Propose(Command),
    /// To the leader.
    Report(Report),
}

/// The last look at a balancer.
#[derive(Debug)]
struct Looked {
    at: Instant,
    /// The last question that was heard when it came.
    heard: (u64, Question),
    look: Look,
}

/// The agent of one node.
#[derive(Debug)]
pub struct Agent {
    incarnation: Incarnation,
    journals: BTreeMap<GroupName, Journal>,
    brief: Brief,
    library: Library,
    units: BTreeMap<GroupName, Unit>,
    unassigned: BTreeMap<GroupName, Process>,
    progress: BTreeMap<ReleaseId, (u16, Instant)>,
    looks: BTreeMap<GroupName, Looked>,
    asked: (u64, Question),
    last_report: Option<Report>,
    writes: BTreeMap<Token, GroupName>,
    next_token: Token,
    rng: Rng,
    outputs: VecDeque<Output>,
}

/// Groups that the log has not named yet, or names no more, of which it is kept what runs.
const UNASSIGNED_MAX: usize = 64;

impl Agent {
    /// The agent of the life `incarnation` of a node, with what its disk says.
    pub fn new(incarnation: Incarnation, journals: BTreeMap<GroupName, Journal>, rng: Rng) -> Self {
        Self {
            incarnation,
            journals,
            brief: Brief::default(),
            library: Library::default(),
            units: BTreeMap::new(),
            unassigned: BTreeMap::new(),
            progress: BTreeMap::new(),
            looks: BTreeMap::new(),
            asked: (0, Question::default()),
            last_report: None,
            writes: BTreeMap::new(),
            next_token: Token::default(),
            rng,
            outputs: VecDeque::new(),
        }
    }

    /// The releases here and on their way.
    pub fn library(&self) -> &Library {
        &self.library
    }

    /// What this node would tell the leader now.
    pub fn report(&self, now: Instant) -> Report {
        let thousandths = |id| (id, self.progress.get(&id).map_or(0, |(share, _)| *share));
        let services = self.units.iter().map(|(name, unit)| (name.clone(), unit.report(now)));
        let looks = self.looks.iter().filter(|(_, it)| now.since(it.at) <= LOOK_AGE_MAX);
        Report {
            question: self.asked,
            incarnation: self.incarnation,
            staged: self.library.staged().collect(),
            fetching: self.library.fetching().map(thousandths).collect(),
            troubles: self.library.troubles().collect(),
            services: services.collect(),
            balancers: looks.map(|(name, it)| (name.clone(), it.look.clone())).collect(),
        }
    }

    /// The node's life, where the log has confirmed that it is this one.
    fn life(&self) -> Option<Incarnation> {
        self.brief.life.filter(|life| *life == self.incarnation)
    }

    fn take_brief(&mut self, now: Instant, brief: Brief) {
        self.brief = brief;
        for header in self.brief.wanted.values() {
            self.library.fetch(header);
        }
        let assigned = |name: &GroupName| self.brief.assignments.contains_key(name);
        let units = core::mem::take(&mut self.units).into_iter();
        let (stay, leave): (BTreeMap<_, _>, BTreeMap<_, _>) =
            units.partition(|(name, _)| assigned(name));
        self.units = stay;
        self.unassigned.extend(leave.into_iter().map(|(name, unit)| (name, unit.into_process())));
        let assignments = self.brief.assignments.clone();
        for (name, assignment) in assignments {
            if self.units.contains_key(&name) {
                self.with_unit(now, &name, |unit, at| unit.assign(at, assignment));
            } else {
                self.add_unit(now, name, assignment);
            }
        }
        self.tidy();
    }

    fn add_unit(&mut self, now: Instant, name: GroupName, assignment: unit::Assignment) {
        let journal = self.journals.get(&name).copied().unwrap_or_default();
        let process = self.unassigned.remove(&name).unwrap_or(Process::Unknown);
        let nonce = Nonce(self.rng.next_u64() / 2); // others follow it
        let unit = Unit::new(name.clone(), assignment, journal, process, nonce);
        self.units.insert(name.clone(), unit);
        self.with_unit(now, &name, Unit::advance);
    }

    fn with_unit(
        &mut self,
        now: Instant,
        name: &GroupName,
        act: impl FnOnce(&mut Unit, Surroundings<'_>),
    ) {
        let life = self.life();
        let Some(unit) = self.units.get_mut(name) else { return };
        act(unit, Surroundings { now, life, asked: self.asked, library: &self.library });
        self.collect_unit(name);
    }

    /// Whose open permit this is.
    fn holder_of(&self, permit: PermitId) -> Option<GroupName> {
        let holds = |unit: &Unit| unit.permit() == Some(permit);
        self.units.iter().find(|(_, unit)| holds(unit)).map(|(name, _)| name.clone())
    }

    fn with_all_units(&mut self, now: Instant, act: fn(&mut Unit, Surroundings<'_>)) {
        let names: Vec<_> = self.units.keys().cloned().collect();
        for name in names {
            self.with_unit(now, &name, act);
        }
    }

    fn collect_unit(&mut self, name: &GroupName) {
        let Some(unit) = self.units.get_mut(name) else { return };
        while let Some(output) = unit.poll_output() {
            let output = match output {
                UnitOutput::Persist(journal) => {
                    self.journals.insert(name.clone(), journal);
                    self.next_token = Token(self.next_token.0 + 1);
                    let token = self.next_token;
                    self.writes.insert(token, name.clone());
                    let key = Key::Journal(name.clone());
                    let writes = vec![(key, Some(codec::encode(&journal).into()))];
                    Output::Persist(Batch { token, writes })
                }
                UnitOutput::Service(action) => Output::Service(name.clone(), action),
                UnitOutput::Propose(command) => Output::Propose(command),
            };
            self.outputs.push_back(output);
        }
    }

    fn collect_library(&mut self) -> bool {
        let mut changed = false;
        while let Some(output) = self.library.poll_output() {
            let output = match output {
                LibraryOutput::Store(command) => Output::Store(command),
                LibraryOutput::Want { object, chunks, have, origin } => {
                    Output::Want { object, chunks, have, origin }
                }
                LibraryOutput::Unwant(release) => Output::Unwant(release),
                LibraryOutput::Changed(_) => {
                    changed = true;
                    continue;
                }
            };
            self.outputs.push_back(output);
        }
        changed
    }

    fn heard(&mut self, signed: &SignedHeader) {
        let Ok(header) = signed.header() else { return };
        if self.brief.services.values().any(|service| *service == header.service) {
            self.library.fetch(signed);
            self.tidy();
        }
    }

    /// Lets releases go that nothing needs.
    fn tidy(&mut self) {
        if self.brief.life.is_none() {
            return; // not told yet what is needed
        }
        let mut keep: BTreeSet<_> = self.brief.wanted.keys().copied().collect();
        keep.extend(self.units.values().flat_map(Unit::needs));
        keep.extend(self.journals.values().filter_map(|journal| journal.installed));
        keep.extend(self.newest());
        self.library.retain(&keep);
    }

    fn newest(&self) -> Vec<ReleaseId> {
        let mut by_service: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (signed, header) in self.library.headers() {
            let of_service = by_service.entry(&header.service).or_default();
            of_service.insert((header.sequence, signed.id()));
        }
        let newest = |set: &BTreeSet<_>| -> Vec<ReleaseId> {
            set.iter().rev().take(AHEAD_MAX).map(|(_, id)| *id).collect()
        };
        by_service.values().flat_map(newest).collect()
    }

    /// Tells the leader at once what changed, as the next permit may wait for it.
    fn report_changes(&mut self, now: Instant, asked: bool) {
        let report = self.report(now);
        let told = self.last_report.as_ref().is_some_and(|last| last.says_the_same(&report));
        if asked || !told {
            self.outputs.push_back(Output::Report(report.clone()));
            self.last_report = Some(report);
        }
    }

    fn progressed(&mut self, now: Instant, release: ReleaseId, thousandths: u16) {
        let fetching: BTreeSet<_> = self.library.fetching().collect();
        self.progress.retain(|id, _| fetching.contains(id));
        let before = self.progress.get(&release).filter(|(seen, _)| *seen == thousandths);
        let since = before.map_or(now, |(_, since)| *since);
        let stalled = now.since(since) >= STALLED_AFTER;
        if stalled {
            self.library.ask_anew(release);
        }
        self.progress.insert(release, (thousandths, if stalled { now } else { since }));
    }

    fn take_service_event(&mut self, now: Instant, name: GroupName, event: ServiceEvent) {
        if self.units.contains_key(&name) {
            self.with_unit(now, &name, |unit, at| unit.observe(at, &event));
        } else if self.unassigned.len() < UNASSIGNED_MAX || self.unassigned.contains_key(&name) {
            self.unassigned.entry(name).or_insert(Process::Unknown).observe(now, &event);
        }
    }

    /// A look began after the one before it had come, and so saw what was after that.
    fn looked(&mut self, now: Instant, name: GroupName, sight: Sight) {
        let asked = self.looks.get(&name).map(|last| last.heard).unwrap_or_default();
        let look = Look { asked, sight };
        self.looks.insert(name, Looked { at: now, heard: self.asked, look });
    }

    fn take_store_event(&mut self, now: Instant, event: StoreEvent) {
        if let StoreEvent::Present { header, origin: true, .. } = &event {
            self.outputs.push_back(Output::Publish(header.clone()));
        }
        self.library.stored(now, event);
    }
}

impl Machine for Agent {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        let asked = matches!(input, Input::Asked(..));
        match input {
            Input::Timeout => {
                self.library.wake(now);
                self.with_all_units(now, Unit::advance);
            }
            Input::Brief(brief) => self.take_brief(now, *brief),
            Input::Heard(header) => self.heard(&header),
            Input::Service(name, event) => self.take_service_event(now, name, event),
            Input::Store(event) => self.take_store_event(now, event),
            Input::Fetched(object) => self.library.complete(object),
            Input::Progress(release, thousandths) => self.progressed(now, release, thousandths),
            Input::Asked(term, question) => {
                // A leader that repeats old ones would have old words on the balancers taken for new.
                self.asked = self.asked.max((term, question));
                self.with_all_units(now, Unit::advance); // what nobody has looked at meanwhile is no evidence
            }
            Input::Sight(name, sight) => self.looked(now, name, sight),
            Input::Word(permit, word) => {
                if let Some(name) = self.holder_of(permit) {
                    self.with_unit(now, &name, |unit, at| unit.hear(at, word));
                }
            }
            Input::NotTaken => self.with_all_units(now, Unit::not_taken),
            Input::Persisted(token) => {
                if let Some(name) = self.writes.remove(&token) {
                    self.with_unit(now, &name, Unit::persisted);
                }
            }
        }
        if self.collect_library() {
            self.with_all_units(now, Unit::advance);
        }
        self.report_changes(now, asked);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let units = self.units.values().map(Unit::poll_timeout);
        units.fold(self.library.poll_timeout(), earliest)
    }
}
