//! Scenarios 16 to 20: leases, their holders, and what happens when either is gone.

use std::{fs, path::Path, time::Duration};

use serde_json::{Value, json};

use crate::harness::{Cluster, Fault, Process, World, eventually, scenario, stays};

const EVERY_VERB: [&str; 5] = ["start", "touch", "finish", "release", "bury"];

#[test]
fn scenario_16_made_up_lease_is_refused_and_changes_nothing() {
    scenario(|world| {
        let id = world.submit(&world.task(1));
        for verb in EVERY_VERB {
            world.lease_refused(made_up(id, verb), "not_claimed");
        }
        assert_eq!(world.status(id), "queued");

        let held = world.take();
        let version = world.job(id)["version"].clone();
        for verb in EVERY_VERB {
            let error = world.lease_refused(made_up(id, verb), "stale_lease");
            assert_eq!(error["details"]["owner"], "tester", "{error}");
        }
        assert_eq!((world.status(id), &world.job(id)["version"]), ("running".into(), &version));

        let finish = held.item("finish", json!({"outcome": "success", "result": 1}));
        world.lease_ok(finish.clone());
        world.lease_ok(finish);
        world.lease_refused(made_up(id, "finish"), "not_claimed");
    });
}

/// Each part of a request stands for itself, in its order: it sees what those before it have done.
#[test]
fn many_calls_in_one_request_are_answered_each_for_itself() {
    scenario(|world| {
        let ids = world.submit_each(&vec![world.task(1); 4]);
        let held = world.claim_with(json!({"max": 4}));
        let [first, second, third, fourth] = &held[..] else { panic!("four were there: {held:?}") };
        let line = json!({"log": [{"text": "half"}], "log_seq": 1, "progress": 0.5});
        let success = json!({"outcome": "success", "result": 3});
        let calls = [
            (first.item("start", json!({"host": "h", "pid": 7})), "ok"),
            (first.item("start", json!({})), "ok"),
            (first.item("touch", line.clone()), "ok"),
            (first.item("touch", line), "ok"),
            (second.item("touch", json!({})), "ok"),
            (made_up(second.job, "touch"), "stale_lease"),
            (third.item("finish", success.clone()), "ok"),
            (third.item("finish", success.clone()), "ok"),
            (third.item("touch", json!({})), "not_claimed"),
            (third.item("finish", json!({"outcome": "failure", "fail_reason": "late"})), "not_claimed"),
            (fourth.item("release", json!({})), "ok"),
            (fourth.item("release", json!({})), "ok"),
            (fourth.item("start", json!({})), "not_claimed"),
            (json!({"job": 1_000_000, "lease": 1, "do": "touch"}), "not_found"),
            (second.item("finish", success), "ok"),
        ];
        let items: Vec<&Value> = calls.iter().map(|(item, _)| item).collect();
        let answer = world.post("/v1/leases", &json!({"items": items, "claim": world.claim_body(json!({}))})).ok();
        let results = answer["results"].as_array().expect("a result for each");
        assert_eq!(results.len(), calls.len(), "{answer}");
        for ((item, expected), result) in calls.iter().zip(results) {
            let code = result["error"]["code"].as_str().unwrap_or("ok");
            assert_eq!((code, result["ok"] == true), (*expected, *expected == "ok"), "{item} gave {result}");
        }
        // The claim comes after them, so it finds what was released.
        assert_eq!(answer["jobs"][0]["job"]["id"], fourth.job, "{answer}");
        let statuses: Vec<String> = ids.iter().map(|id| world.status(*id)).collect();
        assert_eq!(statuses, ["running", "success", "success", "reserved"]);
        let (running, log) = (world.job(first.job), world.get(&format!("/v1/jobs/{}/log", first.job)).ok());
        assert_eq!((&running["ops"][0]["host"], &running["ops"][0]["pid"]), (&json!("h"), &json!(7)), "{running}");
        assert_eq!((&running["attempts"], log["log"].as_array().map(Vec::len)), (&json!(1), Some(1)), "{log}");
        world.succeed(first, json!(1));
    });
}

