//! Taking a cluster away as a file, and bringing it back: `raftq cluster backup`, `verify`, `restore`.

use std::{
    fs,
    io::Write,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::harness::{Call, Cluster, Node, Process, World, eventually};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn promise_02_and_03_hold_across_the_restore_of_a_backup_taken_under_load() {
    let old = Cluster::start();
    let world = World::new(&old, "q");
    let jobs = history(&world);
    let held = world.claim_with(json!({"start": true, "lease_ms": 60_000, "queues": ["held"]})).remove(0);
    let before: Vec<Value> = jobs.iter().map(|id| seen(&world, *id)).collect();
    let file = old.directory().join("queue.raftq");
    under_load(&old, || succeeds(&old, &["cluster", "backup", "--out", text(&file)]));
    let holds = verified(&old, &file);
    let totals = world.get("/v1/stats").ok()["totals"].clone();
    let token = world.get("/v1/drain").index.expect("every answer says its index");
    old.kill_all();

    let new = pristine();
    damaged_files_are_refused(&new, &file);
    let restored: Value = answer(&succeeds(&new, &["--json", "cluster", "restore", text(&file)]));
    new.settle();
    let world = World::new(&new, "q");
    assert_eq!((&restored["leases_ended"], &restored["paused"]), (&json!(1), &json!(true)), "{restored}");
    assert_eq!(restored["backup"]["cluster"], holds["cluster"]);
    assert_ne!(restored["cluster"], holds["cluster"]);
    for (id, before) in jobs.iter().zip(before) {
        assert_eq!(seen(&world, *id), before);
    }
    let restored_totals = world.get("/v1/stats").ok()["totals"].clone();
    for total in ["success", "error", "canceled", "archived"] {
        assert_eq!(restored_totals[total], totals[total], "{total}");
    }

    // Whoever worked for the old cluster is told so, and whoever followed it too.
    world.lease_refused(held.item("touch", json!({})), "not_claimed");
    world.call(Call::get("/v1/drain").header("raftq-min-index", token.clone())).refused(410, "gone");
    let (_, index) = token.rsplit_once('.').expect("CLUSTER.N");
    for old in [format!("{index}.0"), "0.0".to_owned()] {
        let gone = world.get(&format!("/v1/events?from={old}"));
        gone.refused(410, "gone");
        assert!(gone.body["error"]["details"]["oldest"].is_string(), "{}", gone.text);
    }

    // Nothing runs before somebody looked, and then everything does.
    assert!(world.claim_with(json!({"queues": ["held"]})).is_empty(), "all queues are paused");
    succeeds(&new, &["resume", "--all"]);
    let again =
        world.claim_with(json!({"queues": ["held"], "start": true})).pop().expect("the lost job is queued again");
    assert_eq!(again.job, held.job);
    assert!(again.lease > held.lease + 1_000_000_000);
    let next = world.submit(&world.task(1));
    assert_eq!(next, restored["last_job"].as_u64().expect("a number") + 1);
    assert!(next > holds["last_job"].as_u64().expect("a number") + 1_000_000_000);

    // It is a cluster like any other.
    new.kill_leader();
    assert_eq!(world.submit(&world.task(1)), next + 1);
    new.heal();
    succeeds(&new, &["cluster", "verify"]);
    let refused = raftq(&new, &["cluster", "restore", text(&file)]);
    assert_eq!(refused.status.code(), Some(1));
    assert_says(&refused, &["already belongs to a cluster", "empty data directories"]);
}

#[test]
fn promise_05_and_07_hold_from_the_index_of_the_backup() {
    let old = Cluster::builder().nodes(1).start();
    let world = World::new(&old, "q");
    world.submit_each(&vec![world.task(1); 2]);
    let keyed = Call::post("/v1/jobs", &world.task(1)).header("idempotency-key", "mine/4");
    let first = world.call(keyed.clone()).ok();
    world.put("/v1/drain", &json!({"drained": true, "reason": "moving"})).ok();
    let file = old.directory().join("queue.raftq");
    succeeds(&old, &["cluster", "backup", "--out", text(&file)]);
    let twice = raftq(&old, &["cluster", "backup", "--out", text(&file)]);
    assert_eq!(twice.status.code(), Some(2), "a backup does not overwrite another");
    old.kill_all();

    let new = pristine();
    let below = raftq(&new, &["cluster", "restore", text(&file), "--after-job", "2"]);
    assert_eq!(below.status.code(), Some(2));
    assert_says(&below, &["after_job 2", "3"]);
    succeeds(&new, &["cluster", "restore", text(&file), "--after-job", "40", "--resume"]);
    new.settle();
    let world = World::new(&new, "q");
    let drained = world.get("/v1/drain").ok();
    assert_eq!((&drained["drained"], &drained["reason"]), (&json!(true), &json!("moving")));
    assert_eq!(world.call(keyed).ok(), first, "what was acknowledged before the backup is not done again");
    world.call(Call::post("/v1/jobs", &world.task(1))).refused(503, "drained");
    world.put("/v1/drain", &json!({"drained": false})).ok();
    assert_eq!(world.submit(&world.task(1)), 41);
    assert_eq!(world.claim().expect("nothing is paused").job, 1);
}

#[test]
fn restore_is_refused_while_a_founder_is_missing_or_has_a_cluster() {
    let old = Cluster::builder().nodes(1).start();
    let file = old.directory().join("queue.raftq");
    succeeds(&old, &["cluster", "backup", "--out", text(&file)]);
    let new = pristine();
    new.node(3).kill();
    let missing = raftq(&new, &["cluster", "restore", text(&file)]);
    assert_eq!(missing.status.code(), Some(3));
    assert_says(&missing, &["cannot reach", &new.node(3).peer]);
    new.node(3).start_with(&[]);
    reachable(new.node(3));

    let call = Call::post("/v1/cluster/restore", &json!({}));
    new.client_of(new.node(1)).call(call).refused(415, "unsupported_media_type");
    new.client().call(Call::post("/v1/cluster/init", &json!({}))).ok();
    new.settle();
    let bytes = fs::read(&file).expect("readable");
    let call = Call::post("/v1/cluster/restore", &json!({})).raw(bytes);
    let call = call.replacing("content-type", "application/octet-stream");
    new.client().call(call).refused(409, "conflict");
}

#[test]
fn backup_of_a_minority_is_possible_where_local_is_asked_for() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    world.submit(&world.task(1));
    succeeds(&cluster, &["cluster", "verify"]);
    let alone = cluster.followers()[0];
    cluster.nodes.iter().filter(|node| node.id != alone.id).for_each(Node::kill);
    let file = cluster.directory().join("queue.raftq");
    let strict = raftq(&cluster, &["cluster", "backup", "--out", text(&file), "--timeout", "2s"]);
    assert!(!strict.status.success() && !file.exists(), "a minority cannot know what was acknowledged");
    assert!(!file.with_extension("raftq.partial").exists(), "nothing half-written is left");
    succeeds(&cluster, &["--local", "cluster", "backup", "--out", text(&file)]);
    assert_eq!(verified(&cluster, &file)["live_jobs"], 1);
    let unequal = raftq(&cluster, &["cluster", "verify", "--timeout", "3s"]);
    assert_eq!(unequal.status.code(), Some(6), "members that do not answer are not compared");
}

