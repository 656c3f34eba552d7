//! Scenarios 46 to 50: what happens to nodes, disks and majorities.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::harness::{Call, Client, Cluster, Node, Oracle, World, eventually};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn scenario_46_everything_is_as_before_after_all_nodes_stopped() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let success = world.submit(&world.task(2));
    world.succeed(&world.take(), json!({"kept": true}));
    world.succeed(&world.take(), json!(null));
    let buried = world.submit(&world.task(1));
    world.fail(&world.take(), "exit_nonzero");
    let running = world.submit(&world.task(1));
    let held = world.claim_with(json!({"start": true, "lease_ms": 60_000})).remove(0);
    let reserved = world.submit(&world.task(1));
    let waiting = world.claim().expect("the reserved one");
    let delayed = world.submit(&world.task_with(1, json!({"delay_ms": 3_600_000})));
    let queued = world.submit(&world.task_with(1, json!({"priority": -3, "name": "kept"})));
    let ids = [success, buried, running, reserved, delayed, queued];
    // The cluster clock stands still while nobody leads, so what it promises comes that much later by the wall.
    let job = |id: u64| {
        let mut job = world.job(id);
        let ready_at = job.as_object_mut().expect("a job").remove("ready_at");
        (job, ready_at.and_then(|at| at.as_u64()))
    };
    let before: Vec<_> = ids.iter().map(|id| job(*id)).collect();

    cluster.kill_all();
    cluster.heal();
    for (id, (before, ready_at)) in ids.iter().zip(before) {
        let (after, later) = job(*id);
        assert_eq!(after, before);
        assert!(later >= ready_at, "no delay is shorter than granted: {later:?}, {ready_at:?}");
    }
    world.touch(&held);
    world.start(&waiting);
    assert_eq!(world.submit(&world.task(1)), queued + 1, "ids go on where they were");
}

#[test]
fn scenario_46_orderly_stop_keeps_as_much() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let ids = world.submit_each(&vec![world.task(1); 50]);
    for node in &cluster.nodes {
        let status = node.terminate(SOON);
        assert!(status.success(), "node {} ended with {status}", node.id);
    }
    cluster.heal();
    assert_eq!(world.client.list("queue=q").len(), ids.len());
}

#[test]
fn scenario_47_follower_catches_up_by_snapshot_and_hashes_agree() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let behind = cluster.followers()[0];
    behind.kill();
    // 100 000 operations, in requests of a thousand, and more bytes than stay in the log behind a snapshot.
    let task = json!({"queue": world.queue, "kind": "task", "body": "x".repeat(1000)});
    let batch = vec![task; 1000];
    for _ in 0..100 {
        world.submit_each(&batch);
    }
    let leader = cluster.leader();
    cluster.client_of(leader).post("/v1/cluster/snapshot", &json!({})).ok();
    eventually("the leader's log is cut", SOON, || {
        (metric(&cluster, leader, "raftq_log_purged_index") > 0).then_some(())
    });
    behind.start();
    cluster.wait_ready(behind);
    eventually("it gets a snapshot", SOON, || behind.log().contains("snapshot received").then_some(()));
    agree(&cluster, SOON * 2);
    assert_eq!(cluster.client_of(behind).get("/v1/jobs/100000").ok()["status"], "queued");
}

#[test]
fn scenario_48_wiped_node_never_votes_and_is_replaced_under_a_new_id() {
    // The lowest founder: the one that would form a new cluster if it took an empty disk for a first start.
    const WIPED: u64 = 1;
    const FRESH: u64 = 4;
    let mut cluster = Cluster::start();
    let world = World::new(&cluster, "others");
    let oracle = Oracle::new("q");
    let acknowledged: Vec<u64> = (0..20).filter_map(|_| oracle.submit(&world.client)).collect();
    assert!(!acknowledged.is_empty());
    let wiped = cluster.node(WIPED);
    wiped.kill();
    wiped.wipe();
    wiped.start();
    eventually("the refusal names the command that helps", SOON, || {
        wiped.log().contains("cluster replace").then_some(())
    });

    // It has no vote: with another node down there is no majority, though two processes may run.
    let down = cluster.leader().id;
    assert_ne!(down, WIPED, "a wiped node leads");
    cluster.node(down).kill();
    for node in cluster.nodes.iter().filter(|node| node.id != down) {
        let call = world.client.keyed(Call::post("/v1/jobs", &world.task(1)).header("raftq-timeout-ms", "2000"));
        let answer = world.client.once(&node.api, &call);
        assert!(answer.as_ref().map_or(true, |answer| answer.status >= 300), "a wiped node voted: {answer:?}");
    }
    cluster.node(down).start();
    cluster.wait_ready(cluster.node(down));
    oracle.check(&world.client);

    wiped.kill();
    drop(world);
    cluster.recruit(FRESH, WIPED);
    let fresh = cluster.node(FRESH);
    fresh.start();
    let healthy = || Some(cluster.client().once(&fresh.api, &Call::get("/healthz")).ok()?.status).filter(|s| *s == 200);
    eventually("the fresh node can be reached", SOON, healthy);
    let member = json!({"id": FRESH, "api": fresh.api, "peer": fresh.peer, "replaces": WIPED});
    cluster.client().call(Call::post("/v1/cluster/members", &member).within(SOON)).ok();
    cluster.wait_ready(fresh);
    cluster.node(down).kill();
    let world = World::new(&cluster, "others");
    world.submit(&world.task(1));
    oracle.check(&world.client);
}

