//! The `exec` runtime on real processes: what survives, what ends, and what is told about it.
//!
//! The shim is the example `shim`; `cargo test -p baton-node` builds it before this runs.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use baton_node::runtime::exec::{ExecError, News, ServiceHandle, ShimProgram};
use baton_node::runtime::shim::Identity;
use baton_node::runtime::shim::message::{
    Containment, Ended, Exited, LAST_LINES, Refusal, Start, State, Status,
};
use baton_protocol::id::ReleaseId;
use rustix::process::{Pid, Signal, kill_process};

const TERM: i32 = 15;
const SECOND: Duration = Duration::from_secs(1);

/// A service's directory and handle. On drop, also of a test that fails, it ends the service and
/// the shim, by their recorded identities.
struct Bench {
    dir: tempfile::TempDir,
    handle: ServiceHandle,
    started: Vec<Identity>,
}

impl Bench {
    fn new() -> Self {
        Self::with_options(&[])
    }

    /// As on a host where no cgroup is to be had.
    fn without_cgroup() -> Self {
        Self::with_options(&["--process-tree"])
    }

    fn with_options(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        let options = options.iter().map(Into::into).collect();
        let shim = ShimProgram { program: shim_program(), options };
        let handle = ServiceHandle::new(dir.path().join("shim"), shim);
        Self { dir, handle, started: Vec::new() }
    }

    fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    fn service(&self, script: &str) -> Start {
        fs::write(self.tree().join("run.sh"), script).unwrap();
        Start {
            release: ReleaseId([7; 32]),
            version: "1.2.3".parse().unwrap(),
            group: "web".parse().unwrap(),
            tree: self.tree(),
            command: vec!["sh".into(), "run.sh".into()],
            env: BTreeMap::from([("COLOUR".into(), "blue".into())]),
            listen: Vec::new(),
            listen_from: None,
        }
    }

    async fn start(&mut self, start: Start) -> u32 {
        let pid = self.handle.start(start).await.unwrap();
        self.started.extend(Identity::of(pid));
        pid
    }

    fn shim(&self) -> Option<Identity> {
        let text = fs::read_to_string(self.handle.dir().join("shim.pid")).ok()?;
        let mut words = text.split_whitespace();
        Some(Identity {
            pid: words.next()?.parse().ok()?,
            start_time: words.next()?.parse().ok()?,
            boot_id: words.next()?.to_owned(),
        })
    }

    async fn kill_shim(&self) {
        let shim = self.shim().unwrap();
        kill(&shim);
        eventually("the shim is gone", || shim.open().unwrap().is_none()).await;
    }

    fn read(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.tree().join(name)).ok()?;
        text.ends_with('\n').then(|| text.trim().to_owned())
    }

    async fn wait_for(&self, name: &str) -> String {
        eventually(name, || self.read(name).is_some()).await;
        self.read(name).unwrap()
    }

    async fn process_in(&mut self, name: &str) -> Identity {
        let pid = self.wait_for(name).await.parse().unwrap();
        let process = Identity::of(pid).unwrap();
        self.started.push(process.clone());
        process
    }

    async fn exited(&self) -> Box<Exited> {
        let deadline = Instant::now() + 10 * SECOND;
        loop {
            match self.handle.status().await.unwrap().state {
                State::Exited(exited) => return exited,
                other => assert!(Instant::now() < deadline, "still {other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let cgroup = self.shim().map(|shim| {
            let own = fs::read_to_string(format!("/proc/{}/cgroup", shim.pid));
            kill(&shim);
            own
        });
        self.started.iter().for_each(kill);
        // The cgroups of a shim that was killed stay; take them away, they are empty by now.
        std::thread::sleep(Duration::from_millis(50));
        let Some(Ok(own)) = cgroup else { return };
        let Some(own) = own.lines().find_map(|line| line.strip_prefix("0::/")) else { return };
        let mount = Path::new("/sys/fs/cgroup/unified");
        let mount = if mount.exists() { mount } else { Path::new("/sys/fs/cgroup") };
        let Some(base) = mount.join(own).parent().map(Path::to_owned) else { return };
        if base.parent().is_some_and(|apart| apart.ends_with("baton")) {
            let _ = fs::write(base.join("service/cgroup.kill"), "1");
            std::thread::sleep(Duration::from_millis(50));
            for part in ["service", "shim", ""] {
                let _ = fs::remove_dir(base.join(part));
            }
        }
    }
}

