//! Scenarios 9 to 15: how a job goes through its ops.

use std::{fs, time::Duration};

use serde_json::{Value, json};

use crate::harness::{Cluster, Process, World, eventually, scenario};

#[test]
fn scenario_09_status_follows_from_the_ops() {
    scenario(|world| {
        let job = || world.submit(&world.task(10));

        let id = job();
        assert_eq!(world.status(id), "queued");

        let held = world.claim().expect("the job");
        assert_eq!(world.status(id), "reserved");
        world.start(&held);
        world.succeed(&held, json!(0));
        let held = world.take();
        assert_eq!((held.op, world.status(id)), (1, "running".into()));
        world.succeed(&held, json!(1));
        let held = world.claim().expect("the third op");
        assert_eq!((held.op, world.status(id)), (2, "reserved".into()));
        world.start(&held);
        world.verb(id, "cancel", json!({"kill": true}));
        assert_eq!(world.status(id), "canceling");
        world.release(&held);
        assert_eq!(world.status(id), "canceled");

        let id = job();
        world.verb(id, "cancel", json!({}));
        assert_eq!((world.status(id), world.op_statuses(id)), ("canceled".into(), vec!["canceled".to_owned(); 10]));

        let id = job();
        (0..4).for_each(|op| world.succeed(&world.take(), json!(op)));
        world.fail(&world.take(), "exit_nonzero");
        assert_eq!(
            (world.status(id), &world.op_statuses(id)[3..5]),
            ("error".into(), &["success".into(), "error".into()][..])
        );

        let id = job();
        (0..10).for_each(|op| world.succeed(&world.take(), json!(op)));
        assert_eq!((world.status(id), world.op_statuses(id)), ("success".into(), vec!["success".to_owned(); 10]));
    });
}

#[test]
fn attempt_names_the_process_of_its_command() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let file = cluster.directory().join("pid");
    let id = world
        .submit(&json!({"shell": format!("echo $$ > {0}; while test -f {0}; do sleep 0.05; done", file.display())}));
    let running = eventually("the job says which process it is", Duration::from_secs(20), || {
        let pid: u64 = fs::read_to_string(&file).ok()?.trim().parse().ok()?;
        (world.job(id)["ops"][0]["pid"] == pid).then_some(pid)
    });
    fs::remove_file(&file).expect("it was read");
    let job = world.wait_status(id, "success");
    assert_eq!(job["ops"][0]["history"][0]["pid"], running, "{job}");

    let short = world.submit(&json!({"shell": "echo $$", "keep_output": true}));
    let job = world.wait_status(short, "success");
    let attempt = &job["ops"][0]["history"][0];
    assert_eq!(attempt["pid"].to_string(), attempt["stdout"].as_str().unwrap_or("").trim(), "{job}");
}

#[test]
fn scenario_10_ops_run_in_order_once_each() {
    scenario(|world| {
        for ops in [1, 3, 10, 100] {
            let id = world.submit(&world.task(ops));
            for op in 0..ops {
                let held = world.take();
                assert_eq!((held.job, held.op), (id, op as u64));
                world.succeed(&held, json!({"op": op}));
                if op == 0 && ops > 1 {
                    let job = world.job(id);
                    assert_eq!(job["status"], "queued");
                    assert!(job["started_at"].is_u64() && job["ended_at"].is_null(), "between two ops: {job}");
                }
            }
            assert!(world.claim().is_none(), "an op is run a second time");
            let job = world.job(id);
            assert_eq!(job["status"], "success");
            assert!(job["ended_at"].is_u64(), "ended without a time: {job}");
            assert_eq!(results(&job), (0..ops).map(|op| json!({"op": op})).collect::<Vec<_>>());
        }
    });
}

#[test]
fn scenario_11_failed_op_ends_the_later_ones_unstarted() {
    scenario(|world| {
        for (ops, failing) in [(1, 0), (5, 2), (10, 9)] {
            let id = world.submit(&world.task_with(ops, json!({"on_failure": "error"})));
            (0..failing).for_each(|op| world.succeed(&world.take(), json!(op)));
            world.fail(&world.take(), "exit_nonzero");
            assert!(world.claim().is_none(), "an op behind the failed one was started");

            let job = world.job(id);
            assert_eq!(job["status"], "error");
            for (index, op) in job["ops"].as_array().expect("ops").iter().enumerate() {
                let expected = if index < failing { "success" } else { "error" };
                assert_eq!(op["status"], expected, "op {index} of {ops}");
                if index > failing {
                    assert_eq!(op["attempts"], 0, "op {index} was started");
                    assert!(op.to_string().contains("preceding_op"), "op {index} does not say why: {op}");
                }
            }
            assert_eq!(results(&job)[..failing], (0..failing).map(|op| json!(op)).collect::<Vec<_>>());
        }
    });
}

