//! Who hears what: frames to machines, and the outputs of one machine to the inputs of others.

use core::time::Duration;
use std::sync::Arc;

use crate::agent;
use crate::codec;
use crate::consensus;
use crate::coordinator;
use crate::disk::Key;
use crate::fleet::command::Command;
use crate::fleet::group::{Group, Ports};
use crate::gossip::{self, Head};
use crate::id::{GroupName, NodeId, PermitId, Question, ReleaseId};
use crate::limits::CONTROL_FRAME_BYTES_MAX;
use crate::machine::Machine as _;
use crate::membership::{self, Address};
use crate::peer::event::{Note, Output};
use crate::peer::requests::OWN;
use crate::peer::sessions::Standing;
use crate::peer::start::swarm_zone;
use crate::peer::untold::Untold;
use crate::peer::{Owner, Peer};
use crate::replica;
use crate::swarm::{self, ObjectId, Part};
use crate::time::Instant;
use crate::trust;
use crate::trust::certificate::Certificate;
use crate::wire::Message;

/// Pause between two sayings of what the mesh should know of this node and does not yet.
const HOUSE_EVERY: Duration = Duration::from_secs(1);

/// A rollback and a manifest go before other content.
const MANIFEST_PRIORITY: u8 = 1;

impl Peer {
    // --- connections ------------------------------------------------------------------------------

    pub(super) fn connected_to(&mut self, now: Instant, node: NodeId, address: Option<Address>) {
        if let Err(denied) = self.sessions.open(node) {
            return self.hang_up(node, denied.to_string());
        }
        let outbound = address.is_some();
        self.membership.handle(now, membership::Input::Connected { node, address, outbound });
        self.send(node, &Message::Proof(self.config.certificate.clone()));
    }

    pub(super) fn disconnected_from(&mut self, now: Instant, node: NodeId) {
        self.sessions.close(node);
        self.membership.handle(now, membership::Input::Disconnected { node });
        self.replica.handle(now, replica::Input::Down(node));
        self.tell_voter(now, consensus::Input::PeerLost(node));
    }

    fn hang_up(&mut self, node: NodeId, reason: String) {
        self.outputs.push_back(Output::HangUp { node, reason });
    }

    fn take_proof(&mut self, now: Instant, from: NodeId, certificate: &Certificate) {
        let fleet = self.replica.fleet();
        match self.sessions.prove(self.config.mesh, fleet, from, certificate) {
            Err(denied) => self.hang_up(from, denied.to_string()),
            Ok(Standing::Member) => self.admit(now, from),
            // It may ask to be let in, or be in a roster that has not come here yet.
            Ok(_) => self.outputs.push_back(Output::Admit(from)),
        }
    }

    fn admit(&mut self, now: Instant, node: NodeId) {
        self.outputs.push_back(Output::Admit(node));
        self.membership.handle(now, membership::Input::Admitted { node });
        self.tell_voter(now, consensus::Input::PeerConnected(node));
        if !self.is_member() {
            self.apply_to(now, node);
        }
    }

    pub(super) fn follow_roster(&mut self, now: Instant) {
        let fleet = self.replica.fleet();
        if fleet.members().is_empty() {
            return;
        }
        let roster = Arc::clone(self.replica.roster());
        let nodes = roster.len();
        let changed = self.sessions.follow(self.config.node, fleet);
        self.membership.handle(now, membership::Input::Roster(roster));
        self.swarm.handle(now, swarm::Input::MeshSize { nodes });
        for (node, standing) in changed {
            match standing {
                Standing::Member => self.admit(now, node),
                _ => self.hang_up(node, "it is no member of the mesh".to_owned()),
            }
        }
    }

    // --- frames -------------------------------------------------------------------------------------

    pub(super) fn send(&mut self, to: NodeId, message: &Message) {
        let frame = codec::encode(message);
        self.outputs.push_back(Output::Send { to, frame });
    }

    pub(super) fn take_frame(&mut self, now: Instant, from: NodeId, frame: &[u8]) {
        if frame.len() > CONTROL_FRAME_BYTES_MAX {
            return self.hang_up(from, "a frame over the limit".to_owned());
        }
        let message = match codec::decode::<Message>(frame) {
            Ok(message) => message,
            Err(error) => return self.hang_up(from, format!("an unreadable frame: {error}")),
        };
        match (self.sessions.standing(from), message) {
            (None, _) => {}
            (Some(Standing::Unproven), Message::Proof(certificate)) => {
                self.take_proof(now, from, &certificate);
            }
            (Some(Standing::Candidate(_)), Message::Apply(candidate)) => {
                self.take_application(now, from, candidate);
            }
            (Some(Standing::Member), message) => {
                self.membership.handle(now, membership::Input::Heard { node: from });
                self.take_message(now, from, message);
            }
            // Not before its proof, or not before this node's roster has it.
            (Some(Standing::Unproven | Standing::Candidate(_)), _) => {}
        }
    }

