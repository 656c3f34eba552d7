//! More at once than one entry does.

use raftq::queue::{
    applied::Answer,
    command::{CancelHow, Command},
    ids::{JobId, WallMs},
    job::{JobRef, Spec, Status, When},
};

use crate::log::{Log, after, cancel, request, spec};

/// What one tick does.
const PIECE: usize = 2_048;
/// Dependents that one entry tells.
const WAKES: usize = 10_000;

/// As many jobs and ten more, in batches: members of one are looked at in pairs.
fn crowd(log: &mut Log, when: When) {
    let batch = |size: usize| Command::Submit { jobs: vec![Ok(Spec { when, ..spec() }.into()); size], atomic: false };
    let batches = (0..8).map(|_| request(batch(PIECE / 8))).chain([request(batch(10))]);
    log.entry(batches.collect());
}

fn tick(log: &mut Log) -> usize {
    log.run(Command::Tick { hold_wall: false });
    of_status(log, Status::Delayed)
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
    use raftq::queue::command::SettingsChange;
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

/// Who is still to hear is stored, and every entry goes on with it, whatever it is about.
#[test]
fn dependents_beyond_a_piece_hear_after_restarts_too() {
    let mut log = Log::new();
    log.submit(vec![spec()]);
    let mut dependent = after(JobRef::Id(JobId(1)));
    dependent.ops[0].depends[0].accept.canceled = true;
    let batch = Command::Submit { jobs: vec![Ok(dependent.clone().into()); WAKES / 50], atomic: false };
    log.entry(vec![request(batch); 51]);
    let last = log.pair.model.last_job.0;
    log.run(cancel(1, CancelHow::Waiting));
    log.restart();
    assert_eq!(of_status(&log, Status::Blocked), WAKES / 50);
    // Until all have heard, what they hear cannot be taken back.
    let answers =
        log.entry([Command::Kick { ids: vec![JobId(1)] }, cancel(last, CancelHow::Waiting)].map(request).into());
    assert_eq!(answers.iter().map(code).collect::<Vec<_>>(), ["busy", "ok"]);
    assert_eq!(of_status(&log, Status::Blocked), 0);
    log.restart();
    log.submit(vec![dependent]);
    assert_eq!(of_status(&log, Status::Queued), WAKES + WAKES / 50);
}

fn code(answer: &Answer) -> &'static str {
    let Answer::Jobs(jobs) = answer else { panic!("an answer for each job: {answer:?}") };
    jobs[0].as_ref().map_or_else(|refusal| refusal.code(), |_| "ok")
}

fn of_status(log: &Log, status: Status) -> usize {
    log.pair.model.live().filter(|job| job.status() == status).count()
}
