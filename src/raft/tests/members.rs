//! Forming, adding, removing, replacing; and disks that are not who they were.

use super::*;
use crate::{
    raft::{
        message::{Envelope, PROTOCOL, PeerRefusal, Topic},
        peer::{CallError, Peers, Purpose},
    },
    storage::{DiskId, StorageError},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_twice_is_refused() {
    let cluster = Cluster::formed(3, RaftOptions::test()).await;
    assert_eq!(cluster.node(1).init().await, Err(MembershipError::AlreadyFormed));
    until("node 2 knows the cluster", async || cluster.node(2).init().await == Err(MembershipError::AlreadyFormed))
        .await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_with_a_founder_missing_changes_nothing() {
    let mut cluster = Cluster::started(3, RaftOptions::test()).await;
    cluster.halt(3).await;
    let error = cluster.node(1).init().await.expect_err("one is missing");
    assert!(matches!(error, MembershipError::Unreachable { .. }), "{error}");
    assert!(cluster.running().all(|node| node.cluster().is_none()));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_on_two_nodes_at_once_forms_one_cluster() {
    let cluster = Cluster::started(3, RaftOptions::test()).await;
    let (first, second) = tokio::join!(cluster.node(2).init(), cluster.node(3).init());
    if first.is_err() && second.is_err() {
        cluster.node(1).init().await.expect("what was begun is brought to its end");
    }
    cluster.leader().await;
    until("one cluster", async || {
        let clusters: BTreeSet<_> = cluster.running().map(Node::cluster).collect();
        clusters.len() == 1 && cluster.running().all(|node| node.status().members.len() == 3)
    })
    .await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seek_cluster_new_nodes_form_it_once() {
    let cluster = Cluster::started(3, RaftOptions::test()).await;
    for node in cluster.running() {
        node.seek_cluster(true);
    }
    cluster.leader().await;
    let ids: BTreeSet<_> = cluster.running().map(Node::cluster).collect();
    assert_eq!(ids.len(), 1);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn add_promote_remove_change_the_voters_and_spend_ids() {
    let mut cluster = Cluster::formed(3, RaftOptions::test()).await;
    let leader = cluster.leader().await;
    let old = cluster.follower().await.id();
    let new = cluster.join(4).await;
    assert_eq!(leader.add(None, &new.peer_address()).await, Ok(4));
    assert_eq!(leader.add(None, &new.peer_address()).await, Ok(4), "asked again");
    let mistaken = leader.add(Some(5), &new.peer_address()).await;
    assert!(matches!(mistaken, Err(MembershipError::OtherNode { found: 4, wanted: 5, .. })), "{mistaken:?}");
    for voter in [old, leader.id()] {
        let present = leader.replace(old, None, &cluster.node(voter).peer_address(), soon()).await;
        assert_eq!(present, Err(MembershipError::NotPristine { id: voter, peer: cluster.node(voter).peer_address() }));
    }
    leader.promote(4, soon()).await.expect("promoted");
    leader.remove(old, soon()).await.expect("removed");
    let voters: BTreeSet<_> = leader.status().members.iter().filter(|m| m.voter).map(|m| m.id).collect();
    assert_eq!(voters, (1..=4).filter(|&id| id != old).collect());
    let removed = cluster.node(old).clone();
    until("the removed node stops", async || *removed.stopped().borrow() == Some(StopReason::Removed)).await;
    drop(removed);
    cluster.halt(old).await;
    let error = cluster.open(old).await.err().expect("its id is spent");
    assert!(matches!(error, OpenError::Removed { .. }), "{error}");
    std::fs::remove_dir_all(cluster.directory(old)).expect("wiped");
    let again = cluster.join(old).await;
    assert_eq!(leader.add(None, &again.peer_address()).await, Err(MembershipError::IdSpent { id: old }));
    leader.propose(tick(), soon()).await.expect("the rest goes on");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wiped_node_is_refused_under_its_old_id_and_replaced_under_a_new_one() {
    let mut cluster = Cluster::formed(3, RaftOptions::test()).await;
    let leader = cluster.leader().await;
    let wiped = cluster.follower().await.id();
    let job = submitted(&leader.propose(submit(10), soon()).await.expect("commits"));
    cluster.halt(wiped).await;
    std::fs::remove_dir_all(cluster.directory(wiped)).expect("wiped");
    cluster.restart(wiped).await;
    let empty = cluster.node(wiped).clone();
    empty.seek_cluster(true);
    until("it notices", async || matches!(*empty.stopped().borrow(), Some(StopReason::Wiped(_)))).await;
    let StopReason::Wiped(message) = empty.stopped().borrow().clone().expect("just seen") else { panic!("just seen") };
    assert!(message.contains("raftq cluster replace"), "{message}");
    drop(empty);
    cluster.halt(wiped).await;
    let new = cluster.join(4).await;
    assert_eq!(leader.replace(wiped, None, &new.peer_address(), soon()).await, Ok(4));
    let view = new.view(Consistency::Linearizable, 0, soon()).await.expect("reads");
    assert!(view.look(|reading| live_jobs(reading.rows())).contains(&job));
    let members: BTreeSet<_> = leader.status().members.iter().map(|member| member.id).collect();
    assert_eq!(members, (1..=4).filter(|&id| id != wiped).collect());
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_wiped_node_refuses_to_start() {
    for lost in ["log", "state"] {
        let mut cluster = Cluster::formed(3, RaftOptions::test()).await;
        let victim = cluster.follower().await.id();
        cluster.halt(victim).await;
        std::fs::remove_dir_all(cluster.directory(victim).join(lost)).expect("half wiped");
        let error = cluster.open(victim).await.err().expect("half of it is gone");
        assert!(matches!(error, OpenError::Storage(StorageError::HalfMissing { .. })), "{error}");
        cluster.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn question_not_meant_for_this_disk_is_refused() {
    let cluster = Cluster::formed(3, RaftOptions::test()).await;
    let pristine = Cluster::started(1, RaftOptions::test()).await;
    let id = cluster.node(1).cluster();
    let disk = cluster.leader().await.member(1).expect("a member").disk;
    let of = |to: u64, cluster, disk| Envelope { protocol: PROTOCOL, cluster, from: 2, to, disk: Some(disk) };
    let wrong = DiskId(7);
    let at = &cluster.founders[0].peer;
    assert_eq!(refusal(at, &of(2, id, disk)).await, PeerRefusal::OtherNode { id: 1 });
    assert_eq!(refusal(at, &of(1, id, wrong)).await, PeerRefusal::OtherDisk);
    assert_eq!(refusal(at, &of(1, None, disk)).await, PeerRefusal::OtherCluster);
    assert_eq!(
        refusal(at, &Envelope { protocol: 9, ..of(1, id, disk) }).await,
        PeerRefusal::Protocol { known: PROTOCOL }
    );
    let stranger = Envelope { from: 9, ..of(1, id, disk) };
    assert!(matches!(refusal(at, &stranger).await, PeerRefusal::NotMember { .. }));
    let fresh = pristine.node(1).own_disk();
    assert_eq!(refusal(&pristine.founders[0].peer, &of(1, id, fresh)).await, PeerRefusal::Pristine);
    pristine.shutdown().await;
    cluster.shutdown().await;
}

/// How a vote request in this envelope is refused.
async fn refusal(address: &str, envelope: &Envelope) -> PeerRefusal {
    let vote = openraft::raft::VoteRequest::<super::types::TypeConfig>::new(openraft::Vote::new(99, 2), None);
    let line = Peers::default().line(address, Purpose::Vote);
    let asked: Result<openraft::raft::VoteResponse<super::types::TypeConfig>, _> =
        line.call(Topic::Vote, envelope.clone(), &vote, Duration::from_secs(5)).await;
    match asked {
        Err(CallError::Refused { refusal, .. }) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}
