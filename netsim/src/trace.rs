//! The hash over all that happened, and the last of it in words.

use std::collections::VecDeque;

use baton_protocol::time::Instant;

/// Events that a failure shows.
const TAIL: usize = 60;

/// Two runs with the same hash did the same.
pub(crate) struct Trace {
    hasher: blake3::Hasher,
    tail: VecDeque<String>,
    events: u64,
    loud: bool,
}

impl Trace {
    pub(crate) fn new(loud: bool) -> Self {
        Self { hasher: blake3::Hasher::new(), tail: VecDeque::new(), events: 0, loud }
    }

    /// Something happened that only the hash needs.
    pub(crate) fn bytes(&mut self, now: Instant, kind: u8, bytes: &[u8]) {
        self.events += 1;
        self.hasher.update(&now.as_micros().to_le_bytes()).update(&[kind]).update(bytes);
    }

    /// Something happened that a person wants to read.
    pub(crate) fn note(&mut self, now: Instant, text: &str) {
        self.bytes(now, 0, text.as_bytes());
        let line = format!("{now:?} {text}");
        if self.loud {
            println!("{line}");
        }
        self.tail.push_back(line);
        if self.tail.len() > TAIL {
            self.tail.pop_front();
        }
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    pub(crate) fn hash(&self) -> String {
        self.hasher.clone().finalize().to_hex().to_string()
    }

    pub(crate) fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }
}
