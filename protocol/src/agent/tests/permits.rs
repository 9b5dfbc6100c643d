//! What a holder does, and does not do, under a permit.

use core::time::Duration;

use super::holder::{EARLIER, EARLIER_NONCE, Holder, LIFE, PERMIT, leased, signed};
use super::web;
use crate::agent::Input;
use crate::agent::journal::Step;
use crate::agent::report::Condition;
use crate::agent::service::ServiceEvent;
use crate::agent::unit::{Lease, ServiceAction};
use crate::artifact::service::parse;
use crate::fleet::command::Command;
use crate::fleet::group::Standing;
use crate::fleet::permit::PermitPhase;
use crate::id::{Incarnation, LogIndex, PermitId, Question, ReleaseId};

#[test]
fn a_holder_moves_once_the_echo_is_there_and_its_journal_on_disk() {
    let mut holder = Holder::new(None);
    holder.told();
    holder.runs(Some(Holder::old()));
    holder.granted_at(PermitPhase::Granted);
    assert!(holder.asked().is_none(), "the question is not on disk yet");
    holder.noted();
    assert!(!holder.drains());
    holder.echoed();
    assert_eq!(holder.journals.len(), 1);
    assert!(!holder.drains(), "the journal is not on disk yet");
    holder.confirmed(0);
    assert!(holder.drains());
}

/// The leader may be the last to know of a permit that it has granted.
#[test]
fn a_holder_that_the_leader_does_not_hear_yet_asks_again_at_once_and_then_less_often() {
    let mut holder = Holder::new(None);
    holder.told();
    holder.runs(Some(Holder::old()));
    holder.granted();
    let mut pauses = Vec::new();
    for _ in 0..7 {
        let asked_at = holder.now;
        holder.proposals.clear();
        holder.take(Input::NotTaken);
        while holder.asked().is_none() {
            holder.now = holder.now.after(Duration::from_millis(10));
            holder.take(Input::Timeout);
        }
        pauses.push(holder.now.since(asked_at).as_millis());
    }
    assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1000]);
}

/// As when a person overrides the first before it has begun.
#[test]
fn a_permit_that_takes_the_place_of_another_is_asked_for_by_itself() {
    let mut holder = Holder::new(None);
    holder.told();
    holder.runs(Some(Holder::old()));
    holder.granted();
    assert!(holder.asked().is_some());
    holder.proposals.clear();
    let other = PermitId { granted_at: LogIndex(12), ordinal: 0 };
    holder.assignment.lease = Some(Lease { id: other, ..leased(PermitPhase::Granted) });
    holder.told();
    holder.passes(3);
    assert!(holder.asked().is_none(), "this question is not on disk");
    holder.noted();
    assert!(holder.asked().is_some());
}

/// The disk of a life that has not begun yet, put back when the permit has: the life that follows is
/// numbered like the one that would have followed a crash before the step.
#[test]
fn a_disk_that_does_not_tell_of_a_question_denies_no_move() {
    let mut holder = Holder::new(None);
    holder.granted_at(EARLIER);
    holder.runs(Some(Holder::new_release()));
    holder.passes(20);
    assert!(!holder.handed_back());
    holder.echoed();
    holder.confirmed(0);
    holder.passes(2);
    assert!(holder.proved());
}

/// Its permit is closed, and its service ran on when the older disk came.
#[test]
fn a_disk_put_back_that_tells_of_an_older_release_is_brought_up_to_what_runs() {
    let mut holder = Holder::new(None);
    holder.told();
    holder.runs(Some(Holder::new_release()));
    assert_eq!(holder.journals.last().unwrap().1.installed, Some(Holder::new_release()));
    holder.take(Input::Service(web(), ServiceEvent::Exited { reason: "x".into() }));
    holder.passes(5);
    assert!(holder.actions.iter().all(|it| !matches!(it, ServiceAction::Start { .. })), "on disk?");
    holder.confirmed(0);
    holder.passes(5);
    let release = Holder::new_release();
    assert!(holder.actions.contains(&ServiceAction::Start { release }));
    holder.take(Input::Service(web(), ServiceEvent::Started { release }));
    holder.probed();
    holder.passes(2);
    assert_eq!(holder.condition(), Some(Condition::Available));
}

/// A disk put back under a service that ran on, on a node that has joined anew meanwhile.
#[test]
fn a_new_member_stops_what_it_is_not_to_run_whatever_its_disk_says() {
    let mut holder = Holder::new(None);
    holder.assignment.standing = Standing::New;
    holder.told();
    holder.runs(Some(Holder::new_release()));
    assert!(holder.actions.contains(&ServiceAction::Stop));
    holder.take(Input::Service(web(), ServiceEvent::Exited { reason: "stopped".into() }));
    holder.confirmed(0);
    let release = Holder::old();
    assert!(holder.actions.contains(&ServiceAction::Start { release }));
    holder.take(Input::Service(web(), ServiceEvent::Started { release }));
    holder.probed();
    holder.passes(2);
    let enrolls =
        |it: &Command| matches!(it, Command::Enroll { release: it, .. } if *it == release);
    assert!(holder.proposals.iter().any(enrolls));
}

