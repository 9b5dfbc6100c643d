//! One group's service on this host: carries actions to its shim, and what is seen back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use baton_protocol::agent::service::ServiceEvent;
use baton_protocol::agent::unit::{Balance, ServiceAction};
use baton_protocol::artifact::service::{Probe, ServiceSpec, fill};
use baton_protocol::failpoint::{self, Failpoint};
use baton_protocol::id::{GroupName, ReleaseId};
use baton_protocol::limits::REASON_BYTES_MAX;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::attempts::Attempts;
use crate::runtime::agent_check::{AgentCheck, AgentState};
use crate::runtime::drain;
use crate::runtime::exec::{ExecError, News, ServiceHandle, ShimProgram};
use crate::runtime::probe::probe;
use crate::runtime::shim::message::{Exited, Start, State};
use crate::store::Store;

/// Pause between two counts of connections while a service drains.
const COUNT_EVERY: Duration = Duration::from_millis(100);

/// What one service needs to be run.
pub(super) struct Setup {
    pub(super) group: GroupName,
    pub(super) dir: PathBuf,
    pub(super) vars: BTreeMap<String, String>,
    pub(super) shim: ShimProgram,
    pub(super) store: Arc<Store>,
    pub(super) agent_check: Option<Arc<AgentCheck>>,
    pub(super) tell: mpsc::Sender<(GroupName, ServiceEvent)>,
}

struct Service {
    setup: Setup,
    handle: ServiceHandle,
    running: Option<Running>,
    counting: bool,
    probing: bool,
    probed: mpsc::Sender<(ReleaseId, Result<(), String>)>,
}

struct Running {
    release: ReleaseId,
    spec: ServiceSpec,
    /// Where its connections are counted.
    listen: Option<SocketAddr>,
    tree: PathBuf,
}

/// Starts the task of one service. It tells first what it finds running.
pub(super) fn start(setup: Setup) -> mpsc::UnboundedSender<ServiceAction> {
    // A unit waits for what came of `Start` and `Stop`; besides these it says a few words at each of its
    // steps, and takes no further step without an answer.
    let (actions, taken) = mpsc::unbounded_channel();
    tokio::spawn(run(setup, taken));
    actions
}

async fn run(setup: Setup, mut actions: mpsc::UnboundedReceiver<ServiceAction>) {
    let handle = ServiceHandle::new(setup.dir.clone(), setup.shim.clone());
    let (probed, mut answers) = mpsc::channel(1);
    let mut service =
        Service { setup, handle, running: None, counting: false, probing: false, probed };
    let ended = service.setup.tell.clone();
    tokio::select! {
        () = service.find() => {}
        () = ended.closed() => return,
    }
    let mut news = service.handle.events();
    let mut probe_at = tokio::time::Instant::now();
    let mut counts = interval(COUNT_EVERY);
    counts.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            action = actions.recv() => match action {
                Some(action) => service.act(action).await,
                None => return,
            },
            Some(news) = news.recv() => service.take_news(news).await,
            Some((release, answer)) = answers.recv() => service.take_answer(release, answer).await,
            () = tokio::time::sleep_until(probe_at) => {
                probe_at = tokio::time::Instant::now() + service.ask();
            }
            _ = counts.tick(), if service.counting => service.count().await,
        }
    }
}

impl Service {
    async fn tell(&self, event: ServiceEvent) {
        let _ = self.setup.tell.send((self.setup.group.clone(), event)).await;
    }

    /// Looks for a service that an earlier life of the daemon has left running. Nothing is said until it
    /// is known: a service that serves must not count as gone because its shim does not answer.
    async fn find(&mut self) {
        let mut attempts = Attempts::new(&self.setup.group, "asking the service's shim what runs");
        let status = loop {
            match self.handle.ensure_shim().await {
                Ok(status) => break status,
                Err(error) => attempts.failed(&error).await,
            }
        };
        attempts.succeeded();
        let running = match status.state {
            State::Running(running) => Some(running.release),
            _ => None,
        };
        if let Some(release) = running {
            match self.load(release) {
                Ok(loaded) => self.running = Some(loaded),
                Err(error) => tracing::error!(group = %self.setup.group, %error, "what runs"),
            }
        }
        self.tell(ServiceEvent::Found { running }).await;
    }

