//! The shim's one loop: requests, the child's end, its output.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Signal, WaitOptions, wait};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Instant, sleep};

use super::alive::{Alive, Phase, ended};
use super::child::{Child, Launching};
use super::containment::Family;
use super::identity::Identity;
use super::message::{
    Containment, Ended, Event, Exited, Refusal, Request, Response, Start, State, Status,
    TAIL_LINES_MAX,
};
use super::output::Output;
use super::record::{Record, Started};
use super::sockets::Sockets;
use crate::runtime::logs;

/// How often processes that are to end are looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How long killed processes may stay before that is called a failure. Only a process stuck in the
/// kernel outlives SIGKILL for so long.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// How often strays are looked for while they are killed.
const STRAY_LOOKS: u32 = 50;

/// Requests that may wait for one service's end.
const WAITING_MAX: usize = 64;

/// A request and where its answer goes.
pub(super) type Question = (Request, oneshot::Sender<Response>);

pub(super) struct Supervisor {
    dir: PathBuf,
    containment: Containment,
    output: Output,
    sockets: Sockets,
    service: Service,
    run: u64,
    events: broadcast::Sender<Event>,
}

enum Service {
    Idle,
    Alive(Box<Alive>),
    Exited(Box<Exited>),
}

impl Supervisor {
    /// The supervisor of `dir`, with the child of an earlier shim if there is one.
    pub fn open(
        dir: PathBuf,
        containment: Containment,
        events: broadcast::Sender<Event>,
    ) -> io::Result<Self> {
        let output = Output::open(&dir)?;
        let record = Record::read(&dir).unwrap_or_else(|error| {
            eprintln!("shim: the record cannot be read: {error}");
            None
        });
        let run = record.as_ref().map_or(0, Record::run);
        let (service, sockets) = (Service::Idle, Sockets::default());
        let mut shim = Self { dir, containment, output, sockets, service, run, events };
        match record {
            Some(Record::Started(started)) => shim.take_over(Child::adopt(*started)?),
            Some(Record::Exited(exited)) => shim.service = Service::Exited(exited),
            None => {}
        }
        Ok(shim)
    }

    fn take_over(&mut self, found: Result<Child, Started>) {
        match found {
            Ok(child) => {
                self.containment = child.started.containment.clone();
                self.sockets = child.sockets();
                self.output.note(&format!("adopted process {}", child.pid()));
                self.service = Service::Alive(Box::new(Alive::new(child)));
            }
            Err(gone) => {
                // What it had started serves nobody without it.
                self.end_strays(&gone.containment);
                self.finish(&gone, Ended::Unknown, false);
            }
        }
    }

    /// The processes of earlier runs, where none is known to live.
    fn strays(&self) -> u32 {
        let left = self.containment.members(Family { dir: &self.dir, first: None });
        u32::try_from(left.len()).unwrap_or(u32::MAX)
    }

    /// Kills them and waits for their end, or not for long.
    fn end_strays(&self, containment: &Containment) {
        let family = Family { dir: &self.dir, first: None };
        for _ in 0..STRAY_LOOKS {
            if containment.members(family).is_empty() {
                return;
            }
            containment.kill_all(family);
            std::thread::sleep(LOOK_INTERVAL);
        }
        eprintln!("shim: processes of an earlier run are killed, and still there");
    }

    /// Serves until it is asked to quit.
    pub async fn run(mut self, mut questions: mpsc::Receiver<Question>) -> io::Result<()> {
        let mut children = signal(SignalKind::child())?;
        loop {
            tokio::select! {
                question = questions.recv() => match question {
                    Some((Request::Quit, reply)) if self.may_quit() => {
                        let _ = reply.send(Response::Quitting);
                        self.containment.take_down();
                        return Ok(());
                    }
                    Some((request, reply)) => self.handle(request, reply),
                    None => return Ok(()),
                },
                _ = children.recv() => self.reap(),
                () = self.adopted_end() => self.first_process_ended(Ended::Unknown),
                _ = self.output.readable() => { self.output.pump(); }
                () = self.time_to_look() => self.look(),
            }
        }
    }

