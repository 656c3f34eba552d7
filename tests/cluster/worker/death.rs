//! Nodes and supervisors that are killed or stopped: no command outlives them.

use super::*;
use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const STAND_IN_LINE: &str = "RAFTQ_TEST_STAND_IN";

/// In place of a node: a process of its own that runs one command and goes on proving that it leads, until it is killed
/// or stopped. The tests below start it.
#[tokio::test]
#[ignore = "not a test: started by the tests of this file"]
async fn stand_in() {
    let Ok(line) = std::env::var(STAND_IN_LINE) else { return };
    let directory = tempfile::tempdir().unwrap();
    let runner = Runner::new(Supervisor::start(options(directory.path().into())).unwrap());
    let alive = || runner.alive(Boottime::now().after_ms(2000));
    alive();
    let handle = runner.run(task(1, "exec", json!({ "shell": line })));
    until_async("it runs", || handle.pid().is_some()).await;
    println!("running");
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(50)) => alive(),
            report = handle.wait() => {
                println!("ended {:?}", report.outcome);
                std::future::pending::<()>().await;
            }
        }
    }
}

struct StandIn {
    process: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl StandIn {
    fn start(line: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "worker::death::stand_in", "--ignored", "--nocapture", "--test-threads=1"])
            .env(STAND_IN_LINE, line)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut stand_in = Self { process, output };
        stand_in.line_with("running");
        stand_in
    }

    fn line_with(&mut self, text: &str) -> String {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the stand-in has ended");
        }
        line
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id() as i32), signal).unwrap();
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// A line that starts every escape, and then waits; and how many processes that makes with the token.
fn all_escapes(token: &str) -> (String, usize) {
    let escapes = escapes(token);
    let line: String = escapes.iter().map(|(_, line, _)| format!("{line}\n")).collect();
    (format!("{line} sleep {token}"), escapes.iter().map(|(_, _, count)| count).sum::<usize>())
}

#[test]
fn killed_node_leaves_no_process() {
    let token = unique();
    let (line, count) = all_escapes(&token);
    let stand_in = StandIn::start(&line);
    until("all run", || living(&token).len() >= count);
    let supervisor = supervisor_of(stand_in.process.id());
    drop(stand_in);
    until("none is left", || living(&token).is_empty());
    until("the supervisor has ended", || !living("__supervisor").contains(&supervisor));
}

/// Scenario 20, the worker's part: the node itself can do nothing.
#[test]
fn stopped_node_leaves_no_process() {
    let token = unique();
    let (line, count) = all_escapes(&token);
    let mut stand_in = StandIn::start(&line);
    until("all run", || living(&token).len() >= count);
    stand_in.signal(Signal::SIGSTOP);
    until("none is left", || living(&token).is_empty());
    stand_in.signal(Signal::SIGCONT);
    assert!(stand_in.line_with("ended").contains("Interrupted"));
}

/// Scenario 25, the worker's part: the next commands run, and the loss is told from an order to stop.
#[tokio::test]
async fn killed_supervisor_loses_its_commands_and_is_replaced() {
    let bench = Bench::new();
    let token = unique();
    let bystander = bench.start(json!({"shell": format!("(setsid sleep {token} &) ; sleep {token} | sleep {token}")}));
    until_async("it runs", || living(&token).len() >= 3).await;
    let killer = bench.start(json!({"shell": "kill -9 $PPID; sleep 1000"}));
    for handle in [bystander, killer] {
        let report = report_of(&handle).await;
        failed(&report, Reason::LostContact);
        assert!(report.started);
    }
    none_lives(&token, "");
    let give_up = Instant::now() + PATIENCE;
    while bench.shell("true").await.outcome != Outcome::Success {
        assert!(Instant::now() < give_up, "no new supervisor");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bench.end().await;
}

/// What hid from every trace is still in the supervisor's cgroup. Needs root, or a delegated cgroup, and a kernel from 5.14.
#[tokio::test]
async fn killed_supervisor_leaves_nothing_that_hides() {
    let bench = Bench::new();
    let token = unique();
    let handle = bench.start(json!({"shell": format!("env -i /usr/bin/setsid sleep {token} & sleep {token}")}));
    until_async("it runs", || living(&token).len() >= 2).await;
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", bench.supervisor)).unwrap();
    if !cgroup.contains("/raftq-") {
        return eprintln!("skipped: no cgroup may be made here");
    }
    kill(Pid::from_raw(bench.supervisor as i32), Signal::SIGKILL).unwrap();
    failed(&report_of(&handle).await, Reason::LostContact);
    none_lives(&token, "");
    bench.end().await;
}

/// Takes ten seconds: so long a supervisor may be silent.
#[tokio::test]
async fn supervisor_that_hangs_is_replaced() {
    let bench = Bench::new();
    let token = unique();
    let handle = bench.start(json!({"shell": format!("kill -STOP $PPID; sleep {token} | sleep {token}")}));
    failed(&report_of(&handle).await, Reason::LostContact);
    none_lives(&token, "");
    bench.end().await;
}

#[tokio::test]
async fn supervisor_ignores_signals_for_the_whole_service() {
    let bench = Bench::new();
    let report = bench.shell("kill -TERM $PPID; kill -INT $PPID; kill -HUP $PPID; sleep 0.1; echo alive").await;
    succeeded(&report);
    succeeded(&bench.shell("true").await);
    bench.end().await;
}

fn supervisor_of(node: u32) -> i32 {
    let is_child = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)) == Some(&node.to_string())
    };
    living("__supervisor").into_iter().find(is_child).expect("the stand-in has a supervisor")
}