#[test]
fn scenario_12_log_serials_count_over_the_job() {
    scenario(|world| {
        let id = world.submit(&world.task(5));
        for op in 0..5 {
            let held = world.take();
            let lines = match op {
                1 => vec!["one", "two", "three"],
                4 => vec!["four", "five"],
                _ => vec![],
            };
            let log: Vec<Value> = lines.iter().map(|text| json!({"type": "message", "text": text})).collect();
            world.lease_ok(held.item("touch", json!({"log": log, "log_seq": 0})));
            world.succeed(&held, json!(null));
        }
        assert_eq!(log_serials(world, id, 0), [1, 2, 3, 4, 5]);
        assert_eq!(log_serials(world, id, 3), [4, 5]);
        assert_eq!(log_serials(world, id, 5), [0; 0]);
    });
}

#[test]
fn scenario_13_priority_changed_between_ops() {
    scenario(|world| {
        let id = world.submit(&world.task(3));
        let mut ran_at = Vec::new();
        for change in [Some(-10), Some(5), None] {
            let held = world.take();
            ran_at.push(held.raw["job"]["priority"].as_i64().expect("a claim tells the priority"));
            world.succeed(&held, json!(null));
            if let Some(priority) = change {
                world.verb(id, "priority", json!({"priority": priority}));
            }
        }
        assert_eq!(ran_at, [0, -10, 5]);
        assert_eq!(world.job(id)["priority"], 0, "no unfinished op is left");
    });
}

#[test]
fn scenario_14_remaining_ops_run_after_a_leader_change() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    for done in [1, 4, 9] {
        let id = world.submit(&world.task(10));
        (0..done).for_each(|op| world.succeed(&world.take(), json!(op)));
        cluster.kill_leader();
        for op in done..10 {
            let held = world.take();
            assert_eq!(held.op, op);
            world.succeed(&held, json!(op));
        }
        assert!(world.claim().is_none());
        assert_eq!(results(&world.job(id)), (0..10).map(|op| json!(op)).collect::<Vec<_>>());
        cluster.heal();
    }
}

/// The pool and a remote worker give them alike, those of an op that brought jobs along too.
#[test]
fn command_reads_the_results_of_the_ops_before_it() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let _worker = Process::start(&cluster, "worker", &["worker", "--queue", "remote", "--slots", "1"]);
    let child = r#"{"queue": "children", "kind": "task"}"#;
    let ops = json!([
        {"shell": "test ! -e $RAFTQ_RESULTS_FILE; echo 7 > $RAFTQ_RESULT_FILE"},
        {"shell": "true"},
        {"shell": format!("echo '{child}' > $RAFTQ_JOBS_FILE")},
        {"shell": "cp $RAFTQ_RESULTS_FILE $RAFTQ_RESULT_FILE"},
    ]);
    for queue in ["default", "remote"] {
        let id = world.submit(&json!({"queue": queue, "ops": ops}));
        let mut results = results(&world.wait_status(id, "success"));
        let told = results.pop().expect("the last op has a result");
        assert_eq!(told, Value::Array(results.clone()), "{queue}");
        assert_eq!((&results[0], &results[1], &results[2]["jobs"][0][0]), (&json!(7), &Value::Null, &json!(true)));
    }
}

