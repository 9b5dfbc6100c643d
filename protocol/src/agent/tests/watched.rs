//! What a holder does where somebody reads the balancers in front of its service.

use core::time::Duration;

use super::holder::{Holder, PERMIT};
use super::web;
use crate::agent::Input;
use crate::agent::balancer::{Traffic, Word};
use crate::agent::service::ServiceEvent;
use crate::agent::unit::ServiceAction;
use crate::fleet::command::{Command, Proof};
use crate::id::{LogIndex, PermitId, Question};

/// A holder that has told the balancer to drain, after the leader's question 5.
fn draining() -> Holder {
    let mut holder = Holder::new(None);
    holder.assignment.watched = true;
    holder.told();
    holder.take(Input::Asked(1, Question(5)));
    holder.runs(Some(Holder::old()));
    holder.granted();
    holder.echoed();
    holder.confirmed(0);
    assert!(holder.drains());
    holder
}

fn hears(holder: &mut Holder, asked: u64, traffic: Traffic) {
    holder.take(Input::Word(PERMIT, Word { traffic, asked: (1, Question(asked)) }));
}

/// The old process ends, and the new one is ready.
fn starts(holder: &mut Holder) {
    holder.take(Input::Service(web(), ServiceEvent::Exited { reason: String::new() }));
    holder.confirmed(1);
    let release = Holder::new_release();
    holder.take(Input::Service(web(), ServiceEvent::Started { release }));
    holder.take(Input::Service(web(), ServiceEvent::Probed(Ok(()))));
}

fn stops(holder: &Holder) -> bool {
    holder.actions.contains(&ServiceAction::Stop)
}

fn closes(holder: &Holder) -> bool {
    let ready = |it: &Command| matches!(it, Command::Close { proof: Proof::Ready { .. }, .. });
    holder.proposals.iter().any(ready)
}

#[test]
fn it_stops_once_no_balancer_sends_and_no_session_is_left() {
    let mut holder = draining();
    for traffic in [Traffic::Everywhere, Traffic::Somewhere, Traffic::Nowhere { sessions: 1 }] {
        hears(&mut holder, 6, traffic);
        holder.passes(1);
        assert!(!stops(&holder), "{traffic:?}");
    }
    hears(&mut holder, 6, Traffic::Nowhere { sessions: 0 });
    assert!(stops(&holder));
}

#[test]
fn what_the_balancers_did_before_it_drained_is_no_word() {
    let mut holder = draining();
    hears(&mut holder, 5, Traffic::Nowhere { sessions: 0 });
    holder.passes(1);
    assert!(!stops(&holder));
}

/// As a member may repeat that once led.
#[test]
fn a_word_for_another_permit_and_an_old_question_are_nothing() {
    let mut holder = draining();
    let other = PermitId { granted_at: LogIndex(8), ordinal: 0 };
    let word = Word { traffic: Traffic::Nowhere { sessions: 0 }, asked: (1, Question(6)) };
    holder.take(Input::Word(other, word));
    holder.passes(1);
    assert!(!stops(&holder));
    holder.take(Input::Asked(1, Question(2)));
    assert_eq!(holder.agent.report(holder.now).question, (1, Question(5)));
}

#[test]
fn what_a_node_sleeps_of_its_drain_does_not_count_as_a_wait_for_the_balancer() {
    let mut holder = draining();
    holder.passes(9);
    holder.now = holder.now.after(Duration::from_secs(60));
    holder.passes(9);
    assert!(!stops(&holder));
    holder.passes(2);
    assert!(stops(&holder));
}

#[test]
fn a_balancer_that_is_seen_to_send_still_is_not_overtaken_by_any_delay() {
    let mut holder = draining();
    for _ in 0..15 {
        hears(&mut holder, 6, Traffic::Everywhere);
        holder.passes(1);
    }
    assert!(!stops(&holder));
}

#[test]
fn without_a_word_it_waits_as_long_as_one_may_take() {
    let mut holder = draining();
    holder.passes(9);
    assert!(!stops(&holder));
    holder.passes(1);
    assert!(stops(&holder));
}

#[test]
fn it_closes_once_every_balancer_sends_to_the_new_release() {
    let mut holder = draining();
    hears(&mut holder, 6, Traffic::Nowhere { sessions: 0 });
    holder.take(Input::Asked(1, Question(7)));
    starts(&mut holder);
    for (asked, traffic) in
        [(7, Traffic::Everywhere), (8, Traffic::Somewhere), (8, Traffic::Unknown)]
    {
        hears(&mut holder, asked, traffic);
        holder.passes(2);
        assert!(!closes(&holder), "{asked} {traffic:?}");
    }
    hears(&mut holder, 8, Traffic::Everywhere);
    assert!(closes(&holder));
}

#[test]
fn what_the_balancers_did_before_they_heard_that_it_serves_again_closes_nothing() {
    let mut holder = draining();
    holder.assignment.min_healthy = Duration::ZERO;
    holder.told();
    hears(&mut holder, 6, Traffic::Nowhere { sessions: 0 });
    holder.take(Input::Asked(1, Question(7)));
    hears(&mut holder, 7, Traffic::Everywhere);
    starts(&mut holder);
    assert!(!closes(&holder));
    hears(&mut holder, 8, Traffic::Everywhere);
    assert!(closes(&holder));
}
