//! Why a job failed: the part of the table of reasons (design 2.2) that a runner can find out.
//!
//! Cases the table leaves open are settled here: arguments that do not parse and a `stdin_file` that cannot be opened are
//! `env_invalid` (nothing ran, and nothing would the next time); a result or jobs file that breaks its contract is
//! `invalid_exit` (it ran, its outcome cannot be believed); a supervisor that died under its commands is `lost_contact`.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    ExitNonzero,
    /// The command died by a signal that nobody here sent.
    Signal,
    /// Over `max_ram_mb`, or killed because the machine is short of memory.
    Ram,
    /// Over `timeout_s`.
    Time,
    NotExecutable,
    NotFound,
    InvalidExit,
    /// By a user.
    Killed,
    CwdMissing,
    EnvInvalid,
    StartFailed,
    /// The worker was told to stop, or lost its right to run commands.
    Interrupted,
    /// The supervisor died, and its commands with it.
    LostContact,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExitNonzero => "exit_nonzero",
            Self::Signal => "signal",
            Self::Ram => "ram",
            Self::Time => "time",
            Self::NotExecutable => "not_executable",
            Self::NotFound => "not_found",
            Self::InvalidExit => "invalid_exit",
            Self::Killed => "killed",
            Self::CwdMissing => "cwd_missing",
            Self::EnvInvalid => "env_invalid",
            Self::StartFailed => "start_failed",
            Self::Interrupted => "interrupted",
            Self::LostContact => "lost_contact",
        }
    }

    /// Whether trying again may help. `start_failed` may five times, `lost_contact` by the rules of expiry: both counts are the queue's.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::ExitNonzero | Self::Signal | Self::Ram | Self::Time | Self::StartFailed | Self::LostContact => true,
            Self::NotExecutable | Self::NotFound | Self::InvalidExit | Self::Killed => false,
            Self::CwdMissing | Self::EnvInvalid | Self::Interrupted => false,
        }
    }

    /// What the exit code of a command that nobody stopped means; `None` is success.
    pub(super) fn of_exit_code(code: i32) -> Option<Self> {
        match code {
            0 => None,
            126 => Some(Self::NotExecutable),
            127 => Some(Self::NotFound),
            128 => Some(Self::InvalidExit),
            _ => Some(Self::ExitNonzero),
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_have_distinct_reasons() {
        assert_eq!(Reason::of_exit_code(0), None);
        assert_eq!(Reason::of_exit_code(1), Some(Reason::ExitNonzero));
        assert_eq!(Reason::of_exit_code(126), Some(Reason::NotExecutable));
        assert_eq!(Reason::of_exit_code(127), Some(Reason::NotFound));
        assert_eq!(Reason::of_exit_code(128), Some(Reason::InvalidExit));
        assert_eq!(Reason::of_exit_code(137), Some(Reason::ExitNonzero));
    }

    #[test]
    fn names_are_those_of_the_api() {
        for reason in [Reason::ExitNonzero, Reason::CwdMissing, Reason::LostContact, Reason::Ram] {
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{reason}\""));
        }
    }
}
