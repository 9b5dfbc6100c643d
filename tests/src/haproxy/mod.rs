//! A real HAProxy before the services of a mesh, and what its own log says of every request.

mod log;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::mesh::{Mesh, wait};
use crate::ports::free_port;
use crate::skip::skip;

pub use log::Logged;

/// HAProxy, until it is dropped.
pub struct Haproxy {
    /// Where clients ask.
    pub front: u16,
    /// Its configuration.
    pub config: PathBuf,
    dir: PathBuf,
    log: log::Log,
    process: Option<Child>,
}

/// Where HAProxy lies, if it is installed: distributions put it where only root's path leads. Where it is
/// not, the test that asks is skipped.
pub fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = places.map(|place| place.join("haproxy")).find(|file| file.is_file());
    if found.is_none() {
        skip("no HAProxy is installed");
    }
    found
}

/// Each request has one try (`retries 0`, no redispatch): a service that goes while it has requests, or
/// gets one when it is gone, is a failed request. No connection of a client is closed because it is idle:
/// that would be a race with the next request on it.
fn frame(front: u16, log: &log::Log, socket: &Path) -> String {
    format!(
        "global\n  maxconn 4000\n  nbthread 1\n  log 127.0.0.1:{} format raw local0\n\
         \x20 stats socket {} mode 600 level admin\n\
         defaults\n  mode http\n  log global\n  log-format \"{}\"\n  option dontlognull\n\
         \x20 retries 0\n  no option redispatch\n  timeout connect 2s\n  timeout client 1h\n\
         \x20 timeout server 30s\n  timeout http-keep-alive 1h\n\
         frontend front\n  bind 127.0.0.1:{front}\n  default_backend web\n",
        log.port(),
        socket.display(),
        log::LOG_FORMAT,
    )
}

impl Haproxy {
    /// One that is to run in a directory of its own, with a front and no backend yet.
    pub(crate) fn prepare(dir: PathBuf) -> Self {
        std::fs::create_dir(&dir).unwrap();
        let (front, log, config) = (free_port(), log::Log::open(), dir.join("haproxy.cfg"));
        std::fs::write(&config, frame(front, &log, &dir.join("haproxy.sock"))).unwrap();
        Self { front, config, dir, log, process: None }
    }

    /// Writes its backend as `baton lb` does it; `change` may then change that.
    pub(crate) fn configure(&self, mesh: &Mesh, change: impl Fn(String) -> String) {
        wait("every agent's port is known", || {
            let ended = mesh.cli(0, &["lb", "haproxy", "-g", "web"]);
            (ended.stdout.matches("agent-port").count() == mesh.nodes.len()).then_some(())
        });
        let config = self.config.to_str().unwrap();
        let apply = ["lb", "haproxy", "-g", "web", "--reload", "true", "--apply", config];
        mesh.cli(0, &apply).code(0);
        let text = std::fs::read_to_string(&self.config).unwrap();
        std::fs::write(&self.config, change(text)).unwrap();
    }

    /// Starts this program with the configuration as it is now.
    pub(crate) fn run(&mut self, program: &Path) {
        let out = std::fs::File::create(self.dir.join("haproxy.log")).unwrap();
        let mut command = Command::new(program);
        command.arg("-db").arg("-f").arg(&self.config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(out);
        self.process = Some(command.spawn().unwrap());
    }

    /// Puts this program, which nobody reads, before all services of a mesh with agents, and waits until it
    /// sends to each. It learns of a change sooner than `baton lb` would have it, so that a
    /// [`Balancer::Unread`](crate::mesh::Balancer::Unread) mesh has to wait for little.
    pub fn unread(program: &Path, mesh: &Mesh) -> Self {
        let mut haproxy = Self::prepare(mesh.dir().join("haproxy"));
        haproxy.configure(mesh, |text| {
            let often = "inter 500ms fall 2 rise 1 agent-inter 200ms";
            let changed = text.replace("inter 1s fall 3 rise 2 agent-inter 1s", often);
            assert!(changed.contains(often), "{text}");
            changed
        });
        haproxy.run(program);
        haproxy.wait_until_it_sends(mesh);
        haproxy
    }

    /// Waits until it sends to every node's service.
    pub(crate) fn wait_until_it_sends(&self, mesh: &Mesh) {
        for node in &mesh.nodes {
            wait("HAProxy sends to it", || (self.state(&node.name) == "UP 100").then_some(()));
        }
    }

    /// Where it has what it needs.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where it answers who asks about its servers.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("haproxy.sock")
    }

    /// What it answers to a command.
    pub fn ask(&self, command: &str) -> String {
        let mut answer = String::new();
        if let Ok(mut stream) = UnixStream::connect(self.socket()) {
            stream.write_all(format!("{command}\n").as_bytes()).unwrap();
            stream.read_to_string(&mut answer).unwrap();
        }
        answer
    }

    /// A server's state and weight, such as `UP 100`.
    pub fn state(&self, server: &str) -> String {
        let table = self.ask("show stat web 4 -1");
        let line = table.lines().find(|line| line.split(',').nth(1) == Some(server));
        let fields: Vec<_> = line.unwrap_or_default().split(',').collect();
        [17, 18].map(|at| fields.get(at).copied().unwrap_or_default()).join(" ")
    }

    /// What its log has said since this was last asked, once no more of it comes.
    pub fn take_logged(&self) -> Logged {
        self.log.take()
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
