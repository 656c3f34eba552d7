//! Scenarios 40, 43 and 44: drain, the pool, waiting.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    faults::metric,
    harness::{Call, Cluster, Process, World, eventually, stays},
};

#[test]
fn scenario_40_drained_cluster_takes_no_submission_and_ends_what_it_has() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let ids = world.submit_each(&vec![world.task(1); 4]);
    let drained = world.put("/v1/drain", &json!({"drained": true, "reason": "move"})).ok();
    assert_eq!((&drained["drained"], &drained["reason"]), (&json!(true), &json!("move")));
    world.put("/v1/drain", &json!({"drained": true, "reason": "move"})).ok();

    let refused_everywhere = || {
        for node in cluster.nodes.iter().filter(|node| node.is_running()) {
            let client = cluster.client_of(node);
            client.post("/v1/jobs", &json!({"jobs": [world.task(1)]})).refused(503, "drained");
            client.post("/v1/jobs", &world.task(1)).refused(503, "drained");
        }
    };
    refused_everywhere();
    cluster.kill_leader();
    refused_everywhere();
    assert_eq!(world.get("/v1/drain").ok()["drained"], true);

    let held = world.take();
    let with_child = json!({"outcome": "success", "jobs": [world.task(1)]});
    let atomic = json!({"outcome": "success", "jobs": [world.task(1)], "atomic_children": true});
    assert_eq!(world.lease(held.item("finish", atomic))["ok"], false, "an atomic finish brought jobs along");
    world.lease_ok(held.item("finish", with_child));
    let job = world.job(held.job);
    assert_eq!(
        (&job["status"], &job["ops"][0]["result"]["jobs"][0][1]["code"]),
        (&json!("success"), &json!("drained"))
    );
    world.verb(ids[1], "cancel", json!({}));
    world.verb(ids[1], "archive", json!({}));

    for _ in 0..2 {
        assert_eq!(world.put("/v1/drain", &json!({"drained": false})).ok()["drained"], false);
    }
    world.submit(&world.task(1));
}

#[test]
fn drain_and_pause_wait_for_what_is_there_as_long_as_they_may() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let drain = |timeout| Process::output(&cluster, &["drain", "on", "--wait", "--timeout", timeout]).0;
    let running = world.submit(&json!({"queue": "default", "shell": "sleep 300"}));
    world.wait_status(running, "running");
    let pause = || Process::output(&cluster, &["pause", "default", "--wait", "--timeout", "1s"]).0;
    assert_eq!(pause(), Some(6), "a pause waits for what runs");
    let held = world.submit(&world.task(1));
    assert_eq!(drain("1s"), Some(6), "a job waits, and that is told in time");
    world.verb(running, "cancel", json!({"kill": true}));
    world.wait_status(running, "canceled");
    assert_eq!(pause(), Some(0));
    world.verb(held, "bury", json!({}));
    assert_eq!(drain("20s"), Some(0), "a buried one is waited for by nobody");
    world.client.post("/v1/jobs", &world.task(1)).refused(503, "drained");
}

#[test]
fn waits_say_of_jobs_that_nobody_runs() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "default");
    let id = world.submit(&world.task(1));
    for wait in [&["pool", "quiesce"][..], &["drain", "on", "--wait"]] {
        let (code, said) = Process::said(&cluster, &[wait, &["--timeout", "2s"]].concat());
        assert_eq!(code, Some(6), "{wait:?}: {said}");
        assert!(said.contains(&format!("job {id} waits: the pool takes no jobs of its queue and kind")), "{said}");
    }
    world.verb(id, "cancel", json!({}));
    let (code, said) = Process::said(&cluster, &["pool", "quiesce", "--timeout", "20s"]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
}

#[test]
fn scenario_43_pool_runs_what_it_is_sized_for() {
    let cluster = Cluster::builder().pool_size(3).start();
    let world = World::new(&cluster, "q");
    let sleeps = |count: usize| vec![json!({"sleep": 0.01}); count];
    for count in [10, 1, 1, 10] {
        for id in world.submit_each(&sleeps(count)) {
            world.wait_status(id, "success");
        }
    }

    world.put("/v1/pool", &json!({"size": 1})).ok();
    let ids = world.submit_each(&sleeps(99));
    world.wait_status(ids[98], "success");
    let starts: Vec<u64> = ids.iter().map(|id| world.job(*id)["started_at"].as_u64().expect("it ran")).collect();
    assert!(starts.is_sorted(), "a pool of one did not go in order");

    world.put("/v1/pool", &json!({"active": false})).ok();
    let ids = world.submit_each(&sleeps(15));
    stays("an inactive pool runs nothing", Duration::from_millis(500), || {
        world.client.list("queue=default&status=queued").len() == 15
    });
    world.put("/v1/pool", &json!({"active": true})).ok();
    for id in ids {
        world.wait_status(id, "success");
    }
}

