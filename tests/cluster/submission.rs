//! Scenarios 1 to 8: submission, ids, order.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::harness::{Call, Client, Cluster, Process, World, scenario, stays};

#[test]
fn scenario_01_job_without_ops_is_invalid_and_uses_no_id() {
    scenario(|world| {
        let before = world.submit(&world.task(1));
        let refused = world.submit_all(&[json!({"queue": world.queue, "ops": []})]);
        assert_error(&refused[0], "invalid", "ops");
        assert_eq!(world.submit(&world.task(1)), before + 1);
    });
}

#[test]
fn scenario_02_empty_batch_gives_empty_results() {
    scenario(|world| assert_eq!(world.submit_all(&[]), Vec::<Value>::new()));
}

#[test]
fn scenario_03_bad_member_spares_the_batch_unless_atomic() {
    scenario(|world| {
        let batch = [world.task(1), world.task_with(1, json!({"lease_ms": 1})), world.task(1)];
        let results = world.submit_all(&batch);
        let first = results[0]["id"].as_u64().expect("the first is accepted");
        assert_error(&results[1], "invalid", "lease_ms");
        assert_eq!(results[2]["id"], first + 1);

        let refused = world.post("/v1/jobs", &json!({"jobs": batch, "atomic": true})).ok();
        assert_error(&refused["results"][0], "aborted", "");
        assert_error(&refused["results"][1], "invalid", "lease_ms");
        assert_error(&refused["results"][2], "aborted", "");
        assert_eq!(world.submit(&world.task(1)), first + 2, "an atomic batch that was refused used up ids");
    });
}

#[test]
fn scenario_04_ten_clients_through_a_leader_kill_lose_and_double_nothing() {
    const CLIENTS: usize = 10;
    const JOBS: usize = 20;
    let cluster = Cluster::start();
    let submitted = AtomicUsize::new(0);
    let submit = |client: usize| -> Vec<u64> {
        let http = cluster.client();
        let submit_one = |job: usize| {
            let name = format!("{client}-{job}");
            let spec = json!({"queue": "q", "name": name, "ops": [{"kind": "task"}]});
            let id = submit_one_of(&http, &spec);
            if submitted.fetch_add(1, Ordering::Relaxed) == CLIENTS * JOBS / 3 {
                cluster.leader().kill();
            }
            id
        };
        (0..JOBS).map(submit_one).collect()
    };
    let ids: Vec<Vec<u64>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || submit(client))).collect();
        threads.into_iter().map(|thread| thread.join().expect("every submission was answered")).collect()
    });

    for of_client in &ids {
        assert!(of_client.is_sorted_by(|a, b| a < b), "ids do not rise for one client: {of_client:?}");
    }
    let acknowledged: BTreeSet<u64> = ids.into_iter().flatten().collect();
    assert_eq!(acknowledged.len(), CLIENTS * JOBS, "an id was given twice");
    let listed = cluster.client().list("queue=q");
    let names: BTreeSet<&str> = listed.iter().filter_map(|job| job["name"].as_str()).collect();
    let listed: Vec<u64> = listed.iter().filter_map(|job| job["id"].as_u64()).collect();
    assert_eq!(names.len(), listed.len(), "a submission repeated under its key made two jobs");
    assert_eq!(acknowledged, listed.into_iter().collect());
}

#[test]
fn scenario_05_unique_keys_exist_once() {
    scenario(|world| {
        let key = |n: usize| world.task_with(1, json!({"unique": format!("{}-{n}", world.queue)}));
        let specs: Vec<Value> = (0..10).map(key).collect();
        let ids = world.submit_each(&specs);
        let again = world.submit_all(&specs);
        for (result, id) in again.iter().zip(&ids) {
            assert_eq!((&result["existed"], &result["id"]), (&json!(true), &json!(id)));
        }
        assert_eq!(world.client.list(&format!("queue={}", world.queue)).len(), 10);
    });
}

#[test]
fn scenario_05_unique_keys_added_at_once_from_three_nodes() {
    let cluster = Cluster::start();
    let specs: Vec<Value> =
        (0..500).map(|n| json!({"queue": "q", "unique": format!("key-{n}"), "ops": [{"kind": "task"}]})).collect();
    let submit = |client: Client| {
        let answer = client.post("/v1/jobs", &json!({"jobs": specs})).ok();
        answer["results"].as_array().expect("results").iter().filter(|result| result["existed"] == true).count()
    };
    let existed: Vec<usize> = thread::scope(|scope| {
        let start = |client| scope.spawn(|| submit(client));
        let threads: Vec<_> = cluster.nodes.iter().map(|node| start(cluster.client_of(node))).collect();
        threads.into_iter().map(|thread| thread.join().expect("answered")).collect()
    });
    assert_eq!(existed.iter().sum::<usize>(), 1000);
    assert_eq!(cluster.client().list("queue=q").len(), 500);
}

