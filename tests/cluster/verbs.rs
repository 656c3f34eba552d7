//! Scenarios 29 to 33, 38 and 39: cancel, priority, archive.

use std::{fs, path::Path, time::Duration};

use serde_json::{Value, json};

use crate::{
    harness::{Cluster, Fault, World, eventually, scenario},
    leases::is_alive,
};

#[test]
fn scenario_29_queued_job_is_canceled_for_good() {
    scenario(|world| {
        let id = world.submit(&world.task(5));
        world.verb(id, "cancel", json!({}));
        let job = world.job(id);
        assert_eq!(world.op_statuses(id), vec!["canceled"; 5]);
        assert!(job["started_at"].is_null() && job["ended_at"].is_u64(), "{job}");
        assert!(world.claim().is_none());
        assert_eq!(world.job(id)["version"], job["version"]);
    });
}

#[test]
fn scenario_30_reserved_op_is_canceled_at_once_and_never_starts() {
    scenario(|world| {
        let id = world.submit(&world.task(1));
        let held = world.claim().expect("the job");
        world.verb(id, "cancel", json!({}));
        assert_eq!(world.status(id), "canceled");
        assert_eq!(world.lease(held.item("start", json!({})))["ok"], false, "a canceled op was started");
        assert_eq!(world.status(id), "canceled");
    });
}

#[test]
fn scenario_31_running_op_is_canceled_only_on_request() {
    scenario(|world| {
        let id = world.submit(&world.task(3));
        let held = world.take();
        world.try_verb(id, "cancel", json!({})).refused(409, "not_cancelable");
        world.verb(id, "cancel", json!({"after_op": true}));
        world.succeed(&held, json!("done"));
        assert_eq!(world.op_statuses(id), ["success", "canceled", "canceled"]);

        let id = world.submit(&world.task(1));
        let held = world.take();
        world.verb(id, "cancel", json!({"kill": true}));
        assert_eq!(world.status(id), "canceling");
        assert_eq!(world.touch(&held)["cancel"], "term");
        world.verb(id, "cancel", json!({"kill": true}));
        assert_eq!(world.touch(&held)["cancel"], "kill");
        world.fail(&held, "killed");
        assert_eq!(world.status(id), "canceled");
    });
}

#[test]
fn scenario_31_kill_ends_the_whole_process_tree() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let pids = cluster.directory().join("pids");
    // A shell that ignores TERM, a pipeline, and a child in a session of its own.
    let script = format!(
        "trap '' TERM; (sleep 300 | cat) & setsid sleep 300 & echo $$ $! $(jobs -p) > {}; wait; sleep 300",
        pids.display()
    );
    let id = world.submit(&json!({"shell": script}));
    let pids = eventually("the command runs", Duration::from_secs(10), || words(&pids));
    world.verb(id, "cancel", json!({"kill": true}));
    world.verb(id, "cancel", json!({"kill": true}));
    world.wait_status(id, "canceled");
    let alive: Vec<_> = pids.iter().filter(|pid| is_alive(pid)).collect();
    assert!(alive.is_empty(), "{alive:?} outlived the cancel");
}

#[test]
fn scenario_32_cancel_of_what_is_over_or_unknown() {
    scenario(|world| {
        let id = world.submit(&world.task(1));
        world.succeed(&world.take(), json!(null));
        world.try_verb(id, "cancel", json!({})).refused(409, "finished");
        world.verb(id, "archive", json!({}));
        world.try_verb(id, "cancel", json!({})).refused(409, "finished");
        world.try_verb(987_654_321, "cancel", json!({})).refused(404, "not_found");
    });
}

#[test]
fn scenario_33_priority_changes_every_queued_op() {
    scenario(|world| {
        let id = world.submit(&world.task(4));
        world.verb(id, "priority", json!({"priority": -10}));
        let job = world.job(id);
        let priorities: Vec<&Value> = job["ops"].as_array().expect("ops").iter().map(|op| &op["priority"]).collect();
        assert_eq!(priorities, [&json!(-10); 4]);
        assert_eq!(job["priority"], -10);
    });
}

