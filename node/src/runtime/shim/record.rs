//! What a shim writes down about its child, so that the next shim finds it.
//!
//! It is written before the child may run (see [`launch`](super::launch)) and replaced in one step,
//! so that no kill leaves a child that nobody knows. It is not synced: a power cut ends the child
//! too, and the boot id says so.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use baton_protocol::codec;
use serde::{Deserialize, Serialize};

use super::identity::Identity;
use super::message::{Containment, Exited, Start};

/// The service of a directory, as it was last known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Record {
    /// It was started.
    Started(Box<Started>),
    /// It ended.
    Exited(Box<Exited>),
}

/// A start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Started {
    pub start: Start,
    pub run: u64,
    pub identity: Identity,
    /// When, since the boot.
    pub at: Duration,
    pub containment: Containment,
}

impl Record {
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        let fresh = dir.join("record.new");
        fs::write(&fresh, codec::encode(self))?;
        fs::rename(fresh, dir.join("record"))
    }

    /// The record of `dir`, and `None` if there never was one.
    pub fn read(dir: &Path) -> io::Result<Option<Self>> {
        match fs::read(dir.join("record")) {
            Ok(bytes) => codec::decode(&bytes).map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn run(&self) -> u64 {
        match self {
            Self::Started(started) => started.run,
            Self::Exited(exited) => exited.run,
        }
    }
}
