//! The args of the two kinds that the built-in runner knows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Number;

/// `exec`: one of `argv` and `shell`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExecArgs {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argv: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ram_mb: Option<u64>,
}

/// `sleep`: so many seconds, decimals allowed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SleepArgs {
    pub seconds: Number,
}

/// A year: whoever sleeps longer means `run_at_ms`.
const SLEEP_SECONDS_MAX: f64 = 31_536_000.0;

impl ExecArgs {
    /// The field at fault and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        match (&self.argv, &self.shell) {
            (Some(_), Some(_)) => return Err(("shell", "give argv or shell, not both")),
            (None, None) => return Err(("argv", "an exec op needs argv or shell")),
            (Some(argv), None) if argv.is_empty() => return Err(("argv", "argv needs at least the program")),
            (Some(argv), None) if argv[0].is_empty() => return Err(("argv", "the program's name is empty")),
            (None, Some(shell)) if shell.trim().is_empty() => return Err(("shell", "the shell command is empty")),
            _ => {}
        }
        self.check_texts()
    }

    /// The operating system ends a string at its first zero byte.
    fn check_texts(&self) -> Result<(), (&'static str, &'static str)> {
        let zero = |text: &String| text.contains('\0');
        let message = "a zero byte cannot be passed to a command";
        if self.argv.iter().flatten().any(zero) {
            return Err(("argv", message));
        }
        for (field, text) in [("shell", &self.shell), ("cwd", &self.cwd), ("stdin_file", &self.stdin_file)] {
            if text.as_ref().is_some_and(zero) {
                return Err((field, message));
            }
        }
        for (name, value) in self.env.iter().flatten() {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(("env", "a name must be non-empty and without `=`, and neither part may hold a zero byte"));
            }
        }
        if self.cwd.as_ref().is_some_and(|cwd| !cwd.starts_with('/')) {
            return Err(("cwd", "a working directory is absolute: the submitter's own means nothing to the worker"));
        }
        if self.max_ram_mb == Some(0) {
            return Err(("max_ram_mb", "0 leaves room for no command"));
        }
        if self.timeout_s == Some(0) {
            return Err(("timeout_s", "a time-out is at least 1 second"));
        }
        Ok(())
    }
}

impl SleepArgs {
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        match self.seconds.as_f64() {
            Some(seconds) if (0.0..=SLEEP_SECONDS_MAX).contains(&seconds) => Ok(()),
            _ => Err(("seconds", "seconds is a number from 0 to 31536000")),
        }
    }
}
