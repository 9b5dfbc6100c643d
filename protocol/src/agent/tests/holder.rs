//! A node that holds a permit, or is about to, and the disk and the service that its agent speaks to.

use core::time::Duration;
use std::sync::Arc;

use super::web;
use crate::agent::brief::Brief;
use crate::agent::journal::{Journal, Step};
use crate::agent::library::{Contents, StoreEvent};
use crate::agent::report::Condition;
use crate::agent::service::ServiceEvent;
use crate::agent::unit::{Assignment, Balance, Lease, ServiceAction};
use crate::agent::{Agent, Input, Output};
use crate::artifact::header::{ChunkRef, Header, SignedHeader};
use crate::artifact::service::ServiceSpec;
use crate::codec;
use crate::disk::{Key, Token};
use crate::fleet::command::{Command, Proof};
use crate::fleet::group::Standing;
use crate::fleet::permit::PermitPhase;
use crate::id::{
    ChunkHash, Incarnation, LogIndex, Nonce, PermitId, ReleaseId, RolloutId, Sequence,
};
use crate::machine::Machine;
use crate::rng::Rng;
use crate::time::Instant;
use crate::trust;
use crate::trust::key::SecretKey;

pub(super) const LIFE: Incarnation = Incarnation(2);
/// Begun in the life before.
pub(super) const EARLIER: PermitPhase =
    PermitPhase::Begun { incarnation: Incarnation(1), nonce: EARLIER_NONCE };
pub(super) const EARLIER_NONCE: Nonce = Nonce(3);
pub(super) const PERMIT: PermitId = PermitId { granted_at: LogIndex(9), ordinal: 0 };

pub(super) fn signed(sequence: u64) -> SignedHeader {
    let header = Header {
        service: "web".parse().unwrap(),
        version: format!("v{sequence}").parse().unwrap(),
        sequence: Sequence(sequence),
        expires: None,
        manifest: vec![ChunkRef { hash: ChunkHash([7; 32]), len: 10 }],
        size_bytes: 0,
        files: 0,
    };
    trust::release::sign(&header, &SecretKey::from_seed([3; 32]))
}

pub(super) fn leased(phase: PermitPhase) -> Lease {
    let release = Holder::new_release();
    let rollout = RolloutId::default();
    Lease { id: PERMIT, rollout, release, phase, failed: false, may_start: true }
}

/// A node with version 1 installed and version 2 staged.
pub(super) struct Holder {
    pub(super) agent: Agent,
    pub(super) now: Instant,
    pub(super) assignment: Assignment,
    pub(super) life: Incarnation,
    /// Whether the last probe was answered well, as every one is until something happens.
    well: bool,
    /// Journals given out, as they came; those apart that tell of a question only.
    pub(super) journals: Vec<(Token, Journal)>,
    questions: Vec<Token>,
    pub(super) actions: Vec<ServiceAction>,
    pub(super) proposals: Vec<Command>,
}

impl Holder {
    pub(super) fn new(begun: Option<PermitId>) -> Self {
        Self::of(begun, None)
    }

    /// The same, where it is said how the service is run.
    pub(super) fn of(begun: Option<PermitId>, service: Option<&ServiceSpec>) -> Self {
        Self::run_by(begun.map_or(Step::Nothing, Step::Begun), service)
    }

    pub(super) fn run_by(step: Step, service: Option<&ServiceSpec>) -> Self {
        let [old, new] = [signed(1), signed(2)];
        let journal = Journal { installed: Some(old.id()), step };
        let mut holder = Self {
            agent: Agent::new(LIFE, [(web(), journal)].into(), Rng::new(1)),
            now: Instant::ZERO,
            assignment: Assignment {
                standing: Standing::Counted,
                installable: Some(old.id()),
                last_rollout: None,
                min_healthy: Duration::from_secs(1),
                attempt: None,
                lease: None,
                watched: false,
            },
            life: LIFE,
            well: false,
            journals: Vec::new(),
            questions: Vec::new(),
            actions: Vec::new(),
            proposals: Vec::new(),
        };
        for header in [old, new] {
            let contents = Contents { chunks: Arc::new([]), service: service.cloned() };
            let present = StoreEvent::Present { header, contents, origin: false };
            holder.take(Input::Store(present));
        }
        holder
    }

    pub(super) fn old() -> ReleaseId {
        signed(1).id()
    }

    pub(super) fn new_release() -> ReleaseId {
        signed(2).id()
    }

