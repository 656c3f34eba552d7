//! `raftq worker` on a machine of its own: what it takes at once, what it tells, and how it ends. Scenario 19 (its leases are
//! gone) and 25 (its commands kill it) stand with those of their kind.

use std::{collections::BTreeSet, fs, time::Duration};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Call, Cluster, Process, World, eventually, stays};

fn command(world: &World, line: &str, more: Value) -> u64 {
    let mut spec = json!({"queue": "remote", "shell": line});
    spec.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    world.submit(&spec)
}

#[test]
fn worker_takes_several_jobs_with_one_claim_and_starts_them_with_one_call() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let specs = vec![json!({"queue": "remote", "shell": "sleep 300"}); 3];
    let ids = world.submit_each(&specs);
    let _worker = Process::start(&cluster, "worker", &["worker", "--queue", "remote", "--slots", "3"]);
    let versions: Vec<Value> = ids.iter().map(|id| world.wait_status(*id, "running")["version"].clone()).collect();
    assert!(versions.iter().all(|version| *version == versions[0]), "not in one entry: {versions:?}");
}

#[test]
fn worker_finishes_and_takes_the_next_in_one_entry() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let (first, next) = (command(&world, "sleep 0.5", json!({})), command(&world, "sleep 300", json!({})));
    let _worker = Process::start(&cluster, "worker", &["worker", "--queue", "remote", "--slots", "1"]);
    let running = world.wait_status(next, "running");
    let ended = world.job(first);
    assert_eq!((&ended["status"], &ended["version"]), (&json!("success"), &running["version"]));
}

#[test]
fn worker_names_the_process_of_each_command() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let file = cluster.directory().join("pid");
    let long =
        command(&world, &format!("echo $$ > {0}; while test -f {0}; do sleep 0.05; done", file.display()), json!({}));
    let _worker = Process::start(&cluster, "worker", &["worker", "--queue", "remote", "--slots", "1"]);
    let running = eventually("the job says which process it is", Duration::from_secs(20), || {
        let pid: u64 = fs::read_to_string(&file).ok()?.trim().parse().ok()?;
        (world.job(long)["ops"][0]["pid"] == pid).then_some(pid)
    });
    let short = command(&world, "echo $$", json!({"keep_output": true}));
    fs::remove_file(&file).expect("it was read");
    let job = world.wait_status(long, "success");
    let attempt = &job["ops"][0]["history"][0];
    assert_eq!((&attempt["pid"], attempt["host"].is_string()), (&json!(running), true), "{job}");

    // Taken with the finish of the one before, and over before its process was told.
    let job = world.wait_status(short, "success");
    let attempt = &job["ops"][0]["history"][0];
    assert_eq!(attempt["pid"].to_string(), attempt["stdout"].as_str().unwrap_or("").trim(), "{job}");
}

/// What it has to tell of several jobs goes in one request, whatever becomes of each part of it.
#[test]
fn worker_tells_of_several_jobs_at_once_a_lost_one_among_them() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let (go, again) = (cluster.directory().join("go"), cluster.directory().join("again"));
    let line = format!("echo '::raftq log begun'; while ! test -e {}; do sleep 0.05; done", go.display());
    let kept: Vec<u64> = (0..3).map(|_| command(&world, &line, json!({"lease_ms": 60_000}))).collect();
    let line = format!("test -e {0} && exit 0; touch {0}; sleep 300", again.display());
    let lost = command(&world, &line, json!({"lease_ms": 1000}));
    let worker = Process::start(&cluster, "worker", &["worker", "--queue", "remote", "--slots", "4"]);
    for id in &kept {
        eventually("its line is in the log", Duration::from_secs(20), || (log(&world, *id) == ["begun"]).then_some(()));
    }
    eventually("the short lease runs too", Duration::from_secs(20), || again.exists().then_some(()));
    world.wait_status(lost, "running");

    // Its commands end while it is stopped; one because its lease ends first.
    worker.pause();
    fs::write(&go, "").expect("writable");
    world.wait_status(lost, "queued");
    worker.resume();
    let versions = kept.iter().map(|id| world.wait_status(*id, "success")["version"].to_string());
    let entries: BTreeSet<String> = versions.collect();
    assert!(entries.len() < kept.len(), "each end was told by itself: {entries:?}");
    let job = world.wait_status(lost, "success");
    assert_eq!((&job["attempts"], &job["lost"]), (&json!(2), &json!(1)), "{job}");
    for id in kept {
        let job = world.job(id);
        assert_eq!((&job["attempts"], &job["lost"]), (&json!(1), &json!(0)), "{job}");
        assert_eq!(log(&world, id), ["begun"], "told once");
    }
}

