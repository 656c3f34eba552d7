//! Golden JSON: what is accepted, what it becomes, and how each mistake is named.

use std::sync::Arc;

use super::*;
use crate::queue::{
    command::{LeaseAction, Report, Wanted},
    ids::{JobId, WallMs},
    job::{self, FinalStatuses, JobRef, OnFailure, Payload, When},
    refusal::Refusal,
};

/// One lone spec, accepted.
fn spec(text: &str) -> job::Spec {
    let submission = decode_submission(text.as_bytes(), "me").unwrap_or_else(|refusal| panic!("{text}: {refusal}"));
    assert!(submission.lone);
    let spec = submission.jobs.into_iter().next().unwrap().unwrap_or_else(|refusal| panic!("{text}: {refusal}"));
    Arc::unwrap_or_clone(spec)
}

/// The field that a lone spec is refused for.
fn refused_field(text: &str) -> String {
    let refusal = match decode_submission(text.as_bytes(), "me") {
        Err(refusal) => refusal,
        Ok(submission) => submission.jobs.into_iter().next().unwrap().expect_err(text),
    };
    field_of(refusal)
}

fn field_of(refusal: Refusal) -> String {
    match refusal {
        Refusal::Invalid { field, .. } => field.into(),
        other => panic!("not invalid: {other}"),
    }
}

