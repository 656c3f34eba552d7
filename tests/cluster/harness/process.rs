//! A process of ours that is no node: a remote worker, say.

use std::{
    fs::File,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{cluster::Cluster, wait::eventually};

/// `raftq` with some command; ended when it goes out of scope.
pub struct Process(Child);

impl Process {
    /// Starts it as a client of the whole cluster. What it prints goes to `NAME.log` in the cluster's directory.
    pub fn start(cluster: &Cluster, name: &str, arguments: &[&str]) -> Self {
        let log = File::create(cluster.directory().join(format!("{name}.log"))).expect("the log can be created");
        let child = Command::new(env!("CARGO_BIN_EXE_raftq"))
            .args(arguments)
            .current_dir(cluster.directory())
            .env("RAFTQ_SERVER", cluster.servers().join(","))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor can be duplicated"))
            .stderr(log)
            .spawn();
        Self(child.expect("the binary can be started"))
    }

    /// Runs it to its end as a client of the whole cluster: its exit code, and what it printed.
    pub fn output(cluster: &Cluster, arguments: &[&str]) -> (Option<i32>, String) {
        Self::output_with(cluster, &[], arguments)
    }

    /// The same, and what it said on standard error.
    pub fn said(cluster: &Cluster, arguments: &[&str]) -> (Option<i32>, String) {
        let log = cluster.directory().join(format!("said-{:08x}.log", rand::random::<u32>()));
        let file = File::create(&log).expect("the log can be created");
        let status = Command::new(env!("CARGO_BIN_EXE_raftq"))
            .args(arguments)
            .env("RAFTQ_SERVER", cluster.servers().join(","))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .status()
            .expect("the binary can be started");
        (status.code(), std::fs::read_to_string(log).expect("text"))
    }

    /// The same with more in its environment.
    pub fn output_with(cluster: &Cluster, environment: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_raftq"))
            .args(arguments)
            .current_dir(cluster.directory())
            .env("RAFTQ_SERVER", cluster.servers().join(","))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .expect("the binary can be started");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    }

    pub fn interrupt(&self) {
        self.signal(Signal::SIGINT);
    }

    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Asks it to end with `signal`; its exit code, if it ends by itself within `limit`.
    pub fn end_with(self, signal: Signal, limit: Duration) -> Option<i32> {
        self.signal(signal);
        self.ended(limit)
    }

    /// The same where it ends without being asked.
    pub fn ended(mut self, limit: Duration) -> Option<i32> {
        let child = &mut self.0;
        let ended = eventually("the process ends", limit, || child.try_wait().expect("a child can be waited for"));
        ended.code()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).expect("a child that was not reaped can be signalled");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill, and still something to reap.
        let _ = self.0.kill();
        self.0.wait().expect("a child can be waited for");
    }
}
