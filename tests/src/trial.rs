//! A mesh under load behind a real HAProxy that a witness reads, and what the client, the balancer and
//! the prober say of what is done to it meanwhile.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::client::{Client, Served};
use crate::haproxy::Logged;
use crate::mesh::{Balancer, Mesh, Plan};
use crate::prober::{Prober, Seen};
use crate::second_opinion;
use crate::watched::Watched;

/// Requests flow for so long before anything is done and after it was.
const CALM: Duration = Duration::from_secs(2);

/// How long the requests that are still missing may take.
const REQUESTS_WITHIN: Duration = Duration::from_secs(600);

/// A mesh whose services are balanced. Dropping it ends everything.
pub struct Trial {
    balancer: Watched,
    /// The mesh.
    pub mesh: Mesh,
}

/// What was seen of one act.
#[derive(Debug)]
pub struct Judged {
    /// By the prober.
    pub seen: Seen,
    /// The most services down at once, as another program reads it out of the prober's log.
    pub second: usize,
    /// By the client.
    pub served: Served,
    /// By HAProxy.
    pub logged: Logged,
    /// How long the act took.
    pub took: Duration,
}

impl Trial {
    /// A mesh on `v1`, and HAProxy, this program, before it, as `baton lb` configures it.
    pub fn start(haproxy: &Path, plan: Plan<'_>) -> Self {
        let mesh = Mesh::start_as(Plan { balancer: Balancer::Read, ..plan });
        mesh.deploy("v1");
        let balancer = Watched::start(haproxy, &mesh, |text| text);
        Self { balancer, mesh }
    }

    /// Does something under load, of at least so many requests in all.
    pub fn under_load(
        &mut self,
        per_second: u32,
        requests: u64,
        act: impl FnOnce(&mut Mesh),
    ) -> Judged {
        self.balancer.haproxy.take_logged();
        let prober = Prober::start(&self.mesh.ports());
        let client = Client::start(self.balancer.haproxy.front, per_second);
        std::thread::sleep(CALM);
        let begun = Instant::now();
        act(&mut self.mesh);
        let took = begun.elapsed();
        std::thread::sleep(CALM);
        while client.requests() < requests && begun.elapsed() < REQUESTS_WITHIN {
            std::thread::sleep(Duration::from_millis(100));
        }
        let served = client.finish();
        let seen = prober.finish();
        let second = second_opinion::most_down(&seen.log);
        Judged { seen, second, served, logged: self.balancer.haproxy.take_logged(), took }
    }
}

impl Judged {
    /// What did not hold, in words: no request failed, by the client's word and by HAProxy's; the log
    /// has every request; at most `cap` services were down at once, and both who count them agree.
    pub fn broken(&self, cap: usize) -> Vec<String> {
        let Self { seen, second, served, logged, .. } = self;
        let judged = [
            (served.failed > 0, format!("the client: {:#?}", served.failures)),
            (logged.failed > 0, format!("HAProxy's log: {:#?}", logged.failures)),
            (logged.requests != served.requests, "the log has not every request".to_owned()),
            (seen.most_down > cap, format!("{} down at once, over {cap}", seen.most_down)),
            (seen.most_down != *second, format!("{second} down at once, by the second count")),
        ];
        judged.into_iter().filter_map(|(broken, words)| broken.then_some(words)).collect()
    }

    /// Asserts that all of it held.
    #[track_caller]
    pub fn assert_held(&self, cap: usize) {
        assert_eq!(self.broken(cap), [""; 0], "{self}");
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests, failed by the client {} and by HAProxy's log of {} {}, latest start {} ms \
             late; most down {}, ever down {}; took {:.1} s",
            self.served.requests,
            self.served.failed,
            self.logged.requests,
            self.logged.failed,
            self.served.latest.as_millis(),
            self.seen.most_down,
            self.seen.ever_down,
            self.took.as_secs_f64(),
        )
    }
}
