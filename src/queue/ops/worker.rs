//! worker: the registry of who runs jobs; an entry expires unless it is put again.
//!
//! Beside them stand the machines of members' pools, which are put when the member begins to lead and do not expire: a
//! pool is known by its node, and a heartbeat would be an entry of the log for nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::queue::{
    applied::{Answer, Effect},
    command::{Free, WorkerChange},
    ids::ClusterMs,
    job::Json,
    limits,
    ops::impossible,
    refusal::Refusal,
    rows::{Row, RowKey, Rows, Worker},
    step::Step,
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workers {
    known: BTreeMap<Arc<str>, Worker>,
    by_expiry: BTreeSet<(ClusterMs, Arc<str>)>,
    /// What is offered, and by how many: most workers have the same to give.
    offers: BTreeMap<Offer, u32>,
}

/// What a worker has, as far as it says, and whether it is a pool, which takes jobs of its queues only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offer {
    pub is_pool: bool,
    pub resources: Option<Free>,
}

impl Offer {
    fn of(worker: &Worker) -> Self {
        Self { is_pool: worker.is_pool(), resources: worker.resources }
    }
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
        if !worker.is_pool() {
            self.by_expiry.insert((worker.expires, id.clone()));
        }
        *self.offers.entry(Offer::of(&worker)).or_default() += 1;
        self.known.insert(id, worker);
    }

    fn remove(&mut self, id: &Arc<str>) -> bool {
        let Some(worker) = self.known.remove(id) else { return false };
        self.by_expiry.remove(&(worker.expires, id.clone()));
        let offer = Offer::of(&worker);
        let offering = self.offers.get_mut(&offer).expect("every worker that is known is counted");
        *offering -= 1;
        if *offering == 0 {
            self.offers.remove(&offer);
        }
        true
    }

    pub fn known(&self) -> &BTreeMap<Arc<str>, Worker> {
        &self.known
    }

    /// What workers have, each once.
    pub fn offers(&self) -> impl Iterator<Item = &Offer> {
        self.offers.keys()
    }

    pub fn next_deadline(&self) -> Option<ClusterMs> {
        self.by_expiry.first().map(|(at, _)| *at)
    }
}

pub fn worker(step: &mut Step, change: &WorkerChange) -> Answer {
    let put = match change {
        WorkerChange::Put { id, info, ttl_ms, resources } => {
            let expires = step.now().after(*ttl_ms);
            limits::check_range("ttl_ms", *ttl_ms, 1, limits::WORKER_TTL_MS_MAX)
                .and_then(|()| check_is_no_pool(step, id))
                .and_then(|()| put(step, id, info, expires, *resources))
        }
        WorkerChange::Pool { id, info, resources } => put(step, id, info, ClusterMs::NEVER, Some(*resources)),
        WorkerChange::Remove { id } if remove(step, id) => Ok(()),
        WorkerChange::Remove { id } => Err(Refusal::NoWorker { name: (&**id).into() }),
    };
    put.map_or_else(Answer::Refused, |()| Answer::Done)
}

fn put(
    step: &mut Step,
    id: &Arc<str>,
    info: &Json,
    expires: ClusterMs,
    resources: Option<Free>,
) -> Result<(), Refusal> {
    check(step, id, &info.0)?;
    let worker = Worker { info: info.clone(), expires, seen_at: step.wall(), resources };
    let before = step.state.workers.known.get(id).map(Offer::of);
    // A new one may be the first that says anything.
    if before != Some(Offer::of(&worker)) {
        impossible::look_again(step);
    }
    step.state.changes.put(RowKey::Worker(id.clone()), Row::Worker(Box::new(worker.clone())));
    step.state.workers.put(id.clone(), worker);
    Ok(())
}

/// A pool says what its machine has once in an office: whoever took its name would take that from the queue for as long.
fn check_is_no_pool(step: &Step, id: &Arc<str>) -> Result<(), Refusal> {
    match step.state.workers.known.get(id) {
        Some(worker) if worker.is_pool() => Err(Refusal::Conflict {
            message: format!("{id} is the pool of a member; give the worker another name").into(),
        }),
        _ => Ok(()),
    }
}

fn check(step: &Step, id: &Arc<str>, info: &str) -> Result<(), Refusal> {
    limits::check_name("id", id)?;
    limits::check_text("info", Some(info), limits::META_BYTES_MAX)?;
    let known = &step.state.workers.known;
    if known.len() >= limits::WORKERS_MAX && !known.contains_key(id) {
        let message = format!("there are {} workers already; remove some", limits::WORKERS_MAX);
        return Err(Refusal::Busy { message: message.into() });
    }
    Ok(())
}

/// True if it was there.
fn remove(step: &mut Step, id: &Arc<str>) -> bool {
    let was_known = step.state.workers.remove(id);
    if was_known {
        step.state.changes.delete(RowKey::Worker(id.clone()));
        step.emit(Effect::SettingsChanged);
        impossible::look_again(step);
    }
    was_known
}

/// Forgets workers that have not been heard of in time, at most `piece`.
pub fn expire(step: &mut Step, piece: usize) {
    for _ in 0..piece {
        let first = step.state.workers.by_expiry.first().filter(|(at, _)| *at <= step.now());
        let Some((_, id)) = first.cloned() else { return };
        remove(step, &id);
    }
}
