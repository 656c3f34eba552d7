//! What the kinds that the built-in runner knows, `exec` and `sleep`, mean to it; everything else is opaque and for workers of
//! somebody's own. How their args are written is [`crate::args`]' business, here as at submission.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::args::{ExecArgs, SleepArgs};
use crate::queue::job::{KIND_EXEC, KIND_SLEEP};

/// The kinds a pool or `raftq worker` asks for.
pub const KINDS: [&str; 2] = [KIND_EXEC, KIND_SLEEP];

#[derive(Debug, PartialEq)]
pub(super) enum Work {
    Exec(Exec),
    Sleep(Duration),
}

#[derive(Debug, PartialEq)]
pub(super) struct Exec {
    pub what: What,
    /// `/` if none is given, as for any service: the directory of the node means nothing to a job.
    pub cwd: PathBuf,
    pub env: BTreeMap<String, String>,
    pub stdin_file: Option<PathBuf>,
    pub timeout: Option<Duration>,
    pub max_ram_mb: Option<u64>,
}

#[derive(Debug, PartialEq)]
pub(super) enum What {
    Argv(Vec<String>),
    Shell(String),
}

impl Work {
    pub(super) fn parse(kind: &str, args: &str) -> Result<Self, String> {
        match kind {
            KIND_EXEC => {
                let args: ExecArgs = parse_json(kind, args)?;
                args.check().map_err(fault)?;
                Ok(Self::Exec(args.into()))
            }
            KIND_SLEEP => {
                let args: SleepArgs = parse_json(kind, args)?;
                args.check().map_err(fault)?;
                Ok(Self::Sleep(args.time()))
            }
            _ => Err(format!("kind {kind:?} is not known to this runner, which knows exec and sleep")),
        }
    }
}

fn parse_json<'a, T: Deserialize<'a>>(kind: &str, args: &'a str) -> Result<T, String> {
    serde_json::from_str(args).map_err(|error| format!("arguments of {kind}: {error}"))
}

fn fault((field, message): (&str, &str)) -> String {
    format!("{field}: {message}")
}

impl From<ExecArgs> for Exec {
    /// Of args that are in order.
    fn from(args: ExecArgs) -> Self {
        let timeout = args.timeout();
        Self {
            what: match args.argv {
                Some(argv) => What::Argv(argv),
                None => What::Shell(args.shell.unwrap_or_default()),
            },
            cwd: args.cwd.unwrap_or_else(|| "/".into()).into(),
            env: args.env.unwrap_or_default(),
            stdin_file: args.stdin_file.map(PathBuf::from),
            timeout,
            max_ram_mb: args.max_ram_mb,
        }
    }
}

/// What `shell` means on this machine. Bash is preferred for its pipefail: `false | true` is a failure to whoever reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shell {
    program: PathBuf,
    pipefail: bool,
}

impl Shell {
    /// Bash if it is installed, else `/bin/sh`.
    pub fn installed() -> Self {
        let bash =
            ["/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash"].into_iter().find(|path| Path::new(path).exists());
        Self::at(bash.unwrap_or("/bin/sh"))
    }

    /// A shell of the operator's choice; pipefail is used where the name says that it is known there.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        let program = program.into();
        let pipefail =
            program.file_name().is_some_and(|name| ["bash", "zsh", "ksh"].iter().any(|known| name == *known));
        Self { program, pipefail }
    }

    pub(super) fn argv(&self, line: &str) -> Vec<String> {
        let program = self.program.to_string_lossy().into_owned();
        let options: &[&str] = if self.pipefail { &["-o", "pipefail", "-c"] } else { &["-c"] };
        std::iter::once(program).chain(options.iter().map(ToString::to_string)).chain([line.to_owned()]).collect()
    }
}

impl std::fmt::Display for Shell {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}{}", self.program.display(), if self.pipefail { " -o pipefail" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_accepts_what_the_design_shows() {
        for (kind, args) in [
            ("exec", r#"{"argv": ["./extract", "--day", "2026-11-20"], "cwd": "/srv/etl", "env": {"LANG": "C"}}"#),
            ("exec", r#"{"shell": "sort out.csv | uniq > clean.csv", "timeout_s": 0.5, "max_ram_mb": 100}"#),
            ("exec", r#"{"argv": ["true"], "stdin_file": "/etc/passwd"}"#),
            ("sleep", r#"{"seconds": 0}"#),
        ] {
            Work::parse(kind, args).unwrap();
        }
        assert_eq!(Work::parse("sleep", r#"{"seconds": 0.25}"#), Ok(Work::Sleep(Duration::from_millis(250))));
    }

    #[test]
    fn parse_names_what_is_wrong() {
        for (kind, args, because) in [
            ("exec", r#"{"argv": ["a"], "shel": "x"}"#, "shel"),
            ("exec", r#"{"argv": ["a"], "env": {"A": 1}}"#, "expected a string"),
            ("exec", r#"{"argv": ["a"], "cwd": "srv"}"#, "cwd: "),
            ("sleep", r#"{"seconds": 1e300}"#, "seconds: "),
            ("sleep", "{}", "seconds"),
            ("exec", "[", "exec"),
            ("other", "{}", "other"),
        ] {
            let error = Work::parse(kind, args).unwrap_err();
            assert!(error.contains(because), "{args}: {error}");
        }
    }

    #[test]
    fn shell_uses_pipefail_where_it_is_known() {
        assert_eq!(Shell::at("/bin/bash").argv("a | b"), ["/bin/bash", "-o", "pipefail", "-c", "a | b"]);
        assert_eq!(Shell::at("/bin/sh").argv("a | b"), ["/bin/sh", "-c", "a | b"]);
        assert_eq!(Shell::at("/bin/bash").to_string(), "/bin/bash -o pipefail");
    }
}
