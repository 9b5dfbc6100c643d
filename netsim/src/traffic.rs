//! Connections, partitions, and the chunks that travel.

use core::time::Duration;

use baton_protocol::agent::library::StoreEvent;
use baton_protocol::id::NodeId;
use baton_protocol::membership::Address;
use baton_protocol::peer::Input;
use baton_protocol::swarm::ObjectId;

use crate::bulk::Transfer;
use crate::event::{Event, Host};
use crate::link::ConnId;
use crate::news::News;
use crate::world::World;

/// How long a dial to a host that does not answer takes.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

impl World {
    fn host_at(&self, address: &Address) -> Option<Host> {
        self.addresses.get(address).copied()
    }

    pub(crate) fn dial(&mut self, host: Host, to: Address) {
        let life = self.hosts[host].life;
        let target = self.host_at(&to);
        let reached = target.filter(|it| !self.net.is_blocked(host, *it));
        let delay = match reached {
            Some(target) => self.net.delay(&mut self.rng, host, target) * 3,
            None => DIAL_TIMEOUT,
        };
        self.after(delay, Event::Dialled { host, life, address: to });
    }

    pub(crate) fn dialled(&mut self, host: Host, life: u64, to: Address) {
        if self.hosts[host].life != life {
            return;
        }
        let target = self.host_at(&to).filter(|it| {
            let blocked = self.net.is_blocked(host, *it) || self.net.is_blocked(*it, host);
            *it != host && !blocked && self.hosts[*it].peer.is_some()
        });
        let opened = target.and_then(|target| Some((target, self.net.open(host, target)?)));
        let Some((target, _)) = opened else {
            return self.feed(host, Input::DialFailed { address: to });
        };
        self.trace.bytes(self.now, 2, &[host as u8, target as u8]);
        let (here, there) = (self.hosts[host].config.node, self.hosts[target].config.node);
        self.feed(target, Input::Connected { node: here, address: None });
        self.feed(host, Input::Connected { node: there, address: Some(to) });
    }

    pub(crate) fn send(&mut self, from: Host, to: NodeId, frame: Vec<u8>) {
        let Some(to) = self.names.get(&to).copied() else { return };
        self.judge.sent(&self.hosts, from, &frame);
        let frame = self.lie(from, to, frame);
        self.put_on_wire(from, to, frame);
    }

    pub(crate) fn put_on_wire(&mut self, from: Host, to: Host, frame: Vec<u8>) {
        let delay = self.net.delay(&mut self.rng, from, to);
        self.meter.sent(from, frame.len());
        if let Some((conn, due)) = self.net.push(self.now, from, to, delay, frame) {
            self.at(due, Event::News(to, News::Deliver { conn, from }));
        }
    }

    /// The next frame of one way of a connection, as the daemon hears it.
    pub(crate) fn next_frame(&mut self, conn: ConnId, from: Host, to: Host) -> Option<Input> {
        let frame = self.net.deliver(conn, from, to)?;
        self.trace.bytes(self.now, 3, &[from as u8, to as u8]);
        self.trace.bytes(self.now, 4, &frame);
        self.meter.heard(to, frame.len());
        let from_node = self.hosts[from].config.node;
        let lied_to = self.is_lied_to(to, from, &frame);
        (!lied_to).then_some(Input::Control { from: from_node, frame })
    }

    pub(crate) fn cut(&mut self, conn: ConnId) {
        let Some((a, b)) = self.net.ends_of(conn) else { return };
        self.net.close(a, b);
        self.trace.bytes(self.now, 5, &[a as u8, b as u8]);
        let (first, second) = (self.hosts[a].config.node, self.hosts[b].config.node);
        self.flow();
        self.bulk.forget(a, b);
        self.flow();
        self.feed(a, Input::Disconnected { node: second });
        self.feed(b, Input::Disconnected { node: first });
    }

    pub(crate) fn hang_up(&mut self, host: Host, node: NodeId, reason: &str) {
        let Some(other) = self.names.get(&node).copied() else { return };
        self.note(&format!("host {host} hangs up on {other}: {reason}"));
        if let Some(conn) = self.net.between(host, other) {
            self.after(Duration::from_micros(1), Event::Cut { conn });
        }
    }

    pub(crate) fn partition(&mut self, ways: &[(Host, Host)]) {
        self.flow();
        for conn in self.net.block(ways) {
            // Keep-alive notices in the end, unless the partition is over before.
            let delay = Duration::from_secs(3) + self.within(Duration::from_secs(12));
            self.after(delay, Event::KeepAlive { conn });
        }
    }

    /// One fault fewer holds these ways back.
    pub(crate) fn heal(&mut self, ways: &[(Host, Host)]) {
        let owed = self.net.unblock(ways);
        if self.net.is_whole() {
            self.note("the network is whole");
        }
        for (conn, [from, to], owed) in owed {
            for _ in 0..owed {
                let delay = Duration::from_millis(1);
                self.after(delay, Event::News(to, News::Deliver { conn, from }));
            }
        }
        self.flow();
    }