#[test]
fn scenario_48_half_wiped_node_refuses_to_start() {
    for store in ["log", "state"] {
        let cluster = Cluster::start();
        let wipe = |data_dir: &Path| fs::remove_dir_all(data_dir.join(store)).expect("the store is there");
        let node = cluster.spoil_one(wipe);
        assert!(node.log().contains("cluster replace"), "it does not say what to do");
    }
}

#[test]
fn scenario_49_minority_refuses_within_the_deadline_and_reads_locally() {
    alone_refuses(|cluster| cluster.leader().id);
    alone_refuses(|cluster| cluster.followers()[0].id);
}

fn alone_refuses(survivor: impl Fn(&Cluster) -> u64) {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let id = world.submit(&world.task(1));
    eventually("all nodes have it", SOON, || {
        let has =
            |node: &Node| cluster.client_of(node).once(&node.api, &local(id)).is_ok_and(|answer| answer.status == 200);
        cluster.nodes.iter().all(has).then_some(())
    });
    let alone = cluster.node(survivor(&cluster));
    cluster.nodes.iter().filter(|node| node.id != alone.id).for_each(Node::kill);

    let client = cluster.client_of(alone);
    for (call, codes) in [
        (Call::post("/v1/jobs", &world.task(1)), ["no_leader", "outcome_unknown"]),
        (Call::get(&format!("/v1/jobs/{id}")), ["no_leader", "timeout"]),
    ] {
        let call = client.keyed(call).header("raftq-timeout-ms", "1500").within(Duration::from_secs(10));
        // A follower still sends to the leader that has just died, until it misses it.
        let (answer, took) = eventually("an answer of its own", SOON, || {
            let began = Instant::now();
            let answer = client.once(&alone.api, &call).expect("a minority answers");
            (answer.status != 307).then(|| (answer, began.elapsed()))
        });
        assert!(codes.contains(&answer.code()), "{} {}", answer.status, answer.text);
        assert!(took < Duration::from_secs(4), "{took:?} is long after the deadline");
    }
    let answer = client.once(&alone.api, &local(id)).expect("a local read");
    assert_eq!(answer.body["id"], id);
    assert!(answer.index.is_some(), "a local read says at which index it was taken");
}

#[test]
fn scenario_50_rolling_restart_under_load_fails_nothing() {
    let cluster = Cluster::start();
    let oracle = Oracle::new("q");
    let stop = AtomicBool::new(false);
    let world = World::new(&cluster, "q");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let client = cluster.client();
                while !stop.load(Ordering::Relaxed) {
                    oracle.submit(&client);
                }
            });
        }
        let long = world.submit(&json!({"sleep": 3}));
        for node in &cluster.nodes {
            assert!(node.terminate(SOON).success());
            node.start();
            cluster.settle();
        }
        let job = world.wait_status(long, "success");
        assert_eq!((&job["lost"], &job["attempts"]), (&json!(0), &json!(1)), "a long job was not waited for");
        stop.store(true, Ordering::Relaxed);
    });
    oracle.check(&world.client);
    agree(&cluster, SOON);
}

/// Waits until all nodes tell the same state hash at the same index (P9).
pub fn agree(cluster: &Cluster, limit: Duration) {
    eventually("all nodes tell one hash at one index", limit, || {
        let hashes: Vec<Value> = cluster.nodes.iter().map(|node| cluster.status(node)["hash"].clone()).collect();
        let same_index = hashes.iter().all(|hash| hash["index"] == hashes[0]["index"] && !hash["index"].is_null());
        if same_index {
            assert!(hashes.iter().all(|hash| hash == &hashes[0]), "replicas differ: {hashes:?}");
        }
        same_index.then_some(())
    });
}

/// A number that a node tells of itself; 0 while it does not answer.
pub fn metric(cluster: &Cluster, node: &Node, name: &str) -> usize {
    let told = cluster.client_of(node).once(&node.api, &Call::get("/metrics"));
    let text = told.map_or(String::new(), |answer| answer.text);
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0)
}

fn local(id: u64) -> Call {
    Call::get(&format!("/v1/jobs/{id}")).header("raftq-consistency", "local")
}

/// A client of every node but one.
pub fn client_without(cluster: &Cluster, id: u64) -> Client {
    Client::new(cluster.nodes.iter().filter(|node| node.id != id).map(|node| node.api.clone()).collect())
}
