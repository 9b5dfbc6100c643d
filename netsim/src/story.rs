//! Scenarios that people write: which releases, which faults, and how it must end.

use core::time::Duration;
use std::io;
use std::path::{Path, PathBuf};

use baton_protocol::fleet::policy::Cap;
use serde::Deserialize;

use crate::fault::{Fault, seconds};
use crate::shape::{Shape, capped};
use crate::store::Temper;

/// One scenario, as a file in `netsim/scenarios/` has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
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
    /// Where it was read.
    #[serde(skip)]
    file: PathBuf,
}

/// A fault, and how long after the first of those releases is seeded it happens.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Planned {
    #[serde(with = "seconds")]
    pub(crate) at: Duration,
    #[serde(flatten)]
    pub(crate) fault: Fault,
}

impl Story {
    /// Reads a scenario from a file.
    ///
    /// # Errors
    /// The file cannot be read, or is no scenario.
    pub fn open(file: &Path) -> io::Result<Self> {
        let story = Self::read(&std::fs::read_to_string(file)?).map_err(io::Error::other)?;
        Ok(Self { file: file.to_owned(), ..story })
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

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
