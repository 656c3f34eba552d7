//! A process that dies at any of its writes loses nothing it acknowledged (P1).
//!
//! The test starts itself again as a child that writes and aborts; then it opens what the child left.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command as Process, Stdio},
};

use super::{
    restores::{AT_ONCE, backup_of, sent_to},
    *,
};
use crate::storage::abort_at_write;

const DIRECTORY: &str = "RAFTQ_CRASH_DIRECTORY";
const ABORT_AT: &str = "RAFTQ_CRASH_AT";
const BACKUP: &str = "RAFTQ_CRASH_BACKUP";

fn options(directory: PathBuf, peer: String) -> NodeOptions {
    let founders = vec![Founder { id: 1, api: "api1".to_owned(), peer: peer.clone() }];
    // Small enough that snapshots, flushes and purges are among the writes.
    let raft = RaftOptions { snapshot_bytes: 8 << 10, log_keep_bytes: 1, ..RaftOptions::test() };
    NodeOptions { id: 1, data_dir: directory, api: "api1".to_owned(), peer, founders, raft, clock: Clock::system() }
}

async fn start(directory: PathBuf) -> Node {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
    let peer = listener.local_addr().expect("bound").to_string();
    let node = Node::open(options(directory, peer)).await.expect("opens whatever was interrupted");
    node.serve_peers(listener);
    if node.status().role == Role::Pristine {
        node.init().await.expect("forms");
    }
    until("it leads", async || node.propose(tick(), soon()).await.is_ok()).await;
    node
}

/// The child: says each job that was acknowledged, until it aborts.
#[test]
fn crash_child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let abort_at: u64 = std::env::var(ABORT_AT).expect("set beside it").parse().expect("a number");
    abort_at_write(abort_at);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    runtime.block_on(async {
        let node = start(directory.into()).await;
        loop {
            let job = submitted(&node.propose(submit(2_000), soon()).await.expect("commits"));
            let mut out = std::io::stdout().lock();
            writeln!(out, "acknowledged {job}").and_then(|()| out.flush()).expect("the parent reads");
        }
    });
}

/// The child that restores: says which job it was acknowledged afterwards, until it aborts.
#[test]
fn restore_child() {
    let Some(backup) = std::env::var_os(BACKUP) else { return };
    let directory = std::env::var_os(DIRECTORY).expect("set beside it");
    let abort_at: u64 = std::env::var(ABORT_AT).expect("set beside it").parse().expect("a number");
    abort_at_write(abort_at);
    let backup = std::fs::read(backup).expect("reads");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    runtime.block_on(async {
        let node = start_restored(directory.into(), &backup).await;
        loop {
            let job = submitted(&node.propose(submit(2_000), soon()).await.expect("commits"));
            let mut out = std::io::stdout().lock();
            writeln!(out, "acknowledged {job}").and_then(|()| out.flush()).expect("the parent reads");
        }
    });
}

/// Restores the backup unless that is done.
async fn start_restored(directory: PathBuf, backup: &[u8]) -> Node {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
    let peer = listener.local_addr().expect("bound").to_string();
    let node = Node::open(options(directory, peer)).await.expect("opens whatever was interrupted");
    node.serve_peers(listener);
    if node.status().role == Role::Pristine {
        if node.inner().restore_was_interrupted() {
            assert_eq!(
                node.init().await,
                Err(MembershipError::RestoreBegun),
                "an empty cluster in place of a restored one"
            );
        }
        let incoming = sent_to(&node, backup).await;
        node.restore(incoming, AT_ONCE).await.expect("restored");
    }
    until("it leads", async || node.propose(tick(), soon()).await.is_ok()).await;
    node
}

#[test]
fn crash_at_each_write_of_a_restore_leaves_all_of_it_or_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    let old = TempDir::new().expect("temporary directory");
    let (backup, job) = runtime.block_on(async {
        let node = start(old.path().to_path_buf()).await;
        let job = submitted(&node.propose(submit(2_000), soon()).await.expect("commits"));
        let backup = backup_of(&node).await;
        node.halt().await;
        (backup, job)
    });
    let file = old.path().join("backup");
    std::fs::write(&file, &backup).expect("writes");
    let mut last = BTreeSet::new();
    for abort_at in (1..30).chain([40]) {
        let directory = TempDir::new().expect("temporary directory");
        let acknowledged = run_child("restore_child", directory.path(), abort_at, &file);
        runtime.block_on(async {
            let node = start_restored(directory.path().to_path_buf(), &backup).await;
            let view = node.view(Consistency::Linearizable, 0, soon()).await.expect("reads");
            let jobs = view.look(|reading| live_jobs(reading.rows()));
            assert!(jobs.contains(&job), "aborted at write {abort_at}: {job} was in the backup");
            assert!(acknowledged.is_subset(&jobs), "aborted at write {abort_at}: {acknowledged:?} {jobs:?}");
            let next = submitted(&node.propose(submit(10), soon()).await.expect("commits"));
            assert!(
                next.0 > job.0 + 1_000_000_000,
                "aborted at write {abort_at}: id {next} may have been given before"
            );
            drop(view);
            node.halt().await;
        });
        last = acknowledged;
    }
    assert!(!last.is_empty(), "the last of them come after the restore");
}

fn run_child(child: &str, directory: &Path, abort_at: u64, backup: &Path) -> BTreeSet<JobId> {
    let mut child = Process::new(std::env::current_exe().expect("this test"))
        .args(["--exact", &format!("raft::tests::crash::{child}"), "--nocapture"])
        .env(DIRECTORY, directory)
        .env(ABORT_AT, abort_at.to_string())
        .env(BACKUP, backup)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let acknowledged =
        lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok().map(JobId));
    let acknowledged = acknowledged.collect();
    let status = child.wait().expect("ends");
    assert!(!status.success(), "it was to abort");
    acknowledged
}

#[test]
fn crash_at_each_write_loses_nothing_acknowledged() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    for abort_at in (1..16).chain((16..70).step_by(6)) {
        let directory = TempDir::new().expect("temporary directory");
        let acknowledged = run_child("crash_child", directory.path(), abort_at, Path::new(""));
        runtime.block_on(async {
            let node = start(directory.path().to_path_buf()).await;
            let view = node.view(Consistency::Linearizable, 0, soon()).await.expect("reads");
            let jobs = view.look(|reading| live_jobs(reading.rows()));
            let missing: Vec<_> = acknowledged.difference(&jobs).collect();
            assert!(missing.is_empty(), "aborted at write {abort_at}: {missing:?} were acknowledged and are gone");
            assert!(jobs.len() <= acknowledged.len() + 1, "aborted at write {abort_at}: one was on its way");
            drop(view);
            node.halt().await;
        });
    }
}