/// Its rollout is over, and it has nothing to do.
fn handed_back_by_a_disk_that_has(step: Step, running: ReleaseId) -> bool {
    let mut holder = Holder::run_by(step, None);
    holder.assignment.lease = Some(Lease { may_start: false, ..leased(EARLIER) });
    holder.told();
    holder.runs(Some(running));
    holder.passes(20);
    holder.handed_back()
}

#[test]
fn a_disk_that_tells_of_the_last_question_and_of_no_move_hands_the_permit_back() {
    let asked = |life| Step::Asked(PERMIT, Incarnation(life));
    assert!(handed_back_by_a_disk_that_has(asked(1), Holder::old()));
    assert!(
        !handed_back_by_a_disk_that_has(asked(0), Holder::old()),
        "another life has begun since"
    );
    assert!(!handed_back_by_a_disk_that_has(asked(1), Holder::new_release()), "it was moved");
    let other = PermitId { granted_at: LogIndex(3), ordinal: 0 };
    assert!(!handed_back_by_a_disk_that_has(Step::Asked(other, Incarnation(1)), Holder::old()));
}

/// The word may be on its way for long, and would be a lie.
#[test]
fn who_has_said_that_it_never_began_does_not_begin_when_its_service_dies() {
    let mut holder = Holder::new(None);
    holder.told();
    holder.runs(Some(Holder::old()));
    holder.granted();
    let first = holder.asked().unwrap();
    holder.passes(6);
    holder.granted_at(PermitPhase::Begun { incarnation: LIFE, nonce: first }); // too late
    holder.passes(6);
    assert!(holder.handed_back());
    holder.proposals.clear();
    holder.take(Input::Service(web(), ServiceEvent::Exited { reason: "x".into() }));
    holder.passes(12);
    assert!(holder.handed_back());
    assert!(holder.asked().is_none());
}

#[test]
fn a_service_that_dies_before_the_question_is_on_disk_is_started_again() {
    let mut holder = Holder::new(None);
    holder.told();
    holder.runs(Some(Holder::old()));
    holder.granted_at(PermitPhase::Granted);
    holder.take(Input::Service(web(), ServiceEvent::Exited { reason: "x".into() }));
    holder.passes(2);
    assert!(holder.actions.contains(&ServiceAction::Start { release: Holder::old() }));
    assert!(holder.asked().is_none());
}

#[test]
fn an_older_journal_that_reaches_the_disk_lets_nothing_be_asked() {
    let mut holder = Holder::new(Some(PermitId { granted_at: LogIndex(3), ordinal: 0 }));
    holder.told();
    holder.runs(Some(Holder::old()));
    assert_eq!(holder.journals.len(), 1, "an override is taken note of");
    holder.granted_at(PermitPhase::Granted);
    holder.confirmed(0);
    assert!(holder.asked().is_none());
    holder.noted();
    assert!(holder.asked().is_some());
}

#[test]
fn a_disk_that_takes_longer_than_an_echo_may_makes_the_holder_ask_again() {
    let mut holder = Holder::new(None);
    holder.told();
    holder.runs(Some(Holder::old()));
    holder.granted();
    let first = holder.asked();
    holder.echoed();
    holder.passes(6);
    holder.confirmed(0);
    assert!(!holder.drains(), "on evidence that is old by now");
    let condition = holder.condition();
    assert!(!matches!(condition, Some(Condition::Moving { .. })), "{condition:?}");
    holder.noted();
    assert!(holder.asked() > first, "the log takes no lower number");
    holder.echoed();
    holder.confirmed(1);
    assert!(holder.drains());
}

/// The state that a daemon kept may be seconds older than its last permit.
#[test]
fn nothing_is_forgotten_on_the_word_of_a_log_that_does_not_know_this_life() {
    let mut holder = Holder::new(Some(PERMIT));
    holder.life = Incarnation(1);
    holder.told();
    holder.runs(Some(Holder::new_release()));
    assert!(holder.journals.is_empty(), "that a permit has begun is forgotten");
    holder.life = LIFE;
    holder.granted();
    holder.passes(2);
    assert!(!holder.handed_back(), "it did begin");
}

#[test]
fn nothing_is_installed_on_the_word_of_a_log_that_does_not_know_this_life() {
    let mut holder = Holder::new(None);
    holder.assignment.standing = Standing::New;
    holder.assignment.installable = Some(Holder::new_release());
    holder.life = Incarnation(1);
    holder.told();
    holder.runs(Some(Holder::old()));
    assert!(!holder.actions.contains(&ServiceAction::Stop), "it may count by now");
    holder.life = LIFE;
    holder.told();
    assert!(holder.actions.contains(&ServiceAction::Stop));
}

