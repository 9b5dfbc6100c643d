//! What can be wrong with a config, each in one line that says where and what to do.

use core::fmt;
use std::path::PathBuf;

use crate::config::table::KEYS;

/// Where a setting comes from. A later one wins over an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// The config file, at this line (from 1).
    File(PathBuf, usize),
    /// The environment variable of this name.
    Env(String),
    /// The command line's flag of this name.
    Flag(String),
}

impl Source {
    /// Its rank among the places that a setting comes from.
    pub(super) fn layer(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File(..) => 1,
            Self::Env(_) => 2,
            Self::Flag(_) => 3,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Env(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// Why a config cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The config file cannot be read.
    #[error("{}: the config file cannot be read: {error}", path.display())]
    Read {
        /// The config file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The config file is no TOML.
    #[error("{at}: {message}")]
    Syntax {
        /// The line where reading stopped.
        at: Source,
        /// What the parser expected.
        message: String,
    },
    /// A key that means nothing.
    #[error("{at}: unknown key \"{key}\"{}", hint(*nearest))]
    UnknownKey {
        /// Where it stands.
        at: Source,
        /// The key as written, with the tables that it is in.
        key: String,
        /// The known key that is most like it.
        nearest: Option<&'static str>,
    },
    /// A value of the wrong type.
    #[error("{at}: {key} is {found}, and must be {expected}")]
    Type {
        /// Where it stands.
        at: Source,
        /// The key.
        key: String,
        /// What it must be, with an example.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A value of the right type that cannot be used.
    #[error("{at}: {key}: {why}")]
    Value {
        /// Where it stands.
        at: Source,
        /// The key.
        key: String,
        /// What is wrong with it, and what would do.
        why: String,
    },
    /// Two tokens, and nothing says which.
    #[error("{at}: both token and token_file are set: keep one of them")]
    TwoTokens {
        /// Where the token stands.
        at: Source,
    },
}

fn hint(nearest: Option<&str>) -> String {
    match nearest {
        Some(known) => format!(": did you mean \"{known}\"?"),
        None => {
            let keys: Vec<_> = KEYS.iter().map(|key| key.name).collect();
            format!(": the keys are {} and groups", keys.join(", "))
        }
    }
}
