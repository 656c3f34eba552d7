//! autoarchive: by age, in bounded pieces; by hand, or by the replicated policy, which also deletes.

use crate::queue::{
    applied::Answer,
    command::Autoarchive,
    history,
    ids::{JobId, WallMs},
    limits,
    ops::{archive, delete},
    rows::RowKey,
    span,
    step::Step,
};

pub fn autoarchive(step: &mut Step, wanted: &Autoarchive) -> Answer {
    if let Err(refusal) = limits::check_range("limit", wanted.limit, 1, limits::AUTOARCHIVE_PIECE) {
        return Answer::Refused(refusal);
    }
    let cutoff = wanted.age_ms.map_or(WallMs(u64::MAX), |age_ms| WallMs(step.wall().0.saturating_sub(age_ms)));
    let piece = archive_before(step, cutoff, wanted.after, wanted.limit as usize);
    let left = step.state.history.ended_before(&step.state.changes, step.rows, cutoff);
    let next = piece.last().copied().filter(|_| left > 0 && piece.len() == wanted.limit as usize);
    Answer::Archived { archived: piece.len() as u64, left, next }
}

fn archive_before(
    step: &mut Step,
    cutoff: WallMs,
    after: Option<(WallMs, JobId)>,
    limit: usize,
) -> Vec<(WallMs, JobId)> {
    let piece = ended_before(step, RowKey::EndedAt, after, cutoff, limit);
    for (_, id) in &piece {
        let ended = step.ended_whole(*id).expect("the index of ends names jobs that exist");
        archive::move_over(step, ended);
    }
    piece
}

/// The first in this index that ended before `cutoff`, behind `after`.
fn ended_before(
    step: &Step,
    index: fn(WallMs, u64) -> RowKey,
    after: Option<(WallMs, JobId)>,
    cutoff: WallMs,
    limit: usize,
) -> Vec<(WallMs, JobId)> {
    let mut piece = Vec::new();
    let from = after.map_or(index(WallMs(0), 0), |(at, id)| index(at, span::place(id).0));
    step.state.changes.scan(step.rows, &from, &mut |key, row| {
        let (end, span, bits) = history::named(key, row);
        if end < cutoff {
            let jobs = span::ids(span, bits).map(|id| (end, id));
            piece.extend(jobs.filter(|job| after.is_none_or(|after| *job > after)).take(limit - piece.len()));
        }
        end < cutoff && piece.len() < limit
    });
    piece
}

/// What the settings want archived or deleted by now, at most `piece` of each.
pub fn by_policy(step: &mut Step, piece: usize) {
    let due = step.state.history.next_deadline(&step.state.settings);
    if due.is_none_or(|due| due > step.wall()) {
        return;
    }
    let settings = &step.state.settings;
    let cutoff = |after_ms: Option<u64>| after_ms.and_then(|after_ms| step.wall().0.checked_sub(after_ms).map(WallMs));
    let (archive, delete) = (cutoff(settings.archive_after_ms), cutoff(settings.delete_after_ms));
    if let Some(cutoff) = archive {
        archive_before(step, cutoff, None, piece);
    }
    if let Some(cutoff) = delete {
        for (_, id) in ended_before(step, RowKey::ArchivedAt, None, cutoff, piece) {
            delete::remove(step, id);
        }
    }
}
