//! Where two answers, or two jobs, are the same as far as the contract says.

use std::borrow::Cow;
use std::collections::BTreeMap;

use raftq::queue::{
    applied::{Answer, LeaseState},
    ids::JobId,
    job::{self, Hold},
    refusal::Refusal,
};

use crate::{
    reference::{Job, Lease, Model, Op, OpStatus},
    store::{Place, Store},
};

/// An answer without the words that are free: messages, and the lease length where no lease is left.
pub fn plain(answer: &Answer) -> Answer {
    match answer.clone() {
        Answer::Refused(refusal) => Answer::Refused(plain_refusal(refusal)),
        Answer::Submitted(all) => Answer::Submitted(all.into_iter().map(|each| each.map_err(plain_refusal)).collect()),
        Answer::Claimed(all) => Answer::Claimed(all.into_iter().map(|each| each.map_err(plain_refusal)).collect()),
        Answer::Leases { results, claimed } => Answer::Leases {
            results: results
                .into_iter()
                .map(|each| each.map(|state| LeaseState { lease_ms: 0, ..state }).map_err(plain_refusal))
                .collect(),
            claimed: claimed.into_iter().map(|each| each.map_err(plain_refusal)).collect(),
        },
        Answer::Jobs(all) => Answer::Jobs(all.into_iter().map(|each| each.map_err(plain_refusal)).collect()),
        Answer::Piece { ids, results, next } => {
            let results = results.into_iter().map(|each| each.map_err(plain_refusal)).collect();
            Answer::Piece { ids, results, next }
        }
        other => other,
    }
}

fn plain_refusal(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Invalid { field, .. } => Refusal::invalid(field, ""),
        Refusal::Conflict { .. } => Refusal::Conflict { message: "".into() },
        Refusal::TooLarge { .. } => Refusal::TooLarge { message: "".into() },
        Refusal::Busy { .. } => Refusal::Busy { message: "".into() },
        Refusal::NotClaimable { status, .. } => Refusal::NotClaimable { status, why: "".into() },
        other => other,
    }
}

/// Every job of both, field by field; the first difference in words.
pub fn same_jobs(model: &Model, store: &Store) -> Result<(), String> {
    let mut theirs: BTreeMap<JobId, (Place, Cow<'_, job::Job>)> = BTreeMap::new();
    for (place, job) in store.jobs() {
        let id = job.id;
        if let Some((other, _)) = theirs.insert(id, (place, job)) {
            return Err(format!("job {id} stands in two places: {other:?} and {place:?}"));
        }
    }
    for mine in model.jobs.values() {
        let (place, theirs) =
            theirs.remove(&mine.id).ok_or_else(|| format!("job {} is gone from the core", mine.id))?;
        same_job(mine, place, &theirs).map_err(|what| format!("job {}: {what}", mine.id))?;
    }
    match theirs.keys().next() {
        Some(id) => Err(format!("job {id} is in the core and should not be")),
        None => Ok(()),
    }
}

fn same_job(mine: &Job, place: Place, theirs: &job::Job) -> Result<(), String> {
    same("status", &mine.status(), &theirs.status())?;
    same("place", &place_of(mine), &place)?;
    same("archived", &mine.archived, &theirs.archived)?;
    same("number of ops", &mine.ops.len(), &theirs.ops.len())?;
    for (number, (mine, theirs)) in mine.ops.iter().zip(&theirs.ops).enumerate() {
        same_op(mine, theirs).map_err(|what| format!("op {number}: {what}"))?;
    }
    if !mine.status().is_final() && !mine.hold.allows(&theirs.hold) {
        return Err(format!("hold: the model allows {:?}, the core has {:?}", mine.hold, theirs.hold));
    }
    same("version", &mine.version, &theirs.version)?;
    same("received_at", &mine.received_at, &theirs.received_at)?;
    same("changed_at", &mine.changed_at, &theirs.changed_at)?;
    same("ended_at", &mine.ended_at, &theirs.ended_at.time())?;
    same("started_at", &mine.started_at, &theirs.started_at.time())?;
    let more = theirs.more.as_deref().cloned().unwrap_or_default();
    same("log lines", &(mine.log.len() as u64, mine.log_dropped as u64), &(more.log_serial, more.log_dropped))?;
    let mine = [mine.spec.bytes(), mine.output_bytes(), mine.log_bytes()].map(|bytes| bytes as u32);
    same("weight of spec, outputs and log", &mine, &[theirs.spec_bytes, more.output_bytes, more.log_bytes])
}

fn place_of(job: &Job) -> Place {
    match (job.status().is_final(), job.archived) {
        (false, _) => Place::Live,
        (true, false) => Place::Ended,
        (true, true) => Place::Archived,
    }
}

fn same_op(mine: &Op, theirs: &job::Op) -> Result<(), String> {
    let runs = theirs.runs.as_deref().cloned().unwrap_or_default();
    same("status", &mine.status, &status_of(&theirs.status))?;
    same("priority", &mine.priority, &theirs.priority)?;
    same("attempts", &mine.attempts, &runs.attempts)?;
    same("lost", &mine.lost, &runs.lost)?;
    same("retries used", &mine.retries_used, &runs.retries_used)?;
    same("failures to start", &mine.start_failures, &runs.start_failures)?;
    same("what it left behind", &(mine.history.len() as u32), &runs.recorded)?;
    same("last lease", &mine.last, &runs.last.as_ref().map(|last| (last.lease, last.ended_by)))?;
    let theirs = [runs.reserved_at, runs.exec_at, runs.ended_at].map(raftq::queue::ids::Stamp::time);
    same("reserved, started, ended", &[mine.reserved_at, mine.exec_at, mine.lease_ended_at], &theirs)
}

fn status_of(status: &job::OpStatus) -> OpStatus {
    match status {
        job::OpStatus::Queued => OpStatus::Queued,
        job::OpStatus::Reserved(lease) => OpStatus::Reserved(lease_of(lease)),
        job::OpStatus::Running(lease) => OpStatus::Running(lease_of(lease)),
        job::OpStatus::Canceling(lease, signal) => OpStatus::Canceling(lease_of(lease), *signal),
        job::OpStatus::Success => OpStatus::Success,
        job::OpStatus::Error => OpStatus::Error,
        job::OpStatus::Canceled => OpStatus::Canceled,
    }
}

fn lease_of(lease: &job::Lease) -> Lease {
    Lease {
        id: lease.id,
        worker: lease.holder.worker.clone(),
        host: lease.holder.host.clone(),
        pid: lease.holder.pid,
        office: lease.holder.office,
        length_ms: lease.length_ms,
        deadline: lease.deadline,
        log_next: lease.log_next,
        cancel_after: lease.cancel_after,
    }
}

/// What the model knew only as a range, it takes from the core once it has been compared.
pub fn adopt(model: &mut Model, store: &Store) {
    for (place, job) in store.jobs() {
        if let (Place::Live, Hold::Delayed(_)) = (place, &job.hold)
            && let Some(mine) = model.jobs.get_mut(&job.id)
        {
            mine.hold = crate::reference::Lasting::exactly(job.hold.clone());
        }
    }
}

pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, mine: &T, theirs: &T) -> Result<(), String> {
    if mine == theirs {
        return Ok(());
    }
    Err(format!("{what}: the model says {mine:?}, the core {theirs:?}"))
}
