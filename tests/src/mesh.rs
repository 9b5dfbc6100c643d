//! A mesh of real node processes, all on this machine, in a directory of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::ports::free_port;
use crate::processes::{Process, kill_all, processes_of, word};

/// How long anything that is waited for may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One mesh at a time: two cores carry no more.
static TURN: Mutex<()> = Mutex::new(());

/// Waits for the turn of a test that starts many processes.
pub fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a command printed, and its exit code.
#[derive(Debug)]
pub struct Ended {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    /// Asserts the exit code.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        self
    }
}

/// What a mesh is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// How many nodes, all in group `web`.
    pub nodes: usize,
    /// The group's cap.
    pub max_unavailable: &'a str,
    /// Where the nodes listen for each other.
    pub address: &'a str,
    /// How long a service must be ready to count as available.
    pub min_healthy: &'a str,
    /// What stands in front of the services.
    pub balancer: Balancer,
    /// The program under test.
    pub program: &'a Path,
    /// The deliberate mistake that its daemons make, by its name, if the program knows any.
    pub mutant: Option<&'a str>,
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self {
            nodes: 4,
            max_unavailable: "1",
            address: "127.0.0.1",
            min_healthy: "1s",
            balancer: Balancer::None,
            program: baton(),
            mutant: None,
        }
    }
}

/// What stands in front of a mesh's services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balancer {
    /// Nothing: the agents are off.
    None,
    /// A HAProxy that nobody reads: [`crate::haproxy::Haproxy::unread`].
    Unread,
    /// One with a witness beside it: [`crate::watched::Watched`].
    Read,
}

impl Balancer {
    /// How services drain. Where nobody reads HAProxy, the delay is what it may take to learn of a change,
    /// the check's interval and the agent's, and as much again, as all of it shares one machine.
    const fn drain(self) -> &'static str {
        match self {
            Self::None | Self::Read => "",
            Self::Unread => "[drain]\nlisten = \"127.0.0.1:${port}\"\nbalancer_delay = \"1s\"\n",
        }
    }
}

/// One node.
#[derive(Debug)]
pub struct Node {
    /// What it is called.
    pub name: String,
    /// Where its service answers.
    pub service_port: u16,
    /// Where its agent answers a load balancer, if it does.
    pub agent_port: Option<u16>,
    dir: PathBuf,
    daemon: Option<Child>,
}

/// A mesh. Dropping it ends every process that came of it.
pub struct Mesh {
    /// The nodes; the first has founded the mesh.
    pub nodes: Vec<Node>,
    program: PathBuf,
    mutant: Option<String>,
    balancer: Balancer,
    listen_on: String,
    token: String,
    dir: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// The program under test, as this very run of cargo builds it.
pub fn baton() -> &'static Path {
    static BATON: OnceLock<PathBuf> = OnceLock::new();
    BATON.get_or_init(|| build(&["--bin", "baton"], "baton"))
}

/// The program of the services.
pub fn service() -> &'static Path {
    static SERVICE: OnceLock<PathBuf> = OnceLock::new();
    SERVICE.get_or_init(|| build(&["--bin", "testd"], "testd"))
}

