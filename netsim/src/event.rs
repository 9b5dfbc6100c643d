//! What can happen in the world, and who it happens to.

use baton_protocol::agent::library::StoreEvent;
use baton_protocol::agent::service::ServiceEvent;
use baton_protocol::disk::Token;
use baton_protocol::id::NodeId;
use baton_protocol::membership::Address;
use baton_protocol::peer::Operation;
use baton_protocol::swarm::ObjectId;

use crate::bulk::Transfer;
use crate::disk::Disk;
use crate::fault::Fault;
use crate::link::ConnId;
use crate::spells::Spell;

/// A node's place in the world, from 0: the founder.
pub(crate) type Host = usize;

/// One thing that will happen at its time.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A daemon wanted to be woken.
    Wake { host: Host, life: u64 },
    /// The wall clock is told to a daemon.
    Clock { host: Host, life: u64 },
    /// A dial comes to its end.
    Dialled { host: Host, life: u64, address: Address },
    /// The next frame of one way of a connection is due.
    Deliver { conn: ConnId, from: Host, to: Host },
    /// A connection breaks, as both ends see it.
    Cut { conn: ConnId },
    /// A connection is given up, if it is held back still.
    KeepAlive { conn: ConnId },
    /// The oldest batch of a host is synced.
    Synced { host: Host, life: u64 },
    /// A batch is said to be synced, which it is not: a deliberate mistake.
    Confirmed { host: Host, life: u64, token: Token },
    /// The store has done something.
    Store { host: Host, life: u64, event: Box<StoreEvent> },
    /// Some chunk may have left its sender.
    Flow { version: u64 },
    /// A chunk has left its sender.
    Uploaded { from: Host, to: Host, transfer: Transfer },
    /// A chunk could not be sent.
    UploadFails { from: Host, to: NodeId, object: ObjectId, index: u32 },
    /// A chunk is at its receiver.
    Arrived { from: Host, to: Host, transfer: Transfer },
    /// Wrong bytes, sent for a chunk, are at their receiver.
    Corrupt { conn: ConnId, from: Host, to: Host, object: ObjectId, index: u32 },
    /// A verified chunk was handed to the disk.
    ChunkStored { host: Host, life: u64, object: ObjectId, index: u32 },
    /// A step of a service's own: it survives its daemon.
    Service { host: Host, process: u64, step: Step },
    /// The runtime tells a daemon what it has seen.
    Seen { host: Host, life: u64, event: ServiceEvent },
    /// The runtime asks the service whether it is ready.
    Probe { host: Host, life: u64 },
    /// Something goes wrong.
    Fault(Box<Fault>),
    /// A host starts its daemon.
    Restart { host: Host },
    /// A host whose disk was lost comes back as a new node.
    Reborn { host: Host },
    /// The state of a daemon is put back to this.
    Restore { host: Host, disk: Box<Disk> },
    /// A wall clock is put right.
    ClockRight { host: Host, by_seconds: i64 },
    /// Something may be as it should be again, unless it was made to last longer meanwhile.
    Over { host: Host, spell: Spell },
    /// A service that flaps dies again, and so many times in all.
    Flap { host: Host, left: u32 },
    /// A member says old words without end, as long as it is the same lie.
    Flood { host: Host, lie: u64 },
    /// Ways are free again, as far as nothing else holds them back.
    Heal { ways: Vec<(Host, Host)> },
    /// A way is clogged.
    Clog { way: (Host, Host) },
    /// A person asks a daemon for something, and asks again until there is an answer.
    Operate { host: Host, operation: Box<Operation>, tries: u32 },
    /// The balancer takes a step.
    Balancer,
    /// The scenario looks at how far the run has come.
    Director,
}

impl Event {
    /// Whom it happens to; the first host where that is several or none.
    pub(crate) fn host(&self) -> Host {
        match self {
            Self::Wake { host, .. }
            | Self::Clock { host, .. }
            | Self::Dialled { host, .. }
            | Self::Synced { host, .. }
            | Self::Confirmed { host, .. }
            | Self::Store { host, .. }
            | Self::ChunkStored { host, .. }
            | Self::Service { host, .. }
            | Self::Seen { host, .. }
            | Self::Probe { host, .. }
            | Self::Restart { host }
            | Self::Reborn { host }
            | Self::Restore { host, .. }
            | Self::ClockRight { host, .. }
            | Self::Over { host, .. }
            | Self::Flap { host, .. }
            | Self::Flood { host, .. }
            | Self::Operate { host, .. } => *host,
            Self::Deliver { to, .. } | Self::Arrived { to, .. } | Self::Corrupt { to, .. } => *to,
            Self::Uploaded { from, .. } | Self::UploadFails { from, .. } => *from,
            Self::Cut { .. }
            | Self::KeepAlive { .. }
            | Self::Flow { .. }
            | Self::Fault(_)
            | Self::Heal { .. }
            | Self::Clog { .. }
            | Self::Balancer
            | Self::Director => 0,
        }
    }
}

/// What a service's process does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It was started.
    Started,
    /// It answers its probe from now on.
    Ready,
    /// It answers its probe well no more.
    Unready,
    /// It ends by itself, as a bad release does.
    Dies,
    /// It was asked to end, and has.
    Ended,
    /// Its last connection has ended.
    Drained,
}
