//! What is news for one daemon and does little else, whatever that daemon makes of it.

use core::time::Duration;

use baton_protocol::agent::library::StoreEvent;
use baton_protocol::agent::service::ServiceEvent;
use baton_protocol::disk::Token;
use baton_protocol::id::NodeId;
use baton_protocol::peer::Input;
use baton_protocol::swarm::ObjectId;

use crate::bulk::Transfer;
use crate::event::{Event, Host};
use crate::link::ConnId;
use crate::mesh::group;
use crate::world::{World, confirms_early};

/// What a daemon hears; a `life` that is over hears nothing of it.
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// It wanted to be woken.
    Wake { life: u64 },
    /// Its wall clock.
    Clock { life: u64 },
    /// The next frame of one way of a connection is due.
    Deliver { conn: ConnId, from: Host },
    /// Its oldest batch is synced.
    Synced { life: u64 },
    /// A batch is said to be synced, which it is not: a deliberate mistake.
    Confirmed { life: u64, token: Token },
    /// The store has done something.
    Store { life: u64, event: Box<StoreEvent> },
    /// A chunk of its has left.
    Uploaded { to: Host, transfer: Transfer },
    /// A chunk could not be sent.
    UploadFails { to: NodeId, object: ObjectId, index: u32 },
    /// A chunk is here.
    Arrived { from: Host, transfer: Transfer },
    /// A verified chunk was handed to the disk.
    ChunkStored { life: u64, object: ObjectId, index: u32 },
    /// The runtime tells what it has seen.
    Seen { life: u64, event: ServiceEvent },
}

impl World {
    /// What the daemon of `host` hears: nothing where it is dead, or the news has been overtaken.
    pub(crate) fn heard(&mut self, host: Host, news: News) -> Option<Input> {
        match news {
            News::Wake { life } => self.is_woken(host, life).then_some(Input::Timeout),
            News::Clock { life } => self.clock(host, life),
            News::Deliver { conn, from } => self.next_frame(conn, from, host),
            News::Synced { life } => self.synced(host, life),
            News::Confirmed { life, token } => {
                self.in_life(host, life).then_some(Input::Persisted(token))
            }
            News::Store { life, event } => self.in_life(host, life).then_some(Input::Store(*event)),
            News::Uploaded { to, transfer } => Some(self.uploaded(host, to, transfer)),
            News::UploadFails { to, object, index } => {
                Some(Input::UploadFailed { to, object, index })
            }
            News::Arrived { from, transfer } => self.arrived(from, host, transfer),
            News::ChunkStored { life, object, index } => {
                self.in_life(host, life).then_some(Input::ChunkStored { object, index })
            }
            News::Seen { life, event } => {
                self.in_life(host, life).then(|| Input::Service(group(), event))
            }
        }
    }

    fn in_life(&self, host: Host, life: u64) -> bool {
        self.hosts[host].life == life
    }

    /// Whether it is now that the daemon of `host` is to be woken.
    fn is_woken(&mut self, host: Host, life: u64) -> bool {
        let rig = &mut self.hosts[host];
        let woken = rig.life == life && rig.wake_at == Some(self.now);
        if woken {
            rig.wake_at = None;
            self.trace.bytes(self.now, 1, &[host as u8]);
        }
        woken
    }

    fn clock(&mut self, host: Host, life: u64) -> Option<Input> {
        if !self.in_life(host, life) || self.hosts[host].peer.is_none() {
            return None;
        }
        self.after(Duration::from_secs(1), Event::News(host, News::Clock { life }));
        Some(Input::WallClock(self.wall_clock(host)))
    }

    fn synced(&mut self, host: Host, life: u64) -> Option<Input> {
        if !self.in_life(host, life) {
            return None;
        }
        let batch = self.hosts[host].disk.sync()?;
        (!confirms_early()).then_some(Input::Persisted(batch.token))
    }
}
