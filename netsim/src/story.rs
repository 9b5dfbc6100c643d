//! Scenarios that people write: which releases, which faults, and how it must end.

use core::time::Duration;

use baton_protocol::fleet::policy::Cap;
use serde::Deserialize;

use crate::fault::{Fault, seconds};
use crate::shape::{Shape, capped};
use crate::store::Temper;

/// One scenario, as a file in `netsim/scenarios/` has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Story {
    /// What it shows, in a sentence.
    pub about: String,
    /// What decides all that the file leaves open.
    pub seed: u64,
    /// Hosts; the first one founds.
    pub hosts: usize,
    #[serde(default)]
    witness: bool,
    /// Nodes that may be out of service at once.
    cap: u32,
    /// Releases after the first one, each rolled out when the one before is over.
    pub(crate) releases: Vec<Temper>,
    /// How the rollout of the last one must end.
    pub(crate) ends: String,
    #[serde(default, rename = "fault")]
    pub(crate) faults: Vec<Planned>,
}

/// A fault, and how long after the first of those releases is seeded it happens.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Planned {
    #[serde(with = "seconds")]
    pub(crate) at: Duration,
    #[serde(flatten)]
    pub(crate) fault: Fault,
}

impl Story {
    /// Reads a scenario.
    ///
    /// # Errors
    /// The text is none; it says where.
    pub fn read(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    pub(crate) fn shape(&self) -> Shape {
        let cap = Cap { count: Some(self.cap), ..Cap::default() };
        Shape { witness: self.witness, policy: capped(cap), ..Shape::calm(self.hosts) }
    }
}