fn shim_program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().parent().unwrap().join("examples/shim");
    assert!(program.exists(), "build it: cargo build -p baton-node --example shim");
    program
}

fn kill(process: &Identity) {
    if process.open().is_ok_and(|handle| handle.is_some()) {
        let pid = Pid::from_raw(i32::try_from(process.pid).unwrap()).unwrap();
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn lives(process: &Identity) -> bool {
    process.open().unwrap().is_some()
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + 10 * SECOND;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn pid_of(status: &Status) -> Option<u32> {
    match &status.state {
        State::Running(running) => Some(running.pid),
        _ => None,
    }
}

#[tokio::test]
async fn a_service_runs_in_its_own_tree_with_its_own_environment() {
    let mut bench = Bench::new();
    let current = bench.dir.path().join("current");
    std::os::unix::fs::symlink(bench.tree(), &current).unwrap();
    let script = "#!/bin/sh\necho $0 >where; env >env.new; mv env.new env; exec sleep 60\n";
    let mut start = Start { tree: current, ..bench.service(script) };
    let run = bench.tree().join("run.sh");
    fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
    start.command = vec!["./run.sh".into()];
    let pid = bench.start(start).await;
    let env = bench.wait_for("env").await;
    let tree = fs::canonicalize(bench.tree()).unwrap();
    let link = fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    assert_eq!(link, tree);
    // The interpreter opens the script by the path that it is told: not through the link either.
    let script = PathBuf::from(bench.read("where").unwrap());
    assert_eq!(fs::canonicalize(&script).unwrap(), tree.join("run.sh"));
    assert!(script.starts_with(&tree), "{script:?}");
    for line in [
        format!("BATON_RELEASE={}", ReleaseId([7; 32])),
        "BATON_VERSION=1.2.3".into(),
        "BATON_GROUP=web".into(),
        "COLOUR=blue".into(),
    ] {
        assert!(env.lines().any(|have| have == line), "{line} in {env}");
    }
    assert!(!env.contains("CARGO"), "{env}");
}

#[tokio::test]
async fn start_and_stop_can_be_asked_twice() {
    let mut bench = Bench::new();
    let start = bench.service("exec sleep 60\n");
    let pid = bench.start(start.clone()).await;
    assert_eq!(bench.handle.start(start.clone()).await.unwrap(), pid);
    let other = Start { release: ReleaseId([8; 32]), ..start };
    match bench.handle.start(other.clone()).await {
        Err(ExecError::Refused(Refusal::AlreadyRunning { release, pid: who })) => {
            assert_eq!((release, who), (ReleaseId([7; 32]), pid));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(bench.handle.quit().await, Err(ExecError::Refused(_))));
    let first = bench.handle.stop(TERM, 5 * SECOND).await.unwrap().unwrap();
    assert_eq!((first.ended, first.asked), (Ended::Signal(TERM), true));
    assert_eq!(bench.handle.stop(TERM, 5 * SECOND).await.unwrap().unwrap(), first);
    assert_ne!(bench.start(other).await, pid);
}

#[tokio::test]
async fn a_service_that_ignores_sigterm_is_killed_with_all_its_forks() {
    for mut bench in [Bench::new(), Bench::without_cgroup()] {
        let script = "trap '' TERM\nsetsid sh -c 'trap \"\" TERM; echo $$ >fork.new; mv fork.new fork; while :; do sleep 1; done' &\nwhile :; do sleep 1; done\n";
        let start = bench.service(script);
        let pid = bench.start(start).await;
        let fork = bench.process_in("fork").await;
        let begun = Instant::now();
        let exited = bench.handle.stop(TERM, SECOND / 2).await.unwrap().unwrap();
        assert_eq!((exited.pid, exited.ended), (pid, Ended::Signal(9)));
        assert!(begun.elapsed() >= SECOND / 2, "killed before its time");
        assert!(!lives(&fork), "a fork in a session of its own was left");
    }
}

#[tokio::test]
async fn what_a_crashed_service_leaves_behind_is_ended() {
    for mut bench in [Bench::new(), Bench::without_cgroup()] {
        let script = "(setsid sh -c 'echo $$ >fork.new; mv fork.new fork; exec sleep 60' &)\nwhile [ ! -e fork ]; do sleep 0.02; done; while [ ! -e go ]; do sleep 0.02; done; exit 3\n";
        let start = bench.service(script);
        bench.start(start).await;
        let fork = bench.process_in("fork").await;
        fs::write(bench.tree().join("go"), "").unwrap();
        assert_eq!(bench.exited().await.ended, Ended::Code(3));
        assert!(!lives(&fork));
    }
}

#[tokio::test]
async fn an_exit_is_told_with_the_services_last_words() {
    let mut bench = Bench::new();
    let mut news = bench.handle.events();
    assert!(matches!(news.recv().await, Some(News::Connected(_))));
    let start = bench.service("seq 1 100; echo 'no such table: users' >&2; exit 4\n");
    let pid = bench.start(start).await;
    let Some(News::Exited(exited)) = news.recv().await else { panic!("no exit was told") };
    assert_eq!((exited.pid, exited.ended, exited.asked), (pid, Ended::Code(4), false));
    assert_eq!(exited.last_lines.len(), LAST_LINES);
    assert_eq!(exited.last_lines.last().unwrap(), "no such table: users");
    assert!(bench.handle.tail(5).await.unwrap().contains(&"no such table: users".to_owned()));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let mut bench = Bench::new();
    let start = Start { command: vec!["./server".into()], ..bench.service("") };
    bench.start(start).await;
    let exited = bench.exited().await;
    assert_eq!(exited.ended, Ended::Code(127));
    let words = exited.last_lines.join("\n");
    assert!(words.contains("./server") && words.contains("No such file"), "{words}");
}

#[tokio::test]
async fn a_flood_of_output_neither_fills_the_disk_nor_stops_the_service() {
    let mut bench = Bench::new();
    let start = bench
        .service("yes 'all work and no play' | head -c 50000000; echo done >done; exec sleep 60\n");
    bench.start(start).await;
    bench.wait_for("done").await;
    let size = |name| fs::metadata(bench.handle.dir().join(name)).map_or(0, |file| file.len());
    eventually("rotated", || size("output.log.1") > 0).await;
    assert!(size("output.log") + size("output.log.1") <= 16 * 1024 * 1024);
    assert!(pid_of(&bench.handle.status().await.unwrap()).is_some());
}

#[tokio::test]
async fn a_killed_shim_leaves_its_service_and_the_next_one_adopts_it() {
    for mut bench in [Bench::new(), Bench::without_cgroup()] {
        let script = "n=0; while :; do n=$((n+1)); echo tick $n; echo $n >n.new; mv n.new n; sleep 0.02; done\n";
        let start = bench.service(script);
        let pid = bench.start(start.clone()).await;
        let mut news = bench.handle.events();
        assert!(matches!(news.recv().await, Some(News::Connected(_))));
        let shim = bench.shim().unwrap();
        bench.kill_shim().await;
        assert!(matches!(news.recv().await, Some(News::Lost(_))));
        let Some(News::Connected(status)) = news.recv().await else { panic!("not back") };
        let State::Running(running) = &status.state else { panic!("{status:?}") };
        assert_eq!((running.pid, running.adopted), (pid, true));
        assert_ne!(bench.shim().unwrap(), shim);
        assert_eq!(bench.handle.start(start).await.unwrap(), pid);

        let before: u64 = bench.wait_for("n").await.parse().unwrap();
        eventually("it goes on", || bench.read("n").unwrap().parse::<u64>().unwrap() > before + 3)
            .await;
        let ticks: Vec<u64> = bench
            .handle
            .tail(1000)
            .await
            .unwrap()
            .iter()
            .filter_map(|line| line.strip_prefix("tick ")?.parse().ok())
            .collect();
        let expected: Vec<u64> = (1..=ticks.len() as u64).collect();
        assert_eq!(ticks, expected, "output was lost");

        let exited = bench.handle.stop(TERM, 5 * SECOND).await.unwrap().unwrap();
        assert_eq!((exited.pid, exited.ended), (pid, Ended::Unknown));
    }
}

#[tokio::test]
async fn a_service_that_ended_while_its_shim_was_away_is_told_of() {
    let mut bench = Bench::new();
    let start = bench
        .service("echo started; while [ ! -e go ]; do sleep 0.02; done; echo last words; exit 5\n");
    let pid = bench.start(start).await;
    let child = Identity::of(pid).unwrap();
    bench.kill_shim().await;
    fs::write(bench.tree().join("go"), "").unwrap();
    eventually("it ends", || !lives(&child)).await;
    let exited = bench.exited().await;
    assert_eq!((exited.pid, exited.ended, exited.asked), (pid, Ended::Unknown, false));
}

#[tokio::test]
async fn forks_left_by_a_service_that_ended_without_its_shim_are_ended() {
    for mut bench in [Bench::new(), Bench::without_cgroup()] {
        let script = "(setsid sh -c 'echo $$ >fork.new; mv fork.new fork; exec sleep 60' &)\nexec sleep 60\n";
        let start = bench.service(script);
        let pid = bench.start(start).await;
        let fork = bench.process_in("fork").await;
        let child = Identity::of(pid).unwrap();
        bench.kill_shim().await;
        kill(&child);
        eventually("it ends", || !lives(&child)).await;
        assert!(lives(&fork));
        assert_eq!(bench.exited().await.ended, Ended::Unknown);
        eventually("the fork ends", || !lives(&fork)).await;
    }
}

/// A record that is lost must not lead to a second instance beside the first.
#[tokio::test]
async fn nothing_is_started_beside_processes_that_nobody_knows() {
    for mut bench in [Bench::new(), Bench::without_cgroup()] {
        let start = bench.service("exec sleep 60\n");
        let pid = bench.start(start.clone()).await;
        let child = Identity::of(pid).unwrap();
        bench.kill_shim().await;
        fs::write(bench.handle.dir().join("record"), "").unwrap();
        match bench.handle.start(start.clone()).await {
            Err(ExecError::Refused(Refusal::Strays(1))) => assert!(lives(&child)),
            other => panic!("{other:?}"),
        }
        bench.handle.stop(TERM, SECOND).await.unwrap();
        assert!(!lives(&child));
        bench.start(start).await;
    }
}

#[tokio::test]
async fn a_launcher_that_is_told_nothing_starts_nothing() {
    let mut launcher = tokio::process::Command::new(shim_program());
    launcher.args(["shim", "--launch"]).stdin(std::process::Stdio::null());
    let output = tokio::time::timeout(5 * SECOND, launcher.output()).await.unwrap().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(127), 0));
}

#[tokio::test]
async fn a_shim_is_not_ended_by_sigterm() {
    let mut bench = Bench::new();
    let start = bench.service("exec sleep 60\n");
    let pid = bench.start(start).await;
    let shim = bench.shim().unwrap();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        kill_process(Pid::from_raw(i32::try_from(shim.pid).unwrap()).unwrap(), signal).unwrap();
    }
    tokio::time::sleep(SECOND / 5).await;
    let status = bench.handle.status().await.unwrap();
    assert_eq!((status.shim_pid, pid_of(&status)), (shim.pid, Some(pid)));
}

#[tokio::test]
async fn only_one_shim_serves_a_directory() {
    let bench = Bench::new();
    let pid = bench.handle.ensure_shim().await.unwrap().shim_pid;
    let second = tokio::process::Command::new(shim_program())
        .args(["shim", "--dir"])
        .arg(bench.handle.dir())
        .output();
    let second =
        tokio::time::timeout(5 * SECOND, second).await.expect("a second shim serves").unwrap();
    assert!(second.status.success());
    assert_eq!(bench.handle.ensure_shim().await.unwrap().shim_pid, pid);
    bench.handle.quit().await.unwrap();
    let shim = bench.shim().unwrap();
    eventually("the shim quits", || !lives(&shim)).await;
}

#[tokio::test]
async fn a_shim_whose_socket_is_gone_makes_it_anew() {
    let mut bench = Bench::new();
    let start = bench.service("exec sleep 60\n");
    let pid = bench.start(start).await;
    let shim = bench.shim().unwrap();
    fs::remove_file(bench.handle.dir().join("shim.sock")).unwrap();
    let status = bench.handle.status().await.unwrap();
    assert_eq!((status.shim_pid, pid_of(&status)), (shim.pid, Some(pid)));
}

#[tokio::test]
async fn sockets_are_handed_on_and_outlive_the_service() {
    let mut bench = Bench::new();
    let address = free_address();
    let start = echo_service(&bench, address);
    let first = bench.start(start.clone()).await;
    assert_eq!(ask(address).await, first.to_string());
    bench.handle.stop(TERM, 5 * SECOND).await.unwrap();

    // Nobody serves now, and still a client waits instead of being refused.
    let waiting = TcpStream::connect(address).unwrap();
    let second = bench.start(start.clone()).await;
    assert_eq!(read_line(waiting).await, second.to_string());

    // A new shim takes the socket back from the child that it adopts.
    bench.kill_shim().await;
    assert_eq!(pid_of(&bench.handle.status().await.unwrap()), Some(second));
    bench.handle.stop(TERM, 5 * SECOND).await.unwrap();
    let waiting = TcpStream::connect(address).unwrap();
    let third = bench.start(start).await;
    assert_eq!(read_line(waiting).await, third.to_string());
}

/// Two slots, each with a shim: the new service takes the sockets of the old one, which goes on until
/// the new one answers, and no client is ever refused.
#[tokio::test]
async fn a_handover_leaves_no_moment_without_a_listener() {
    let (mut old, mut new) = (Bench::new(), Bench::new());
    let address = free_address();
    let start = echo_service(&old, address);
    let first = old.start(start).await;
    assert_eq!(ask(address).await, first.to_string());

    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asking = tokio::task::spawn_blocking({
        let stop = stop.clone();
        move || {
            let mut answers = Vec::new();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                answers.push(ask_now(TcpStream::connect(address).unwrap()));
            }
            answers
        }
    });
    let mut start = echo_service(&new, address);
    start.listen_from = Some(old.handle.dir().to_owned());
    let second = new.start(start.clone()).await;
    new.wait_for("ready").await;
    old.handle.stop(TERM, 5 * SECOND).await.unwrap();
    old.handle.quit().await.unwrap();
    assert_eq!(ask(address).await, second.to_string());
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let answers = asking.await.unwrap();
    let known = [first.to_string(), second.to_string()];
    assert!(answers.iter().all(|answer| known.contains(answer)), "{answers:?}");

    // The one from whom the sockets came is gone: the same start is still the same.
    assert_eq!(new.handle.start(start).await.unwrap(), second);
}

