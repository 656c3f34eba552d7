//! Schedules: GET /v1/schedules, GET, PUT and DELETE /v1/schedules/{name}, POST .../pause, resume, run

use std::sync::Arc;

use serde_json::json;

use super::submit::keep_environment;
use crate::{
    api::{Nothing, RunAnswer, ScheduleRequest, ScheduleView, Spec},
    calendar::Calendar,
    http::{
        call::Call,
        failure::Failure,
        params::NamePath,
        read::{Seen, look, look_and_pin},
        reply::Reply,
    },
    queue::{
        applied::Answer,
        command::{Command, ScheduleChange},
        ids::WallMs,
        refusal::Refusal,
        rows::{Row, RowKey, Rows},
        schedule::{Next, Schedule},
    },
    raft::{Consistency, View},
};

/// Slots to come that one schedule's answer tells.
const NEXT_TOLD: usize = 5;

pub async fn schedules(call: Call) -> Result<Reply, Failure> {
    let view = call.view().await?;
    let seen = look(&view, |state| {
        let known = state.schedules().known().iter();
        known.map(|(name, schedule)| ScheduleView::new(Arc::clone(name), schedule)).collect::<Vec<_>>()
    });
    Ok(Reply::json(&json!({ "schedules": seen.value })).at(seen.index))
}

pub async fn schedule(NamePath(name): NamePath, call: Call) -> Result<Reply, Failure> {
    let view = call.view().await?;
    reply(&view, &name)
}

/// The schedule with its spec and its next slots.
fn reply(view: &View, name: &str) -> Result<Reply, Failure> {
    let Seen { index, rows, value } =
        look_and_pin(view, |state| (state.schedules().known().get(name).cloned(), state.position().clocks.wall));
    let (Some(schedule), now) = value else {
        return Err(Refusal::NoSchedule { name: name.into() }.into());
    };
    let spec = match rows.get(&RowKey::ScheduleSpec(name.into())) {
        Some(Row::Spec(spec)) => Some(Box::new(Spec::from(&*spec))),
        _ => None,
    };
    let next = Some(upcoming(&schedule, now));
    Ok(Reply::json(&ScheduleView { next, spec, ..ScheduleView::new(name.into(), &schedule) }).at(index))
}

/// `now` is the last entry's: that of a definition which has just been taken in.
fn upcoming(schedule: &Schedule, now: WallMs) -> Vec<u64> {
    let Ok(calendar) = Calendar::read(&schedule.timing, schedule.defined_at) else { return Vec::new() };
    let first = match schedule.next {
        _ if schedule.paused => None,
        Next::Slot(slot) => Some(slot),
        Next::Unplanned => calendar.after(now),
        Next::Never => None,
    };
    std::iter::successors(first, |slot| calendar.after(*slot)).take(NEXT_TOLD).map(|slot| slot.0).collect()
}

pub async fn put(NamePath(name): NamePath, call: Call) -> Result<Reply, Failure> {
    let request: ScheduleRequest = call.decode().await?;
    let if_absent = request.if_absent;
    let decoded = request.into_queue()?;
    Calendar::read(&decoded.definition.timing, WallMs(0))?;
    if let Some((digest, value)) = decoded.environment {
        keep_environment(&call, digest, value).await?;
    }
    let definition = Box::new(decoded.definition);
    change(&call, ScheduleChange::Put { name: name.as_str().into(), definition, if_absent }, &name).await
}

pub async fn pause(NamePath(name): NamePath, call: Call) -> Result<Reply, Failure> {
    set_paused(&name, call, true).await
}

pub async fn resume(NamePath(name): NamePath, call: Call) -> Result<Reply, Failure> {
    set_paused(&name, call, false).await
}

async fn set_paused(name: &str, call: Call, paused: bool) -> Result<Reply, Failure> {
    let Nothing {} = call.decode_or_empty().await?;
    change(&call, ScheduleChange::Pause { name: name.into(), paused }, name).await
}

async fn change(call: &Call, change: ScheduleChange, name: &str) -> Result<Reply, Failure> {
    let committed = call.propose(Command::Schedule(change)).await?;
    let view = call.front.view(Consistency::Local, committed.index, call.context.deadline).await?;
    reply(&view, name)
}

pub async fn remove(NamePath(name): NamePath, call: Call) -> Result<Reply, Failure> {
    let Nothing {} = call.decode_or_empty().await?;
    let committed = call.propose(Command::Schedule(ScheduleChange::Remove { name: name.as_str().into() })).await?;
    Ok(Reply::json(&json!({ "name": name, "removed": true })).at(committed.index))
}

pub async fn run(NamePath(name): NamePath, call: Call) -> Result<Reply, Failure> {
    let Nothing {} = call.decode_or_empty().await?;
    let committed = call.propose(Command::Schedule(ScheduleChange::Run { name: name.into() })).await?;
    match committed.answer {
        Answer::Submitted(results) => match results.into_iter().next() {
            Some(Ok(job)) => Ok(Reply::json(&RunAnswer { id: job.id, existed: job.existed }).at(committed.index)),
            Some(Err(refusal)) => Err(refusal.into()),
            None => Err(Failure::odd_answer()),
        },
        _ => Err(Failure::odd_answer()),
    }
}
