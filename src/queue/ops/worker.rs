//! worker: the registry of who runs jobs; an entry expires unless it is put again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::queue::{
    applied::{Answer, Effect},
    command::WorkerChange,
    ids::ClusterMs,
    limits,
    refusal::Refusal,
    rows::{Row, RowKey, Rows, Worker},
    step::Step,
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workers {
    known: BTreeMap<Arc<str>, Worker>,
    by_expiry: BTreeSet<(ClusterMs, Arc<str>)>,
}

impl Workers {
    pub fn load(rows: &dyn Rows) -> Self {
        let mut workers = Workers::default();
        rows.scan(&RowKey::Worker("".into()), &mut |key, row| {
            let (RowKey::Worker(id), Row::Worker(worker)) = (key, row) else { panic!("a worker's row holds a worker") };
            workers.put(id, *worker);
            true
        });
        workers
    }

    fn put(&mut self, id: Arc<str>, worker: Worker) {
        self.remove(&id);
        self.by_expiry.insert((worker.expires, id.clone()));
        self.known.insert(id, worker);
    }

    fn remove(&mut self, id: &Arc<str>) -> bool {
        let Some(worker) = self.known.remove(id) else { return false };
        self.by_expiry.remove(&(worker.expires, id.clone()))
    }

    pub fn known(&self) -> &BTreeMap<Arc<str>, Worker> {
        &self.known
    }

    pub fn next_deadline(&self) -> Option<ClusterMs> {
        self.by_expiry.first().map(|(at, _)| *at)
    }
}

pub fn worker(step: &mut Step, change: &WorkerChange) -> Answer {
    match change {
        WorkerChange::Put { id, info, ttl_ms, resources } => {
            if let Err(refusal) = check(step, id, &info.0, *ttl_ms) {
                return Answer::Refused(refusal);
            }
            let (expires, seen_at) = (step.now().after(*ttl_ms), step.wall());
            let worker = Worker { info: info.clone(), expires, seen_at, resources: *resources };
            step.state.changes.put(RowKey::Worker(id.clone()), Row::Worker(Box::new(worker.clone())));
            step.state.workers.put(id.clone(), worker);
        }
        WorkerChange::Remove { id } => remove(step, id),
    }
    Answer::Done
}

fn check(step: &Step, id: &Arc<str>, info: &str, ttl_ms: u64) -> Result<(), Refusal> {
    limits::check_name("id", id)?;
    limits::check_text("info", Some(info), limits::META_BYTES_MAX)?;
    limits::check_range("ttl_ms", ttl_ms, 1, limits::WORKER_TTL_MS_MAX)?;
    let known = &step.state.workers.known;
    if known.len() >= limits::WORKERS_MAX && !known.contains_key(id) {
        let message = format!("there are {} workers already; remove some", limits::WORKERS_MAX);
        return Err(Refusal::Busy { message: message.into() });
    }
    Ok(())
}

fn remove(step: &mut Step, id: &Arc<str>) {
    if step.state.workers.remove(id) {
        step.state.changes.delete(RowKey::Worker(id.clone()));
        step.emit(Effect::SettingsChanged);
    }
}

/// Forgets workers that have not been heard of in time, at most `piece`.
pub fn expire(step: &mut Step, piece: usize) {
    for _ in 0..piece {
        let first = step.state.workers.by_expiry.first().filter(|(at, _)| *at <= step.now());
        let Some((_, id)) = first.cloned() else { return };
        remove(step, &id);
    }
}
