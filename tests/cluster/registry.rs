//! Names that the queue keeps until somebody forgets them: workers, and queues with totals.

use std::time::Duration;

use serde_json::{Value, json};
use ureq::http::Method;

use crate::harness::{Call, Cluster, Process, World, eventually};

const SOON: Duration = Duration::from_secs(20);

fn known(world: &World) -> Vec<String> {
    let answer = world.get("/v1/workers").ok();
    let workers = answer["workers"].as_array().expect("a list");
    workers.iter().map(|worker| worker["id"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn worker_is_forgotten_from_the_command_line() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let entry = json!({"kind": "runner", "ttl_ms": 3_600_000});
    for id in ["gone", "stays"] {
        world.put(&format!("/v1/workers/{id}"), &entry).ok();
    }
    let forget = || Process::output(&cluster, &["workers", "--forget", "gone", "--json"]);
    let (code, printed) = forget();
    let printed: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!((code, printed), (Some(0), json!({"id": "gone", "removed": true})));
    let names = known(&world);
    assert!(!names.contains(&"gone".to_owned()) && names.contains(&"stays".to_owned()), "{names:?}");
    assert_eq!(forget().0, Some(1), "there is none any more");
}

#[test]
fn pool_that_is_forgotten_while_it_leads_enters_itself_again() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let pool = format!("pool-{}", cluster.leader().id);
    let is_known = || known(&world) == [pool.clone()];
    eventually("the pool is entered", SOON, || is_known().then_some(()));
    world.client.delete(&format!("/v1/workers/{pool}")).ok();
    eventually("the pool is entered again", SOON, || is_known().then_some(()));
}

#[test]
fn queue_is_forgotten_from_the_command_line_and_its_totals_stay_in_the_sum() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let id = world.submit(&json!({"queue": "old", "kind": "task"}));
    world.verb(id, "cancel", json!({}));
    let forget = || Process::output(&cluster, &["queues", "--forget", "old", "--json"]).0;
    assert_eq!((forget(), forget()), (Some(0), Some(1)));
    cluster.kill_leader();
    let queues = world.get("/v1/queues").ok();
    assert_eq!((&queues["queues"], &queues["other_totals"]["canceled"]), (&json!([]), &json!(1)), "{queues}");
}

#[test]
fn pool_of_a_removed_member_leaves_the_registry() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let first = cluster.kill_leader();
    let second = cluster.leader().id;
    let pools = |nodes: &[u64]| {
        let mut pools: Vec<String> = nodes.iter().map(|node| format!("pool-{node}")).collect();
        pools.sort();
        pools
    };
    eventually("both have led", SOON, || (known(&world) == pools(&[first, second])).then_some(()));
    world.client.call(Call::new(Method::DELETE, &format!("/v1/cluster/members/{first}")).within(SOON)).ok();
    eventually("the pool has gone with its node", SOON, || (known(&world) == pools(&[second])).then_some(()));
}
