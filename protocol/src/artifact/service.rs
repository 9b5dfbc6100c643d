//! How a release's service is run: `baton.toml` at the root of what is released.

use core::time::Duration;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use super::service_file::{ServiceFile, SpecError, fill, parse, variables};
pub use super::template::TemplateError;

/// The service definition that a release carries. Texts may hold `${name}`, which each node fills
/// from the variables that its own config gives for the group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// How it is started.
    pub run: Run,
    /// How it proves that it is ready.
    pub ready: Readiness,
    /// How it is taken out of service.
    pub drain: Drain,
}

/// How a service is started and stopped (runtime `exec`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The program and its arguments; a relative program is one of the release's own files.
    pub command: Vec<String>,
    /// Environment, on top of a small fixed one.
    pub env: BTreeMap<String, String>,
    /// The signal that asks it to end, by its number (15 is SIGTERM).
    pub stop_signal: i32,
    /// How long it may take to end before it is killed.
    pub stop_timeout: Duration,
}

/// How a service proves that it is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// What is asked.
    pub probe: Probe,
    /// Time between two questions.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long the service may take from its start to its first proof.
    pub deadline: Duration,
}

/// One question to a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// `GET` of an `http://` address, answered with 200 to 299.
    Http(String),
    /// A TCP connection to `host:port`.
    Tcp(String),
    /// A command that exits with 0, run in the release's directory.
    Command(Vec<String>),
}

/// How a service is taken out of service before it is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// `IP:port` that the service listens on: drained means no established connection to it.
    /// Without it, only the wait for the balancer counts.
    pub listen: Option<String>,
    /// How long the running requests may take to end. After that the step is aborted, not forced.
    pub timeout: Duration,
    /// How long the balancer may take to see that the node drains, or is back: its check interval
    /// times the checks that it wants, and a margin. Zero where no balancer stands before the service.
    pub balancer_delay: Duration,
}
