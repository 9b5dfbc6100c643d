//! Members that do what no honest one does: peers are proved, and not thereby honest.

use core::time::Duration;

use baton_protocol::codec;
use baton_protocol::rng::Rng;
use baton_protocol::swarm::{Bitmap, ObjectId, SwarmMessage};
use baton_protocol::wire::Message;
use serde::Deserialize;

use crate::event::{Event, Host};
use crate::news::News;
use crate::spells::Spell;
use crate::world::World;

/// Frames that one remembers, to say them again: of all that it has said while it lied, any.
const REMEMBERED: usize = 64;

/// Pause between two floods of frames.
const FLOOD_EVERY: Duration = Duration::from_millis(20);

/// Frames in one.
const FLOOD: usize = 8;

/// How long a liar's own code waits for an upload that never goes out.
const STALL: Duration = Duration::from_secs(5);

/// In what way a member lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Manner {
    /// It says that it has every chunk, and sends wrong bytes.
    Corrupts,
    /// It says that it has every chunk, and sends nothing.
    Stalls,
    /// It says again what it said long before.
    Replays,
    /// It sends without end.
    Floods,
}

impl Manner {
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Corrupts => "liar: wrong chunks",
            Self::Stalls => "liar: no chunks",
            Self::Replays => "liar: old words again",
            Self::Floods => "liar: words without end",
        }
    }
}

/// A member that lies at present.
#[derive(Debug)]
pub(crate) struct Liar {
    pub(crate) manner: Manner,
    /// Which of this host's lies it is.
    number: u64,
    said: Vec<Vec<u8>>,
    /// Frames that it could have remembered.
    heard: u64,
}

impl Liar {
    pub(crate) fn new(manner: Manner, number: u64) -> Self {
        Self { manner, number, said: Vec::new(), heard: 0 }
    }

    /// Keeps each frame with the same chance (Vitter's algorithm R).
    fn remember(&mut self, rng: &mut Rng, frame: &[u8]) {
        if is_control_of_voters(frame) {
            return; // a voter that lies is outside of what consensus bears
        }
        self.heard += 1;
        if self.said.len() < REMEMBERED {
            return self.said.push(frame.to_vec());
        }
        let at = usize::try_from(rng.below(self.heard)).unwrap_or(usize::MAX);
        if let Some(old) = self.said.get_mut(at) {
            *old = frame.to_vec();
        }
    }
}

fn is_control_of_voters(frame: &[u8]) -> bool {
    const VOTER: u8 = 5; // the variant, as in `invariants`
    frame.get(1) == Some(&VOTER)
}

/// The same words, with every chunk in them.
fn boast(world: &World, frame: &[u8]) -> Option<Vec<u8>> {
    let Ok(Message::Swarm(SwarmMessage::Interest { object, origin, answer, .. })) =
        codec::decode(frame)
    else {
        return None;
    };
    let chunks = world.catalog.get(&object.release)?.chunks(object.part).len();
    let have = Bitmap::full(u32::try_from(chunks).ok()?);
    Some(codec::encode(&Message::Swarm(SwarmMessage::Interest { object, have, origin, answer })))
}

impl World {
    /// From now on `host` lies for a while; whether it is there.
    pub(crate) fn lies(&mut self, host: Host, manner: Manner, wait: Duration) -> bool {
        let rig = &mut self.hosts[host];
        rig.lies += 1;
        let lie = rig.lies;
        rig.liar = Some(Liar::new(manner, lie));
        self.spell(host, Spell::Lie, wait);
        if manner == Manner::Floods {
            self.after(FLOOD_EVERY, Event::Flood { host, lie });
        }
        !self.hosts[host].lost
    }

