//! The policy of a group: how many may be down, and how a rollout goes on.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use serde::{Deserialize, Serialize};

/// How the nodes of a group are activated. It lives in the log; a release may only tighten it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// How many members may be out of service at once.
    pub max_unavailable: Cap,
    /// How long a service must be ready before it counts as available.
    pub min_healthy: Duration,
    /// Whether that may be no time at all: then the first good answer is proof enough.
    pub allow_unproven: bool,
    /// Shares of the members, in percent, growing to 100: after each the rollout soaks. The rollout
    /// takes a stage's share rounded up, at least one node.
    pub stages: Vec<u8>,
    /// How long everything must stay well after each stage but the last.
    pub soak: Duration,
    /// What a node that fails means.
    pub on_failure: OnFailure,
}

/// What happens when a node fails to get ready on a new release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// The group goes back to the release that it had.
    Rollback,
    /// The rollout stops and waits for a person.
    Pause,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_unavailable: Cap::default(),
            min_healthy: Duration::from_secs(10),
            allow_unproven: false,
            stages: vec![100],
            soak: Duration::ZERO,
            on_failure: OnFailure::Rollback,
        }
    }
}

/// How many members of a set may be out of service at once: a count, a percentage, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Cap {
    /// At most so many.
    pub count: Option<u32>,
    /// At most this share of the members, in percent, rounded down.
    pub percent: Option<u8>,
    /// Whether half of the members and more may go.
    pub allow_half: bool,
    /// Whether the only member may go.
    pub allow_downtime: bool,
}

/// 10 %, at least 1: what holds where nobody wrote a cap.
const DEFAULT_PERCENT: u32 = 10;

/// Why no service may be taken down under a cap. Each text says what would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CapError {
    /// A percentage that rounds down to nobody.
    #[error(
        "max_unavailable {percent}% of {members} rounds down to 0: nothing could ever be updated; \
         use {enough}% or a count of 1"
    )]
    RoundsToZero {
        /// What was written.
        percent: u8,
        /// Members of the set.
        members: u32,
        /// The least percentage that gives 1.
        enough: u32,
    },
    /// A count of 0.
    #[error("max_unavailable 0 means that nothing could ever be updated; use 1 or more")]
    Zero,
    /// Half or more of the members.
    #[error(
        "max_unavailable {limit} of {members} is half or more of the group: at most {most} without \
         --allow-half"
    )]
    Half {
        /// How many could go at once.
        limit: u32,
        /// Members of the set.
        members: u32,
        /// The most that needs no flag.
        most: u32,
    },
    /// One member alone: any restart is downtime.
    #[error("the group has one node, so that a restart is downtime: say --allow-downtime")]
    Alone,
}

impl Cap {
    /// k: how many of `members` may be out of service at once. Of no members, nobody: 0.
    ///
    /// # Errors
    /// The cap lets nobody go, or too many; see [`CapError`].
    pub fn limit(&self, members: usize) -> Result<u32, CapError> {
        let members = u32::try_from(members).unwrap_or(u32::MAX);
        match members {
            _ if self.count == Some(0) || self.percent == Some(0) => Err(CapError::Zero),
            0 => Ok(0),
            1 if self.allow_downtime => Ok(1),
            1 => Err(CapError::Alone),
            _ => self.checked(members),
        }
    }

    fn checked(&self, members: u32) -> Result<u32, CapError> {
        let limit = self.stricter(members)?;
        let half_or_more = limit.saturating_mul(2) >= members;
        if half_or_more && limit != 1 && !self.allow_half {
            let most = (members.saturating_sub(1) / 2).max(1);
            return Err(CapError::Half { limit, members, most });
        }
        Ok(limit.min(members))
    }

    fn stricter(&self, members: u32) -> Result<u32, CapError> {
        let share = |percent: u32| {
            u32::try_from(u64::from(members) * u64::from(percent) / 100).unwrap_or(u32::MAX)
        };
        let by_percent = match self.percent {
            None => None,
            Some(percent) => match share(u32::from(percent)) {
                0 => {
                    let enough = 100_u32.div_ceil(members);
                    return Err(CapError::RoundsToZero { percent, members, enough });
                }
                some => Some(some),
            },
        };
        match (self.count, by_percent) {
            (Some(count), Some(share)) => Ok(count.min(share)),
            (Some(limit), None) | (None, Some(limit)) => Ok(limit),
            (None, None) => Ok(share(DEFAULT_PERCENT).max(1)),
        }
    }
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.count, self.percent) {
            (Some(count), Some(percent)) => write!(f, "{count},{percent}%"),
            (Some(count), None) => write!(f, "{count}"),
            (None, Some(percent)) => write!(f, "{percent}%"),
            (None, None) => write!(f, "{DEFAULT_PERCENT}%, at least 1"),
        }
    }
}

/// A text that is no cap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no max-unavailable: a count (2), a percentage (10%) or both (2,10%) is one")]
pub struct CapSyntax(String);

impl FromStr for Cap {
    type Err = CapSyntax;

    fn from_str(text: &str) -> Result<Self, CapSyntax> {
        let bad = || CapSyntax(text.to_owned());
        let mut cap = Self::default();
        for part in text.split(',').map(str::trim) {
            let fresh = match part.strip_suffix('%') {
                Some(percent) => {
                    let percent = percent.trim().parse().ok().filter(|&percent| percent <= 100);
                    cap.percent.replace(percent.ok_or_else(bad)?).is_none()
                }
                None => cap.count.replace(part.parse().map_err(|_| bad())?).is_none(),
            };
            if !fresh {
                return Err(bad());
            }
        }
        Ok(cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(text: &str, members: usize) -> Result<u32, CapError> {
        text.parse::<Cap>().unwrap().limit(members)
    }

    #[test]
    fn a_percentage_rounds_down_and_zero_is_an_error_that_says_what_would_do() {
        assert_eq!(limit("10%", 20), Ok(2));
        assert_eq!(limit("10%", 29), Ok(2));
        let error = limit("4%", 20).unwrap_err();
        assert_eq!(error, CapError::RoundsToZero { percent: 4, members: 20, enough: 5 });
        assert_eq!(limit("5%", 20), Ok(1));
        assert_eq!(limit("0", 20), Err(CapError::Zero));
    }

    #[test]
    fn the_stricter_of_two_holds() {
        assert_eq!(limit("3,10%", 20), Ok(2));
        assert_eq!(limit("1,10%", 20), Ok(1));
    }

    #[test]
    fn the_default_is_a_tenth_and_at_least_one() {
        assert_eq!(Cap::default().limit(20), Ok(2));
        assert_eq!(Cap::default().limit(2), Ok(1));
        assert_eq!(Cap::default().limit(19), Ok(1));
    }

    #[test]
    fn half_needs_a_flag_and_one_of_two_does_not() {
        assert_eq!(limit("1", 2), Ok(1));
        assert_eq!(limit("2", 4), Err(CapError::Half { limit: 2, members: 4, most: 1 }));
        let cap = Cap { allow_half: true, ..("2".parse().unwrap()) };
        assert_eq!(cap.limit(4), Ok(2));
        assert_eq!(limit("1", 1), Err(CapError::Alone));
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in ["", "x", "101%", "1,2", "-1", "10%,20%", "1.5"] {
            assert!(bad.parse::<Cap>().is_err(), "{bad}");
        }
    }
}