/// The texts of a job's log.
fn log(world: &World, id: u64) -> Vec<String> {
    let log = world.get(&format!("/v1/jobs/{id}/log")).ok();
    let lines = log["log"].as_array().unwrap_or_else(|| panic!("no log: {log}"));
    lines.iter().map(|line| line["text"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn worker_loses_no_running_job_to_a_leader_change() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let (runs, go) = (cluster.directory().join("runs"), cluster.directory().join("go"));
    let line = format!("echo $$ >> {}; while ! test -e {}; do sleep 0.05; done", runs.display(), go.display());
    let id = command(&world, &line, json!({}));
    let _worker = Process::start(&cluster, "worker", &["worker", "--queue", "remote", "--lease", "4s"]);
    let lines = || fs::read_to_string(&runs).unwrap_or_default().lines().count();
    eventually("the command runs", Duration::from_secs(20), || (lines() == 1).then_some(()));
    cluster.kill_leader();
    // Longer than the lease: it is renewed at the new leader.
    stays("the job is held", Duration::from_secs(5), || world.status(id) == "running");
    fs::write(&go, "").expect("writable");
    let job = world.wait_status(id, "success");
    assert_eq!((&job["attempts"], &job["lost"], lines()), (&json!(1), &json!(0), 1), "{job}");
}

#[test]
fn worker_gives_back_what_it_cannot_finish_before_its_end() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let long = command(&world, "sleep 300", json!({"retries": 2, "rerun_on_loss": true}));
    let too_long = command(&world, "true", json!({"needs": {"time_s": 3600}}));
    let short = command(&world, "true", json!({"needs": {"time_s": 1}}));
    let arguments = ["worker", "--queue", "remote", "--slots", "3", "--max-time", "9s"];
    let (code, _) = Process::output(&cluster, &arguments);
    assert_eq!((code, world.status(short).as_str()), (Some(0), "success"));
    let job = world.job(long);
    assert_eq!(
        (&job["status"], &job["lost"], &job["retries_left"]),
        (&json!("queued"), &json!(0), &json!(2)),
        "neither a loss nor a failure: {job}"
    );
    assert!(job.to_string().contains("interrupted"), "{job}");
    let job = world.job(too_long);
    assert_eq!((&job["status"], &job["attempts"]), (&json!("queued"), &json!(0)), "it would not have ended in time");
}

#[test]
fn worker_never_packs_more_than_it_has() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let needs = |needs: Value| command(&world, "sleep 300", json!({"needs": needs}));
    let (first, second) = (needs(json!({"cores": 0.6})), needs(json!({"cores": 0.6})));
    let (small, large) = (needs(json!({"cores": 0.4})), needs(json!({"ram_mb": 1001})));
    // A short lease, so that it soon hears of the cancel.
    let arguments = ["worker", "--queue", "remote", "--slots", "4", "--cores", "1", "--ram", "1000M", "--lease", "3s"];
    let _worker = Process::start(&cluster, "worker", &arguments);
    world.wait_status(first, "running");
    world.wait_status(small, "running");
    stays("there is no room for more", Duration::from_secs(1), || {
        [second, large].iter().all(|id| world.status(*id) == "queued")
    });
    world.verb(first, "cancel", json!({"kill": true}));
    world.wait_status(second, "running");
    assert_eq!(world.status(large), "queued");
}

#[test]
fn worker_that_is_to_end_when_idle_does_all_there_is_first() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let ids: Vec<u64> = (0..5).map(|_| command(&world, "sleep 0.2", json!({}))).collect();
    let (code, _) = Process::output(&cluster, &["worker", "--queue", "remote", "--slots", "2", "--exit-when-idle"]);
    assert_eq!(code, Some(0));
    assert!(ids.iter().all(|id| world.status(*id) == "success"));
    let left = world.get("/v1/workers").ok();
    let names = left["workers"].as_array().expect("a list").iter().map(|worker| worker["kind"].clone());
    assert_eq!(names.filter(|kind| kind == "runner").count(), 0, "it has left the registry: {left}");
}

/// What it takes a worker to end that nobody serves, on a busy machine; it used to be half a minute.
const END_UNSERVED: Duration = Duration::from_secs(8);

/// Kills all nodes but one, which is left alone and leads nobody.
fn leave_a_minority(cluster: &Cluster) {
    let alone = cluster.followers()[0].id;
    cluster.nodes.iter().filter(|node| node.id != alone).for_each(|node| node.kill());
    let call = Call::get("/v1/queues").header("raftq-timeout-ms", "200");
    eventually("nobody leads", Duration::from_secs(20), || {
        let answer = cluster.client_of(cluster.node(alone)).attempt(&call).ok()?;
        (answer.code() == "no_leader").then_some(())
    });
}

