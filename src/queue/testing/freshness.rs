//! Which jobs have a row of their own, and which are one bit.

use std::sync::Arc;

use super::Bench;
use crate::queue::{
    command::Command,
    fresh::{self, SPEC_BYTES_MAX},
    ids::{JobId, Priority},
    job::{Depends, FinalStatuses, JobRef, Json, OpSpec, Payload, Spec},
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
    let live = |id| fresh::live_job(&bench.rows, JobId(id)).map(|job| job.ops[0].priority);
    assert_eq!((live(128), live(129), live(130)), (Some(Priority(3)), Some(Priority(0)), None));
}

#[test]
fn removed_jobs_leave_no_bits() {
    let mut bench = Bench::default();
    submit(&mut bench, (0..3).map(|_| spec(|_| ())));
    bench.apply("", None, Command::Delete { ids: vec![JobId(1), JobId(2), JobId(3)] });
    assert_eq!(fresh_rows(&bench), []);
    assert_eq!(fresh::live_job(&bench.rows, JobId(2)), None);
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
