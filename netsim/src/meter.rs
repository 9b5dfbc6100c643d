//! What hosts say and hear: frames of control, and their bytes.

use crate::event::Host;

/// Frames and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes as u64;
    }
}

/// The counts of one host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Talk {
    pub(crate) sent: Count,
    pub(crate) heard: Count,
}

/// The counts of all hosts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter(Vec<Talk>);

impl Meter {
    pub(crate) fn of(hosts: usize) -> Self {
        Self(vec![Talk::default(); hosts])
    }

    pub(crate) fn sent(&mut self, from: Host, bytes: usize) {
        if let Some(talk) = self.0.get_mut(from) {
            talk.sent.add(bytes);
        }
    }

    pub(crate) fn heard(&mut self, to: Host, bytes: usize) {
        if let Some(talk) = self.0.get_mut(to) {
            talk.heard.add(bytes);
        }
    }

    pub(crate) fn of_host(&self, host: Host) -> Talk {
        self.0.get(host).copied().unwrap_or_default()
    }

    /// All frames that were sent, by anybody.
    pub(crate) fn sent_by_all(&self) -> u64 {
        self.0.iter().map(|talk| talk.sent.frames).sum()
    }

    /// All frames that were heard, by anybody.
    pub(crate) fn heard_by_all(&self) -> u64 {
        self.0.iter().map(|talk| talk.heard.frames).sum()
    }
}
