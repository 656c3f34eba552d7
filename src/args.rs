//! The args of the two kinds that raftq runs itself, `exec` and `sleep`: how they are written, and what is wrong with them. One
//! rule for the front door, which refuses a submission for it, and for the worker, whose jobs may have come through any door.

use std::{collections::BTreeMap, time::Duration};

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
    pub timeout_s: Option<Number>,
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
const SLEEP_S_MAX: f64 = 31_536_000.0;
/// A limit below a millisecond would be zero, which means none to most readers: refused rather than guessed.
const TIMEOUT_S_MIN: f64 = 0.001;
/// Ten years: longer is a mistake in the unit.
const TIMEOUT_S_MAX: f64 = 316_224_000.0;

type Fault = (&'static str, &'static str);

impl ExecArgs {
    /// The field at fault and what is wrong with it.
    pub fn check(&self) -> Result<(), Fault> {
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
    fn check_texts(&self) -> Result<(), Fault> {
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
        if self.stdin_file.as_deref() == Some("") {
            return Err(("stdin_file", "name a file, or leave it out for an empty standard input"));
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
        let timeout_s = self.timeout_s.as_ref().map(|seconds| seconds.as_f64().unwrap_or(f64::NAN));
        if timeout_s.is_some_and(|seconds| !(TIMEOUT_S_MIN..=TIMEOUT_S_MAX).contains(&seconds)) {
            return Err(("timeout_s", "a time-out is from 0.001 to 316224000 seconds"));
        }
        Ok(())
    }

    /// Of args that are in order.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout_s.as_ref().and_then(duration)
    }
}

impl SleepArgs {
    pub fn check(&self) -> Result<(), Fault> {
        match self.seconds.as_f64() {
            Some(seconds) if (0.0..=SLEEP_S_MAX).contains(&seconds) => Ok(()),
            _ => Err(("seconds", "seconds is a number from 0 to 31536000")),
        }
    }

    /// Of args that are in order.
    pub fn time(&self) -> Duration {
        duration(&self.seconds).unwrap_or_default()
    }
}

fn duration(seconds: &Number) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds.as_f64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn args_are_refused_by_field() {
        for (args, field) in [
            ("{}", "argv"),
            (r#"{"argv": ["a"], "shell": "x"}"#, "shell"),
            (r#"{"argv": []}"#, "argv"),
            (r#"{"argv": [""]}"#, "argv"),
            (r#"{"argv": ["a\u0000b"]}"#, "argv"),
            (r#"{"shell": " "}"#, "shell"),
            (r#"{"argv": ["a"], "env": {"A=B": "c"}}"#, "env"),
            (r#"{"argv": ["a"], "cwd": "srv"}"#, "cwd"),
            (r#"{"argv": ["a"], "stdin_file": ""}"#, "stdin_file"),
            (r#"{"argv": ["a"], "timeout_s": 0}"#, "timeout_s"),
            (r#"{"argv": ["a"], "timeout_s": 0.0009}"#, "timeout_s"),
            (r#"{"argv": ["a"], "timeout_s": -1}"#, "timeout_s"),
            (r#"{"argv": ["a"], "timeout_s": 1e300}"#, "timeout_s"),
            (r#"{"argv": ["a"], "max_ram_mb": 0}"#, "max_ram_mb"),
        ] {
            let read: ExecArgs = serde_json::from_str(args).expect(args);
            assert_eq!(read.check().map_err(|(field, _)| field), Err(field), "{args}");
        }
        let sleep = |seconds: &str| SleepArgs { seconds: seconds.parse().expect("a number") };
        for wrong in ["-1", "31536001", "1e300"] {
            assert!(sleep(wrong).check().is_err(), "{wrong}");
        }
        assert_eq!((sleep("0.25").check(), sleep("0.25").time()), (Ok(()), Duration::from_millis(250)));
    }

    #[test]
    fn timeout_is_seconds_with_or_without_decimals() {
        for (text, milliseconds) in [("30", 30_000), ("0.5", 500), ("0.001", 1)] {
            let args: ExecArgs =
                serde_json::from_str(&format!(r#"{{"shell": "x", "timeout_s": {text}}}"#)).expect("args");
            assert_eq!((args.check(), args.timeout()), (Ok(()), Some(Duration::from_millis(milliseconds))));
        }
    }
}
