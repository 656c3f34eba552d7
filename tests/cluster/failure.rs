//! Scenarios 21 to 28: failure, retry, bury.

use std::{fs, time::Duration};

use serde_json::{Value, json};

use crate::harness::{Cluster, Process, World, eventually, scenario};

/// A command's parent is the supervisor, whose parent is the node or worker.
const KILL_THE_WORKER: &str = "kill -9 $(sed -n 's/^PPid:[[:space:]]*//p' /proc/$PPID/status)";

#[test]
fn scenario_21_retries_then_buried_and_scenario_26_kicked() {
    scenario(|world| {
        let backoff = json!({"base_ms": 100, "cap_ms": 200});
        let id = world.submit(&world.task_with(1, json!({"retries": 2, "backoff": backoff})));
        for (left, attempt, after) in [(2, 1, "delayed"), (1, 2, "delayed"), (0, 3, "buried")] {
            assert_eq!(world.job(id)["retries_left"], left);
            let held = world.claim_with(json!({"start": true, "wait_ms": 5000})).pop().expect("the job comes back");
            world.fail(&held, "exit_nonzero");
            let job = world.job(id);
            assert_eq!(job["attempts"], attempt);
            // A back-off of a tenth of a second may be over by the time that a new leader is asked.
            if !(world.is_disturbed() && job["status"] == "queued") {
                assert_eq!(job["status"], after);
            }
        }
        world.verb(id, "kick", json!({}));
        let job = world.job(id);
        assert_eq!((&job["status"], &job["attempts"], &job["retries_left"]), (&json!("queued"), &json!(3), &json!(2)));
        let second = world.try_verb(id, "kick", json!({}));
        assert_eq!(world.job(id)["version"], job["version"], "a second kick of a queued job did something: {second:?}");
        world.succeed(&world.take(), json!(null));
    });
}

#[test]
fn scenario_22_release_uses_no_retry() {
    scenario(|world| {
        let id = world.submit(&world.task_with(1, json!({"retries": 2})));
        for _ in 0..10 {
            world.release(&world.claim().expect("it comes back at once"));
        }
        let job = world.job(id);
        assert_eq!((&job["status"], &job["retries_left"], &job["attempts"]), (&json!("queued"), &json!(2), &json!(0)));
    });
}

#[test]
fn scenario_23_exit_codes_that_will_not_change_bury_at_once() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    for (command, code, reason) in [
        ("exit 126", 126, "not_executable"),
        ("exit 127", 127, "not_found"),
        ("exit 128", 128, "invalid_exit"),
        ("true | false | true", 1, "exit_nonzero"),
    ] {
        let retries = if reason == "exit_nonzero" { 0 } else { 5 };
        let id = world.submit(&json!({"shell": command, "retries": retries}));
        let job = world.wait_status(id, "buried");
        let attempt = last_attempt(&job);
        assert_eq!(
            (&attempt["fail_reason"], &attempt["exit_code"]),
            (&json!(reason), &json!(code)),
            "{command}: {job}"
        );
        assert_eq!(job["attempts"], 1, "{command}");
    }
}

#[test]
fn scenario_24_missing_directory_buries_without_an_attempt() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let missing = cluster.directory().join("missing");
    let id = world.submit(&json!({"argv": ["true"], "cwd": missing, "retries": 5}));
    let job = world.wait_status(id, "buried");
    assert_eq!(job["attempts"], 0);
    assert!(job.to_string().contains("cwd_missing"), "{job}");
}

#[test]
fn scenario_25_job_that_loses_its_workers_is_buried_after_the_limit() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let deadly = world.submit(&world.task_with(1, json!({"lost_limit": 3, "retries": 7})));
    let innocent = world.submit(&world.task(1));
    for lost in 0..4 {
        let held =
            world.claim_with(json!({"start": true, "lease_ms": 100, "wait_ms": 5000})).pop().expect("it comes back");
        assert_eq!((held.job, world.job(deadly)["attempts"].clone()), (deadly, json!(lost + 1)));
        eventually("the loss is noticed", Duration::from_secs(10), || {
            (world.job(deadly)["lost"] == lost + 1).then_some(())
        });
    }
    let job = world.job(deadly);
    assert_eq!((&job["status"], &job["attempts"], &job["retries_left"]), (&json!("buried"), &json!(4), &json!(7)));
    assert!(job.to_string().contains("lost_contact"), "{job}");
    assert_eq!(world.take().job, innocent, "other jobs are unharmed");
}

