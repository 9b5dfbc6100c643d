//! Rollout after rollout under load, with something killed in the middle of each.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use serde::Serialize;

use crate::client::Client;
use crate::haproxy::Haproxy;
use crate::mesh::{Balancer, Mesh, Plan, wait};
use crate::mischief::{DEEDS, Deed, Done, most_down, perform};
use crate::prober::{Change, Prober, Seen, probe};
use crate::processes::{Part, processes_of};
use crate::second_opinion;
use crate::upkeep::{Held, files_in};

/// Rollouts before what processes and directories hold is taken as the measure of what comes.
const WARM_UP: usize = 5;

/// What a rollout may take, with everything that is done to it.
const ROLLOUT_WITHIN: &str = "180s";

/// How often a rollout that wants a person is resumed before it counts as one without an end.
const RESUMES_MAX: usize = 3;

/// Failures of one rollout whose words are kept.
const FAILURES_KEPT: usize = 4;

/// What a soak is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// HAProxy's program.
    pub haproxy: &'a Path,
    /// How many rollouts.
    pub rollouts: usize,
    /// How many nodes.
    pub nodes: usize,
    /// How many services may be down at once.
    pub cap: usize,
    /// Requests a second.
    pub per_second: u32,
    /// What decides all that is drawn.
    pub seed: u64,
    /// What is done in each rollout, instead of what is drawn.
    pub deed: Option<Deed>,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// The seed.
    pub seed: u64,
    /// Rollouts that came to an end.
    pub rollouts: usize,
    /// How they ended.
    pub ends: BTreeMap<&'static str, usize>,
    /// What was done to them.
    pub deeds: BTreeMap<String, usize>,
    /// The most services down at once by the mesh's own doing.
    pub most_down: usize,
    /// Requests.
    pub requests: u64,
    /// Requests that failed, by what was done at the time.
    pub failed_requests: BTreeMap<String, u64>,
    /// The first failures of each rollout, by the client's word and HAProxy's.
    pub failures: Vec<String>,
    /// What the daemon that lived through it all held after the first rollouts, and at the end.
    pub daemon: (Held, Held),
    /// What did not hold, in words.
    pub violations: Vec<String>,
}

/// A soak under way.
struct Soak<'a> {
    settings: Settings<'a>,
    mesh: Mesh,
    haproxy: Haproxy,
    rng: ChaCha8Rng,
    summary: Summary,
}

/// Runs a soak, and says of each rollout how it went.
pub fn run(settings: Settings<'_>, mut tell: impl FnMut(&str)) -> Summary {
    let cap = settings.cap.to_string();
    let plan = Plan {
        nodes: settings.nodes,
        max_unavailable: &cap,
        min_healthy: "500ms",
        balancer: Balancer::Unread,
        ..Plan::default()
    };
    let mesh = Mesh::start_as(plan);
    mesh.deploy("v0");
    let haproxy = Haproxy::unread(settings.haproxy, &mesh);
    let rng = ChaCha8Rng::seed_from_u64(settings.seed);
    let summary = Summary { seed: settings.seed, ..Summary::default() };
    let mut soak = Soak { settings, mesh, haproxy, rng, summary };
    for number in 1..=settings.rollouts {
        let line = soak.rollout(number);
        tell(&line);
        if soak.summary.rollouts < number {
            break; // the next would wait for this one
        }
    }
    soak.finish()
}

