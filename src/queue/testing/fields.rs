//! Stated limits of single requests, each hit: the refusal names the field.

use std::sync::Arc;

use super::{Bench, words};
use crate::queue::{
    applied::Answer,
    command::{Claim, Command, LeaseAction, LeaseItem, PoolChange, Report, SettingsChange, Wanted},
    ids::{JobId, NUMBER_LIMIT},
    job::{Json, LEASE_MS_MAX, LEASE_MS_MIN, Payload, Spec},
    limits,
    refusal::Refusal,
    rows::{Row, RowKey, Rows},
};

fn spec(text: &str) -> Spec {
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    words::spec(&words).expect("a spec of the test")
}

fn claim(text: &str) -> Claim {
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    words::claim(&words).expect("a claim of the test")
}

fn text(bytes: usize) -> Box<str> {
    "x".repeat(bytes).into()
}

#[track_caller]
fn names(refused: Result<(), Refusal>, wanted: &str) {
    match refused {
        Err(Refusal::Invalid { field, .. }) => assert_eq!(&*field, wanted),
        other => panic!("{wanted}: {other:?}"),
    }
}

#[test]
fn spec_beyond_a_limit_is_refused_by_name() {
    let many = |count: usize, text: &str| vec![text; count].join(",");
    let numbered = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
    let name = text(limits::NAME_BYTES_MAX + 1);
    let cases = [
        (format!("ops={}", many(limits::OPS_MAX + 1, "exec")), "ops"),
        (format!("ops={name}"), "ops[0].kind"),
        (format!("depends={}", many(limits::DEPENDS_MAX + 1, "0:1")), "ops[0].depends"),
        (format!("limits={}", many(limits::LIMITS_PER_JOB_MAX + 1, "a")), "limits"),
        (format!("limits={name}"), "limits"),
        (format!("queue={}", "q".repeat(limits::QUEUE_NAME_BYTES_MAX + 1)), "queue"),
        (format!("name={name}"), "name"),
        (format!("unique={name}"), "unique"),
        (format!("as={name}"), "as"),
        (format!("resource_group={name}"), "resource_group"),
        (format!("groups={name}"), "groups"),
        (format!("groups={}", numbered(limits::GROUPS_MAX + 1)), "groups"),
        (format!("comment={}", text(limits::TEXT_BYTES_MAX + 1)), "comment"),
        (format!("reason={}", text(limits::TEXT_BYTES_MAX + 1)), "reason"),
        (format!("lease={}", LEASE_MS_MIN - 1), "lease_ms"),
        (format!("lease={}", LEASE_MS_MAX + 1), "lease_ms"),
        (format!("delay={}", limits::DELAY_MS_MAX + 1), "delay_ms"),
        (format!("run_at={}", u64::MAX), "run_at_ms"),
        (format!("priority={}", limits::PRIORITY_MAX + 1), "priority"),
        (format!("priority=-{}", limits::PRIORITY_MAX + 1), "priority"),
        (format!("ops=exec@{}", limits::PRIORITY_MAX + 1), "ops[0].priority"),
        (format!("retries={}", limits::RETRIES_MAX + 1), "retries"),
        (format!("lost_limit={}", limits::RETRIES_MAX + 1), "lost_limit"),
        (format!("backoff={}", limits::DELAY_MS_MAX + 1), "backoff.base_ms"),
        (format!("backoff_cap={}", limits::DELAY_MS_MAX + 1), "backoff.cap_ms"),
        (format!("no_retry_after={}", limits::DELAY_MS_MAX + 1), "no_retry_after_ms"),
        ("override=3".to_owned(), "needs_override"),
        (format!("cores={}", limits::CORES_MILLI_MAX + 1), "needs.cores"),
        (format!("ram={}", limits::RAM_MB_MAX + 1), "needs.ram_mb"),
        (format!("disk={}", limits::DISK_MB_MAX + 1), "needs.disk_mb"),
        (format!("time={}", limits::TIME_S_MAX + 1), "needs.time_s"),
    ];
    for (text, wanted) in cases {
        names(spec(&text).check(), wanted);
    }
    let meta = Some(Json(text(limits::META_BYTES_MAX + 1)));
    names(Spec { meta, ..spec("") }.check(), "meta");
    names(Spec { ops: Vec::new(), ..spec("") }.check(), "ops");
}

