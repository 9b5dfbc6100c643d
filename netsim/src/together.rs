//! What happens within a moment of a calm day, in a mesh too large to go on event by event: what daemons hear
//! then is handed to them on all processors, as no frame of one gets to another within it. Which thread is
//! faster changes nothing: each daemon is driven by one of them at a time, by what it hears in that order and
//! at those times, and what they want done is done afterwards, in the order of time. What comes of that within
//! the same moment, such as a short timer or a fast disk's sync, happens when it is over.

use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};

use baton_protocol::machine::Machine as _;
use baton_protocol::peer::{Input, Output};
use baton_protocol::time::Instant;

use crate::event::{Event, Host};
use crate::rig::Rig;
use crate::world::{World, panic_text};

/// So many inputs are not worth a second thread.
const THREAD_WORTH: usize = 16;

/// What a daemon hears, and when.
struct Heard {
    at: Instant,
    host: Host,
    input: Input,
}

/// What it made of that.
struct Said {
    at: Instant,
    host: Host,
    outputs: Vec<Output>,
    /// When it wants to be woken, by its own clock: the last word of a moment alone says it.
    wake: Option<Instant>,
    panic: Option<String>,
}

impl World {
    /// Lets happen what is to happen next, and all else within `moment` after it, up to the first event that
    /// is more than news for one daemon; false where nothing ever will. No frame may be faster than a
    /// moment.
    pub(crate) fn happen_together(&mut self, moment: Duration) -> bool {
        debug_assert!(self.judge.sampled, "the other checks look at each event");
        let Some(first) = self.pop() else { return false };
        let end = self.now.after(moment);
        let (mut heard, mut other) = (Vec::new(), None);
        let mut next = Some(first);
        while let Some(event) = next {
            match self.heard_alone(event, &heard) {
                Ok(news) => heard.extend(news),
                Err(event) => {
                    other = Some((self.now, event));
                    break;
                }
            }
            next = self.pop_until(end);
        }
        heard.sort_by_key(|it| it.host); // stable: each host's are in the order of time
        let mut said = drive_all(&mut self.hosts, 0, heard);
        said.sort_by_key(|it| it.at);
        for said in said {
            self.take_up(said);
        }
        if let Some((at, event)) = other {
            self.go_to(at);
            self.happen(event);
        }
        true
    }

    /// What a daemon hears by an event, `Ok(None)` where it is dead; an event that is more than news for one
    /// daemon is given back.
    fn heard_alone(&mut self, event: Event, heard: &[Heard]) -> Result<Option<Heard>, Event> {
        let (host, input) = match event {
            Event::News(host, news) => (host, self.heard(host, news)),
            Event::Probe { host, life } if self.is_probed_alone(host, life, heard) => {
                (host, self.probed(host, life))
            }
            other => return Err(other),
        };
        Ok(input.map(|input| Heard { at: self.now, host, input }))
    }

    /// Whether a probe is news and no more: what a daemon hears just before may change what its service
    /// answers.
    fn is_probed_alone(&self, host: Host, life: u64, heard: &[Heard]) -> bool {
        let rig = &self.hosts[host];
        let answers = rig.life == life && rig.peer.is_some() && !rig.service.is_watched();
        answers && heard.iter().all(|it| it.host != host)
    }

    fn take_up(&mut self, said: Said) {
        let Said { at, host, outputs, wake, panic } = said;
        self.go_to(at);
        if let Some(reason) = panic {
            return self.judge.fail(&format!("host {host} panics: {reason}"));
        }
        self.judge.follow(self.now, &self.hosts, host);
        for output in outputs {
            self.perform(host, output);
        }
        self.plan_wake(host, wake);
    }
}

/// Tells daemons what they hear, which is in the order of their hosts; the first of these is `first`.
fn drive_all(hosts: &mut [Rig], first: Host, mut heard: Vec<Heard>) -> Vec<Said> {
    let middle = heard.get(heard.len() / 2).map_or(first, |it| it.host);
    let before = heard.partition_point(|it| it.host < middle);
    // Where the first one hears half of it, the others' come after that.
    let second = if before == 0 { middle + 1 } else { middle };
    let before = heard.partition_point(|it| it.host < second);
    if heard.len() <= THREAD_WORTH || before == heard.len() {
        return drive(hosts, first, heard);
    }
    let later = heard.split_off(before);
    let (low, high) = hosts.split_at_mut(second - first);
    let (mut said, others) =
        rayon::join(|| drive_all(low, first, heard), || drive_all(high, second, later));
    said.extend(others);
    said
}

/// The same on this thread alone.
fn drive(hosts: &mut [Rig], first: Host, heard: Vec<Heard>) -> Vec<Said> {
    let mut all = Vec::with_capacity(heard.len());
    let mut heard = heard.into_iter().peekable();
    while let Some(Heard { at, host, input }) = heard.next() {
        let Some(rig) = hosts.get_mut(host - first) else { continue };
        let local = rig.local(at);
        let Some(peer) = &mut rig.peer else { continue };
        let last = heard.peek().is_none_or(|next| next.host != host);
        let driven = catch_unwind(AssertUnwindSafe(|| {
            peer.handle(local, input);
            let outputs = core::iter::from_fn(|| peer.poll_output()).collect();
            (outputs, last.then(|| peer.poll_timeout()).flatten())
        }));
        let ((outputs, wake), panic) = match driven {
            Ok(said) => (said, None),
            Err(panic) => {
                rig.peer = None; // half of what it knows may be changed
                (Default::default(), Some(panic_text(panic.as_ref())))
            }
        };
        all.push(Said { at, host, outputs, wake, panic });
    }
    all
}
