//! Backups taken, examined, and made into new clusters.

use super::*;
use crate::{
    queue::{
        command::{Claim, LeaseAction, LeaseItem, Wanted},
        ids::LeaseId,
    },
    raft::restore::{RestoreError, RestoreOptions},
};

pub const PAUSED: RestoreOptions = RestoreOptions { after_job: None, paused: true };
pub const AT_ONCE: RestoreOptions = RestoreOptions { after_job: None, paused: false };

/// A backup of `node`, as bytes.
pub async fn backup_of(node: &Node) -> Vec<u8> {
    let backup = node.backup(Consistency::Linearizable, soon()).await.expect("taken");
    let bytes = std::fs::read(backup.file.path()).expect("reads");
    assert_eq!(bytes.len() as u64, backup.file.bytes);
    bytes
}

/// The backup as it arrives at `node`.
pub async fn sent_to(node: &Node, backup: &[u8]) -> Incoming {
    let pieces: Vec<_> = backup.chunks(1000).map(|piece| Ok(bytes::Bytes::copy_from_slice(piece))).collect();
    node.receive_backup(futures::stream::iter(pieces)).await.expect("received")
}

fn claim() -> Request {
    let wanted = Wanted::Queues(vec![Arc::from("default")]);
    request(Command::Claim(Claim { start: true, ..Claim::of("w", wanted) }))
}

fn touch(job: JobId, lease: LeaseId) -> Request {
    let action = LeaseAction::Touch { log: Vec::new(), log_seq: None, progress: None, checkpoint: None };
    request(Command::Leases { items: vec![LeaseItem { job, lease, action }], claim: None })
}