#[test]
fn spec_at_every_limit_is_taken() {
    let ops = vec!["exec"; limits::OPS_MAX].join(",");
    let depends = vec!["0:1"; limits::DEPENDS_MAX].join(",");
    let name = text(limits::NAME_BYTES_MAX);
    let largest = format!(
        "ops={ops} depends={depends} queue={} name={name} unique={name} groups={name} limits={name} comment={} \
         lease={LEASE_MS_MAX} delay={} priority={} retries={} cores={} ram={} disk={} time={}",
        "q".repeat(limits::QUEUE_NAME_BYTES_MAX),
        text(limits::TEXT_BYTES_MAX),
        limits::DELAY_MS_MAX,
        limits::PRIORITY_MAX,
        limits::RETRIES_MAX,
        limits::CORES_MILLI_MAX,
        limits::RAM_MB_MAX,
        limits::DISK_MB_MAX,
        limits::TIME_S_MAX,
    );
    assert_eq!(spec(&largest).check(), Ok(()));
}

#[test]
fn spec_of_more_than_a_mebibyte_is_too_large() {
    let mut large = spec("");
    large.ops[0].payload = Payload::Text(text(limits::JOB_BYTES_MAX));
    assert_eq!(large.check().unwrap_err().code(), "too_large");
}

#[test]
fn batch_of_more_than_ten_thousand_is_refused() {
    let mut bench = Bench::default();
    let one = Arc::new(spec(""));
    let jobs = vec![Ok(one); limits::JOBS_PER_REQUEST_MAX + 1];
    let answer = bench.apply("t", None, Command::Submit { jobs, atomic: false }).answers.remove(0);
    assert!(matches!(answer, Answer::Refused(Refusal::Invalid { field, .. }) if &*field == "jobs"));
    let ids = vec![JobId(1); limits::JOBS_PER_REQUEST_MAX + 1];
    let answer = bench.apply("t", None, Command::Kick { ids }).answers.remove(0);
    assert!(matches!(answer, Answer::Refused(Refusal::Invalid { field, .. }) if &*field == "ids"));
}

#[test]
fn claim_beyond_a_limit_is_refused_by_name() {
    let ids = vec!["1"; limits::CLAIM_MAX as usize + 1].join(",");
    for (text, wanted) in [
        ("max=0".to_owned(), "max"),
        (format!("max={}", limits::CLAIM_MAX + 1), "max"),
        (format!("lease={}", LEASE_MS_MIN - 1), "lease_ms"),
        (format!("lease={}", LEASE_MS_MAX + 1), "lease_ms"),
        (format!("ids={ids}"), "ids"),
        (format!("queues={ids}"), "queues"),
        (format!("kinds={ids}"), "kinds"),
        (format!("resource_groups={ids}"), "resource_groups"),
        (format!("worker={}", text(limits::NAME_BYTES_MAX + 1)), "worker.id"),
    ] {
        names(claim(&text).check(), wanted);
    }
    names(Claim { host: text(limits::NAME_BYTES_MAX + 1), ..claim("") }.check(), "worker.host");
    assert_eq!(Claim { wanted: Wanted::Ids(Vec::new()), ..claim("") }.check(), Ok(()));
}

