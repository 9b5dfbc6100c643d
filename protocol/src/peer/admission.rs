//! How a node gets into the mesh: whom it asks, how often, and who passes the wish on.

use core::time::Duration;

use crate::fleet::command::{Candidate, Command};
use crate::id::NodeId;
use crate::peer::Peer;
use crate::peer::event::{Note, Output};
use crate::peer::requests::Asker;
use crate::time::Instant;
use crate::wire::Message;

/// Pause after a no. What it was said for may pass, as a clock that was wrong or a name that gets free,
/// and each asking is an entry in the log.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(30);

/// How far a node is with asking to be let in.
#[derive(Debug, Default)]
pub(super) struct Application {
    /// Whom it asked last: one that sleeps, or that is itself no member yet, never answers.
    asked: Option<NodeId>,
    /// It was told no, and says nothing until then.
    silent_until: Instant,
}

impl Application {
    /// Whom to ask next: each of the connected in turn.
    fn next(&self, connected: impl Iterator<Item = NodeId>) -> Option<NodeId> {
        let all: Vec<_> = connected.collect();
        let after = all.iter().find(|node| self.asked.is_none_or(|asked| **node > asked));
        after.or(all.first()).copied()
    }

    fn is_silent(&self, now: Instant) -> bool {
        now < self.silent_until
    }
}

impl Peer {
    pub(super) fn is_member(&self) -> bool {
        self.fleet().members().contains_key(&self.config.node)
    }

    /// Asks one of the connected to let this node in.
    pub(super) fn apply(&mut self, now: Instant) {
        if let Some(node) = self.application.next(self.sessions.members()) {
            self.apply_to(now, node);
        }
    }

    pub(super) fn apply_to(&mut self, now: Instant, node: NodeId) {
        if !self.life_kept || self.application.is_silent(now) {
            return;
        }
        self.application.asked = Some(node);
        let candidate = self.candidate(self.incarnation);
        self.send(node, &Message::Apply(candidate));
    }

    pub(super) fn take_application(&mut self, now: Instant, from: NodeId, candidate: Candidate) {
        if candidate.certificate.node != from || self.requests.has_candidate(from) {
            return;
        }
        if self.fleet().members().contains_key(&from) {
            return self.send(from, &Message::Verdict(Ok(())));
        }
        // Where nobody leads, the candidate asks again.
        self.requests.add(now, Asker::Candidate(from), Command::Admit(candidate));
    }

    pub(super) fn take_verdict(&mut self, now: Instant, verdict: Result<(), String>) {
        // Others that were asked too may say no after one has let it in.
        if let Err(reason) = verdict
            && !self.is_member()
        {
            self.application.silent_until = now.after(PAUSE_AFTER_REFUSAL);
            self.outputs.push_back(Output::Note(Note::NotAdmitted { reason }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(byte: u8) -> NodeId {
        NodeId([byte; 32])
    }

    #[test]
    fn everybody_is_asked_in_turn() {
        let connected = [node(1), node(4), node(9)];
        let mut application = Application::default();
        let mut asked = Vec::new();
        for _ in 0..4 {
            application.asked = application.next(connected.into_iter());
            asked.extend(application.asked);
        }
        assert_eq!(asked, [node(1), node(4), node(9), node(1)]);
        assert_eq!(application.next(core::iter::empty()), None);
    }
}