    fn take_message(&mut self, now: Instant, from: NodeId, message: Message) {
        match message {
            Message::Proof(_) => {}
            Message::Apply(candidate) => self.take_application(now, from, candidate),
            Message::Verdict(verdict) => self.take_verdict(now, verdict),
            Message::Gossip(message) => {
                self.gossip.handle(now, gossip::Input::Message { from, message });
            }
            Message::Swarm(message) => {
                self.swarm.handle(now, swarm::Input::Message { from, message });
            }
            Message::Voter(message) => {
                self.tell_voter(now, consensus::Input::Message { from, message });
            }
            Message::Log(message) => self.take_log_message(now, from, message),
            Message::Propose(request, command) => self.take_proposal(now, from, request, command),
            Message::NotProposed(request, reason) => {
                if self.leader == Some(from) {
                    self.not_taken(now, request, reason);
                }
            }
            Message::Ask(term, question) => {
                if !self.has_seat() && term >= self.leader_term {
                    self.set_leader(now, Some(from));
                }
                if self.leader == Some(from) {
                    self.leader_term = self.leader_term.max(term);
                    self.agent.handle(now, agent::Input::Asked(term, question));
                }
            }
            Message::Report(report) => self.take_report(now, from, report),
            Message::Balancers(permit, word) => {
                if self.leader == Some(from) {
                    self.agent.handle(now, agent::Input::Word(permit, word));
                }
            }
        }
    }

    fn take_log_message(&mut self, now: Instant, from: NodeId, message: replica::LogMessage) {
        if let replica::LogMessage::PullPiece { hash, .. } = &message {
            // The consensus' own snapshot is asked for by the hash that its leader gave.
            let own = self.voter.as_ref().and_then(consensus::Voter::snapshot);
            let own = own.filter(|(meta, _)| meta.hash == *hash);
            if let Some((meta, bytes)) = own {
                let (index, bytes) = (meta.index, Arc::clone(bytes));
                self.replica.offer(index, *hash, bytes);
            }
        }
        self.replica.handle(now, replica::Input::Message(from, message));
    }

    fn take_report(&mut self, now: Instant, from: NodeId, report: agent::report::Report) {
        if let Some(coordinator) = &mut self.coordinator {
            let input = coordinator::Input::Report(from, report);
            coordinator.handle(now, self.replica.fleet(), input);
        }
    }

    pub(super) fn ask_everybody(&mut self, now: Instant, question: Question) {
        let consensus::Role::Leader { term } = self.role else { return };
        let connected: Vec<_> = self.sessions.members().collect();
        for node in connected {
            self.send(node, &Message::Ask(term, question));
        }
        self.agent.handle(now, agent::Input::Asked(term, question));
    }

    /// As the leader: what the balancers do for the holder of a permit.
    pub(super) fn tell_holder(
        &mut self,
        now: Instant,
        holder: NodeId,
        permit: PermitId,
        word: agent::balancer::Word,
    ) {
        if holder == self.config.node {
            self.agent.handle(now, agent::Input::Word(permit, word));
        } else if self.sessions.is_member(holder) {
            self.send(holder, &Message::Balancers(permit, word));
        }
    }

    /// What a neighbour says of the leader. Many say it long after it has changed: only a newer term
    /// is news, unless this node knows of nobody.
    fn hear_of_leader(&mut self, now: Instant, head: Head) {
        let news = head.term > self.leader_term || self.leader.is_none();
        if self.has_seat() || head.leader.is_none() || !news {
            return;
        }
        self.set_leader(now, head.leader);
        self.leader_term = self.leader_term.max(head.term);
    }

    pub(super) fn tell_head(&mut self, now: Instant) {
        let term = match self.role {
            consensus::Role::Leader { term } => term,
            _ => self.leader_term,
        };
        let head = Head { index: self.fleet().applied(), term, leader: self.leader };
        self.gossip.handle(now, gossip::Input::Head(head));
    }

    // --- from machine to machine ------------------------------------------------------------------

    /// Carries every waiting output one step further; says whether there was any.
    pub(super) fn route(&mut self, now: Instant) -> bool {
        let mut any = self.collect_membership(now);
        any |= self.collect_gossip(now);
        any |= self.collect_swarm(now);
        any |= self.collect_voter(now);
        any |= self.collect_replica(now);
        any |= self.collect_agent(now);
        any |= self.collect_coordinator(now);
        if self.house.untold.any {
            self.spread_fleet(now);
            any = true;
        }
        any
    }

