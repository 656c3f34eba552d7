//! Which jobs have a row of their own, which are one bit, which a grant; and what is left of one that has ended.

use std::sync::Arc;

use super::Bench;
use crate::queue::{
    applied::{Answer, Claimed},
    command::{Claim, Command, LeaseAction, LeaseItem, Wanted},
    fresh::SPEC_BYTES_MAX,
    ids::{JobId, Priority},
    job::{Depends, FinalStatuses, JobRef, Json, OnFailure, OpSpec, Payload, Spec, Status},
    live,
    rows::{Row, RowKey, Rows},
};

fn spec(edit: impl FnOnce(&mut Spec)) -> Arc<Spec> {
    let mut spec = Spec::of_ops(vec![OpSpec::new("x", Payload::Args(Json("1".into())))]);
    edit(&mut spec);
    Arc::new(spec)
}

fn submit(bench: &mut Bench, specs: impl IntoIterator<Item = Arc<Spec>>) {
    let jobs = specs.into_iter().map(Ok).collect();
    bench.apply("", None, Command::Submit { jobs, atomic: false });
}

fn has_row(bench: &Bench, id: u64) -> bool {
    bench.rows.get(&RowKey::Live(JobId(id))).is_some()
}

/// By span, those that are fresh.
fn fresh_rows(bench: &Bench) -> Vec<(u64, u64)> {
    let mut spans = Vec::new();
    bench.rows.scan(&RowKey::Fresh(0), &mut |key, row| {
        let (RowKey::Fresh(span), Row::Count(bits)) = (key, row) else { panic!("bits") };
        spans.push((span, bits));
        true
    });
    spans
}

#[test]
fn submitted_jobs_are_one_row_each_until_something_happens_to_them() {
    let mut bench = Bench::default();
    submit(&mut bench, [spec(|_| ())]);
    let rows_before = bench.rows.rows.len();
    submit(&mut bench, (0..128).map(|_| spec(|_| ())));
    assert_eq!(bench.rows.rows.len() - rows_before, 128 + 2, "128 specs, and the bits of two more spans");
    assert_eq!(fresh_rows(&bench), [(0, u64::MAX - 1), (1, u64::MAX), (2, 0b11)]);
    bench.apply("", None, Command::Priority { ids: vec![JobId(128)], priority: Priority(3) });
    assert_eq!((has_row(&bench, 128), has_row(&bench, 129)), (true, false));
    assert_eq!(fresh_rows(&bench)[2], (2, 0b10));
    let live = |id| live::job(&bench.rows, JobId(id)).map(|job| job.ops[0].priority);
    assert_eq!((live(128), live(129), live(130)), (Some(Priority(3)), Some(Priority(0)), None));
}

#[test]
fn removed_jobs_leave_no_bits() {
    let mut bench = Bench::default();
    submit(&mut bench, (0..3).map(|_| spec(|_| ())));
    bench.apply("", None, Command::Delete { ids: vec![JobId(1), JobId(2), JobId(3)] });
    assert_eq!(fresh_rows(&bench), []);
    assert_eq!(live::job(&bench.rows, JobId(2)), None);
}

#[test]
fn jobs_that_their_spec_does_not_tell_whole_have_a_row_at_once() {
    let mut bench = Bench::default();
    let on = Depends { on: JobRef::Back(1), accept: FinalStatuses::default() };
    let large = "x".repeat(SPEC_BYTES_MAX as usize);
    submit(
        &mut bench,
        [
            spec(|spec| spec.unique = Some("u".into())),
            spec(|spec| spec.ops[0].depends = vec![on]),
            spec(|spec| spec.comment = Some(large.into())),
        ],
    );
    assert_eq!([1, 2, 3].map(|id| has_row(&bench, id)), [false, true, true]);
    // A second submission of a unique job adds its groups, and nothing else of it changes.
    submit(&mut bench, [spec(|spec| (spec.unique, spec.groups) = (Some("u".into()), ["g".into()].into()))]);
    assert!(has_row(&bench, 1));
    assert_eq!(fresh_rows(&bench), []);
}

/// Few of a span are looked up one by one, many are read along.
#[test]
fn state_is_loaded_whatever_has_become_of_their_neighbours() {
    for kept in [1, 2, 20, 47, 48, 63] {
        let mut bench = Bench::default();
        submit(&mut bench, (0..200).map(|_| spec(|_| ())));
        let gone = (64..128).filter(|id| id % 64 >= kept).map(JobId).collect();
        // The bench loads the state anew after each entry, and compares.
        bench.apply("", None, Command::Delete { ids: gone });
        assert_eq!(fresh_rows(&bench)[1].1.count_ones(), kept as u32);
    }
}

fn claim(bench: &mut Bench, ids: impl IntoIterator<Item = u64>, start: bool) -> Vec<Claimed> {
    let wanted = Wanted::Ids(ids.into_iter().map(JobId).collect());
    let applied = bench.apply("", None, Command::Claim(Claim { start, ..Claim::of("w", wanted) }));
    let Answer::Claimed(claimed) = applied.answers.into_iter().next().expect("one answer") else { panic!("claimed") };
    claimed.into_iter().map(|one| one.expect("granted")).collect()
}

fn call(bench: &mut Bench, claimed: &[Claimed], action: &LeaseAction) {
    let item = |one: &Claimed| LeaseItem { job: one.job, lease: one.lease, action: action.clone() };
    bench.apply("", None, Command::Leases { items: claimed.iter().map(item).collect(), claim: None });
}

