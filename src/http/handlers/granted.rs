//! What a worker is told of the jobs it was granted.
//!
//! Answers in the log are ids and leases; the rest is read here from a view that is at least as new. A job that is gone by
//! then (canceled and deleted at once) is left out: its lease is worth nothing.

use crate::{
    api::{self, Body, ClaimedJob, ClaimedOp, ClaimedSummary, JobParts, NeedsSpec, raw_value},
    http::{call::Call, failure::Failure, read},
    queue::{
        applied::Claimed,
        command::{Claim, Wanted},
        ids::JobId,
        job::{Payload, Spec},
        refusal::Refusal,
        rows::{Row, RowKey, Rows},
    },
    raft::Consistency,
};

/// The jobs that a claim names.
pub fn asked(claim: &Claim) -> &[JobId] {
    match &claim.wanted {
        Wanted::Ids(ids) => ids,
        Wanted::Queues(_) => &[],
    }
}

/// `asked` are the jobs that a claim by ids named: each has an answer, in this order.
pub async fn describe(
    call: &Call,
    index: u64,
    asked: &[JobId],
    grants: Vec<Result<Claimed, Refusal>>,
) -> Result<Vec<ClaimedJob>, Failure> {
    if grants.is_empty() {
        return Ok(Vec::new());
    }
    let view = call.front.view(Consistency::Local, index, call.context.deadline).await?;
    let ids: Vec<_> = grants.iter().flatten().map(|claimed| claimed.job).collect();
    let seen = read::jobs(&view, &ids, &[]);
    let mut jobs = seen.value.into_iter();
    let described = grants.into_iter().enumerate().filter_map(|(at, grant)| match grant {
        Ok(claimed) => jobs.next().flatten().and_then(|parts| granted(&*seen.rows, &claimed, &parts)),
        Err(refusal) => Some(refused(asked.get(at).copied().unwrap_or_default(), &refusal)),
    });
    Ok(described.collect())
}

fn granted(rows: &dyn Rows, claimed: &Claimed, parts: &JobParts) -> Option<ClaimedJob> {
    let stored = || Some(rows.get(&RowKey::Spec(claimed.job))?.into_spec()?.0);
    let spec = parts.spec.clone().or_else(stored)?;
    Some(ClaimedJob {
        ok: true,
        job: summary(rows, claimed, parts, &spec),
        op: Some(op(claimed, &spec)?),
        lease: Some(claimed.lease),
        lease_ms: Some(claimed.lease_ms),
        error: None,
    })
}

fn summary(rows: &dyn Rows, claimed: &Claimed, parts: &JobParts, spec: &Spec) -> ClaimedSummary {
    let results = (0..claimed.op).map(|op| match rows.get(&RowKey::Result(claimed.job, op)) {
        Some(Row::Result(result)) => api::result_value(&result),
        _ => None,
    });
    // Only an earlier lease can have left one.
    let checkpoint = parts.job.had_leases().then(|| read::json(rows, &RowKey::Checkpoint(claimed.job))).flatten();
    let environment = spec.environment.and_then(|digest| read::json(rows, &RowKey::Environment(digest)));
    ClaimedSummary {
        id: claimed.job,
        queue: Some(parts.job.shape.queue.clone()),
        name: spec.name.clone(),
        priority: Some(parts.job.priority().into()),
        groups: spec.groups.iter().cloned().collect(),
        needs: Some(NeedsSpec::from(parts.needs)),
        meta: spec.meta.as_ref().and_then(raw_value),
        checkpoint: checkpoint.as_ref().and_then(raw_value),
        results: results.collect(),
        keep_output: spec.keep_output,
        environment: environment.as_ref().and_then(raw_value),
    }
}

fn op(claimed: &Claimed, spec: &Spec) -> Option<ClaimedOp> {
    let written = spec.ops.get(claimed.op as usize)?;
    let (args, body) = match &written.payload {
        Payload::Args(args) => (raw_value(args), None),
        Payload::Text(text) => (None, Some(Body::Text(text.clone()))),
        Payload::Binary(bytes) => (None, Some(Body::Binary(bytes.to_vec()))),
    };
    Some(ClaimedOp { index: claimed.op, kind: written.kind.clone(), args, body, attempts: claimed.attempts })
}

fn refused(id: JobId, refusal: &Refusal) -> ClaimedJob {
    let job = ClaimedSummary { id, ..ClaimedSummary::default() };
    ClaimedJob { ok: false, job, error: Some(refusal.into()), ..ClaimedJob::default() }
}
