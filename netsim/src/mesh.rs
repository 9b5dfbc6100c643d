//! What a mesh is made of before it runs: keys, tokens, node configurations and releases.

use core::time::Duration;
use std::collections::BTreeMap;

use baton_protocol::agent::library::Contents;
use baton_protocol::artifact::header::{ChunkRef, Header, SignedHeader};
use baton_protocol::artifact::service::{Drain, Probe, Readiness, Run, ServiceSpec};
use baton_protocol::codec;
use baton_protocol::fleet::group::Ports;
use baton_protocol::id::{ChunkHash, GroupName, KeyId, MeshId, MeshName, NodeId, Sequence};
use baton_protocol::membership::Address;
use baton_protocol::peer::Config;
use baton_protocol::rng::Rng;
use baton_protocol::time::UnixTime;
use baton_protocol::trust::certificate::Role;
use baton_protocol::trust::key::{Purpose, SecretKey};
use baton_protocol::trust::token::{JoinToken, founder};

use crate::event::Host;
use crate::link::ZONES;
use crate::shape::Shape;
use crate::store::{Made, Temper};

/// Nodes that one token may let in: more than any mesh here has, with those that come again as new ones.
const TOKEN_USES: u32 = 100_000;

/// The wall clock at the world's start.
pub(crate) const EPOCH: u64 = 1_800_000_000;

/// What expires does so this many seconds after the world's start: no run lasts as long, and a wall
/// clock that is set a day ahead is beyond it.
const EXPIRES_AFTER: u64 = 43_200;

/// How long a balancer that nobody reads takes to send to a service again.
pub(crate) const BALANCER_DELAY: Duration = Duration::from_secs(1);

/// Hosts whose addresses stand in the token: so many that one is there, whatever fails.
const BOOTSTRAP: Host = 4;

/// The keys of one mesh.
pub(crate) struct Mesh {
    root: SecretKey,
    publisher: SecretKey,
    token: JoinToken,
}

/// A name that is known to be one.
#[allow(clippy::expect_used)]
pub(crate) fn name<T: core::str::FromStr>(text: &str) -> T {
    text.parse().ok().expect("Invariant: the simulator's own names are names")
}

fn secret(rng: &mut Rng) -> [u8; 32] {
    let mut bytes = [0; 32];
    for part in bytes.chunks_mut(8) {
        part.copy_from_slice(&rng.next_u64().to_le_bytes());
    }
    bytes
}

/// Where a host listens.
pub(crate) fn address(host: Host) -> Address {
    let number = host + 1;
    name(&format!("10.{}.{}.{}:7400", number >> 16, (number >> 8) & 0xff, number & 0xff))
}

impl Mesh {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let root = SecretKey::from_seed(secret(rng));
        let publisher = SecretKey::from_seed(secret(rng));
        let expires = UnixTime(EPOCH + EXPIRES_AFTER);
        let at = (0..BOOTSTRAP).map(|host| address(host).as_str().to_owned()).collect();
        let token = JoinToken::issue(
            &root,
            mesh_name(),
            secret(rng),
            expires,
            TOKEN_USES,
            Role::Member,
            at,
        );
        Self { root, publisher, token }
    }

    pub(crate) fn publisher(&self) -> KeyId {
        KeyId(self.publisher.public())
    }

    /// How the node on `host` is started: one founds, the others join with the token.
    #[allow(clippy::expect_used)]
    pub(crate) fn config(&self, host: Host, founds: bool, shape: &Shape, rng: &mut Rng) -> Config {
        let role = if shape.is_witness(host) { Role::Witness } else { Role::Member };
        let node = NodeId(SecretKey::from_seed(secret(rng)).public());
        let certificate = match founds {
            true => founder(&self.root, secret(rng), node),
            false => self.token.certify(node, role).expect("Invariant: the token is whole"),
        };
        let bootstrap = self.token.addresses.iter().map(|it| name(it)).collect();
        Config {
            node,
            mesh: MeshId(self.root.public()),
            certificate,
            name: name(&format!("web-{:02}", host + 1)),
            zone: Some(name(["a", "b", "c"][host % ZONES])),
            addresses: vec![address(host)],
            bootstrap,
            groups: if role == Role::Witness {
                BTreeMap::new()
            } else {
                [(group(), Ports::default())].into()
            },
            watches: if shape.watches(host) { vec![group()] } else { Vec::new() },
            seed: rng.next_u64(),
            log_tail: shape.log_tail,
            pace: shape.pace,
        }
    }

    /// A signed release of `count` chunks, of which `shared` are those of every other release.
    pub(crate) fn release(&self, sequence: u64, temper: Temper, rng: &mut Rng) -> Made {
        let shared = (0..8).map(|at| chunk(format!("shared {at}"), 65_536));
        let own = 8 + rng.below(24);
        let own = (0..own).map(|at| chunk(format!("chunk {sequence}.{at}"), 65_536));
        let chunks: Vec<_> = shared.chain(own).collect();
        let expires = rng.chance(1, 2).then_some(UnixTime(EPOCH + EXPIRES_AFTER));
        self.sign(sequence, temper, chunks, expires, BALANCER_DELAY)
    }

    /// A signed release of `count` chunks of `len` bytes, none of which any other has. No balancer stands before
    /// its service.
    pub(crate) fn plain_release(&self, sequence: u64, count: usize, len: u32) -> Made {
        let own = (0..count).map(|at| chunk(format!("chunk {sequence}.{at}"), len));
        self.sign(sequence, Temper::Good, own.collect(), None, Duration::ZERO)
    }

    fn sign(
        &self,
        sequence: u64,
        temper: Temper,
        chunks: Vec<ChunkRef>,
        expires: Option<UnixTime>,
        balancer_delay: Duration,
    ) -> Made {
        let manifest = vec![chunk(format!("manifest {sequence}"), 4096)];
        let header = Header {
            service: name("web"),
            version: name(&format!("v{sequence}")),
            sequence: Sequence(sequence),
            expires,
            manifest: manifest.clone(),
            size_bytes: chunks.iter().map(|chunk| u64::from(chunk.len)).sum(),
            files: 3,
        };
        let bytes = codec::encode(&header);
        let signature = self.publisher.sign(Purpose::Release, &bytes);
        let signed = SignedHeader { bytes, signatures: vec![(self.publisher(), signature)] };
        let contents = Contents { chunks: chunks.into(), service: Some(spec(balancer_delay)) };
        Made { signed, manifest: manifest.into(), contents, temper }
    }
}

fn chunk(text: String, len: u32) -> ChunkRef {
    ChunkRef { hash: ChunkHash(*blake3::hash(text.as_bytes()).as_bytes()), len }
}

pub(crate) fn mesh_name() -> MeshName {
    name("sim")
}

/// The one group.
pub(crate) fn group() -> GroupName {
    name("web")
}

fn spec(balancer_delay: Duration) -> ServiceSpec {
    ServiceSpec {
        run: Run {
            command: vec!["./web".to_owned()],
            env: BTreeMap::new(),
            stop_signal: 15,
            stop_timeout: Duration::from_secs(10),
        },
        ready: Readiness {
            probe: Probe::Tcp("127.0.0.1:80".to_owned()),
            interval: Duration::from_millis(500),
            timeout: Duration::from_secs(1),
            deadline: Duration::from_secs(20),
        },
        drain: Drain {
            listen: Some("127.0.0.1:80".to_owned()),
            timeout: Duration::from_secs(30),
            balancer_delay,
        },
    }
}