#[test]
fn scenario_25_command_that_kills_the_master_each_time_is_buried_and_the_rest_goes_on() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let runs = cluster.directory().join("runs");
    let script = format!("echo run >> {}; {KILL_THE_WORKER}; sleep 300", runs.display());
    let deadly = world.submit(&json!({"shell": script, "lost_limit": 3}));
    let innocent = world.submit(&json!({"shell": "echo done", "priority": 1, "keep_output": true}));
    let job = eventually("it is buried", Duration::from_secs(90), || {
        for node in cluster.nodes.iter().filter(|node| node.exited().is_some()) {
            node.wait_exit(Duration::ZERO);
            node.start();
        }
        let job = world.job(deadly);
        (job["status"] == "buried").then_some(job)
    });
    assert_eq!((&job["lost"], &job["attempts"]), (&json!(4), &json!(4)), "{job}");
    assert!(job.to_string().contains("lost_contact"), "{job}");
    assert_eq!(fs::read_to_string(runs).expect("it ran").lines().count(), 4);
    world.wait_status(innocent, "success");
}

#[test]
fn scenario_25_command_that_kills_its_remote_worker_each_time_is_buried() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "remote");
    let deadly =
        world.submit(&json!({"queue": "remote", "shell": format!("{KILL_THE_WORKER}; sleep 300"), "lost_limit": 3}));
    let innocent = world.submit(&json!({"queue": "remote", "shell": "true", "priority": 1}));
    for lost in 1..=4 {
        let arguments = ["worker", "--queue", "remote", "--slots", "1", "--lease", "1s"];
        let _worker = Process::start(&cluster, &format!("worker{lost}"), &arguments);
        eventually("the loss is noticed", Duration::from_secs(20), || {
            (world.job(deadly)["lost"] == lost).then_some(())
        });
    }
    let job = world.wait_status(deadly, "buried");
    assert_eq!(job["attempts"], 4);
    assert!(job.to_string().contains("lost_contact"), "{job}");
    let _worker = Process::start(&cluster, "worker", &["worker", "--queue", "remote", "--slots", "1"]);
    world.wait_status(innocent, "success");
}

#[test]
fn scenario_27_long_output_keeps_head_and_tail() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let script = "for n in $(seq 60); do for i in $(seq 130); do printf %s $n; done; echo p; done; exit 1";
    let id = world.submit(&json!({"shell": script}));
    let job = world.wait_status(id, "buried");
    let whole: String = (1..=60).map(|n| n.to_string().repeat(130) + "p\n").collect();
    assert_eq!(whole.len(), 14_550);
    let expected = format!("{}\n... omitting 6358 bytes ...\n{}", &whole[..4096], &whole[whole.len() - 4096..]);
    assert_eq!(last_attempt(&job)["stdout"], expected);
}

#[test]
fn scenario_28_job_that_must_not_rerun_starts_once_though_its_leader_dies() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let starts = cluster.directory().join("starts");
    for (on_failure, ends) in [("bury", "buried"), ("error", "error")] {
        fs::write(&starts, "").expect("writable");
        let script = format!("echo started >> {}; sleep 300", starts.display());
        let spec = json!({"shell": script, "rerun_on_loss": false, "retries": 3, "on_failure": on_failure});
        let id = world.submit(&spec);
        eventually("the command runs", Duration::from_secs(10), || {
            (!fs::read_to_string(&starts).expect("readable").is_empty()).then_some(())
        });
        cluster.kill_leader();
        let job = world.wait_status(id, ends);
        assert!(job.to_string().contains("lost_contact"), "{job}");
        assert_eq!(fs::read_to_string(&starts).expect("readable"), "started\n");
        cluster.heal();
    }
}

/// What the newest attempt of the first op left behind.
#[track_caller]
pub fn last_attempt(job: &Value) -> Value {
    let attempts = job["ops"][0]["history"].as_array().unwrap_or_else(|| panic!("no attempts in {job}"));
    attempts.last().unwrap_or_else(|| panic!("no attempt in {job}")).clone()
}

/// The command dies a moment after it has written them.
#[test]
fn checkpoint_and_progress_of_the_last_moment_are_kept() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let line =
        "cat $RAFTQ_CHECKPOINT_FILE && exit; echo '::raftq progress 0.4 half'; echo 7 > $RAFTQ_CHECKPOINT_FILE; exit 1";
    let backoff = json!({"base_ms": 100, "cap_ms": 100});
    let id = world.submit(&json!({"shell": line, "retries": 1, "backoff": backoff}));
    let job = world.wait_status(id, "success");
    assert_eq!(last_attempt(&job)["stdout"], "7\n", "{job}");
    assert_eq!(job["progress"], json!({"fraction": 0.4, "text": "half"}));
}
