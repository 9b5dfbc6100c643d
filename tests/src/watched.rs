//! A real HAProxy, configured as `baton lb` does it, and beside it a witness that reads it.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::haproxy::Haproxy;
use crate::mesh::{Ended, Mesh, baton, run, wait};
use crate::ports::free_port;

/// HAProxy, and the witness `lb` that reads it. Dropping it ends both.
pub struct Watched {
    /// The balancer.
    pub haproxy: Haproxy,
    witness: Option<Child>,
}

impl Watched {
    /// Puts this program before a mesh with agents, as `baton lb` configures it; `change` may then change
    /// that.
    pub fn start(program: &Path, mesh: &Mesh, change: impl Fn(String) -> String) -> Self {
        let haproxy = Haproxy::prepare(mesh.dir().join("lb"));
        let mut this = Self { haproxy, witness: None };
        this.join(mesh);
        wait("the witness is known to read it", || {
            let status = mesh.json(0, "status")?;
            let web = status["groups"].as_array()?.iter().find(|it| it["name"] == "web")?;
            (web["watchers"].as_array()?.iter().any(|it| it == "lb")).then_some(())
        });
        this.haproxy.configure(mesh, change);
        this.haproxy.run(program);
        this.haproxy.wait_until_it_sends(mesh);
        this
    }

    fn join(&mut self, mesh: &Mesh) {
        let founder = std::fs::read_to_string(mesh.data_dir(0).join("baton.toml")).unwrap();
        let listen = founder.lines().find_map(|line| line.strip_prefix("listen = ")).unwrap();
        let token = mesh.cli(0, &["token", "--address", listen.trim_matches('"')]).code(0);
        let text = format!(
            "data_dir = \"{dir}\"\nname = \"lb\"\nlisten = \"127.0.0.1:{port}\"\nagent_check = \"off\"\n\
             witness = true\ntoken = \"{token}\"\n\
             [balancer]\nhaproxy = \"{socket}\"\ngroups = [\"web\"]\n",
            dir = self.haproxy.dir().display(),
            socket = self.haproxy.socket().display(),
            port = free_port(),
            token = token.stdout.trim(),
        );
        std::fs::write(self.haproxy.dir().join("baton.toml"), text).unwrap();
        self.up();
    }

    /// Starts the witness.
    pub fn up(&mut self) {
        let dir = self.haproxy.dir();
        let log = std::fs::File::options().create(true).append(true).open(dir.join("log"));
        let mut command = Command::new(baton());
        command.arg("node").arg("--config").arg(dir.join("baton.toml"));
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.unwrap());
        self.witness = Some(command.spawn().unwrap());
    }

    /// Kills the witness. HAProxy goes on.
    pub fn kill_witness(&mut self) {
        if let Some(mut witness) = self.witness.take() {
            witness.kill().unwrap();
            witness.wait().unwrap();
        }
    }

    /// Runs a command against the witness.
    pub fn cli(&self, arguments: &[&str]) -> Ended {
        run(Command::new(baton()).args(arguments).arg("--data-dir").arg(self.haproxy.dir()))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.kill_witness();
    }
}
