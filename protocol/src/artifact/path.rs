//! Paths that cannot leave the tree that they are a part of.

use core::fmt;
use core::str::FromStr;
use std::borrow::Borrow;

use serde::{Deserialize, Serialize};

use crate::limits::{PATH_BYTES_MAX, PATH_COMPONENT_BYTES_MAX};

/// Why a text is no path in a release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No bytes at all.
    #[error("a path is empty")]
    Empty,
    /// It starts at the root of the host.
    #[error("\"{0}\" is absolute; a release has only paths inside it")]
    Absolute(String),
    /// It has a component `.` or `..`, or an empty one.
    #[error("\"{0}\" has an empty component, \".\" or \"..\"")]
    Component(String),
    /// It has a NUL, which ends a path for the kernel.
    #[error("{0:?} has a NUL in it")]
    Nul(String),
    /// It, or one of its components, is too long for a file system.
    #[error(
        "a path of {0} bytes starts with \"{1}\": at most {PATH_BYTES_MAX} are allowed, and {PATH_COMPONENT_BYTES_MAX} in a component"
    )]
    TooLong(usize, String),
}

/// A path inside a release: relative, with `/` between its components, and not able to leave the
/// release by itself. (A symbolic link on the way could: [`super::manifest`] refuses that.)
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SafePath(String);

impl SafePath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its components, outermost first. There is at least one.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The directory that it is in, or `None` at the top of the release.
    pub fn parent(&self) -> Option<&str> {
        self.0.rsplit_once('/').map(|(parent, _)| parent)
    }
}

impl FromStr for SafePath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for SafePath {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        if text.is_empty() {
            return Err(PathError::Empty);
        }
        if text.starts_with('/') {
            return Err(PathError::Absolute(text));
        }
        if text.contains('\0') {
            return Err(PathError::Nul(text));
        }
        let long = |component: &str| component.len() > PATH_COMPONENT_BYTES_MAX;
        if text.len() > PATH_BYTES_MAX || text.split('/').any(long) {
            return Err(PathError::TooLong(text.len(), text.chars().take(60).collect()));
        }
        if text.split('/').any(|component| matches!(component, "" | "." | "..")) {
            return Err(PathError::Component(text));
        }
        Ok(Self(text))
    }
}

impl From<SafePath> for String {
    fn from(path: SafePath) -> Self {
        path.0
    }
}

impl AsRef<std::path::Path> for SafePath {
    fn as_ref(&self) -> &std::path::Path {
        self.0.as_ref()
    }
}

impl Borrow<str> for SafePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SafePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for SafePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_paths_are_taken() {
        for good in ["a", "bin/web", "a/.hidden", "a/..b", "a b/ü\n", "..."] {
            assert_eq!(good.parse::<SafePath>().map(String::from), Ok(good.to_owned()));
        }
    }

    #[test]
    fn what_could_leave_is_refused() {
        let long = "x".repeat(PATH_COMPONENT_BYTES_MAX + 1);
        let deep = "x/".repeat(PATH_BYTES_MAX);
        for bad in ["", "/", "/etc", ".", "..", "../a", "a/../b", "a//b", "a/", "a/.", "a\0b"] {
            assert!(bad.parse::<SafePath>().is_err(), "{bad:?}");
        }
        assert!(long.parse::<SafePath>().is_err());
        assert!(deep.parse::<SafePath>().is_err());
    }

    #[test]
    fn a_decoded_path_is_a_checked_path() {
        let bytes = crate::codec::encode(&"../etc".to_owned());
        assert!(crate::codec::decode::<SafePath>(&bytes).is_err());
    }

    proptest! {
        // Only the pieces that matter to a path, so that the hostile ones come up often.
        #[test]
        fn a_safe_path_stays_below_its_root(text in "[./a\0]{0,12}") {
            let Ok(path) = text.parse::<SafePath>() else { return Ok(()) };
            let mut depth = 0i32;
            for component in std::path::Path::new(path.as_str()).components() {
                prop_assert!(matches!(component, std::path::Component::Normal(_)));
                depth += 1;
            }
            prop_assert!(depth >= 1);
            prop_assert_eq!(depth as usize, path.components().count());
        }
    }
}