fn args(spec: &job::Spec, op: usize) -> &str {
    match &spec.ops[op].payload {
        Payload::Args(json) => &json.0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn spec_of_the_contract_is_read_whole() {
    let spec = spec(
        r#"{"queue": "default", "name": "nightly", "groups": ["reports"], "priority": "high", "retries": 2, "unique": "nightly-2026-11-21",
            "needs": {"cores": 1.5, "ram_mb": 500, "time_s": 3600}, "limits": ["db:2", "plain", "a:b:0"], "reason": "asked by ops",
            "ops": [{"kind": "exec", "argv": ["./extract", "--day", "2026-11-20"], "cwd": "/srv/etl", "env": {"LANG": "C"}},
                    {"kind": "exec", "shell": "sort out.csv | uniq > clean.csv", "cwd": "/srv/etl", "depends": [[41, ["success"]]]}]}"#,
    );
    assert_eq!(spec.priority.unwrap().0, -10);
    assert_eq!(spec.needs.unwrap().cores_milli, 1500);
    assert_eq!(spec.limits, [("db".into(), Some(2)), ("plain".into(), None), ("a:b".into(), Some(0))]);
    assert_eq!(&*spec.reasons[0].text, "asked by ops");
    assert_eq!(spec.submitted_by.as_deref(), Some("me"));
    assert_eq!(spec.policy.on_failure, OnFailure::Error);
    assert_eq!(args(&spec, 0), r#"{"argv":["./extract","--day","2026-11-20"],"cwd":"/srv/etl","env":{"LANG":"C"}}"#);
    let depends = &spec.ops[1].depends[0];
    assert_eq!(depends.on, JobRef::Id(JobId(41)));
    assert_eq!(depends.accept, FinalStatuses { success: true, ..FinalStatuses::default() });
}

#[test]
fn short_forms_make_one_op() {
    assert_eq!(args(&spec(r#"{"argv": ["true"]}"#), 0), r#"{"argv":["true"]}"#);
    assert_eq!(args(&spec(r#"{"shell": "echo hi", "timeout_s": 5}"#), 0), r#"{"shell":"echo hi","timeout_s":5}"#);
    assert_eq!(args(&spec(r#"{"sleep": 0.5}"#), 0), r#"{"seconds":0.5}"#);
    assert_eq!(args(&spec(r#"{"kind": "sleep", "args": {"seconds": 3}}"#), 0), r#"{"seconds": 3}"#);
    let body = spec(r#"{"body": {"base64": "AP8="}}"#);
    assert_eq!((&*body.ops[0].kind, &body.ops[0].payload), ("body", &Payload::Binary(vec![0, 255].into())));
    assert_eq!(spec(r#"{"kind": "mail", "body": "x"}"#).ops[0].payload, Payload::Text("x".into()));
    assert_eq!(args(&spec(r#"{"ops": [{"kind": "mail", "args": {"to":  1e2}}]}"#), 0), r#"{"to":  1e2}"#);
    let depending = spec(r#"{"sleep": 1, "depends": [[-2], ["@a", []]]}"#);
    assert_eq!(depending.ops[0].depends[0].on, JobRef::Back(2));
    assert_eq!(depending.ops[0].depends[1].on, JobRef::Named("a".into()));
    assert_eq!(spec(r#"{"sleep": 1, "run_at_ms": 7}"#).when, When::RunAt(WallMs(7)));
}

#[test]
fn spec_refusals_name_the_field() {
    for (text, field) in [
        ("{}", "ops"),
        (r#"{"ops": []}"#, "ops"),
        (r#"{"argv": ["a"], "colour": 1}"#, "colour"),
        (r#"{"ops": [{"argv": ["a"], "colour": 1}]}"#, "ops[0].colour"),
        (r#"{"argv": ["a"], "priority": "urgent"}"#, "priority"),
        (r#"{"argv": ["a"], "priority": 1.5}"#, "priority"),
        (r#"{"argv": ["a"], "retries": -1}"#, "retries"),
        (r#"{"argv": ["a"], "needs": {"cores": -1}}"#, "needs.cores"),
        (r#"{"argv": ["a"], "needs": {"gpus": 1}}"#, "needs.gpus"),
        (r#"{"argv": ["a"], "shell": "b"}"#, "shell"),
        (r#"{"argv": []}"#, "argv"),
        (r#"{"ops": [{"argv": []}]}"#, "ops[0].argv"),
        (r#"{"argv": ["a"], "ops": [{"argv": ["b"]}]}"#, "argv"),
        (r#"{"kind": "mail", "argv": ["a"]}"#, "argv"),
        (r#"{"kind": "exec", "args": {"argv": ["a"], "colour": 1}}"#, "args.colour"),
        (r#"{"kind": "exec", "args": {}}"#, "args.argv"),
        (r#"{"kind": "exec", "args": 5}"#, "args"),
        (r#"{"argv": ["a"], "env": {"A=B": "c"}}"#, "env"),
        (r#"{"argv": ["a"], "cwd": "srv"}"#, "cwd"),
        (r#"{"argv": ["a"], "max_ram_mb": 0}"#, "max_ram_mb"),
        (r#"{"argv": ["a"], "meta": [1]}"#, "meta"),
        (r#"{"argv": ["a"], "delay_ms": 1, "run_at_ms": 2}"#, "run_at_ms"),
        (r#"{"argv": ["a"], "limits": ["fine", "a:x"]}"#, "limits"),
        (r#"{"argv": ["a"], "limits": ["a:-1"]}"#, "limits"),
        (r#"{"argv": ["a"], "limits": ["a:"]}"#, "limits"),
        (r#"{"argv": ["a"], "limits": ["a:b:c"]}"#, "limits"),
        (r#"{"argv": ["a"], "depends": [[0]]}"#, "depends[0][0]"),
        (r#"{"argv": ["a"], "depends": [[1, ["done"]]]}"#, "depends[0]"),
        (r#"{"argv": ["a"], "on_failure": "explode"}"#, "on_failure"),
        (r#"{"body": {"base64": "?"}}"#, "body"),
        (r#"{"sleep": -1}"#, "sleep"),
        ("[1]", "body"),
        ("{", "body"),
        ("{} {}", "body"),
    ] {
        assert_eq!(refused_field(text), field, "{text}");
    }
}

#[test]
fn batch_member_is_refused_alone() {
    let text = r#"{"jobs": [{"sleep": 1}, {"sleep": 1, "priority": "x"}, {"sleep": 1}, 7], "atomic": true}"#;
    let submission = decode_submission(text.as_bytes(), "me").unwrap();
    assert!(submission.atomic && !submission.lone);
    let fields: Vec<_> = submission.jobs.into_iter().map(|job| job.err().map(field_of)).collect();
    assert_eq!(fields, [None, Some("priority".to_owned()), None, Some("body".to_owned())]);
    assert_eq!(decode_submission(br#"{"jobs": []}"#, "me").unwrap().jobs.len(), 0);
    assert_eq!(field_of(decode_submission(br#"{"jobs": [], "atomik": true}"#, "me").unwrap_err()), "atomik");
    assert_eq!(field_of(decode_submission(br#"{"jobs": {}}"#, "me").unwrap_err()), "jobs");
    for nothing in ["{\"jobs\": null}", "{\"jobs\": null, \"atomic\": true}"] {
        let refusal = decode_submission(nothing.as_bytes(), "me").unwrap_err();
        assert_eq!(refusal.to_string(), "jobs: give a list, not null");
    }
}

#[test]
fn submit_answers_are_golden() {
    use crate::queue::applied::Submitted;
    let answer = SubmitAnswer {
        results: vec![
            Ok(Submitted { id: JobId(17), existed: false }).into(),
            Err(Refusal::invalid("priority", "`x` is no priority")).into(),
        ],
        error: None,
    };
    assert_eq!(
        serde_json::to_string(&answer).unwrap(),
        r#"{"results":[{"ok":true,"id":17,"existed":false},{"ok":false,"error":{"code":"invalid","message":"priority: `x` is no priority","details":{"field":"priority"}}}]}"#
    );
}

#[test]
fn worker_is_called_something_and_not_as_a_pool_is() {
    let put = |id: &str| decode::<WorkerRequest>(b"{}").and_then(|request| request.into_queue(id.into()));
    for id in ["", "  ", "pool-1"] {
        assert_eq!(field_of(put(id).unwrap_err()), "id", "{id}");
    }
    for id in ["w", " w ", "pool", "pool-", "pool-a", "my-pool-1"] {
        assert!(put(id).is_ok(), "{id}");
    }
}

#[test]
fn claim_checks_its_shape() {
    let claim = |text: &str| decode::<ClaimRequest>(text.as_bytes()).and_then(ClaimRequest::into_queue);
    let queues = claim(r#"{"worker": {"id": "w"}, "queues": ["q"], "free": {"cores": 0.5}}"#).unwrap();
    assert_eq!(queues.wanted, Wanted::Queues(vec!["q".into()]));
    assert_eq!((queues.max, queues.free.unwrap().cores_milli), (1, Some(500)));
    for (text, field) in [
        (r#"{"queues": ["q"]}"#, "worker"),
        (r#"{"worker": {"id": ""}, "queues": ["q"]}"#, "worker.id"),
        (r#"{"worker": {"id": " \t"}, "queues": ["q"]}"#, "worker.id"),
        (r#"{"worker": {"id": "pool-7"}, "queues": ["q"]}"#, "worker.id"),
        (r#"{"worker": {"id": "w"}}"#, "queues"),
        (r#"{"worker": {"id": "w"}, "queues": []}"#, "queues"),
        (r#"{"worker": {"id": "w"}, "queues": ["q"], "ids": [1]}"#, "ids"),
        (r#"{"worker": {"id": "w"}, "queues": ["q"], "wait_ms": 60001}"#, "wait_ms"),
        (r#"{"worker": {"id": "w", "nam": 1}, "queues": ["q"]}"#, "worker.nam"),
        (r#"{"worker": {"id": "w"}, "queues": ["q"], "max": 0}"#, "max"),
    ] {
        assert_eq!(field_of(claim(text).unwrap_err()), field, "{text}");
    }
}

#[test]
fn lease_items_become_actions() {
    let items = |text: &str| {
        decode::<LeasesRequest>(text.as_bytes()).and_then(|request| LeasesRequest::items_into_queue(request.items))
    };
    let finish = items(
        r#"{"items": [{"job": 1, "lease": 2, "do": "finish", "outcome": "success", "result": {"a":1}, "jobs": [{"sleep": 1}, {"slep": 1}]}]}"#,
    )
    .unwrap();
    match &finish[0].action {
        LeaseAction::Success { result: Some(result), jobs, .. } => {
            assert_eq!(&*result.0, r#"{"a":1}"#);
            assert!(jobs[0].is_ok());
            assert_eq!(field_of(jobs[1].clone().unwrap_err()), "slep");
        }
        other => panic!("{other:?}"),
    }
    for (item, field) in [
        (r#"{"job": 1, "lease": 2}"#, "items[0].do"),
        (r#"{"job": 1, "lease": 2, "do": "leap"}"#, "items[0].do"),
        (r#"{"job": 1, "do": "start"}"#, "items[0].lease"),
        (r#"{"job": 1, "lease": 2, "do": "start", "result": 1}"#, "items[0].result"),
        (r#"{"job": 1, "lease": 2, "do": "finish"}"#, "items[0].outcome"),
        (r#"{"job": 1, "lease": 2, "do": "finish", "outcome": "failure"}"#, "items[0].fail_reason"),
        (r#"{"job": 1, "lease": 2, "do": "start", "colour": 1}"#, "items[0].colour"),
    ] {
        assert_eq!(field_of(items(&format!(r#"{{"items": [{item}]}}"#)).unwrap_err()), field, "{item}");
    }
}

#[test]
fn archive_takes_an_age_or_all() {
    let archive = |text: &str| decode::<ArchiveRequest>(text.as_bytes()).and_then(ArchiveRequest::into_queue);
    assert_eq!(archive(r#"{"age_s": 60}"#).unwrap().age_ms, Some(60_000));
    assert_eq!(archive(r#"{"age_s": "all"}"#).unwrap().age_ms, None);
    let piece = archive(r#"{"all": true, "after": "12.3", "limit": 5}"#).unwrap();
    assert_eq!((piece.age_ms, piece.after, piece.limit), (None, Some((WallMs(12), JobId(3))), 5));
    assert_eq!(field_of(archive("{}").unwrap_err()), "age_s");
    assert_eq!(field_of(archive(r#"{"all": true, "after": "x"}"#).unwrap_err()), "after");
}

/// Passed on unread, it would make whole listings and claims unreadable.
#[test]
fn json_that_no_reader_could_read_is_refused_where_it_comes_in() {
    for bad in ["1e400", r#""\ud800""#, &"[".repeat(120), &format!("{}{}", "[".repeat(120), "]".repeat(120))] {
        let nested = bad.starts_with('[');
        for field in ["args", "meta"] {
            let text = format!(r#"{{"kind":"k","{field}":{{"x":{bad}}}}}"#);
            let field = if nested && !bad.ends_with(']') { "body" } else { field };
            assert_eq!(refused_field(&text), field, "{text}");
        }
        for (field, verb) in [
            ("result", r#""do":"finish","outcome":"success""#),
            ("checkpoint", r#""do":"touch""#),
            ("progress", r#""do":"touch""#),
        ] {
            let text = format!(r#"{{"items":[{{"job":1,"lease":1,{verb},"{field}":{bad}}}]}}"#);
            let request = decode::<LeasesRequest>(text.as_bytes());
            let refusal = match request {
                Err(refusal) => refusal,
                Ok(request) => LeasesRequest::items_into_queue(request.items).expect_err(&text),
            };
            let expected = if nested && !bad.ends_with(']') { "body".to_owned() } else { format!("items[0].{field}") };
            assert_eq!(field_of(refusal), expected, "{text}");
        }
    }
}

/// What a worker says by the queue's own words is what the API reads from it.
#[test]
fn call_under_a_lease_is_written_as_it_is_read() {
    let json = |text: &str| Some(job::Json(text.into()));
    let report = || {
        Box::new(Report {
            exit_code: Some(3),
            error: Some("e".into()),
            stdout: Some("o".into()),
            stderr: Some("s".into()),
            wall_ms: Some(1),
            cpu_ms: Some(2),
            peak_ram_mb: Some(3),
            shell: Some("sh".into()),
            log: vec![("message".into(), "l".into())],
            log_seq: Some(4),
        })
    };
    let log = vec![("t".into(), "l".into())];
    for action in [
        LeaseAction::Start { host: Some("h".into()), pid: Some(1) },
        LeaseAction::Touch { log, log_seq: Some(7), progress: json("[0.5]"), checkpoint: json("\"c\"") },
        LeaseAction::Success { result: json("{\"r\":1}"), jobs: Vec::new(), atomic_children: true, report: report() },
        LeaseAction::Failure { fail_reason: "ram".into(), retryable: Some(true), delay_ms: Some(9), report: report() },
        LeaseAction::Release { delay_ms: 5, reason: Some("r".into()) },
        LeaseAction::Bury { reason: Some("r".into()) },
    ] {
        let item = LeaseItem { job: JobId(1), lease: LeaseId(2), ..action.clone().into() };
        let read: LeaseItem = serde_json::from_str(&serde_json::to_string(&item).expect("encodes")).expect("decodes");
        let read = LeasesRequest::items_into_queue(vec![read]).expect("it is accepted");
        assert_eq!((read[0].job, read[0].lease, &read[0].action), (JobId(1), LeaseId(2), &action));
    }
}
