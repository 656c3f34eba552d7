//! The kinds that the built-in runner knows, `exec` and `sleep`, as typed by a user; everything else is opaque and for
//! workers of somebody's own. Arguments are checked at submit ([`check_args`]) by the same code that later runs them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::queue::job::{KIND_EXEC, KIND_SLEEP};

/// The kinds a pool or `raftq worker` asks for.
pub const KINDS: [&str; 2] = [KIND_EXEC, KIND_SLEEP];

/// Ten years: beyond it a time is a mistake, and arithmetic on it need not be defended.
const SECONDS_MAX: f64 = 315_360_000.0;

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExecArgs {
    argv: Option<Vec<String>>,
    shell: Option<String>,
    cwd: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    stdin_file: Option<String>,
    timeout_s: Option<f64>,
    max_ram_mb: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SleepArgs {
    seconds: f64,
}

/// Whether the built-in runner could start this, given as JSON. Kinds it does not know are opaque, and fine.
pub fn check_args(kind: &str, args: &str) -> Result<(), String> {
    if KINDS.contains(&kind) { Work::parse(kind, args).map(|_| ()) } else { Ok(()) }
}

impl Work {
    pub(super) fn parse(kind: &str, args: &str) -> Result<Self, String> {
        match kind {
            KIND_EXEC => Exec::try_from(parse_json::<ExecArgs>(kind, args)?).map(Self::Exec),
            KIND_SLEEP => seconds("seconds", parse_json::<SleepArgs>(kind, args)?.seconds).map(Self::Sleep),
            _ => Err(format!("kind {kind:?} is not known to this runner, which knows exec and sleep")),
        }
    }
}

fn parse_json<'a, T: Deserialize<'a>>(kind: &str, args: &'a str) -> Result<T, String> {
    serde_json::from_str(args).map_err(|error| format!("arguments of {kind}: {error}"))
}

impl TryFrom<ExecArgs> for Exec {
    type Error = String;

    fn try_from(args: ExecArgs) -> Result<Self, String> {
        check_env(&args.env)?;
        let cwd = args.cwd.unwrap_or_else(|| "/".into());
        if !cwd.starts_with('/') {
            return Err(format!("cwd: {cwd:?} is not an absolute path"));
        }
        no_nul("cwd", &cwd)?;
        no_nul("stdin_file", args.stdin_file.as_deref().unwrap_or_default())?;
        Ok(Self {
            what: what(args.argv, args.shell)?,
            cwd: cwd.into(),
            env: args.env,
            stdin_file: args.stdin_file.map(PathBuf::from),
            timeout: args.timeout_s.map(|value| limit_seconds("timeout_s", value)).transpose()?,
            max_ram_mb: match args.max_ram_mb {
                Some(0) => return Err("max_ram_mb: 0 leaves room for no command".into()),
                other => other,
            },
        })
    }
}

fn what(argv: Option<Vec<String>>, shell: Option<String>) -> Result<What, String> {
    match (argv, shell) {
        (Some(_), Some(_)) => Err("argv and shell exclude each other".into()),
        (None, None) => Err("one of argv and shell is needed".into()),
        (None, Some(line)) => no_nul("shell", &line).map(|()| What::Shell(line)),
        (Some(argv), None) if argv.first().is_none_or(String::is_empty) => Err("argv: names no program".into()),
        (Some(argv), None) => {
            argv.iter().try_for_each(|argument| no_nul("argv", argument))?;
            Ok(What::Argv(argv))
        }
    }
}

fn check_env(env: &BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in env {
        if name.is_empty() || name.contains('=') {
            return Err(format!("env: {name:?} is no name of a variable"));
        }
        no_nul("env", name)?;
        no_nul("env", value)?;
    }
    Ok(())
}

fn no_nul(field: &str, text: &str) -> Result<(), String> {
    if text.contains('\0') { Err(format!("{field}: contains a NUL character")) } else { Ok(()) }
}

fn seconds(field: &str, value: f64) -> Result<Duration, String> {
    if (0.0..=SECONDS_MAX).contains(&value) {
        Ok(Duration::from_secs_f64(value))
    } else {
        Err(format!("{field}: {value} is not between 0 and {SECONDS_MAX} seconds"))
    }
}

/// A limit below a millisecond would be zero, which means none to most readers: refused rather than guessed.
fn limit_seconds(field: &str, value: f64) -> Result<Duration, String> {
    match seconds(field, value)? {
        limit if limit < Duration::from_millis(1) => Err(format!("{field}: {value} is less than a millisecond")),
        limit => Ok(limit),
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

    fn refused(kind: &str, args: &str, because: &str) {
        let error = check_args(kind, args).unwrap_err();
        assert!(error.contains(because), "{args}: {error}");
    }

    #[test]
    fn check_args_accepts_what_the_design_shows() {
        for (kind, args) in [
            ("exec", r#"{"argv": ["./extract", "--day", "2026-11-20"], "cwd": "/srv/etl", "env": {"LANG": "C"}}"#),
            ("exec", r#"{"shell": "sort out.csv | uniq > clean.csv", "timeout_s": 0.5, "max_ram_mb": 100}"#),
            ("exec", r#"{"shell": "", "stdin_file": "/etc/passwd"}"#),
            ("sleep", r#"{"seconds": 0}"#),
            ("sleep", r#"{"seconds": 0.25}"#),
            ("anything", "not even JSON"),
        ] {
            check_args(kind, args).unwrap();
        }
    }

    #[test]
    fn check_args_names_what_is_wrong() {
        refused("exec", r#"{"argv": ["a"], "shel": "x"}"#, "shel");
        refused("exec", r#"{"argv": ["a"], "shell": "x"}"#, "exclude");
        refused("exec", "{}", "one of argv and shell");
        refused("exec", r#"{"argv": []}"#, "argv");
        refused("exec", r#"{"argv": [""]}"#, "argv");
        refused("exec", r#"{"argv": ["a\u0000b"]}"#, "NUL");
        refused("exec", r#"{"argv": ["a"], "env": {"A=B": "c"}}"#, "env");
        refused("exec", r#"{"argv": ["a"], "env": {"A": 1}}"#, "expected a string");
        refused("exec", r#"{"argv": ["a"], "cwd": "srv"}"#, "absolute");
        refused("exec", r#"{"argv": ["a"], "timeout_s": 0}"#, "timeout_s");
        refused("exec", r#"{"argv": ["a"], "timeout_s": -1}"#, "timeout_s");
        refused("exec", r#"{"argv": ["a"], "max_ram_mb": 0}"#, "max_ram_mb");
        refused("sleep", r#"{"seconds": 1e300}"#, "seconds");
        refused("sleep", "{}", "seconds");
        refused("exec", "[", "exec");
    }

    #[test]
    fn shell_uses_pipefail_where_it_is_known() {
        assert_eq!(Shell::at("/bin/bash").argv("a | b"), ["/bin/bash", "-o", "pipefail", "-c", "a | b"]);
        assert_eq!(Shell::at("/bin/sh").argv("a | b"), ["/bin/sh", "-c", "a | b"]);
        assert_eq!(Shell::at("/bin/bash").to_string(), "/bin/bash -o pipefail");
    }
}
