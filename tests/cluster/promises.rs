//! The twelve promises of the design, each with a test that tries to break it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    faults::{agree, client_without},
    harness::{Call, Client, Cluster, Held, Node, Oracle, World, stays},
};

const SOON: Duration = Duration::from_secs(20);

/// P1: an acknowledged write survives kill -9 of every node.
#[test]
fn promise_01_acknowledged_writes_survive_the_death_of_all_nodes() {
    let cluster = Cluster::start();
    let oracle = Oracle::new("q");
    for round in 1..=3 {
        under_load(&cluster, &oracle, || {
            stays("the cluster is loaded", Duration::from_millis(700), || true);
            cluster.kill_all();
        });
        cluster.heal();
        oracle.check(&cluster.client());
        assert!(!oracle.acknowledged().is_empty(), "nothing was acknowledged before round {round}: nothing was tested");
    }
}

/// P2: ids are unique, increasing, never reused, across failovers and restarts.
#[test]
fn promise_02_ids_rise_across_failovers() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.extend(world.submit_each(&vec![world.task(1); 5]));
        world.try_verb(ids[ids.len() - 1], "cancel", json!({})).ok();
        world.client.delete(&format!("/v1/jobs/{}", ids[ids.len() - 1])).ok();
        cluster.kill_leader();
        cluster.heal();
    }
    cluster.kill_all();
    cluster.heal();
    ids.push(world.submit(&world.task(1)));
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
}

/// P3: an op has at most one valid lease; lease numbers rise; a stale one changes nothing.
#[test]
fn promise_03_racing_claimers_never_share_an_op() {
    const JOBS: usize = 400;
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    world.submit_each(&vec![world.task(1); JOBS]);
    let grants: Mutex<Vec<Held>> = Mutex::default();
    thread::scope(|scope| {
        for worker in 0..4 {
            let (grants, cluster) = (&grants, &cluster);
            scope.spawn(move || {
                let world = World::new(cluster, "q");
                loop {
                    let body =
                        json!({"worker": {"id": format!("w{worker}"), "host": "h", "pid": 1}, "max": 3, "start": true});
                    let claimed = world.claim_with(body);
                    if claimed.is_empty() {
                        return;
                    }
                    grants.lock().expect("no claimer panics while it holds this").extend(claimed);
                }
            });
        }
        cluster.kill_leader();
    });
    let grants = grants.into_inner().expect("all claimers have ended");
    let jobs: BTreeSet<u64> = grants.iter().map(|held| held.job).collect();
    let leases: BTreeSet<u64> = grants.iter().map(|held| held.lease).collect();
    assert_eq!((grants.len(), jobs.len(), leases.len()), (JOBS, JOBS, JOBS), "a job or a lease was given twice");
    for held in grants.iter().step_by(20) {
        let stale = Held { lease: held.lease + 1_000_000, ..held.clone() };
        world.lease_refused(stale.item("finish", json!({"outcome": "success"})), "stale_lease");
        world.touch(held);
    }
}

/// P4: once a cancel is acknowledged as canceled, the job never starts.
#[test]
fn promise_04_canceled_jobs_never_start() {
    const JOBS: usize = 300;
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let ids = world.submit_each(&vec![world.task(1); JOBS]);
    let started: Mutex<BTreeSet<u64>> = Mutex::default();
    let canceled: Vec<u64> = thread::scope(|scope| {
        scope.spawn(|| {
            let world = World::new(&cluster, "q");
            while let Some(held) = world.claim() {
                if world.lease(held.item("start", json!({})))["ok"] == true {
                    started.lock().expect("only this thread adds").insert(held.job);
                }
            }
        });
        let canceler = scope.spawn(|| {
            let client = cluster.client();
            let cancel = |id: &&u64| {
                client.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).body["job"]["status"] == "canceled"
            };
            ids.iter().rev().filter(cancel).copied().collect()
        });
        cluster.kill_leader();
        canceler.join().expect("every cancel was answered")
    });
    assert!(!canceled.is_empty(), "nothing was canceled: nothing was tested");
    let started = started.into_inner().expect("the claimer has ended");
    for id in canceled {
        let job = world.job(id);
        assert_eq!((&job["status"], &job["attempts"]), (&json!("canceled"), &json!(0)), "{job}");
        assert!(!started.contains(&id), "job {id} was started after its cancel");
    }
}

