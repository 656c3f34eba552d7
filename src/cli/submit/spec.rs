//! From flags to a spec.

use std::{collections::BTreeMap, time::Duration};

use clap::{Args, ValueEnum};
use serde_json::{Number, value::RawValue};

use super::super::{failure::Failure, units};
use crate::api::{Backoff, Body, Cores, Depends, NeedsSpec, OnFailure, Priority, Spec, parse_priority};

#[derive(Debug, Default, clap::Args)]
pub struct SpecArgs {
    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    #[arg(long, value_name = "LINE", conflicts_with_all = ["command", "kind", "sleep"])]
    shell: Option<String>,
    #[arg(long, value_name = "TIME", value_parser = units::duration, conflicts_with_all = ["command", "kind"])]
    sleep: Option<Duration>,
    #[arg(long, conflicts_with = "command")]
    kind: Option<String>,
    #[arg(long, value_name = "JSON", requires = "kind", conflicts_with_all = ["command", "shell", "sleep"], value_parser = json)]
    args: Option<Box<RawValue>>,
    #[arg(long, value_name = "TEXT", requires = "kind", conflicts_with_all = ["args", "command", "shell", "sleep"])]
    body: Option<String>,

    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = assignment)]
    env: Vec<(String, String)>,
    /// Let the command have this shell's environment, below --env
    #[arg(long)]
    env_inherit: bool,
    #[arg(long, value_name = "FILE")]
    stdin_file: Option<String>,
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    time_limit: Option<Duration>,
    #[arg(long, value_name = "SIZE", value_parser = units::megabytes)]
    ram_limit: Option<u64>,

    #[arg(long, short)]
    queue: Option<String>,
    #[arg(long, short)]
    name: Option<String>,
    #[arg(long, short, value_name = "NAME")]
    group: Vec<String>,
    #[arg(long, short, value_parser = parse_priority, allow_hyphen_values = true)]
    priority: Option<Priority>,
    #[arg(long, value_name = "NAME[:MAX]")]
    limit: Vec<String>,
    #[arg(long, value_name = "KEY", conflicts_with = "unique_command")]
    unique: Option<String>,
    #[arg(long)]
    unique_command: bool,
    #[arg(long, value_name = "JSON", value_parser = json)]
    meta: Option<Box<RawValue>>,
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    #[arg(long, value_name = "TEXT", value_parser = units::reason)]
    reason: Option<String>,

    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    delay: Option<Duration>,
    #[arg(long, value_name = "TIME", value_parser = units::wall_time, conflicts_with = "delay")]
    run_at: Option<u64>,
    #[arg(long, short, value_name = "ID[:STATUS,...]", value_parser = depends)]
    depends: Vec<Depends>,

    #[arg(long, short, value_name = "N")]
    retries: Option<u32>,
    #[arg(long, value_name = "BASE[..CAP]", value_parser = backoff)]
    backoff: Option<Backoff>,
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    no_retry_after: Option<Duration>,
    #[arg(long, value_name = "WHAT")]
    on_failure: Option<FailureArg>,
    #[arg(long, value_name = "N")]
    lost_limit: Option<u32>,
    #[arg(long)]
    no_rerun_on_loss: bool,
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    lease: Option<Duration>,
    #[arg(long)]
    keep_output: bool,

    #[arg(long, value_name = "N", value_parser = units::cores)]
    cores: Option<Cores>,
    #[arg(long, value_name = "SIZE", value_parser = units::megabytes)]
    ram: Option<u64>,
    #[arg(long, value_name = "SIZE", value_parser = units::megabytes)]
    disk: Option<u64>,
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    time: Option<Duration>,
    #[arg(long, value_name = "NAME")]
    resource_group: Option<String>,
    #[arg(long, value_name = "0|1|2", value_parser = clap::value_parser!(u8).range(0..=2))]
    needs_override: Option<u8>,
}

