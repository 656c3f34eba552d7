//! Specs and claims from words of a script: `queue=etl priority=-1 ops=exec,exec@5 depends=0:7:success+error`.

use std::{error::Error, sync::Arc};

use crate::queue::{
    command::{Claim, Free, Wanted},
    ids::{JobId, Priority, WallMs},
    job::{
        Depends, FinalStatuses, JobRef, Json, Needs, OnFailure, OpSpec, Payload, Policy, QUEUE_DEFAULT, Reason, Spec,
        When,
    },
};

pub type Parsed<T> = Result<T, Box<dyn Error>>;

/// One job's spec.
pub fn spec(words: &[String]) -> Parsed<Spec> {
    let ops = words.iter().find_map(|word| word.strip_prefix("ops=")).unwrap_or("exec");
    let ops: Vec<OpSpec> = ops.split(',').filter(|op| !op.is_empty()).map(op).collect::<Parsed<_>>()?;
    let mut spec = Spec::of_ops(ops);
    for word in words.iter().filter(|word| !word.starts_with("ops=")) {
        let (key, value) = word.split_once('=').ok_or_else(|| format!("no value: {word}"))?;
        set(&mut spec, key, value)?;
    }
    Ok(spec)
}

/// `KIND` or `KIND@PRIORITY`.
fn op(word: &str) -> Parsed<OpSpec> {
    let (kind, priority) = match word.split_once('@') {
        Some((kind, priority)) => (kind, Some(Priority(priority.parse()?))),
        None => (word, None),
    };
    Ok(OpSpec { priority, ..OpSpec::new(kind, Payload::Args(Json("{}".into()))) })
}

fn set(spec: &mut Spec, key: &str, value: &str) -> Parsed<()> {
    match key {
        "queue" => spec.queue = value.into(),
        "name" => spec.name = Some(value.into()),
        "groups" => spec.groups = value.split(',').map(Arc::from).collect(),
        "priority" => spec.priority = Some(Priority(value.parse()?)),
        "unique" => spec.unique = Some(value.into()),
        "limits" => spec.limits = value.split(',').map(limit).collect::<Parsed<_>>()?,
        "delay" => spec.when = When::Delay(value.parse()?),
        "run_at" => spec.when = When::RunAt(WallMs(value.parse()?)),
        "environment" => spec.environment = Some(value.parse()?),
        "comment" => spec.comment = Some(value.into()),
        "reason" => spec.reasons.push(Reason { source: "submit".into(), text: value.into(), at: WallMs(0) }),
        "as" => spec.batch_name = Some(value.into()),
        "depends" => return value.split(',').try_for_each(|text| depend(spec, text)),
        "cores" | "ram" | "disk" | "time" => return need(spec.needs.get_or_insert_default(), key, value),
        _ => return set_policy(&mut spec.policy, key, value),
    }
    Ok(())
}

fn set_policy(policy: &mut Policy, key: &str, value: &str) -> Parsed<()> {
    match key {
        "on_failure" => policy.on_failure = if value == "error" { OnFailure::Error } else { OnFailure::Bury },
        "rerun_on_loss" => policy.rerun_on_loss = value.parse()?,
        "retries" => policy.retries = value.parse()?,
        "lost_limit" => policy.lost_limit = value.parse()?,
        "backoff" => policy.backoff_base_ms = value.parse()?,
        "backoff_cap" => policy.backoff_cap_ms = value.parse()?,
        "no_retry_after" => policy.no_retry_after_ms = Some(value.parse()?),
        "lease" => policy.lease_ms = value.parse()?,
        "override" => policy.needs_override = value.parse()?,
        "resource_group" => policy.resource_group = Some(value.into()),
        _ => return Err(format!("unknown word: {key}").into()),
    }
    Ok(())
}

fn need(needs: &mut Needs, key: &str, value: &str) -> Parsed<()> {
    match key {
        "cores" => needs.cores_milli = value.parse()?,
        "ram" => needs.ram_mb = value.parse()?,
        "disk" => needs.disk_mb = value.parse()?,
        _ => needs.time_s = value.parse()?,
    }
    Ok(())
}

/// `NAME` or `NAME:MAX`.
fn limit(word: &str) -> Parsed<(Arc<str>, Option<u32>)> {
    Ok(match word.split_once(':') {
        Some((name, max)) => (name.into(), Some(max.parse()?)),
        None => (word.into(), None),
    })
}

/// `OP:JOB` or `OP:JOB:STATUS+STATUS`, where JOB is an id, `-K` or `@NAME`.
fn depend(spec: &mut Spec, text: &str) -> Parsed<()> {
    let mut parts = text.split(':');
    let op: usize = parts.next().unwrap_or_default().parse()?;
    let job = parts.next().ok_or("a dependency names a job")?;
    let on = match (job.strip_prefix('-'), job.strip_prefix('@')) {
        (Some(back), _) => JobRef::Back(back.parse()?),
        (_, Some(name)) => JobRef::Named(name.into()),
        _ => JobRef::Id(JobId(job.parse()?)),
    };
    let named: Vec<&str> = parts.next().unwrap_or_default().split('+').collect();
    let has = |status| named.contains(&status);
    let accept = FinalStatuses { success: has("success"), error: has("error"), canceled: has("canceled") };
    spec.ops[op].depends.push(Depends { on, accept });
    Ok(())
}

/// A claim: `worker=w queues=a,b max=2 start=true`.
pub fn claim(words: &[String]) -> Parsed<Claim> {
    let wanted = Wanted::Queues(vec![QUEUE_DEFAULT.into()]);
    let mut claim = Claim { host: "h".into(), pid: 1, ..Claim::of("w", wanted) };
    for word in words {
        let (key, value) = word.split_once('=').ok_or_else(|| format!("no value: {word}"))?;
        let names = || value.split(',').map(Arc::from).collect();
        match key {
            "worker" => claim.worker = value.into(),
            "queues" => claim.wanted = Wanted::Queues(names()),
            "ids" => claim.wanted = Wanted::Ids(ids(value)?),
            "kinds" => claim.kinds = Some(names()),
            "resource_groups" => claim.resource_groups = Some(names()),
            "max" => claim.max = value.parse()?,
            "lease" => claim.lease_ms = Some(value.parse()?),
            "start" => claim.start = value.parse()?,
            "pool" => claim.pool = value.parse()?,
            _ => free(claim.free.get_or_insert_default(), key, value)?,
        }
    }
    Ok(claim)
}

pub fn free(free: &mut Free, key: &str, value: &str) -> Parsed<()> {
    let amount = Some(value.parse()?);
    match key {
        "cores" => free.cores_milli = amount,
        "ram" => free.ram_mb = amount,
        "disk" => free.disk_mb = amount,
        "time" => free.time_s = amount,
        _ => return Err(format!("unknown word: {key}").into()),
    }
    Ok(())
}

pub fn ids(text: &str) -> Parsed<Vec<JobId>> {
    text.split(',').map(|id| Ok(JobId(id.parse()?))).collect()
}
