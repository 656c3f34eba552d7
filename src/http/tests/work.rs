//! Claims, leases, and waiting for either.

use serde_json::json;

use super::*;

const CLAIM: &str = r#"{"worker": {"id": "w1", "host": "h"}, "queues": ["default"], "start": true}"#;

#[tokio::test(flavor = "multi_thread")]
async fn life_of_a_job_under_a_lease() {
    let stage = Stage::formed(1).await;
    let id = stage
        .submit(r#"{"name": "n", "meta": {"k": 1}, "ops": [{"kind": "a", "body": "x"}, {"kind": "b", "args": [1]}]}"#)
        .await;
    let granted = stage.post(0, "/v1/claim", CLAIM).await.ok();
    let job = &granted["jobs"][0];
    assert_eq!(
        (&job["job"]["id"], &job["job"]["name"], &job["job"]["meta"]),
        (&id.into(), &"n".into(), &json!({ "k": 1 }))
    );
    assert_eq!((&job["op"]["kind"], &job["op"]["body"], &job["op"]["attempts"]), (&"a".into(), &"x".into(), &1.into()));
    let lease = &job["lease"];
    let touch = json!({ "items": [{ "job": id, "lease": lease, "do": "touch", "log": [{ "type": "t", "text": "hello" }], "log_seq": 1, "progress": 0.5 }] });
    let touched = stage.post(0, "/v1/leases", &touch.to_string()).await.ok();
    assert_eq!((&touched["results"][0]["ok"], &touched["results"][0]["cancel"]), (&true.into(), &"none".into()));
    let finish = json!({ "items": [{ "job": id, "lease": lease, "do": "finish", "outcome": "success", "result": { "r": 1 } }],
                         "claim": { "worker": { "id": "w1" }, "queues": ["default"] } });
    let finished = stage.post(0, "/v1/leases", &finish.to_string()).await.ok();
    assert_eq!(finished["results"][0]["ok"], true);
    let next = &finished["jobs"][0];
    assert_eq!(
        (&next["op"]["index"], &next["op"]["args"], &next["job"]["results"]),
        (&1.into(), &json!([1]), &json!([{ "r": 1 }]))
    );
    let log = stage.get(0, &format!("/v1/jobs/{id}/log?after=0")).await.ok();
    assert_eq!((&log["log"][0]["serial"], &log["log"][0]["text"]), (&1.into(), &"hello".into()));
    let shown = stage.get(0, &format!("/v1/jobs/{id}")).await.ok();
    assert_eq!(
        (&shown["ops"][0]["result"], &shown["ops"][1]["status"], &shown["worker"]),
        (&json!({ "r": 1 }), &"reserved".into(), &"w1".into())
    );
    stage.end().await;
}

/// The leader remembers specs as they came; what counts is what they are now.
#[tokio::test(flavor = "multi_thread")]
async fn claim_tells_what_an_edit_has_made_of_a_job() {
    let stage = Stage::formed(1).await;
    let id = stage.submit(r#"{"argv": ["first"], "name": "n"}"#).await;
    stage.send(0, Method::PATCH, &format!("/v1/jobs/{id}"), &[], r#"{"argv": ["second"], "name": "m"}"#).await.ok();
    let granted = stage.post(0, "/v1/claim", CLAIM).await.ok();
    let job = &granted["jobs"][0];
    assert_eq!((&job["job"]["name"], &job["op"]["args"]), (&"m".into(), &json!({ "argv": ["second"] })));
    stage.end().await;
}

/// A first lease has none to look for; one that was given back while it had not even begun may have left one.
#[tokio::test(flavor = "multi_thread")]
async fn claim_tells_the_checkpoint_of_any_earlier_lease() {
    let stage = Stage::formed(1).await;
    let id = stage.submit(r#"{"kind": "x"}"#).await;
    let reserve = r#"{"worker": {"id": "w"}, "queues": ["default"]}"#;
    let granted = stage.post(0, "/v1/claim", reserve).await.ok();
    assert_eq!(granted["jobs"][0]["job"]["checkpoint"], json!(null));
    let lease = &granted["jobs"][0]["lease"];
    let items = json!([{ "job": id, "lease": lease, "do": "touch", "checkpoint": { "at": 5 } },
                       { "job": id, "lease": lease, "do": "release" }]);
    stage.post(0, "/v1/leases", &json!({ "items": items }).to_string()).await.ok();
    let again = stage.post(0, "/v1/claim", reserve).await.ok();
    assert_eq!(again["jobs"][0]["job"]["checkpoint"], json!({ "at": 5 }));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_16_made_up_leases_change_nothing() {
    let stage = Stage::formed(1).await;
    let id = stage.submit(r#"{"kind": "x"}"#).await;
    let calls = async |lease: u64| {
        let items: Vec<_> = [
            json!({ "do": "start" }),
            json!({ "do": "touch" }),
            json!({ "do": "finish", "outcome": "success" }),
            json!({ "do": "release" }),
            json!({ "do": "bury" }),
        ]
        .into_iter()
        .map(|mut item| {
            item["job"] = id.into();
            item["lease"] = lease.into();
            item
        })
        .collect();
        let answer = stage.post(0, "/v1/leases", &json!({ "items": items }).to_string()).await.ok();
        answer["results"].as_array().expect("results").iter().map(|result| result["error"].clone()).collect::<Vec<_>>()
    };
    for error in calls(4711).await {
        assert_eq!(error["code"], "not_claimed");
    }
    let lease = stage.post(0, "/v1/claim", CLAIM).await.ok()["jobs"][0]["lease"].clone();
    for error in calls(4711).await {
        assert_eq!((&error["code"], &error["details"]["owner"]), (&"stale_lease".into(), &"w1".into()));
    }
    let finish = json!({ "items": [{ "job": id, "lease": lease, "do": "finish", "outcome": "success" }] }).to_string();
    for _ in 0..2 {
        assert_eq!(stage.post(0, "/v1/leases", &finish).await.ok()["results"][0]["ok"], true);
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_08_waiting_claim_gets_the_job_at_once_and_nobody_else() {
    let stage = Stage::formed(1).await;
    let wait =
        |worker: &str| json!({ "worker": { "id": worker }, "queues": ["default"], "wait_ms": 10_000 }).to_string();
    let (first, second) = (wait("first"), wait("second"));
    let claims = async {
        let first = stage.post(0, "/v1/claim", &first);
        let second = async {
            in_line(&stage, 1).await;
            stage.post(0, "/v1/claim", &second).await
        };
        let submit = async {
            in_line(&stage, 2).await;
            let began = Instant::now();
            let first = stage.submit(r#"{"kind": "x"}"#).await;
            (began, first)
        };
        let pass_on = async |(began, id): (Instant, u64)| (began.elapsed(), id);
        tokio::join!(first, second, async {
            let submitted = pass_on(submit.await).await;
            in_line(&stage, 1).await;
            let second = stage.submit(r#"{"kind": "x"}"#).await;
            (submitted, second)
        })
    };
    let (first, second, ((_, id), later)) = tokio::time::timeout(PATIENCE, claims).await.expect("nobody waits in vain");
    assert_eq!(first.ok()["jobs"][0]["job"]["id"], id);
    assert_eq!(second.ok()["jobs"][0]["job"]["id"], later);
    stage.end().await;
}

/// Enough to notice a cost that grows with waiters squared, few enough for every run of the tests.
const MANY: usize = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn many_waiters_cost_little_and_all_hear() {
    let stage = Stage::formed(1).await;
    let id = stage.submit(r#"{"kind": "x", "queue": "aside"}"#).await;
    let version = stage.get(0, &format!("/v1/jobs/{id}")).await.ok()["version"].clone();
    let client: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let uri = format!("http://{}/v1/jobs/{id}/wait?since={version}&fields=status&timeout_ms=60000", stage.nodes[0].api);
    let wait = async || {
        let request = Request::get(&uri).body(Full::new(Bytes::new())).expect("a request");
        client.request(request).await.expect("answers").into_body().collect().await.expect("a body").to_bytes()
    };
    let waits = futures::future::join_all((0..MANY).map(|_| wait()));
    let (answers, ()) = tokio::join!(waits, async {
        let line = format!("raftq_waiting_for_jobs {MANY}\n");
        stage.until("all wait", async || stage.get(0, "/metrics").await.text.contains(&line)).await;
        for _ in 0..20 {
            stage.submit(r#"{"kind": "x"}"#).await;
        }
        stage.post(0, &format!("/v1/jobs/{id}/cancel"), "").await.ok();
    });
    assert!(answers.iter().all(|answer| answer.starts_with(br#"{"job":{"status":"canceled"}"#)));
    assert_eq!(stage.get(0, "/metrics").await.text.matches("raftq_waiting_for_jobs 0\n").count(), 1);
    stage.end().await;
}

/// Until so many claims wait.
async fn in_line(stage: &Stage, count: usize) {
    let line = format!("raftq_waiting_claims {count}\n");
    stage.until("claims in line", async || stage.get(0, "/metrics").await.text.contains(&line)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_claim_ends_empty_without_an_error() {
    let stage = Stage::formed(1).await;
    let began = Instant::now();
    let claim = r#"{"worker": {"id": "w"}, "queues": ["default"], "wait_ms": 50}"#;
    assert_eq!(stage.post(0, "/v1/claim", claim).await.ok(), json!({ "jobs": [] }));
    assert!(began.elapsed() >= Duration::from_millis(50));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_claim_under_a_key_is_answered_once() {
    let stage = Stage::formed(1).await;
    let claim = r#"{"worker": {"id": "w"}, "queues": ["default"], "wait_ms": 10000}"#;
    let key = [("idempotency-key", "w/1")];
    let (first, id) = tokio::join!(stage.send(0, Method::POST, "/v1/claim", &key, claim), async {
        in_line(&stage, 1).await;
        stage.submit(r#"{"kind": "x"}"#).await
    });
    assert_eq!(first.ok()["jobs"][0]["job"]["id"], id);
    stage.submit(r#"{"kind": "x"}"#).await;
    let again = stage.send(0, Method::POST, "/v1/claim", &key, claim).await.ok();
    assert_eq!(again["jobs"][0]["lease"], first.ok()["jobs"][0]["lease"]);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_44_wait_for_a_job() {
    let stage = Stage::formed(1).await;
    let id = stage.submit(r#"{"kind": "x"}"#).await;
    let version = stage.get(0, &format!("/v1/jobs/{id}")).await.ok()["version"].clone();
    let path =
        |timeout: u64| format!("/v1/jobs/{id}/wait?since={version}&log_serial=0&fields=id,status&timeout_ms={timeout}");
    let began = Instant::now();
    assert_eq!(stage.get(0, &path(100)).await.ok(), json!({ "unchanged": true }));
    assert!(began.elapsed() >= Duration::from_millis(100));
    assert_eq!(stage.get(0, &path(0)).await.ok(), json!({ "unchanged": true }));
    let waiting = async {
        stage
            .until("a waiter", async || stage.get(0, "/metrics").await.text.contains("raftq_waiting_for_jobs 1\n"))
            .await;
        stage.post(0, &format!("/v1/jobs/{id}/cancel"), "").await.ok()
    };
    let long = path(30_000);
    let (news, _) = tokio::join!(stage.get(0, &long), waiting);
    assert_eq!(news.ok()["job"], json!({ "id": id, "status": "canceled" }));
    assert_eq!(stage.get(0, &path(30_000)).await.ok()["job"]["status"], "canceled");
    assert_eq!(stage.get(0, "/v1/jobs/99/wait").await.code(), "not_found");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_of_a_remote_worker_is_shown_while_it_runs() {
    let stage = Stage::formed(1).await;
    let id = stage.submit(r#"{"kind": "x"}"#).await;
    let lease = stage.post(0, "/v1/claim", CLAIM).await.ok()["jobs"][0]["lease"].clone();
    let touch = |output: Value| {
        json!({ "items": [{ "job": id, "lease": lease, "do": "touch", "output": output }] }).to_string()
    };
    stage.post(0, "/v1/leases", &touch(json!("half"))).await.ok();
    let path = format!("/v1/jobs/{id}/output");
    let live = stage.get(0, &path).await.ok();
    assert_eq!((&live["stdout"], &live["complete"], &live["attempt"]), (&"half".into(), &false.into(), &1.into()));
    stage.post(0, "/v1/leases", &touch(json!({ "stdout": "half and", "stderr": "e" }))).await.ok();
    assert_eq!(stage.get(0, &path).await.ok()["stderr"], "e");
    let finish =
        json!({ "items": [{ "job": id, "lease": lease, "do": "finish", "outcome": "success", "stdout": "all" }] });
    stage.post(0, "/v1/leases", &finish.to_string()).await.ok();
    let done = stage.get(0, &path).await.ok();
    assert_eq!((&done["stdout"], &done["complete"]), (&"all".into(), &true.into()));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn environment_is_kept_once_and_given_to_the_worker() {
    let stage = Stage::formed(1).await;
    let batch =
        json!({ "environment": { "A": "1" }, "jobs": [{ "kind": "x" }, { "kind": "x", "environment": { "B": "2" } }] });
    stage.post(0, "/v1/jobs", &batch.to_string()).await.ok();
    let lone = stage.post(0, "/v1/jobs", r#"{"kind": "x", "environment": {"A": 1}}"#).await;
    assert_eq!(lone.json()["error"]["details"]["field"], "environment.A", "{}", lone.text);
    let claim = r#"{"worker": {"id": "w"}, "queues": ["default"], "max": 5}"#;
    let jobs = stage.post(0, "/v1/claim", claim).await.ok();
    assert_eq!(
        (&jobs["jobs"][0]["job"]["environment"], &jobs["jobs"][1]["job"]["environment"]),
        (&json!({ "A": "1" }), &json!({ "B": "2" }))
    );
    stage.end().await;
}

/// Those that never had a lease among them; a ring of slots holds the last ten.
#[tokio::test(flavor = "multi_thread")]
async fn attempts_stand_in_the_order_in_which_they_happened() {
    let stage = Stage::formed(1).await;
    let id = stage.submit(r#"{"kind": "x", "needs": {"cores": 1}, "retries": 20}"#).await;
    for _ in 0..12 {
        let lease = stage.post(0, "/v1/claim", CLAIM).await.ok()["jobs"][0]["lease"].clone();
        let finish = json!({ "items": [{ "job": id, "lease": lease, "do": "finish", "outcome": "failure", "delay_ms": 0,
                                         "fail_reason": "mine", "stdout": lease.to_string() }] });
        stage.post(0, "/v1/leases", &finish.to_string()).await.ok();
    }
    stage.put(0, "/v1/workers/small", r#"{"ttl_ms": 60000, "resources": {"cores": 0.5}}"#).await.ok();
    stage.put(0, "/v1/policy", r#"{"bury_impossible": true}"#).await.ok();
    stage.post(0, &format!("/v1/jobs/{id}/bury"), "").await.ok();
    stage.post(0, &format!("/v1/jobs/{id}/kick"), "").await.ok();

    let job = stage.get(0, &format!("/v1/jobs/{id}")).await.ok();
    let history = job["ops"][0]["history"].as_array().expect("a list");
    let numbers: Vec<u64> = history.iter().map(|attempt| attempt["attempt"].as_u64().expect("a number")).collect();
    assert_eq!(numbers, [4, 5, 6, 7, 8, 9, 10, 11, 12, 0], "{job}");
    assert_eq!(job["fail_reason"], "resources_impossible");
    let output = stage.get(0, &format!("/v1/jobs/{id}/output")).await.ok();
    assert_eq!((&output["attempt"], &output["stdout"]), (&12.into(), &"12".into()), "the last that has any");
    stage.end().await;
}

/// A worker packs by what it is told: learned and raised needs count, not what was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn needs_of_a_granted_job_are_those_that_count() {
    let stage = Stage::formed(1).await;
    let spec = r#"{"kind": "x", "resource_group": "g", "needs": {"ram_mb": 5000, "cores": 0.5}}"#;
    let teacher = stage.submit(spec).await;
    let first = stage.post(0, "/v1/claim", CLAIM).await.ok();
    assert_eq!(first["jobs"][0]["job"]["needs"]["ram_mb"], 5000);
    let finish = json!({ "items": [{ "job": teacher, "lease": first["jobs"][0]["lease"], "do": "finish", "outcome": "success",
                                     "peak_ram_mb": 130, "wall_ms": 1 }] });
    stage.post(0, "/v1/leases", &finish.to_string()).await.ok();
    let id = stage.submit(spec).await;
    let counts = json!({ "cores": 0.5, "ram_mb": 200, "disk_mb": 0, "time_s": 1800 });
    let shown = stage.get(0, &format!("/v1/jobs/{id}?fields=needs,effective_needs")).await.ok();
    assert_eq!((&shown["needs"]["ram_mb"], &shown["effective_needs"]), (&5000.into(), &counts), "{shown}");
    let free = r#"{"worker": {"id": "w1"}, "queues": ["default"], "start": true, "free": {"ram_mb": 200}}"#;
    assert_eq!(stage.post(0, "/v1/claim", free).await.ok()["jobs"][0]["job"]["needs"], counts);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resource_group_that_is_forgotten_leaves_what_was_asked_for() {
    let stage = Stage::formed(1).await;
    let spec = r#"{"kind": "x", "resource_group": "a/b", "needs": {"ram_mb": 5000}}"#;
    let id = stage.submit(spec).await;
    let lease = stage.post(0, "/v1/claim", CLAIM).await.ok()["jobs"][0]["lease"].clone();
    let finish =
        json!({ "items": [{ "job": id, "lease": lease, "do": "finish", "outcome": "success", "peak_ram_mb": 130 }] });
    stage.post(0, "/v1/leases", &finish.to_string()).await.ok();
    assert_eq!(stage.get(0, "/v1/stats").await.ok()["learned"]["a/b"]["ram_mb"], 200);
    let id = stage.submit(spec).await;
    let forgotten = stage.send(0, Method::DELETE, "/v1/stats/groups/a%2Fb", &[], "").await.ok();
    assert_eq!(forgotten, json!({ "name": "a/b", "forgotten": true }));
    assert_eq!(stage.get(0, "/v1/stats").await.ok()["learned"], json!({}));
    let shown = stage.get(0, &format!("/v1/jobs/{id}?fields=effective_needs")).await.ok();
    assert_eq!(shown["effective_needs"]["ram_mb"], 5000);
    let twice = stage.send(0, Method::DELETE, "/v1/stats/groups/a%2Fb", &[], "").await;
    assert_eq!((twice.status.as_u16(), twice.code().as_str()), (404, "not_found"));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claim_by_ids_answers_for_each_in_order_with_the_fields_of_the_contract() {
    let stage = Stage::formed(1).await;
    let (free, held) = (stage.submit(r#"{"kind": "x"}"#).await, stage.submit(r#"{"kind": "x"}"#).await);
    let claim = async |ids: [u64; 3]| {
        let body = json!({ "worker": { "id": "w" }, "ids": ids }).to_string();
        stage.post(0, "/v1/claim", &body).await.ok()["jobs"].as_array().expect("jobs").clone()
    };
    claim([held, held, held]).await;
    let jobs = claim([held, free, 99]).await;
    let told: Vec<_> = jobs.iter().map(|job| (&job["job"]["id"], &job["error"]["code"])).collect();
    let expected = [(held.into(), "claimed".into()), (free.into(), Value::Null), (99.into(), "not_found".into())];
    assert_eq!(told, expected.iter().map(|(id, code)| (id, code)).collect::<Vec<_>>());
    let fields = json!({ "name": null, "groups": [], "meta": null, "checkpoint": null, "results": [] });
    for (field, value) in fields.as_object().expect("an object") {
        assert_eq!(jobs[1]["job"].get(field), Some(value), "{field}");
    }
    stage.end().await;
}