#[test]
fn a_service_that_crashes_while_its_node_asks_is_started_again() {
    let mut holder = Holder::new(None);
    holder.told();
    holder.runs(Some(Holder::old()));
    holder.granted();
    holder.take(Input::Service(web(), ServiceEvent::Exited { reason: "x".into() }));
    holder.passes(2);
    assert!(holder.actions.contains(&ServiceAction::Start { release: Holder::old() }));
}

/// The leader lets one go on that is out of action, whatever else is. A service that its daemon has just
/// found is not proven ready either, and serves; and so it does where an earlier life came no further than
/// to write down that it moves.
#[test]
fn a_holder_says_that_it_goes_on_only_where_its_service_is_out_of_action() {
    let old = Some(Holder::old());
    let of_journal = [(Some(PERMIT), None, true), (Some(PERMIT), old, false), (None, old, false)];
    for (begun, runs, goes_on) in of_journal {
        let mut holder = Holder::new(begun);
        holder.granted();
        holder.runs(runs);
        let condition = holder.condition().unwrap();
        assert_eq!(matches!(condition, Condition::Moving { .. }), goes_on, "{condition:?}");
        assert!(!condition.is_available());
    }
    let mut holder = Holder::new(Some(PERMIT));
    holder.granted();
    holder.take(Input::Service(web(), ServiceEvent::Found { running: old }));
    assert_eq!(holder.condition(), Some(Condition::Unseen));
    holder.take(Input::Service(web(), ServiceEvent::Probed(Err("status 503".to_owned()))));
    assert!(matches!(holder.condition(), Some(Condition::Moving { .. })));
}

/// It may be what another one waits for that is out.
#[test]
fn who_serves_whatever_an_earlier_life_began_gives_its_permit_back_once_that_is_proven() {
    let text = "[run]\ncommand = ['x']\nstop_timeout = '15s'\n[ready]\ntcp = '127.0.0.1:80'";
    let service = parse(text).unwrap().spec;
    let mut holder = Holder::of(Some(PERMIT), service.as_ref());
    holder.granted_at(EARLIER);
    holder.runs(Some(Holder::old()));
    holder.passes(14);
    assert!(holder.asked().is_some());
    assert_eq!(holder.given_back(), None, "a stop may be under way");
    holder.passes(2);
    assert_eq!(holder.given_back(), Some((Holder::old(), EARLIER_NONCE)));
    holder.proposals.clear();
    holder.take(Input::Service(web(), ServiceEvent::Exited { reason: "x".into() }));
    holder.passes(3);
    assert_eq!(holder.given_back(), None, "it serves no more");
    assert!(holder.asked().is_some(), "it goes on");
}

/// A person states that the node is fenced, which it is not, and the leader grants anew at once.
#[test]
fn a_permit_that_takes_the_place_of_one_under_way_begins_like_any_other() {
    let text = "[run]\ncommand = ['x']\n[ready]\ntcp = '127.0.0.1:80'\n\
                [drain]\nbalancer_delay = '3s'";
    let mut holder = Holder::of(None, parse(text).unwrap().spec.as_ref());
    holder.told();
    holder.runs(Some(Holder::old()));
    holder.granted();
    holder.echoed();
    holder.confirmed(0);
    assert!(holder.drains());
    holder.proposals.clear();
    holder.actions.clear();
    let other = PermitId { granted_at: LogIndex(12), ordinal: 0 };
    let release = signed(3).id();
    holder.assignment.lease = Some(Lease { id: other, release, ..leased(PermitPhase::Granted) });
    holder.told();
    holder.passes(30);
    assert!(!holder.drains() && !holder.actions.contains(&ServiceAction::Stop));
    assert_ne!(holder.condition(), None);
    assert!(!matches!(holder.condition(), Some(Condition::Moving { .. })));
}

/// Or a leader might take a service that was not probed yet for one that is alive and not ready.
#[test]
fn a_service_that_nobody_has_looked_at_yet_is_not_called_unready() {
    let mut holder = Holder::new(None);
    holder.granted();
    holder.take(Input::Service(web(), ServiceEvent::Found { running: Some(Holder::old()) }));
    assert_eq!(holder.condition(), Some(Condition::Unseen));
    holder.take(Input::Service(web(), ServiceEvent::Probed(Err("status 503".to_owned()))));
    let reason = "status 503".to_owned();
    assert_eq!(holder.condition(), Some(Condition::Unready { reason }));
    holder.take(Input::Service(web(), ServiceEvent::Probed(Ok(()))));
    assert_eq!(holder.condition(), Some(Condition::Settling));
}