#[test]
fn call_under_a_lease_beyond_a_limit_is_refused_by_name() {
    let touch = |kind: usize, line: usize, progress: usize, checkpoint: usize| LeaseAction::Touch {
        log: vec![(text(kind), text(line))],
        log_seq: None,
        progress: Some(Json(text(progress))),
        checkpoint: Some(Json(text(checkpoint))),
    };
    let (kind, line) = (limits::NAME_BYTES_MAX, limits::LOG_LINE_BYTES_MAX);
    let (progress, checkpoint) = (limits::TEXT_BYTES_MAX, limits::CHECKPOINT_BYTES_MAX);
    assert_eq!(touch(kind, line, progress, checkpoint).check(), Ok(()));
    names(touch(kind + 1, line, 0, 0).check(), "log.type");
    names(touch(kind, line + 1, 0, 0).check(), "log.text");
    names(touch(0, 0, progress + 1, 0).check(), "progress");
    names(touch(0, 0, 0, checkpoint + 1).check(), "checkpoint");

    let success = |report: Report| LeaseAction::Success {
        result: None,
        jobs: Vec::new(),
        atomic_children: false,
        report: Box::new(report),
    };
    let output = || Some(text(limits::OUTPUT_BYTES_MAX + 1));
    names(success(Report { stdout: output(), ..Report::default() }).check(), "stdout");
    names(success(Report { stderr: output(), ..Report::default() }).check(), "stderr");
    let error = Some(text(limits::TEXT_BYTES_MAX + 1));
    names(success(Report { error, ..Report::default() }).check(), "error");
    names(success(Report { wall_ms: Some(NUMBER_LIMIT), ..Report::default() }).check(), "wall_ms");
    names(success(Report { peak_ram_mb: Some(NUMBER_LIMIT), ..Report::default() }).check(), "peak_ram_mb");
    let jobs = vec![Err(Refusal::Aborted); limits::JOBS_PER_REQUEST_MAX + 1];
    let children = LeaseAction::Success { result: None, jobs, atomic_children: false, report: Box::default() };
    names(children.check(), "jobs");

    let failure = |reason: usize, delay_ms| LeaseAction::Failure {
        fail_reason: text(reason),
        retryable: None,
        delay_ms,
        report: Box::default(),
    };
    names(failure(limits::NAME_BYTES_MAX + 1, None).check(), "fail_reason");
    names(failure(1, Some(limits::DELAY_MS_MAX + 1)).check(), "delay_ms");
    let reason = Some(text(limits::TEXT_BYTES_MAX + 1));
    names(LeaseAction::Release { delay_ms: 0, reason: reason.clone() }.check(), "reason");
    names(LeaseAction::Bury { reason }.check(), "reason");
    names(LeaseAction::Start { host: Some(text(limits::NAME_BYTES_MAX + 1)), pid: None }.check(), "host");
}

#[test]
fn settings_beyond_a_limit_are_refused_by_name() {
    let mut bench = Bench::default();
    let mut refused = |command: Command| match bench.apply("t", None, command).answers.remove(0) {
        Answer::Refused(refusal) => Err(refusal),
        _ => Ok(()),
    };
    let settings = SettingsChange::default;
    let too_many = Some(limits::LIVE_JOBS_MAX_MAX + 1);
    names(refused(Command::Settings(SettingsChange { live_jobs_max: too_many, ..settings() })), "live_jobs_max");
    let too_long = Some(Some(limits::DELAY_MS_MAX + 1));
    names(refused(Command::Settings(SettingsChange { archive_after_ms: too_long, ..settings() })), "archive_after_ms");
    names(refused(Command::Settings(SettingsChange { delete_after_ms: too_long, ..settings() })), "delete_after_ms");
    for timeout_ms in [limits::POOL_TIMEOUT_MS_MIN - 1, limits::POOL_TIMEOUT_MS_MAX + 1] {
        let pool_timeout_ms = Some(timeout_ms);
        names(refused(Command::Settings(SettingsChange { pool_timeout_ms, ..settings() })), "pool_timeout_ms");
    }
    let size = Some(limits::POOL_SIZE_MAX + 1);
    names(refused(Command::Pool(PoolChange { size, ..PoolChange::default() })), "size");
    let queues = Some(vec!["q".into(); limits::CLAIM_MAX as usize + 1]);
    names(refused(Command::Pool(PoolChange { queues, ..PoolChange::default() })), "queues");
    names(refused(Command::Limit { name: text(limits::NAME_BYTES_MAX + 1).into(), max: Some(1) }), "name");
}

fn finish(bench: &mut Bench, action: LeaseAction) -> Result<(), Refusal> {
    let lease = bench.state.job(JobId(1)).and_then(|job| job.lease()).expect("it is held").id;
    let items = vec![LeaseItem { job: JobId(1), lease, action }];
    match bench.apply("t", None, Command::Leases { items, claim: None }).answers.remove(0) {
        Answer::Leases { mut results, .. } => results.remove(0).map(drop),
        other => panic!("{other:?}"),
    }
}