#[test]
fn worker_without_a_leader_ends_soon_when_it_is_told_to() {
    let cluster = Cluster::start();
    let arguments = ["worker", "--queue", "remote", "--slots", "1"];
    let workers = ["term", "interrupt"].map(|name| Process::start(&cluster, name, &arguments));
    let client = cluster.client();
    eventually("both are there", Duration::from_secs(20), || {
        let workers = client.get("/v1/workers").ok();
        (workers["workers"].as_array()?.iter().filter(|worker| worker["kind"] == "runner").count() == 2).then_some(())
    });
    leave_a_minority(&cluster);
    for (worker, signal) in workers.into_iter().zip([Signal::SIGTERM, Signal::SIGINT]) {
        assert_eq!(worker.end_with(signal, END_UNSERVED), Some(0), "it held nothing");
    }
}

#[test]
fn worker_without_a_leader_stops_its_commands_and_says_what_nobody_heard() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let file = cluster.directory().join("pid");
    let id = command(&world, &format!("echo $$ > {}; exec sleep 300", file.display()), json!({"lease_ms": 60_000}));
    let worker = Process::start(&cluster, "worker", &["worker", "--queue", "remote", "--slots", "1"]);
    world.wait_status(id, "running");
    let pid = eventually("the command runs", Duration::from_secs(20), || {
        fs::read_to_string(&file).ok()?.trim().parse::<u32>().ok()
    });
    leave_a_minority(&cluster);
    assert_eq!(worker.end_with(Signal::SIGTERM, END_UNSERVED), Some(6), "the cluster was not told");
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "its command goes with it");
    let said = fs::read_to_string(cluster.directory().join("worker.log")).expect("readable");
    assert!(said.contains("did not hear how some jobs ended"), "{said}");
    cluster.heal();
    assert_eq!(world.job(id)["lost"], json!(0), "the lease goes on until it lapses");
}

#[test]
fn worker_that_is_told_twice_to_end_kills_what_runs() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    // Deaf to TERM, it would have five seconds.
    let id = command(&world, "trap '' TERM; while true; do sleep 1; done", json!({"lease_ms": 60_000}));
    let worker = Process::start(&cluster, "worker", &["worker", "--queue", "remote", "--slots", "1"]);
    world.wait_status(id, "running");
    worker.interrupt();
    let said = || fs::read_to_string(cluster.directory().join("worker.log")).expect("readable");
    eventually("it has heard", Duration::from_secs(20), || said().contains("once more").then_some(()));
    assert_eq!(worker.end_with(Signal::SIGINT, Duration::from_secs(4)), Some(0), "{}", said());
    world.wait_status(id, "queued");
    assert_eq!(world.job(id)["lost"], json!(0), "it was given back");
}

#[test]
fn wait_for_a_job_that_nobody_runs_says_so_once() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let id = world.submit(&json!({"queue": "unserved", "shell": "true"}));
    let commands = ["wait", "watch"];
    let waiting = commands.map(|command| Process::start(&cluster, command, &[command, &id.to_string()]));
    let told = |command: &str| {
        let said = fs::read_to_string(cluster.directory().join(format!("{command}.log"))).expect("readable");
        said.matches(&format!("job {id} waits: ")).count()
    };
    eventually("both say why", Duration::from_secs(30), || {
        commands.iter().all(|command| told(command) > 0).then_some(())
    });
    let served = Process::output(&cluster, &["worker", "--queue", "unserved", "--slots", "1", "--exit-when-idle"]);
    assert_eq!(served.0, Some(0));
    for (command, process) in commands.into_iter().zip(waiting) {
        assert_eq!(process.ended(Duration::from_secs(20)), Some(0), "{command}: the job has succeeded");
        assert_eq!(told(command), 1, "{command}");
    }
}

/// A batch system tells it once, at the end of a time that it knows itself.
#[test]
fn worker_that_ends_by_itself_is_told_for_the_first_time_by_a_signal() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let directory = cluster.directory().to_owned();
    let (asked, kept) = (directory.join("asked"), directory.join("kept"));
    let script = format!(
        "trap 'touch {0}; sleep 1; touch {1}; exit 0' TERM; while true; do sleep 0.05; done",
        asked.display(),
        kept.display()
    );
    let id = command(&world, &script, json!({"lease_ms": 60_000}));
    let arguments = ["worker", "--queue", "remote", "--slots", "1", "--max-time", "6s"];
    let worker = Process::start(&cluster, "worker", &arguments);
    world.wait_status(id, "running");
    eventually("its command is asked to end", Duration::from_secs(20), || asked.exists().then_some(()));
    worker.end_with(Signal::SIGTERM, Duration::from_secs(10));
    assert!(kept.exists(), "it had its time to keep what it had done");
}
