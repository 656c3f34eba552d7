//! Which job a pick means, in the situation the model is in.

use raftq::queue::ids::JobId;

use crate::{generate::picks::Pick, reference::Model};

pub fn ids(model: &Model, picks: &[Pick]) -> Vec<JobId> {
    picks.iter().map(|pick| id(model, *pick)).collect()
}

pub fn id(model: &Model, pick: Pick) -> JobId {
    let unknown = JobId(model.last_job.0 + 5);
    let chosen = |ids: Vec<JobId>, pick: usize| nth(&ids, pick).copied().unwrap_or(unknown);
    match pick {
        Pick::Live(pick) => chosen(model.live().map(|job| job.id).collect(), pick),
        Pick::Held(pick) => {
            let held: Vec<JobId> = model.live().filter(|job| job.held().is_some()).map(|job| job.id).collect();
            nth(&held, pick).copied().unwrap_or_else(|| id(model, Pick::Live(pick)))
        }
        Pick::Any(pick) => chosen(model.jobs.keys().copied().collect(), pick),
        Pick::Newest => model.last_job,
        Pick::Unknown => unknown,
    }
}

fn nth<T>(all: &[T], pick: usize) -> Option<&T> {
    if all.is_empty() { None } else { all.get(pick % all.len()) }
}

/// One of the last few.
pub fn recent<T>(all: &[T], pick: usize) -> Option<&T> {
    const FEW: usize = 12;
    nth(&all[all.len().saturating_sub(FEW)..], pick)
}