#[test]
fn scenario_15_command_submits_jobs_with_its_finish() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "children");
    let child = r#"{"queue": "children", "ops": [{"kind": "task"}]}"#;
    let bad = r#"{"queue": "children", "ops": []}"#;
    for (lines, accepted) in [(vec![], 0), (vec![child], 1), (vec![child, bad, child], 2)] {
        let before = world.client.list("queue=children").len();
        let file = cluster.directory().join("specs");
        fs::write(&file, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).expect("writable");
        let id = world.submit(&json!({"shell": format!("cat {} > $RAFTQ_JOBS_FILE", file.display())}));
        let job = world.wait_status(id, "success");
        let jobs = job["ops"][0]["result"]["jobs"].as_array().cloned().unwrap_or_default();
        assert_eq!(jobs.len(), lines.len(), "{job}");
        assert_eq!(jobs.iter().filter(|job| job[0] == true && job[1].is_u64()).count(), accepted);
        assert_eq!(
            jobs.iter().filter(|job| job[0] == false && job[1]["code"] == "invalid").count(),
            lines.len() - accepted
        );
        let children = world.client.list("queue=children");
        assert_eq!(children.len() - before, accepted, "children exist if and only if the parent's finish is committed");
    }
    // A parent that fails brings nothing along.
    let before = world.client.list("queue=children").len();
    let id = world.submit(&json!({"shell": format!("echo '{child}' > $RAFTQ_JOBS_FILE; exit 1")}));
    world.wait_status(id, "buried");
    assert_eq!(world.client.list("queue=children").len(), before);
}

fn results(job: &Value) -> Vec<Value> {
    job["ops"].as_array().expect("a job has ops").iter().map(|op| op["result"].clone()).collect()
}

/// The serials of the log behind `after`, as every node tells them.
fn log_serials(world: &World, id: u64, after: u64) -> Vec<u64> {
    let path = format!("/v1/jobs/{id}/log?after={after}");
    let read = |answer: Value| -> Vec<u64> {
        let lines = answer["log"].as_array().unwrap_or_else(|| panic!("no log in {answer}")).clone();
        lines.iter().map(|line| line["serial"].as_u64().expect("a line has a serial")).collect()
    };
    let first = read(world.get(&path).ok());
    let limit = Duration::from_secs(10);
    eventually("all nodes tell the same log", limit, || (read(world.get(&path).ok()) == first).then_some(first.clone()))
}

#[test]
fn watch_shows_what_every_op_and_attempt_wrote() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let id = world.submit(&json!({"retries": 1, "backoff": {"base_ms": 1}, "ops": [
        {"shell": "echo ::raftq log told; echo first; sleep 1"},
        {"shell": "echo try $RAFTQ_ATTEMPT; exit 3"},
        {"shell": "echo never"},
    ]}));
    let id_text = id.to_string();
    for when in ["while it runs", "and again after it has ended"] {
        let (code, text) = Process::output(&cluster, &["watch", &id_text]);
        let (log, output): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.contains("told"));
        assert_eq!((code, output), (Some(1), vec!["first", "try 1", "try 2"]), "{when}");
        assert!(log.len() == 1 && log[0].ends_with("  told"), "{when}: {log:?}");
    }
    assert_eq!(Process::output(&cluster, &["show", &id_text, "--output"]).1, "try 2\n");
    let (_, listed) = Process::output(&cluster, &["list", "--similar", "1", "-o", "id,exit_code,fail_reason"]);
    assert_eq!(listed, format!("{id}\t3\texit_nonzero\t1\n"));
    let job = world.job(id);
    assert_eq!((&job["exit_code"], &job["fail_reason"]), (&json!(3), &json!("exit_nonzero")), "{job}");

    let running = world.submit(&json!({"shell": "echo begun; sleep 60"})).to_string();
    let shown = || Process::output(&cluster, &["show", &running, "--output"]).1;
    eventually("output of what runs is shown", Duration::from_secs(20), || (shown() == "begun\n").then_some(()));
    assert_eq!(Process::output(&cluster, &["cancel", &running, "--kill"]).0, Some(0));

    let edited = world.submit(&world.task(1));
    let set = ["edit", &edited.to_string(), "--set", "needs.ram_mb=500", "--set", "needs.cores=0.5"];
    assert_eq!(Process::output(&cluster, &set).0, Some(0));
    let needs = world.job(edited)["needs"].clone();
    assert_eq!((&needs["ram_mb"], &needs["cores"]), (&json!(500), &json!(0.5)), "{needs}");
}

#[test]
fn events_end_at_their_time_out() {
    let cluster = Cluster::start();
    let (code, _) = Process::output(&cluster, &["events", "--kind", "nothing_of_the_kind", "--timeout", "1s"]);
    assert_eq!(code, Some(6));
}
