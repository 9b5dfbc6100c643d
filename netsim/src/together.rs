//! All that happens at one moment of a calm day, in a mesh too large to go on event by event: what daemons
//! hear then is handed to them on two threads, as none can hear of another's answer at the same moment. Which
//! thread is faster changes nothing: each daemon is driven by one of them, and what they want done is done
//! afterwards, host by host.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use baton_protocol::machine::Machine as _;
use baton_protocol::peer::{Input, Output};
use baton_protocol::time::Instant;

use crate::event::{Event, Host};
use crate::rig::Rig;
use crate::world::{World, panic_text};

/// Daemons that are worth a second thread.
const THREAD_WORTH: usize = 64;

/// What a daemon made of what it heard.
struct Said {
    host: Host,
    outputs: Vec<Output>,
    /// When it wants to be woken, by its own clock.
    wake: Option<Instant>,
    panic: Option<String>,
}

impl World {
    /// Lets happen what is to happen next, and all else of that moment; false where nothing ever will.
    pub(crate) fn happen_together(&mut self) -> bool {
        debug_assert!(self.judge.sampled, "the other checks look at each event");
        let Some(first) = self.pop() else { return false };
        let (mut heard, mut others) = (BTreeMap::<Host, Vec<Input>>::new(), Vec::new());
        let mut next = Some(first);
        while let Some(event) = next {
            match self.heard_by_one(event) {
                Ok(input) => input.into_iter().for_each(|(host, input)| {
                    heard.entry(host).or_default().push(input);
                }),
                Err(event) => others.push(event),
            }
            next = self.queue.take_at(self.now);
        }
        for said in drive_all(self.now, &mut self.hosts, heard.into_iter().collect()) {
            self.take_up(said);
        }
        for event in others {
            self.happen(event);
        }
        true
    }

    /// What only tells one daemon something, and what; any other event is given back.
    fn heard_by_one(&mut self, event: Event) -> Result<Option<(Host, Input)>, Event> {
        match event {
            Event::Wake { host, life } => {
                Ok(self.is_woken(host, life).then_some((host, Input::Timeout)))
            }
            Event::Deliver { conn, from, to } => {
                Ok(self.next_frame(conn, from, to).map(|frame| (to, frame)))
            }
            Event::Uploaded { from, to, transfer } => {
                Ok(Some((from, self.uploaded(from, to, transfer))))
            }
            Event::Arrived { from, to, transfer } => {
                Ok(self.arrived(from, to, transfer).map(|input| (to, input)))
            }
            Event::ChunkStored { host, life, object, index } => {
                let lives = self.hosts[host].life == life;
                Ok(lives.then_some((host, Input::ChunkStored { object, index })))
            }
            other => Err(other),
        }
    }

    fn take_up(&mut self, said: Said) {
        let Said { host, outputs, wake, panic } = said;
        if let Some(reason) = panic {
            self.hosts[host].peer = None;
            return self.judge.fail(&format!("host {host} panics: {reason}"));
        }
        self.judge.follow(self.now, &self.hosts, host);
        for output in outputs {
            self.perform(host, output);
        }
        self.plan_wake(host, wake);
    }
}

/// Tells daemons what they hear, in the order of their hosts.
fn drive_all(now: Instant, hosts: &mut [Rig], mut heard: Vec<(Host, Vec<Input>)>) -> Vec<Said> {
    let alone = heard.len() < THREAD_WORTH;
    let later = heard.split_off(if alone { heard.len() } else { heard.len() / 2 });
    let Some(&(middle, _)) = later.first() else { return drive(now, hosts, 0, heard) };
    let (low, high) = hosts.split_at_mut(middle);
    thread::scope(|scope| {
        let other = scope.spawn(move || drive(now, high, middle, later));
        let mut said = drive(now, low, 0, heard);
        said.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        said
    })
}

/// The same for a part of the hosts, the first of which is `first`.
fn drive(
    now: Instant,
    hosts: &mut [Rig],
    first: Host,
    heard: Vec<(Host, Vec<Input>)>,
) -> Vec<Said> {
    let mut all = Vec::with_capacity(heard.len());
    for (host, inputs) in heard {
        let Some(rig) = hosts.get_mut(host - first) else { continue };
        let local = rig.local(now);
        let Some(peer) = &mut rig.peer else { continue };
        let mut outputs = Vec::new();
        let driven = catch_unwind(AssertUnwindSafe(|| {
            for input in inputs {
                peer.handle(local, input);
                outputs.extend(core::iter::from_fn(|| peer.poll_output()));
            }
            peer.poll_timeout()
        }));
        let (wake, panic) = match driven {
            Ok(wake) => (wake, None),
            Err(panic) => (None, Some(panic_text(panic.as_ref()))),
        };
        all.push(Said { host, outputs, wake, panic });
    }
    all
}
