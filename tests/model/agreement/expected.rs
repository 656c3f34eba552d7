//! The rows that there must be, as the model's jobs, names and settings have it.

use std::{collections::BTreeMap, sync::Arc};

use raftq::queue::{
    applied::Position,
    ids::WallMs,
    job::{Dep, OpResult, Status},
    rows::{Counters, Row, RowKey, Worker},
    totals::Ends,
};

use super::{rows::Mine, views::as_kept};
use crate::reference::{Job, Model};

const RING_OF_ATTEMPTS: usize = 10;
const RING_OF_REASONS: usize = 100;
const RING_OF_ANSWERS: u64 = 1024;
const SPAN: u64 = 64;
const MINUTE_MS: u64 = 60_000;

type Expected<'a> = BTreeMap<RowKey, Mine<'a>>;

pub fn expected(model: &Model) -> Expected<'_> {
    let mut rows = Expected::new();
    model.jobs.values().for_each(|job| expect_job(&mut rows, job));
    expect_ends(&mut rows, model);
    expect_names(&mut rows, model);
    expect_settings(&mut rows, model);
    expect_schedules(&mut rows, model);
    rows.insert(RowKey::Counters, Mine::Exactly(Row::Counters(Box::new(counters(model)))));
    rows.insert(RowKey::LookAgain, Mine::Perhaps);
    for (id, status) in &model.ended {
        let is_needed = model.waits_for(*id, &[]).is_some();
        let mine = if is_needed { Mine::Exactly(Row::Status(*status)) } else { Mine::Perhaps };
        rows.insert(RowKey::Waking(*id), mine);
    }
    for (queue, ends) in &model.totals {
        rows.insert(RowKey::QueueEnds(queue.clone()), Mine::Exactly(Row::Ends(as_ends(ends))));
    }
    rows
}

fn expect_job<'a>(rows: &mut Expected<'a>, job: &'a Job) {
    let (id, is_final) = (job.id, job.status().is_final());
    let place = match (is_final, job.archived) {
        (false, _) => RowKey::Live(id),
        (true, false) => RowKey::Ended(id),
        (true, true) => RowKey::Archived(id),
    };
    if is_final {
        rows.insert(place, Mine::There);
    } else {
        // Its own row, a bit, or a grant: that it stands in one of the three is seen where jobs are compared.
        rows.insert(place, Mine::Perhaps);
        rows.insert(RowKey::Fresh(id.0 / SPAN), Mine::Perhaps);
        rows.insert(RowKey::Granted(id.0 / SPAN), Mine::Perhaps);
    }
    rows.insert(RowKey::Spec(id), Mine::Spec(&job.spec));
    rows.extend(job.spec.groups.iter().map(|group| (RowKey::Group(group.clone(), id), Mine::Exactly(Row::Mark))));
    rows.extend(job.log_kept().map(|(serial, line)| (RowKey::Log(id, serial), Mine::Log(line))));
    for (at, reason) in newest(&job.reasons, RING_OF_REASONS) {
        rows.insert(RowKey::Reason(id, (at % RING_OF_REASONS) as u32), Mine::Reason(reason));
    }
    for (number, op) in (0..).zip(&job.ops) {
        if *op.result != OpResult::default() {
            rows.insert(RowKey::Result(id, number), Mine::Result(&op.result));
        }
        // The only one may stand with the job: that it is somewhere is seen where histories are compared.
        let may_be_elsewhere = is_final && job.ops.len() == 1 && op.history.len() == 1;
        for (at, attempt) in newest(&op.history, RING_OF_ATTEMPTS) {
            let mine = if may_be_elsewhere { Mine::Perhaps } else { Mine::Attempt(attempt) };
            rows.insert(RowKey::Attempt(id, number, (at % RING_OF_ATTEMPTS) as u32), mine);
        }
    }
    expect_for_next_attempt(rows, job, is_final);
    expect_dependencies(rows, job);
}

/// What is left of it when the job has ended is for a kick.
fn expect_for_next_attempt(rows: &mut Expected<'_>, job: &Job, is_final: bool) {
    let said = [(RowKey::Progress(job.id), &job.progress), (RowKey::Checkpoint(job.id), &job.checkpoint)];
    for (key, said) in said {
        match said {
            _ if is_final => rows.insert(key, Mine::Perhaps),
            Some(json) => rows.insert(key, Mine::Exactly(Row::Json(json.clone()))),
            None => None,
        };
    }
}

fn expect_dependencies(rows: &mut Expected<'_>, job: &Job) {
    let of_op = |(op, latches): (u32, &Vec<_>)| {
        let dep =
            |latch: &crate::reference::Latch| Dep { op, on: latch.on, accept: latch.accept, outcome: latch.outcome };
        latches.iter().map(dep).collect::<Vec<_>>()
    };
    let deps: Box<[Dep]> = (0..).zip(&job.depends).flat_map(of_op).collect();
    if !deps.is_empty() {
        rows.insert(RowKey::Waits(job.id), Mine::Exactly(Row::Waits(deps)));
    }
}

