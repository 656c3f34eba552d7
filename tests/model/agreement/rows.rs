//! What stands in rows beside the jobs themselves, against what the model remembers having been told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use raftq::queue::{
    ids::JobId,
    job::{Generated, Json, OpResult, Reason, Spec},
    rows::{Row, RowKey},
    settings::{Drain, Pool, Settings},
};

use super::compare::same;
use crate::{
    reference::{Job, Model, Worker},
    store::Store,
};

type Label = (Arc<str>, JobId);

pub fn same_rows(model: &Model, store: &Store) -> Result<(), String> {
    let specs = model.jobs.values().map(|job| (job.id, job.spec.clone())).collect();
    same_maps("specs", &specs, &all(store, spec))?;
    let groups = model.jobs.values().flat_map(|job| job.spec.groups.iter().map(|group| (group.clone(), job.id)));
    same("groups", &groups.collect(), &labels(store, group))?;
    same("unique keys of ended jobs", &unique(model), &labels(store, ended_unique))?;
    same_maps("results", &results(model), &all(store, result))?;
    same_maps("reasons", &reasons(model), &reasons_of(store))?;
    let live = || model.live().map(|job| job.id).collect::<BTreeSet<_>>();
    let of_live = |rows: BTreeMap<JobId, Json>| {
        let live = live();
        rows.into_iter().filter(|(id, _)| live.contains(id)).collect::<BTreeMap<_, _>>()
    };
    let said = |what: fn(&Job) -> &Option<Json>| {
        model.live().filter_map(|job| Some((job.id, what(job).clone()?))).collect::<BTreeMap<_, _>>()
    };
    same_maps("progress", &said(|job| &job.progress), &of_live(all(store, progress)))?;
    same_maps("checkpoints", &said(|job| &job.checkpoint), &of_live(all(store, checkpoint)))?;
    same_maps("uses of environments", &environments(model), &all(store, uses))?;
    same_maps("workers", &model.workers, &all(store, worker))?;
    let settings = store.rows.get(&RowKey::Settings).cloned().unwrap_or(Row::Settings(Settings::default()));
    same("settings", &Row::Settings(model.settings.clone()), &settings)?;
    let pool = store.rows.get(&RowKey::Pool).cloned().unwrap_or(Row::Pool(Pool::default()));
    same("pool", &Row::Pool(model.pool.clone()), &pool)?;
    let drain = store.rows.get(&RowKey::Drain).cloned().unwrap_or(Row::Drain(Drain::default()));
    same("drain", &Row::Drain(model.drain.clone()), &drain)
}

/// The first difference only: all of both would be pages.
fn same_maps<K, V>(what: &str, mine: &BTreeMap<K, V>, theirs: &BTreeMap<K, V>) -> Result<(), String>
where
    K: Ord + std::fmt::Debug,
    V: PartialEq + std::fmt::Debug,
{
    let keys: BTreeSet<&K> = mine.keys().chain(theirs.keys()).collect();
    keys.into_iter().try_for_each(|key| same(&format!("{what} of {key:?}"), &mine.get(key), &theirs.get(key)))
}

/// What one kind of rows says.
fn all<K: Ord, V>(store: &Store, pick: fn(&RowKey, &Row) -> Option<(K, V)>) -> BTreeMap<K, V> {
    store.rows.iter().filter_map(|(key, row)| pick(key, row)).collect()
}

fn spec(key: &RowKey, row: &Row) -> Option<(JobId, Spec)> {
    let (RowKey::Spec(id), Row::Spec(spec)) = (key, row) else { return None };
    Some((*id, Spec { reasons: said_by_users(&spec.reasons), ..Spec::clone(spec) }))
}

/// What one kind of index rows says.
fn labels(store: &Store, pick: fn(&RowKey) -> Option<Label>) -> BTreeSet<Label> {
    store.rows.keys().filter_map(pick).collect()
}

