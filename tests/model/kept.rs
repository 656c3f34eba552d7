//! How much of a job is kept: what the property test found about it, in the smallest form.

use std::sync::Arc;

use raftq::queue::{
    applied::Answer,
    command::{CancelHow, Command, Edit, Free, LeaseAction, PoolChange, Report, SettingsChange, WorkerChange},
    ids::JobId,
    job::{Json, Needs, Spec, Status},
};

use crate::{
    log::{Log, cancel, claim, spec, success},
    reference::Job,
};

const OUTPUT: usize = 64 << 10;

fn text(bytes: usize) -> Box<str> {
    "x".repeat(bytes).into()
}

/// A log with one job, of this many ops, which are tried again whatever happens.
fn with_job(ops: usize) -> Log {
    let mut log = Log::new();
    let mut spec = spec();
    spec.ops = vec![spec.ops[0].clone(); ops];
    spec.unique = Some("one".into());
    log.submit(vec![spec]);
    log
}

fn job(log: &Log) -> &Job {
    &log.pair.model.jobs[&JobId(1)]
}

/// The job is claimed, started, and this comes of it.
fn run(log: &mut Log, action: LeaseAction) -> Answer {
    log.run(Command::Claim(claim(true)));
    let lease = job(log).held().expect("nothing keeps it from running").1.id;
    log.call(1, lease.0, action)
}

fn success_with(result: usize, output: usize) -> LeaseAction {
    let LeaseAction::Success { jobs, atomic_children, mut report, .. } = success(None) else { panic!("it is one") };
    report.stdout = Some(text(output));
    LeaseAction::Success { result: Some(Json(text(result))), jobs, atomic_children, report }
}

fn interrupted(output: usize) -> LeaseAction {
    let report = Box::new(Report { stdout: Some(text(output)), ..Report::default() });
    LeaseAction::Failure { fail_reason: "interrupted".into(), retryable: None, delay_ms: None, report }
}

fn touch(lines: usize) -> LeaseAction {
    let log = vec![("note".into(), text(4_096)); lines];
    LeaseAction::Touch { log, log_seq: None, progress: None, checkpoint: None }
}

fn is_ok(answer: &Answer) -> bool {
    matches!(answer, Answer::Leases { results, .. } if results[0].is_ok())
}

/// The output came first and took the room that the result was promised: the job weighed more than it may.
#[test]
fn result_for_which_there_is_room_comes_before_outputs() {
    let mut log = with_job(1);
    let room = job(&log).room();
    assert!(is_ok(&run(&mut log, success_with(room - 100, OUTPUT))));
    assert!(job(&log).has_omitted());
    assert_eq!(job(&log).room(), 100);
}

/// It was refused for a result that nobody would have kept, and the job could not end.
#[test]
fn finish_of_a_canceled_job_is_not_refused_for_its_result() {
    let mut log = with_job(1);
    let room = job(&log).room();
    log.run(Command::Claim(claim(true)));
    log.run(cancel(1, CancelHow::Kill));
    assert!(is_ok(&log.call(1, 1, success_with(room + 1, 0))));
    assert_eq!(log.status(1), Status::Canceled);
}

/// Lines make room for what stays, and not for outputs that leave as this attempt comes.
#[test]
fn attempt_that_leaves_makes_room_before_lines_do() {
    let mut log = with_job(2);
    (0..10).for_each(|_| assert!(is_ok(&run(&mut log, interrupted(OUTPUT)))));
    log.run(Command::Claim(claim(true)));
    log.call(1, 11, touch(10));
    let lines = job(&log).log_bytes();
    let room = job(&log).room();
    assert!(is_ok(&log.call(1, 11, success_with(room - lines + 4_000, 0))));
    assert_eq!((job(&log).log_dropped, job(&log).room()), (0, lines - 4_000 + OUTPUT));
}

