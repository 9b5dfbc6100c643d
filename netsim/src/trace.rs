//! The hash over all that happened, and the last of it in words.

use std::collections::VecDeque;

use baton_protocol::time::Instant;

/// Lines kept for a failure to choose from.
const KEPT: usize = 4000;

/// Lines of everybody that a failure shows.
const TAIL: usize = 40;

/// Lines of the hosts concerned that a failure shows before those.
const CONCERNED: usize = 40;

/// Bytes that are hashed at once: long stretches are hashed several times as fast as short ones.
const STRETCH: usize = 64 * 1024;

/// Two runs with the same hash did the same.
pub(crate) struct Trace {
    hasher: blake3::Hasher,
    unhashed: Vec<u8>,
    lines: VecDeque<String>,
    events: u64,
    loud: bool,
    /// Nobody compares the hash: only lines are kept.
    pub(crate) deaf: bool,
}

impl Trace {
    pub(crate) fn new(loud: bool) -> Self {
        Self {
            hasher: blake3::Hasher::new(),
            unhashed: Vec::with_capacity(2 * STRETCH),
            lines: VecDeque::new(),
            events: 0,
            loud,
            deaf: false,
        }
    }

    /// Something happened that only the hash needs.
    pub(crate) fn bytes(&mut self, now: Instant, kind: u8, bytes: &[u8]) {
        self.events += 1;
        if self.deaf {
            return;
        }
        self.unhashed.extend_from_slice(&now.as_micros().to_le_bytes());
        self.unhashed.push(kind);
        self.unhashed.extend_from_slice(bytes);
        if self.unhashed.len() >= STRETCH {
            self.hasher.update(&self.unhashed);
            self.unhashed.clear();
        }
    }

    /// Something happened that a person wants to read.
    pub(crate) fn note(&mut self, now: Instant, text: &str) {
        self.bytes(now, 0, text.as_bytes());
        let line = format!("{now:?} {text}");
        if self.loud {
            println!("{line}");
        }
        self.lines.push_back(line);
        if self.lines.len() > KEPT {
            self.lines.pop_front();
        }
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    pub(crate) fn hash(&self) -> String {
        self.hasher.clone().update(&self.unhashed).finalize().to_hex().to_string()
    }

    /// The last lines of the hosts that `reason` names, and then the last of all.
    pub(crate) fn tail(&self, reason: &str) -> Vec<String> {
        let all = self.lines.len().saturating_sub(TAIL);
        let hosts = hosts_in(reason);
        let concerned = self.lines.iter().take(all).filter(|line| {
            let theirs = hosts_in(line);
            hosts.iter().any(|host| theirs.contains(host))
        });
        let concerned: Vec<_> = concerned.collect();
        let last = concerned.len().saturating_sub(CONCERNED);
        concerned[last..].iter().copied().chain(self.lines.iter().skip(all)).cloned().collect()
    }
}

/// The numbers that a text names as hosts: "host 3", "hosts {3, 7}".
fn hosts_in(text: &str) -> Vec<usize> {
    let mut hosts = Vec::new();
    for part in text.split("host").skip(1) {
        let part = part.trim_start_matches('s').trim_start();
        let end = part.find(|c: char| !(c.is_ascii_digit() || "{}[], ".contains(c)));
        let numbers = part.get(..end.unwrap_or(part.len())).unwrap_or_default();
        let numbers = numbers.split(|c: char| !c.is_ascii_digit());
        hosts.extend(numbers.filter_map(|number| number.parse::<usize>().ok()));
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_in_the_words_of_a_failure() {
        assert_eq!(hosts_in("host 3 goes down while hosts {4, 17} are, and 2 may be"), [3, 4, 17]);
        assert_eq!(hosts_in("permit 12 is open"), Vec::<usize>::new());
    }

    #[test]
    fn a_failure_shows_the_hosts_that_it_names_however_much_others_have_to_say() {
        let mut trace = Trace::new(false);
        trace.note(Instant::ZERO, "host 3 starts");
        for _ in 0..100 {
            trace.note(Instant::ZERO, "host 4 starts");
        }
        let tail = trace.tail("host 3 is at fault");
        assert!(tail.iter().any(|line| line.contains("host 3 starts")));
        assert_eq!(tail.len(), TAIL + 1);
    }
}