/// The job and lease of the one claim that found something.
fn claimed(committed: &Committed) -> Option<(JobId, LeaseId)> {
    let Answer::Claimed(claimed) = &committed.answer else { panic!("no claim: {:?}", committed.answer) };
    let first = claimed.first()?.as_ref().expect("a grant");
    Some((first.job, first.lease))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restored_cluster_begins_with_the_backup_and_goes_on_beyond_it() {
    let old = Cluster::formed(3, RaftOptions::test()).await;
    let leader = old.leader().await;
    let job = submitted(&leader.propose(submit(10), soon()).await.expect("commits"));
    let (held, lease) = claimed(&leader.propose(claim(), soon()).await.expect("commits")).expect("there is one");
    let follower = old.follower().await;
    let backup = backup_of(&follower).await;
    let (clock, index) = (leader.inner_clocks().cluster, leader.status().applied);
    old.shutdown().await;

    let mut new = Cluster::started(3, RaftOptions::test()).await;
    let incoming = sent_to(new.node(2), &backup).await;
    let restored = new.node(2).restore(incoming, AT_ONCE).await.expect("restored");
    assert!(restored.led && restored.leases_ended == 1, "{restored:?}");
    assert_ne!(restored.cluster, restored.backup.cluster);
    assert!(restored.index >= index + 1_000_000_000);
    let leader = new.leader().await;
    until("all belong to it", async || new.running().all(|node| node.cluster() == Some(restored.cluster))).await;
    let refused = leader.propose(touch(held, lease), soon()).await.expect("commits").answer;
    assert!(matches!(&refused, Answer::Leases { results, .. } if results[0].is_err()), "{refused:?}");
    let (again, newer) = claimed(&leader.propose(claim(), soon()).await.expect("commits")).expect("it is queued again");
    assert_eq!(again, job);
    assert!(newer > restored.last_lease && restored.last_lease.0 >= lease.0 + 1_000_000_000);
    let next = submitted(&leader.propose(submit(10), soon()).await.expect("commits"));
    assert_eq!(next.0, restored.last_job.0 + 1);
    assert!(leader.inner_clocks().cluster >= clock, "the cluster clock never goes back");
    new.agree().await;
    drop(leader);
    for id in 1..=3 {
        new.halt(id).await;
        new.restart(id).await;
    }
    new.leader().await;
    let last = new.leader().await.propose(submit(10), soon()).await.expect("commits").index;
    for node in new.running() {
        let view = node.view(Consistency::Local, last, soon()).await.expect("catches up");
        assert!(view.look(|reading| live_jobs(reading.rows())).contains(&job));
    }
    new.agree().await;
    new.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restore_paused_gives_no_work_until_it_is_resumed() {
    let old = Cluster::formed(1, RaftOptions::test()).await;
    old.leader().await.propose(submit(10), soon()).await.expect("commits");
    let backup = backup_of(old.node(1)).await;
    let new = Cluster::started(1, RaftOptions::test()).await;
    let incoming = sent_to(new.node(1), &backup).await;
    let options = RestoreOptions { after_job: Some(JobId(77)), ..PAUSED };
    new.node(1).restore(incoming, options).await.expect("restored");
    let leader = new.leader().await;
    assert_eq!(claimed(&leader.propose(claim(), soon()).await.expect("commits")), None);
    let resume = request(Command::Pause { queue: None, paused: false });
    leader.propose(resume, soon()).await.expect("commits");
    assert!(claimed(&leader.propose(claim(), soon()).await.expect("commits")).is_some());
    assert_eq!(submitted(&leader.propose(submit(10), soon()).await.expect("commits")), JobId(78));
    old.shutdown().await;
    new.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_is_not_cut_off_by_the_deadline_of_the_read_it_begins_with() {
    let cluster = Cluster::formed(1, RaftOptions::test()).await;
    let leader = cluster.leader().await;
    let job = leader.propose(submit(10), soon()).await.expect("commits");
    let backup = leader.backup(Consistency::Local, Instant::now()).await.expect("taken, though that is over at once");
    assert!(backup.index >= job.index);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restore_is_refused_unless_every_founder_is_there_and_pristine() {
    let mut cluster = Cluster::formed(3, RaftOptions::test()).await;
    let backup = backup_of(&cluster.leader().await).await;
    let refused = async |node: &Node, backup: &[u8]| {
        let incoming = sent_to(node, backup).await;
        node.restore(incoming, AT_ONCE).await.expect_err("refused")
    };
    let formed = refused(cluster.node(1), &backup).await;
    assert!(matches!(formed, RestoreError::Members(MembershipError::NotPristine { .. })), "{formed}");
    let low = RestoreOptions { after_job: Some(JobId(0)), ..AT_ONCE };
    let leader = cluster.leader().await;
    leader.propose(submit(10), soon()).await.expect("commits");
    let newer = backup_of(&leader).await;

    let mut new = Cluster::started(3, RaftOptions::test()).await;
    let incoming = sent_to(new.node(1), &newer).await;
    let below = new.node(1).restore(incoming, low).await.expect_err("refused");
    assert!(matches!(below, RestoreError::AfterJob { .. }), "{below}");
    new.halt(3).await;
    let missing = refused(new.node(1), &backup).await;
    assert!(matches!(missing, RestoreError::Members(MembershipError::Unreachable { .. })), "{missing}");
    for cut in [0, 7, 100, backup.len() - 1] {
        let damaged = refused(new.node(1), &backup[..cut]).await;
        assert!(matches!(damaged, RestoreError::Backup(_)), "{damaged}");
    }
    assert!(new.running().all(|node| node.cluster().is_none()), "nothing was changed");
    let files = new.directory(1).join("snapshot");
    until("what was received is gone", async || std::fs::read_dir(&files).expect("reads").count() == 0).await;
    new.restart(3).await;
    new.node(2).init().await.expect("the same nodes form a cluster");
    new.leader().await;
    cluster.halt(1).await;
    cluster.shutdown().await;
    new.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restore_and_init_at_once_make_one_cluster() {
    let old = Cluster::formed(1, RaftOptions::test()).await;
    let backup = backup_of(old.node(1)).await;
    old.shutdown().await;
    for _ in 0..4 {
        let new = Cluster::started(3, RaftOptions::test()).await;
        let incoming = sent_to(new.node(2), &backup).await;
        let (restored, formed) = tokio::join!(new.node(2).restore(incoming, AT_ONCE), new.node(3).init());
        assert!(restored.is_err() || formed.is_err(), "both: {restored:?} {formed:?}");
        if restored.is_ok() || formed.is_ok() {
            new.leader().await;
            let clusters = || new.running().map(Node::cluster).collect::<BTreeSet<_>>();
            until("one cluster", async || clusters().len() == 1).await;
        }
        new.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restore_repeated_after_its_invitations_goes_on_under_the_same_cluster() {
    let new = Cluster::started(3, RaftOptions::test()).await;
    let begun = crate::storage::ClusterId(7);
    new.node(2).inner().join(begun).expect("written");
    let backup = std::fs::read(STORED).expect("reads");
    // The one that was invited may be counted on by whoever invited it.
    let invited = new.node(2).restore(sent_to(new.node(2), &backup).await, AT_ONCE).await.expect_err("refused");
    assert!(matches!(invited, RestoreError::Members(MembershipError::FormingBegun)), "{invited}");
    let restored = new.node(1).restore(sent_to(new.node(1), &backup).await, AT_ONCE).await.expect("restored");
    assert_eq!(restored.cluster, begun);
    new.leader().await;
    new.agree().await;
    new.shutdown().await;
}

/// A backup as version 1 wrote it. If it no longer reads, backups on operators' disks do not either: give the new layout a
/// new format byte and keep a decoder for the old one. `UPDATE_GOLDENFILES=1` writes it anew.
const STORED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/raft/tests/backup-v1");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_of_stored_old_bytes_still_reads_and_restores() {
    if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
        std::fs::write(STORED, small_backup().await).expect("writes");
    }
    let summary = examine(std::path::Path::new(STORED), &mut |_| {}).expect("reads");
    let jobs = (summary.live_jobs, summary.ended_jobs, summary.archived_jobs);
    assert_eq!((jobs, summary.last_job, summary.last_lease.0), ((2, 1, 0), JobId(3), 2), "{summary:?}");
    assert_eq!((summary.members, summary.drained), (vec![1], true));
    let new = Cluster::started(1, RaftOptions::test()).await;
    let incoming = sent_to(new.node(1), &std::fs::read(STORED).expect("reads")).await;
    new.node(1).restore(incoming, AT_ONCE).await.expect("restored");
    new.leader().await;
    new.shutdown().await;
}

/// One job that has ended, one that runs, one that waits, and submissions closed.
async fn small_backup() -> Vec<u8> {
    let cluster = Cluster::formed(1, RaftOptions::test()).await;
    let leader = cluster.leader().await;
    for _ in 0..3 {
        leader.propose(submit(10), soon()).await.expect("commits");
    }
    let (job, lease) = claimed(&leader.propose(claim(), soon()).await.expect("commits")).expect("there is one");
    let report = Box::default();
    let action = LeaseAction::Success { result: None, jobs: Vec::new(), atomic_children: false, report };
    let finish = Command::Leases { items: vec![LeaseItem { job, lease, action }], claim: None };
    leader.propose(request(finish), soon()).await.expect("commits");
    leader.propose(claim(), soon()).await.expect("commits");
    let drain = Command::Drain { drained: true, reason: Some("moving".into()) };
    leader.propose(request(drain), soon()).await.expect("commits");
    let backup = backup_of(&leader).await;
    drop(leader);
    cluster.shutdown().await;
    backup
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn examine_with_any_byte_changed_is_refused() {
    let directory = TempDir::new().expect("temporary directory");
    let path = directory.path().join("backup");
    let whole = std::fs::read(STORED).expect("reads");
    for at in (0..whole.len()).step_by(31) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, &damaged).expect("writes");
        let error = examine(&path, &mut |_| {}).expect_err("a flipped bit");
        assert!(error.to_string().contains("damaged"), "at {at}: {error}");
    }
}
