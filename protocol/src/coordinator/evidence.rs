//! What the leader knows of the services, and how old that is.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::agent::report::{Condition, Report, ServiceReport};
use crate::fleet::Fleet;
use crate::fleet::group::Group;
use crate::fleet::roster::Member;
use crate::id::{GroupName, Incarnation, NodeId, Question, ReleaseId};
use crate::limits::EVIDENCE_AGE_MAX;
use crate::mutant::{self, Mutant};
use crate::time::Instant;

/// Questions whose time is remembered: more than can be asked while evidence is fresh.
const QUESTIONS_MAX: usize = 32;

/// How long a node is taken to be there twice after its older life was last heard.
const DOUBLE_FOR: Duration = Duration::from_secs(60);

/// Reports, aged from the moment at which the leader asked the question that they answer: a report
/// that was long on its way is old when it comes.
#[derive(Debug)]
pub struct Evidence {
    term: u64,
    last: Question,
    asked: VecDeque<(Question, Instant)>,
    reports: BTreeMap<NodeId, (Instant, Report)>,
    /// Each member's life by the log, and since when it is known here.
    lives: BTreeMap<NodeId, (Incarnation, Instant)>,
    /// Members of which an older life was heard beside the present one, and when last.
    doubles: BTreeMap<NodeId, Instant>,
}

impl Evidence {
    /// Nothing known yet, in the leader's term `term`.
    pub fn new(term: u64) -> Self {
        Self {
            term,
            last: Question::default(),
            asked: VecDeque::new(),
            reports: BTreeMap::new(),
            lives: BTreeMap::new(),
            doubles: BTreeMap::new(),
        }
    }

    /// The term in which it is gathered.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// A new question, asked at `now`.
    pub fn ask(&mut self, now: Instant) -> Question {
        self.last = self.last.next();
        self.asked.push_back((self.last, now));
        if self.asked.len() > QUESTIONS_MAX {
            self.asked.pop_front();
        }
        self.last
    }

    /// Takes a member's report, and says whether it tells anything new. One that answers no question
    /// of this term is nothing: the same node may have led before, and have asked under the same numbers.
    pub fn take(&mut self, now: Instant, node: NodeId, report: Report) -> bool {
        let (term, question) = report.question;
        let mut of_term = self.asked.iter().filter(|_| term == self.term);
        let Some((_, asked_at)) = of_term.find(|(asked, _)| *asked == question) else {
            return false;
        };
        let older = |(life, since): &(Incarnation, Instant)| {
            report.incarnation < *life && *asked_at > *since
        };
        if self.lives.get(&node).is_some_and(older) {
            self.doubles.insert(node, now).is_none()
        } else {
            // A word after a long silence is news, whatever it says.
            let news = self.reports.get(&node).is_none_or(|(at, last)| {
                asked_at.since(*at) > EVIDENCE_AGE_MAX || !last.says_the_same(&report)
            });
            self.reports.insert(node, (*asked_at, report));
            news
        }
    }

    /// Follows the roster: who is a member, and in which life.
    pub fn follow(&mut self, now: Instant, fleet: &Fleet) {
        self.reports.retain(|node, _| fleet.members().contains_key(node));
        self.lives.retain(|node, _| fleet.members().contains_key(node));
        self.doubles.retain(|node, _| fleet.members().contains_key(node));
        for (node, member) in fleet.members() {
            let known = self.lives.get(node).is_some_and(|(life, _)| *life == member.incarnation);
            if !known {
                self.lives.insert(*node, (member.incarnation, now));
            }
        }
    }

    /// Whether two lives of `node` answer at the same time: its disk was cloned or restored, and
    /// neither is to move anything.
    pub fn is_double(&self, now: Instant, node: NodeId) -> bool {
        self.doubles.get(&node).is_some_and(|heard| now.since(*heard) <= DOUBLE_FOR)
    }

    /// The last report of `node`, however old.
    pub fn last_report(&self, node: NodeId) -> Option<&Report> {
        self.reports.get(&node).map(|(_, report)| report)
    }

    /// The report of `node`, if it is fresh and of the life that the log knows.
    pub fn fresh(&self, now: Instant, fleet: &Fleet, node: NodeId) -> Option<&Report> {
        is_fresh(now, fleet.members().get(&node)?, self.reports.get(&node)?)
    }