#[test]
fn attempts_of_a_worker_that_does_not_say_where_it_is_name_no_place() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let id = world.submit(&world.task_with(1, json!({"retries": 1})));
    let held = world.claim_with(json!({"worker": {"id": "shy"}, "start": true})).pop().expect("there is one");
    let op = world.job(id)["ops"][0].clone();
    assert_eq!((&op["worker"], &op["host"], &op["pid"]), (&json!("shy"), &Value::Null, &Value::Null), "{op}");
    world.fail(&held, "some");
    let attempt = world.job(id)["ops"][0]["history"][0].clone();
    assert_eq!((&attempt["host"], &attempt["pid"]), (&Value::Null, &Value::Null), "{attempt}");
}

#[test]
fn scenario_17_silent_holder_loses_the_job_to_the_next() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    for second in ["other", "tester"] {
        let id = world.submit(&world.task(1));
        let silent = claim_as(&world, "tester", json!({"lease_ms": 100, "start": true}));
        let next = claim_as(&world, second, json!({"wait_ms": 3000, "start": true}));
        assert_eq!((silent.job, silent.lease_ms, next.job), (id, 100, id));
        assert!(next.lease > silent.lease, "lease numbers rise");
        for verb in EVERY_VERB {
            let finish = silent.item(verb, outcome(verb));
            world.lease_refused(finish, "stale_lease");
        }
        assert_eq!(world.status(id), "running");
        world.succeed(&next, json!("by the second"));
        let job = world.job(id);
        assert_eq!((&job["status"], &job["ops"][0]["result"]), (&json!("success"), &json!("by the second")));
    }
}

#[test]
fn scenario_18_leases_last_through_a_leader_change() {
    const LEASES: usize = 1000;
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    world.submit_each(&vec![world.task(1); LEASES]);
    let held = world.claim_with(json!({"max": LEASES, "start": true, "lease_ms": 30_000}));
    assert_eq!(held.len(), LEASES);
    world.submit(&world.task(1));
    let dead = claim_as(&world, "dead", json!({"start": true, "lease_ms": 2000}));

    cluster.kill_leader();
    let touches: Vec<Value> = held.iter().map(|held| held.item("touch", json!({}))).collect();
    let answer = world.post("/v1/leases", &json!({"items": touches})).ok();
    let refused: Vec<&Value> =
        answer["results"].as_array().expect("results").iter().filter(|r| r["ok"] != true).collect();
    assert!(refused.is_empty(), "{} of {LEASES} leases ended early, such as {}", refused.len(), refused[0]);
    assert_eq!(world.wait_status(dead.job, "queued")["lost"], 1, "a dead worker is noticed");
}

#[test]
fn scenario_18_leader_whose_wall_clock_jumps_ends_no_lease() {
    const LEASES: usize = 1000;
    const YEAR_S: u64 = 365 * 24 * 3600;
    let Some(cluster) = Cluster::failing() else { return };
    let world = World::new(&cluster, "q");
    world.submit_each(&vec![world.task(1); LEASES]);
    let held = world.claim_with(json!({"max": LEASES, "start": true, "lease_ms": 20_000}));
    assert_eq!(held.len(), LEASES);
    let before = world.job(held[0].job)["received_at"].as_u64().expect("a time");
    world.submit(&world.task(1));
    let dead = claim_as(&world, "dead", json!({"start": true, "lease_ms": 1000}));

    cluster.leader().fail(Fault::ClockAhead(YEAR_S));
    let later = world.submit(&world.task(1));
    let after = world.job(later)["received_at"].as_u64().expect("a time");
    assert!(after > before + YEAR_S * 900, "the clock did not jump: {before}, {after}");
    let lost = world.wait_status(dead.job, "queued")["lost"].clone();
    assert_eq!(lost, 1, "a dead worker is noticed");
    let touches: Vec<Value> = held.iter().map(|held| held.item("touch", json!({}))).collect();
    let answer = world.post("/v1/leases", &json!({"items": touches})).ok();
    let results = answer["results"].as_array().expect("results");
    assert!(results.iter().all(|result| result["ok"] == true), "a lease ended early: {answer}");
}

