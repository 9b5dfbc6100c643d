mod holder;
mod permits;
mod releases;
mod watched;

use core::time::Duration;

use super::brief::Brief;
use super::journal::Journal;
use super::library::{Contents, StoreEvent};
use super::report::Condition;
use super::service::ServiceEvent;
use super::unit::{Assignment, Lease};
use super::{Agent, Input, Output};
use crate::artifact::header::{ChunkRef, Header, SignedHeader};
use crate::fleet::command::Command;
use crate::fleet::group::Standing;
use crate::fleet::permit::PermitPhase;
use crate::id::{GroupName, Incarnation, PermitId, ReleaseId, RolloutId, Sequence};
use crate::machine::Machine;
use crate::rng::Rng;
use crate::time::Instant;
use crate::trust::key::SecretKey;
use crate::trust::release::sign;

const RUNNING: ReleaseId = ReleaseId([7; 32]);

fn web() -> GroupName {
    "web".parse().expect("a name")
}

fn agent() -> Agent {
    let journal = Journal { installed: Some(RUNNING), ..Journal::default() };
    Agent::new(Incarnation(1), [(web(), journal)].into(), Rng::new(1))
}

fn brief(groups: &[GroupName]) -> Input {
    let assignment = Assignment {
        standing: Standing::Counted,
        installable: None,
        last_rollout: None,
        min_healthy: Duration::ZERO,
        attempt: None,
        lease: None,
        watched: false,
    };
    let assignments = groups.iter().map(|name| (name.clone(), assignment.clone())).collect();
    Input::Brief(Box::new(Brief { life: Some(Incarnation(1)), assignments, ..Brief::default() }))
}

fn upgrade() -> SignedHeader {
    let header = Header {
        service: "web".parse().expect("a name"),
        version: "v2".parse().expect("a version"),
        sequence: Sequence(2),
        expires: None,
        manifest: vec![ChunkRef::of(b"manifest")],
        size_bytes: 1,
        files: 1,
    };
    sign(&header, &SecretKey::from_seed([1; 32]))
}

fn hear(agent: &mut Agent, events: impl IntoIterator<Item = ServiceEvent>) {
    events.into_iter().for_each(|event| agent.handle(Instant::ZERO, Input::Service(web(), event)));
}

fn condition(agent: &Agent) -> Option<Condition> {
    agent.report(Instant::ZERO).services.get(&web()).map(|it| it.condition.clone())
}

/// A daemon that starts again looks at its services at once, and learns only from the leader what
/// it had in its log.
#[test]
fn all_that_was_seen_of_a_service_before_the_log_names_it_counts() {
    let mut agent = agent();
    let found = ServiceEvent::Found { running: Some(RUNNING) };
    hear(&mut agent, [found, ServiceEvent::Probed(Ok(()))]);
    agent.handle(Instant::ZERO, brief(&[web()]));
    assert_eq!(condition(&agent), Some(Condition::Available));
}

#[test]
fn what_runs_is_known_still_when_a_node_comes_back_into_a_group() {
    let mut agent = agent();
    agent.handle(Instant::ZERO, brief(&[web()]));
    hear(&mut agent, [ServiceEvent::Found { running: Some(RUNNING) }]);
    agent.handle(Instant::ZERO, brief(&[]));
    assert_eq!(condition(&agent), None);
    hear(&mut agent, [ServiceEvent::Probed(Ok(()))]);
    agent.handle(Instant::ZERO, brief(&[web()]));
    assert_eq!(condition(&agent), Some(Condition::Available));
}

/// The holder of a permit, as the log has it at `phase`.
fn lease(release: ReleaseId, phase: PermitPhase) -> Input {
    let (id, rollout) = (PermitId::default(), RolloutId::default());
    let lease = Lease { id, rollout, release, phase, failed: false, may_start: true };
    let assignment = Assignment {
        standing: Standing::Counted,
        installable: None,
        last_rollout: None,
        min_healthy: Duration::from_secs(1),
        attempt: None,
        watched: false,
        lease: Some(lease),
    };
    let assignments = [(web(), assignment)].into();
    Input::Brief(Box::new(Brief { life: Some(Incarnation(1)), assignments, ..Brief::default() }))
}

/// Confirms every write, and gives what is proposed.
fn settle(agent: &mut Agent, now: Instant) -> Option<Command> {
    let mut proposed = None;
    while let Some(output) = agent.poll_output() {
        match output {
            Output::Persist(batch) => agent.handle(now, Input::Persisted(batch.token)),
            Output::Propose(command) => proposed = Some(command),
            _ => {}
        }
    }
    proposed
}

/// The leader grants the next permit as soon as the log has closed this one, without a word more.
#[test]
fn a_holder_says_that_it_serves_with_its_proof_and_not_after_it() {
    let (mut agent, header) = (agent(), upgrade());
    let (release, now) = (header.id(), Instant::ZERO);
    let contents = Contents { chunks: [].into(), service: None };
    agent.handle(now, Input::Store(StoreEvent::Present { header, contents, origin: false }));
    agent.handle(now, lease(release, PermitPhase::Granted));
    hear(&mut agent, [ServiceEvent::Found { running: Some(RUNNING) }]);
    let Some(Command::Begin { nonce, .. }) = settle(&mut agent, now) else { panic!("no request") };
    agent.handle(now, lease(release, PermitPhase::Begun { incarnation: Incarnation(1), nonce }));
    settle(&mut agent, now);
    hear(&mut agent, [ServiceEvent::Exited { reason: "stopped".to_owned() }]);
    settle(&mut agent, now);
    hear(&mut agent, [ServiceEvent::Started { release }, ServiceEvent::Probed(Ok(()))]);
    assert_eq!(settle(&mut agent, now), None);
    assert!(!condition(&agent).is_some_and(|it| it.is_available()), "ready, and not long enough");
    let proven = now.after(Duration::from_secs(1));
    agent.handle(proven, Input::Timeout);
    assert!(matches!(settle(&mut agent, proven), Some(Command::Close { .. })));
    assert_eq!(condition(&agent), Some(Condition::Available));
}
