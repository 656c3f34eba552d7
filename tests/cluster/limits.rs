//! Scenarios 41, 42 and 45: limits, and learned needs.

use serde_json::json;

use crate::harness::{Cluster, Process, World, scenario};

#[test]
fn scenario_41_live_job_limit() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    world.put("/v1/policy", &json!({"live_jobs_max": 5})).ok();
    world.submit_each(&vec![world.task(1); 4]);
    let results = world.submit_all(&vec![world.task(1); 2]);
    assert_eq!((&results[0]["ok"], &results[1]["error"]["code"]), (&json!(true), &json!("queue_full")), "{results:?}");
    world.succeed(&world.take(), json!(null));
    let results = world.submit_all(&vec![world.task(1); 2]);
    assert_eq!((&results[0]["ok"], &results[1]["error"]["code"]), (&json!(true), &json!("queue_full")), "{results:?}");
}

#[test]
fn scenario_42_limit_groups_hold_through_a_leader_change() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    world.submit_each(&vec![world.task_with(1, json!({"limits": ["a:3", "b:2"]})); 5]);
    let mut held = vec![world.take(), world.take()];
    assert!(world.claim().is_none(), "b admits two");
    world.succeed(&held.remove(0), json!(null));
    held.push(world.take());
    assert!(world.claim().is_none());
    world.put("/v1/limits/b", &json!({"max": 4})).ok();
    held.push(world.take());
    assert!(world.claim().is_none(), "a admits three");
    cluster.kill_leader();
    assert!(world.claim().is_none(), "a new leader forgot what runs");
    world.succeed(&held.remove(0), json!(null));
    world.take();
}

#[test]
fn scenario_45_needs_are_learned_by_resource_group() {
    scenario(|world| {
        let (one, ten) = (format!("{}-g1", world.queue), format!("{}-g10", world.queue));
        for peak in 0..20_u64 {
            world.submit(&world.task_with(1, json!({"resource_group": one})));
            let finish = json!({"outcome": "success", "peak_ram_mb": 1 + peak / 2, "wall_ms": 1000});
            world.lease_ok(world.take().item("finish", finish));
        }
        world.submit(&world.task_with(1, json!({"resource_group": ten})));
        let stats = world.get("/v1/stats").ok();
        let learned = |group: &str| stats["learned"][group].clone();
        assert_eq!((&learned(&one)["ram_mb"], &learned(&one)["time_s"]), (&json!(100), &json!(1800)), "{stats}");
        assert!(learned(&ten).is_null(), "one group reads another: {stats}");
        assert_eq!(Process::output(world.cluster, &["stats", "--forget", &one]).0, Some(0));
        let stats = world.get("/v1/stats").ok();
        assert!(stats["learned"][&one].is_null(), "it was to forget: {stats}");
    });
}
