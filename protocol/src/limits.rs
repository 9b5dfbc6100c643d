//! Every bound that one node holds another, or itself, to. What is over a bound is refused and
//! said; nothing grows without one.

use core::time::Duration;

/// Bytes of the largest frame that is read. A manifest or a fleet snapshot larger than this travels
/// in pieces.
pub const DECODE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of the largest control frame that a peer may send. Bulk data does not travel in these.
pub const CONTROL_FRAME_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of the largest chunk: FastCDC's upper bound at the largest average used.
pub const CHUNK_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of the largest manifest: about a million small files. It is put together in memory.
pub const MANIFEST_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Bytes of one piece of a manifest: FastCDC's upper bound at the smallest average used.
pub const MANIFEST_PIECE_BYTES_MAX: usize = 256 * 1024;

/// Pieces of the manifest in one header: the largest manifest in pieces of the average size, and
/// half as many again. Keeps a header under a quarter of a control frame.
pub const MANIFEST_PIECES_MAX: usize = 3072;

/// Bytes of a path in a release. The store's own directory stands before it, and the kernel takes 4096.
pub const PATH_BYTES_MAX: usize = 2048;

/// Bytes of one component of a path: what Linux file systems take.
pub const PATH_COMPONENT_BYTES_MAX: usize = 255;

/// Bytes of `baton.toml`.
pub const SERVICE_FILE_BYTES_MAX: usize = 256 * 1024;

/// Bytes of one piece of a fleet snapshot on the wire.
pub const SNAPSHOT_PIECE_BYTES: usize = 256 * 1024;

/// Committed entries kept in memory for nodes that follow, and entries between two snapshots.
pub const LOG_TAIL_ENTRIES: usize = 4096;

/// Entries sent in one answer to a follower.
pub const ENTRIES_PER_FRAME: usize = 256;

/// Bytes of one command in the log.
pub const COMMAND_BYTES_MAX: usize = 256 * 1024;

/// Nodes in one mesh.
pub const NODES_MAX: usize = 20_000;

/// Groups in one mesh.
pub const GROUPS_MAX: usize = 1_000;

/// Releases that the log remembers for each service; the oldest that nothing uses is forgotten.
pub const RELEASES_PER_SERVICE: usize = 64;

/// Ended rollouts that the log remembers for each group.
pub const ROLLOUT_HISTORY: usize = 16;

/// Entries of the audit log kept in memory and in a snapshot.
pub const AUDIT_ENTRIES: usize = 1_000;

/// Bytes of a name: of a node, a group, a service, a zone, a version.
pub const NAME_BYTES_MAX: usize = 64;

/// Bytes of a reason, an error text or the like that a node tells the mesh.
pub const REASON_BYTES_MAX: usize = 2_000;

/// Balancers of one group that are watched.
pub const WATCHERS_MAX: usize = 16;

/// Servers of one group that are read of a balancer, so that they fit into a report.
pub const BALANCER_SERVERS_MAX: usize = 4_096;

/// Bytes of a balancer's own word for a server's state.
pub const BALANCER_STATE_BYTES_MAX: usize = 64;

/// How old evidence of a node's health may be when a permit is granted or begun on it.
pub const EVIDENCE_AGE_MAX: Duration = Duration::from_secs(3);