    /// How `release` is run on this node.
    fn load(&self, release: ReleaseId) -> Result<Running, String> {
        let store = &self.setup.store;
        let manifest = store.manifest(release).map_err(|it| it.to_string())?;
        let spec = manifest.service();
        let spec = spec.ok_or("its baton.toml says nothing of how it is run ([run], [ready])")?;
        let spec = fill(spec, &self.setup.vars).map_err(|it| it.to_string())?;
        let listen = spec.drain.address().map_err(|it| it.to_string())?;
        let tree = store.tree(release).map_err(|it| it.to_string())?;
        Ok(Running { release, spec, listen, tree })
    }

    async fn act(&mut self, action: ServiceAction) {
        match action {
            ServiceAction::Start { release } => {
                let event = match self.begin(release).await {
                    Ok(()) => ServiceEvent::Started { release },
                    Err(reason) => ServiceEvent::StartFailed { release, reason },
                };
                self.tell(event).await;
            }
            ServiceAction::Stop => self.stop().await,
            ServiceAction::Balance(balance) => self.balance(balance),
            ServiceAction::WatchConnections(on) => self.counting = on,
        }
    }

    async fn begin(&mut self, release: ReleaseId) -> Result<(), String> {
        failpoint::reach(Failpoint::StartRecorded);
        let loaded = self.load(release)?;
        let (store, group) = (Arc::clone(&self.setup.store), self.setup.group.clone());
        let pointed = tokio::task::spawn_blocking(move || store.set_current(&group, release)).await;
        pointed.map_err(|it| it.to_string())?.map_err(|it| it.to_string())?;
        failpoint::reach(Failpoint::CurrentMoved);
        let header = self.setup.store.header(release).map_err(|it| it.to_string())?;
        let header = header.header().map_err(|it| it.to_string())?;
        let start = Start {
            release,
            version: header.version,
            group: self.setup.group.clone(),
            tree: loaded.tree.clone(),
            command: loaded.spec.run.command.clone(),
            env: loaded.spec.run.env.clone(),
            listen: Vec::new(),
            listen_from: None,
        };
        self.start(&start).await.map_err(|it| it.to_string())?;
        failpoint::reach(Failpoint::Started);
        self.running = Some(loaded);
        Ok(())
    }

    /// Has it started by its shim, which is asked until it says what came of it: what may run must not
    /// be told to have failed. A host that sleeps loses an answer, for one.
    async fn start(&self, start: &Start) -> Result<(), ExecError> {
        let mut attempts = Attempts::new(&self.setup.group, "starting the service");
        let mut open = false;
        let ended = loop {
            let ended = self.handle.start(start.clone()).await;
            open |= matches!(ended, Err(ExecError::Timeout(_) | ExecError::Lost(_)));
            match ended {
                Err(
                    error @ (ExecError::Timeout(_) | ExecError::Lost(_) | ExecError::NoShim { .. }),
                ) if open => {
                    attempts.failed(&error).await;
                }
                ended => break ended,
            }
        };
        attempts.succeeded();
        ended.map(drop)
    }

    async fn stop(&mut self) {
        let (signal, grace) = match &self.running {
            Some(running) => (running.spec.run.stop_signal, running.spec.run.stop_timeout),
            None => (15, Duration::from_secs(10)),
        };
        failpoint::reach(Failpoint::Drained);
        let mut attempts = Attempts::new(&self.setup.group, "stopping the service");
        let exited = loop {
            match self.handle.stop(signal, grace).await {
                Ok(exited) => break exited,
                Err(error) => attempts.failed(&error).await,
            }
        };
        attempts.succeeded();
        failpoint::reach(Failpoint::Stopped);
        self.ended(exited.map_or_else(|| "stopped".to_owned(), |it| in_words(&it))).await;
    }