    pub(super) fn take(&mut self, input: Input) {
        if let Input::Service(_, event) = &input {
            self.well = matches!(event, ServiceEvent::Probed(Ok(())));
        }
        self.agent.handle(self.now, input);
        while let Some(output) = self.agent.poll_output() {
            match output {
                Output::Persist(batch) => {
                    for (key, value) in &batch.writes {
                        assert_eq!(*key, Key::Journal(web()));
                        let journal: Journal = codec::decode(value.as_ref().unwrap()).unwrap();
                        match journal.step {
                            Step::Asked(..) => self.questions.push(batch.token),
                            _ => self.journals.push((batch.token, journal)),
                        }
                    }
                }
                Output::Service(_, action) => self.actions.push(action),
                Output::Propose(command) => self.proposals.push(command),
                _ => {}
            }
        }
    }

    pub(super) fn told(&mut self) {
        let brief = Brief {
            life: Some(self.life),
            assignments: [(web(), self.assignment.clone())].into(),
            ..Brief::default()
        };
        self.take(Input::Brief(Box::new(brief)));
    }

    pub(super) fn granted(&mut self) {
        self.granted_at(PermitPhase::Granted);
        self.noted();
    }

    /// Its question is on disk.
    pub(super) fn noted(&mut self) {
        for token in core::mem::take(&mut self.questions) {
            self.take(Input::Persisted(token));
        }
    }

    pub(super) fn granted_at(&mut self, phase: PermitPhase) {
        self.assignment.lease = Some(leased(phase));
        self.told();
    }

    pub(super) fn runs(&mut self, release: Option<ReleaseId>) {
        self.take(Input::Service(web(), ServiceEvent::Found { running: release }));
        if release.is_some() {
            self.take(Input::Service(web(), ServiceEvent::Probed(Ok(()))));
        }
    }

    pub(super) fn passes(&mut self, seconds: u64) {
        for _ in 0..seconds * 4 {
            self.now = self.now.after(Duration::from_millis(250));
            self.take(Input::Timeout);
            if self.well {
                self.probed();
            }
        }
    }

    pub(super) fn probed(&mut self) {
        self.take(Input::Service(web(), ServiceEvent::Probed(Ok(()))));
    }

    pub(super) fn condition(&self) -> Option<Condition> {
        let services = self.agent.report(self.now).services;
        services.get(&web()).map(|service| service.condition.clone())
    }

    pub(super) fn asked(&self) -> Option<Nonce> {
        self.proposals.iter().rev().find_map(|command| match command {
            Command::Begin { nonce, .. } => Some(*nonce),
            _ => None,
        })
    }

    pub(super) fn echoed(&mut self) {
        let nonce = self.asked().unwrap();
        if let Some(lease) = &mut self.assignment.lease {
            lease.phase = PermitPhase::Begun { incarnation: self.life, nonce };
        }
        self.told();
    }

    pub(super) fn confirmed(&mut self, at: usize) {
        let token = self.journals[at].0;
        self.take(Input::Persisted(token));
    }

    pub(super) fn drains(&self) -> bool {
        self.actions.contains(&ServiceAction::Balance(Balance::Drain))
    }

    /// Under the permit, until the new process runs and is not ready.
    pub(super) fn starts(&mut self) {
        self.told();
        self.runs(Some(Self::old()));
        self.granted();
        self.echoed();
        self.confirmed(0);
        self.take(Input::Service(web(), ServiceEvent::Exited { reason: "stopped".into() }));
        self.confirmed(1);
        let release = Self::new_release();
        self.take(Input::Service(web(), ServiceEvent::Started { release }));
        let refused = Err("connection refused".to_owned());
        self.take(Input::Service(web(), ServiceEvent::Probed(refused)));
    }

    pub(super) fn failed(&self) -> bool {
        self.proposals.iter().any(|command| matches!(command, Command::Fail { .. }))
    }

    pub(super) fn proved(&self) -> bool {
        let ready = |command: &Command| {
            matches!(command, Command::Close { proof: Proof::Ready { .. }, .. })
        };
        self.proposals.iter().any(ready)
    }

    /// On what release, and after which begin.
    pub(super) fn given_back(&self) -> Option<(ReleaseId, Nonce)> {
        self.proposals.iter().find_map(|command| match command {
            Command::Close { proof: Proof::Serves { release, begun }, .. } => {
                Some((*release, *begun))
            }
            _ => None,
        })
    }

    pub(super) fn handed_back(&self) -> bool {
        let never =
            |command: &Command| matches!(command, Command::Close { proof: Proof::NeverBegan, .. });
        self.proposals.iter().any(never)
    }
}
