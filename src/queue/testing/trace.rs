//! Answers, effects and jobs as lines that a person proofreads.

use std::fmt::Write;

use crate::queue::{
    applied::{Answer, Applied, Claimed, Effect, JobBrief, LeaseState, ScheduleNews, Submitted},
    job::{Attempt, Hold, Job, Op},
    refusal::Refusal,
    rows::{Row, RowKey},
    state::State,
};

pub fn applied(applied: &Applied) -> String {
    let mut text = String::new();
    for one in &applied.answers {
        answer(&mut text, one);
    }
    for effect in applied.effects.iter().filter(|effect| !matches!(effect, Effect::Changed { .. })) {
        let _ = writeln!(text, "  {}", effect_line(effect));
    }
    text
}

fn answer(text: &mut String, answer: &Answer) {
    match answer {
        Answer::Done => text.push_str("done\n"),
        Answer::Refused(refusal) => line(text, Err(refusal)),
        Answer::Submitted(results) => each(text, results, submitted),
        Answer::Claimed(results) if results.is_empty() => text.push_str("nothing\n"),
        Answer::Claimed(results) => each(text, results, claimed),
        Answer::Leases { results, claimed: taken } => {
            each(text, results, lease);
            each(text, taken, claimed);
        }
        Answer::Jobs(results) => each(text, results, brief),
        Answer::Archived { archived, left, next } => {
            line(text, Ok(format!("archived {archived}, left {left}, next {:?}", next.map(|(at, id)| (at.0, id.0)))));
        }
        Answer::Drain(drain) => line(text, Ok(format!("{drain:?}"))),
        Answer::Piece { ids, results, next } => {
            each(text, results, brief);
            let ids: Vec<u64> = ids.iter().map(|id| id.0).collect();
            line(text, Ok(format!("piece {ids:?}, next {:?}", next.map(|id| id.0))));
        }
        Answer::Pool(pool) => line(text, Ok(format!("{pool:?}"))),
    }
}

fn each<T>(text: &mut String, results: &[Result<T, Refusal>], show: fn(&T) -> String) {
    for result in results {
        line(text, result.as_ref().map(show));
    }
}

fn line(text: &mut String, result: Result<String, &Refusal>) {
    let _ = match result {
        Ok(shown) => writeln!(text, "{shown}"),
        Err(refusal) => writeln!(text, "{}: {refusal}", refusal.code()),
    };
}

fn submitted(submitted: &Submitted) -> String {
    format!("job {}{}", submitted.id, if submitted.existed { " existed" } else { "" })
}

fn claimed(claimed: &Claimed) -> String {
    let Claimed { job, op, lease, lease_ms, attempts } = claimed;
    format!("job {job} op {op} lease {lease} for {lease_ms} ms, attempts {attempts}")
}

fn lease(state: &LeaseState) -> String {
    match state.cancel {
        Some(signal) => format!("ok, cancel {signal:?}").to_lowercase(),
        None => "ok".to_owned(),
    }
}

fn brief(brief: &JobBrief) -> String {
    let same = if brief.changed { "" } else { ", nothing changed" };
    format!("job {} {}{same}", brief.id, brief.status.name())
}

fn effect_line(effect: &Effect) -> String {
    match effect {
        Effect::Posted { job } => format!("posted {job}"),
        Effect::Ready { queue } => format!("ready {queue}"),
        Effect::Changed { job, status, .. } => format!("changed {job} {}", status.name()),
        Effect::Stop { job, lease, signal } => format!("stop {job} lease {lease} {signal:?}").to_lowercase(),
        Effect::LeaseEnded { job, lease } => format!("lease {lease} of {job} ended"),
        Effect::Removed { job } => format!("removed {job}"),
        Effect::Schedule { name, news: ScheduleNews::Taken(taken) } => {
            format!("schedule {name} slot {} {:?}", taken.slot, taken.outcome).to_lowercase()
        }
        Effect::Schedule { name, news } => format!("schedule {name} {news:?}").to_lowercase(),
        Effect::SettingsChanged => "settings changed".to_owned(),
    }
}

