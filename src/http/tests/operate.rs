//! What operators do: many jobs at once, edits, limits, the policy, workers, events.

use serde_json::json;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn bulk_does_a_bounded_piece_and_says_where_to_go_on() {
    let stage = Stage::formed(1).await;
    let specs: Vec<_> = (0..10).map(|n| format!(r#"{{"kind": "x", "queue": "q{}"}}"#, n % 2)).collect();
    stage.post(0, "/v1/jobs", &format!(r#"{{"jobs": [{}]}}"#, specs.join(","))).await.ok();
    let bulk = async |body: Value| stage.post(0, "/v1/jobs/bulk", &body.to_string()).await;
    let dry = bulk(json!({ "do": "cancel", "select": { "queue": "q0" }, "dry_run": true })).await.ok();
    assert_eq!((&dry["matched"], &dry["changed"]), (&5.into(), &0.into()));
    let first =
        bulk(json!({ "do": { "verb": "cancel", "reason": "r" }, "select": { "queue": "q0" }, "limit": 3 })).await.ok();
    assert_eq!((&first["changed"], first["next"].is_string()), (&3.into(), true));
    let second =
        bulk(json!({ "do": "cancel", "select": { "queue": "q0", "status": ["queued"] }, "after": first["next"] }))
            .await
            .ok();
    assert_eq!((&second["changed"], &second["next"]), (&2.into(), &Value::Null));
    let beside = bulk(json!({ "do": "priority", "priority": "high", "select": { "queue": "q1" } })).await.ok();
    assert_eq!((&beside["changed"], &stage.get(0, "/v1/jobs/2").await.ok()["priority"]), (&5.into(), &json!(-10)));
    let named = bulk(json!({ "do": "cancel", "select": { "ids": [1, 2, 99] } })).await.ok();
    assert_eq!((&named["changed"], &named["refused"]), (&1.into(), &2.into()));
    assert_eq!(named["refusals"][1], json!({ "id": 99, "code": "not_found", "message": "there is no job 99" }));
    for (body, field) in [
        (json!({ "do": "explode", "select": {} }), "do.verb"),
        (json!({ "do": { "verb": "priority" }, "select": {} }), "do.priority"),
        (json!({ "do": "delete" }), "select"),
        (json!({ "do": "kick", "select": {}, "kill": true }), "do.kill"),
        (json!({ "do": "kick", "select": { "colour": 1 } }), "select.colour"),
        (json!({ "do": "kick", "select": { "status": "happy" } }), "status"),
    ] {
        let refused = bulk(body).await;
        assert_eq!(refused.json()["error"]["details"]["field"], field, "{}", refused.text);
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_repeated_under_its_key_gives_the_first_answer_again() {
    let stage = Stage::formed(1).await;
    stage.post(0, "/v1/jobs", r#"{"jobs": [{"kind": "x"}, {"kind": "x"}, {"kind": "x"}, {"kind": "x"}]}"#).await.ok();
    stage.post(0, "/v1/jobs/4/bury", "").await.ok();
    let bulk = async |key: &str, body: &str| {
        stage.send(0, Method::POST, "/v1/jobs/bulk", &[("idempotency-key", key)], body).await.ok()
    };
    let piece = r#"{"do": "cancel", "select": {"status": "queued"}, "limit": 2}"#;
    let first = bulk("k/0", piece).await;
    assert_eq!((&first["changed"], &first["next"]), (&2.into(), &"2".into()));
    assert_eq!(bulk("k/0", piece).await, first, "others fit by now");
    let kick = r#"{"do": "kick", "select": {"ids": [3, 77]}}"#;
    let refused = bulk("k/1", kick).await;
    assert_eq!((&refused["refused"], &refused["refusals"][0]["id"]), (&1.into(), &77.into()));
    let none = r#"{"do": "cancel", "select": {"queue": "empty"}}"#;
    assert_eq!(bulk("k/2", none).await["matched"], 0);
    stage.submit(r#"{"kind": "x", "queue": "empty"}"#).await;
    assert_eq!(bulk("k/2", none).await["matched"], 0, "it was answered before there was one");
    assert_eq!(bulk("k/1", kick).await, refused);
    stage.end().await;
}

/// More of them than one look at the jobs examines.
#[tokio::test(flavor = "multi_thread")]
async fn listing_finds_the_one_job_of_a_queue_behind_thousands_that_ended() {
    let stage = Stage::formed(1).await;
    let specs = vec![r#"{"kind": "x", "queue": "many"}"#; 5_000];
    stage.post(0, "/v1/jobs", &format!(r#"{{"jobs": [{}]}}"#, specs.join(","))).await.ok();
    for _ in 0..5 {
        let piece = json!({ "do": "cancel", "select": { "queue": "many", "status": "queued" } });
        assert_eq!(stage.post(0, "/v1/jobs/bulk", &piece.to_string()).await.ok()["changed"], 1_000);
    }
    let id = stage.submit(r#"{"kind": "x", "queue": "few"}"#).await;
    let page = stage.get(0, "/v1/jobs?queue=few&fields=id").await.ok();
    assert_eq!(page, json!({ "jobs": [{ "id": id }], "next": null }));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edit_changes_fields_of_a_job_that_nobody_holds() {
    let stage = Stage::formed(1).await;
    let id = stage.submit(r#"{"argv": ["true"], "cwd": "/a", "name": "n"}"#).await;
    let path = format!("/v1/jobs/{id}");
    let edited =
        stage.send(0, Method::PATCH, &path, &[], r#"{"cwd": "/b", "retries": 4, "queue": "other"}"#).await.ok();
    assert_eq!(edited["changed"], true);
    let job = stage.get(0, &path).await.ok();
    assert_eq!(
        (&job["ops"][0]["args"]["cwd"], &job["retries_left"], &job["queue"], &job["name"]),
        (&"/b".into(), &4.into(), &"other".into(), &"n".into())
    );
    let read_at = job["version"].as_u64().expect("a version");
    let at = async |version: u64| {
        stage.send(0, Method::PATCH, &path, &[], &format!(r#"{{"version": {version}, "name": "m"}}"#)).await
    };
    let late = at(read_at - 1).await;
    assert_eq!((late.status.as_u16(), late.code().as_str()), (409, "conflict"), "{}", late.text);
    assert_eq!(at(read_at).await.ok()["changed"], true);
    assert_eq!(stage.get(0, &path).await.ok()["name"], "m");
    let wrong = stage.send(0, Method::PATCH, &path, &[], r#"{"colour": 1}"#).await;
    assert_eq!((wrong.status.as_u16(), wrong.code().as_str()), (400, "invalid"));
    stage.post(0, "/v1/claim", r#"{"worker": {"id": "w"}, "queues": ["other"]}"#).await.ok();
    let held = stage.send(0, Method::PATCH, &path, &[], r#"{"cwd": "/c"}"#).await;
    assert_eq!((held.status.as_u16(), held.code().as_str()), (409, "claimed"));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_pauses_policy_and_why() {
    let stage = Stage::formed(1).await;
    let id = stage.submit(r#"{"kind": "x", "limits": ["etl:1"]}"#).await;
    assert_eq!(stage.get(0, "/v1/limits/etl").await.ok(), json!({ "name": "etl", "max": 1, "running": 0 }));
    assert_eq!(stage.put(0, "/v1/limits/etl", r#"{"max": 0}"#).await.ok()["max"], 0);
    let why = stage.get(0, &format!("/v1/jobs/{id}/why")).await.ok();
    assert!(why["why"].to_string().contains("limit group etl is full"), "{why}");
    assert_eq!(stage.put(0, "/v1/limits/etl", r#"{"max": null}"#).await.ok()["max"], Value::Null);
    stage.put(0, "/v1/queues/default", r#"{"paused": true}"#).await.ok();
    let queues = stage.get(0, "/v1/queues").await.ok();
    assert_eq!((&queues["queues"][0]["paused"], &queues["queues"][0]["counts"]["queued"]), (&true.into(), &1.into()));
    let claim = r#"{"worker": {"id": "w"}, "queues": ["default"]}"#;
    assert_eq!(stage.post(0, "/v1/claim", claim).await.ok()["jobs"], json!([]));
    let waiting = r#"{"worker": {"id": "w"}, "queues": ["default"], "wait_ms": 20000}"#;
    let (claimed, ()) = tokio::join!(stage.post(0, "/v1/claim", waiting), async {
        stage.until("in line", async || stage.get(0, "/metrics").await.text.contains("raftq_waiting_claims 1\n")).await;
        stage.put(0, "/v1/queues/*", r#"{"paused": false}"#).await.ok();
        stage.put(0, "/v1/queues/default", r#"{"paused": false}"#).await.ok();
    });
    assert_eq!(claimed.ok()["jobs"][0]["job"]["id"], id);
    let policy = stage.put(0, "/v1/policy", r#"{"live_jobs_max": 1, "archive_after_ms": null}"#).await.ok();
    assert_eq!((&policy["live_jobs_max"], &policy["archive_after_ms"]), (&1.into(), &Value::Null));
    let full = stage.post(0, "/v1/jobs", r#"{"kind": "x"}"#).await;
    assert_eq!((full.status.as_u16(), full.code().as_str()), (429, "queue_full"));
    assert_eq!(stage.get(0, "/v1/stats").await.ok()["live"]["reserved"], 1);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_say_how_their_jobs_have_ended() {
    let stage = Stage::formed(1).await;
    let ids =
        [stage.submit(r#"{"kind": "x", "queue": "a"}"#).await, stage.submit(r#"{"kind": "x", "queue": "a"}"#).await];
    stage.post(0, &format!("/v1/jobs/{}/cancel", ids[0]), "").await.ok();
    let queues = stage.get(0, "/v1/queues").await.ok();
    let (counts, totals) = (&queues["queues"][0]["counts"], &queues["queues"][0]["totals"]);
    assert_eq!((&counts["queued"], totals), (&1.into(), &json!({ "success": 0, "error": 0, "canceled": 1 })));
    stage.post(0, &format!("/v1/jobs/{}/cancel", ids[1]), "").await.ok();
    stage.send(0, Method::DELETE, &format!("/v1/jobs/{}", ids[1]), &[], "").await.ok();
    let queues = stage.get(0, "/v1/queues").await.ok();
    assert_eq!(queues["queues"][0]["totals"]["canceled"], 2, "without live jobs, and when they are deleted");
    stage.send(0, Method::DELETE, "/v1/queues/a", &[], "").await.ok();
    let queues = stage.get(0, "/v1/queues").await.ok();
    assert_eq!(
        (&queues["queues"], &queues["other_totals"]["canceled"]),
        (&json!([]), &2.into()),
        "forgotten, not lost"
    );
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_registered_and_found() {
    let stage = Stage::formed(1).await;
    let entry = r#"{"kind": "runner", "host": "h", "slots": 2, "resources": {"cores": 1.5}, "metadata": {"a": 1}, "ttl_ms": 60000}"#;
    stage.put(0, "/v1/workers/w%201", entry).await.ok();
    let workers = stage.get(0, "/v1/workers").await.ok();
    let worker = &workers["workers"][0];
    assert_eq!(
        (&worker["id"], &worker["resources"]["cores"], &worker["held"]),
        (&"w 1".into(), &json!(1.5), &0.into())
    );
    assert!(worker["last_seen_at"].is_u64() && worker["expires_in_ms"].is_u64(), "{worker}");
    stage.send(0, Method::DELETE, "/v1/workers/w%201", &[], "").await.ok();
    assert_eq!(stage.get(0, "/v1/workers").await.ok()["workers"], json!([]));
    stage.end().await;
}

/// Reads from a stream of events until `enough` says so.
pub async fn events(stage: &Stage, at: usize, path: &str, enough: impl Fn(&str) -> bool) -> String {
    let uri = format!("http://{}{path}", stage.nodes[at].api);
    let request = Request::get(uri).body(Full::new(Bytes::new())).expect("a request");
    let answer = stage.client.request(request).await.expect("answers");
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let (mut body, mut text) = (answer.into_body(), String::new());
    while !enough(&text) {
        let frame =
            tokio::time::timeout(PATIENCE, body.frame()).await.expect("in time").expect("more").expect("a frame");
        text.push_str(std::str::from_utf8(frame.data_ref().expect("data")).expect("UTF-8"));
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn events_go_on_at_another_node_without_gap_or_double() {
    let stage = Stage::formed(3).await;
    let (leader, follower) = (stage.leader().expect("leads"), stage.follower());
    let listening = events(&stage, leader, "/v1/events", |text| text.contains("event: finished"));
    let (first, id) = tokio::join!(listening, async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let id = stage.submit(r#"{"kind": "x"}"#).await;
        stage.post(leader, &format!("/v1/jobs/{id}/cancel"), "").await.ok();
        id
    });
    assert_eq!(first.matches("event: posted").count(), 1);
    assert!(first.contains(&format!(r#"data: {{"job":{id},"was":"queued","status":"canceled""#)), "{first}");
    let position = first.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().expect("an id");
    stage.send(leader, Method::DELETE, &format!("/v1/jobs/{id}"), &[], "").await.ok();
    let rest = events(&stage, follower, &format!("/v1/events?from={position}"), |text| text.contains("removed")).await;
    assert_eq!(rest.matches("event:").count(), 1, "{rest}");
    assert!(!rest.contains(position), "{rest}");
    // These nodes have seen it all, from the first entry on.
    for at in [leader, follower] {
        let all = events(&stage, at, "/v1/events?from=0.0", |text| text.contains("removed")).await;
        assert_eq!(all.matches("event:").count(), 3, "{all}");
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_filter_order_group_and_wait() {
    let stage = Stage::formed(1).await;
    for (name, priority) in [("a1", 5), ("b1", -5), ("a2", 0), ("b2", 0)] {
        stage
            .submit(&format!(
                r#"{{"kind": "x", "name": "{name}", "priority": {priority}, "groups": ["{}"]}}"#,
                &name[..1]
            ))
            .await;
    }
    let ids = async |query: &str| {
        let page = stage.get(0, &format!("/v1/jobs?fields=id&{query}")).await.ok();
        let ids =
            page["jobs"].as_array().expect("jobs").iter().filter_map(|job| job["id"].as_u64()).collect::<Vec<_>>();
        (ids, page["next"].as_str().map(str::to_owned))
    };
    assert_eq!(ids("filter=name%20%3D~%20%22%5Ea%22%20and%20priority%20%3C%201").await.0, [3]);
    assert_eq!(ids("group=b").await.0, [2, 4]);
    let (first, next) = ids("order=priority&limit=3").await;
    assert_eq!((first, next.as_deref()), (vec![2, 3, 4], Some("0:4")));
    assert_eq!(ids("order=priority&after=0:4").await, (vec![1], None));
    stage.post(0, "/v1/claim", r#"{"worker": {"id": "w"}, "queues": ["default"]}"#).await.ok();
    assert_eq!(ids("order=priority&unclaimed=true").await.0, [3, 4, 1]);
    assert_eq!(ids("order=priority").await.0, [2, 3, 4, 1]);
    assert_eq!(ids("worker=w").await.0, [2]);
    for query in ["unique=u", "unique=u&archived=true", "group=z&limit=1"] {
        assert_eq!(ids(query).await.0, Vec::<u64>::new(), "{query}");
    }
    for _ in 0..2 {
        let id = stage.submit(r#"{"kind": "x", "unique": "u", "queue": "aside", "groups": ["z"]}"#).await;
        assert_eq!(ids("unique=u&status=queued").await.0, [id]);
        stage.post(0, &format!("/v1/jobs/{id}/cancel"), "").await.ok();
    }
    stage.post(0, "/v1/jobs/5/archive", "").await.ok();
    assert_eq!(ids("unique=u").await.0, [6]);
    assert_eq!(ids("unique=u&archived=true").await.0, [5, 6]);
    assert_eq!(ids("group=z&archived=true&limit=1").await, (vec![5], Some("5".to_owned())));
    assert_eq!(ids("group=z&archived=true&after=5").await, (vec![6], None));
    let alike = stage.get(0, "/v1/jobs?similar=1&fields=id,status").await.ok();
    let kinds = json!([
        { "id": 1, "status": "queued", "similar": 3 },
        { "id": 2, "status": "reserved", "similar": 1 },
        { "id": 6, "status": "canceled", "similar": 1 },
    ]);
    assert_eq!(alike["jobs"], kinds);
    let wrong = stage.get(0, "/v1/jobs?filter=name%20%3D").await;
    assert!(wrong.json()["error"]["message"].as_str().expect("said").contains("expected a value"), "{}", wrong.text);
    let (found, id) = tokio::join!(ids("name=late&wait_ms=20000"), stage.submit(r#"{"kind": "x", "name": "late"}"#));
    assert_eq!(found.0, [id]);
    assert_eq!(ids("name=never&wait_ms=30").await.0, Vec::<u64>::new());
    stage.end().await;
}
