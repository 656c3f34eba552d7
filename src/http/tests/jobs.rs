//! Submitting, looking, and the verbs on a job.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn scenario_01_job_without_ops_is_invalid_and_uses_no_id() {
    let stage = Stage::formed(1).await;
    let refused = stage.post(0, "/v1/jobs", "{}").await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (400, "invalid"));
    assert_eq!(refused.json()["results"][0]["ok"], false);
    assert_eq!(stage.submit(r#"{"sleep": 1}"#).await, 1);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_02_and_03_batches_answer_per_job() {
    let stage = Stage::formed(1).await;
    assert_eq!(stage.post(0, "/v1/jobs", r#"{"jobs": []}"#).await.ok()["results"].as_array().map(Vec::len), Some(0));
    let jobs = r#"[{"sleep": 1}, {"sleep": 1, "priority": "urgent"}, {"sleep": 1}]"#;
    let mixed = stage.post(0, "/v1/jobs", &format!(r#"{{"jobs": {jobs}}}"#)).await.ok();
    let results = &mixed["results"];
    assert_eq!((&results[0]["id"], &results[2]["id"]), (&1.into(), &2.into()));
    assert_eq!(
        (&results[1]["error"]["code"], &results[1]["error"]["details"]["field"]),
        (&"invalid".into(), &"priority".into())
    );
    let atomic = stage.post(0, "/v1/jobs", &format!(r#"{{"atomic": true, "jobs": {jobs}}}"#)).await.ok();
    let codes: Vec<_> = (0..3).map(|at| atomic["results"][at]["error"]["code"].clone()).collect();
    assert_eq!(codes, ["aborted", "invalid", "aborted"]);
    assert_eq!(stage.submit(r#"{"sleep": 1}"#).await, 3);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn job_is_shown_as_it_was_submitted() {
    let stage = Stage::formed(1).await;
    let id = stage
        .submit(r#"{"queue": "etl", "name": "n", "groups": ["g"], "priority": "low", "meta": {"a":  1}, "needs": {"cores": 1.5},
                   "reason": "why", "ops": [{"argv": ["true"]}, {"kind": "mail", "body": {"base64": "AP8="}}]}"#)
        .await;
    let job = stage.get(0, &format!("/v1/jobs/{id}")).await.ok();
    for (field, value) in [
        ("queue", serde_json::json!("etl")),
        ("name", serde_json::json!("n")),
        ("status", serde_json::json!("queued")),
        ("priority", serde_json::json!(10)),
        ("groups", serde_json::json!(["g"])),
        ("meta", serde_json::json!({ "a": 1 })),
        ("needs", serde_json::json!({ "cores": 1.5, "ram_mb": 0, "disk_mb": 0, "time_s": 0 })),
        ("ended_at", Value::Null),
        ("archived", serde_json::json!(false)),
        ("attempts", serde_json::json!(0)),
    ] {
        assert_eq!(job[field], value, "{field}: {job}");
    }
    assert_eq!(job["ops"][0]["args"]["argv"][0], "true");
    assert_eq!(job["ops"][1]["body"]["base64"], "AP8=");
    assert_eq!((&job["reasons"][0]["text"], &job["reasons"][0]["at_ms"]), (&"why".into(), &job["received_at"]));
    let some = stage.get(0, &format!("/v1/jobs/{id}?fields=status,id")).await;
    assert_eq!(some.text, format!(r#"{{"status":"queued","id":{id}}}"#));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listing_pages_are_stable_and_select() {
    let stage = Stage::formed(1).await;
    let specs: Vec<_> = (0..25).map(|n| format!(r#"{{"sleep": 1, "queue": "q{}", "name": "n{n}"}}"#, n % 2)).collect();
    stage.post(0, "/v1/jobs", &format!(r#"{{"jobs": [{}]}}"#, specs.join(","))).await.ok();
    stage.post(0, "/v1/jobs/3/cancel", "").await.ok();
    stage.post(0, "/v1/jobs/4/cancel", "").await.ok();
    stage.post(0, "/v1/jobs/4/archive", "").await.ok();
    let ids = async |query: &str| {
        let (mut ids, mut after) = (Vec::new(), String::new());
        loop {
            let page = stage.get(0, &format!("/v1/jobs?fields=id&limit=7{query}{after}")).await.ok();
            ids.extend(page["jobs"].as_array().expect("jobs").iter().filter_map(|job| job["id"].as_u64()));
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return ids,
            }
        }
    };
    assert_eq!(ids("").await, (1..=25).filter(|id| *id != 4).collect::<Vec<_>>());
    assert_eq!(ids("&archived=true").await, (1..=25).collect::<Vec<_>>());
    assert_eq!(ids("&status=canceled&archived=true").await, [3, 4]);
    assert_eq!(
        ids("&queue=q1&status=queued,running").await,
        (1..=12).map(|n| n * 2).filter(|id| *id != 4).collect::<Vec<_>>()
    );
    assert_eq!(ids("&name=n7").await, [8]);
    let named = stage.get(0, "/v1/jobs?ids=2,99&fields=id,status").await;
    assert_eq!(named.text, r#"{"jobs":[{"id":2,"status":"queued"},{"id":99,"missing":true}],"next":null}"#);
    stage.end().await;
}

/// What filters may be compared with stands beside what jobs show, and must say the same.
#[tokio::test(flavor = "multi_thread")]
async fn filters_know_every_field_and_what_it_holds() {
    let stage = Stage::formed(1).await;
    let id = stage.submit(r#"{"shell": "false"}"#).await;
    let claim = format!(r#"{{"worker": {{"id": "w"}}, "ids": [{id}], "start": true}}"#);
    let lease = stage.post(0, "/v1/claim", &claim).await.ok()["jobs"][0]["lease"].clone();
    let bury = format!(r#"{{"items": [{{"job": {id}, "lease": {lease}, "do": "bury", "reason": "why"}}]}}"#);
    stage.post(0, "/v1/leases", &bury).await.ok();
    stage.submit(&format!(r#"{{"shell": "true", "depends": [[{id}]]}}"#)).await;
    for id in [id, id + 1] {
        let job = stage.get(0, &format!("/v1/jobs/{id}")).await.ok();
        for (name, value) in leaves("", &job) {
            let typed = match &value {
                Value::Null => "null".to_owned(),
                other => other.to_string(),
            };
            let filter = encoded(&format!("{name} = {typed}"));
            let found = stage.get(0, &format!("/v1/jobs?fields=id&filter={filter}")).await.ok();
            let ids: Vec<_> = found["jobs"].as_array().expect("jobs").iter().map(|job| job["id"].as_u64()).collect();
            assert!(ids.contains(&Some(id)), "{name} = {typed}: {found}");
        }
    }
    let refused = stage.get(0, "/v1/jobs?filter=attempts%20%3D%20many").await;
    assert_eq!((refused.status.as_u16(), &refused.json()["error"]["details"]["field"]), (400, &"filter".into()));
    stage.end().await;
}

/// Every value that is no object, by the name that a filter has for it.
fn leaves(name: &str, value: &Value) -> Vec<(String, Value)> {
    match value {
        Value::Object(fields) => {
            let inner = |(field, value): (&String, &Value)| leaves(&format!("{name}.{field}"), value);
            fields.iter().flat_map(inner).collect()
        }
        Value::Array(members) => members.iter().flat_map(|member| leaves(name, member)).collect(),
        value => vec![(name.trim_start_matches('.').to_owned(), value.clone())],
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_32_and_38_verbs_refuse_with_their_codes() {
    let stage = Stage::formed(1).await;
    let (canceled, queued) = (stage.submit(r#"{"sleep": 1}"#).await, stage.submit(r#"{"sleep": 1}"#).await);
    let done = stage.post(0, &format!("/v1/jobs/{canceled}/cancel"), "").await.ok();
    assert_eq!((&done["job"]["status"], &done["changed"]), (&"canceled".into(), &true.into()));
    let again = stage.post(0, &format!("/v1/jobs/{canceled}/cancel"), "").await;
    assert_eq!((again.status.as_u16(), again.code().as_str()), (409, "finished"));
    assert_eq!(stage.post(0, "/v1/jobs/99/cancel", "").await.code(), "not_found");
    assert_eq!(stage.post(0, &format!("/v1/jobs/{canceled}/archive"), "").await.ok()["changed"], true);
    assert_eq!(stage.post(0, &format!("/v1/jobs/{canceled}/archive"), "").await.ok()["changed"], false);
    let early = stage.post(0, &format!("/v1/jobs/{queued}/archive"), "").await;
    assert!(early.status == StatusCode::CONFLICT || early.json()["changed"] == false, "{early:?}");
    let priority = stage.post(0, &format!("/v1/jobs/{queued}/priority"), r#"{"priority": "very_high"}"#).await.ok();
    assert_eq!(priority["changed"], true);
    assert_eq!(stage.get(0, &format!("/v1/jobs/{queued}")).await.ok()["priority"], -20);
    stage.post(0, &format!("/v1/jobs/{queued}/bury"), r#"{"reason": "later"}"#).await.ok();
    assert_eq!(stage.get(0, &format!("/v1/jobs/{queued}")).await.ok()["status"], "buried");
    assert_eq!(stage.post(0, &format!("/v1/jobs/{queued}/kick"), "").await.ok()["changed"], true);
    assert_eq!(stage.post(0, &format!("/v1/jobs/{queued}/kick"), "").await.ok()["changed"], false);
    stage.send(0, Method::DELETE, &format!("/v1/jobs/{queued}"), &[], "").await.ok();
    assert_eq!(stage.get(0, &format!("/v1/jobs/{queued}")).await.code(), "not_found");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drained_queue_refuses_the_whole_call() {
    let stage = Stage::formed(1).await;
    let headers = [("raftq-user", "ops")];
    let drained =
        stage.send(0, Method::PUT, "/v1/drain", &headers, r#"{"drained": true, "reason": "disk"}"#).await.ok();
    assert_eq!((&drained["drained"], &drained["by"]), (&true.into(), &"ops".into()));
    let refused = stage.post(0, "/v1/jobs", r#"{"jobs": [{"sleep": 1}]}"#).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (503, "drained"));
    assert_eq!(stage.get(0, "/v1/drain").await.ok()["reason"], "disk");
    stage.put(0, "/v1/drain", r#"{"drained": false}"#).await.ok();
    stage.submit(r#"{"sleep": 1}"#).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repeat_under_a_key_has_one_effect_and_the_first_answer() {
    let stage = Stage::formed(1).await;
    let key = [("idempotency-key", "client/1")];
    let first = stage.send(0, Method::POST, "/v1/jobs", &key, r#"{"sleep": 1}"#).await.ok();
    let second = stage.send(0, Method::POST, "/v1/jobs", &key, r#"{"sleep": 1}"#).await.ok();
    assert_eq!(first, second);
    let other = stage.send(0, Method::POST, "/v1/jobs", &key, r#"{"sleep": 2}"#).await;
    assert_eq!((other.status.as_u16(), other.code().as_str()), (409, "conflict"));
    assert_eq!(stage.get(0, "/v1/jobs").await.ok()["jobs"].as_array().map(Vec::len), Some(1));
    stage.end().await;
}
