//! Work that is done in bounded pieces: every piece stays small, and nothing is left behind.

use std::sync::Arc;

use super::{Bench, words};
use crate::queue::{
    applied::Answer,
    command::{CancelHow, Command, Free, SettingsChange, WorkerChange},
    ids::{ClusterMs, JobId},
    job::{Json, Status},
    limits,
    rows::{Row, RowKey, Rows},
};

fn submit(bench: &mut Bench, specs: &[&str]) -> Answer {
    let words = |spec: &str| spec.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let member = |spec: &&str| Ok(Arc::new(words::spec(&words(spec)).expect("a spec of the test")));
    let command = Command::Submit { jobs: specs.iter().map(member).collect(), atomic: false };
    bench.apply("tester", None, command).answers.remove(0)
}

fn tick(bench: &mut Bench) {
    bench.apply("leader", None, Command::Tick { hold_wall: false });
}

#[test]
fn cancel_of_a_job_with_many_dependents_goes_on_with_ticks() {
    let mut bench = Bench::default();
    submit(&mut bench, &["queue=first"]);
    let dependents = limits::WAKES_PIECE + 500;
    submit(&mut bench, &vec!["depends=0:1"; dependents / 2]);
    submit(&mut bench, &vec!["depends=0:1"; dependents - dependents / 2]);
    bench.apply("tester", None, Command::Cancel { ids: vec![JobId(1)], how: CancelHow::Waiting, reason: None });
    assert_eq!(bench.state.live_count(), 500, "one entry wakes a bounded number");
    assert_eq!(bench.state.next_deadline().cluster, Some(ClusterMs(0)), "the rest is due at once");
    let kicked = bench.apply("tester", None, Command::Kick { ids: vec![JobId(1)] }).answers.remove(0);
    assert!(matches!(kicked, Answer::Jobs(results) if results[0].as_ref().is_err_and(|why| why.code() == "busy")));
    bench.apply("tester", None, Command::Delete { ids: vec![JobId(1)] });
    tick(&mut bench);
    assert_eq!(bench.state.live_count(), 0);
    tick(&mut bench);
    assert_eq!(bench.state.next_deadline().cluster, None);
}

#[test]
fn cancel_of_a_long_chain_needs_no_stack() {
    let mut bench = Bench::default();
    let mut chain = vec!["depends=0:-1"; limits::JOBS_PER_REQUEST_MAX];
    chain[0] = "queue=first";
    submit(&mut bench, &chain);
    bench.apply("tester", None, Command::Cancel { ids: vec![JobId(1)], how: CancelHow::Waiting, reason: None });
    assert_eq!(bench.state.live_count(), 0);
}

#[test]
fn tick_expires_a_piece_and_the_next_one_goes_on() {
    let mut bench = Bench::default();
    submit(&mut bench, &vec!["delay=10"; limits::TICK_PIECE + 7]);
    bench.advance(10);
    tick(&mut bench);
    assert_eq!(bench.state.counts()[Status::Delayed as usize], 7);
    assert_eq!(bench.state.next_deadline().cluster, Some(ClusterMs(10)));
    tick(&mut bench);
    assert_eq!(bench.state.counts()[Status::Delayed as usize], 0);
}

#[test]
fn jobs_that_became_impossible_are_buried_in_pieces() {
    let mut bench = Bench::default();
    let resources = |cores| Some(Free { cores_milli: Some(cores), ..Free::default() });
    let worker = |cores| WorkerChange::Put {
        id: "w".into(),
        info: Json("{}".into()),
        ttl_ms: 1_000,
        resources: resources(cores),
    };
    let policy = SettingsChange { bury_impossible: Some(true), ..SettingsChange::default() };
    for command in [Command::Settings(policy), Command::Worker(worker(4_000))] {
        bench.apply("tester", None, command);
    }
    tick(&mut bench);
    submit(&mut bench, &vec!["queue=far cores=4000"; limits::TICK_PIECE + 7]);
    bench.apply("tester", None, Command::Worker(worker(3_999)));
    let buried = |bench: &Bench| bench.state.counts()[Status::Buried as usize];
    assert_eq!(buried(&bench), 0, "no entry of a worker costs what jobs there are");
    tick(&mut bench);
    assert_eq!(buried(&bench), limits::TICK_PIECE);
    assert_eq!(bench.state.next_deadline().cluster, Some(ClusterMs(0)), "the rest is due at once");
    tick(&mut bench);
    assert_eq!(buried(&bench), limits::TICK_PIECE + 7);
    assert_eq!(bench.state.next_deadline().cluster, Some(ClusterMs(1_000)));
}

#[test]
fn log_too_large_drops_its_oldest_lines_and_counts_them() {
    let mut bench = Bench::default();
    submit(&mut bench, &["lease=60000"]);
    let claim = words::claim(&["start=true".to_owned()]).expect("a claim of the test");
    bench.apply("tester", None, Command::Claim(claim));
    let line = "x".repeat(limits::LOG_LINE_BYTES_MAX);
    for _ in 0..6 {
        touch(&mut bench, vec![("m".into(), line.as_str().into()); 100]);
    }
    let more = bench.state.job(JobId(1)).expect("it lives").more();
    assert_eq!(more.log_serial, 600);
    assert!(more.log_dropped > 80 && more.log_dropped < 110, "{} were dropped", more.log_dropped);
    let (first, last) = (more.log_dropped + 1, more.log_serial);
    assert!(bench.rows.get(&RowKey::Log(JobId(1), first - 1)).is_none());
    assert!(matches!(bench.rows.get(&RowKey::Log(JobId(1), first)), Some(Row::Log(_))));
    assert!(matches!(bench.rows.get(&RowKey::Log(JobId(1), last)), Some(Row::Log(_))));
}

fn touch(bench: &mut Bench, log: Vec<(Box<str>, Box<str>)>) {
    use crate::queue::command::{LeaseAction, LeaseItem};
    let lease = bench.state.job(JobId(1)).and_then(|job| job.lease()).expect("it is held").id;
    let action = LeaseAction::Touch { log, log_seq: None, progress: None, checkpoint: None };
    let items = vec![LeaseItem { job: JobId(1), lease, action }];
    let answer = bench.apply("tester", None, Command::Leases { items, claim: None }).answers.remove(0);
    assert!(matches!(answer, Answer::Leases { results, .. } if results[0].is_ok()));
}

#[test]
fn attempts_beyond_the_last_ten_are_forgotten() {
    let mut bench = Bench::default();
    submit(&mut bench, &["lost_limit=100"]);
    for _ in 0..13 {
        let claim = words::claim(&["start=true".to_owned(), "lease=100".to_owned()]).expect("a claim of the test");
        bench.apply("tester", None, Command::Claim(claim));
        bench.advance(100);
        tick(&mut bench);
    }
    let mut numbers = Vec::new();
    bench.rows.scan(&RowKey::Attempt(JobId(1), 0, 0), &mut |_, row| {
        let Row::Attempt(attempt) = row else { panic!("an attempt's row holds one") };
        numbers.push(attempt.number);
        true
    });
    numbers.sort_unstable();
    assert_eq!(numbers, (4..=13).collect::<Vec<_>>());
}