/// A service that tells each client its process, on a socket that it is given. SIGTERM ends it
/// between two clients.
fn echo_service(bench: &Bench, address: SocketAddr) -> Start {
    let script = "import os, select, signal, socket, sys\n\
        assert os.environ['LISTEN_PID'] == str(os.getpid())\n\
        assert os.environ['LISTEN_FDS'] == '1'\n\
        ending = []\n\
        signal.signal(signal.SIGTERM, lambda *_: ending.append(1))\n\
        s = socket.socket(fileno=3)\n\
        s.setblocking(False)\n\
        open('ready', 'w').write('yes\\n')\n\
        while not ending:\n\
        \x20   select.select([s], [], [], 0.02)\n\
        \x20   try: c, _ = s.accept()\n\
        \x20   except BlockingIOError: continue\n\
        \x20   c.sendall(b'%d\\n' % os.getpid()); c.close()\n";
    let mut start = bench.service("");
    fs::write(bench.tree().join("run.py"), script).unwrap();
    start.command = vec!["python3".into(), "run.py".into()];
    start.env.extend(std::env::var("PATH").map(|path| ("PATH".to_owned(), path)));
    start.listen = vec![address];
    start
}

/// On an address from which no connection goes out, so that none takes the port before its use.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.1.1:0").unwrap().local_addr().unwrap()
}