/// Spec, log, outputs and results together: results are refused, outputs are left out, log lines make room.
#[test]
fn job_of_two_mebibytes_takes_no_more() {
    let mut bench = Bench::default();
    let mut large = spec("ops=a,b,c");
    large.ops[0].payload = Payload::Text(text(limits::JOB_BYTES_MAX - 1_000));
    bench.apply("t", None, Command::Submit { jobs: vec![Ok(Arc::new(large))], atomic: false });
    let success = |result: usize, output: usize| LeaseAction::Success {
        result: Some(Json(format!("\"{}\"", text(result)).into())),
        jobs: Vec::new(),
        atomic_children: false,
        report: Box::new(Report { stdout: Some(text(output)), ..Report::default() }),
    };
    bench.apply("t", None, Command::Claim(claim("start=true")));
    let line = (text(1), text(limits::LOG_LINE_BYTES_MAX));
    let touch = LeaseAction::Touch { log: vec![line; 20], log_seq: None, progress: None, checkpoint: None };
    assert_eq!(finish(&mut bench, touch), Ok(()));
    let refused = finish(&mut bench, success(limits::JOB_BYTES_MAX + 2_000, 0)).unwrap_err();
    assert_eq!(refused.code(), "too_large");
    assert_eq!(finish(&mut bench, success(limits::JOB_BYTES_MAX - 20_000, 10)), Ok(()));
    let dropped = bench.state.job(JobId(1)).expect("it lives").more().log_dropped;
    assert!((14..20).contains(&dropped), "the oldest {dropped} lines made room for the result");
    bench.apply("t", None, Command::Claim(claim("start=true")));
    assert_eq!(finish(&mut bench, success(1, limits::OUTPUT_BYTES_MAX)), Ok(()));
    match bench.rows.get(&RowKey::Attempt(JobId(1), 1, 0)) {
        Some(Row::Attempt(attempt)) => assert!(attempt.stdout.is_some_and(|text| text.contains("omitted"))),
        other => panic!("{other:?}"),
    }
}

#[test]
fn reasons_beyond_a_hundred_push_out_the_oldest() {
    let mut bench = Bench::default();
    bench.apply("t", None, Command::Submit { jobs: vec![Ok(Arc::new(spec("")))], atomic: false });
    for number in 0..limits::REASONS_KEPT + 5 {
        let reason = Some(number.to_string().into());
        bench.apply("t", None, Command::Bury { ids: vec![JobId(1)], reason });
        bench.apply("t", None, Command::Kick { ids: vec![JobId(1)] });
    }
    let mut texts = Vec::new();
    bench.rows.scan(&RowKey::Reason(JobId(1), 0), &mut |_, row| {
        let Row::Reason(reason) = row else { panic!("a reason's row holds one") };
        texts.push(reason.text.parse::<u32>().expect("a number"));
        true
    });
    texts.sort_unstable();
    assert_eq!(texts, (5..limits::REASONS_KEPT + 5).collect::<Vec<_>>());
    assert_eq!(inherited_reasons(&mut bench), texts, "children have them in the order in which they were given");
}

/// What a child of the first job has been told.
fn inherited_reasons(bench: &mut Bench) -> Vec<u32> {
    bench.apply("t", None, Command::Claim(claim("start=true")));
    let (jobs, report) = (vec![Ok(Arc::new(spec("")))], Box::default());
    let action = LeaseAction::Success { result: None, jobs, atomic_children: true, report };
    let items = vec![LeaseItem { job: JobId(1), lease: bench.state.counters().last_lease, action }];
    bench.apply("t", None, Command::Leases { items, claim: None });
    let Some(Row::Born(child, _)) = bench.rows.get(&RowKey::Spec(JobId(2))) else { panic!("the child has a spec") };
    child.reasons.iter().map(|reason| reason.text.parse().expect("a number")).collect()
}

#[test]
fn environment_beyond_its_limit_is_refused_by_name() {
    let kept = |bytes: usize| {
        let environment = Command::Environment { digest: bytes as u128, value: Json(text(bytes)) };
        Bench::default().apply("t", None, environment).answers.remove(0)
    };
    assert_eq!(kept(limits::ENVIRONMENT_BYTES_MAX), Answer::Done);
    let refused = kept(limits::ENVIRONMENT_BYTES_MAX + 1);
    assert!(matches!(refused, Answer::Refused(Refusal::Invalid { field, .. }) if &*field == "environment"));
}
