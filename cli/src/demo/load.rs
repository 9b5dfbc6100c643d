//! The requests that flow all along, and a stand-in for a load balancer where none is installed.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::http;
use super::plan::Node;

/// Requests a second of all workers together: something over the 200 that are promised, as a
/// worker whose request is slow skips its next turn.
pub const PER_SECOND: u64 = 240;
const WORKERS: u64 = 24;

/// A request that is not answered by then has failed.
const WITHIN: Duration = Duration::from_secs(5);

/// What HAProxy is told in its configuration, done likewise by the stand-in.
const AGENT_INTERVAL: Duration = Duration::from_millis(200);
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
const CHECK_FALL: usize = 2;

/// Failures whose words are kept; the first ones tell what happened.
const FAILURES_KEPT: usize = 5;

/// What was sent, and what became of it.
#[derive(Default)]
pub struct Count {
    sent: AtomicU64,
    failed: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Count {
    /// Requests that were sent and answered or failed.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Requests without a whole answer of status 200.
    pub fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    /// The first failures in words.
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, ended: Result<(), String>) {
        self.sent.fetch_add(1, Relaxed);
        let Err(why) = ended else { return };
        self.failed.fetch_add(1, Relaxed);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < FAILURES_KEPT {
            failures.push(why);
        }
    }
}

/// One service, as the stand-in sees it: by its agent and by its check, and by nothing else.
struct Server {
    service: u16,
    agent: u16,
    agent_up: AtomicBool,
    weight: AtomicUsize,
    check_up: AtomicBool,
}

impl Server {
    fn takes(&self) -> bool {
        self.agent_up.load(Relaxed) && self.check_up.load(Relaxed) && self.weight.load(Relaxed) > 0
    }

    fn hear(&self, line: &str) {
        for word in line.split([' ', '\t', ',', '\r', '\n']).take_while(|w| !w.starts_with('#')) {
            match word.strip_suffix('%').map(str::parse) {
                Some(Ok(weight)) => self.weight.store(weight, Relaxed),
                _ if word == "up" => self.agent_up.store(true, Relaxed),
                _ if ["down", "fail", "stopped"].contains(&word) => {
                    self.agent_up.store(false, Relaxed);
                }
                _ => {}
            }
        }
    }
}

/// Where the requests go.
pub struct Front {
    servers: Vec<Server>,
    next: AtomicUsize,
    proxy: Option<u16>,
}

impl Front {
    /// To a load balancer that listens on this port.
    pub fn proxy(port: u16) -> Arc<Self> {
        Arc::new(Self { servers: Vec::new(), next: AtomicUsize::new(0), proxy: Some(port) })
    }

    /// To the services themselves, chosen by what a load balancer would know of them.
    pub fn direct(nodes: &[Node]) -> Arc<Self> {
        let server = |node: &Node| Server {
            service: node.service,
            agent: node.agent,
            agent_up: AtomicBool::new(true),
            weight: AtomicUsize::new(100),
            check_up: AtomicBool::new(false),
        };
        let servers = nodes.iter().map(server).collect();
        Arc::new(Self { servers, next: AtomicUsize::new(0), proxy: None })
    }

    /// The port that the next request goes to; `None` while no service takes any.
    fn choose(&self) -> Option<u16> {
        if self.proxy.is_some() {
            return self.proxy;
        }
        let from = self.next.fetch_add(1, Relaxed) % self.servers.len().max(1);
        let turn = self.servers.iter().cycle().skip(from).take(self.servers.len());
        turn.into_iter().find(|server| server.takes()).map(|server| server.service)
    }
}

/// Requests that flow until this is dropped.
pub struct Load {
    /// What became of them so far.
    pub count: Arc<Count>,
    _tasks: JoinSet<()>,
}

/// Begins to watch the services, if nobody else does. The tasks end with the set.
fn watch(front: &Arc<Front>, tasks: &mut JoinSet<()>) {
    for n in 0..front.servers.len() {
        tasks.spawn(watch_agent(front.clone(), n));
        tasks.spawn(watch_check(front.clone(), n));
    }
}