/// P5: once drain is acknowledged, no later submission is accepted until undrain, on any node, through any failover.
#[test]
fn promise_05_drain_holds_through_failovers() {
    let cluster = Cluster::start();
    let client = cluster.client();
    client.put("/v1/drain", &json!({"drained": true})).ok();
    let refused = || {
        for node in cluster.nodes.iter().filter(|node| node.is_running()) {
            cluster.client_of(node).post("/v1/jobs", &json!({"queue": "q", "body": "x"})).refused(503, "drained");
        }
    };
    refused();
    for _ in 0..2 {
        cluster.kill_leader();
        refused();
        cluster.heal();
        refused();
    }
    client.put("/v1/drain", &json!({"drained": false})).ok();
    client.post("/v1/jobs", &json!({"queue": "q", "ops": [{"kind": "task"}]})).ok();
}

/// P6: reads are linearizable from any node; local ones say at which index they were taken.
#[test]
fn promise_06_every_node_reads_what_was_acknowledged() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let id = world.submit(&world.task(1));
    for priority in 1..=60 {
        world.verb(id, "priority", json!({"priority": priority}));
        for node in cluster.nodes.iter().filter(|node| node.is_running()) {
            let seen = cluster.client_of(node).get(&format!("/v1/jobs/{id}")).ok()["priority"].clone();
            assert_eq!(seen, priority, "node {} read the past", node.id);
        }
        if priority == 30 {
            cluster.kill_leader();
        }
    }
    let local = Call::get(&format!("/v1/jobs/{id}")).header("raftq-consistency", "local");
    assert!(world.client.call(local).index.is_some_and(|index| index.contains('.')));
}

/// P7: a write repeated under its key has one effect and gets its first answer again, across a leader change too.
#[test]
fn promise_07_repeated_key_has_one_effect() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let submit = Call::post("/v1/jobs", &world.task(1)).header("idempotency-key", "mine/0");
    let refused = Call::post("/v1/jobs", &json!({"queue": "q", "ops": []})).header("idempotency-key", "mine/1");
    let first = world.client.call(submit.clone()).ok();
    let refusal = world.client.call(refused.clone()).body;
    for node in &cluster.nodes {
        assert_eq!(cluster.client_of(node).call(submit.clone()).ok(), first);
    }
    cluster.kill_leader();
    assert_eq!(world.client.call(submit).ok(), first);
    assert_eq!(world.client.call(refused).body, refusal);
    let other = Call::post("/v1/jobs", &world.task(2)).header("idempotency-key", "mine/0");
    world.client.call(other).refused(409, "conflict");
    assert_eq!(world.client.list("queue=q").len(), 1);
}

/// P8: finished jobs stay readable, archived or not.
#[test]
fn promise_08_finished_jobs_stay_readable() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let ids = world.submit_each(&vec![world.task(1); 4]);
    ids.iter().for_each(|id| world.succeed(&world.take(), json!({"of": id})));
    ids[..2].iter().for_each(|id| drop(world.verb(*id, "archive", json!({}))));
    let read = || ids.iter().map(|id| world.job(*id)).collect::<Vec<_>>();
    let before = read();
    cluster.kill_leader();
    assert_eq!(read(), before);
    cluster.kill_all();
    cluster.heal();
    assert_eq!(read(), before);
    for (id, job) in ids.iter().zip(before) {
        assert_eq!(job["ops"][0]["result"]["of"], *id);
    }
}

/// P9: replicas at the same index hold the same state.
#[test]
fn promise_09_replicas_agree() {
    let cluster = Cluster::start();
    let oracle = Oracle::new("q");
    under_load(&cluster, &oracle, || {
        cluster.kill_leader();
        cluster.heal();
    });
    let world = World::new(&cluster, "others");
    world.submit_each(&vec![world.task(1); 20]);
    (0..20).for_each(|_| world.succeed(&world.take(), json!(null)));
    agree(&cluster, SOON);
}

