//! Who tells whom what: release headers and the head of the log, over the active view.
//!
//! What is new is pushed to every neighbour at once. Each second a digest of all that a node has goes
//! to each neighbour, and where two differ, lists of ids are exchanged and what is missing is pulled:
//! so a push that was lost, or a partition, heals.

mod budget;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::artifact::header::SignedHeader;
use crate::id::{LogIndex, NodeId, ReleaseId};
use crate::machine::Machine;
use crate::rng::Rng;
use crate::time::Instant;

use budget::Budget;

/// Pause between two digests to the same neighbour; up to a fifth of it is added as jitter.
const DIGEST_EVERY: Duration = Duration::from_secs(1);

/// A head that changes often is told only so often.
const HEAD_EVERY: Duration = Duration::from_millis(20);

/// Headers that a node keeps: more than all services of a mesh release while one is away.
const HEADERS_MAX: usize = 1024;

/// Bytes of one header, signatures included.
const HEADER_BYTES_MAX: usize = 64 * 1024;

/// Refused and forgotten releases that are remembered, so that they are not pulled again.
const REFUSED_MAX: usize = 1024;

/// Headers in one message, so that it stays under the limit of a control frame.
const HEADERS_PER_MESSAGE: usize = 8;

/// How far a node's log is, and whom it takes to lead it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The last entry that was applied.
    pub index: LogIndex,
    /// The leader's term, as far as the sender has heard it; else 0.
    pub term: u64,
    /// Who leads.
    pub leader: Option<NodeId>,
}

/// What two neighbours say to each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum GossipMessage {
    /// New headers, or those that were pulled.
    Headers(Vec<SignedHeader>),
    /// How far the log is.
    Head(Head),
    /// The BLAKE3 hash of the sorted ids of all that the sender has, and its head.
    Digest([u8; 32], Head),
    /// All ids that the sender has; answered by what the receiver has beyond them.
    Ids(Vec<ReleaseId>),
    /// Send these headers.
    Pull(Vec<ReleaseId>),
}

/// What can happen to a gossip.
#[derive(Clone, Debug)]
pub enum Input {
    /// The moment of `poll_timeout` is here.
    Timeout,
    /// A neighbour is there.
    Up {
        /// Who.
        node: NodeId,
    },
    /// A neighbour is gone.
    Down {
        /// Who.
        node: NodeId,
    },
    /// A neighbour says something.
    Message {
        /// Who.
        from: NodeId,
        /// What.
        message: GossipMessage,
    },
    /// Everybody should have this header.
    Publish(SignedHeader),
    /// The answer to [`Output::Received`]: whether the header is kept and spread.
    Verdict {
        /// Of which release.
        release: ReleaseId,
        /// Whether it is.
        keep: bool,
    },
    /// Nobody needs this header from here any more.
    Forget(ReleaseId),
    /// This node's log has moved.
    Head(Head),
}

/// What a gossip wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Say this to a neighbour.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: GossipMessage,
    },
    /// A header that is new here: to be judged, and answered by [`Input::Verdict`].
    Received {
        /// From whom.
        from: NodeId,
        /// The header.
        header: SignedHeader,
    },
    /// What a neighbour says of its log.
    Ahead {
        /// Who.
        node: NodeId,
        /// How far it is.
        head: Head,
    },
    /// A neighbour did what no honest one does.
    Misbehaved {
        /// Who.
        node: NodeId,
        /// What.
        reason: String,
    },
}

/// The gossip of one node.
#[derive(Debug)]
pub struct Gossip {
    neighbours: BTreeMap<NodeId, Budget>,
    headers: BTreeMap<ReleaseId, SignedHeader>,
    judged: BTreeMap<ReleaseId, (NodeId, SignedHeader)>,
    refused: VecDeque<ReleaseId>,
    head: Head,
    head_told: Head,
    head_at: Option<Instant>,
    digest_at: Instant,
    rng: Rng,
    outputs: VecDeque<Output>,
}

impl Gossip {
    /// A gossip that knows nothing yet.
    pub fn new(_me: NodeId, seed: u64) -> Self {
        Self {
            neighbours: BTreeMap::new(),
            headers: BTreeMap::new(),
            judged: BTreeMap::new(),
            refused: VecDeque::new(),
            head: Head::default(),
            head_told: Head::default(),
            head_at: None,
            digest_at: Instant::ZERO,
            rng: Rng::new(seed),
            outputs: VecDeque::new(),
        }
    }

    /// The headers that spread from here.
    pub fn headers(&self) -> &BTreeMap<ReleaseId, SignedHeader> {
        &self.headers
    }

    fn send(&mut self, to: NodeId, message: GossipMessage) {
        self.outputs.push_back(Output::Send { to, message });
    }

    fn digest(&self) -> GossipMessage {
        let mut hasher = blake3::Hasher::new();
        for id in self.headers.keys() {
            hasher.update(&id.0);
        }
        GossipMessage::Digest(*hasher.finalize().as_bytes(), self.head)
    }

    fn ids(&self) -> GossipMessage {
        GossipMessage::Ids(self.headers.keys().copied().collect())
    }