fn group(key: &RowKey) -> Option<Label> {
    let RowKey::Group(group, id) = key else { return None };
    Some((group.clone(), *id))
}

fn unique(model: &Model) -> BTreeSet<Label> {
    let ended = model.jobs.values().filter(|job| job.status().is_final());
    ended.filter_map(|job| Some((job.spec.unique.clone()?, job.id))).collect()
}

fn ended_unique(key: &RowKey) -> Option<Label> {
    let RowKey::Unique(unique, id) = key else { return None };
    Some((unique.clone(), *id))
}

fn results(model: &Model) -> BTreeMap<(JobId, u32), OpResult> {
    let of_job = |job: &Job| {
        let ops = job.ops.iter().enumerate().map(|(at, op)| ((job.id, at as u32), op.result.clone()));
        ops.filter(|(_, result)| *result != OpResult::default()).collect::<Vec<_>>()
    };
    model.jobs.values().flat_map(of_job).collect()
}

fn result(key: &RowKey, row: &Row) -> Option<((JobId, u32), OpResult)> {
    let (RowKey::Result(id, op), Row::Result(result)) = (key, row) else { return None };
    let plain = |job: &Generated| job.clone().map_err(|(code, _)| (code, "".into()));
    Some(((*id, *op), OpResult { result: result.result.clone(), jobs: result.jobs.iter().map(plain).collect() }))
}

fn reasons(model: &Model) -> BTreeMap<JobId, Vec<Reason>> {
    let all = model.jobs.values().map(|job| (job.id, job.reasons.clone()));
    all.filter(|(_, reasons)| !reasons.is_empty()).collect()
}

fn reasons_of(store: &Store) -> BTreeMap<JobId, Vec<Reason>> {
    let mut all: BTreeMap<JobId, Vec<Reason>> = BTreeMap::new();
    for (key, row) in &store.rows {
        if let (RowKey::Reason(id, _), Row::Reason(reason)) = (key, row) {
            all.entry(*id).or_default().extend(said_by_users(std::slice::from_ref(reason)));
        }
    }
    all.retain(|_, reasons| !reasons.is_empty());
    all
}

/// Which slot a job is for, and why a dependency failed, is told in words of the core's own.
fn said_by_users(reasons: &[Reason]) -> Vec<Reason> {
    let by_user = |reason: &&Reason| !matches!(&*reason.source, "dependency" | "schedule");
    reasons.iter().filter(by_user).cloned().collect()
}

fn progress(key: &RowKey, row: &Row) -> Option<(JobId, Json)> {
    let (RowKey::Progress(id), Row::Json(json)) = (key, row) else { return None };
    Some((*id, json.clone()))
}

fn checkpoint(key: &RowKey, row: &Row) -> Option<(JobId, Json)> {
    let (RowKey::Checkpoint(id), Row::Json(json)) = (key, row) else { return None };
    Some((*id, json.clone()))
}

/// Jobs, live or ended, and schedules.
fn environments(model: &Model) -> BTreeMap<u128, u64> {
    let mut uses: BTreeMap<u128, u64> = model.environments.iter().map(|digest| (*digest, 0)).collect();
    let of_schedules = model.schedules.values().map(|schedule| schedule.definition.spec.environment);
    for digest in model.jobs.values().map(|job| job.spec.environment).chain(of_schedules).flatten() {
        *uses.entry(digest).or_default() += 1;
    }
    uses
}

fn uses(key: &RowKey, row: &Row) -> Option<(u128, u64)> {
    let (RowKey::EnvironmentUses(digest), Row::Count(uses)) = (key, row) else { return None };
    Some((*digest, *uses))
}

fn worker(key: &RowKey, row: &Row) -> Option<(Arc<str>, Worker)> {
    let (RowKey::Worker(id), Row::Worker(worker)) = (key, row) else { return None };
    let expires = (!worker.is_pool()).then_some(worker.expires);
    Some((id.clone(), Worker { expires, has: worker.resources }))
}