#[test]
fn scenario_19_worker_that_was_stopped_past_its_lease_kills_its_command() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "remote");
    let pids = cluster.directory().join("pids");
    let worker = Process::start(&cluster, "worker", &["worker", "--queue", "remote", "--slots", "1", "--lease", "1s"]);
    let script = format!("echo $$ >> {}; sleep 300", pids.display());
    let id = world.submit(&json!({"queue": "remote", "shell": script}));
    let pid = eventually("the worker runs the command", Duration::from_secs(20), || lines(&pids).pop());

    worker.pause();
    let held = claim_as(&world, "tester", json!({"wait_ms": 10_000, "start": true}));
    assert_eq!(held.job, id);
    worker.resume();
    eventually("the command is dead", Duration::from_secs(10), || (!is_alive(&pid)).then_some(()));
    stays("the report of the late worker changes nothing", Duration::from_millis(500), || {
        world.status(id) == "running"
    });
    world.succeed(&held, json!(null));
    assert_eq!(world.job(id)["lost"], 1);
}

#[test]
fn scenario_20_frozen_leader_acknowledges_nothing_and_its_commands_are_dead_before_the_next_run() {
    let cluster = Cluster::builder().pool_size(2).start();
    let world = World::new(&cluster, "q");
    let directory = cluster.directory().display();
    // Each run looks first whether anything of an earlier run is alive, then leaves processes of its own: the shell, a
    // pipeline, and a child that left the process group.
    let script = format!(
        "cd {directory}; for pid in $(cat pids 2>/dev/null); do grep -qs '^State:.[^ZX]' /proc/$pid/status && echo $pid >> overlap; done; \
         (sleep 300 | cat) & setsid sleep 300 & sleep 300 & echo $$ $(jobs -p) >> pids; echo $RAFTQ_LEASE >> leases; \
         if [ $RAFTQ_ATTEMPT -gt 1 ]; then exit 0; fi; sleep 300"
    );
    let id = world.submit(&json!({"shell": script, "lost_limit": 10}));
    world.wait_status(id, "running");
    eventually("the command runs", Duration::from_secs(10), || lines(&cluster.directory().join("leases")).pop());

    let frozen = cluster.leader();
    frozen.pause();
    let others: Vec<_> =
        cluster.nodes.iter().filter(|node| node.id != frozen.id).map(|node| node.api.clone()).collect();
    let client = crate::harness::Client::new(others);
    let done = eventually("the next leader runs the job again", Duration::from_secs(20), || {
        let job = client.get(&format!("/v1/jobs/{id}")).ok();
        (job["status"] == "success").then_some(job)
    });
    frozen.resume();
    assert_eq!(done["lost"], 1, "{done}");
    assert_eq!(lines(&cluster.directory().join("overlap")), Vec::<String>::new(), "two runs overlapped");
    cluster.settle();
    stays("the old leader changes nothing", Duration::from_secs(1), || world.status(id) == "success");
    assert_eq!(lines(&cluster.directory().join("leases")).len(), 2);
}

fn made_up(job: u64, verb: &str) -> Value {
    let mut item = outcome(verb);
    let fields = item.as_object_mut().expect("an object");
    fields.extend([("job".into(), json!(job)), ("lease".into(), json!(999_999_999)), ("do".into(), json!(verb))]);
    item
}

fn outcome(verb: &str) -> Value {
    if verb == "finish" { json!({"outcome": "success"}) } else { json!({}) }
}

#[track_caller]
fn claim_as(world: &World, worker: &str, more: Value) -> crate::harness::Held {
    let mut body = json!({"worker": {"id": worker, "host": "localhost", "pid": 1}});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    world.claim_with(body).pop().expect("there is something to claim")
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// A zombie is dead; its parent has only not looked yet.
pub fn is_alive(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let state = status.lines().find_map(|line| line.strip_prefix("State:"));
    state.is_some_and(|state| !state.trim_start().starts_with(['Z', 'X']))
}