    /// The fresh reports of `nodes`, which must be in their order: all of a large mesh are gone through at once
    /// in a tenth of the time that it takes to look each of them up.
    fn fresh_of<'a>(
        &'a self,
        now: Instant,
        fleet: &'a Fleet,
        nodes: impl Iterator<Item = NodeId>,
    ) -> impl Iterator<Item = (NodeId, Option<&'a Report>)> {
        let mut reports = self.reports.iter().peekable();
        let mut members = fleet.members().iter().peekable();
        nodes.map(move |node| {
            while reports.next_if(|(other, _)| **other < node).is_some() {}
            while members.next_if(|(other, _)| **other < node).is_some() {}
            let report = reports.peek().filter(|(other, _)| **other == node);
            let member = members.peek().filter(|(other, _)| **other == node);
            let both = member.zip(report);
            (node, both.and_then(|((_, member), (_, report))| is_fresh(now, member, report)))
        })
    }

    /// What `node` says of its service in `group`, freshly.
    pub fn service(
        &self,
        now: Instant,
        fleet: &Fleet,
        group: &GroupName,
        node: NodeId,
    ) -> Option<&ServiceReport> {
        self.fresh(now, fleet, node)?.services.get(group)
    }

    /// Whether `node` is proven to run `release`, and to serve.
    pub fn serves(
        &self,
        now: Instant,
        fleet: &Fleet,
        group: &GroupName,
        node: NodeId,
        release: ReleaseId,
    ) -> bool {
        self.service(now, fleet, group, node).is_some_and(|service| {
            service.condition.is_available() && service.release == Some(release)
        })
    }

    /// Whether `node` is proven available: by its own word, and by the balancers where those are read.
    pub fn is_available(
        &self,
        now: Instant,
        fleet: &Fleet,
        group: &GroupName,
        node: NodeId,
    ) -> bool {
        let service = self.service(now, fleet, group, node);
        service.is_some_and(|service| service.condition.is_available())
            && self.is_sent_to(now, fleet, group, node)
    }

    /// U: members of `group` that are not proven available.
    pub fn unavailable(
        &self,
        now: Instant,
        fleet: &Fleet,
        name: &GroupName,
        group: &Group,
    ) -> BTreeSet<NodeId> {
        if mutant::active(Mutant::CapOverLiveOnly) {
            return BTreeSet::new();
        }
        let proven = |node: NodeId, report: Option<&Report>| match report {
            None => mutant::active(Mutant::SilenceIsConsent),
            Some(report) => {
                report.services.get(name).is_some_and(|service| service.condition.is_available())
                    && self.is_sent_to(now, fleet, name, node)
            }
        };
        let reports = self.fresh_of(now, fleet, group.counted());
        reports.filter(|(node, report)| !proven(*node, *report)).map(|(node, _)| node).collect()
    }

    /// Why `node` is not available in `group`, for people.
    pub fn complaint(
        &self,
        now: Instant,
        fleet: &Fleet,
        group: &GroupName,
        node: NodeId,
    ) -> String {
        if self.is_double(now, node) {
            return "there twice, from a cloned or restored disk: stop one of them".to_owned();
        }
        if self.fresh(now, fleet, node).is_none() {
            return "silent".to_owned();
        }
        match self.service(now, fleet, group, node).map(|service| &service.condition) {
            None | Some(Condition::Absent) => "nothing installed".to_owned(),
            Some(Condition::Available) => "ready".to_owned(),
            Some(Condition::Settling) => "ready for less than min_healthy".to_owned(),
            Some(Condition::Unready { reason }) => format!("not ready: {reason}"),
            Some(Condition::Unseen) => "not looked at yet".to_owned(),
            Some(Condition::Moving { step }) => step.clone(),
            Some(Condition::Dead { reason }) => format!("dead: {reason}"),
        }
    }
}

/// The report, if it is not too old and of the life that the log knows.
fn is_fresh<'a>(
    now: Instant,
    member: &Member,
    (asked_at, report): &'a (Instant, Report),
) -> Option<&'a Report> {
    let young = now.since(*asked_at) <= EVIDENCE_AGE_MAX || mutant::active(Mutant::OldEvidence);
    (young && report.incarnation == member.incarnation).then_some(report)
}
