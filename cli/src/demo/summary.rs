//! What the demo says at its end, and whether what was promised held.

use std::fmt;
use std::time::Duration;

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Nodes, each with a service.
    pub hosts: usize,
    /// Bytes and files of version 2.
    pub release_bytes: u64,
    /// Files of version 2.
    pub release_files: usize,
    /// Bytes of version 1, which no node had.
    pub first_bytes: u64,
    /// Bytes that the seeding node sent for version 1; `None` where nobody could tell.
    pub first_seed_sent: Option<u64>,
    /// Bytes that the seeding node sent for version 2; `None` where nobody could tell.
    pub seed_sent: Option<u64>,
    /// Bytes of version 2 that the other nodes had to receive, all together.
    pub received: Option<u64>,
    /// From the command until version 2 was staged everywhere.
    pub staged: Option<Duration>,
    /// From the first service that went down or changed to the last that was back.
    pub rollout: Option<Duration>,
    /// How long a single service was not ready: the median.
    pub restart: Option<Duration>,
    /// The most services down at the same moment, by the prober.
    pub most_down: usize,
    /// The cap.
    pub cap: usize,
    /// Probes.
    pub probes: u64,
    /// Requests sent.
    pub sent: u64,
    /// Requests failed.
    pub failed: u64,
    /// Requests a second.
    pub rate: f64,
    /// The first failures, in words.
    pub failures: Vec<String>,
    /// The balancer's name.
    pub balancer: &'static str,
    /// The version that all should run at the end, and how many do, by their own ports.
    pub wanted: String,
    /// How many do.
    pub on_wanted: usize,
    /// Whether version 2 was bad on purpose.
    pub bad: bool,
    /// Why version 2 was rolled back, where it was.
    pub reason: Option<String>,
}

impl Summary {
    /// What did not hold, in words; nothing where all did.
    pub fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        if self.most_down > self.cap {
            broken.push(format!(
                "{} services were down at once, over the cap of {}",
                self.most_down, self.cap
            ));
        }
        if self.failed > 0 {
            broken.push(format!("{} requests failed", self.failed));
        }
        if self.sent == 0 {
            broken.push("no request was sent".to_owned());
        }
        if self.rate < 200.0 {
            broken.push(format!("only {:.0} requests a second were sent, not 200", self.rate));
        }
        if self.on_wanted != self.hosts {
            broken
                .push(format!("{} of {} services run {}", self.on_wanted, self.hosts, self.wanted));
        }
        broken
    }

    /// What a node had to receive of version 2: the mean.
    fn new_to_each(&self) -> Option<u64> {
        self.received?.checked_div(self.receivers()?)
    }

    fn receivers(&self) -> Option<u64> {
        u64::try_from(self.hosts.saturating_sub(1)).ok()
    }

    /// All of it for a program: bytes, and times in seconds; `null` where nobody could tell.
    pub fn to_json(&self) -> serde_json::Value {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        serde_json::json!({
            "hosts": self.hosts,
            "first": { "bytes": self.first_bytes, "sent_by_seed": self.first_seed_sent },
            "second": {
                "bytes": self.release_bytes,
                "files": self.release_files,
                "sent_by_seed": self.seed_sent,
                "new_to_each_host": self.new_to_each(),
                "saved": self.saved(),
            },
            "staged_seconds": seconds(self.staged),
            "rollout_seconds": seconds(self.rollout),
            "restart_seconds": seconds(self.restart),
            "most_down": self.most_down,
            "cap": self.cap,
            "probes": self.probes,
            "balancer": self.balancer,
            "requests": self.sent,
            "requests_a_second": self.rate,
            "requests_failed": self.failed,
            "failures": self.failures,
            "wanted": self.wanted,
            "on_wanted": self.on_wanted,
            "rolled_back_because": self.reason,
            "not_held": self.broken(),
        })
    }

    /// What the mesh did not have to send, as version 1 or another node's copy had it.
    fn saved(&self) -> Option<u64> {
        Some((self.release_bytes * self.receivers()?).saturating_sub(self.received?))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: String| writeln!(f, "  {name:<24}{value}");
        line("hosts", self.hosts.to_string())?;
        line("release", format!("{} in {} files", mib(self.release_bytes), self.release_files))?;
        let first =
            |sent| format!("{} of {} to a mesh that had none", mib(sent), mib(self.first_bytes));
        line("version 1: seed sent", known(self.first_seed_sent, first))?;
        let new = known(self.new_to_each(), mib);
        let second = |sent| format!("{}; {new} of it was new to each host", mib(sent));
        line("version 2: seed sent", known(self.seed_sent, second))?;
        line(
            "saved by deduplication",
            known(self.saved(), |bytes| {
                format!(
                    "{} of what {} hosts would have to receive",
                    mib(bytes),
                    self.hosts.saturating_sub(1)
                )
            }),
        )?;
        line("staged everywhere after", known(self.staged, seconds))?;
        line("rollout took", known(self.rollout, seconds))?;
        let restart = |time| format!("{} without an answer", seconds(time));
        line("a single restart", known(self.restart, restart))?;
        let most = format!("{} at once, cap {} ({} probes)", self.most_down, self.cap, self.probes);
        line("most services down", most)?;
        let flow = format!("{} sent by {}, {:.0} a second", self.sent, self.balancer, self.rate);
        line("requests", flow)?;
        line("requests failed", self.failed.to_string())?;
        line(&format!("on {}", self.wanted), format!("{} of {}", self.on_wanted, self.hosts))?;
        if let Some(reason) = &self.reason {
            line("rolled back because", reason.clone())?;
        }
        line("min_healthy", "1s, for a short demo; it is 10s unless said".to_owned())?;
        self.failures.iter().try_for_each(|failure| writeln!(f, "  failed: {failure}"))
    }
}

fn known<T>(value: Option<T>, text: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "unknown".to_owned(), text)
}

/// Bytes as a person reads them.
pub fn mib(bytes: u64) -> String {
    // A size of petabytes would lose its last digits here, and no reader would miss them.
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Summary {
        Summary {
            hosts: 20,
            release_bytes: 64 << 20,
            most_down: 2,
            cap: 2,
            sent: 1000,
            rate: 220.0,
            wanted: "v2".into(),
            on_wanted: 20,
            ..Summary::default()
        }
    }

    #[test]
    fn all_that_is_promised_is_judged() {
        assert!(good().broken().is_empty());
        let over = Summary { most_down: 3, ..good() };
        let failed = Summary { failed: 1, ..good() };
        let slow = Summary { rate: 150.0, ..good() };
        let left = Summary { on_wanted: 19, ..good() };
        for broken in [over, failed, slow, left] {
            assert_eq!(broken.broken().len(), 1, "{:?}", broken.broken());
        }
    }

    #[test]
    fn what_nobody_could_tell_is_unknown() {
        let text = good().to_string();
        let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap().to_owned();
        assert!(line("version 2: seed sent").ends_with("unknown"));
        assert!(line("saved by dedup").ends_with("unknown"));
        let told = Summary { seed_sent: Some(2 << 20), received: Some(19 << 20), ..good() };
        let text = told.to_string();
        assert!(text.contains("2.0 MiB") && text.contains("1197.0 MiB"), "{text}");
        assert!(text.contains("1s"));
        let json = told.to_json();
        assert_eq!(json["second"]["new_to_each_host"], 1 << 20);
        assert!(json["restart_seconds"].is_null(), "{json}");
    }
}
