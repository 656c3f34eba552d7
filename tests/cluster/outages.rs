//! Networks and disks that fail while the processes live.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    faults::{agree, client_without},
    harness::{Call, Cluster, Fault, World, eventually, stays},
};

const SOON: Duration = Duration::from_secs(30);

#[test]
fn leader_cut_off_from_both_peers_refuses_in_time_and_its_commands_are_dead_before_they_run_again() {
    let cluster = Cluster::builder().wired().start();
    let world = World::new(&cluster, "q");
    let directory = cluster.directory();
    // Each run says so if anything of an earlier one is alive, and goes on until there is a file named `end`.
    let script = format!(
        "cd {}; for pid in $(cat pids 2>/dev/null); do grep -qs '^State:.[^ZX]' /proc/$pid/status && echo $pid >> overlap; done; \
         (sleep 300 | cat) & setsid sleep 300 & echo $$ $(jobs -p) >> pids; echo run >> runs; \
         until test -f end; do sleep 0.05; done; kill $(jobs -p)",
        directory.display()
    );
    let id = world.submit(&json!({"shell": script}));
    let runs = || fs::read_to_string(directory.join("runs")).map_or(0, |text| text.lines().count());
    eventually("the command runs", SOON, || (runs() == 1).then_some(()));

    let old = cluster.leader();
    cluster.nodes.iter().filter(|node| node.id != old.id).for_each(|node| cluster.wires.cut(old.id, node.id));
    let write = world.client.keyed(Call::post("/v1/jobs", &world.task(1)).header("raftq-timeout-ms", "2000"));
    let read = Call::get(&format!("/v1/jobs/{id}")).header("raftq-timeout-ms", "2000");
    for (call, codes) in [(&write, ["no_leader", "outcome_unknown"]), (&read, ["no_leader", "timeout"])] {
        let began = Instant::now();
        let answer = cluster.client_of(old).once(&old.api, &call.clone().within(SOON)).expect("it can be reached");
        assert!(codes.contains(&answer.code()), "{} {}", answer.status, answer.text);
        assert!(began.elapsed() < Duration::from_secs(5), "long after its deadline");
    }
    let others = client_without(&cluster, old.id);
    eventually("the next leader runs the job again", SOON, || (runs() == 2).then_some(()));
    assert!(!directory.join("overlap").exists(), "two runs overlapped");
    let submitted = others.call(write.clone()).ok()["results"][0]["id"].clone();

    cluster.wires.mend();
    fs::write(directory.join("end"), "").expect("writable");
    cluster.settle();
    let job = world.wait_status(id, "success");
    assert_eq!((&job["lost"], runs()), (&json!(1), 2), "{job}");
    assert_eq!(world.client.call(write).ok()["results"][0]["id"], submitted, "one key, one job");
    agree(&cluster, SOON);
}

#[test]
fn wire_cut_between_the_leader_and_one_follower_deposes_nobody() {
    let cluster = Cluster::builder().wired().start();
    let world = World::new(&cluster, "q");
    let leader = cluster.leader();
    let term = cluster.status(leader)["term"].clone();
    let deaf = cluster.followers()[0];
    cluster.wires.cut(leader.id, deaf.id);
    let client = cluster.client_of(leader);
    stays("the leader leads on", Duration::from_secs(4), || {
        client.post("/v1/jobs", &world.task(1)).ok();
        cluster.leader().id == leader.id
    });
    assert_eq!(cluster.status(leader)["term"], term, "somebody was elected");
    cluster.wires.mend();
    cluster.wait_ready(deaf);
    agree(&cluster, SOON);
}

#[test]
fn leader_whose_disk_hangs_gives_the_lead_away_and_follows_again() {
    let Some(cluster) = Cluster::failing() else { return };
    let world = World::new(&cluster, "q");
    let id = world.submit(&world.task(1));
    let hung = cluster.leader();
    hung.fail(Fault::HungDisk);
    let others = client_without(&cluster, hung.id);
    // The write that the hung disk holds up is one that nobody hears of; then somebody else leads.
    let write = others.keyed(Call::post("/v1/jobs", &world.task(1)));
    let answer = eventually("writes go on", SOON, || others.attempt(&write).ok().filter(|answer| answer.status == 200));
    let later = answer.ok()["results"][0]["id"].as_u64().expect("accepted");
    assert_eq!(later, id + 1, "the write was taken twice");
    eventually("another node leads", SOON, || (cluster.leader().id != hung.id).then_some(()));
    hung.mend(Fault::HungDisk);
    if hung.exited().is_some() {
        // It could not hand over in time, and ended instead: that is allowed.
        hung.wait_exit(SOON);
    }
    cluster.heal();
    agree(&cluster, SOON);
}

#[test]
fn node_whose_disk_is_full_stops_and_says_so_and_comes_back() {
    let Some(cluster) = Cluster::failing() else { return };
    let world = World::new(&cluster, "q");
    let id = world.submit(&world.task(1));
    let full = cluster.leader();
    full.fail(Fault::FullDisk);
    let others = client_without(&cluster, full.id);
    let write = others.keyed(Call::post("/v1/jobs", &world.task(1)));
    eventually("writes go on", SOON, || others.attempt(&write).ok().filter(|answer| answer.status == 200));
    assert_eq!(full.wait_exit(SOON).code(), Some(1), "{}", full.log());
    assert!(full.log().contains("no space is left"), "it does not say why");
    full.mend(Fault::FullDisk);
    cluster.heal();
    assert_eq!(world.status(id), "queued");
    agree(&cluster, SOON);
}

#[test]
fn little_space_on_a_majority_refuses_new_work_then_ends_too_and_passes() {
    const LOW: Fault = Fault::LittleSpace(256 << 20);
    const FULL: Fault = Fault::LittleSpace(64 << 20);
    let Some(cluster) = Cluster::failing() else { return };
    let world = World::new(&cluster, "q");
    world.submit_each(&vec![world.task(1); 2]);
    let (first, second) = (world.take(), world.take());
    let refusal = |call: &dyn Fn() -> Value| {
        eventually("the watermark is noticed", SOON, || {
            Some(call()).filter(|answer| answer["error"]["code"] == "no_space")
        })
    };

    cluster.nodes[0].fail(LOW);
    stays("one small disk refuses nobody", Duration::from_secs(2), || {
        world.post("/v1/jobs", &world.task(1)).status == 200
    });
    cluster.nodes[1].fail(LOW);
    refusal(&|| world.post("/v1/jobs", &world.task(1)).body);
    world.succeed(&first, json!(null));

    cluster.nodes.iter().take(2).for_each(|node| node.fail(FULL));
    let finish = json!({"items": [second.item("finish", json!({"outcome": "success"}))]});
    refusal(&|| world.post("/v1/leases", &json!({"items": [second.item("touch", json!({}))]})).body);
    world.post("/v1/leases", &finish).refused(507, "no_space");
    let waiting = world.client.list("queue=q&status=queued");
    world.verb(waiting[0]["id"].as_u64().expect("an id"), "cancel", json!({}));

    cluster.nodes.iter().take(2).for_each(|node| node.mend(FULL));
    eventually("there is room again", SOON, || (world.post("/v1/jobs", &world.task(1)).status == 200).then_some(()));
    world.post("/v1/leases", &finish).ok();
    assert_eq!(world.status(second.job), "success");
}
