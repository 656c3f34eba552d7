//! Snapshots: built, sent, verified, installed; and the log that they let go.

use std::{path::Path, sync::atomic::Ordering};

use futures::StreamExt;
use openraft::storage::RaftSnapshotBuilder;

use super::*;
use crate::{
    raft::{snapshot_file, state_rows::FAMILIES},
    storage::{Batch, ClusterId, DataDir, Family, Pinned, Synced},
};

/// Snapshots and purges after a few hundred kilobytes.
pub(super) fn small_logs() -> RaftOptions {
    RaftOptions { snapshot_bytes: 256 << 10, log_keep_bytes: 64 << 10, ..RaftOptions::test() }
}

/// Writes until the log no longer holds the entry at `seen`: with small logs, soon.
pub(super) async fn write_until_cut(leader: &Node, seen: u64) {
    until("the log is cut", async || {
        for _ in 0..16 {
            leader.propose(submit(20_000), soon()).await.expect("commits");
        }
        leader.status().purged.is_some_and(|purged| purged > seen)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follower_behind_a_purged_log_catches_up_by_snapshot() {
    let mut cluster = Cluster::formed(3, small_logs()).await;
    let leader = cluster.leader().await;
    let away = cluster.follower().await.id();
    let seen = leader.propose(tick(), soon()).await.expect("commits").index;
    cluster.halt(away).await;
    write_until_cut(&leader, seen).await;
    cluster.restart(away).await;
    let back = cluster.node(away);
    let index = leader.status().applied;
    back.view(Consistency::Local, index, soon()).await.expect("catches up");
    until("it came by a snapshot", async || back.status().snapshot.is_some()).await;
    cluster.agree().await;
    let rows = |node: &Node| node.local_rows();
    assert_eq!(rows(back), rows(&leader));
    // What was installed is still there after a restart.
    cluster.halt(away).await;
    cluster.restart(away).await;
    cluster.node(away).view(Consistency::Local, index, soon()).await.expect("starts from it");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_stays_bounded_whatever_was_written() {
    let cluster = Cluster::formed(1, small_logs()).await;
    let leader = cluster.leader().await;
    for _ in 0..200 {
        leader.propose(submit(20_000), soon()).await.expect("commits");
    }
    // Four times what makes a snapshot due, what is kept behind it, and what came while it was built.
    until("the log is short", async || leader.log_bytes() <= 1536 << 10).await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_now_covers_what_is_applied() {
    let cluster = Cluster::formed(1, RaftOptions::test()).await;
    let leader = cluster.leader().await;
    let index = leader.propose(submit(10), soon()).await.expect("commits").index;
    assert!(leader.snapshot_now(soon()).await.expect("built") >= index);
    assert!(leader.status().snapshot.is_some_and(|snapshot| snapshot >= index));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_that_is_older_than_another_takes_nothing_back() {
    let cluster = Cluster::formed(1, RaftOptions::test()).await;
    let leader = cluster.leader().await;
    let snapshots = leader.inner().snapshots.clone();
    let mut early = snapshots.builder();
    leader.propose(submit(10), soon()).await.expect("commits");
    let newer = snapshots.builder().build_snapshot().await.expect("builds");
    let older = early.build_snapshot().await.expect("builds");
    assert!(older.meta.last_log_id < newer.meta.last_log_id);
    assert_eq!(snapshots.flushed(), newer.meta.last_log_id);
    cluster.shutdown().await;
}

/// Copies a directory as a loss of power would leave it: what was synced is there, and nothing is flushed for the end.
fn image_of(directory: &Path) -> TempDir {
    let image = TempDir::new().expect("temporary directory");
    copy_all(directory, image.path());
    image
}

fn copy_all(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("reads").flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().expect("known").is_dir() {
            std::fs::create_dir(&target).expect("makes");
            copy_all(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copies");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_is_cut_no_further_than_the_state_is_flushed() {
    let never = RaftOptions { snapshot_bytes: 1 << 40, log_keep_bytes: 1, ..RaftOptions::test() };
    let mut cluster = Cluster::formed(1, never).await;
    let leader = cluster.leader().await;
    for _ in 0..200 {
        leader.propose(submit(20_000), soon()).await.expect("commits");
    }
    let written = leader.status().applied;
    let directory = cluster.directory(1);
    let image = image_of(&directory);
    drop(leader);
    cluster.halt(1).await;
    std::fs::remove_dir_all(&directory).expect("removes");
    std::fs::create_dir(&directory).expect("makes");
    copy_all(image.path(), &directory);
    cluster.restart(1).await;
    let leader = cluster.leader().await;
    until("all of it is applied anew", async || leader.status().applied >= written).await;
    let inner = leader.inner();
    // None of it is in the store's files.
    assert!(inner.log.purge_point(1).is_some_and(|point| point > 1), "otherwise all of it would go");
    assert_eq!((inner.snapshots.flushed(), inner.log_end()), (None, None));
    leader.snapshot_now(soon()).await.expect("flushed");
    until("the log is cut", async || leader.status().purged.is_some()).await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_behind_a_snapshot_that_is_taken_away_stays_for_whoever_takes_it() {
    let cluster =
        Cluster::formed(1, RaftOptions { snapshot_bytes: 1 << 10, log_keep_bytes: 1 << 20, ..RaftOptions::test() })
            .await;
    let leader = cluster.leader().await;
    let taken = leader.inner().snapshots.current().expect("something was applied");
    let index = taken.meta.last_log_id.expect("there is one").index;
    let kept = taken.snapshot.keep_log(&taken.meta);
    let sent = taken.snapshot.pieces().count().await;
    assert!(sent > 0, "it has left, and is not installed yet");
    until("the log is longer than what is kept", async || {
        leader.propose(submit(20_000), soon()).await.expect("commits");
        leader.log_bytes() > 3 << 20
    })
    .await;
    assert!(leader.status().purged.is_none_or(|purged| purged <= index), "the entries behind it are there");
    drop(kept);
    until("the log is cut", async || leader.status().purged.is_some_and(|purged| purged > index)).await;
    cluster.shutdown().await;
}

/// Submits one job with a body of `bytes`.
fn bulky(bytes: usize) -> Request {
    let op = OpSpec::new("print", Payload::Text("b".repeat(bytes).into()));
    request(Command::Submit { jobs: vec![Ok(Arc::new(Spec::of_ops(vec![op])))], atomic: false })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_under_way_when_the_node_stops_is_given_up_without_a_trace() {
    let mut cluster = Cluster::formed(1, RaftOptions { snapshot_bytes: 1 << 40, ..RaftOptions::test() }).await;
    let leader = cluster.leader().await;
    let mut job = JobId(0);
    for _ in 0..48 {
        job = submitted(&leader.propose(bulky(1_000_000), soon()).await.expect("commits"));
    }
    let taken = leader.inner().snapshots.current().expect("something was applied");
    drop(leader);
    let writing = tokio::spawn(taken.snapshot.into_file());
    let directory = cluster.directory(1).join("snapshot");
    let files = || std::fs::read_dir(&directory).expect("reads").flatten();
    until("it is written", async || files().any(|file| file.metadata().is_ok_and(|file| file.len() > 0))).await;
    cluster.halt(1).await;
    let given_up = writing.await.expect("no panic").expect_err("the node stopped");
    assert_eq!(given_up.to_string(), "the node stops");
    until("nothing is left of it", async || files().count() == 0).await;
    cluster.restart(1).await;
    let view = cluster.leader().await.view(Consistency::Linearizable, 0, soon()).await.expect("reads");
    assert!(view.look(|reading| live_jobs(reading.rows())).contains(&job));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_that_many_ended_jobs_left_is_flushed() {
    let cluster = Cluster::formed(1, RaftOptions { snapshot_bytes: 1 << 40, ..RaftOptions::test() }).await;
    let leader = cluster.leader().await;
    let index = leader.propose(submit(10), soon()).await.expect("commits").index;
    let inner = leader.inner();
    inner.replica.left_since_snapshot.fetch_add(crate::raft::upkeep::LEFT_MAX, Ordering::Relaxed);
    until("it is flushed", async || inner.snapshots.flushed().is_some_and(|flushed| flushed.index >= index)).await;
    assert_eq!(inner.replica.left_since_snapshot.load(Ordering::Relaxed), 0);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_that_nobody_waits_for_any_more_is_given_up() {
    let cluster = Cluster::formed(1, RaftOptions { snapshot_bytes: 1 << 40, ..RaftOptions::test() }).await;
    let leader = cluster.leader().await;
    for _ in 0..48 {
        leader.propose(bulky(1_000_000), soon()).await.expect("commits");
    }
    let taken = leader.inner().snapshots.current().expect("something was applied");
    let writing = tokio::spawn(taken.snapshot.into_file());
    let directory = cluster.directory(1).join("snapshot");
    let files = || std::fs::read_dir(&directory).expect("reads").flatten();
    until("it is written", async || files().any(|file| file.metadata().is_ok_and(|file| file.len() > 0))).await;
    writing.abort();
    assert!(writing.await.is_err_and(|error| error.is_cancelled()), "it was not at its end");
    until("nothing is left of it", async || files().count() == 0).await;
    cluster.shutdown().await;
}

/// A state store with rows in several families, and a snapshot of it.
type Row = (Family, Vec<u8>, Vec<u8>);

fn snapshot_of_some_rows(directory: &TempDir) -> (PathBuf, Vec<Row>) {
    let stores = DataDir::new(directory.path()).open(1, super::log_store::FAMILIES, FAMILIES).expect("opens");
    let mut batch = Batch::new();
    let mut rows = Vec::new();
    for family in FAMILIES.iter().filter(|family| family.name != "meta") {
        for number in 0..50_u8 {
            let row = (*family, vec![0, number], vec![number; usize::from(number) * 10]);
            batch.put(row.0, row.1.clone(), row.2.clone());
            rows.push(row);
        }
    }
    stores.state.write(batch, Synced::No).expect("writes");
    let pinned: Pinned = stores.state.pin();
    let path = directory.path().join("snapshot").join("some.snapshot");
    let file = std::fs::File::create(&path).expect("makes");
    snapshot_file::write(file, ClusterId(7), &pinned).expect("writes");
    (path, rows)
}

#[test]
fn read_snapshot_gives_every_row_back() {
    let directory = TempDir::new().expect("temporary directory");
    let (path, rows) = snapshot_of_some_rows(&directory);
    let mut read = Vec::new();
    let (header, trailer) = snapshot_file::read(&path, &mut |family, key, value| {
        read.push((family, key.to_vec(), value.to_vec()));
        Ok(())
    })
    .expect("reads");
    assert_eq!((header.cluster, trailer.rows), (ClusterId(7), rows.len() as u64));
    assert_eq!(read, rows);
}

#[test]
fn read_snapshot_with_any_byte_changed_or_missing_is_refused() {
    let directory = TempDir::new().expect("temporary directory");
    let (path, _) = snapshot_of_some_rows(&directory);
    let whole = std::fs::read(&path).expect("reads");
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("writes");
        snapshot_file::read(&path, &mut |_, _, _| Ok(())).is_err()
    };
    for at in (0..whole.len()).step_by(97).chain(whole.len() - 60..whole.len()) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        assert!(refused(&damaged), "a flipped bit at {at}");
    }
    for length in (0..whole.len()).step_by(211) {
        assert!(refused(&whole[..length]), "cut at {length}");
    }
    assert!(refused(&[&whole[..], &[0]].concat()), "a byte too many");
    assert!(!refused(&whole));
}