impl Load {
    /// Begins to send requests for `paths`.
    pub fn start(front: &Arc<Front>, paths: Vec<String>) -> Self {
        let (count, mut tasks) = (Arc::new(Count::default()), JoinSet::new());
        watch(front, &mut tasks);
        let paths = Arc::new(paths);
        for worker in 0..WORKERS {
            tasks.spawn(work(worker, front.clone(), paths.clone(), count.clone()));
        }
        Self { count, _tasks: tasks }
    }
}

async fn work(worker: u64, front: Arc<Front>, paths: Arc<Vec<String>>, count: Arc<Count>) {
    let turn = Duration::from_micros(1_000_000 * WORKERS / PER_SECOND);
    // The first checks of the servers come first, and the workers do not go in step.
    sleep(CHECK_INTERVAL * 2 + turn * u32::try_from(worker).unwrap_or(0) / 24).await;
    let mut ticks = interval(turn);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let nothing = "/VERSION".to_owned();
    for path in paths.iter().cycle().skip(usize::try_from(worker).unwrap_or(0) * 7) {
        ticks.tick().await;
        count.note(request(&front, path).await);
    }
    // Only without any path.
    loop {
        ticks.tick().await;
        count.note(request(&front, &nothing).await);
    }
}

async fn request(front: &Front, path: &str) -> Result<(), String> {
    let port = front.choose().ok_or("no service takes requests")?;
    match http::get(port, path, WITHIN).await {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(format!("status {} from port {port} for {path}", answer.status)),
        Err(error) => Err(format!("{error} from port {port} for {path}")),
    }
}

async fn watch_agent(front: Arc<Front>, n: usize) {
    let Some(server) = front.servers.get(n) else { return };
    loop {
        // As to HAProxy, an agent that is not reached, or says nothing, changes nothing.
        if let Ok(Ok(line)) = timeout(AGENT_INTERVAL, ask_agent(server.agent)).await {
            server.hear(&line);
        }
        sleep(AGENT_INTERVAL).await;
    }
}

async fn ask_agent(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut line = Vec::new();
    while !line.contains(&b'\n') && stream.read_buf(&mut line).await? > 0 {}
    Ok(String::from_utf8_lossy(&line).lines().next().unwrap_or_default().to_owned())
}

async fn watch_check(front: Arc<Front>, n: usize) {
    let Some(server) = front.servers.get(n) else { return };
    let mut bad = 0;
    loop {
        let answer = http::get(server.service, "/ready", CHECK_INTERVAL).await;
        bad = if answer.is_ok_and(|answer| answer.status == 200) { 0 } else { bad + 1 };
        if bad == 0 || bad >= CHECK_FALL {
            server.check_up.store(bad == 0, Relaxed);
        }
        sleep(CHECK_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn front() -> Arc<Front> {
        let (nodes, _) =
            super::super::plan::lay_out(std::path::Path::new("/tmp/btn-x"), 2).unwrap();
        let front = Front::direct(&nodes);
        front.servers.iter().for_each(|server| server.check_up.store(true, Relaxed));
        front
    }

    #[test]
    fn a_drained_a_down_and_an_ill_server_get_nothing() {
        let front = front();
        let (first, other) = (&front.servers[0], front.servers[1].service);
        let all_to_other = || (0..6).all(|_| front.choose() == Some(other));
        assert!(!all_to_other());
        first.hear("up 0%\n");
        assert!(all_to_other());
        first.hear("up 100%\n");
        assert!(!all_to_other());
        first.hear("down #up 100% soon\n");
        assert!(all_to_other());
        first.hear("up 100%\n");
        first.check_up.store(false, Relaxed);
        assert!(all_to_other());
    }

    #[test]
    fn failures_are_counted_and_the_first_are_told() {
        let count = Count::default();
        count.note(Ok(()));
        (0..9).for_each(|n| count.note(Err(format!("failure {n}"))));
        assert_eq!((count.sent(), count.failed()), (10, 9));
        assert_eq!(count.failures().len(), FAILURES_KEPT);
    }
}