#[test]
fn who_asks_in_vain_hands_its_permit_back() {
    let mut holder = Holder::new(None);
    holder.told();
    holder.runs(Some(Holder::old()));
    holder.granted();
    holder.passes(9);
    assert!(!holder.handed_back());
    holder.passes(2);
    assert!(holder.handed_back());
}

#[test]
fn a_service_that_is_not_ready_within_its_deadline_fails() {
    let mut holder = Holder::new(None);
    holder.starts();
    holder.passes(59);
    assert!(!holder.failed());
    holder.passes(5);
    assert!(holder.failed());
}

#[test]
fn a_deadline_that_passed_while_the_machine_slept_is_no_failure() {
    let mut holder = Holder::new(None);
    holder.starts();
    holder.now = holder.now.after(Duration::from_secs(3600));
    holder.take(Input::Timeout);
    holder.passes(1);
    holder.take(Input::Service(web(), ServiceEvent::Probed(Ok(()))));
    holder.passes(2);
    assert!(!holder.failed() && holder.proved());
}

/// Its rollout may have been aborted: then nobody could resume it, and nothing else would end its permit.
#[test]
fn a_service_that_gets_ready_after_it_failed_is_proven_still() {
    let mut holder = Holder::new(None);
    holder.starts();
    holder.passes(64);
    assert!(holder.failed());
    if let Some(lease) = &mut holder.assignment.lease {
        (lease.failed, lease.may_start) = (true, false);
    }
    holder.told();
    holder.take(Input::Service(web(), ServiceEvent::Probed(Ok(()))));
    holder.passes(2);
    assert!(holder.proved());
}

#[test]
fn what_was_ready_before_a_machine_slept_is_no_evidence() {
    let mut holder = Holder::new(None);
    holder.told();
    holder.runs(Some(Holder::old()));
    holder.passes(2);
    assert_eq!(holder.condition(), Some(Condition::Available));
    holder.now = holder.now.after(Duration::from_secs(3600));
    holder.take(Input::Asked(1, Question(1)));
    assert_eq!(holder.condition(), Some(Condition::Unseen));
}

/// A balancer may keep a proof waiting for long.
#[test]
fn each_sleep_in_a_proof_is_followed_by_a_look() {
    let mut holder = Holder::new(None);
    holder.assignment.min_healthy = Duration::from_secs(60);
    holder.starts();
    for _ in 0..2 {
        holder.now = holder.now.after(Duration::from_secs(3600));
        holder.take(Input::Timeout);
        assert!(!holder.failed());
        holder.probed();
        holder.passes(10);
    }
    holder.passes(60);
    assert!(!holder.failed() && holder.proved());
}

#[test]
fn what_a_machine_sleeps_is_no_time_that_its_service_was_ready() {
    let mut holder = Holder::new(None);
    holder.starts();
    holder.probed();
    holder.now = holder.now.after(Duration::from_secs(3600));
    holder.take(Input::Timeout);
    assert!(!holder.proved(), "nobody has looked for an hour");
    holder.probed();
    assert!(!holder.proved(), "it is ready anew since now");
    holder.passes(1);
    assert!(holder.proved());
}

/// Its rollout may have been aborted: then nobody could resume it.
#[test]
fn a_service_that_died_after_it_failed_is_started_again() {
    let mut holder = Holder::new(None);
    holder.starts();
    holder.take(Input::Service(web(), ServiceEvent::Exited { reason: "killed".into() }));
    assert!(holder.failed());
    if let Some(lease) = &mut holder.assignment.lease {
        (lease.failed, lease.may_start) = (true, false);
    }
    holder.told();
    holder.actions.clear();
    holder.passes(5);
    let release = Holder::new_release();
    assert_eq!(holder.actions, [ServiceAction::Start { release }]);
    holder.take(Input::Service(web(), ServiceEvent::Started { release }));
    holder.probed();
    holder.passes(2);
    assert!(holder.proved());
}

/// The rollout turns back while the old release drains: that has been ready all along, and the balancer
/// does not send to it yet.
#[test]
fn a_balancer_that_nobody_reads_has_its_time_after_a_drain_that_is_called_off() {
    let text = "[run]\ncommand = ['./web']\n[ready]\ntcp = '127.0.0.1:1'\n\
                [drain]\nbalancer_delay = '3s'";
    let spec = parse(text).unwrap().spec;
    let mut holder = Holder::of(None, spec.as_ref());
    holder.told();
    holder.runs(Some(Holder::old()));
    holder.passes(60);
    holder.granted();
    holder.echoed();
    holder.confirmed(0);
    assert!(holder.drains());
    if let Some(lease) = &mut holder.assignment.lease {
        lease.release = Holder::old();
    }
    holder.told();
    holder.passes(2);
    assert!(!holder.proved(), "its balancer was told to send 2 s ago");
    holder.passes(1);
    assert!(holder.proved());
}