    fn collect_membership(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(output) = self.membership.poll_output() {
            any = true;
            match output {
                membership::Output::Dial { address, expect } => {
                    self.outputs.push_back(Output::Dial { address, expect });
                }
                membership::Output::HangUp { node, reason } => self.hang_up(node, reason),
                membership::Output::Remember(book) => {
                    self.persist(Owner::Nobody, vec![(Key::AddressBook, Some(book.into()))]);
                }
                membership::Output::Up { node } => {
                    self.gossip.handle(now, gossip::Input::Up { node });
                }
                membership::Output::Near { node, zone } => {
                    let zone = swarm_zone(zone.as_ref());
                    self.swarm.handle(now, swarm::Input::PeerUp { node, zone });
                }
                membership::Output::Far { node } => {
                    self.swarm.handle(now, swarm::Input::PeerDown { node });
                }
                membership::Output::Down { node } => {
                    self.gossip.handle(now, gossip::Input::Down { node });
                    self.swarm.handle(now, swarm::Input::PeerDown { node });
                }
            }
        }
        any
    }

    fn collect_gossip(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(output) = self.gossip.poll_output() {
            any = true;
            match output {
                gossip::Output::Send { to, message } => self.send(to, &Message::Gossip(message)),
                gossip::Output::Received { from: _, header } => self.judge_header(now, header),
                gossip::Output::Ahead { node, head } => {
                    self.hear_of_leader(now, head);
                    self.replica.handle(now, replica::Input::Ahead(node, head.index));
                }
                gossip::Output::Misbehaved { node, reason } => {
                    self.outputs.push_back(Output::Note(Note::Misbehaved { node, reason }));
                }
            }
        }
        any
    }

    /// Keeps and spreads a release only where an allowed publisher has signed it.
    fn judge_header(&mut self, now: Instant, header: crate::artifact::header::SignedHeader) {
        let release = header.id();
        let keep = trust::release::verify(&header, self.fleet().publishers(), 1).is_ok();
        self.gossip.handle(now, gossip::Input::Verdict { release, keep });
        if keep {
            self.agent.handle(now, agent::Input::Heard(header));
        }
    }

    fn collect_swarm(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(output) = self.swarm.poll_output() {
            any = true;
            match output {
                swarm::Output::Send { to, message } => self.send(to, &Message::Swarm(message)),
                swarm::Output::Upload { to, object, index } => {
                    self.outputs.push_back(Output::Upload { to, object, index });
                }
                swarm::Output::CancelUpload { to, object, index } => {
                    self.outputs.push_back(Output::CancelUpload { to, object, index });
                }
                swarm::Output::Complete { object } => {
                    self.agent.handle(now, agent::Input::Fetched(object));
                }
                swarm::Output::Misbehaved { node, reason } => {
                    let reason = reason.to_string();
                    self.outputs.push_back(Output::Note(Note::Misbehaved { node, reason }));
                }
            }
        }
        any
    }

    fn collect_replica(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(output) = self.replica.poll_output() {
            any = true;
            match output {
                replica::Output::Applied(applied) => self.applied(now, &applied),
                replica::Output::Replaced => {
                    self.house.untold = Untold::all();
                }
                replica::Output::Send(to, message) => self.send(to, &Message::Log(message)),
                replica::Output::Tell(to, message) => {
                    if self.sessions.is_member(to) && !self.fleet().votes(to) {
                        self.send(to, &Message::Log(message));
                    }
                }
                replica::Output::Push(message) => self.push(&message),
                replica::Output::Keep(bytes) => {
                    self.persist(Owner::Nobody, vec![(Key::Fleet, Some(bytes))]);
                }
                replica::Output::Fetched(index, bytes) => {
                    let input = match bytes {
                        Some(data) => consensus::Input::SnapshotFetched { index, data },
                        None => consensus::Input::SnapshotFailed { index },
                    };
                    self.tell_voter(now, input);
                }
            }
        }
        any
    }

    /// To every connected member that does not get the entries by the consensus.
    fn push(&mut self, message: &replica::LogMessage) {
        let fleet = self.replica.fleet();
        let followers: Vec<_> = self.sessions.members().filter(|it| !fleet.votes(*it)).collect();
        let frame = codec::encode(&Message::Log(message.clone()));
        for to in followers {
            self.outputs.push_back(Output::Send { to, frame: frame.clone() });
        }
    }

