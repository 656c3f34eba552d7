//! Schedules over real nodes: each slot gives one job, whoever leads when it comes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Cluster, Process, World, eventually, stays};

const SOON: Duration = Duration::from_secs(30);
const EVERY_MS: u64 = 1_000;

/// The slots that the jobs of a schedule name in their reasons, in the order of the jobs.
fn slots(world: &World, name: &str) -> Vec<String> {
    let jobs = world.client.list(&format!("queue={}&fields=id,reasons&archived=true", world.queue));
    let slot = |job: &Value| {
        let text =
            job["reasons"].as_array().and_then(|reasons| reasons.last()).and_then(|reason| reason["text"].as_str());
        let text = text.unwrap_or_else(|| panic!("no reason: {job}"));
        text.strip_prefix(&format!("schedule {name}, slot ")).unwrap_or_else(|| panic!("no slot: {text}")).to_owned()
    };
    jobs.iter().map(slot).collect()
}

#[test]
fn schedule_takes_each_slot_once_through_the_death_of_leaders() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let definition = json!({"every_ms": EVERY_MS, "spec": world.task(1)});
    let made = world.put("/v1/schedules/tick", &definition).ok();
    let submitted = || world.get("/v1/schedules/tick").ok()["submitted"].as_u64().expect("a count");
    for round in 1..=3 {
        let before = submitted();
        eventually("slots are taken", SOON, || (submitted() >= before + 2).then_some(()));
        cluster.kill_leader();
        eventually(&format!("a slot is taken after kill {round}"), SOON, || (submitted() > before + 2).then_some(()));
        cluster.heal();
    }
    let paused = world.post("/v1/schedules/tick/pause", &json!({})).ok();
    let (taken, slots) = (paused["submitted"].as_u64().expect("a count"), slots(&world, "tick"));
    assert_eq!(slots.len() as u64, taken, "as many jobs as slots: {slots:?}");
    assert!(slots.is_sorted() && slots.windows(2).all(|pair| pair[0] != pair[1]), "each slot once: {slots:?}");
    let last = &paused["last"];
    let passed = (last["slot_at"].as_u64().expect("a time") - made["defined_at"].as_u64().expect("a time")) / EVERY_MS;
    assert!(taken <= passed, "{taken} jobs for {passed} slots");

    // A restart of all of them changes nothing of it, and it goes on.
    cluster.kill_all();
    cluster.heal();
    let mut restarted = world.get("/v1/schedules/tick").ok();
    assert_eq!(restarted, paused);
    restarted = world.post("/v1/schedules/tick/resume", &json!({})).ok();
    assert_eq!(restarted["last"], paused["last"]);
    eventually("it goes on", SOON, || (submitted() > taken).then_some(()));
}

#[test]
fn schedule_is_held_by_a_leader_whose_wall_clock_is_wrong() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let wrong = cluster.followers()[0];
    wrong.kill();
    wrong.wall_clock_off_by(365 * 24 * 3_600_000);
    wrong.start();
    cluster.wait_ready(wrong);
    world.put("/v1/schedules/tick", &json!({"every_ms": EVERY_MS, "spec": world.task(1)})).ok();
    let submitted = || world.get("/v1/schedules/tick").ok()["submitted"].as_u64().expect("a count");
    eventually("a slot is taken", SOON, || (submitted() > 0).then_some(()));

    eventually("the one with the wrong clock leads", SOON, || {
        world.post("/v1/cluster/transfer", &json!({"to": wrong.id, "now": true}));
        (cluster.leader().id == wrong.id).then_some(())
    });
    let held = submitted();
    stays("no slot is taken", Duration::from_secs(3), || submitted() == held);
    wrong.kill();
    eventually("slots are taken again", SOON, || (submitted() > held).then_some(()));
    assert!(slots(&world, "tick").is_sorted(), "none of them is a year ahead");
    let next = world.get("/v1/schedules/tick").ok()["next_at"].as_u64().expect("a time");
    let last = world.get("/v1/schedules/tick").ok()["last"]["slot_at"].as_u64().expect("a time");
    assert!(next <= last + 60_000, "the schedule goes on a year later");
}

#[test]
fn schedule_is_worked_from_the_command_line() {
    let cluster = Cluster::start();
    let raftq = |line: &str| Process::output(&cluster, &line.split(' ').collect::<Vec<_>>());
    let (code, shown) = raftq("schedule add poll --every 1s --json -- true");
    assert_eq!(code, Some(0), "{shown}");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!((&shown["every_ms"], &shown["spec"]["ops"][0]["argv"]), (&json!(1000), &json!(["true"])));
    assert_eq!(raftq("schedule add poll --every 1s -- true").0, Some(1), "there is one of this name");
    assert_eq!(raftq("schedule add poll --every 1s --replace -- true").0, Some(0));
    assert_eq!(raftq("schedule add bad --cron @never -- true").0, Some(2));
    eventually("a slot is taken", SOON, || raftq("schedule list").1.contains("submitted (job ").then_some(()));
    let events =
        |server: &str| raftq(&format!("events --server {server} --from 0.0 --kind schedule_slot --count 2 --json")).1;
    let told: Vec<String> = cluster.servers().iter().map(|server| events(server)).collect();
    assert!(told.iter().all(|events| *events == told[0]), "each node tells the same: {told:?}");
    let first: Value = serde_json::from_str(told[0].lines().next().expect("two lines")).expect("JSON");
    let (data, slot) = (&first["data"], &first["data"]["slot"]);
    assert_eq!((&data["schedule"], &slot["outcome"]), (&json!("poll"), &json!("submitted")), "{first}");
    assert!(slot["job"].is_u64() && slot["slot_at"].is_u64(), "{first}");
    let (code, id) = raftq("schedule run poll");
    assert_eq!((code, raftq(&format!("wait {}", id.trim())).0), (Some(0), Some(0)));
    assert!(raftq("schedule pause poll").1.contains("paused\ttrue"));
    assert!(raftq("schedule resume poll").1.contains("paused\tfalse"));
    assert!(raftq("schedule show poll").1.contains("when\tevery 1.0s"));
    assert_eq!(raftq("schedule remove poll").0, Some(0));
    assert_eq!(raftq("schedule show poll").0, Some(1));
}
