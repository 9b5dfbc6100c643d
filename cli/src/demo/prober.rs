//! The prober: it is given ports and nothing else, and judges readiness from outside.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::http;
use super::tally::{Seen, Tally};

/// How often each port is asked: far more often than the shortest restart is long.
const INTERVAL: Duration = Duration::from_millis(10);

/// An answer later than this is none.
const WITHIN: Duration = Duration::from_millis(500);

/// A prober that runs on a thread of its own until it is dropped.
pub struct Prober {
    tally: Arc<Mutex<Tally>>,
    _running: watch::Sender<()>,
}

impl Prober {
    /// Begins to ask each of `ports` for `/ready`, over a new connection each time.
    ///
    /// # Errors
    /// When the thread or its event loop cannot be had.
    pub fn start(ports: Vec<u16>) -> std::io::Result<Self> {
        let tally = Arc::new(Mutex::new(Tally::new(ports.len())));
        let (running, ended) = watch::channel(());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = tally.clone();
        let run = move || runtime.block_on(probe_all(ports, &shared, ended));
        std::thread::Builder::new().name("prober".into()).spawn(run)?;
        Ok(Self { tally, _running: running })
    }

    /// Looks at what was seen so far.
    pub fn look<T>(&self, view: impl FnOnce(&mut Tally) -> T) -> T {
        view(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn probe_all(ports: Vec<u16>, tally: &Arc<Mutex<Tally>>, mut ended: watch::Receiver<()>) {
    let mut probes = tokio::task::JoinSet::new();
    for (n, port) in ports.into_iter().enumerate() {
        probes.spawn(probe(n, port, tally.clone()));
    }
    // The only sender is dropped with the prober.
    while ended.changed().await.is_ok() {}
}

async fn probe(n: usize, port: u16, tally: Arc<Mutex<Tally>>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let seen = ask(port).await;
        tally.lock().unwrap_or_else(PoisonError::into_inner).note(n, seen, Instant::now());
    }
}

async fn ask(port: u16) -> Seen {
    match http::get(port, "/ready", WITHIN).await {
        Ok(answer) if answer.status == 200 => Seen::Ready(text(&answer.body)),
        Ok(answer) => Seen::Not(format!("{} {}", answer.status, text(&answer.body))),
        Err(error) => Seen::Not(error.to_string()),
    }
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).trim().chars().take(80).collect()
}