/// With the place that each had when it came.
fn newest<T>(all: &[T], few: usize) -> impl Iterator<Item = (usize, &T)> {
    all.iter().enumerate().skip(all.len().saturating_sub(few))
}

/// Jobs that have ended, by their end and by their key.
fn expect_ends(rows: &mut Expected<'_>, model: &Model) {
    let (mut minutes, mut ended): (BTreeMap<u64, u64>, BTreeMap<RowKey, u64>) = Default::default();
    for job in model.jobs.values() {
        let Some(end) = job.ended_at else { continue };
        let (span, bit) = (job.id.0 / SPAN, 1 << (job.id.0 % SPAN));
        let by_end = if job.archived { RowKey::ArchivedAt(end, span) } else { RowKey::EndedAt(end, span) };
        *ended.entry(by_end).or_default() |= bit;
        if let Some(unique) = &job.spec.unique {
            rows.insert(RowKey::Unique(unique.clone(), job.id), Mine::Exactly(Row::Mark));
        }
        if !job.archived {
            *minutes.entry(minute(end)).or_default() += 1;
        }
    }
    let count = |(minute, jobs)| (RowKey::EndedMinute(minute), Mine::Exactly(Row::Count(jobs)));
    rows.extend(minutes.into_iter().map(count));
    rows.extend(ended.into_iter().map(|(key, bits)| (key, Mine::Exactly(Row::Count(bits)))));
}

fn minute(at: WallMs) -> u64 {
    at.0 / MINUTE_MS
}

fn expect_names<'a>(rows: &mut Expected<'a>, model: &'a Model) {
    for ((principal, name), known) in &model.keys {
        rows.insert(RowKey::KeyName(principal.clone(), name.clone()), Mine::Name(known));
        for (number, (digest, answer)) in &known.answers {
            let slot = RowKey::KeySlot(principal.clone(), name.clone(), (number % RING_OF_ANSWERS) as u32);
            rows.insert(slot, Mine::Answer(*number, *digest, answer));
        }
    }
}

fn expect_settings(rows: &mut Expected<'_>, model: &Model) {
    rows.insert(RowKey::Settings, Mine::Unless(Row::Settings(model.settings.clone())));
    rows.insert(RowKey::Pool, Mine::Unless(Row::Pool(model.pool.clone())));
    rows.insert(RowKey::Drain, Mine::Unless(Row::Drain(Box::new(model.drain.clone()))));
    rows.extend(model.paused.iter().map(|queue| (RowKey::Paused(queue.clone()), Mine::Exactly(Row::Mark))));
    rows.extend(model.limits.iter().map(|(name, max)| (RowKey::Limit(name.clone()), Mine::Exactly(Row::Limit(*max)))));
    for (id, known) in &model.workers {
        let expires = known.expires.unwrap_or(raftq::queue::ids::ClusterMs::NEVER);
        let worker = Worker { info: known.info.clone(), expires, seen_at: known.seen_at, resources: known.has };
        rows.insert(RowKey::Worker(id.clone()), Mine::Exactly(Row::Worker(Box::new(worker))));
    }
    for group in model.resource_groups() {
        rows.insert(RowKey::Learned(group.clone()), Mine::There);
    }
}

/// Jobs, live or ended, and schedules name environments.
fn expect_schedules(rows: &mut Expected<'_>, model: &Model) {
    let mut uses: BTreeMap<u128, u64> = model.environments.keys().map(|digest| (*digest, 0)).collect();
    for (name, schedule) in &model.schedules {
        let kept = Row::Schedule(Box::new(as_kept(schedule)));
        rows.insert(RowKey::Schedule(name.clone()), Mine::Exactly(kept));
        let spec = Row::Spec(Arc::clone(&schedule.definition.spec));
        rows.insert(RowKey::ScheduleSpec(name.clone()), Mine::Exactly(spec));
    }
    let of_schedules = model.schedules.values().map(|schedule| schedule.definition.spec.environment);
    for digest in model.jobs.values().map(|job| job.spec.environment).chain(of_schedules).flatten() {
        *uses.entry(digest).or_default() += 1;
    }
    for (digest, value) in &model.environments {
        rows.insert(RowKey::Environment(*digest), Mine::Exactly(Row::Json(value.clone())));
        rows.insert(RowKey::EnvironmentUses(*digest), Mine::Exactly(Row::Count(uses[digest])));
    }
}

fn counters(model: &Model) -> Counters {
    let mut ends = Ends::default();
    for of in model.totals.values().map(as_ends) {
        ends.success += of.success;
        ends.error += of.error;
        ends.canceled += of.canceled;
    }
    Counters {
        last_job: model.last_job,
        last_lease: model.last_lease,
        position: Position { index: model.index, clocks: model.now, office: model.office },
        ends,
        archived: model.jobs.values().filter(|job| job.archived).count() as u64,
        ended: model.jobs.values().filter(|job| job.status().is_final()).count() as u64,
    }
}

pub fn as_ends(of: &BTreeMap<Status, u64>) -> Ends {
    let count = |status| of.get(&status).copied().unwrap_or_default();
    Ends { success: count(Status::Success), error: count(Status::Error), canceled: count(Status::Canceled) }
}
