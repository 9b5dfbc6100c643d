//! What can happen in the world, and who it happens to.

use core::time::Duration;

use baton_protocol::agent::library::StoreEvent;
use baton_protocol::agent::service::ServiceEvent;
use baton_protocol::disk::Token;
use baton_protocol::membership::Address;
use baton_protocol::peer::Operation;
use baton_protocol::swarm::ObjectId;

use crate::link::ConnId;

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
    Deliver { conn: ConnId, from: Host },
    /// A connection breaks, as both ends see it.
    Cut { conn: ConnId },
    /// A connection is given up, if it is held back still.
    KeepAlive { conn: ConnId },
    /// The oldest batch of a host is synced.
    Synced { host: Host, life: u64 },
    /// A batch is said to be synced, which it is not: a deliberate mistake.
    Confirmed { host: Host, life: u64, token: Token },
    /// The store has done something.
    Store { host: Host, life: u64, event: StoreEvent },
    /// A chunk has left its sender.
    Uploaded { conn: ConnId, from: Host, to: Host, upload: u64, object: ObjectId, index: u32 },
    /// A chunk is at its receiver.
    Arrived { conn: ConnId, from: Host, to: Host, object: ObjectId, index: u32 },
    /// A verified chunk was handed to the disk.
    ChunkStored { host: Host, life: u64, object: ObjectId, index: u32 },
    /// A step of a service's own: it survives its daemon.
    Service { host: Host, process: u64, step: Step },
    /// The runtime tells a daemon what it has seen.
    Seen { host: Host, life: u64, event: ServiceEvent },
    /// The runtime asks the service whether it is ready.
    Probe { host: Host, life: u64 },
    /// A daemon and what it had not synced is gone.
    Crash { host: Host },
    /// Its host starts it again.
    Restart { host: Host },
    /// A host never comes back.
    Lose { host: Host },
    /// The leader of this moment crashes.
    CrashLeader,
    /// A node crashes that has taken its service out of action, or may.
    CrashHolder,
    /// Many hosts lose their power at once.
    PowerCut { hosts: Vec<Host> },
    /// A machine goes, service and all, and is back after a while.
    Away { host: Host, wait: Duration },
    /// A daemon stands still for a while, as one that is stopped or swapped out.
    Stop { host: Host, wait: Duration },
    /// It goes on.
    Continue { host: Host, life: u64 },
    /// A host's steady clock has counted a sleep of the whole machine.
    Jump { host: Host, by: Duration },
    /// Syncs of a host's disk take up to so long from now on.
    SlowDisk { host: Host, millis: u64 },
    /// Some connections break, whichever there are.
    CutSome { count: usize },
    /// A host, and some others with it, are cut off from all the rest.
    CutOff { host: Host, others: usize },
    /// A service ends by itself.
    ServiceDies { host: Host },
    /// Frames from some hosts to others are held back.
    Partition { ways: Vec<(Host, Host)> },
    /// The network is whole again.
    Heal,
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
    /// It ends by itself, as a bad release does.
    Dies,
    /// It was asked to end, and has.
    Ended,
    /// Its last connection has ended.
    Drained,
}
