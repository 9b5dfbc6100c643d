//! A real HAProxy in front of a mesh, and beside it a witness that reads it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::mesh::{Ended, Mesh, baton, run, wait};
use crate::ports::free_port;

/// HAProxy, and the witness `lb` that reads it. Dropping it ends both.
pub struct HaProxy {
    /// Where clients connect.
    pub front: u16,
    /// Its configuration.
    pub config: PathBuf,
    dir: PathBuf,
    process: Child,
    witness: Option<Child>,
}

/// One try for each request, on a connection of its own: whatever goes wrong is seen.
fn frame(front: u16, dir: &Path) -> String {
    format!(
        "global\n  nbthread 1\n  stats socket {}/haproxy.sock mode 600 level admin\n\
         defaults\n  mode http\n  timeout connect 2s\n  timeout client 60s\n  timeout server 10s\n\
         \x20 retries 0\n  http-reuse never\n\
         frontend front\n  bind 127.0.0.1:{front}\n  default_backend web\n",
        dir.display()
    )
}

impl HaProxy {
    /// Puts one in front of the mesh, configured as `baton lb` does it; `change` may then change that.
    pub fn before(mesh: &mut Mesh, program: &Path, change: impl Fn(String) -> String) -> Self {
        let dir = mesh.dir().join("lb");
        std::fs::create_dir(&dir).unwrap();
        for at in 0..mesh.nodes.len() {
            let agent = format!("\"127.0.0.1:{}\"", free_port());
            rewrite(&mesh.data_dir(at).join("baton.toml"), |text| text.replace("\"off\"", &agent));
            mesh.kill(at);
            mesh.up(at);
        }
        let front = free_port();
        let config = dir.join("haproxy.cfg");
        std::fs::write(&config, frame(front, &dir)).unwrap();
        let apply = ["lb", "haproxy", "-g", "web", "--reload", "true", "--apply"];
        wait("every agent's port is known", || {
            let ended = mesh.cli(0, &["lb", "haproxy", "-g", "web"]);
            (ended.stdout.matches("agent-port").count() == mesh.nodes.len()).then_some(())
        });
        mesh.cli(0, &[&apply[..], &[config.to_str().unwrap()]].concat()).code(0);
        rewrite(&config, change);
        let mut process = Command::new(program);
        process.arg("-db").arg("-f").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let process = process.spawn().unwrap();
        let mut this = Self { front, config, dir, process, witness: None };
        this.join(mesh);
        wait("the witness reads it", || {
            let status = mesh.json(0, "status")?;
            let web = status["groups"].as_array()?.iter().find(|it| it["name"] == "web")?;
            (web["watchers"].as_array()?.iter().any(|it| it == "lb")).then_some(())
        });
        for node in &mesh.nodes {
            wait("HAProxy sends to it", || (this.state(&node.name) == "UP 100").then_some(()));
        }
        this
    }

    fn join(&mut self, mesh: &Mesh) {
        let founder = std::fs::read_to_string(mesh.data_dir(0).join("baton.toml")).unwrap();
        let listen = founder.lines().find_map(|line| line.strip_prefix("listen = ")).unwrap();
        let token = mesh.cli(0, &["token", "--address", listen.trim_matches('"')]).code(0);
        let text = format!(
            "data_dir = \"{dir}\"\nname = \"lb\"\nlisten = \"127.0.0.1:{port}\"\nagent_check = \"off\"\n\
             witness = true\ntoken = \"{token}\"\n\
             [balancer]\nhaproxy = \"{dir}/haproxy.sock\"\ngroups = [\"web\"]\n",
            dir = self.dir.display(),
            port = free_port(),
            token = token.stdout.trim(),
        );
        std::fs::write(self.dir.join("baton.toml"), text).unwrap();
        self.up();
    }

    /// Starts the witness.
    pub fn up(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join("log"));
        let mut command = Command::new(baton());
        command.arg("node").arg("--config").arg(self.dir.join("baton.toml"));
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
        run(Command::new(baton()).args(arguments).arg("--data-dir").arg(&self.dir))
    }

    /// What HAProxy itself answers.
    pub fn ask(&self, command: &str) -> String {
        let mut answer = String::new();
        if let Ok(mut stream) = UnixStream::connect(self.dir.join("haproxy.sock")) {
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
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        self.kill_witness();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn rewrite(file: &Path, change: impl Fn(String) -> String) {
    let text = std::fs::read_to_string(file).unwrap();
    std::fs::write(file, change(text)).unwrap();
}