    /// What `from` says instead of `frame`; what it says besides goes out at once.
    pub(crate) fn lie(&mut self, from: Host, to: Host, frame: Vec<u8>) -> Vec<u8> {
        let Self { hosts, rng, .. } = self;
        let Some(liar) = &mut hosts[from].liar else { return frame };
        liar.remember(rng, &frame);
        match liar.manner {
            Manner::Corrupts | Manner::Stalls => boast(self, &frame).unwrap_or(frame),
            Manner::Replays if self.rng.chance(1, 8) => {
                if let Some(old) = self.old_words(from) {
                    self.put_on_wire(from, to, old);
                }
                frame
            }
            Manner::Replays | Manner::Floods => frame,
        }
    }

    fn old_words(&mut self, host: Host) -> Option<Vec<u8>> {
        let said = self.hosts[host].liar.as_ref()?.said.len() as u64;
        let at = usize::try_from(self.rng.below(said)).ok()?;
        self.hosts[host].liar.as_ref()?.said.get(at).cloned()
    }

    pub(crate) fn flood(&mut self, host: Host, lie: u64) {
        if self.hosts[host].liar.as_ref().is_none_or(|liar| liar.number != lie) {
            return;
        }
        self.after(FLOOD_EVERY, Event::Flood { host, lie });
        if self.hosts[host].peer.is_none() || self.hosts[host].stopped.is_some() {
            return;
        }
        let peers = self.net.peers_of(host);
        let Some(to) = self.rng.pick(&peers).copied() else { return };
        for _ in 0..FLOOD {
            if let Some(old) = self.old_words(host) {
                self.put_on_wire(host, to, old);
            }
        }
    }

    /// Whether a liar takes `frame` from `from` for itself: it is asked for chunks that it says to
    /// have.
    pub(crate) fn is_lied_to(&mut self, liar: Host, from: Host, frame: &[u8]) -> bool {
        let rig = &self.hosts[liar];
        if rig.peer.is_none() || rig.stopped.is_some() {
            return false; // the dead lie to nobody
        }
        let Some(manner) = rig.liar.as_ref().map(|liar| liar.manner) else {
            return false;
        };
        if !matches!(manner, Manner::Corrupts | Manner::Stalls) {
            return false;
        }
        let Ok(Message::Swarm(SwarmMessage::Request { object, indexes })) = codec::decode(frame)
        else {
            return false;
        };
        if manner == Manner::Corrupts {
            for index in indexes {
                self.send_wrong(liar, from, object, index);
            }
        }
        true
    }

    /// Whether a liar sends something else, or nothing, instead of a chunk that it owes.
    pub(crate) fn lies_in_bulk(
        &mut self,
        liar: Host,
        to: Host,
        object: ObjectId,
        index: u32,
    ) -> bool {
        match self.hosts[liar].liar.as_ref().map(|liar| liar.manner) {
            Some(Manner::Corrupts) => self.send_wrong(liar, to, object, index),
            Some(Manner::Stalls) => {}
            _ => return false,
        }
        // Its own code learns that it came to nothing, and is as it was when the lying ends.
        let to = self.hosts[to].config.node;
        self.after(STALL, Event::News(liar, News::UploadFails { to, object, index }));
        true
    }

    fn send_wrong(&mut self, liar: Host, to: Host, object: ObjectId, index: u32) {
        let Some(conn) = self.net.between(liar, to) else { return };
        let delay = self.net.delay(&mut self.rng, liar, to);
        self.after(delay, Event::Corrupt { conn, from: liar, to, object, index });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_remembers_is_of_the_whole_lie() {
        let (mut rng, mut liar) = (Rng::new(1), Liar::new(Manner::Replays, 1));
        for at in 0..10_000_u16 {
            let [high, low] = at.to_be_bytes();
            liar.remember(&mut rng, &[1, 0, high, low]);
        }
        let said = |frame: &Vec<u8>| u16::from_be_bytes([frame[2], frame[3]]);
        let early = liar.said.iter().filter(|frame| said(frame) < 5000).count();
        assert_eq!(liar.said.len(), REMEMBERED);
        assert!((16..=48).contains(&early), "{early} of the first half");
    }
}
