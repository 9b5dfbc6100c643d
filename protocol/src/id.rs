//! The names and numbers by which things are known. Each is a type of its own, so that one cannot
//! be taken for another.

use core::cmp::Ordering;
use core::fmt;
use core::str::FromStr;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::limits::NAME_BYTES_MAX;

/// Why a text is no name or no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// A name that is empty, too long, or has characters other than `a-z A-Z 0-9 . _ -`, or that
    /// starts with one of `. _ -`.
    #[error(
        "\"{0}\" is no name: use 1 to {NAME_BYTES_MAX} of a-z A-Z 0-9 . _ -, the first a letter or digit"
    )]
    Name(String),
    /// Not 64 hexadecimal digits.
    #[error("\"{0}\" is no id: 64 hexadecimal digits are one")]
    Hex(String),
    /// Not the letter r and a number.
    #[error("\"{0}\" is no rollout's id: one is like r26; `baton rollout status` shows them")]
    Rollout(String),
    /// Not the letter p and two numbers.
    #[error(
        "\"{0}\" is no permit's id: one is like p26.0; `baton permits` lists those that are open"
    )]
    Permit(String),
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                is_name(text).then(|| Self(text.to_owned())).ok_or_else(|| IdError::Name(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    text.len() <= NAME_BYTES_MAX
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(allowed)
}

name!(/// What people call a mesh.
    MeshName);
name!(/// What people call a node. Unique among the members of a mesh.
    NodeName);
name!(/// The nodes that run one service, and its policy.
    GroupName);
name!(/// What a release is a release of.
    ServiceName);
name!(/// A failure domain: a rack, a data centre, a region.
    ZoneName);
name!(/// What people call a release of a service.
    Version);

macro_rules! bytes32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub [u8; 32]);

        // As the bytes are ordered. Keys and hashes nearly always differ in the first of them, and maps
        // of them are most of what a node looks up.
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                let first = |id: &Self| id.0.first_chunk().map(|first| u64::from_be_bytes(*first));
                first(self).cmp(&first(other)).then_with(|| self.0.cmp(&other.0))
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl $name {
            /// The first ten hexadecimal digits, for people.
            pub fn short(&self) -> String {
                let mut hex = HEXLOWER.encode(&self.0);
                hex.truncate(10);
                hex
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let bytes = HEXLOWER.decode(text.as_bytes()).ok();
                let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
                bytes.map(Self).ok_or_else(|| IdError::Hex(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.short())
            }
        }

        // Text where a person may read it (JSON), 32 bytes where not.
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    <[u8; 32]>::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

bytes32!(/// A node: its Ed25519 public key, which its connections prove.
    NodeId);
bytes32!(/// A mesh: the Ed25519 public key of its root.
    MeshId);
bytes32!(/// An Ed25519 public key of a publisher, an operator or a token.
    KeyId);
bytes32!(/// The BLAKE3 hash of a chunk's bytes.
    ChunkHash);
bytes32!(/// A release: the BLAKE3 hash of its header's bytes, signatures not included.
    ReleaseId);

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The one that follows.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(/// The place of an entry in the log; the first is 1.
    LogIndex);
number!(/// A voter of the consensus. From a counter in the log: never given to a second node or disk.
    VoterId);
number!(/// A life of a node: a count of its daemon's starts in the upper half, and a random number below it,
    /// so that two daemons that start on copies of one disk have two lives.
    Incarnation);
number!(/// How often a group's rollout state has changed hands: what a rollout is created against.
    Generation);
number!(/// A release's place among the releases of its service. A rollout forward needs a higher one.
    Sequence);
number!(/// Tells one request to begin from another: from somewhere on, it only grows in a life of its node.
    Nonce);
number!(/// The leader's own question, which evidence answers.
    Question);
number!(/// A request of a person's, while it waits for its answer.
    RequestId);

impl Incarnation {
    /// The life after this one, told by `chance` from another that follows on the same.
    pub fn next_life(self, chance: u32) -> Self {
        Self(self.earlier().0.saturating_add(1 << u32::BITS).saturating_add(chance.into()))
    }

    /// The lowest life of as many starts.
    pub fn earlier(self) -> Self {
        Self(self.0 & !u64::from(u32::MAX))
    }
}

/// A rollout: the place in the log where it was created.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct RolloutId(pub LogIndex);

impl fmt::Display for RolloutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

impl FromStr for RolloutId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let index = text.strip_prefix('r').and_then(|index| index.parse().ok());
        index.map(|index| Self(LogIndex(index))).ok_or_else(|| IdError::Rollout(text.to_owned()))
    }
}

/// A permit: the place in the log where it was granted, and its place among the grants of that entry.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct PermitId {
    /// The entry that granted it.
    pub granted_at: LogIndex,
    /// Its place in that entry, from 0.
    pub ordinal: u32,
}

impl fmt::Display for PermitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}.{}", self.granted_at, self.ordinal)
    }
}

impl FromStr for PermitId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let parsed = text.strip_prefix('p').and_then(|rest| rest.split_once('.'));
        let parsed = parsed.and_then(|(index, ordinal)| {
            Some(Self { granted_at: LogIndex(index.parse().ok()?), ordinal: ordinal.parse().ok()? })
        });
        parsed.ok_or_else(|| IdError::Permit(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_lives_that_follow_on_one_each_is_later_and_neither_is_the_other() {
        let before = Incarnation(0).next_life(u32::MAX);
        let (one, other) = (before.next_life(1), before.next_life(2));
        assert!(before < one && one < other && other < one.next_life(0));
        assert_eq!(one.earlier(), other.earlier());
        assert_eq!(Incarnation(u64::MAX).next_life(1), Incarnation(u64::MAX)); // from a rotten disk
    }

    #[test]
    fn ids_are_read_as_they_are_written() {
        let permit = PermitId { granted_at: LogIndex(26), ordinal: 3 };
        assert_eq!(permit.to_string().parse(), Ok(permit));
        assert_eq!(RolloutId(LogIndex(26)).to_string().parse(), Ok(RolloutId(LogIndex(26))));
        for bad in ["", "26", "r26", "p26", "p26.", "p.1", "p-1.0"] {
            assert!(bad.parse::<PermitId>().is_err(), "{bad}");
        }
        for bad in ["", "26", "r", "r-1", "p26.0"] {
            assert!(bad.parse::<RolloutId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_hold_to_their_letters() {
        assert!("web-1.eu_2".parse::<NodeName>().is_ok());
        for bad in ["", "-a", ".", "..", "a/b", "ü", &"x".repeat(NAME_BYTES_MAX + 1)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_come_back_from_text() {
        let id = ChunkHash([0xa7; 32]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("p17.2".parse(), Ok(PermitId { granted_at: LogIndex(17), ordinal: 2 }));
        assert!("p17".parse::<PermitId>().is_err());
    }
}