/// Outputs that were left out made room when they left, which they had never taken.
#[test]
fn outputs_left_out_make_no_room_when_their_attempts_leave() {
    let mut log = with_job(2);
    let room = job(&log).room();
    run(&mut log, success_with(room - 10, 0));
    (0..30).for_each(|_| assert!(is_ok(&run(&mut log, interrupted(OUTPUT)))));
    assert_eq!(job(&log).room(), 10);
}

/// The room of outputs was lost for ever when a reason without an attempt took their place.
#[test]
fn reason_without_an_attempt_takes_the_place_and_the_room_of_one() {
    let mut log = with_job(1);
    (0..10).for_each(|_| assert!(is_ok(&run(&mut log, interrupted(OUTPUT)))));
    let full = job(&log).room();
    let needs = Some(Needs { ram_mb: 200, ..Needs::default() });
    let needy = Spec { needs, ..spec_of(&log) };
    edit(&mut log, needy);
    let grown = full - job(&log).room();
    let resources = Some(Free { ram_mb: Some(100), ..Free::default() });
    let worker = WorkerChange::Put { id: "w".into(), info: Json("{}".into()), ttl_ms: 10_000, resources };
    let policy = SettingsChange { bury_impossible: Some(true), ..SettingsChange::default() };
    let pool = PoolChange { size: Some(0), ..PoolChange::default() };
    for command in [Command::Pool(pool), Command::Settings(policy), Command::Worker(worker)] {
        log.run(command);
    }
    log.run(Command::Tick { hold_wall: false });
    assert_eq!(log.status(1), Status::Buried);
    assert_eq!(job(&log).room() + grown, full + OUTPUT);
}

fn edit(log: &mut Log, spec: Spec) -> Answer {
    log.run(Command::Edit { id: JobId(1), edit: Box::new(Edit { spec: Some(Arc::new(spec)) }) })
}

/// Nobody looked what the job had kept already.
#[test]
fn edit_that_leaves_no_room_for_what_is_kept_is_refused() {
    let mut log = with_job(2);
    let room = job(&log).room();
    run(&mut log, success_with(room - 1_000, 0));
    let grown = |by: usize| Spec { comment: Some(text(by)), ..spec_of(&log) };
    let (fits, beyond) = (grown(1_000), grown(1_001));
    assert!(
        matches!(edit(&mut log, beyond), Answer::Jobs(jobs) if jobs[0].as_ref().is_err_and(|why| why.code() == "too_large"))
    );
    assert!(matches!(edit(&mut log, fits), Answer::Jobs(jobs) if jobs[0].is_ok()));
    assert_eq!(job(&log).room(), 0);
}

fn spec_of(log: &Log) -> Spec {
    Spec::clone(&job(log).spec)
}

/// The lines stayed, and the job weighed more than it may.
#[test]
fn edit_drops_lines_for_a_larger_spec() {
    let mut log = with_job(2);
    let room = job(&log).room();
    run(&mut log, success_with(room - 20_000, 0));
    run(&mut log, touch(4));
    log.call(1, 2, interrupted(0));
    let grown = Spec { comment: Some(text(4_000)), ..spec_of(&log) };
    assert!(matches!(edit(&mut log, grown), Answer::Jobs(jobs) if jobs[0].is_ok()));
    assert_eq!(job(&log).log_dropped, 1);
}

/// What twins added weighed nothing.
#[test]
fn groups_that_a_twin_adds_have_their_weight() {
    let mut log = with_job(2);
    let room = job(&log).room();
    let twin = |group: &str| Spec { unique: Some("one".into()), groups: [group.into()].into(), ..spec() };
    log.submit(vec![twin("etl")]);
    assert_eq!(job(&log).room(), room - 3);
    run(&mut log, success_with(room - 3 - 5, 0));
    log.submit(vec![twin("nightly")]);
    assert_eq!(job(&log).spec.groups.len(), 1, "there is no room for its name");
    log.submit(vec![twin("night")]);
    assert_eq!((job(&log).spec.groups.len(), job(&log).room()), (2, 0));
}
