//! More at once than one tick does.

use raftq::queue::{
    command::Command,
    ids::WallMs,
    job::{Spec, Status, When},
};

use crate::log::{Log, request, spec};

/// What one tick does.
const PIECE: usize = 2_048;

/// As many jobs and ten more, in batches: members of one are looked at in pairs.
fn crowd(log: &mut Log, when: When) {
    let batch = |size: usize| Command::Submit { jobs: vec![Ok(Spec { when, ..spec() }.into()); size], atomic: false };
    let batches = (0..8).map(|_| request(batch(PIECE / 8))).chain([request(batch(10))]);
    log.entry(batches.collect());
}

fn delayed(log: &Log) -> usize {
    log.pair.model.live().filter(|job| job.status() == Status::Delayed).count()
}

fn tick(log: &mut Log) -> usize {
    log.run(Command::Tick { hold_wall: false });
    delayed(log)
}

#[test]
fn delays_that_end_together_end_in_pieces() {
    let mut log = Log::new();
    crowd(&mut log, When::Delay(5));
    log.cluster_ms += 5;
    assert_eq!([tick(&mut log), tick(&mut log)], [10, 0]);
}

#[test]
fn times_to_run_that_come_together_are_kept_in_pieces() {
    let mut log = Log::new();
    crowd(&mut log, When::RunAt(WallMs(1_700_000_000_000 + 2_000)));
    log.cluster_ms += 1_000;
    assert_eq!([tick(&mut log), tick(&mut log)], [10, 0]);
}

#[test]
fn jobs_that_grow_old_together_are_archived_and_deleted_in_pieces() {
    use raftq::queue::command::{CancelHow, SettingsChange};
    let mut log = Log::new();
    crowd(&mut log, When::Now);
    let ids = log.pair.model.jobs.keys().copied().collect();
    log.run(Command::Cancel { ids, how: CancelHow::Waiting, reason: None });
    let (archive_after_ms, delete_after_ms) = (Some(Some(10)), Some(Some(20)));
    log.run(Command::Settings(SettingsChange { archive_after_ms, delete_after_ms, ..SettingsChange::default() }));
    log.cluster_ms += 11;
    let archived = |log: &Log| log.pair.model.jobs.values().filter(|job| job.archived).count();
    tick(&mut log);
    assert_eq!(archived(&log), PIECE);
    tick(&mut log);
    assert_eq!(archived(&log), PIECE + 10);
    log.cluster_ms += 10;
    tick(&mut log);
    assert_eq!(log.pair.model.jobs.len(), 10);
}
