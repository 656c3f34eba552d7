//! The worker room over a real supervisor: what becomes of commands, and that none is ever left. None of these needs root.
#![allow(clippy::unwrap_used, reason = "helpers of tests, as the tests themselves")]

mod commands;
mod death;
mod stops;

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use raftq::{
    queue::ids::{JobId, LeaseId},
    worker::{Boottime, Handle, Options, Outcome, Proof, Reason, Report, Runner, Supervisor, Task},
};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

/// A runner with the right to run for as long as any test takes.
struct Bench {
    runner: Runner,
    supervisor: u32,
    directory: tempfile::TempDir,
    leases: AtomicU64,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut Options)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut options = options(directory.path().join("scratch"));
        change(&mut options);
        let supervisor = Supervisor::start(options).unwrap();
        let pid = supervisor.pid();
        let runner = Runner::new(supervisor);
        runner.alive(Boottime::now().after_ms(600_000));
        Self { runner, supervisor: pid, directory, leases: AtomicU64::new(1) }
    }

    fn task(&self, kind: &str, args: Value) -> Task {
        task(self.leases.fetch_add(1, Ordering::Relaxed), kind, args)
    }

    fn start(&self, args: Value) -> Handle {
        self.runner.run(self.task("exec", args))
    }

    async fn run(&self, args: Value) -> Arc<Report> {
        report_of(&self.start(args)).await
    }

    async fn shell(&self, line: &str) -> Arc<Report> {
        self.run(json!({ "shell": line })).await
    }

    /// Ends the runner, and finds nothing left: no process, no scratch directory.
    async fn end(self) {
        tokio::time::timeout(PATIENCE, self.runner.stop()).await.expect("the runner stops");
        let left: Vec<_> = fs::read_dir(self.directory.path().join("scratch")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn options(scratch: PathBuf) -> Options {
    Options { program: env!("CARGO_BIN_EXE_raftq").into(), grace_ms: 500, loss_grace_ms: 200, ..Options::new(scratch) }
}

fn task(lease: u64, kind: &str, args: Value) -> Task {
    Task {
        job: JobId(17),
        op: 2,
        attempt: 3,
        lease: LeaseId(lease),
        kind: kind.into(),
        args: args.to_string(),
        environment: None,
        server: "127.0.0.1:7401".into(),
        checkpoint: None,
        results: None,
        keep_output: false,
        needs_ram_mb: 0,
        proof: Proof::Leadership,
    }
}

async fn report_of(handle: &Handle) -> Arc<Report> {
    tokio::time::timeout(PATIENCE, handle.wait()).await.expect("the task ends")
}

fn failed(report: &Arc<Report>, reason: Reason) {
    assert_eq!(report.outcome, Outcome::Failure(reason), "{report:?}");
}

fn succeeded(report: &Arc<Report>) {
    assert_eq!(report.outcome, Outcome::Success, "{report:?}");
}

/// A text that no other process on this machine has on its command line.
fn unique() -> String {
    format!("4{:09}", rand::random::<u32>() % 1_000_000_000)
}

/// The processes that have `token` on their command line. Those that ended and wait to be reaped have none.
fn living(token: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has_token = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.windows(token.len()).any(|window| window == token.as_bytes())
    };
    pids.filter(has_token).collect()
}

fn none_lives(token: &str, what: &str) {
    assert_eq!(living(token), Vec::<i32>::new(), "{what}");
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < give_up, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

async fn until_async(what: &str, mut is_so: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < give_up, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What a command can do to live on, each a shell line that ends at once and leaves `count` processes with the token.
fn escapes(token: &str) -> Vec<(&'static str, String, usize)> {
    vec![
        ("background", format!("sleep {token} &"), 1),
        ("pipeline", format!("sleep {token} | sleep {token} &"), 2),
        ("session", format!("setsid sleep {token} &"), 1),
        ("daemon", format!("(setsid sh -c 'sleep {token} & sleep {token}' &)"), 3),
        ("no environment", format!("env -i /usr/bin/setsid sleep {token} &"), 1),
        ("deaf", format!("sh -c 'trap \"\" TERM HUP INT; while :; do sleep 1; done; : {token}' &"), 1),
        ("stopped", format!("sh -c 'kill -STOP $$; : {token}' &"), 1),
    ]
}
