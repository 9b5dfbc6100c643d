//! The log's part of a node: its voter, and the coordinator while it leads.

use crate::agent;
use crate::codec;
use crate::consensus::{self, Role, Voter};
use crate::coordinator::{self, Coordinator, voters::VoterStep};
use crate::disk::{Key, Write};
use crate::fleet::Applied;
use crate::fleet::command::{Command, Envelope, Proof};
use crate::fleet::event::Event;
use crate::id::NodeId;
use crate::machine::Machine as _;
use crate::membership;
use crate::mutant::{self, Mutant};
use crate::peer::event::{Note, Output};
use crate::peer::requests::{Asker, OWN};
use crate::peer::untold::Untold;
use crate::peer::{Owner, Peer};
use crate::replica;
use crate::time::Instant;
use crate::wire::Message;

impl Peer {
    /// Puts a command into the log where this node leads, else sends it to who does. Lost without a
    /// word where nobody is known to lead, or this life is not on disk yet; who cares asks again.
    pub(super) fn propose(&mut self, now: Instant, request: u64, command: Command) {
        match self.leader.filter(|_| self.life_kept) {
            Some(leader) if leader == self.config.node => {
                let me = self.config.node;
                if let Err(obstacle) = self.lead(now, me, request, command) {
                    self.not_taken(now, request, obstacle);
                }
            }
            Some(leader) => self.send(leader, &Message::Propose(request, command)),
            None => {}
        }
    }

    /// As the leader: puts into the log what `by` asks for. Silence is no consent: what the evidence
    /// does not allow is not proposed.
    pub(super) fn lead(
        &mut self,
        now: Instant,
        by: NodeId,
        request: u64,
        command: Command,
    ) -> Result<(), String> {
        let Some(coordinator) = &self.coordinator else {
            return Err("this node does not lead the log".to_owned());
        };
        if let Command::Begin { permit, .. } = &command
            && !mutant::active(Mutant::BeginWithoutEvidence)
            && !coordinator.may_begin(now, self.replica.fleet(), by, *permit)
        {
            return Err("the evidence does not allow it now".to_owned());
        }
        if let Command::Close { permit, proof: Proof::Ready { .. } | Proof::Serves { .. }, .. } =
            &command
            && !coordinator.may_close(now, self.replica.fleet(), by, *permit)
        {
            return Err("its balancer is not seen to send to it yet".to_owned());
        }
        self.append(now, by, request, command);
        Ok(())
    }

    /// The leader has not taken what this node proposed: a person's request, or its agent's.
    pub(super) fn not_taken(&mut self, now: Instant, request: u64, obstacle: String) {
        if request == OWN {
            self.agent.handle(now, agent::Input::NotTaken);
        } else {
            self.requests.hindered(request, obstacle);
        }
    }

    fn append(&mut self, now: Instant, by: NodeId, request: u64, command: Command) {
        let envelope = Envelope { by, request, at: self.wall_clock, command };
        let command = codec::encode(&envelope);
        if let Some(voter) = &mut self.voter {
            voter.handle(now, consensus::Input::Propose { handle: request, command });
        }
    }

    /// What any member may ask the leader for. The rest is the leader's own to say.
    pub(super) fn take_proposal(
        &mut self,
        now: Instant,
        from: NodeId,
        request: u64,
        command: Command,
    ) {
        let own = matches!(
            command,
            Command::Found { .. } | Command::Decide(_) | Command::AllotVoter { .. }
        );
        let result = if own {
            Err("only the leader says that".to_owned())
        } else {
            self.lead(now, from, request, command)
        };
        if let Err(reason) = result {
            self.send(from, &Message::NotProposed(request, reason));
        }
    }

    pub(super) fn wake_coordinator(&mut self, now: Instant) {
        let Some(coordinator) = &mut self.coordinator else { return };
        if coordinator.poll_timeout().is_some_and(|at| at <= now) {
            if let Some(voter) = &self.voter {
                let progress = voter.progress();
                let input = coordinator::Input::Voters(progress);
                coordinator.handle(now, self.replica.fleet(), input);
            }
            coordinator.handle(now, self.replica.fleet(), coordinator::Input::Timeout);
        }
    }

    pub(super) fn collect_voter(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(output) = self.voter.as_mut().and_then(|voter| voter.poll_output()) {
            any = true;
            self.take_voter_output(now, output);
        }
        any
    }

