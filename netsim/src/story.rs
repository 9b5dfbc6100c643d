//! Scenarios that people write: which releases, which faults, and how it must end.

use core::fmt;
use core::time::Duration;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use baton_protocol::fleet::policy::Cap;
use baton_protocol::fleet::rollout::Phase;
use serde::Deserialize;

use crate::event::Host;
use crate::fault::{Fault, seconds};
use crate::shape::{Shape, capped};
use crate::store::Temper;

/// The most hosts: they have addresses from 10.0.0.1 on.
const HOSTS_MAX: usize = 250;

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
    pub(crate) ends: End,
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

/// How a rollout ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum End {
    Done,
    #[serde(rename = "rolled back")]
    RolledBack,
    Aborted,
    Superseded,
    /// It has not: no scenario can ask for that, as people press until it has.
    #[serde(skip)]
    UnderWay,
}

impl End {
    pub(crate) fn of(phase: &Phase) -> Self {
        match phase {
            Phase::Done => Self::Done,
            Phase::RolledBack { .. } => Self::RolledBack,
            Phase::Aborted => Self::Aborted,
            Phase::Superseded => Self::Superseded,
            _ => Self::UnderWay,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::RolledBack => "rolled back",
            Self::Aborted => "aborted",
            Self::Superseded => "superseded",
            Self::UnderWay => "under way",
        }
    }
}

/// Why a text is no scenario.
#[derive(Debug)]
pub enum StoryError {
    /// It is not written as one.
    Text(toml::de::Error),
    /// It has fewer or more hosts than a mesh here can have.
    Hosts(usize),
    /// No node may ever be out of service.
    Cap,
    /// Nothing is rolled out.
    NoReleases,
    /// A fault is of a host that there is not: its kind, the host, and how many there are.
    NoHost(&'static str, Host, usize),
}

impl fmt::Display for StoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(error) => error.fmt(f),
            Self::Hosts(hosts) => write!(f, "hosts = {hosts}: a mesh here has 1 to {HOSTS_MAX}"),
            Self::Cap => f.write_str("cap = 0: nothing could ever be rolled out"),
            Self::NoReleases => f.write_str("releases = []: nothing would be rolled out"),
            Self::NoHost(kind, host, hosts) => {
                write!(f, "fault \"{kind}\": no host {host}; they are 0 to {}", hosts - 1)
            }
        }
    }
}

impl Error for StoryError {}

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
    /// The text is none; it says where, or what cannot be run.
    pub fn read(text: &str) -> Result<Self, StoryError> {
        let story: Self = toml::from_str(text).map_err(StoryError::Text)?;
        story.check()?;
        Ok(story)
    }

    fn check(&self) -> Result<(), StoryError> {
        if !(1..=HOSTS_MAX).contains(&self.hosts) {
            return Err(StoryError::Hosts(self.hosts));
        }
        if self.cap == 0 {
            return Err(StoryError::Cap);
        }
        if self.releases.is_empty() {
            return Err(StoryError::NoReleases);
        }
        for Planned { fault, .. } in &self.faults {
            if let Some(host) = fault.hosts().into_iter().find(|host| *host >= self.hosts) {
                return Err(StoryError::NoHost(fault.kind(), host, self.hosts));
            }
        }
        Ok(())
    }

    pub(crate) fn shape(&self) -> Shape {
        let cap = Cap { count: Some(self.cap), ..Cap::default() };
        let (witness, policy) = (self.witness, capped(cap));
        Shape { witness, policy, even: false, ..Shape::calm(self.hosts) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "about = \"x\"\nseed = 1\nhosts = 3\ncap = 1\nreleases = [\"good\"]\n\
                        ends = \"rolled back\"\n[[fault]]\nat = 1.0\nkind = \"partition\"\n\
                        ways = [[0, 2]]\nwait = 2.0\n";

    fn refused(from: &str, to: &str) -> String {
        Story::read(&GOOD.replace(from, to)).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_what_is_wrong() {
        assert_eq!(Story::read(GOOD).unwrap().ends, End::RolledBack);
        let text = refused("[0, 2]", "[0, 3]");
        assert_eq!(text, "fault \"partition\": no host 3; they are 0 to 2");
        assert!(refused("[\"good\"]", "[]").starts_with("releases = []"));
        assert!(refused("hosts = 3", "hosts = 0").starts_with("hosts = 0"));
        assert!(refused("cap = 1", "cap = 0").starts_with("cap = 0"));
        assert!(refused("rolled back", "rolledback").contains("rolled back"));
        assert!(refused("rolled back", "under way").contains("rolled back"));
    }
}