#[test]
fn scenario_38_only_final_jobs_are_archived_and_once() {
    scenario(|world| {
        let success = world.submit(&world.task(1));
        world.succeed(&world.take(), json!(null));
        let error = world.submit(&world.task_with(1, json!({"on_failure": "error"})));
        world.fail(&world.take(), "exit_nonzero");
        let canceled = world.submit(&world.task(1));
        world.verb(canceled, "cancel", json!({}));
        let running = world.submit(&world.task(1));
        world.take();
        let queued = world.submit(&world.task(1));

        for id in [success, error, canceled] {
            world.verb(id, "archive", json!({}));
            assert_eq!(world.job(id)["archived"], true, "archived jobs stay readable by id");
            let version = world.job(id)["version"].clone();
            let second = world.try_verb(id, "archive", json!({}));
            assert_eq!(world.job(id)["version"], version, "a second archive did something: {second:?}");
        }
        world.try_verb(running, "archive", json!({})).refused(409, "not_final");
        world.try_verb(queued, "archive", json!({})).refused(409, "not_final");
        world.try_verb(987_654_321, "archive", json!({})).refused(404, "not_found");

        let listed = |more: &str| -> Vec<u64> {
            let jobs = world.client.list(&format!("queue={}{more}", world.queue));
            jobs.iter().map(|job| job["id"].as_u64().expect("an id")).collect()
        };
        assert_eq!(listed(""), [running, queued]);
        let with_archived = listed("&archived=true");
        assert!([success, error, canceled].iter().all(|id| with_archived.contains(id)), "{with_archived:?}");
    });
}

/// The exact minute stands in the core's scripts; here with real clocks, that a jump takes to the ages of the scenario.
#[test]
fn scenario_39_autoarchive_of_a_minute_takes_only_what_is_older() {
    const APART_MS: u64 = 4000;
    let Some(cluster) = Cluster::failing() else { return };
    let world = World::new(&cluster, "q");
    let end_one = || {
        let id = world.submit(&world.task(1));
        world.succeed(&world.take(), json!(null));
        (id, world.job(id)["ended_at"].as_u64().expect("ended"))
    };
    let (old, old_end) = end_one();
    let (young, young_end) = eventually("the next ends some seconds later", Duration::from_secs(20), || {
        Some(end_one()).filter(|(_, end)| *end >= old_end + APART_MS)
    });
    let running = world.submit(&world.task(1));
    world.take();
    // The older one is then 62 s old or a little more, the younger one less than 60.
    let passed_s = (young_end - old_end).div_ceil(1000);
    cluster.nodes.iter().for_each(|node| node.fail(Fault::ClockAhead(62 - passed_s)));
    let answer = world.post("/v1/archive", &json!({"age_s": 60, "limit": 1000})).ok();
    assert_eq!(answer["left"], 0, "{answer}");
    let archived = |id: u64| world.job(id)["archived"] == true;
    assert_eq!((archived(old), archived(young), archived(running)), (true, false, false), "{answer}");
    world.post("/v1/archive", &json!({"age_s": "all"})).ok();
    assert_eq!((archived(young), archived(running)), (true, false));
}

#[test]
fn scenario_39_autoarchive_takes_what_ended_long_enough_ago() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let old = world.submit(&world.task(1));
    world.succeed(&world.take(), json!(null));
    let ended = world.job(old)["ended_at"].as_u64().expect("ended");
    // The wall clock as the cluster tells it, seen on jobs that end now.
    eventually("a second has passed", Duration::from_secs(10), || {
        let id = world.submit(&world.task(1));
        world.succeed(&world.take(), json!(null));
        (world.job(id)["ended_at"].as_u64()? > ended + 2100).then_some(())
    });
    let young = world.submit(&world.task(1));
    world.succeed(&world.take(), json!(null));
    let running = world.submit(&world.task(1));
    world.take();

    let answer = world.post("/v1/archive", &json!({"age_s": 1, "limit": 1000})).ok();
    assert!(answer["archived"].as_u64() >= Some(1) && answer["left"] == 0, "{answer}");
    assert_eq!((&world.job(old)["archived"], &world.job(young)["archived"]), (&json!(true), &json!(false)));

    let answer = world.post("/v1/archive", &json!({"age_s": "all"})).ok();
    assert_eq!(answer["left"], 0, "{answer}");
    assert_eq!((&world.job(young)["archived"], &world.job(running)["archived"]), (&json!(true), &json!(false)));
}

/// Process ids in a file, once it has some.
fn words(path: &Path) -> Option<Vec<String>> {
    let text = fs::read_to_string(path).ok().filter(|text| text.ends_with('\n'))?;
    Some(text.split_whitespace().map(str::to_owned).collect())
}