    fn take_voter_output(&mut self, now: Instant, output: consensus::Output) {
        use consensus::Output as Out;
        match output {
            Out::Persist(batch) => {
                let Some(id) = self.voter.as_ref().map(Voter::id) else { return };
                self.track_entries(&batch.writes);
                self.persist(Owner::Voter(id, batch.token), batch.writes);
            }
            Out::Send { to, message } => self.send(to, &Message::Voter(message)),
            Out::Committed { index, entry, .. } => {
                self.replica.handle(now, replica::Input::Committed(index, entry));
            }
            Out::Install { index, snapshot, .. } => {
                self.replica.handle(now, replica::Input::Install(index, snapshot));
            }
            Out::WantSnapshot { at } => self.give_snapshot(now, at),
            Out::NeedSnapshot { from, index, hash, length } => {
                self.replica.handle(now, replica::Input::Fetch { from, index, hash, length });
            }
            Out::Role(role) => self.take_role(now, role),
            Out::Stranger { voter, node } => {
                let known = self.fleet().members().get(&node).and_then(|member| member.voter);
                if known == Some(voter) {
                    self.introduce(now);
                }
            }
            Out::Failed(reason) => {
                self.failed_voter = self.voter.take().map(|voter| voter.id());
                self.take_role(now, Role::Follower { leader: None });
                self.outputs.push_back(Output::Note(Note::ControlFailed { reason }));
            }
            // Learned from the log, or asked again.
            Out::Proposed { .. } | Out::Rejected { .. } | Out::Refused(_) => {}
        }
    }

    fn give_snapshot(&mut self, now: Instant, at: crate::id::LogIndex) {
        if self.replica.fleet().applied() == at {
            let (index, _, data) = self.replica.snapshot();
            let input = consensus::Input::SnapshotReady { index, data: data.to_vec() };
            if let Some(voter) = &mut self.voter {
                voter.handle(now, input);
            }
        }
    }

    fn take_role(&mut self, now: Instant, role: Role) {
        self.role = role;
        let led = self.coordinator.as_ref().map(|coordinator| coordinator.evidence().term());
        let leads = match role {
            Role::Leader { term } => Some(term),
            Role::Follower { .. } | Role::Candidate => None,
        };
        if leads != led {
            self.coordinator = leads.map(|term| Coordinator::new(now, term));
            self.house.untold = Untold::all();
            self.replica.handle(now, replica::Input::Lead(leads.is_some()));
        }
        match role {
            Role::Leader { .. } => self.set_leader(now, Some(self.config.node)),
            Role::Follower { leader } => self.set_leader(now, leader),
            Role::Candidate => self.set_leader(now, None),
        }
    }

    /// Whether this node's voter takes part in the consensus, so that it knows the leader from there.
    /// One that was allotted an id and never called hears nothing, and follows like any other node.
    pub(super) fn has_seat(&self) -> bool {
        self.voter.as_ref().is_some_and(|voter| voter.membership().node(voter.id()).is_some())
    }

    pub(super) fn set_leader(&mut self, now: Instant, leader: Option<NodeId>) {
        if self.leader == leader {
            return;
        }
        self.leader = leader;
        self.leader_term = match self.role {
            Role::Leader { term } => term,
            // Not known until the new leader asks, and never older than what is known where this
            // node only follows.
            _ if self.has_seat() => 0,
            _ => self.leader_term,
        };
        self.membership.handle(now, membership::Input::Leader(leader));
        self.outputs.push_back(Output::Note(Note::Leader(leader)));
        self.tell_head(now);
    }

    /// Tells the voter which node each voter's id belongs to, as the log has it.
    pub(super) fn introduce(&mut self, now: Instant) {
        let fleet = self.replica.fleet();
        let allotted = fleet.members().iter().filter_map(|(node, it)| Some((it.voter?, *node)));
        let mut known: std::collections::BTreeMap<_, _> = allotted.collect();
        known.extend(fleet.voters().all());
        if let Some(voter) = &mut self.voter {
            voter.handle(now, consensus::Input::Introduce(known));
        }
    }

    /// Becomes the voter that the log has allotted to this node, or stops being one that it was.
    pub(super) fn follow_voters(&mut self, now: Instant) {
        let fleet = self.replica.fleet();
        let me = self.config.node;
        let allotted = fleet.members().get(&me).and_then(|member| member.voter);
        let seated = fleet.voters().all().find(|(_, node)| *node == me).map(|(id, _)| id);
        let Some(id) = seated.or(allotted) else {
            // A voter's id is the place in the log where it was allotted: a fleet that is not there
            // yet knows nothing of it.
            let told = |voter: &Voter| self.fleet().applied().0 >= voter.id().0;
            if self.voter.as_ref().is_some_and(told) {
                self.retire(now);
            }
            return;
        };
        let present = self.voter.as_ref().map(Voter::id);
        if present < Some(id) && self.may_become(id) {
            self.become_voter(now, id);
        }
    }

    /// A voter that had a seat and is gone, its disk lost or its library having given up, must not come
    /// back under its id with an empty log: it would vote away what it has helped to commit. It is
    /// replaced, and then allotted another id. Nor does a life that the log has not confirmed, which
    /// may be that of an old disk, become a voter.
    fn may_become(&self, id: crate::id::VoterId) -> bool {
        let fleet = self.replica.fleet();
        let voters = fleet.voters();
        let had_seat = voters.voters.contains_key(&id) || voters.outgoing.contains_key(&id);
        let member = fleet.members().get(&self.config.node);
        let confirmed = member.is_some_and(|member| member.incarnation == self.incarnation);
        confirmed && !had_seat && self.failed_voter != Some(id)
    }