    async fn ended(&mut self, reason: String) {
        self.running = None;
        self.tell(ServiceEvent::Exited { reason }).await;
    }

    async fn take_news(&mut self, news: News) {
        let exited = match news {
            News::Exited(exited) => exited,
            News::Connected(status) => match status.state {
                State::Exited(exited) => exited,
                _ => return,
            },
            News::Lost(error) => {
                tracing::warn!(group = %self.setup.group, error, "the service's shim is away");
                return;
            }
        };
        // What was stopped on purpose was told already.
        let ours = self.running.as_ref().is_some_and(|it| it.release == exited.release);
        if ours && !exited.asked {
            self.ended(in_words(&exited)).await;
        }
    }

    fn balance(&self, balance: Balance) {
        let drains = balance == Balance::Drain;
        let state = match balance {
            Balance::Up => AgentState::Up { weight_percent: 100 },
            Balance::Drain => AgentState::Drain,
            Balance::Down { reason } => AgentState::Down { reason },
        };
        if let Some(agent_check) = &self.setup.agent_check {
            agent_check.set(self.setup.group.clone(), state);
        }
        if drains {
            failpoint::reach(Failpoint::Draining);
        }
    }

    /// Asks the service whether it is ready, beside everything else; says when to ask again.
    fn ask(&mut self) -> Duration {
        let Some(running) = &self.running else { return COUNT_EVERY };
        let ready = &running.spec.ready;
        if !self.probing {
            self.probing = true;
            let (what, tree): (Probe, _) = (ready.probe.clone(), running.tree.clone());
            let (within, release) = (ready.timeout, running.release);
            let answers = self.probed.clone();
            tokio::spawn(async move {
                let answer = probe(&what, &tree, within).await;
                let _ = answers.send((release, answer)).await;
            });
        }
        ready.interval
    }

    async fn take_answer(&mut self, release: ReleaseId, answer: Result<(), String>) {
        self.probing = false;
        if self.running.as_ref().is_some_and(|running| running.release == release) {
            self.tell(ServiceEvent::Probed(answer)).await;
        }
    }

    async fn count(&self) {
        let Some(listen) = self.running.as_ref().and_then(|running| running.listen) else { return };
        match tokio::task::spawn_blocking(move || drain::established(listen)).await {
            Ok(Ok(count)) => {
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                self.tell(ServiceEvent::Connections(count)).await;
            }
            Ok(Err(error)) => tracing::warn!(%error, "counting connections"),
            Err(error) => tracing::warn!(%error, "counting connections"),
        }
    }
}

/// How a service ended, with the last that it said: the end of that, where it is long.
fn in_words(exited: &Exited) -> String {
    let mut text = format!("ended with {}", exited.ended);
    if !exited.last_lines.is_empty() {
        text.push_str(": ");
        text.push_str(&exited.last_lines.join("\n"));
    }
    let mut start = text.len().saturating_sub(REASON_BYTES_MAX);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.split_off(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_said_of_a_service_whose_shim_cannot_be_asked() {
        let dir = tempfile::tempdir().unwrap();
        let (tell, mut told) = mpsc::channel(8);
        let _actions = start(Setup {
            group: "web".parse().unwrap(),
            dir: dir.path().join("run"),
            vars: BTreeMap::new(),
            shim: ShimProgram { program: dir.path().join("no-such-shim"), options: Vec::new() },
            store: Arc::new(Store::open(&dir.path().join("data")).unwrap()),
            agent_check: None,
            tell,
        });
        let said = tokio::time::timeout(Duration::from_secs(1), told.recv()).await;
        assert!(said.is_err(), "{said:?}");
    }
}