/// The flags that say what a job is. Named one by one, so that clap's message names only those that were typed.
pub fn flags() -> Vec<clap::Id> {
    let command = SpecArgs::augment_args(clap::Command::new("spec"));
    command.get_arguments().map(|argument| argument.get_id().clone()).collect()
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FailureArg {
    Bury,
    Error,
}

impl From<FailureArg> for OnFailure {
    fn from(arg: FailureArg) -> Self {
        match arg {
            FailureArg::Bury => OnFailure::Bury,
            FailureArg::Error => OnFailure::Error,
        }
    }
}

impl SpecArgs {
    /// A job of one op. Commands run where they were submitted, unless `--cwd` says otherwise.
    pub fn into_spec(mut self) -> Result<Spec, Failure> {
        let mut spec = self.work()?;
        spec.unique = self.unique_key(&spec).map(Into::into);
        spec.needs = self.needs();
        let spec = self.behaviour(spec);
        Ok(self.labels(spec))
    }

    /// What is to be done.
    fn work(&mut self) -> Result<Spec, Failure> {
        let spec = Spec::default();
        if let Some(sleep) = self.sleep {
            return Ok(Spec { sleep: Some(seconds(sleep)), ..spec });
        }
        if let Some(kind) = self.kind.take() {
            let body = self.body.take().map(body).transpose()?;
            return Ok(Spec { kind: Some(kind.into()), args: self.args.take(), body, ..spec });
        }
        if self.command.is_empty() && self.shell.is_none() {
            return Err(Failure::usage(
                "nothing to run: write the command after `--`, as in `raftq submit -- ./extract --day 2026-11-20`, \
                 or see `raftq submit --help`",
            ));
        }
        let env: BTreeMap<String, String> = std::mem::take(&mut self.env).into_iter().collect();
        Ok(Spec {
            argv: (!self.command.is_empty()).then(|| std::mem::take(&mut self.command)),
            shell: self.shell.take(),
            cwd: Some(directory(self.cwd.take())?),
            env: (!env.is_empty()).then_some(env),
            environment: self.env_inherit.then(own_environment),
            stdin_file: self.stdin_file.take(),
            timeout_s: self.time_limit.map(seconds),
            max_ram_mb: self.ram_limit,
            ..spec
        })
    }

    fn behaviour(&self, spec: Spec) -> Spec {
        Spec {
            delay_ms: self.delay.map(milliseconds),
            run_at_ms: self.run_at,
            depends: self.depends.clone(),
            retries: self.retries,
            backoff: self.backoff,
            no_retry_after_ms: self.no_retry_after.map(milliseconds),
            on_failure: self.on_failure.map(Into::into),
            lost_limit: self.lost_limit,
            rerun_on_loss: self.no_rerun_on_loss.then_some(false),
            lease_ms: self.lease.map(milliseconds),
            keep_output: self.keep_output.then_some(true),
            needs_override: self.needs_override,
            ..spec
        }
    }

    fn labels(self, spec: Spec) -> Spec {
        Spec {
            queue: self.queue.map(Into::into),
            name: self.name.map(Into::into),
            groups: self.group.into_iter().map(Into::into).collect(),
            priority: self.priority,
            limits: self.limit.into_iter().map(Into::into).collect(),
            meta: self.meta,
            comment: self.comment.map(Into::into),
            reason: self.reason.map(Into::into),
            resource_group: self.resource_group.map(Into::into),
            ..spec
        }
    }

    fn needs(&self) -> Option<NeedsSpec> {
        let named = self.cores.is_some() || self.ram.is_some() || self.disk.is_some() || self.time.is_some();
        named.then(|| NeedsSpec {
            cores: self.cores.unwrap_or_default(),
            ram_mb: self.ram.unwrap_or(0),
            disk_mb: self.disk.unwrap_or(0),
            time_s: self.time.map_or(0, |time| time.as_secs_f64().ceil() as u64),
        })
    }

    /// With `--unique-command` the key is made of what runs and where, so that the same command line is there once.
    fn unique_key(&self, spec: &Spec) -> Option<String> {
        if !self.unique_command {
            return self.unique.clone();
        }
        let what =
            serde_json::to_vec(&(&spec.argv, &spec.shell, &spec.cwd, &spec.sleep, &spec.kind, &spec.args, &spec.body))
                .expect("strings and JSON always encode");
        Some(format!("command-{:032x}", xxhash_rust::xxh3::xxh3_128(&what)))
    }
}

/// An absolute path: the node that runs the command stands elsewhere.
fn directory(given: Option<String>) -> Result<String, Failure> {
    let path = std::path::absolute(given.as_deref().unwrap_or("."))
        .map_err(|error| Failure::usage(format!("the current directory cannot be read ({error}); give --cwd")))?;
    path.into_os_string().into_string().map_err(|path| {
        Failure::usage(format!("the directory {} is no UTF-8; give another with --cwd", path.display()))
    })
}

/// Text, or with `@` a file: text where it is UTF-8, else bytes.
fn body(text: String) -> Result<Body, Failure> {
    let Some(path) = text.strip_prefix('@') else { return Ok(Body::Text(text.into())) };
    let bytes = std::fs::read(path).map_err(|error| Failure::usage(format!("`{path}` cannot be read: {error}")))?;
    Ok(match String::from_utf8(bytes) {
        Ok(text) => Body::Text(text.into()),
        Err(error) => Body::Binary(error.into_bytes()),
    })
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Whole seconds are written as such.
fn seconds(duration: Duration) -> Number {
    let whole = duration.as_secs();
    if duration.subsec_nanos() == 0 {
        whole.into()
    } else {
        Number::from_f64(duration.as_secs_f64()).unwrap_or(whole.into())
    }
}

fn json(text: &str) -> Result<Box<RawValue>, String> {
    RawValue::from_string(text.into()).map_err(|error| format!("this is not JSON: {error}"))
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is no NAME=VALUE"))?;
    Ok((name.into(), value.into()))
}

/// `17` or `17:success,error`, as the API reads `[17, ["success", "error"]]`.
fn depends(text: &str) -> Result<Depends, String> {
    let (id, statuses) = text.split_once(':').unwrap_or((text, ""));
    let id: u64 = id.parse().map_err(|_| format!("`{text}` names no job; write 17, or 17:success"))?;
    let statuses: Vec<&str> = statuses.split(',').filter(|status| !status.is_empty()).collect();
    serde_json::from_value(serde_json::json!([id, statuses])).map_err(|error| error.to_string())
}

fn backoff(text: &str) -> Result<Backoff, String> {
    let (base, cap) = text.split_once("..").map_or((text, None), |(base, cap)| (base, Some(cap)));
    let base_ms = Some(milliseconds(units::duration(base)?));
    let cap_ms = cap.map(units::duration).transpose()?.map(milliseconds);
    Ok(Backoff { base_ms, cap_ms })
}

/// Without what raftq itself reads, and without what is no text.
fn own_environment() -> BTreeMap<String, String> {
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    variables.filter(|(name, _)| !name.starts_with("RAFTQ_")).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        spec: SpecArgs,
    }

    fn parse(line: &str) -> Result<Spec, String> {
        let words = std::iter::once("submit").chain(line.split(' '));
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        line.spec.into_spec().map_err(|failure| failure.to_string())
    }

    fn check(line: &str, expect: &str) {
        let spec = parse(line).expect(line);
        assert_eq!(serde_json::to_string(&spec).expect("specs encode"), expect, "{line}");
    }

    #[test]
    fn command_becomes_argv_in_its_directory() {
        check(
            "--cwd /srv -- ./extract --day 2026-11-20",
            r#"{"argv":["./extract","--day","2026-11-20"],"cwd":"/srv"}"#,
        );
        let here = std::env::current_dir().expect("tests run somewhere");
        check("-- true", &format!(r#"{{"argv":["true"],"cwd":{here:?}}}"#));
        check("--cwd /srv -e A=1 -e B=x=y --shell ls", r#"{"shell":"ls","cwd":"/srv","env":{"A":"1","B":"x=y"}}"#);
    }

    #[test]
    fn every_kind_of_work_is_written() {
        check("--sleep 90", r#"{"sleep":90}"#);
        check("--sleep 250ms", r#"{"sleep":0.25}"#);
        check("--kind resize --args {\"w\":10}", r#"{"kind":"resize","args":{"w":10}}"#);
        check("--kind resize --body hello", r#"{"kind":"resize","body":"hello"}"#);
    }

    #[test]
    fn labels_and_times_are_written_in_the_units_of_the_api() {
        check(
            "-q etl -n nightly -g a -g b -p high --limit db:2 --unique k --delay 5m --sleep 1",
            r#"{"queue":"etl","name":"nightly","groups":["a","b"],"priority":-10,"unique":"k","limits":["db:2"],"delay_ms":300000,"sleep":1}"#,
        );
        check(
            "-p -5 -r 2 --backoff 1s..1m --no-retry-after 1h --on-failure error --lease 30 --no-rerun-on-loss --sleep 1",
            r#"{"priority":-5,"lease_ms":30000,"on_failure":"error","rerun_on_loss":false,"retries":2,"backoff":{"base_ms":1000,"cap_ms":60000},"no_retry_after_ms":3600000,"sleep":1}"#,
        );
        check("-d 41:success -d 42 --sleep 1", r#"{"depends":[[41,["success"]],[42,[]]],"sleep":1}"#);
        check(
            "--cores 1.5 --ram 2G --time 1h --sleep 1",
            r#"{"needs":{"cores":1.5,"ram_mb":2048,"disk_mb":0,"time_s":3600},"sleep":1}"#,
        );
    }

    #[test]
    fn unique_command_is_the_same_for_the_same_command_only() {
        let key = |line: &str| parse(line).expect(line).unique.expect("a key");
        assert_eq!(key("--unique-command --cwd /a -- ls"), key("--unique-command --cwd /a -p 3 -- ls"));
        assert_ne!(key("--unique-command --cwd /a -- ls"), key("--unique-command --cwd /b -- ls"));
    }

    #[test]
    fn contradictions_are_refused() {
        for line in [
            "--shell ls -- ls",
            "--args {} --sleep 1",
            "--kind k --args nonsense",
            "--delay 1 --run-at 5 --sleep 1",
            "-d x --sleep 1",
            "-d 17:finished --sleep 1",
            "-p urgent --sleep 1",
            "-e NOVALUE -- ls",
            "-q etl",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
