mod permits;
mod watched;

use core::time::Duration;

use super::brief::Brief;
use super::journal::Journal;
use super::report::Condition;
use super::service::ServiceEvent;
use super::unit::Assignment;
use super::{Agent, Input};
use crate::fleet::group::Standing;
use crate::id::{GroupName, Incarnation, ReleaseId};
use crate::machine::Machine;
use crate::rng::Rng;
use crate::time::Instant;

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
        min_healthy: Duration::ZERO,
        attempt: None,
        lease: None,
        watched: false,
    };
    let assignments = groups.iter().map(|name| (name.clone(), assignment.clone())).collect();
    Input::Brief(Box::new(Brief { life: Some(Incarnation(1)), assignments, ..Brief::default() }))
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
