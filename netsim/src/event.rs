//! What can happen in the world, and who it happens to.

use baton_protocol::membership::Address;
use baton_protocol::peer::Operation;
use baton_protocol::swarm::ObjectId;

use crate::disk::Disk;
use crate::fault::Fault;
use crate::link::ConnId;
use crate::news::News;
use crate::spells::Spell;

/// A node's place in the world, from 0: the founder.
pub(crate) type Host = usize;

/// One thing that will happen at its time.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// One daemon hears something.
    News(Host, News),
    /// A dial comes to its end.
    Dialled { host: Host, life: u64, address: Address },
    /// A connection breaks, as both ends see it.
    Cut { conn: ConnId },
    /// A connection is given up, if it is held back still.
    KeepAlive { conn: ConnId },
    /// Some chunk may have left its sender.
    Flow { version: u64 },
    /// Wrong bytes, sent for a chunk, are at their receiver.
    Corrupt { conn: ConnId, from: Host, to: Host, object: ObjectId, index: u32 },
    /// A step of a service's own: it survives its daemon.
    Service { host: Host, process: u64, step: Step },
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