#[test]
fn scenario_06_claim_order_is_priority_then_submission() {
    scenario(|world| {
        let priority = |n: i64| match n {
            4 => -7,
            7 => -4,
            n => -n,
        };
        let spec = |n: i64| world.task_with(1, json!({"name": format!("c{n}"), "priority": priority(n)}));
        world.submit_each(&(0..10).map(spec).collect::<Vec<_>>());
        let claimed: Vec<String> = (0..10)
            .map(|_| world.claim().expect("ten jobs").raw["job"]["name"].as_str().expect("named").into())
            .collect();
        assert_eq!(claimed, ["c9", "c8", "c4", "c6", "c5", "c7", "c3", "c2", "c1", "c0"]);
        assert!(world.claim_with(json!({"wait_ms": 50})).is_empty());
    });
}

#[test]
fn scenario_07_equal_priorities_go_by_submission_and_keep_their_place() {
    scenario(|world| {
        let ids = world.submit_each(&vec![world.task(1); 1000]);
        let mut claimed = Vec::new();
        while claimed.len() < ids.len() {
            let some = world.claim_with(json!({"max": 100}));
            assert!(!some.is_empty(), "only {} of {} could be claimed", claimed.len(), ids.len());
            claimed.extend(some);
        }
        assert_eq!(claimed.iter().map(|held| held.job).collect::<Vec<_>>(), ids);
        world.release(&claimed[0]);
        assert_eq!(world.claim().expect("the released one").job, ids[0]);
    });
}

#[test]
fn scenario_08_waiting_claim_gets_the_job_that_comes() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let follower = cluster.followers()[0];
    for node in [cluster.leader(), follower] {
        let claim = Call::post("/v1/claim", &world.claim_body(json!({"wait_ms": 5000}))).within(Duration::from_secs(8));
        thread::scope(|scope| {
            let client = cluster.client_of(node);
            let waiting = scope.spawn(move || (client.call(claim).ok(), Instant::now()));
            stays("the claim waits", Duration::from_millis(200), || !waiting.is_finished());
            let id = world.submit(&world.task(1));
            let submitted = Instant::now();
            let (answer, answered) = waiting.join().expect("the claim was answered");
            assert_eq!(answer["jobs"][0]["job"]["id"], id);
            assert!(answered.saturating_duration_since(submitted) < Duration::from_secs(1), "not at once");
            assert!(world.claim().is_none(), "somebody else could claim it too");
        });
    }
}

fn submit_one_of(client: &Client, spec: &Value) -> u64 {
    let answer = client.post("/v1/jobs", spec).ok();
    answer["results"][0]["id"].as_u64().unwrap_or_else(|| panic!("refused: {answer}"))
}

/// The error of one member of a batch: its code, and the field that its text names.
#[track_caller]
fn assert_error(result: &Value, code: &str, field: &str) {
    assert_eq!((&result["ok"], &result["error"]["code"]), (&json!(false), &json!(code)), "{result}");
    assert!(result["error"].to_string().contains(field), "{result} does not name {field}");
}

#[test]
fn why_of_a_delayed_job_says_when_it_is_due() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let at_ms = 1_900_000_000_000u64;
    let [later, delayed] = [json!({"run_at_ms": at_ms}), json!({"delay_ms": 3_600_000})]
        .map(|when| world.submit(&world.task_with(1, when)));
    let job = world.job(delayed);
    let due = job["ready_at"].as_u64().unwrap_or_else(|| panic!("no time: {job}"));
    let received = job["received_at"].as_u64().expect("a time");
    assert!((received + 3_590_000..received + 3_610_000).contains(&due), "{job}");
    assert_eq!(world.get(&format!("/v1/jobs/{later}/why")).ok()["ready_at"], at_ms);
    let why = Process::output_with(&cluster, &[("TZ", "UTC")], &["why", &later.to_string()]).1;
    assert_eq!(why, "delayed: its time has not come; due 2030-03-17 17:46:40\n");
}