    fn become_voter(&mut self, now: Instant, id: crate::id::VoterId) {
        self.forget_log();
        let settings = consensus::Config::with_tail(self.rng.next_u64(), self.config.log_tail);
        if let Ok(voter) = Voter::join(settings, id, self.config.node, now) {
            self.voter = Some(voter);
            self.introduce(now);
            let connected: Vec<_> = self.sessions.members().collect();
            for node in connected {
                self.tell_voter(now, consensus::Input::PeerConnected(node));
            }
        }
    }

    fn retire(&mut self, now: Instant) {
        self.voter = None;
        self.forget_log();
        self.take_role(now, Role::Follower { leader: self.leader });
    }

    /// Clears what an earlier voter of this disk kept: a new voter starts with nothing.
    fn forget_log(&mut self) {
        let entries = core::mem::take(&mut self.kept_entries).into_iter().map(Key::Entry);
        let gone = [Key::Voter, Key::HardState, Key::Snapshot].into_iter().chain(entries);
        let writes = gone.map(|key| (key, None)).collect();
        self.voter = None;
        self.persist(Owner::Nobody, writes);
    }

    fn track_entries(&mut self, writes: &[Write]) {
        for (key, value) in writes {
            match (key, value) {
                (Key::Entry(index), Some(_)) => self.kept_entries.insert(*index),
                (Key::Entry(index), None) => self.kept_entries.remove(index),
                _ => false,
            };
        }
    }

    pub(super) fn tell_voter(&mut self, now: Instant, input: consensus::Input) {
        if let Some(voter) = &mut self.voter {
            voter.handle(now, input);
        }
    }

    pub(super) fn collect_coordinator(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(output) = self.coordinator.as_mut().and_then(Coordinator::poll_output) {
            any = true;
            match output {
                coordinator::Output::Ask(question) => self.ask_everybody(now, question),
                coordinator::Output::Propose(command) | coordinator::Output::Decide(_, command) => {
                    let me = self.config.node;
                    self.append(now, me, OWN, command);
                }
                coordinator::Output::Tell(holder, permit, word) => {
                    self.tell_holder(now, holder, permit, word);
                }
                coordinator::Output::Voters(step) => self.change_voters(now, step),
            }
        }
        any
    }

    fn change_voters(&mut self, now: Instant, step: VoterStep) {
        let input = match step {
            VoterStep::AddLearner(voter, node) => consensus::Input::AddLearner { voter, node },
            VoterStep::Replace { promote, remove } => {
                consensus::Input::ReplaceVoters { promote, remove }
            }
            VoterStep::Allot(_) => return,
        };
        self.introduce(now);
        self.tell_voter(now, input);
    }

    /// An entry of the log was applied here.
    pub(super) fn applied(&mut self, now: Instant, applied: &Applied) {
        self.house.untold.note(self.config.node, applied);
        if let Some((by, request)) = applied.origin
            && by == self.config.node
            && request != OWN
        {
            self.answer(request, applied);
        }
        let outcome = applied.outcome.as_deref().unwrap_or_default();
        let groups = outcome.iter().filter_map(|event| match event {
            Event::RolloutChanged(rollout) => Some(*rollout),
            _ => None,
        });
        let rollouts: Vec<_> = groups.collect();
        for rollout in rollouts {
            self.note_rollout(rollout);
        }
        if let (Some(coordinator), Some((by, _))) = (&mut self.coordinator, applied.origin)
            && by == self.config.node
        {
            let names: Vec<_> = self.replica.fleet().groups().keys().cloned().collect();
            for name in names {
                let input = coordinator::Input::Decided(name);
                coordinator.handle(now, self.replica.fleet(), input);
            }
        }
    }

    fn note_rollout(&mut self, id: crate::id::RolloutId) {
        let all = self.fleet().groups().values().flat_map(|group| &group.rollouts);
        let Some(rollout) = all.into_iter().find(|rollout| rollout.id == id) else { return };
        let (group, phase) = (rollout.group.clone(), format!("{:?}", rollout.phase));
        self.outputs.push_back(Output::Note(Note::Rollout { group, rollout: id, phase }));
    }

    fn answer(&mut self, request: u64, applied: &Applied) {
        let Some(pending) = self.requests.answered(request) else { return };
        match pending.asker {
            Asker::Person(id) => {
                let answer = super::operate::answer(applied);
                self.outputs.push_back(Output::Answer(id, answer));
            }
            Asker::Candidate(node) => {
                let verdict = applied.outcome.as_ref().map(|_| ()).map_err(ToString::to_string);
                self.send(node, &Message::Verdict(verdict));
            }
        }
    }

    /// The fleet has changed: tells every machine that goes by it.
    pub(super) fn spread_fleet(&mut self, now: Instant) {
        let Untold { roster, brief, .. } = core::mem::take(&mut self.house.untold);
        self.tell_head(now);
        if roster {
            self.follow_roster(now);
            self.follow_voters(now);
        }
        if brief {
            let brief = agent::brief::Brief::of(self.replica.fleet(), self.config.node);
            self.agent.handle(now, agent::Input::Brief(Box::new(brief)));
        }
        if let Some(coordinator) = &mut self.coordinator {
            let input = coordinator::Input::Changed { roster };
            coordinator.handle(now, self.replica.fleet(), input);
        }
    }
}
