//! Committing, reading, failing over.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn propose_three_nodes_commits_and_every_node_reads_it() {
    let cluster = Cluster::formed(3, RaftOptions::test()).await;
    let leader = cluster.leader().await;
    for _ in 0..20 {
        let job = submitted(&leader.propose(submit(10), soon()).await.expect("commits"));
        for node in cluster.running() {
            let view = node.view(Consistency::Linearizable, 0, soon()).await.expect("reads");
            assert!(view.look(|reading| live_jobs(reading.rows())).contains(&job));
        }
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn propose_after_leader_ended_goes_on_elsewhere_and_the_old_one_catches_up() {
    let mut cluster = Cluster::formed(3, RaftOptions::test()).await;
    let old = cluster.leader().await.id();
    cluster.halt(old).await;
    let new = cluster.leader().await;
    assert_ne!(new.id(), old);
    let committed = new.propose(tick(), soon()).await.expect("commits");
    cluster.restart(old).await;
    let view = cluster.node(old).view(Consistency::Local, committed.index, soon()).await.expect("catches up");
    assert!(view.look(|reading| reading.index()) >= committed.index);
    cluster.agree().await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn propose_on_follower_names_the_leader() {
    let cluster = Cluster::formed(3, RaftOptions::test()).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let error = follower.propose(tick(), soon()).await.expect_err("does not lead");
    let ProposeError::NotLeader { leader: Some(named) } = error else { panic!("{error}") };
    assert_eq!((named.id, named.member.api), (leader.id(), format!("api{}", leader.id())));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_that_went_with_the_majority_is_named_no_longer() {
    let mut cluster = Cluster::formed(3, RaftOptions::test()).await;
    let (leader, alone) = (cluster.leader().await.id(), cluster.follower().await);
    for id in (1..=3).filter(|&id| id != alone.id()) {
        cluster.halt(id).await;
    }
    until("nobody is named", async || {
        let refused = alone.propose(tick(), soon()).await.expect_err("does not lead");
        assert!(matches!(&refused, ProposeError::NotLeader { leader: named } if named.as_ref().is_none_or(|l| l.id == leader)));
        matches!(refused, ProposeError::NotLeader { leader: None }) && alone.leadership().borrow().leader.is_none()
    })
    .await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn minority_refuses_writes_and_linearizable_reads_within_the_deadline() {
    let mut cluster = Cluster::formed(3, RaftOptions::test()).await;
    let leader = cluster.leader().await;
    let applied = leader.propose(submit(1), soon()).await.expect("commits").index;
    for id in (1..=3).filter(|&id| id != leader.id()) {
        cluster.halt(id).await;
    }
    let (begun, deadline) = (Instant::now(), Instant::now() + Duration::from_secs(2));
    let written = leader.propose(submit(1), deadline).await.expect_err("no majority");
    assert!(matches!(written, ProposeError::Unknown | ProposeError::Deadline | ProposeError::NotLeader { .. }));
    let read = leader.view(Consistency::Linearizable, 0, begun + Duration::from_secs(4)).await.err();
    assert_eq!(read, Some(ReadError::NoLeader));
    assert!(begun.elapsed() < Duration::from_secs(6));
    let local = leader.view(Consistency::Local, 0, soon()).await.expect("reads what it has");
    assert!(local.look(|reading| reading.index()) >= applied);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn propose_while_leaders_change_loses_nothing_acknowledged_and_doubles_nothing() {
    let cluster = Cluster::formed(3, RaftOptions::test()).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let clients: Vec<_> = (0..4).map(|_| tokio::spawn(client(cluster.nodes.clone(), stop.clone()))).collect();
    for _ in 0..5 {
        let leader = cluster.leader().await;
        // Under load a successor may need a second try.
        drop(leader.transfer(None, Instant::now() + Duration::from_secs(2)).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    stop.cancel();
    let (mut acknowledged, mut unknown) = (Vec::new(), 0);
    for client in clients {
        let (jobs, lost) = client.await.expect("client ends");
        assert!(jobs.is_sorted(), "ids rise for each client");
        acknowledged.extend(jobs);
        unknown += lost;
    }
    let distinct: BTreeSet<_> = acknowledged.iter().copied().collect();
    assert_eq!(distinct.len(), acknowledged.len(), "no id is given twice");
    let view = cluster.leader().await.view(Consistency::Linearizable, 0, soon()).await.expect("reads");
    let jobs = view.look(|reading| live_jobs(reading.rows()));
    assert!(jobs.is_superset(&distinct), "every acknowledged job is there");
    assert!(
        jobs.len() <= distinct.len() + unknown,
        "{} jobs, {} acknowledged, {unknown} unknown",
        jobs.len(),
        distinct.len()
    );
    assert!(!distinct.is_empty());
    cluster.agree().await;
    cluster.shutdown().await;
}

/// Submits one job after another to whoever leads; gives the acknowledged ids, and how many fates are unknown.
async fn client(nodes: Vec<Option<Node>>, stop: tokio_util::sync::CancellationToken) -> (Vec<JobId>, usize) {
    let (mut jobs, mut unknown) = (Vec::new(), 0);
    while !stop.is_cancelled() {
        let Some(leader) = nodes.iter().flatten().find(|node| node.status().role == Role::Leader) else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        match leader.propose(submit(20), Instant::now() + Duration::from_secs(5)).await {
            Ok(committed) => jobs.push(submitted(&committed)),
            Err(ProposeError::Unknown) => unknown += 1,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    (jobs, unknown)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn propose_for_a_caller_that_went_away_is_not_proposed() {
    let mut cluster = Cluster::formed(3, RaftOptions::test()).await;
    let leader = cluster.leader().await;
    for id in (1..=3).filter(|&id| id != leader.id()) {
        cluster.halt(id).await;
    }
    // Nothing commits now: these fill the entries that may be on their way, and one that waits behind them.
    let short = Instant::now() + Duration::from_millis(300);
    let mut stuck = Vec::new();
    for _ in 0..8 {
        let leader = leader.clone();
        stuck.push(tokio::spawn(async move { leader.propose(submit(1), short).await }));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut outcomes = Vec::new();
    for stuck in stuck {
        outcomes.push(stuck.await.expect("ends").expect_err("no majority"));
    }
    let unknown = outcomes.iter().filter(|error| **error == ProposeError::Unknown).count();
    for id in (1..=3).filter(|&id| id != leader.id()) {
        cluster.restart(id).await;
    }
    let view = cluster.leader().await.view(Consistency::Linearizable, 0, soon()).await.expect("reads");
    let jobs = view.look(|reading| live_jobs(reading.rows())).len();
    assert!(jobs <= unknown, "{jobs} jobs came of {unknown} unknown ones: {outcomes:?}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restart_of_all_nodes_keeps_everything_and_clocks_go_on() {
    let mut cluster = Cluster::formed(3, RaftOptions::test()).await;
    let leader = cluster.leader().await;
    let job = submitted(&leader.propose(submit(10), soon()).await.expect("commits"));
    let clocks = |node: &Node| node.inner_clocks();
    let before = clocks(&leader);
    drop(leader);
    for id in 1..=3 {
        cluster.halt(id).await;
    }
    for id in 1..=3 {
        cluster.restart(id).await;
    }
    let leader = cluster.leader().await;
    let view = leader.view(Consistency::Linearizable, 0, soon()).await.expect("reads");
    assert!(view.look(|reading| live_jobs(reading.rows())).contains(&job));
    let after = clocks(&leader);
    assert!(after.cluster >= before.cluster, "the cluster clock never falls");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hashes_are_compared_through_the_log() {
    let raft = RaftOptions { hash_interval: Duration::from_millis(200), ..RaftOptions::test() };
    let cluster = Cluster::formed(3, raft).await;
    let leader = cluster.leader().await;
    let before = leader.propose(submit(10), soon()).await.expect("commits").index;
    // A mark, and a verdict on it.
    until("a verdict", async || leader.status().applied >= before + 2).await;
    assert!(cluster.running().all(|node| node.stopped().borrow().is_none()));
    cluster.agree().await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_whose_state_differs_stops_and_the_others_go_on() {
    let raft = RaftOptions { hash_interval: Duration::from_millis(200), ..RaftOptions::test() };
    let cluster = Cluster::formed(3, raft).await;
    let (leader, odd) = (cluster.leader().await, cluster.follower().await);
    odd.inner().replica.hot_mut().applied.hash ^= 1;
    until("the odd one stops", async || {
        leader.propose(submit(10), soon()).await.expect("commits");
        matches!(*odd.stopped().borrow(), Some(StopReason::Diverged { .. }))
    })
    .await;
    let right = cluster.running().filter(|node| node.id() != odd.id());
    assert!(right.into_iter().all(|node| node.stopped().borrow().is_none()));
    assert!(cluster.directory(odd.id()).join("log").exists(), "its data is kept");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_whose_apply_is_stuck_hands_over() {
    let raft = RaftOptions { stall_ms: 400, ..RaftOptions::test() };
    let cluster = Cluster::formed(3, raft).await;
    let leader = cluster.leader().await;
    let (release, held) = std::sync::mpsc::channel::<()>();
    let stuck = leader.clone();
    // Somebody who looks at the state for ever keeps apply from changing it.
    let looking = std::thread::spawn(move || {
        let hot = stuck.inner().replica.hot();
        held.recv().expect_err("dropped when it is time");
        drop(hot);
    });
    let pending = leader.clone();
    let pending = tokio::spawn(async move { pending.propose(tick(), soon()).await });
    let others = || cluster.running().filter(|node| node.id() != leader.id());
    until("another leads", async || others().any(|node| node.status().role == Role::Leader)).await;
    drop(release);
    looking.join().expect("ends");
    // It was committed all the same; only its answer had to wait.
    pending.await.expect("ends").expect("applied in the end");
    cluster.agree().await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_whose_process_died_is_followed_before_any_timer_runs_out() {
    // No timer of these decides anything within the test's patience.
    let slow =
        RaftOptions { heartbeat_ms: 1_000, election_min_ms: 60_000, election_max_ms: 90_000, ..RaftOptions::test() };
    let mut cluster = Cluster::formed(3, slow).await;
    let leader = cluster.leader().await.id();
    until("every voter holds a line to the leader", async || {
        let mut others = cluster.running().filter(|node| node.id() != leader);
        others.all(|node| *node.inner().line_to.borrow() == Some(leader))
    })
    .await;
    cluster.halt(leader).await;
    let begun = Instant::now();
    cluster.leader().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    cluster.shutdown().await;
}
