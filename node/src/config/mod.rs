//! The node's one config file, and what overrides it.
//!
//! Every key is in one table (`table.rs`): the file, the environment (`BATON_<KEY>`), the
//! command line's flags, the defaults and the commented example all follow it. Flags win over the
//! environment, that over the file, and that over the defaults.

mod error;
mod file;
mod layers;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use baton_protocol::id::{GroupName, NodeName, ZoneName};
use baton_protocol::trust::token::{JoinToken, TOKEN_ADDRESS_BYTES_MAX};

pub use error::{ConfigError, Source};

use layers::{Layers, Value};

/// Bytes of a unix socket's path that the kernel takes: `sun_path` less the zero at its end.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// What one node is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where keys, state and releases are.
    pub data_dir: PathBuf,
    /// What people call this node.
    pub name: NodeName,
    /// Where the other nodes reach it.
    pub listen: SocketAddr,
    /// `host:port` under which they do; empty: to be derived from the node's own addresses.
    pub advertise: Vec<String>,
    /// The join token, from `token` or `token_file`.
    pub token: Option<JoinToken>,
    /// The failure domain it stands in.
    pub zone: Option<ZoneName>,
    /// It votes, and runs no service.
    pub witness: bool,
    /// Where HAProxy's agent-check is answered; `None`: nowhere.
    pub agent_check: Option<SocketAddr>,
    /// The unix socket of the API.
    pub api_socket: PathBuf,
    /// Where the shims of the services live, a directory each.
    pub run_dir: PathBuf,
    /// `host:port` of nodes to ask first.
    pub bootstrap: Vec<String>,
    /// The load balancer beside it.
    pub balancer: BalancerConfig,
    /// What this node says about the groups that it is in.
    pub groups: BTreeMap<GroupName, GroupConfig>,
}

/// The load balancer beside a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalancerConfig {
    /// HAProxy's stats socket.
    pub haproxy: PathBuf,
    /// The groups whose servers it has, each with the backend that they stand in. Where there is none,
    /// nothing is read.
    pub backends: BTreeMap<GroupName, String>,
}

/// What one node says about one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupConfig {
    /// What is filled into the `${name}`s of the group's service.
    pub vars: BTreeMap<String, String>,
}

/// The command line's flags, each as it was written. What is `None` or empty overrides nothing.
///
/// Without `Debug`, as a token may be in it.
#[derive(Clone, Default)]
#[allow(missing_docs)] // each is the flag of the key of its name
pub struct Overrides {
    pub data_dir: Option<String>,
    pub name: Option<String>,
    pub listen: Option<String>,
    pub advertise: Vec<String>,
    pub token: Option<String>,
    pub token_file: Option<String>,
    pub zone: Option<String>,
    pub witness: Option<bool>,
    pub agent_check: Option<String>,
    pub api_socket: Option<String>,
    pub run_dir: Option<String>,
    pub bootstrap: Vec<String>,
    pub balancer_groups: Vec<String>,
    pub balancer_haproxy: Option<String>,
}

impl Config {
    /// Reads the file, if one is named, and lays the environment and then the flags over it.
    ///
    /// # Errors
    /// See [`ConfigError`]. Each says in one line where the mistake is and what would do.
    pub fn load(
        path: Option<&Path>,
        env: impl Fn(&str) -> Option<String>,
        overrides: &Overrides,
    ) -> Result<Self, ConfigError> {
        let mut layers = Layers::defaults()?;
        let groups = path.map(|path| file::lay(path, &mut layers)).transpose()?;
        layers.env(env)?;
        overrides.lay(&mut layers);
        Self::build(&layers, groups.unwrap_or_default())
    }

    /// A commented file that sets every key to its default.
    pub fn example() -> String {
        table::example()
    }

    fn build(
        layers: &Layers,
        groups: BTreeMap<GroupName, GroupConfig>,
    ) -> Result<Self, ConfigError> {
        let path = |text: &str| Ok(PathBuf::from(text));
        let data_dir = layers.need("data_dir", path)?;
        Ok(Self {
            name: match layers.text("name", name)? {
                Some(name) => name,
                None => host_name()?,
            },
            listen: layers.need("listen", socket_address)?,
            advertise: layers.list("advertise", host_and_port)?,
            token: token(layers)?,
            zone: layers.text("zone", |text| text.parse().map_err(say))?,
            witness: layers.switch("witness"),
            agent_check: layers.need("agent_check", agent_check)?,
            api_socket: api_socket(layers, &data_dir)?,
            run_dir: layers.text("run_dir", path)?.unwrap_or_else(|| data_dir.join("run")),
            bootstrap: layers.list("bootstrap", host_and_port)?,
            balancer: BalancerConfig {
                haproxy: layers.need("balancer.haproxy", path)?,
                backends: layers.list("balancer.groups", backend)?.into_iter().collect(),
            },
            data_dir,
            groups,
        })
    }
}

