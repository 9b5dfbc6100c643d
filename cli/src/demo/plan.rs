//! Where everything of one demo lies: directories, ports, and the nodes' config files.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use baton_protocol::fleet::policy::{Cap, CapError, CapSyntax};

/// Ports below those that the kernel gives to clients by default, so that no client's connection
/// takes a port between now and its use.
const PORT_FIRST: u16 = 20_000;
const PORT_LAST: u16 = 31_999;

/// One node of the demo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name: n1, n2, …
    pub name: String,
    /// Its directory.
    pub dir: PathBuf,
    /// Where the mesh reaches it.
    pub mesh: u16,
    /// Where the load balancer asks its agent.
    pub agent: u16,
    /// Where its service listens.
    pub service: u16,
}

impl Node {
    /// The socket of its API. Its path must be short: a socket's has 107 bytes at most.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("api.sock")
    }

    /// Keys, state and releases.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// What its daemon prints.
    pub fn log(&self) -> PathBuf {
        self.dir.join("node.log")
    }

    /// Its config file.
    pub fn config(&self) -> PathBuf {
        self.dir.join("baton.toml")
    }

    /// The text of its config file; `token` for all but the founder.
    pub fn config_text(&self, token: Option<&Path>) -> String {
        let text = |path: &Path| toml::Value::String(path.display().to_string());
        let token = token.map(|file| format!("token_file = {}\n", text(file))).unwrap_or_default();
        format!(
            "data_dir = {}\nname = \"{}\"\n{token}listen = \"127.0.0.1:{mesh}\"\n\
             advertise = [\"127.0.0.1:{mesh}\"]\nagent_check = \"127.0.0.1:{}\"\n\
             api_socket = {}\nrun_dir = {}\n\n[groups.web]\nvars = {{ port = \"{}\" }}\n",
            text(&self.data()),
            self.name,
            self.agent,
            text(&self.socket()),
            text(&self.dir.join("run")),
            self.service,
            mesh = self.mesh,
        )
    }
}

/// Lays out so many nodes below `dir`.
///
/// # Errors
/// When there are not enough free ports.
pub fn lay_out(dir: &Path, nodes: usize) -> io::Result<(Vec<Node>, u16)> {
    let mut ports = free_ports(3 * nodes + 1)?.into_iter();
    let mut port = || ports.next().ok_or_else(|| io::Error::other("no free port"));
    let front = port()?;
    let node = |n: usize, mesh, agent, service| {
        let name = format!("n{n}");
        Node { dir: dir.join(&name), name, mesh, agent, service }
    };
    let all = (1..=nodes).map(|n| Ok(node(n, port()?, port()?, port()?)));
    Ok((all.collect::<io::Result<_>>()?, front))
}

/// Ports of this host on which nobody listens; tried from a place that differs from run to run.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let span = PORT_LAST - PORT_FIRST + 1;
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    let first = u16::from_ne_bytes(bytes) % span;
    let tried = (0..span).map(|n| PORT_FIRST + (first + n) % span);
    let ports: Vec<_> = tried.filter(|port| is_free(*port)).take(count).collect();
    if ports.len() < count {
        return Err(io::Error::other(format!("{count} free ports are needed")));
    }
    Ok(ports)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// The cap that a `max_unavailable` allows on so many nodes, as the mesh itself would say.
///
/// # Errors
/// In words, when it is none, or allows nothing, or too much.
pub fn cap(max_unavailable: &str, nodes: usize) -> Result<usize, String> {
    let cap: Cap = max_unavailable.trim().parse().map_err(|it: CapSyntax| it.to_string())?;
    match cap.limit(nodes) {
        Ok(limit) => Ok(limit as usize),
        Err(CapError::Half { limit, members, most }) => Err(format!(
            "max_unavailable {limit} of {members} nodes is half or more: at most {most} here"
        )),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_rounds_down_and_is_never_a_silent_one() {
        assert_eq!(cap("10%", 20), Ok(2));
        assert_eq!(cap("10%", 29), Ok(2));
        assert_eq!(cap("3", 20), Ok(3));
        assert!(cap("10%", 9).unwrap_err().contains("12%"));
        assert!(cap("0", 9).is_err());
        assert_eq!(cap("9", 20), Ok(9));
        assert!(cap("10", 20).unwrap_err().contains("at most 9"));
        assert!(cap("many", 9).is_err());
        assert!(cap("101%", 9).is_err());
    }

    #[test]
    fn nodes_have_ports_of_their_own_and_configs_that_name_them() {
        let (nodes, front) = lay_out(Path::new("/tmp/btn-x"), 3).unwrap();
        let mut ports: Vec<_> = nodes.iter().flat_map(|n| [n.mesh, n.agent, n.service]).collect();
        ports.push(front);
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 10);
        let node = nodes.first().unwrap();
        let text = node.config_text(Some(Path::new("/tmp/btn-x/token")));
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["token_file"].as_str(), Some("/tmp/btn-x/token"));
        let port = table["groups"]["web"]["vars"]["port"].as_str().unwrap();
        assert_eq!(port, node.service.to_string());
        assert!(!node.config_text(None).contains("token"));
    }
}