    fn handle(&mut self, request: Request, reply: oneshot::Sender<Response>) {
        let response = match request {
            Request::Start(start) => self.start(*start),
            Request::Stop { signal, grace } => return self.stop(signal, grace, reply),
            Request::Tail { lines } => self.tail(lines),
            Request::Status | Request::Subscribe => Response::Status(Box::new(self.status())),
            Request::Quit => Response::Refused(self.busy_with()),
            Request::Sockets => self.offer(),
        };
        // The asker may have gone; the answer is then nobody's.
        let _ = reply.send(response);
    }

    fn may_quit(&self) -> bool {
        !matches!(self.service, Service::Alive(_))
    }

    fn busy_with(&self) -> Refusal {
        let Service::Alive(alive) = &self.service else { return Refusal::Busy };
        let (release, pid) = (alive.child.started.start.release, alive.child.pid());
        match alive.phase {
            Phase::Running => Refusal::AlreadyRunning { release, pid },
            _ => Refusal::StillEnding { release, pid },
        }
    }

    fn start(&mut self, start: Start) -> Response {
        if let Service::Alive(alive) = &self.service {
            let same = alive.child.started.start == start;
            return match alive.phase {
                Phase::Running if same => Response::Started { pid: alive.child.pid() },
                _ => Response::Refused(self.busy_with()),
            };
        }
        match self
            .sockets
            .provide(&start.listen, start.listen_from.as_deref())
            .and_then(|()| self.spawn(start))
        {
            Ok(pid) => Response::Started { pid },
            Err(refusal) => Response::Refused(refusal),
        }
    }

    fn spawn(&mut self, start: Start) -> Result<u32, Refusal> {
        match self.strays() {
            0 => {}
            count => return Err(Refusal::Strays(count)),
        }
        self.output.drain();
        self.output.begin_run();
        self.containment.renew();
        let run = self.run.saturating_add(1);
        self.output.note(&format!("starting release {} as run {run}", start.release.short()));
        let launching = Launching {
            dir: &self.dir,
            start,
            run,
            containment: &self.containment,
            output: &self.output,
            sockets: &self.sockets,
        };
        let child =
            Child::spawn(launching).map_err(|error| Refusal::CannotStart(error.to_string()))?;
        let pid = child.pid();
        self.run = run;
        self.service = Service::Alive(Box::new(Alive::new(child)));
        Ok(pid)
    }

    fn stop(&mut self, number: i32, grace: Duration, reply: oneshot::Sender<Response>) {
        if !matches!(self.service, Service::Alive(_)) {
            self.end_strays(&self.containment);
        }
        let response = match (&mut self.service, Signal::from_named_raw(number)) {
            (_, None) => Response::Refused(Refusal::BadSignal(number)),
            (Service::Idle, _) => Response::Stopped(None),
            (Service::Exited(exited), _) => Response::Stopped(Some(exited.clone())),
            (Service::Alive(alive), Some(signal)) if alive.waiting.len() < WAITING_MAX => {
                alive.waiting.push(reply);
                return alive.ask_to_end(signal, grace);
            }
            (Service::Alive(_), _) => Response::Refused(Refusal::Busy),
        };
        let _ = reply.send(response);
    }

    fn offer(&self) -> Response {
        match Identity::of(std::process::id()) {
            Ok(shim) => Response::Sockets { shim, offered: self.sockets.offered() },
            Err(error) => Response::Refused(Refusal::CannotStart(error.to_string())),
        }
    }

    fn tail(&mut self, lines: u32) -> Response {
        self.output.drain();
        match logs::tail(&self.dir, lines.min(TAIL_LINES_MAX) as usize) {
            Ok(lines) => Response::Lines(lines),
            Err(error) => Response::Refused(Refusal::CannotRead(error.to_string())),
        }
    }