/// Builds a program of the workspace, in the profile of the one that runs; or takes it from the directory
/// that `BATON_PROGRAMS` names, so that what is built meanwhile does not get into a long run.
pub fn build(arguments: &[&str], name: &str) -> PathBuf {
    if let Some(ready) = std::env::var_os("BATON_PROGRAMS") {
        return Path::new(&ready).join(name);
    }
    let this = std::env::current_exe().unwrap();
    let beside = this.parent().unwrap();
    // Tests lie one directory deeper than programs.
    let profile_dir = if beside.ends_with("deps") { beside.parent().unwrap() } else { beside };
    let profile = match profile_dir.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        other => other,
    };
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--locked", "--profile", profile])
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status()
        .unwrap();
    assert!(built.success(), "{name} does not build");
    profile_dir.join(name)
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ended {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Waits until `look` sees something.
#[track_caller]
pub fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if let Some(seen) = look() {
            return seen;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("not within {PATIENCE:?}: {what}");
}

impl Mesh {
    /// A mesh of `count` nodes in group `web`, all up, with as many voters as they are to have.
    pub fn start(nodes: usize, max_unavailable: &str) -> Self {
        Self::start_as(Plan { nodes, max_unavailable, ..Plan::default() })
    }

    /// A mesh by a plan, all up, with as many voters as it is to have.
    pub fn start_as(plan: Plan<'_>) -> Self {
        let (turn, count) = (turn(), plan.nodes);
        let dir = tempfile::Builder::new().prefix("bt-").tempdir_in("/tmp").unwrap();
        let mut mesh = Self {
            nodes: Vec::new(),
            program: plan.program.to_owned(),
            mutant: plan.mutant.map(str::to_owned),
            balancer: plan.balancer,
            listen_on: plan.address.to_owned(),
            token: String::new(),
            dir,
            _turn: turn,
        };
        let founder_port = free_port();
        let founder_dir = mesh.dir.path().join("n1");
        run(Command::new(plan.program).arg("init").arg("test").arg("--data-dir").arg(&founder_dir))
            .code(0);
        let token = run(Command::new(plan.program)
            .args([
                "token",
                "--uses",
                "99",
                "--address",
                &format!("{}:{founder_port}", plan.address),
            ])
            .arg("--data-dir")
            .arg(&founder_dir))
        .code(0);
        mesh.token = token.stdout.trim().to_owned();
        mesh.add(founder_port);
        for _ in 1..count {
            mesh.add(free_port());
        }
        for at in 0..count {
            mesh.up(at);
        }
        let voters = if count >= 7 {
            5
        } else if count >= 3 {
            3
        } else {
            1
        };
        wait("members and voters", || {
            let status = mesh.json(0, "status")?;
            let enough = status["members"] == count && status["voters"].as_array()?.len() == voters;
            let web = status["groups"].as_array()?.iter().find(|it| it["name"] == "web")?;
            (enough && web["members"] == count).then_some(())
        });
        let (healthy, cap) = (plan.min_healthy, plan.max_unavailable);
        let policy = ["--min-healthy", healthy, "--max-unavailable", cap];
        mesh.cli(0, &[&["group", "set", "web"], &policy[..]].concat()).code(0);
        mesh
    }

    /// Starts one more node, by its config alone, and gives its place.
    pub fn grow(&mut self) -> usize {
        self.add(free_port());
        let at = self.nodes.len() - 1;
        self.up(at);
        at
    }

    fn add(&mut self, port: u16) {
        let number = self.nodes.len() + 1;
        let (name, service_port) = (format!("n{number}"), free_port());
        let listen = format!("{}:{port}", self.listen_on);
        let agent_port = (self.balancer != Balancer::None).then(free_port);
        let agent = agent_port.map_or("off".to_owned(), |port| format!("127.0.0.1:{port}"));
        let dir = self.dir.path().join(&name);
        std::fs::create_dir_all(&dir).unwrap();
        let token = match number {
            1 => String::new(),
            _ => format!("token = \"{}\"\n", self.token),
        };
        let text = format!(
            "data_dir = \"{}\"\nname = \"{name}\"\nlisten = \"{listen}\"\nagent_check = \"{agent}\"\n\
             {token}[groups.web]\nvars = {{ port = \"{service_port}\" }}\n",
            dir.display()
        );
        std::fs::write(dir.join("baton.toml"), text).unwrap();
        self.nodes.push(Node { name, service_port, agent_port, dir, daemon: None });
    }

    /// The directory of everything.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A node's data directory.
    pub fn data_dir(&self, at: usize) -> &Path {
        &self.nodes[at].dir
    }

    /// Where a node's services answer.
    pub fn ports(&self) -> Vec<u16> {
        self.nodes.iter().map(|node| node.service_port).collect()
    }

    /// Starts a node's daemon.
    pub fn up(&mut self, at: usize) {
        let mut program = Command::new(&self.program);
        self.launch(at, &mut program);
    }

    /// Starts a node's daemon, to freeze when it reaches the failpoint of that name. Only the tests of
    /// `baton-broken` can: cargo builds its program for them alone.
    pub fn up_until(&mut self, at: usize, failpoint: &str) {
        let program = baton().with_file_name("baton-broken");
        self.launch(at, Command::new(program).env("BATON_FAILPOINT", failpoint));
    }

    /// Runs one more daemon of a node, in the foreground.
    pub fn foreground(&self, at: usize) -> Ended {
        let config = self.nodes[at].dir.join("baton.toml");
        run(Command::new(baton()).arg("node").arg("--config").arg(config))
    }

    /// Starts a node's daemon by a command that runs `baton` with what follows.
    pub fn launch(&mut self, at: usize, program: &mut Command) {
        let node = &mut self.nodes[at];
        let log = std::fs::File::options().create(true).append(true).open(node.dir.join("log"));
        let daemon = program
            .arg("node")
            .arg("--config")
            .arg(node.dir.join("baton.toml"))
            .envs(self.mutant.as_ref().map(|name| ("BATON_MUTANT", name)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        node.daemon = Some(daemon);
    }

    /// Kills a node's daemon, and nothing else of it.
    pub fn kill(&mut self, at: usize) {
        if let Some(mut daemon) = self.nodes[at].daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }

    /// Destroys all that a node has on its disk but for its config.
    pub fn wipe(&self, at: usize) {
        let dir = &self.nodes[at].dir;
        let config = std::fs::read(dir.join("baton.toml")).unwrap();
        std::fs::remove_dir_all(dir).unwrap();
        std::fs::create_dir(dir).unwrap();
        std::fs::write(dir.join("baton.toml"), config).unwrap();
    }

    /// The process of a node's daemon.
    pub fn daemon(&self, at: usize) -> Pid {
        Pid::from_child(self.nodes[at].daemon.as_ref().unwrap())
    }

    /// Whether a node's daemon is stopped, as it is at a failpoint.
    pub fn is_frozen(&self, at: usize) -> bool {
        let pid = self.daemon(at).as_raw_nonzero();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the name, which is in parentheses and may hold anything (proc(5)).
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// Stops a node's daemon without ending it.
    pub fn freeze(&self, at: usize) {
        kill_process(self.daemon(at), Signal::STOP).unwrap();
    }

    /// Lets a frozen daemon go on.
    pub fn thaw(&self, at: usize) {
        kill_process(self.daemon(at), Signal::CONT).unwrap();
    }

    /// Kills the shim of a node's service, and nothing else of it.
    pub fn kill_shim(&self, at: usize) {
        // Not what starts the service, which has other words, and becomes the service.
        let is_shim = |pid: &u32| word(*pid, 1) == "shim" && word(*pid, 2) == "--dir";
        let mut shims = processes_of(&self.nodes[at].dir);
        shims.retain(is_shim);
        assert!(!shims.is_empty(), "{} has no shim", self.nodes[at].name);
        kill_all(&shims);
    }

    /// The process of a node's service.
    pub fn service_pid(&self, at: usize) -> u32 {
        let all = processes_of(&self.nodes[at].dir).into_iter();
        let services: Vec<_> = all.filter(|pid| word(*pid, 0).ends_with("/testd")).collect();
        let [service] = services.as_slice() else { panic!("{services:?}") };
        *service
    }

    /// Every process of a node: its daemon, its shim, its service.
    pub fn processes(&self, at: usize) -> Vec<Process> {
        processes_of(&self.nodes[at].dir).into_iter().filter_map(Process::of).collect()
    }

    /// Kills a node's service and what looks after it.
    pub fn kill_service(&self, at: usize) {
        kill_all(&processes_of(&self.nodes[at].dir));
    }

    /// Starts a command against a node.
    pub fn command(&self, at: usize, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--data-dir").arg(&self.nodes[at].dir);
        command
    }

    /// Runs a command against a node.
    pub fn cli(&self, at: usize, arguments: &[&str]) -> Ended {
        run(&mut self.command(at, arguments))
    }

    /// What a command shows as JSON; `None` where it fails.
    pub fn json(&self, at: usize, command: &str) -> Option<Value> {
        let words: Vec<_> = command.split(' ').chain(["-o", "json"]).collect();
        let ended = self.cli(at, &words);
        (ended.code == 0).then(|| serde_json::from_str(&ended.stdout).ok())?
    }

    /// Waits until every node is in touch with all others and knows who leads.
    pub fn settle(&self) {
        let all = self.nodes.len();
        for at in 0..all {
            wait("the mesh is whole", || {
                let status = self.json(at, "status")?;
                (status["connected"] == all && status["leader"].is_string()).then_some(())
            });
        }
    }

    /// Whether a node is a voter.
    pub fn votes(&self, at: usize) -> bool {
        let voters = wait("the voters", || self.json(0, "status")?["voters"].as_array().cloned());
        voters.contains(&self.nodes[at].name.clone().into())
    }

    /// The place of the node that leads.
    pub fn leader(&self) -> usize {
        let leader = wait("a leader", || {
            let up = self.nodes.iter().position(|node| node.daemon.is_some())?;
            let status = self.json(up, "status")?;
            status["leader"].as_str().map(str::to_owned)
        });
        self.nodes.iter().position(|node| node.name == leader).unwrap()
    }

    /// The place of a node that holds a permit.
    pub fn holder(&self, from: usize) -> usize {
        let name = wait("a permit", || {
            let permits = self.json(from, "permits")?;
            permits.as_array()?.first()?["node"].as_str().map(str::to_owned)
        });
        self.nodes.iter().position(|node| node.name == name).unwrap()
    }

    /// Writes a release's directory: `mode` is empty, `unready`, `crash`, `slow`, `leak`, `calm`, or `drained`, whose drain waits
    /// for every open connection. All but `calm` are asked ten times a second whether they are ready.
    pub fn release(&self, version: &str, mode: &str) -> String {
        let source = self.dir.path().join(format!("source-{version}"));
        std::fs::create_dir_all(&source).unwrap();
        let testd = service();
        let spec = format!(
            "service = \"web\"\n[run]\ncommand = [\"{}\", \"${{port}}\"]\nstop_timeout = \"2s\"\n\
             [ready]\nhttp = \"http://127.0.0.1:${{port}}/ready\"\ndeadline = \"4s\"\n{}{}",
            testd.display(),
            // What a user has who says nothing is 1 s.
            if mode == "calm" { "" } else { "interval = \"100ms\"\n" },
            self.balancer.drain(),
        );
        let drain = match mode {
            "drained" => "[drain]\nlisten = \"127.0.0.1:${port}\"\ntimeout = \"5m\"\n",
            _ => "",
        };
        std::fs::write(source.join("baton.toml"), spec + drain).unwrap();
        std::fs::write(source.join("VERSION"), version).unwrap();
        std::fs::write(source.join("MODE"), mode).unwrap();
        std::fs::write(source.join("data"), vec![b'x'; 300_000]).unwrap();
        source.to_str().unwrap().to_owned()
    }

    /// Deploys a good release and asserts that it gets everywhere.
    pub fn deploy(&self, version: &str) {
        self.deploy_as(version, "");
    }

    /// As [`Mesh::deploy`], of a release of this mode.
    pub fn deploy_as(&self, version: &str, mode: &str) {
        let source = self.release(version, mode);
        self.cli(0, &["deploy", &source, "-g", "web", "--version", version]).code(0);
        self.assert_version(version);
    }

    /// Asks every service itself which version it runs.
    #[track_caller]
    pub fn assert_version(&self, version: &str) {
        for node in &self.nodes {
            let answer = crate::prober::probe(node.service_port);
            assert_eq!(answer.as_deref(), Some(version), "{}", node.name);
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.nodes {
                let log = std::fs::read_to_string(node.dir.join("log")).unwrap_or_default();
                let tail: Vec<_> = log.lines().rev().take(15).collect();
                eprintln!("--- {}", node.name);
                for line in tail.into_iter().rev() {
                    eprintln!("{line}");
                }
            }
        }
        for at in 0..self.nodes.len() {
            self.kill(at);
        }
        // Shims and services outlive daemons on purpose.
        kill_all(&processes_of(self.dir.path()));
    }
}
