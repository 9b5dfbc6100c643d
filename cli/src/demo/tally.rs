//! What the prober has seen: which ports are down, how many at once at the worst, and for how long.

use std::time::{Duration, Instant};

/// One port, as seen from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// When its present downtime was first seen; `None` while it is up.
    down_since: Option<Instant>,
    /// Whether it was ever up. Before that it is not counted as down.
    seen_up: bool,
    /// What its last good answer said: the version that runs.
    version: String,
    /// Why the last probe failed.
    reason: String,
}

impl Port {
    /// Whether it answered the last probe.
    pub fn is_up(&self) -> bool {
        self.seen_up && self.down_since.is_none()
    }

    /// The version of the last good answer.
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// The answer to one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Ready, with the version that it said.
    Ready(String),
    /// Anything else, in words.
    Not(String),
}

/// All ports, and the worst moment.
#[derive(Clone, Debug)]
pub struct Tally {
    ports: Vec<Port>,
    most_down: usize,
    downtimes: Vec<Duration>,
    first_down: Option<Instant>,
    last_up: Option<Instant>,
    probes: u64,
}

impl Tally {
    /// Nothing was seen yet of so many ports.
    pub fn new(ports: usize) -> Self {
        let ports = vec![Port::default(); ports];
        let (most_down, downtimes, probes) = (0, Vec::new(), 0);
        Self { ports, most_down, downtimes, first_down: None, last_up: None, probes }
    }

    /// Notes what a probe of `port` saw.
    pub fn note(&mut self, port: usize, seen: Seen, at: Instant) {
        self.probes += 1;
        let Some(port) = self.ports.get_mut(port) else { return };
        match seen {
            Seen::Ready(version) => {
                port.seen_up = true;
                port.version = version;
                let ended = port.down_since.take();
                self.last_up = ended.map(|_| at).or(self.last_up);
                self.downtimes.extend(ended.map(|since| at.saturating_duration_since(since)));
            }
            Seen::Not(reason) => {
                port.reason = reason;
                if port.seen_up && port.down_since.is_none() {
                    port.down_since = Some(at);
                    self.first_down.get_or_insert(at);
                }
            }
        }
        self.most_down = self.most_down.max(self.down());
    }

    /// Forgets the worst moment and the downtimes: what counts begins now.
    pub fn begin(&mut self) {
        self.most_down = self.down();
        self.downtimes.clear();
        (self.first_down, self.last_up) = (None, None);
    }

    /// From the first service that went down to the last that came back.
    pub fn took(&self) -> Option<Duration> {
        Some(self.last_up?.saturating_duration_since(self.first_down?))
    }

    /// The ports, in their order.
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// How many that were up are down now.
    pub fn down(&self) -> usize {
        self.ports.iter().filter(|port| port.down_since.is_some()).count()
    }

    /// The most that were down at the same moment.
    pub fn most_down(&self) -> usize {
        self.most_down
    }

    /// How many are up with this version.
    pub fn on(&self, version: &str) -> usize {
        self.ports.iter().filter(|port| port.is_up() && port.version == version).count()
    }

    /// How often a port was asked.
    pub fn probes(&self) -> u64 {
        self.probes
    }

    /// The median of the downtimes that ended; `None` where there was none.
    pub fn downtime(&self) -> Option<Duration> {
        let mut sorted = self.downtimes.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }

    /// Why the ports that are not up are not, for an error's text.
    pub fn troubles(&self) -> Vec<String> {
        let ill = self.ports.iter().enumerate().filter(|(_, port)| !port.is_up());
        ill.map(|(n, port)| format!("n{}: {}", n + 1, port.reason)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up() -> Seen {
        Seen::Ready("v1".into())
    }

    fn down() -> Seen {
        Seen::Not("refused".into())
    }

    #[test]
    fn the_worst_moment_counts_ports_down_together() {
        let at = Instant::now();
        let mut tally = Tally::new(3);
        (0..3).for_each(|port| tally.note(port, up(), at));
        tally.note(0, down(), at);
        tally.note(0, up(), at);
        tally.note(1, down(), at);
        assert_eq!(tally.most_down(), 1, "one after the other is one at once");
        tally.note(2, down(), at);
        tally.note(2, down(), at);
        assert_eq!((tally.down(), tally.most_down()), (2, 2));
        tally.note(1, up(), at);
        tally.note(2, up(), at);
        assert_eq!((tally.down(), tally.most_down()), (0, 2), "the worst is kept");
    }

    #[test]
    fn a_port_that_was_never_up_is_not_down_and_not_up() {
        let mut tally = Tally::new(2);
        tally.note(0, down(), Instant::now());
        assert_eq!((tally.down(), tally.on("v1")), (0, 0));
        assert_eq!(tally.troubles().len(), 2);
    }

    #[test]
    fn begin_forgets_what_was_before_and_keeps_who_is_down() {
        let at = Instant::now();
        let mut tally = Tally::new(3);
        (0..3).for_each(|port| tally.note(port, up(), at));
        (0..2).for_each(|port| tally.note(port, down(), at));
        tally.note(0, up(), at);
        tally.begin();
        assert_eq!(tally.most_down(), 1);
    }

    #[test]
    fn a_downtime_runs_from_the_first_bad_answer_to_the_next_good_one() {
        let at = Instant::now();
        let mut tally = Tally::new(1);
        let later = |ms| at + Duration::from_millis(ms);
        tally.note(0, up(), at);
        assert_eq!(tally.downtime(), None);
        tally.note(0, down(), later(100));
        tally.note(0, down(), later(200));
        tally.note(0, Seen::Ready("v2".into()), later(450));
        assert_eq!(tally.downtime(), Some(Duration::from_millis(350)));
        assert_eq!((tally.on("v1"), tally.on("v2")), (0, 1));
        tally.note(0, down(), later(900));
        tally.note(0, up(), later(1100));
        assert_eq!(tally.took(), Some(Duration::from_millis(1000)));
        tally.begin();
        assert_eq!((tally.took(), tally.downtime()), (None, None));
    }
}
