//! What the read side says, against a walk over the model's jobs; and memory against rows.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use raftq::queue::{
    State,
    ids::{JobId, Priority},
    job::{Attempt, Status},
    rows::{Row, RowKey},
    schedule::{self, Next},
    totals::Ends,
};

use super::{compare::same, expected::as_ends};
use crate::{
    reference::{Model, Schedule},
    store::Store,
};

const ANY: usize = 100_000;

/// Counts, orders and look-ups, each computed anew from all of the model's jobs.
pub fn same_views(model: &Model, core: &State) -> Result<(), String> {
    let live: Vec<JobId> = model.live().map(|job| job.id).collect();
    same("live jobs", &live, &core.jobs_after(JobId(0)).map(|job| job.id).collect())?;
    for (position, status) in Status::ALL.into_iter().enumerate() {
        let mine = model.live().filter(|job| job.status() == status).count();
        same(&format!("count of {}", status.name()), &mine, &core.counts()[position])?;
    }
    for queue in ["default", "slow", "q.$3"] {
        same(&format!("order of {queue}"), &order(model, queue), &core.ready_after(queue, None, ANY))?;
    }
    for job in model.live().filter(|job| job.status() == Status::Blocked) {
        let open = job.depends[job.current()].iter().filter(|latch| latch.outcome.is_none()).map(|latch| latch.on);
        same(&format!("what job {} waits for", job.id), &open.collect(), &core.blocked_by(job.id))?;
    }
    for job in model.live() {
        same(&format!("what holds job {}", job.id), &model.held_by(job), &core.held_by(job.id))?;
    }
    let (ended, pool) = (model.jobs.len() - live.len(), model.live().filter(|job| in_pool(job)).count());
    same("ended jobs", &(ended as u64), &core.counters().ended)?;
    let archived = model.jobs.values().filter(|job| job.archived).count();
    same("archived jobs", &(archived as u64), &core.counters().archived)?;
    same("the pool's leases without deadline", &pool, &core.pool_running())?;
    let theirs = core.limits().into_iter().filter(|(_, of)| *of != (None, 0));
    same("limits", &limits(model), &theirs.map(|(name, of)| (name.clone(), of)).collect())?;
    let forgotten = core.totals().others().map(|ends| ("".into(), ends));
    same(
        "how jobs ended",
        &totals(model),
        &core.totals().queues().map(|(queue, ends)| (queue.clone(), ends)).chain(forgotten).collect(),
    )?;
    same_schedules(model, core)
}

fn totals(model: &Model) -> BTreeMap<Arc<str>, Ends> {
    model.totals.iter().map(|(queue, of)| (queue.clone(), as_ends(of))).collect()
}

fn same_schedules(model: &Model, core: &State) -> Result<(), String> {
    let mine = model.schedules.iter().map(|(name, schedule)| (name.clone(), as_kept(schedule))).collect();
    same("schedules", &mine, core.schedules().known())?;
    let wanting = |schedule: &&Schedule| match schedule.next {
        Next::Unplanned => !schedule.paused,
        Next::Slot(slot) => !schedule.paused && slot <= model.now.wall,
        Next::Never => false,
    };
    let mine = model.schedules.values().filter(wanting).count();
    same("schedules to advance", &mine, &core.schedules().to_advance(model.now.wall, ANY).len())
}

pub fn as_kept(schedule: &Schedule) -> schedule::Schedule {
    let gave_a_job = |taken: &&schedule::Taken| matches!(taken.outcome, schedule::Outcome::Submitted(_));
    let submitted = schedule.taken.iter().filter(gave_a_job).count() as u64;
    schedule::Schedule {
        timing: schedule.definition.timing.clone(),
        missed: schedule.definition.missed,
        overlap: schedule.definition.overlap,
        paused: schedule.paused,
        created_by: schedule.by.clone(),
        created_at: schedule.created_at,
        defined_at: schedule.defined_at,
        version: schedule.version,
        next: schedule.next,
        last: schedule.taken.last().cloned(),
        last_job: schedule.last_job,
        submitted,
        skipped: schedule.taken.len() as u64 - submitted,
    }
}

fn order(model: &Model, queue: &str) -> Vec<(Priority, JobId)> {
    let waiting = model.live().filter(|job| &*job.spec.queue == queue && job.status() == Status::Queued);
    let mut order: Vec<_> = waiting.map(|job| (job.priority(), job.id)).collect();
    order.sort();
    order
}

fn in_pool(job: &crate::reference::Job) -> bool {
    job.held().is_some_and(|(_, lease)| lease.deadline.is_none())
}

/// Of each group with a ceiling or in use: the ceiling, and how many leases count against it.
fn limits(model: &Model) -> BTreeMap<Arc<str>, (Option<u32>, u32)> {
    let mut limits: BTreeMap<_, _> = model.limits.iter().map(|(name, max)| (name.clone(), (Some(*max), 0))).collect();
    for job in model.live().filter(|job| job.held().is_some()) {
        for (name, _) in &job.spec.limits {
            limits.entry(name.clone()).or_insert((None, 0)).1 += 1;
        }
    }
    limits
}

/// The ring of an op's attempts, read as whoever shows it reads it.
pub fn same_histories(model: &Model, store: &Store) -> Result<(), String> {
    for (_, job) in store.jobs() {
        let mine = &model.jobs[&job.id];
        for (number, op) in (0..).zip(&job.ops) {
            let slots = RowKey::Attempt(job.id, number, 0)..=RowKey::Attempt(job.id, number, u32::MAX);
            let mut theirs: Vec<&Attempt> = store.rows.range(slots).filter_map(|(_, row)| attempt(row)).collect();
            theirs.extend(
                [RowKey::Ended(job.id), RowKey::Archived(job.id)]
                    .iter()
                    .filter_map(|key| attempt(store.rows.get(key)?)),
            );
            op.runs().oldest_first(&mut theirs);
            let mine: Vec<&Attempt> =
                mine.ops[number as usize].attempts_kept().iter().map(|attempt| &**attempt).collect();
            same(&format!("attempts at op {number} of job {}", job.id), &mine, &theirs)?;
        }
    }
    Ok(())
}

/// In a row of its own, or in that of the job.
fn attempt(row: &Row) -> Option<&Attempt> {
    match row {
        Row::Attempt(attempt) | Row::Done(_, attempt) => Some(attempt),
        _ => None,
    }
}

/// Memory is a function of the rows: what a restart reads is what there was.
pub fn same_memory(core: &State, store: &Store) -> Result<(), String> {
    let (memory, loaded) = (text(core), text(&State::load(store)));
    let differs = memory.lines().zip(loaded.lines()).position(|(memory, loaded)| memory != loaded);
    match differs.or((memory.len() != loaded.len()).then_some(0)) {
        None => Ok(()),
        Some(line) => {
            let around =
                |text: &str| text.lines().skip(line.saturating_sub(12)).take(16).collect::<Vec<_>>().join("\n");
            Err(format!("a restart changes memory from\n{}\nto\n{}", around(&memory), around(&loaded)))
        }
    }
}

fn text(state: &impl Debug) -> String {
    format!("{state:#?}")
}