impl Overrides {
    fn lay(&self, layers: &mut Layers) {
        let text = |value: &Option<String>| value.clone().map(Value::Text);
        let list = |value: &[String]| (!value.is_empty()).then(|| Value::List(value.to_vec()));
        let flags = [
            ("data_dir", text(&self.data_dir)),
            ("name", text(&self.name)),
            ("listen", text(&self.listen)),
            ("advertise", list(&self.advertise)),
            ("token", text(&self.token)),
            ("token_file", text(&self.token_file)),
            ("zone", text(&self.zone)),
            ("witness", self.witness.map(Value::Switch)),
            ("agent_check", text(&self.agent_check)),
            ("api_socket", text(&self.api_socket)),
            ("run_dir", text(&self.run_dir)),
            ("bootstrap", list(&self.bootstrap)),
            ("balancer.groups", list(&self.balancer_groups)),
            ("balancer.haproxy", text(&self.balancer_haproxy)),
        ];
        for (name, value) in flags {
            if let (Some(key), Some(value)) = (table::find(name), value) {
                layers.set(key, value, Source::Flag(key.flag()));
            }
        }
    }
}

fn say(error: impl std::error::Error) -> String {
    error.to_string()
}

fn name(text: &str) -> Result<NodeName, String> {
    text.parse().map_err(say)
}

/// The host's own name, for a node that is given none.
fn host_name() -> Result<NodeName, ConfigError> {
    let uname = rustix::system::uname();
    name(&uname.nodename().to_string_lossy()).map_err(|error| ConfigError::Value {
        at: Source::Default,
        key: "name".to_owned(),
        why: format!("the host's name does not do: {error}; set name"),
    })
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    let why = || format!("\"{text}\" is no address: write ip:port, such as 0.0.0.0:7400");
    text.parse().map_err(|_| why())
}

fn agent_check(text: &str) -> Result<Option<SocketAddr>, String> {
    match text {
        "off" => Ok(None),
        text => socket_address(text).map(Some).map_err(|why| format!("{why}, or off")),
    }
}

/// A group, with the backend that has its servers: `web`, or `web=shop`. A backend's name is sent to
/// HAProxy among other words, and so has only the letters that HAProxy allows.
fn backend(text: &str) -> Result<(GroupName, String), String> {
    let (group, backend) = text.split_once('=').unwrap_or((text, text));
    let group = group.parse().map_err(say)?;
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    if backend.is_empty() || !backend.chars().all(letter) {
        return Err(format!("\"{backend}\" is no backend's name: use a-z A-Z 0-9 - _ . :"));
    }
    Ok((group, backend.to_owned()))
}

/// A name or an address with a port. An IPv6 address stands in brackets.
fn host_and_port(text: &str) -> Result<String, String> {
    let valid = text.rsplit_once(':').is_some_and(|(host, port)| {
        let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let named = !host.is_empty() && host.chars().all(letter);
        let numbered = text.parse::<SocketAddr>().is_ok();
        (named || numbered) && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if valid && text.len() <= TOKEN_ADDRESS_BYTES_MAX {
        return Ok(text.to_owned());
    }
    Err(format!("\"{text}\" is no host:port: write web-1.example:7400 or [2001:db8::1]:7400"))
}

fn api_socket(layers: &Layers, data_dir: &Path) -> Result<PathBuf, ConfigError> {
    let set = layers.text("api_socket", |text| Ok(PathBuf::from(text)))?;
    let derived = set.is_none();
    let path = set.unwrap_or_else(|| data_dir.join("baton.sock"));
    let bytes = path.as_os_str().len();
    if bytes <= SOCKET_PATH_BYTES_MAX {
        return Ok(path);
    }
    Err(ConfigError::Value {
        at: layers.source(if derived { "data_dir" } else { "api_socket" }),
        key: "api_socket".to_owned(),
        why: format!(
            "{} has {bytes} bytes, and the system takes {SOCKET_PATH_BYTES_MAX}: set a shorter path",
            path.display()
        ),
    })
}

/// The token of whichever of the two keys is set in the higher layer.
fn token(layers: &Layers) -> Result<Option<JoinToken>, ConfigError> {
    let (inline, in_file) = (layers.source("token"), layers.source("token_file"));
    match inline.layer().cmp(&in_file.layer()) {
        core::cmp::Ordering::Greater => layers.text("token", |text| text.parse().map_err(say)),
        core::cmp::Ordering::Less => layers.text("token_file", token_in_file),
        core::cmp::Ordering::Equal if inline == Source::Default => Ok(None),
        core::cmp::Ordering::Equal => Err(ConfigError::TwoTokens { at: inline }),
    }
}

fn token_in_file(path: &str) -> Result<JoinToken, String> {
    let text = file::read(Path::new(path)).map_err(|error| {
        format!("{path} cannot be read: {error}; write the token there, or remove this key")
    })?;
    text.parse().map_err(|error| format!("{path}: {error}"))
}