    fn status(&self) -> Status {
        let state = match &self.service {
            Service::Idle => State::Idle,
            Service::Exited(exited) => State::Exited(exited.clone()),
            Service::Alive(alive) => match alive.phase {
                Phase::Running => State::Running(alive.child.running()),
                _ => State::Ending(alive.child.running()),
            },
        };
        Status {
            shim_pid: std::process::id(),
            shim_version: env!("CARGO_PKG_VERSION").to_owned(),
            state,
            containment: self.containment.clone(),
        }
    }

    /// Takes the news of every child that has ended: the service's first process, and the orphans
    /// that came to the shim as their subreaper.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let Service::Alive(alive) = &self.service else { continue };
            let own = u32::try_from(pid.as_raw_pid()) == Ok(alive.child.pid());
            if own && !alive.child.adopted {
                self.first_process_ended(ended(status));
            }
        }
    }

    async fn adopted_end(&self) {
        match &self.service {
            Service::Alive(alive) if !matches!(alive.phase, Phase::Leftovers { .. }) => {
                alive.child.adopted_end().await;
            }
            _ => std::future::pending().await,
        }
    }

    fn first_process_ended(&mut self, ended: Ended) {
        let Service::Alive(alive) = &mut self.service else { return };
        let family = Family { dir: &self.dir, first: None };
        let kill_at = match alive.phase {
            // It was not asked to: what it leaves behind serves nobody, and would be in the way.
            Phase::Running => Instant::now(),
            Phase::Stopping { signal, kill_at } => {
                self.containment.signal_all(family, signal);
                kill_at
            }
            Phase::Leftovers { .. } => return,
        };
        alive.phase = Phase::Leftovers { ended, kill_at };
        self.look();
    }

    async fn time_to_look(&self) {
        match &self.service {
            Service::Alive(alive) if !matches!(alive.phase, Phase::Running) => {
                sleep(LOOK_INTERVAL).await;
            }
            _ => std::future::pending().await,
        }
    }

    /// Looks whether what is to end has ended, and kills what had its time.
    fn look(&mut self) {
        let Service::Alive(alive) = &mut self.service else { return };
        let (ended, kill_at) = match alive.phase {
            Phase::Running => return,
            Phase::Stopping { kill_at, .. } => (None, kill_at),
            Phase::Leftovers { ended, kill_at } => (Some(ended), kill_at),
        };
        let first = ended.is_none().then(|| alive.child.pid());
        let family = Family { dir: &self.dir, first };
        let (left, now) = (self.containment.members(family), Instant::now());
        if let (Some(ended), true) = (ended, left.is_empty()) {
            return self.end(ended);
        }
        if now >= kill_at {
            alive.child.signal(Signal::KILL);
            self.containment.kill_all(family);
        }
        if now >= kill_at + KILL_GRACE {
            let left = u32::try_from(left.len()).unwrap_or(u32::MAX);
            alive.answer(&Response::Refused(Refusal::Unkillable(left)));
        }
    }

    fn end(&mut self, ended: Ended) {
        let Service::Alive(mut alive) = std::mem::replace(&mut self.service, Service::Idle) else {
            return;
        };
        let exited = self.finish(&alive.child.started, ended, alive.asked);
        alive.answer(&Response::Stopped(Some(exited)));
    }

    /// Writes down and tells that a run is over.
    fn finish(&mut self, run: &Started, ended: Ended, asked: bool) -> Box<Exited> {
        self.output.drain();
        let exited = Box::new(Exited {
            release: run.start.release,
            pid: run.identity.pid,
            run: run.run,
            ended,
            asked,
            ran_for: run.age(),
            last_lines: self.output.last_lines(),
        });
        self.output.note(&format!("run {} is over: {ended}", run.run));
        if let Err(error) = Record::Exited(exited.clone()).write(&self.dir) {
            eprintln!("shim: the end of run {} is not recorded: {error}", run.run);
        }
        self.service = Service::Exited(exited.clone());
        // Without subscribers there is nobody to tell; the next one gets it with the status.
        let _ = self.events.send(Event::Exited(exited.clone()));
        exited
    }
}
