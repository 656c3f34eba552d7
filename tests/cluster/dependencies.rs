//! Scenarios 34 to 37: jobs that wait for jobs.

use serde_json::{Value, json};

use crate::harness::{World, scenario};

#[test]
fn scenario_34_blocked_job_names_what_it_waits_for() {
    scenario(|world| {
        let (x, y) = (world.submit(&world.task(1)), world.submit(&world.task(1)));
        let id = world.submit(&depending(world, json!([[x, []], [y, []]])));
        let job = world.job(id);
        assert_eq!((&job["status"], blocked_by(&job)), (&json!("blocked"), vec![x, y]));
        let version = job["version"].clone();
        finish(world, x);
        assert_eq!(blocked_by(&world.job(id)), [y]);
        finish(world, y);
        let job = world.job(id);
        assert_eq!(job["status"], "queued");
        assert!(job["version"].as_u64() > version.as_u64());
        assert_eq!(world.take().job, id);
    });
}

#[test]
fn scenario_35_relative_dependencies_are_stored_absolute() {
    scenario(|world| {
        world.submit_all(&[depending(world, json!([[-1, []]]))])[0]["error"]["code"]
            .as_str()
            .filter(|code| *code == "invalid")
            .expect("a first job has nothing before it");
        let ids = world.submit_each(&[
            world.task(1),
            depending(world, json!([[-1, []]])),
            depending(world, json!([[-2, ["success"]]])),
            world.task(1),
            depending(world, json!([[-2, ["success"]]])),
        ]);
        let waits: Vec<Vec<u64>> = ids.iter().map(|id| blocked_by(&world.job(*id))).collect();
        assert_eq!(waits, [vec![], vec![ids[0]], vec![ids[0]], vec![], vec![ids[2]]]);
    });
}

#[test]
fn scenario_36_outcomes_of_dependencies() {
    scenario(|world| {
        // A canceled one that is not listed cancels the dependent.
        let x = world.submit(&world.task(1));
        let id = world.submit(&depending(world, json!([[x, ["success"]]])));
        world.verb(x, "cancel", json!({}));
        assert_eq!(world.status(id), "canceled");

        // An error where success is required is an error that names it.
        let x = world.submit(&world.task_with(1, json!({"on_failure": "error"})));
        let id = world.submit(&depending(world, json!([[x, ["success"]]])));
        world.fail(&world.take(), "exit_nonzero");
        let job = world.job(id);
        assert!(matches!(job["status"].as_str(), Some("error" | "buried")), "{job}");
        let op = job["ops"][0].to_string();
        assert!(op.contains("dependency") && op.contains(&x.to_string()), "{op} does not name {x}");

        // A success that was archived counts.
        let x = world.submit(&world.task(1));
        finish(world, x);
        world.verb(x, "archive", json!({}));
        let id = world.submit(&depending(world, json!([[x, ["success"]]])));
        assert_eq!(world.take().job, id);
    });
}

#[test]
fn scenario_37_members_name_each_other_but_not_in_a_circle() {
    scenario(|world| {
        let member = |name: &str, on: &str| {
            world.task_with(1, json!({"as": name, "ops": [{"kind": "task", "depends": [[format!("@{on}"), []]]}]}))
        };
        let circle = [member("a", "b"), member("b", "c"), member("c", "a")];
        for result in world.submit_all(&circle) {
            let error = &result["error"];
            assert_eq!(error["code"], "invalid", "{result}");
            assert!(
                ["a", "b", "c"].iter().all(|name| error.to_string().contains(name)),
                "the circle is not named: {error}"
            );
        }
        let ids = world.submit_each(&[member("late", "early"), world.task_with(1, json!({"as": "early"}))]);
        assert_eq!(blocked_by(&world.job(ids[0])), [ids[1]]);
    });
}

fn depending(world: &World, depends: Value) -> Value {
    world.task_with(1, json!({"ops": [{"kind": "task", "depends": depends}]}))
}

#[track_caller]
fn finish(world: &World, id: u64) {
    let held = world.take();
    assert_eq!(held.job, id);
    world.succeed(&held, json!(null));
}

/// The ids that a job waits for.
fn blocked_by(job: &Value) -> Vec<u64> {
    let list = job["blocked_by"].as_array().cloned().unwrap_or_default();
    list.iter().map(|on| on["id"].as_u64().expect("an id")).collect()
}