#[test]
fn scenario_44_waiting_for_a_change_of_a_job() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let id = world.submit(&world.task(1));
    let version = world.job(id)["version"].clone();
    let wait = |timeout: u64| format!("/v1/jobs/{id}/wait?since={version}&timeout_ms={timeout}");

    let began = Instant::now();
    assert_eq!(world.get(&wait(100)).ok()["unchanged"], true);
    assert!(began.elapsed() >= Duration::from_millis(100), "answered before its time");
    assert_eq!(world.get(&wait(0)).ok()["unchanged"], true);

    // On every node a change ends the wait.
    for node in &cluster.nodes {
        let version = world.job(id)["version"].clone();
        let call = Call::get(&format!("/v1/jobs/{id}/wait?since={version}&timeout_ms=10000"));
        thread::scope(|scope| {
            let client = cluster.client_of(node);
            let waiting = scope.spawn(move || client.call(call.within(Duration::from_secs(15))).ok());
            stays("the wait waits", Duration::from_millis(200), || !waiting.is_finished());
            world.verb(id, "priority", json!({"priority": node.id}));
            let changed = waiting.join().expect("answered");
            assert_eq!(changed["job"]["priority"], node.id, "{changed}");
        });
    }

    world.succeed(&world.take(), json!(null));
    let version = world.job(id)["version"].clone();
    let answer = world.get(&format!("/v1/jobs/{id}/wait?since={version}&timeout_ms=10000")).ok();
    assert_eq!(answer["job"]["status"], "success", "a final job answers at once");
    world.get("/v1/jobs/987654321/wait?timeout_ms=100").refused(404, "not_found");
}

#[test]
fn scenario_44_many_waits_outlast_a_leader_change_and_all_hear_of_it() {
    const WAITS: usize = 400;
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let id = world.submit(&world.task(1));
    let version = world.job(id)["version"].clone();
    let path = format!("/v1/jobs/{id}/wait?since={version}&timeout_ms=60000");
    let waiting = || {
        let running = cluster.nodes.iter().filter(|node| node.is_running());
        running.map(|node| metric(&cluster, node, "raftq_waiting_for_jobs")).sum::<usize>()
    };
    thread::scope(|scope| {
        let wait = || {
            let call = Call::get(&path).header("raftq-timeout-ms", "60000").within(Duration::from_secs(60));
            cluster.client().call(call).ok()
        };
        let small = || thread::Builder::new().stack_size(256 << 10);
        let waits: Vec<_> =
            (0..WAITS).map(|_| small().spawn_scoped(scope, wait).expect("a thread can be started")).collect();
        eventually("all wait", Duration::from_secs(30), || (waiting() == WAITS).then_some(()));
        cluster.kill_leader();
        // Those of the dead node have come back to the others.
        eventually("all wait again", Duration::from_secs(30), || (waiting() == WAITS).then_some(()));
        world.verb(id, "priority", json!({"priority": -5}));
        for wait in waits {
            let answer = wait.join().expect("it was answered");
            assert_eq!(answer["job"]["priority"], -5, "{answer}");
        }
    });
}

#[test]
fn scenario_44_leader_change_during_the_wait_loses_no_log_line() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let id = world.submit(&world.task(1));
    let held = world.take();
    let mut seen: Vec<String> = Vec::new();
    for round in 0..4 {
        let lines = [format!("{round} a"), format!("{round} b")];
        let log: Vec<Value> = lines.iter().map(|text| json!({"type": "message", "text": text})).collect();
        world.lease_ok(held.item("touch", json!({"log": log, "log_seq": round * 2})));
        if round == 1 {
            cluster.kill_leader();
        }
        eventually("the lines are told", Duration::from_secs(20), || {
            let path = format!("/v1/jobs/{id}/wait?since=999999999999&log_serial={}&timeout_ms=1000", seen.len());
            let answer = world.get(&path).ok();
            let news = answer["log"].as_array().cloned().unwrap_or_default();
            seen.extend(news.iter().map(|line| line["text"].as_str().expect("a line has text").to_owned()));
            (seen.len() >= 2 * (round + 1)).then_some(())
        });
    }
    assert_eq!(seen, ["0 a", "0 b", "1 a", "1 b", "2 a", "2 b", "3 a", "3 b"]);
}