impl Soak<'_> {
    fn draw(&mut self, below: usize) -> usize {
        usize::try_from(self.rng.next_u64() % below as u64).unwrap()
    }

    fn pause(&mut self, milliseconds: usize) -> Duration {
        Duration::from_millis(self.draw(milliseconds) as u64)
    }

    /// One rollout and one deed; gives a line on both.
    fn rollout(&mut self, number: usize) -> String {
        let drawn = DEEDS[self.draw(DEEDS.len())];
        let (deed, any) = (self.settings.deed.unwrap_or(drawn), self.draw(self.settings.nodes));
        let (before, lasting) = (self.pause(6_000), self.pause(4_000));
        self.calm();
        if number == WARM_UP + 1 {
            self.summary.daemon.0 = self.survivor();
        }
        self.haproxy.take_logged();
        let prober = Prober::start(&self.mesh.ports());
        let client = Client::start(self.haproxy.front, self.settings.per_second);
        let version = format!("v{number}");
        let source = self.mesh.release(&version, "");
        let words = ["deploy", &source, "-g", "web", "--version", &version, "--no-wait"];
        self.mesh.cli(0, &words).code(0);
        std::thread::sleep(before);
        let done = perform(&mut self.mesh, deed, any, lasting);
        let end = self.end();
        let seen = prober.finish();
        let served = client.finish();
        if !done.took_down && second_opinion::most_down(&seen.log) != seen.most_down {
            self.violate(number, "the second count of the services down is another one");
        }
        self.note(number, &seen, done, end);
        self.summary.requests += served.requests;
        *self.summary.failed_requests.entry(format!("{deed:?}")).or_default() += served.failed;
        let words = served.failures.into_iter().chain(self.haproxy.take_logged().failures);
        let words = words.take(FAILURES_KEPT).map(|words| format!("rollout {number}: {words}"));
        self.summary.failures.extend(words);
        let victim = &self.mesh.nodes[done.victim].name;
        format!(
            "{number}: {} with {deed:?} of {victim}; most down {}; {} of {} requests failed",
            end.unwrap_or("NO END"),
            seen.most_down,
            served.failed,
            served.requests
        )
    }

    fn note(&mut self, number: usize, seen: &Seen, done: Done, end: Option<&'static str>) {
        let most = most_down(&seen.changes, &done);
        *self.summary.deeds.entry(format!("{:?}", done.deed)).or_default() += 1;
        self.summary.most_down = self.summary.most_down.max(most);
        if most > self.settings.cap {
            let how = in_words(&seen.changes, &done);
            self.violate(number, &format!("{most} services were down at once: {how}"));
        }
        match end {
            Some(end) => {
                self.summary.rollouts += 1;
                *self.summary.ends.entry(end).or_default() += 1;
            }
            None => self.violate(number, "the rollout has no end"),
        }
    }

    fn violate(&mut self, number: usize, what: &str) {
        self.summary.violations.push(format!("rollout {number}: {what}"));
    }

    /// Waits for the rollout's end; one that wants a person gets one.
    fn end(&self) -> Option<&'static str> {
        let words = ["rollout", "status", "-g", "web", "--wait", "--timeout", ROLLOUT_WITHIN];
        for _ in 0..=RESUMES_MAX {
            match self.mesh.cli(0, &words).code {
                0 => return Some("done"),
                3 => return Some("rolled back"),
                // Its node was gone, or nobody led, at this moment.
                1 | 6 => std::thread::sleep(Duration::from_secs(5)),
                4 | 9 => drop(self.mesh.cli(0, &["rollout", "resume", "-g", "web"])),
                _ => return None,
            }
        }
        None
    }

    /// Waits until every service answers and every node has its three processes, no more and no less.
    fn calm(&self) {
        for (at, node) in self.mesh.nodes.iter().enumerate() {
            wait("its service answers", || probe(node.service_port));
            wait("its daemon, its shim and its service, and nothing else", || {
                let mut parts: Vec<_> =
                    self.mesh.processes(at).into_iter().map(|it| it.part).collect();
                parts.sort_unstable();
                (parts == [Part::Daemon, Part::Shim, Part::Service]).then_some(())
            });
        }
    }

    /// What the daemon holds that is never killed.
    fn survivor(&self) -> Held {
        let last = self.mesh.nodes.len() - 1;
        Held::by(self.mesh.daemon(last).as_raw_nonzero().get().unsigned_abs()).unwrap_or_default()
    }

    fn finish(mut self) -> Summary {
        self.calm();
        self.summary.daemon.1 = self.survivor();
        let (before, after) = self.summary.daemon;
        if self.settings.rollouts > WARM_UP && after.has_grown(&before) {
            self.summary.violations.push(format!("a daemon grew: {before:?}, {after:?}"));
        }
        for node in 0..self.mesh.nodes.len() {
            let left = files_in(&self.mesh.data_dir(node).join("staging"));
            if left > 0 {
                self.summary.violations.push(format!("n{}: {left} files half fetched", node + 1));
            }
        }
        let Self { mesh, haproxy, mut summary, .. } = self;
        let dir = mesh.dir().to_owned();
        drop((haproxy, mesh));
        if dir.exists() || !processes_of(&dir).is_empty() {
            summary.violations.push(format!("something is left of {}", dir.display()));
        }
        summary
    }
}

impl Summary {
    /// Requests that failed though no service was killed: none may.
    pub fn failed_without_cause(&self) -> u64 {
        let killed = [Deed::KillShim, Deed::KillService].map(|deed| format!("{deed:?}"));
        let failed = self.failed_requests.iter();
        failed.filter(|(deed, _)| !killed.contains(deed)).map(|(_, failed)| failed).sum()
    }

    /// Whether all of it held.
    pub fn held(&self) -> bool {
        self.violations.is_empty() && self.failed_without_cause() == 0
    }
}

/// Who went down and came up when, in milliseconds from the deed: as it was seen, and how long that took.
fn in_words(changes: &[Change], done: &Done) -> String {
    let from_deed = |change: &Change| {
        let after = change.seen.saturating_duration_since(done.at).as_millis();
        let before = done.at.saturating_duration_since(change.seen).as_millis();
        let word = if change.up { "up" } else { "down" };
        let took = (change.seen - change.at).as_millis();
        let sign = if before > 0 { format!("-{before}") } else { format!("{after}") };
        format!("{sign} n{} {word} ({took})", change.port + 1)
    };
    let all: Vec<_> = changes.iter().map(from_deed).collect();
    format!("{:?} of n{}: {}", done.deed, done.victim + 1, all.join(", "))
}
