//! Puts jobs together at one index: the hot part from the state, the rest from rows pinned beside it, and only what was asked for.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    api::{Blocker, Field, JobParts, Source, StatusName},
    queue::{
        State,
        ids::JobId,
        job::{Json, LogLine, Reason},
        rows::{Ended, Row, RowKey, Rows},
    },
    raft::{PinnedRows, Reading, View},
};

/// What was seen of the state.
pub struct Looked<T> {
    pub index: u64,
    pub value: T,
}

/// What was seen of the state, and the rows of the same index.
pub struct Seen<T> {
    pub index: u64,
    pub rows: Arc<PinnedRows>,
    pub value: T,
}

/// Looks at the state alone. The store is not asked for anything, so what it is busy with is not waited for.
pub fn look<T>(view: &View, look: impl FnOnce(&State) -> T) -> Looked<T> {
    view.look(|reading| Looked { index: reading.index(), value: look(reading.state()) })
}

/// Looks at the state and keeps the rows for later, when apply goes on.
pub fn look_and_pin<T>(view: &View, look: impl FnOnce(&State) -> T) -> Seen<T> {
    view.look(|reading: &Reading<'_>| Seen {
        index: reading.index(),
        rows: Arc::clone(reading.rows()),
        value: look(reading.state()),
    })
}

/// Jobs, wherever they stand, with what these fields need of the state. The rest is read by [`complete`].
pub fn jobs(view: &View, ids: &[JobId], fields: &[Field]) -> Seen<Vec<Option<JobParts>>> {
    let mut seen = view.look(|reading| Seen {
        index: reading.index(),
        rows: Arc::clone(reading.rows()),
        value: ids.iter().map(|id| live_now(reading, *id, fields)).collect::<Vec<_>>(),
    });
    for (id, job) in ids.iter().zip(&mut seen.value) {
        if job.is_none() {
            *job = ended(&*seen.rows, *id);
        }
    }
    seen
}

fn live_now(reading: &Reading<'_>, id: JobId, fields: &[Field]) -> Option<JobParts> {
    let mut parts = live(reading.state(), id, fields)?;
    parts.spec = reading.recent_spec(id);
    Some(parts)
}

pub fn job(view: &View, id: JobId, fields: &[Field]) -> Seen<Option<JobParts>> {
    let mut seen = jobs(view, &[id], fields);
    let value = seen.value.pop().flatten();
    Seen { index: seen.index, rows: seen.rows, value }
}

/// A live job with what these fields need of the state.
pub fn live(state: &State, id: JobId, fields: &[Field]) -> Option<JobParts> {
    let mut parts = JobParts::new(state.job(id)?.clone());
    parts.needs = state.needs(&parts.job.shape);
    if fields.iter().any(|field| field.source() == Source::State) {
        let status = |id| state.job(id).map(|job| StatusName(job.status()));
        parts.blocked_by = state.blocked_by(id).into_iter().map(|id| Blocker { id, status: status(id) }).collect();
        parts.held_by = state.held_by(id).iter().map(ToString::to_string).collect();
        parts.ready_at = state.ready_at(id);
    }
    Some(parts)
}

pub fn ended(rows: &dyn Rows, id: JobId) -> Option<JobParts> {
    let row = rows.get(&RowKey::Ended(id)).or_else(|| rows.get(&RowKey::Archived(id)))?;
    row.into_ended().map(of_ended)
}

/// A job that has ended, with the attempt that stands in its row.
pub fn of_ended(ended: Ended) -> JobParts {
    let mut parts = JobParts::new(*ended.job);
    parts.attempts.extend(ended.attempt.map(|attempt| (0, vec![*attempt])));
    parts
}

/// Adds what these fields are made of beside job and state.
pub fn complete(rows: &dyn Rows, parts: &mut JobParts, fields: &[Field]) {
    let sources: BTreeSet<Source> = fields.iter().map(|field| field.source()).collect();
    let (id, was_granted) = (parts.job.id, parts.job.was_granted());
    for source in sources {
        match source {
            Source::Job | Source::State => {}
            Source::Spec => read_spec(rows, parts),
            Source::Ops => {
                read_spec(rows, parts);
                if was_granted {
                    read_ops(rows, parts);
                }
            }
            Source::Reasons => {
                read_spec(rows, parts);
                parts.reasons = reasons(rows, parts);
            }
            // There are none, and to find that out takes as long as to find them.
            Source::Progress | Source::Checkpoint if !was_granted => {}
            Source::Progress => parts.progress = json(rows, &RowKey::Progress(id)),
            Source::Checkpoint => parts.checkpoint = json(rows, &RowKey::Checkpoint(id)),
        }
    }
}

fn read_spec(rows: &dyn Rows, parts: &mut JobParts) {
    if parts.spec.is_none()
        && let Some((spec, _)) = rows.get(&RowKey::Spec(parts.job.id)).and_then(Row::into_spec)
    {
        parts.spec = Some(spec);
    }
}

fn read_ops(rows: &dyn Rows, parts: &mut JobParts) {
    let id = parts.job.id;
    rows.scan(&RowKey::Result(id, 0), &mut |key, row| match (key, row) {
        (RowKey::Result(of, op), Row::Result(result)) if of == id => {
            parts.results.insert(op, result);
            true
        }
        _ => false,
    });
    rows.scan(&RowKey::Attempt(id, 0, 0), &mut |key, row| match (key, row) {
        (RowKey::Attempt(of, op, _), Row::Attempt(attempt)) if of == id => {
            parts.attempts.entry(op).or_default().push(*attempt);
            true
        }
        _ => false,
    });
    for (op, attempts) in &mut parts.attempts {
        parts.job.ops[*op as usize].runs().oldest_first(attempts);
    }
}

fn reasons(rows: &dyn Rows, parts: &JobParts) -> Vec<Reason> {
    let id = parts.job.id;
    let mut reasons = parts.spec.as_ref().map(|spec| spec.reasons.clone()).unwrap_or_default();
    let later = parts.job.reason_slots().filter_map(|slot| rows.get(&RowKey::Reason(id, slot)));
    reasons.extend(later.filter_map(|row| if let Row::Reason(reason) = row { Some(reason) } else { None }));
    reasons
}

pub fn json(rows: &dyn Rows, key: &RowKey) -> Option<Json> {
    match rows.get(key) {
        Some(Row::Json(json)) => Some(json),
        _ => None,
    }
}

/// Log lines newer than `after`, with their serials.
pub fn log(rows: &dyn Rows, id: JobId, after: u64, max: usize) -> Vec<(u64, LogLine)> {
    let mut lines = Vec::new();
    rows.scan(&RowKey::Log(id, after.saturating_add(1)), &mut |key, row| match (key, row) {
        (RowKey::Log(of, serial), Row::Log(line)) if of == id && lines.len() < max => {
            lines.push((serial, line));
            true
        }
        _ => false,
    });
    lines
}