/// A job in one line, its ops in the next ones if there are several.
pub fn job(state: &State, job: &Job) -> String {
    let mut text = format!("job {} {} priority {}", job.id, job.status().name(), job.priority());
    match job.hold {
        Hold::Delayed(until) => drop(write!(text, " until {until}")),
        Hold::RunAt(at) => drop(write!(text, " until wall {at}")),
        Hold::None | Hold::Blocked | Hold::Buried => {}
    }
    let blocked_by = state.blocked_by(job.id);
    if !blocked_by.is_empty() {
        let _ =
            write!(text, " blocked by {}", blocked_by.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    }
    let seen = |stamp: crate::queue::ids::Stamp| stamp.time().map_or("-".to_owned(), |at| at.to_string());
    let _ = write!(text, " started {} ended {}", seen(job.started_at), seen(job.ended_at));
    let _ = write!(text, " version {}", job.version);
    for (at, one) in job.ops.iter().enumerate() {
        let _ = write!(text, "\n  op {at} {}", op(job, at, one));
    }
    text + "\n"
}

fn op(job: &Job, at: usize, op: &Op) -> String {
    let runs = op.runs();
    let mut text = format!("{} {} priority {}", op.kind, op.status.status().name(), op.priority);
    if let Some(lease) = op.status.lease() {
        let _ = write!(text, " lease {} of {}", lease.id, lease.holder.worker);
        let _ = match lease.deadline {
            Some(at) => write!(text, " until {at}"),
            None => write!(text, " for this office"),
        };
    }
    let left = job.retries_left(at);
    text + &format!(" attempts {} retries_left {left} lost {}", runs.attempts, runs.lost)
}

fn attempt(op: u32, attempt: &Attempt) -> String {
    let reason = attempt.fail_reason.as_deref().unwrap_or("ok");
    let error = attempt.error.as_deref().map_or(String::new(), |error| format!(" ({error})"));
    format!("attempt {} of op {op} by {:?}: {reason}{error}", attempt.number, attempt.worker)
}

/// What a row says, for the kinds that scripts look at.
pub fn row(key: &RowKey, row: &Row) -> Option<String> {
    Some(match (key, row) {
        (RowKey::Attempt(_, op, _), Row::Attempt(of)) => attempt(*op, of),
        (RowKey::Ended(_) | RowKey::Archived(_), Row::Done(_, of)) => attempt(0, of),
        (RowKey::Result(_, op), Row::Result(result)) => {
            format!("result of op {op}: {:?} {:?}", result.result.as_ref().map(|json| &json.0), result.jobs)
        }
        (RowKey::Log(_, serial), Row::Log(line)) => {
            format!("log {serial} op {}: {}: {}", line.op, line.kind, line.text)
        }
        (RowKey::Reason(..), Row::Reason(reason)) => format!("reason of {}: {}", reason.source, reason.text),
        (RowKey::Checkpoint(_), Row::Json(json)) => format!("checkpoint {}", json.0),
        (RowKey::Progress(_), Row::Json(json)) => format!("progress {}", json.0),
        (RowKey::Waits(_), Row::Waits(deps)) => {
            let one = |dep: &crate::queue::job::Dep| format!("op {} on {} {:?}", dep.op, dep.on, dep.outcome);
            format!("waits {}", deps.iter().map(one).collect::<Vec<_>>().join(", "))
        }
        (RowKey::Spec(_), Row::Born(spec, _)) => format!(
            "spec groups {:?} comment {:?} priority {:?} reasons {} parent {:?} by {:?}",
            spec.groups,
            spec.comment,
            spec.priority.map(|priority| priority.0),
            spec.reasons.len(),
            spec.parent.map(|id| id.0),
            spec.submitted_by
        ),
        _ => return None,
    })
}
