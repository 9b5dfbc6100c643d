//! The exit codes. They are part of what scripts rely on.

use std::process::ExitCode;

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// An error.
    Error = 1,
    /// Bad usage, or a plan that is refused.
    Refused = 2,
    /// Failed, and rolled back.
    RolledBack = 3,
    /// Paused: a person is needed.
    Paused = 4,
    /// Another rollout is in the way.
    Conflict = 5,
    /// No quorum.
    NoQuorum = 6,
    /// The wait timed out; the rollout goes on.
    TimedOut = 7,
    /// The rollback did not get everywhere.
    RollbackIncomplete = 9,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error with the exit code that it calls for.
#[derive(Debug)]
pub struct Failed {
    /// What is wrong, and what to do.
    pub message: String,
    /// The code.
    pub exit: Exit,
}

impl Failed {
    /// Bad usage.
    pub fn refused(message: impl ToString) -> Self {
        Self { message: message.to_string(), exit: Exit::Refused }
    }

    /// Anything else.
    pub fn error(message: impl ToString) -> Self {
        Self { message: message.to_string(), exit: Exit::Error }
    }

    /// What the API answered.
    pub fn of_kind(kind: &str, message: String) -> Self {
        let exit = match kind {
            "refused" | "unknown" => Exit::Refused,
            "conflict" => Exit::Conflict,
            "no-quorum" => Exit::NoQuorum,
            _ => Exit::Error,
        };
        Self { message, exit }
    }
}

/// What a command comes to.
pub type Outcome = Result<Exit, Failed>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_s_words_have_their_codes() {
        let exit = |kind| Failed::of_kind(kind, String::new()).exit as u8;
        assert_eq!(
            [exit("refused"), exit("conflict"), exit("no-quorum"), exit("busy")],
            [2, 5, 6, 1]
        );
    }
}