fn success() -> LeaseAction {
    LeaseAction::Success { result: None, jobs: Vec::new(), atomic_children: false, report: Box::default() }
}

fn kinds(bench: &Bench, of: fn(&RowKey) -> bool) -> usize {
    bench.rows.rows.keys().filter(|key| of(key)).count()
}

/// By span, how many are told by their grants.
fn granted_rows(bench: &Bench) -> Vec<(u64, u32)> {
    let mut spans = Vec::new();
    bench.rows.scan(&RowKey::Granted(0), &mut |key, row| {
        let (RowKey::Granted(span), Row::Grants(grants)) = (key, row) else { panic!("grants") };
        spans.push((span, grants.bits().count_ones()));
        true
    });
    spans
}

#[test]
fn claimed_jobs_share_rows_until_something_else_happens_to_them() {
    let mut bench = Bench::default();
    submit(&mut bench, (0..200).map(|_| spec(|_| ())));
    let started = claim(&mut bench, 1..=100, true);
    bench.advance(5);
    let reserved = claim(&mut bench, 101..=130, false);
    assert_eq!(granted_rows(&bench), [(0, 63), (1, 64), (2, 3)]);
    assert_eq!(kinds(&bench, |key| matches!(key, RowKey::Live(_))), 0);
    let status = |bench: &Bench, id| live::job(&bench.rows, JobId(id)).map(|job| job.status());
    let statuses = [1, 100, 101, 131].map(|id| status(&bench, id));
    assert_eq!(statuses, [Status::Running, Status::Running, Status::Reserved, Status::Queued].map(Some));
    // A touch and a start are something else; an end is the end.
    let touch = LeaseAction::Touch { log: Vec::new(), log_seq: None, progress: None, checkpoint: None };
    call(&mut bench, &started[..1], &touch);
    call(&mut bench, &reserved[..1], &LeaseAction::Start { host: None, pid: None });
    call(&mut bench, &started[1..63], &success());
    assert_eq!((has_row(&bench, 1), has_row(&bench, 101), has_row(&bench, 64)), (true, true, false));
    assert_eq!(granted_rows(&bench), [(1, 63), (2, 3)]);
    assert_eq!((status(&bench, 2), status(&bench, 64)), (None, Some(Status::Running)));
}

#[test]
fn jobs_that_were_not_fresh_have_a_row_when_they_are_claimed() {
    let mut bench = Bench::default();
    submit(&mut bench, (0..2).map(|_| spec(|_| ())));
    bench.apply("", None, Command::Priority { ids: vec![JobId(1)], priority: Priority(-1) });
    let claimed = claim(&mut bench, [1, 2], true);
    assert_eq!((has_row(&bench, 1), has_row(&bench, 2)), (true, false));
    // Given back it is as it was, but not as it came.
    call(&mut bench, &claimed[1..], &LeaseAction::Release { reason: None, delay_ms: 0 });
    claim(&mut bench, [2], true);
    assert_eq!((has_row(&bench, 2), granted_rows(&bench)), (true, vec![]));
}

#[test]
fn only_attempt_stands_with_the_job_that_it_ended() {
    let mut bench = Bench::default();
    submit(&mut bench, (0..64).map(|_| spec(|_| ())));
    let claimed = claim(&mut bench, 1..=64, true);
    call(&mut bench, &claimed, &success());
    let own = |bench: &Bench| kinds(bench, |key| matches!(key, RowKey::Attempt(..)));
    let ends = |bench: &Bench| kinds(bench, |key| matches!(key, RowKey::EndedAt(..)));
    assert_eq!((own(&bench), ends(&bench)), (0, 2), "64 jobs ended at once, in two spans");
    bench.apply("", None, Command::Archive { ids: vec![JobId(7)] });
    let Some(Row::Done(job, attempt)) = bench.rows.get(&RowKey::Archived(JobId(7))) else { panic!("archived") };
    assert_eq!((job.archived, attempt.lease), (true, claimed[6].lease));
}

#[test]
fn attempt_gets_a_row_when_its_job_lives_again() {
    let mut bench = Bench::default();
    submit(&mut bench, [spec(|spec| spec.policy.on_failure = OnFailure::Error)]);
    let failure = || LeaseAction::Failure {
        fail_reason: "error".into(),
        retryable: Some(false),
        delay_ms: None,
        report: Box::default(),
    };
    let first = claim(&mut bench, [1], true);
    call(&mut bench, &first, &failure());
    assert!(matches!(bench.rows.get(&RowKey::Ended(JobId(1))), Some(Row::Done(..))));
    bench.apply("", None, Command::Kick { ids: vec![JobId(1)] });
    let kept = |bench: &Bench, slot| match bench.rows.get(&RowKey::Attempt(JobId(1), 0, slot)) {
        Some(Row::Attempt(attempt)) => Some(attempt.lease),
        _ => None,
    };
    assert_eq!((kept(&bench, 0), kept(&bench, 1)), (Some(first[0].lease), None));
    let second = claim(&mut bench, [1], true);
    call(&mut bench, &second, &failure());
    assert!(matches!(bench.rows.get(&RowKey::Ended(JobId(1))), Some(Row::Job(_))));
    assert_eq!((kept(&bench, 0), kept(&bench, 1)), (Some(first[0].lease), Some(second[0].lease)));
}