#[test]
fn node_killed_while_it_restores_is_pristine_or_done() {
    let old = Cluster::builder().nodes(1).start();
    let world = World::new(&old, "q");
    for _ in 0..4 {
        world.submit_each(&vec![world.task(1); 1000]);
    }
    let file = old.directory().join("queue.raftq");
    succeeds(&old, &["cluster", "backup", "--out", text(&file)]);
    old.kill_all();
    // How far it has come: the file is there, the rows are being copied, the new state counts.
    let received =
        |node: &Node| fs::read_dir(node.data_dir().join("snapshot")).is_ok_and(|mut files| files.next().is_some());
    let copied = |node: &Node| node.data_dir().join("state/00000002").exists();
    let decided =
        |node: &Node| fs::read_to_string(node.data_dir().join("state/CURRENT")).is_ok_and(|name| name.contains('2'));
    killed_when(&file, received);
    killed_when(&file, copied);
    killed_when(&file, decided);
}

fn killed_when(file: &Path, far_enough: impl Fn(&Node) -> bool) {
    let cluster = pristine();
    let node = cluster.node(1);
    let _restore = Process::start(&cluster, "restore", &["cluster", "restore", text(file), "--resume"]);
    eventually("the restore has come so far", SOON, || far_enough(node).then_some(()));
    node.kill();
    node.start_with(&[]);
    reachable(node);
    if cluster.status(node)["role"] == "pristine" {
        succeeds(&cluster, &["cluster", "restore", text(file), "--resume"]);
    }
    cluster.settle();
    let world = World::new(&cluster, "q");
    assert_eq!(world.get("/v1/stats").ok()["live_jobs"], 4000);
    assert!(world.submit(&world.task(1)) > 1_000_000_000);
}

#[test]
fn upload_that_breaks_off_changes_nothing() {
    let cluster = Cluster::builder().nodes(1).lay_out();
    let node = cluster.node(1);
    node.start_with(&[]);
    reachable(node);
    let mut wire = TcpStream::connect(&node.api).expect("it listens");
    let head = format!(
        "POST /v1/cluster/restore HTTP/1.1\r\nhost: {}\r\ncontent-type: application/octet-stream\r\ncontent-length: 1000\r\n\r\n",
        node.api
    );
    wire.write_all(head.as_bytes()).and_then(|()| wire.write_all(&[7; 100])).expect("it reads");
    let files = || fs::read_dir(node.data_dir().join("snapshot")).expect("it is there").count();
    eventually("the file is begun", SOON, || (files() > 0).then_some(()));
    drop(wire);
    eventually("the file is gone", SOON, || (files() == 0).then_some(()));
    assert_eq!(cluster.status(node)["role"], "pristine");
}