/// P10: no lease and no delay fires early, not at a leader change and not after a stall.
#[test]
fn promise_10_nothing_fires_early() {
    const GRANTED: Duration = Duration::from_secs(4);
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let held_id = world.submit(&world.task(1));
    let began = Instant::now();
    let held = world.claim_with(json!({"start": true, "lease_ms": GRANTED.as_millis() as u64})).remove(0);
    let delayed = world.submit(&world.task_with(1, json!({"delay_ms": GRANTED.as_millis() as u64})));
    assert_eq!(held.job, held_id);

    // A stall, then a leader change, both within what was granted.
    cluster.nodes.iter().for_each(Node::pause);
    stays("nobody runs", Duration::from_millis(800), || true);
    cluster.nodes.iter().for_each(Node::resume);
    cluster.leader().kill();
    let mut fired = BTreeMap::new();
    while fired.len() < 2 {
        assert!(began.elapsed() < SOON * 2, "{fired:?}");
        for held in world.claim_with(json!({"wait_ms": 500})) {
            fired.insert(held.job, began.elapsed());
        }
    }
    for id in [held_id, delayed] {
        assert!(fired[&id] >= GRANTED, "job {id} came after {:?} and not {GRANTED:?}", fired[&id]);
    }
}

/// P11: a minority refuses within the deadline, with a typed error.
#[test]
fn promise_11_minority_answers_everything_in_time() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let id = world.submit(&world.task(1));
    let alone = cluster.leader();
    cluster.nodes.iter().filter(|node| node.id != alone.id).for_each(Node::pause);
    let calls = [
        Call::post("/v1/jobs", &world.task(1)),
        Call::post("/v1/claim", &world.claim_body(json!({"wait_ms": 60_000}))),
        Call::post(&format!("/v1/jobs/{id}/cancel"), &json!({})),
        Call::put("/v1/drain", &json!({"drained": true})),
        Call::get(&format!("/v1/jobs/{id}")),
        Call::get("/v1/jobs?queue=q"),
    ];
    for call in calls {
        let call = world.client.keyed(call).header("raftq-timeout-ms", "1500").within(Duration::from_secs(10));
        let began = Instant::now();
        let answer = world.client.once(&alone.api, &call).unwrap_or_else(|error| panic!("{call:?}: {error:?}"));
        let typed = ["no_leader", "outcome_unknown", "timeout"].contains(&answer.code());
        assert!(typed, "{call:?}: {} {}", answer.status, answer.text);
        assert!(began.elapsed() < Duration::from_secs(5), "{call:?} took {:?}", began.elapsed());
    }
    cluster.nodes.iter().filter(|node| node.id != alone.id).for_each(Node::resume);
    cluster.settle();
}

/// P12: a job whose master died is run again.
#[test]
fn promise_12_jobs_of_a_dead_master_run_again() {
    let cluster = Cluster::builder().pool_size(4).start();
    let world = World::new(&cluster, "q");
    let runs = cluster.directory().join("runs");
    let script = format!("echo $RAFTQ_JOB_ID >> {}; [ $RAFTQ_ATTEMPT -gt 1 ] || sleep 300", runs.display());
    let ids = world.submit_each(&vec![json!({"shell": script, "rerun_on_loss": true}); 4]);
    for id in &ids {
        world.wait_status(*id, "running");
    }
    let dead = cluster.kill_leader();
    let began = Instant::now();
    let client = client_without(&cluster, dead);
    for id in ids {
        let job = world.wait_status(id, "success");
        assert_eq!((&job["attempts"], &job["lost"]), (&json!(2), &json!(1)), "{job}");
    }
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!(client.list("queue=default&status=running"), Vec::<Value>::new());
}

/// Four clients submit, each job once, until `disturb` has ended.
fn under_load(cluster: &Cluster, oracle: &Oracle, disturb: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    let submit = |client: Client| {
        while !stop.load(Ordering::Relaxed) {
            oracle.submit(&client);
        }
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| submit(cluster.client()));
        }
        // The threads end also where `disturb` panics, or the scope would wait for them for ever.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(disturb));
        stop.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}