    fn publish(&mut self, header: SignedHeader, source: Option<NodeId>) {
        let id = header.id();
        self.refused.retain(|refused| *refused != id);
        if self.headers.len() >= HEADERS_MAX || self.headers.contains_key(&id) {
            return;
        }
        self.headers.insert(id, header.clone());
        let others: Vec<_> =
            self.neighbours.keys().copied().filter(|node| Some(*node) != source).collect();
        for to in others {
            self.send(to, GossipMessage::Headers(vec![header.clone()]));
        }
    }

    fn take(&mut self, now: Instant, from: NodeId, message: GossipMessage) {
        let Some(budget) = self.neighbours.get_mut(&from) else { return };
        if !budget.spend(now) {
            return self.misbehaved(from, "sends too many messages");
        }
        match message {
            GossipMessage::Headers(headers) => self.take_headers(from, headers),
            GossipMessage::Head(head) => self.outputs.push_back(Output::Ahead { node: from, head }),
            GossipMessage::Digest(theirs, head) => {
                self.outputs.push_back(Output::Ahead { node: from, head });
                let same =
                    matches!(self.digest(), GossipMessage::Digest(ours, _) if ours == theirs);
                if !same {
                    let ids = self.ids();
                    self.send(from, ids);
                }
            }
            GossipMessage::Ids(ids) if ids.len() <= HEADERS_MAX => self.compare(from, &ids),
            GossipMessage::Pull(ids) if ids.len() <= HEADERS_MAX => self.give(from, &ids),
            GossipMessage::Ids(_) | GossipMessage::Pull(_) => {
                self.misbehaved(from, "sends a list over the limit");
            }
        }
    }

    fn misbehaved(&mut self, node: NodeId, reason: &str) {
        self.outputs.push_back(Output::Misbehaved { node, reason: reason.to_owned() });
    }

    fn take_headers(&mut self, from: NodeId, headers: Vec<SignedHeader>) {
        if headers.len() > HEADERS_PER_MESSAGE
            || headers.iter().any(|header| header.bytes.len() > HEADER_BYTES_MAX)
        {
            return self.misbehaved(from, "sends headers over the limit");
        }
        for header in headers {
            let id = header.id();
            let known = self.headers.contains_key(&id) || self.refused.contains(&id);
            if !known && self.judged.len() < HEADERS_MAX {
                self.judged.insert(id, (from, header.clone()));
                self.outputs.push_back(Output::Received { from, header });
            }
        }
    }

    fn judge(&mut self, release: ReleaseId, keep: bool) {
        let Some((from, header)) = self.judged.remove(&release) else { return };
        if keep { self.publish(header, Some(from)) } else { self.refuse(release) }
    }

    fn refuse(&mut self, release: ReleaseId) {
        self.refused.push_back(release);
        if self.refused.len() > REFUSED_MAX {
            self.refused.pop_front();
        }
    }

    /// Pulls what the neighbour has and this node does not, and gives what the neighbour lacks.
    fn compare(&mut self, from: NodeId, ids: &[ReleaseId]) {
        let theirs: BTreeSet<_> = ids.iter().copied().collect();
        let unknown =
            |id: &&ReleaseId| !self.headers.contains_key(id) && !self.refused.contains(id);
        let missing: Vec<_> = theirs.iter().filter(unknown).copied().collect();
        let lacking: Vec<_> =
            self.headers.keys().filter(|id| !theirs.contains(id)).copied().collect();
        if !missing.is_empty() {
            self.send(from, GossipMessage::Pull(missing));
        }
        self.give(from, &lacking);
    }

    fn give(&mut self, to: NodeId, ids: &[ReleaseId]) {
        let headers: Vec<_> = ids.iter().filter_map(|id| self.headers.get(id)).cloned().collect();
        for some in headers.chunks(HEADERS_PER_MESSAGE) {
            self.send(to, GossipMessage::Headers(some.to_vec()));
        }
    }

    fn tell_head(&mut self, now: Instant) {
        if self.head == self.head_told {
            return;
        }
        if self.head_at.is_some_and(|at| now < at) {
            return;
        }
        self.head_at = Some(now.after(HEAD_EVERY));
        self.head_told = self.head;
        let all: Vec<_> = self.neighbours.keys().copied().collect();
        for to in all {
            self.send(to, GossipMessage::Head(self.head));
        }
    }

    fn tell_digest(&mut self, now: Instant) {
        if now < self.digest_at {
            return;
        }
        let jitter = self.rng.below(DIGEST_EVERY.as_millis() as u64 / 5);
        self.digest_at = now.after(DIGEST_EVERY + Duration::from_millis(jitter));
        let digest = self.digest();
        let all: Vec<_> = self.neighbours.keys().copied().collect();
        for to in all {
            self.send(to, digest.clone());
        }
    }
}

impl Machine for Gossip {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Timeout => {}
            Input::Up { node } => {
                self.neighbours.insert(node, Budget::new(now));
                let digest = self.digest();
                self.send(node, digest);
            }
            Input::Down { node } => {
                self.neighbours.remove(&node);
            }
            Input::Message { from, message } => self.take(now, from, message),
            Input::Publish(header) => self.publish(header, None),
            Input::Verdict { release, keep } => self.judge(release, keep),
            Input::Forget(release) => {
                if self.headers.remove(&release).is_some() {
                    self.refuse(release);
                }
            }
            Input::Head(head) => self.head = head,
        }
        self.tell_head(now);
        self.tell_digest(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let head = self.head_at.filter(|_| self.head != self.head_told);
        Some(head.map_or(self.digest_at, |at| at.min(self.digest_at)))
    }
}