/// Jobs of many kinds; what is to be seen of them does not change by itself.
fn history(world: &World) -> Vec<u64> {
    let done = world.submit(&json!({"shell": "echo out; echo err >&2; echo ::raftq log a line of it", "name": "done"}));
    world.wait_status(done, "success");
    let archived = world.submit(&json!({"shell": "true", "groups": ["old"]}));
    world.wait_status(archived, "success");
    world.verb(archived, "archive", json!({}));
    let failed = world.submit(&json!({"shell": "echo why; exit 3", "on_failure": "error"}));
    world.wait_status(failed, "error");
    let buried = world.submit(&json!({"argv": ["false"]}));
    world.wait_status(buried, "buried");
    let canceled = world.submit(&world.task(1));
    world.verb(canceled, "cancel", json!({}));
    let delayed = world.submit(&world.task_with(1, json!({"delay_ms": 3_600_000})));
    let waiting = world.submit(&world.task_with(2, json!({"priority": -3, "unique": "once", "meta": {"kept": true}})));
    let blocked = world.submit(&json!({"queue": "q", "ops": [{"kind": "task", "depends": [[waiting, []]]}]}));
    world.submit(&json!({"queue": "held", "ops": [{"kind": "task"}]}));
    vec![done, archived, failed, buried, canceled, delayed, waiting, blocked]
}

/// All that can be asked about a job, but for what keeps it waiting, and until when: that depends on what else is going on.
fn seen(world: &World, id: u64) -> Value {
    let mut job = world.job(id);
    job.as_object_mut().expect("a job").retain(|field, _| field != "held_by" && field != "ready_at");
    let log = world.get(&format!("/v1/jobs/{id}/log")).ok();
    let output = world.get(&format!("/v1/jobs/{id}/output")).ok();
    json!({ "job": job, "log": log, "output": output })
}

/// Does something while four clients submit.
fn under_load<T>(cluster: &Cluster, mut act: impl FnMut() -> T) -> T {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let world = World::new(cluster, "load");
                while !stop.load(Ordering::Relaxed) {
                    world.submit_each(&vec![world.task(1); 50]);
                }
            });
        }
        let done = act();
        stop.store(true, Ordering::Relaxed);
        done
    })
}

/// What `cluster verify` says of a whole file.
fn verified(cluster: &Cluster, file: &Path) -> Value {
    answer(&succeeds(cluster, &["--json", "cluster", "verify", text(file)]))
}

/// Neither looks at more than the file needs: a node that was sent one is as pristine as before.
fn damaged_files_are_refused(cluster: &Cluster, file: &Path) {
    let whole = fs::read(file).expect("readable");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    for (name, bytes) in [("flipped", flipped), ("cut", whole[..whole.len() - 9].to_vec()), ("empty", Vec::new())] {
        let damaged: PathBuf = cluster.directory().join(name);
        fs::write(&damaged, &bytes).expect("writable");
        for command in ["verify", "restore"] {
            let refused = raftq(cluster, &["cluster", command, text(&damaged)]);
            assert_eq!(refused.status.code(), Some(1), "{command} {name}");
            assert_says(&refused, &[name, "damaged"]);
        }
        // The API says it too, to whoever does not look first.
        let call = Call::post("/v1/cluster/restore", &json!({})).raw(bytes);
        let call = call.replacing("content-type", "application/octet-stream");
        cluster.client().call(call).refused(400, "invalid");
    }
    for node in &cluster.nodes {
        assert_eq!(cluster.status(node)["role"], "pristine");
    }
}

/// Three nodes that wait for somebody to form their cluster.
fn pristine() -> Cluster {
    let cluster = Cluster::builder().lay_out();
    for node in &cluster.nodes {
        node.start_with(&[]);
    }
    cluster.nodes.iter().for_each(reachable);
    cluster
}

fn reachable(node: &Node) {
    eventually(&format!("node {} can be reached", node.id), SOON, || {
        let answer = crate::harness::Client::new(vec![]).once(&node.api, &Call::get("/healthz")).ok()?;
        (answer.status == 200).then_some(())
    });
}

fn succeeds(cluster: &Cluster, arguments: &[&str]) -> Output {
    let output = raftq(cluster, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn raftq(cluster: &Cluster, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_raftq"))
        .args(arguments)
        .current_dir(cluster.directory())
        .env("RAFTQ_SERVER", cluster.servers().join(","))
        .stdin(Stdio::null())
        .output()
        .expect("the binary can be started")
}

fn answer(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

fn assert_says(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of these tests is UTF-8")
}
