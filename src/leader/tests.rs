//! The duties over the bare core: no Raft, no disk, no commands but `sleep`.

use std::time::{Duration, Instant};

use super::{
    Duties,
    bench::{Bench, Mishap},
    door::Queue,
};
use crate::queue::{
    command::{CancelHow, Claim, Command, Free, PoolChange, SettingsChange, Wanted, WorkerChange},
    ids::JobId,
    job::{Json, Needs, Status},
    query::HeldBy,
    schedule::Next,
};

/// A bench with a pool of this size that leads.
struct Stage {
    bench: Bench,
    duties: Duties,
    _scratch: tempfile::TempDir,
}

impl Stage {
    fn new(size: u32) -> Self {
        let scratch = tempfile::tempdir().expect("a directory");
        let bench = Bench::new();
        let duties = bench.duties(scratch.path(), size);
        bench.lead(true);
        Self { bench, duties, _scratch: scratch }
    }

    fn running(&self) -> usize {
        self.bench.look(|state, _| state.pool_leases().count())
    }

    async fn until_running(&self, wanted: usize) {
        poll(|| self.running() == wanted, "number of running jobs").await;
    }
}

async fn poll(mut reached: impl FnMut() -> bool, what: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !reached() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn pool(change: PoolChange) -> Command {
    Command::Pool(change)
}

#[tokio::test]
async fn pool_seeds_its_settings_once_and_runs_jobs() {
    let stage = Stage::new(2);
    let jobs: Vec<JobId> = (0..5).map(|_| stage.bench.submit_sleep(0.01)).collect();
    for job in jobs {
        stage.bench.reaches(job, Status::Success).await;
    }
    stage.bench.apply(pool(PoolChange { size: Some(1), ..PoolChange::default() }));
    stage.bench.lead(false);
    stage.bench.lead(true);
    let job = stage.bench.submit_sleep(0.01);
    stage.bench.reaches(job, Status::Success).await;
    assert_eq!(stage.bench.look(|state, _| state.pool().size), 1, "the file is not asked again");
    stage.duties.stop().await;
}

#[tokio::test]
async fn pool_runs_no_more_than_its_size_and_obeys_changes() {
    let stage = Stage::new(2);
    let jobs: Vec<JobId> = (0..4).map(|_| stage.bench.submit_sleep(30.0)).collect();
    stage.until_running(2).await;
    stage.bench.apply(pool(PoolChange { size: Some(3), ..PoolChange::default() }));
    stage.until_running(3).await;
    stage.bench.apply(pool(PoolChange { size: Some(1), ..PoolChange::default() }));
    stage.bench.apply(Command::Cancel { ids: vec![jobs[0]], how: CancelHow::Kill, reason: None });
    stage.bench.reaches(jobs[0], Status::Canceled).await;
    assert_eq!((stage.running(), stage.bench.status(jobs[3])), (2, Status::Queued), "shrinking lets running ones end");
    stage.duties.stop().await;
}

/// Ends a millisecond apart: a request for each would be as many entries as jobs.
#[tokio::test]
async fn pool_that_is_busy_tells_of_many_ends_at_once() {
    let stage = Stage::new(32);
    let jobs: Vec<JobId> = (0..32).map(|job| stage.bench.submit_sleep(0.3 + 0.001 * f64::from(job))).collect();
    stage.until_running(32).await;
    let index = || stage.bench.look(|state, _| state.position().index.0);
    let before = index();
    for job in jobs {
        stage.bench.reaches(job, Status::Success).await;
    }
    let entries = index() - before;
    assert!(entries <= 24, "{entries} entries for 32 ends");
    stage.duties.stop().await;
}

/// The bench's machine has two cores and 1000 MB.
#[tokio::test]
async fn pool_packs_no_more_than_its_machine_has() {
    let stage = Stage::new(10);
    let cores = |cores_milli| Needs { cores_milli, ..Needs::default() };
    let large: Vec<JobId> = (0..3).map(|_| stage.bench.submit_sleep_with(30.0, cores(900), None)).collect();
    stage.until_running(2).await;
    let small = stage.bench.submit_sleep_with(30.0, cores(200), None);
    let too_large = stage.bench.submit_sleep_with(30.0, cores(2_001), None);
    stage.bench.reaches(small, Status::Running).await;
    let unsaid: Vec<JobId> = (0..6).map(|_| stage.bench.submit_sleep(30.0)).collect();
    stage.until_running(9).await;
    assert!(
        unsaid.iter().all(|job| stage.bench.status(*job) == Status::Running),
        "what says nothing is packed by slots"
    );
    assert_eq!(stage.bench.status(large[2]), Status::Queued, "a slot is free, and no core");
    stage.bench.apply(Command::Cancel { ids: vec![large[0]], how: CancelHow::Kill, reason: None });
    stage.bench.reaches(large[2], Status::Running).await;
    assert_eq!(stage.bench.status(too_large), Status::Queued);
    stage.duties.stop().await;
}

#[tokio::test]
async fn pool_packs_by_what_was_learned() {
    let stage = Stage::new(10);
    let memory = |ram_mb| Needs { ram_mb, ..Needs::default() };
    let teacher = stage.bench.submit_sleep_with(0.0, memory(600), Some("g"));
    stage.bench.reaches(teacher, Status::Success).await;
    for _ in 0..5 {
        stage.bench.submit_sleep_with(30.0, memory(600), Some("g"));
    }
    stage.until_running(5).await;
    stage.duties.stop().await;
}

#[tokio::test]
async fn pool_counts_grants_whose_answer_was_lost() {
    let stage = Stage::new(10);
    let needs = Needs { ram_mb: 600, ..Needs::default() };
    let first = stage.bench.submit_sleep_with(30.0, needs, None);
    stage.bench.reaches(first, Status::Running).await;
    stage.bench.mishap(Mishap::AnswerLost);
    let second = stage.bench.submit_sleep_with(0.0, Needs { ram_mb: 400, ..needs }, None);
    stage.bench.reaches(second, Status::Success).await;
    let third = stage.bench.submit_sleep_with(30.0, needs, None);
    let last = stage.bench.submit_sleep(0.0);
    stage.bench.reaches(last, Status::Success).await;
    assert_eq!(stage.bench.status(third), Status::Queued);
    stage.duties.stop().await;
}

#[tokio::test]
async fn pool_is_in_the_registry_from_when_it_leads() {
    let stage = Stage::new(2);
    let known = || stage.bench.look(|state, _| state.workers().get("pool-1").and_then(|worker| worker.resources));
    poll(|| known().is_some_and(|free| free.cores_milli == Some(2_000)), "the pool is in the registry").await;
    let too_large = stage.bench.submit_sleep_with(0.0, Needs { cores_milli: 2_001, ..Needs::default() }, None);
    let why = stage.bench.look(|state, _| state.held_by(too_large));
    assert_eq!(why, [HeldBy::NoFittingWorker]);
    let first = stage.bench.submit_sleep(0.0);
    stage.bench.reaches(first, Status::Success).await;
    stage.bench.apply(Command::Settings(SettingsChange { bury_impossible: Some(true), ..SettingsChange::default() }));
    stage.bench.reaches(too_large, Status::Buried).await;
    assert!(stage.bench.look(|state, _| state.workers()["pool-1"].is_pool()), "and no heartbeat keeps it there");
    stage.duties.stop().await;
}

#[tokio::test]
async fn pool_of_a_node_that_left_goes_from_the_registry_through_a_change_of_leader() {
    let stage = Stage::new(2);
    let known = |pool: &str| stage.bench.look(|state, _| state.workers().contains_key(pool));
    let machine = Free { cores_milli: Some(8_000), ..Free::default() };
    for id in ["pool-2", "pool-3"] {
        let info = Json(r#"{"kind": "pool"}"#.into());
        stage.bench.apply(Command::Worker(WorkerChange::Pool { id: id.into(), info, resources: machine }));
    }
    poll(|| known("pool-1"), "the pool is in the registry").await;
    stage.bench.apply(Command::Settings(SettingsChange { bury_impossible: Some(true), ..SettingsChange::default() }));
    let large = stage.bench.submit_sleep_with(0.0, Needs { cores_milli: 4_000, ..Needs::default() }, None);
    stage.bench.leaves_cluster(3);
    poll(|| !known("pool-3"), "its pool goes, too").await;
    assert!(known("pool-1") && known("pool-2"), "members' pools stay");
    assert_eq!(stage.bench.status(large), Status::Queued, "node 2 could hold it");

    stage.bench.lead(false);
    stage.bench.leaves_cluster(2);
    stage.bench.lead(true);
    stage.bench.reaches(large, Status::Buried).await;
    assert!(known("pool-1") && !known("pool-2"));
    stage.duties.stop().await;
}

#[tokio::test]
async fn pool_inactive_runs_nothing_until_active() {
    let stage = Stage::new(2);
    stage.bench.reaches(stage.bench.submit_sleep(0.0), Status::Success).await;
    stage.bench.apply(pool(PoolChange { active: Some(false), ..PoolChange::default() }));
    let job = stage.bench.submit_sleep(0.0);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(stage.bench.status(job), Status::Queued);
    stage.bench.apply(pool(PoolChange { active: Some(true), ..PoolChange::default() }));
    stage.bench.reaches(job, Status::Success).await;
    stage.duties.stop().await;
}

#[tokio::test]
async fn claim_whose_answer_is_lost_is_run_all_the_same() {
    let stage = Stage::new(1);
    stage.bench.reaches(stage.bench.submit_sleep(0.0), Status::Success).await;
    stage.bench.mishap(Mishap::AnswerLost);
    let job = stage.bench.submit_sleep(0.05);
    stage.bench.reaches(job, Status::Success).await;
    assert_eq!(stage.bench.job(job).ops[0].runs().attempts, 1);
    stage.duties.stop().await;
}

#[tokio::test]
async fn job_submitted_in_the_entry_of_an_empty_claim_is_run() {
    let stage = Stage::new(1);
    let first = stage.bench.submit_sleep(0.05);
    stage.bench.reaches(first, Status::Running).await;
    stage.bench.follow(Bench::submission(0.0));
    stage.bench.reaches(first, Status::Success).await;
    stage.bench.reaches(JobId(first.0 + 1), Status::Success).await;
    stage.duties.stop().await;
}

#[tokio::test]
async fn finish_whose_answer_is_lost_is_repeated() {
    let stage = Stage::new(1);
    for mishap in [Mishap::Never, Mishap::Lost, Mishap::AnswerLost] {
        let job = stage.bench.submit_sleep(0.05);
        stage.bench.reaches(job, Status::Running).await;
        stage.bench.mishap(mishap);
        stage.bench.reaches(job, Status::Success).await;
        assert_eq!(stage.bench.job(job).ops[0].runs().attempts, 1, "{mishap:?}");
    }
    stage.duties.stop().await;
}

#[tokio::test]
async fn office_lost_stops_commands_and_hands_them_back() {
    let stage = Stage::new(1);
    let job = stage.bench.submit_sleep(30.0);
    stage.bench.reaches(job, Status::Running).await;
    stage.bench.other_leads();
    stage.bench.reaches(job, Status::Queued).await;
    let stored = stage.bench.job(job);
    assert_eq!((stored.ops[0].runs().attempts, stored.ops[0].runs().lost), (0, 0), "neither an attempt nor a loss");
    stage.duties.stop().await;
}

#[tokio::test]
async fn claim_answered_after_the_office_is_given_back_as_never_run() {
    let stage = Stage::new(1);
    let first = stage.bench.submit_sleep(0.1);
    stage.bench.reaches(first, Status::Running).await;
    // Claimed in the same entry in which the first one ends.
    let job = stage.bench.submit_sleep_once(30.0);
    stage.bench.mishap(Mishap::OfficeLost);
    poll(|| stage.bench.job(job).ops[0].runs().recorded == 1, "its lease has ended").await;
    let stored = stage.bench.job(job);
    let runs = stored.ops[0].runs();
    assert_eq!(
        (stored.status(), runs.attempts, runs.lost),
        (Status::Queued, 0, 0),
        "what must not run twice never ran"
    );
    stage.duties.stop().await;
}

#[tokio::test]
async fn leave_lets_running_jobs_end() {
    let stage = Stage::new(1);
    let (first, second) = (stage.bench.submit_sleep(0.3), stage.bench.submit_sleep(0.0));
    stage.bench.reaches(first, Status::Running).await;
    let handed = stage.duties.handover().leave(Duration::from_secs(5)).await;
    assert_eq!(handed.interrupted, []);
    assert_eq!((stage.bench.status(first), stage.bench.status(second)), (Status::Success, Status::Queued));
    stage.duties.handover().stay();
    stage.bench.reaches(second, Status::Success).await;
    stage.duties.stop().await;
}

#[tokio::test]
async fn leave_interrupts_what_does_not_end_and_names_it() {
    let stage = Stage::new(1);
    let job = stage.bench.submit_sleep(30.0);
    stage.bench.reaches(job, Status::Running).await;
    let handed = stage.duties.handover().leave(Duration::from_millis(50)).await;
    assert_eq!((handed.interrupted, stage.bench.status(job)), (vec![job], Status::Queued));
    stage.duties.stop().await;
}

#[tokio::test]
async fn tick_ends_what_is_due() {
    let stage = Stage::new(0);
    let wanted = Wanted::Queues(vec!["default".into()]);
    let claim = Claim { lease_ms: Some(100), ..Claim::of("remote", wanted) };
    let job = stage.bench.submit_sleep(0.0);
    stage.bench.apply(Command::Claim(claim));
    assert_eq!(stage.bench.status(job), Status::Reserved);
    stage.bench.reaches(job, Status::Queued).await;
    stage.duties.stop().await;
}

#[tokio::test]
async fn slots_of_a_schedule_become_jobs_each_once_through_a_change_of_leader() {
    let stage = Stage::new(1);
    stage.bench.schedule("s", 1_000);
    let taken = || stage.bench.look(|state, _| state.schedules().known()["s"].submitted);
    poll(|| taken() == 1, "a slot is taken").await;
    stage.bench.lead(false);
    stage.bench.lead(true);
    poll(|| taken() == 2, "another one is taken").await;
    let look = |state: &crate::queue::State, _: &dyn crate::queue::rows::Rows| {
        let schedule = &state.schedules().known()["s"];
        (schedule.skipped, schedule.last.as_ref().map(|last| last.slot.0 - schedule.defined_at.0))
    };
    assert_eq!(stage.bench.look(look), (0, Some(2_000)), "one slot after the other");
    stage.bench.reaches(JobId(2), Status::Success).await;
    stage.duties.stop().await;
}

#[tokio::test]
async fn slot_is_held_while_the_wall_clock_is_mistrusted() {
    let stage = Stage::new(0);
    stage.bench.mistrust_wall_clock(true);
    stage.bench.schedule("s", 1_000);
    let next = || stage.bench.look(|state, _| state.schedules().known()["s"].next);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(next(), Next::Unplanned);
    stage.bench.mistrust_wall_clock(false);
    poll(|| next() != Next::Unplanned, "it is planned").await;
    stage.duties.stop().await;
}
