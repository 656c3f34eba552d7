//! Nodes of different versions side by side, told apart by the feature level that they know.

use super::*;

/// Marks come after the members were asked, so a mark says that the leader has looked at what they know.
fn knowing(level: u32) -> RaftOptions {
    RaftOptions { feature_level: FeatureLevel(level), hash_interval: Duration::from_secs(2), ..RaftOptions::test() }
}

async fn upgrade(cluster: &mut Cluster, id: u64, level: u32) {
    cluster.halt(id).await;
    cluster.raft = knowing(level);
    cluster.restart(id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn level_rises_once_every_member_knows_it_and_never_falls() {
    let mut cluster = Cluster::formed(3, knowing(1)).await;
    for id in [1, 2] {
        upgrade(&mut cluster, id, 3).await;
        cluster.leader().await;
    }
    let marked = cluster.leader().await.status().mark;
    until("the members were asked", async || cluster.leader().await.status().mark > marked).await;
    assert!(
        cluster.running().all(|node| node.status().feature_level == FeatureLevel(1)),
        "one member knows only the first"
    );
    upgrade(&mut cluster, 3, 2).await;
    let at_two = async || cluster.running().all(|node| node.status().feature_level == FeatureLevel(2));
    until("the newest level that all know is in force", at_two).await;
    cluster.agree().await;
    // An old version meets the entry in the log.
    cluster.raft = knowing(1);
    let old = cluster.join(4).await;
    cluster.leader().await.add(None, &old.peer_address()).await.expect("invited");
    let stopped = || old.stopped().borrow().clone();
    until("it stops", async || stopped().is_some()).await;
    let reason = stopped().expect("just seen");
    assert_eq!(reason, StopReason::NewerLevel { level: FeatureLevel(2), knows: FeatureLevel(1) });
    assert!(reason.to_string().contains("feature level 2"), "{reason}");
    // And in the state that a newer one left.
    cluster.node(3).snapshot_now(soon()).await.expect("flushed");
    cluster.halt(3).await;
    let error = cluster.open(3).await.err().expect("too old");
    assert!(error.to_string().contains("newer version") && error.to_string().contains("feature level 2"), "{error}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_of_an_unknown_level_stops_the_node_that_gets_it() {
    let small = RaftOptions { snapshot_bytes: 64 << 10, log_keep_bytes: 1, ..knowing(2) };
    let mut cluster = Cluster::formed(1, small).await;
    let leader = cluster.leader().await;
    until("the level is raised", async || leader.status().feature_level == FeatureLevel(2)).await;
    let raised = leader.status().applied;
    until("the entry is gone from the log", async || {
        leader.propose(submit(20_000), soon()).await.expect("commits");
        leader.status().purged.is_some_and(|purged| purged > raised)
    })
    .await;
    cluster.raft = knowing(1);
    let old = cluster.join(2).await;
    leader.add(None, &old.peer_address()).await.expect("invited");
    until("it stops", async || matches!(*old.stopped().borrow(), Some(StopReason::NewerLevel { .. }))).await;
    cluster.shutdown().await;
}