    // --- chunks ----------------------------------------------------------------------------------

    pub(crate) fn upload(&mut self, from: Host, node: NodeId, object: ObjectId, index: u32) {
        let Some(to) = self.names.get(&node).copied() else { return };
        if self.lies_in_bulk(from, to, object, index) {
            return;
        }
        let chunk = self
            .catalog
            .get(&object.release)
            .and_then(|made| made.chunks(object.part).get(usize::try_from(index).ok()?));
        let chunk = chunk.filter(|_| self.hosts[from].store.has(object, index)).copied();
        let Some((conn, chunk)) = self.net.between(from, to).zip(chunk) else {
            let delay = Duration::from_millis(1);
            return self
                .after(delay, Event::News(from, News::UploadFails { to: node, object, index }));
        };
        self.flow(); // what is on its way already has had its old share until now
        self.bulk.push(from, to, Transfer::new(conn, object, index, chunk.len));
        self.flow();
    }

    pub(crate) fn cancel_upload(&mut self, from: Host, to: NodeId, object: ObjectId, index: u32) {
        let Some(to) = self.names.get(&to).copied() else { return };
        self.flow();
        self.bulk.cancel(from, to, object, index);
        self.flow();
    }

    /// Chunks have moved on: those that were sent whole leave, and the rest share the links anew.
    pub(crate) fn flow(&mut self) {
        for (from, to, transfer) in self.bulk.advance(self.now) {
            self.after(Duration::ZERO, Event::News(from, News::Uploaded { to, transfer }));
        }
        let Self { bulk, net, .. } = self;
        if let Some((version, delay)) = bulk.share(|from, to| net.is_blocked(from, to)) {
            self.after(delay, Event::Flow { version });
        }
    }

    /// A chunk has left its sender: what that hears.
    pub(crate) fn uploaded(&mut self, from: Host, to: Host, transfer: Transfer) -> Input {
        let Transfer { conn, object, index, .. } = transfer;
        let open = self.net.between(from, to) == Some(conn);
        let node = self.hosts[to].config.node;
        if !open || !self.hosts[from].store.has(object, index) {
            return Input::UploadFailed { to: node, object, index };
        }
        let delay = self.net.delay(&mut self.rng, from, to);
        self.after(delay, Event::News(to, News::Arrived { from, transfer }));
        Input::Uploaded { to: node, object, index }
    }

    /// A chunk is at its receiver: what that hears.
    pub(crate) fn arrived(&mut self, from: Host, to: Host, transfer: Transfer) -> Option<Input> {
        let Transfer { conn, object, index, .. } = transfer;
        if self.net.between(from, to) != Some(conn) || self.hosts[to].peer.is_none() {
            return None;
        }
        let node = self.hosts[from].config.node;
        self.trace.bytes(self.now, 6, &[from as u8, to as u8]);
        let garbled = self.hosts[to].garbled_permille;
        if garbled > 0 && self.rng.chance(garbled, 1000) {
            return Some(Input::ChunkCorrupt { from: node, object, index });
        }
        let rig = &mut self.hosts[to];
        let life = rig.life;
        if rig.full {
            let (release, reason) = (object.release, "no space left on device".to_owned());
            return Some(Input::Store(StoreEvent::Failed { release, reason }));
        }
        if !rig.store.put(object, index) {
            return None;
        }
        let delay = self.within(Duration::from_millis(20));
        self.after(delay, Event::News(to, News::ChunkStored { life, object, index }));
        Some(Input::ChunkVerified { from: node, object, index })
    }

    /// Wrong bytes are at their receiver.
    pub(crate) fn corrupt(&mut self, conn: ConnId, ends: [Host; 2], object: ObjectId, index: u32) {
        let [from, to] = ends;
        if self.net.between(from, to) == Some(conn) {
            let from = self.hosts[from].config.node;
            self.feed(to, Input::ChunkCorrupt { from, object, index });
        }
    }

    /// Breaks some connections, whichever there are; whether there are any.
    pub(crate) fn cut_some(&mut self, count: usize) -> bool {
        let mut all = self.net.all();
        self.rng.shuffle(&mut all);
        all.truncate(count);
        for conn in &all {
            let delay = self.within(Duration::from_millis(200));
            self.after(delay, Event::Cut { conn: *conn });
        }
        !all.is_empty()
    }

    /// The ways between a host, and some others with it, and all the rest.
    pub(crate) fn ways_around(&mut self, host: Host, others: usize) -> Vec<(Host, Host)> {
        let mut all: Vec<Host> = (0..self.hosts.len()).filter(|it| *it != host).collect();
        self.rng.shuffle(&mut all);
        let rest = all.split_off(others.min(all.len()));
        all.push(host);
        let ways = all.iter().flat_map(|a| rest.iter().flat_map(|b| [(*a, *b), (*b, *a)]));
        ways.collect()
    }
}