    fn collect_agent(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(output) = self.agent.poll_output() {
            any = true;
            match output {
                agent::Output::Persist(batch) => {
                    self.persist(Owner::Agent(batch.token), batch.writes);
                }
                agent::Output::Service(group, action) => {
                    self.outputs.push_back(Output::Service(group, action));
                }
                agent::Output::Store(command) => self.outputs.push_back(Output::Store(command)),
                agent::Output::Want { object, chunks, have, origin } => {
                    let priority = match object.part {
                        Part::Manifest => MANIFEST_PRIORITY,
                        Part::Content => 0,
                    };
                    // What was wanted before with another state is forgotten first.
                    self.swarm.handle(now, swarm::Input::Forget { object });
                    let want = swarm::Want { object, chunks, have, origin, priority };
                    self.swarm.handle(now, swarm::Input::Want(want));
                }
                agent::Output::Unwant(release) => self.unwant(now, release),
                agent::Output::Publish(header) => {
                    self.gossip.handle(now, gossip::Input::Publish(header));
                }
                agent::Output::Propose(command) => self.propose(now, OWN, command),
                agent::Output::Report(report) => self.report(now, report),
            }
        }
        any
    }

    fn unwant(&mut self, now: Instant, release: ReleaseId) {
        for part in [Part::Manifest, Part::Content] {
            let object = ObjectId { release, part };
            self.swarm.handle(now, swarm::Input::Forget { object });
        }
    }

    fn report(&mut self, now: Instant, report: agent::report::Report) {
        match self.leader {
            Some(leader) if leader == self.config.node => self.take_report(now, leader, report),
            Some(leader) => self.send(leader, &Message::Report(report)),
            None => {}
        }
    }

    // --- what the mesh should know of this node ------------------------------------------------------

    pub(super) fn keep_house(&mut self, now: Instant) {
        self.tell_progress(now);
        if now < self.house.again_at {
            return;
        }
        self.house.again_at = now.after(HOUSE_EVERY);
        let Some(member) = self.fleet().members().get(&self.config.node).cloned() else {
            return self.apply(now);
        };
        if !self.house.member_noted {
            self.house.member_noted = true;
            let name = member.name.clone();
            self.outputs.push_back(Output::Note(Note::Member { name }));
        }
        if member.incarnation < self.incarnation {
            self.propose(now, OWN, Command::Live { incarnation: self.incarnation });
        } else if member.incarnation > self.incarnation && !self.house.outlived_noted {
            self.house.outlived_noted = true;
            self.outputs.push_back(Output::Note(Note::Outlived { by: member.incarnation }));
        }
        if member.addresses != self.config.addresses {
            let addresses = self.config.addresses.clone();
            self.propose(now, OWN, Command::Describe { addresses });
        }
        self.join_groups(now);
        self.watch_balancers(now);
    }

    fn join_groups(&mut self, now: Instant) {
        let (me, groups) = (self.config.node, self.fleet().groups());
        let known = |name: &GroupName| {
            groups.get(name).and_then(|it| it.members.get(&me)).map(|it| it.ports)
        };
        let differs = |(name, ports): &(&GroupName, &Ports)| known(name) != Some(**ports);
        let missing = self.config.groups.iter().filter(differs);
        let missing: Vec<_> = missing.map(|(name, ports)| (name.clone(), *ports)).collect();
        for (group, ports) in missing {
            self.propose(now, OWN, Command::JoinGroup { group, ports });
        }
    }

    /// Makes the log say of which groups this node watches a balancer.
    fn watch_balancers(&mut self, now: Instant) {
        let (me, watches) = (self.config.node, &self.config.watches);
        let differs = |(name, group): (&GroupName, &Group)| {
            let on = watches.contains(name);
            (group.watchers.contains(&me) != on).then(|| (name.clone(), on))
        };
        let changes: Vec<_> = self.fleet().groups().iter().filter_map(differs).collect();
        for (group, on) in changes {
            let incarnation = self.incarnation;
            self.propose(now, OWN, Command::WatchBalancer { group, on, incarnation });
        }
    }

    fn tell_progress(&mut self, now: Instant) {
        if now < self.house.progress_at {
            return;
        }
        self.house.progress_at = now.after(HOUSE_EVERY);
        let fetching: Vec<_> = self.agent.library().fetching().collect();
        for release in fetching {
            let object = ObjectId { release, part: Part::Content };
            let Some(progress) = self.swarm.progress(object) else { continue };
            let share = progress.bytes_have.saturating_mul(1000);
            let share = share.checked_div(progress.bytes_total).unwrap_or(1000);
            let share = u16::try_from(share).unwrap_or(1000);
            self.agent.handle(now, agent::Input::Progress(release, share));
        }
    }
}
