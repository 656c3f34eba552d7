//! Schedules: defined, seen, asked for, forgotten. Nothing here leads a duty, so no slot is taken.

use serde_json::json;

use super::{operate::events, *};

const NIGHTLY: &str = r#"{"cron": "30 2 * * *", "time_zone": "Europe/Berlin", "overlap": "skip",
                          "spec": {"argv": ["./extract"], "cwd": "/srv", "queue": "etl", "retries": 2}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn schedule_is_defined_seen_and_forgotten() {
    let stage = Stage::formed(1).await;
    let made = stage.put(0, "/v1/schedules/night%20ly", NIGHTLY).await.ok();
    let fields = ["name", "cron", "time_zone", "missed", "overlap", "paused", "last", "submitted"];
    let expect = ["night ly", "30 2 * * *", "Europe/Berlin", "once", "skip", "false", "null", "0"];
    for (field, expect) in fields.iter().zip(expect) {
        assert_eq!(made[field].as_str().map_or_else(|| made[field].to_string(), str::to_owned), expect, "{field}");
    }
    let next: Vec<u64> = serde_json::from_value(made["next"].clone()).expect("slots");
    assert!(next.len() == 5 && next.is_sorted() && next.iter().all(|at| at % 1_800_000 == 0), "{made}");
    assert_eq!((&made["spec"]["queue"], &made["spec"]["retries"]), (&"etl".into(), &2.into()));
    assert_eq!(stage.get(0, "/v1/schedules/night%20ly").await.ok()["next"], made["next"]);
    let listed = stage.get(0, "/v1/schedules").await.ok();
    assert_eq!((&listed["schedules"][0]["name"], &listed["schedules"][0]["spec"]), (&"night ly".into(), &Value::Null));
    stage.send(0, Method::DELETE, "/v1/schedules/night%20ly", &[], "").await.ok();
    assert_eq!(stage.get(0, "/v1/schedules").await.ok(), json!({ "schedules": [] }));
    let gone = stage.get(0, "/v1/schedules/night%20ly").await;
    assert_eq!((gone.status.as_u16(), gone.code().as_str()), (404, "not_found"));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schedule_is_paused_resumed_replaced_and_run() {
    let stage = Stage::formed(1).await;
    stage.put(0, "/v1/schedules/n", NIGHTLY).await.ok();
    let paused = stage.post(0, "/v1/schedules/n/pause", "").await.ok();
    assert_eq!((&paused["paused"], &paused["next"]), (&true.into(), &json!([])));
    let anew = r#"{"every_ms": 3600000, "spec": {"kind": "x", "environment": {"A": "b"}}}"#;
    let replaced = stage.put(0, "/v1/schedules/n", anew).await.ok();
    assert_eq!((&replaced["paused"], &replaced["every_ms"]), (&true.into(), &3_600_000.into()));
    let second = format!(r#"{{"if_absent": true, {}"#, &anew[1..]);
    let refused = stage.put(0, "/v1/schedules/n", &second).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (409, "conflict"), "{}", refused.text);
    let run = stage.post(0, "/v1/schedules/n/run", "").await.ok();
    assert_eq!(run["existed"], false);
    let job = stage.get(0, &format!("/v1/jobs/{}", run["id"])).await.ok();
    assert_eq!((&job["name"], &job["comment"]), (&"n".into(), &"submitted by schedule n".into()));
    assert!(job["reasons"].to_string().contains("schedule n, asked for by"), "{job}");
    assert_eq!(stage.post(0, "/v1/schedules/n/resume", "").await.ok()["paused"], false);
    stage.put(0, "/v1/drain", r#"{"drained": true}"#).await.ok();
    let drained = stage.post(0, "/v1/schedules/n/run", "").await;
    assert_eq!((drained.status.as_u16(), drained.code().as_str()), (503, "drained"));
    for verb in ["pause", "resume", "run"] {
        assert_eq!(stage.post(0, &format!("/v1/schedules/other/{verb}"), "").await.code(), "not_found");
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schedule_is_followed_by_events_and_metrics() {
    let stage = Stage::formed(3).await;
    stage.put(0, r"/v1/schedules/n%22x%5C", NIGHTLY).await.ok();
    for verb in ["pause", "pause", "resume", "run"] {
        stage.post(0, &format!("/v1/schedules/n%22x%5C/{verb}"), "").await.ok();
    }
    let metrics = stage.get(stage.leader().expect("leads"), "/metrics").await.text;
    for line in [
        "raftq_schedules{state=\"active\"} 1\n",
        "raftq_schedules{state=\"paused\"} 0\n",
        r#"raftq_schedule_slots_total{schedule="n\"x\\",outcome="submitted"} 0"#,
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    stage.send(0, Method::DELETE, "/v1/schedules/n%22x%5C", &[], "").await.ok();
    let mut seen = Vec::new();
    for at in 0..3 {
        let text = events(&stage, at, "/v1/events?from=0.0", |text| text.contains("schedule_removed")).await;
        let kinds: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("event: ")).map(str::to_owned).collect();
        let expected = ["schedule_defined", "schedule_paused", "schedule_resumed", "posted", "schedule_removed"];
        assert_eq!(kinds, expected, "{text}");
        assert!(text.contains(r#"data: {"schedule":"n\"x\\","at":"#), "{text}");
        seen.push(text);
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "every node tells the same: {seen:?}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schedule_without_sense_is_refused_by_field() {
    let stage = Stage::formed(1).await;
    for (body, field, says) in [
        (r#"{"cron": "0 25 * * *", "spec": {"sleep": 1}}"#, "cron", "field 2 (`25`) is no hour"),
        (r#"{"cron": "0 0 30 2 *", "spec": {"sleep": 1}}"#, "cron", "no such day"),
        (r#"{"cron": "@daily", "time_zone": "Nowhere", "spec": {"sleep": 1}}"#, "time_zone", "`Nowhere`"),
        (r#"{"every_ms": 10, "spec": {"sleep": 1}}"#, "every_ms", "from 1000"),
        (r#"{"every_ms": 5000, "spec": {"sleep": 1, "run_at_ms": 5}}"#, "spec.run_at_ms", "leave this out"),
        (r#"{"every_ms": 5000, "spec": {"sleep": 1, "depends": [[1, []]]}}"#, "spec.depends", "leave this out"),
        (r#"{"every_ms": 5000, "spec": {"sleep": 1}, "colour": 1}"#, "colour", "no such field"),
    ] {
        let refused = stage.put(0, "/v1/schedules/n", body).await;
        assert_eq!((refused.status.as_u16(), &refused.json()["error"]["details"]["field"]), (400, &field.into()));
        assert!(refused.text.contains(says), "{}", refused.text);
    }
    stage.end().await;
}