async fn ask(address: SocketAddr) -> String {
    read_line(TcpStream::connect(address).unwrap()).await
}

async fn read_line(stream: TcpStream) -> String {
    tokio::task::spawn_blocking(move || ask_now(stream)).await.unwrap()
}

fn ask_now(mut stream: TcpStream) -> String {
    stream.set_read_timeout(Some(10 * SECOND)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.trim().to_owned()
}

/// The daemon here is a process of its own (this test, started once more) that is killed with its
/// whole process group.
#[tokio::test]
async fn a_killed_daemon_takes_nothing_along() {
    let mut bench = Bench::new();
    let script = bench.service("exec sleep 60\n");
    drop(script);
    let mut daemon = std::process::Command::new(std::env::current_exe().unwrap());
    daemon.args(["--exact", "daemon_that_starts_a_service", "--nocapture"]);
    daemon.env("BENCH", bench.dir.path());
    std::os::unix::process::CommandExt::process_group(&mut daemon, 0);
    let mut daemon = daemon.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let service = bench.process_in("daemon.started").await;
    let group = Pid::from_child(&daemon);
    rustix::process::kill_process_group(group, Signal::KILL).unwrap();
    daemon.wait().unwrap();
    assert!(lives(&service));
    assert_eq!(pid_of(&bench.handle.status().await.unwrap()), Some(service.pid));
    let State::Running(running) = bench.handle.status().await.unwrap().state else { panic!() };
    assert!(!running.adopted, "the shim did not survive either");
}

/// No test, but what the test above starts.
#[tokio::test]
async fn daemon_that_starts_a_service() {
    let Some(dir) = std::env::var_os("BENCH").map(PathBuf::from) else { return };
    let shim = ShimProgram { program: shim_program(), options: Vec::new() };
    let handle = ServiceHandle::new(dir.join("shim"), shim);
    let start = Start {
        release: ReleaseId([7; 32]),
        version: "1".parse().unwrap(),
        group: "web".parse().unwrap(),
        tree: dir.join("tree"),
        command: vec!["sleep".into(), "60".into()],
        env: BTreeMap::new(),
        listen: Vec::new(),
        listen_from: None,
    };
    let pid = handle.start(start).await.unwrap();
    let mut file = fs::File::create(dir.join("tree/daemon.started")).unwrap();
    writeln!(file, "{pid}").unwrap();
    tokio::time::sleep(60 * SECOND).await;
}

#[tokio::test]
async fn status_says_how_processes_are_held() {
    let bench = Bench::without_cgroup();
    let status = bench.handle.ensure_shim().await.unwrap();
    assert!(matches!(status.containment, Containment::ProcessTree { .. }));
    let log = fs::read_to_string(bench.handle.dir().join("shim.log")).unwrap();
    assert!(log.contains("no cgroup"), "{log}");
}
