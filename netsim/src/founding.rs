//! A mesh in which all are in already and run a first release: as after a night in which the power was
//! gone, but that nobody has lost anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use baton_protocol::agent::journal::Journal;
use baton_protocol::codec;
use baton_protocol::consensus::{self, Voter};
use baton_protocol::disk::{Batch, Key, Value};
use baton_protocol::fleet::Fleet;
use baton_protocol::fleet::command::{Candidate, Command, Decision, Envelope, NewRollout, Verdict};
use baton_protocol::fleet::group::Ports;
use baton_protocol::id::{LogIndex, NodeId, RolloutId, VoterId};
use baton_protocol::machine::Machine as _;
use baton_protocol::peer::Config;
use baton_protocol::state::State;
use baton_protocol::time::{Instant, UnixTime};

use crate::mesh::{EPOCH, Mesh, group, mesh_name};
use crate::shape::Shape;
use crate::store::Made;

const FOUNDER: VoterId = VoterId(1);

/// The log of the sole voter, as it is written.
struct Scribe {
    voter: Voter,
    disk: BTreeMap<Key, Value>,
    fleet: Fleet,
    now: Instant,
    failed: Option<String>,
}

/// What all have, and what the founder's disk has beside it.
pub(crate) struct Founded {
    pub(crate) state: Arc<State>,
    pub(crate) founder: BTreeMap<Key, Value>,
    pub(crate) journal: Value,
}

/// All of `configs`, the first of which founds, in the lives that they are about to begin, with `first`
/// running everywhere.
///
/// # Errors
/// The log refuses something: a defect.
pub(crate) fn found(
    mesh: &Mesh,
    shape: &Shape,
    configs: &[Config],
    first: &Made,
) -> Result<Founded, String> {
    let mut scribe = Scribe::begin(mesh, &configs[0])?;
    for config in &configs[1..] {
        scribe.say(config.node, Command::Admit(candidate(config)))?;
    }
    let (founder, person) = (configs[0].node, String::new());
    for config in configs {
        let join = Command::JoinGroup { group: group(), ports: Ports::default() };
        scribe.say(config.node, join)?;
    }
    let change = shape.policy.clone();
    scribe.say(founder, Command::SetGroup { group: group(), change, person: person.clone() })?;
    scribe.say(founder, Command::Register { header: first.signed.clone() })?;
    let (release, expected) = (first.signed.id(), scribe.generation());
    let new = NewRollout { group: group(), release, expected, back: false, person };
    let rollout = RolloutId(scribe.say(founder, Command::CreateRollout(new))?);
    for config in configs {
        let (group, incarnation) = (group(), config.first_life());
        scribe.say(
            config.node,
            Command::Enroll { group, release, rollout: Some(rollout), incarnation },
        )?;
    }
    let decision = Decision {
        rollout,
        expected: scribe.generation(),
        verdict: Some(Verdict::Done),
        judged_at: scribe.fleet.applied(),
        unavailable: BTreeMap::new(),
        found_on_target: BTreeSet::new(),
        grants: BTreeMap::new(),
    };
    scribe.say(founder, Command::Decide(decision))?;
    let journal = Journal { installed: Some(release), ..Journal::default() };
    Ok(Founded {
        state: Arc::new(scribe.fleet.into()),
        founder: scribe.disk,
        journal: codec::encode(&journal).into(),
    })
}

fn candidate(config: &Config) -> Candidate {
    Candidate {
        certificate: config.certificate.clone(),
        name: config.name.clone(),
        zone: config.zone.clone(),
        addresses: config.addresses.clone(),
        incarnation: config.first_life(),
    }
}

fn envelope(by: NodeId, command: Command) -> Vec<u8> {
    codec::encode(&Envelope { by, request: 0, at: UnixTime(EPOCH), command })
}

impl Scribe {
    fn begin(mesh: &Mesh, founder: &Config) -> Result<Self, String> {
        let command = Command::Found {
            mesh: founder.mesh,
            name: mesh_name(),
            founder: candidate(founder),
            publisher: mesh.publisher(),
        };
        let settings = consensus::Config::with_tail(founder.seed, founder.log_tail);
        let command = Some(envelope(founder.node, command));
        let voter = Voter::found(settings, FOUNDER, founder.node, Instant::ZERO, command);
        let voter = voter.map_err(|error| error.to_string())?;
        let (disk, fleet) = (BTreeMap::new(), Fleet::default());
        let mut scribe = Self { voter, disk, fleet, now: Instant::ZERO, failed: None };
        scribe.settle();
        while scribe.fleet.mesh().is_none() && scribe.failed.is_none() {
            scribe.wait();
        }
        Ok(scribe)
    }

    /// Until the voter wants to be woken.
    fn wait(&mut self) {
        let wake = self.voter.poll_timeout();
        self.now = wake.unwrap_or(self.now).max(self.now);
        self.voter.handle(self.now, consensus::Input::Timeout);
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(output) = self.voter.poll_output() {
            match output {
                consensus::Output::Persist(batch) => self.persist(batch),
                consensus::Output::Committed { index, entry, .. } => {
                    if let Err(refusal) = self.fleet.apply(index, &entry).outcome {
                        self.failed.get_or_insert(refusal.to_string());
                    }
                }
                consensus::Output::WantSnapshot { at } if at == self.fleet.applied() => {
                    let data = codec::encode(&self.fleet);
                    let input = consensus::Input::SnapshotReady { index: at, data };
                    self.voter.handle(self.now, input);
                }
                _ => {}
            }
        }
    }

    fn persist(&mut self, batch: Batch) {
        for (key, value) in batch.writes {
            match value {
                Some(value) => self.disk.insert(key, value),
                None => self.disk.remove(&key),
            };
        }
        self.voter.handle(self.now, consensus::Input::Persisted(batch.token));
    }

    fn generation(&self) -> baton_protocol::id::Generation {
        self.fleet.groups().get(&group()).map(|it| it.generation).unwrap_or_default()
    }

    /// Puts a command into the log; its place there.
    fn say(&mut self, by: NodeId, command: Command) -> Result<LogIndex, String> {
        let before = self.fleet.applied();
        let command = envelope(by, command);
        self.voter.handle(self.now, consensus::Input::Propose { handle: 0, command });
        self.settle();
        while self.fleet.applied() == before && self.failed.is_none() {
            self.wait();
        }
        match &self.failed {
            None => Ok(self.fleet.applied()),
            Some(refusal) => Err(refusal.clone()),
        }
    }
}
