//! Claiming work: what a worker asks and what it is given.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    error::ErrorBody,
    number::{Cores, Priority},
    object,
    spec::{Body, NeedsSpec},
};
use crate::queue::{
    command::{self, Claim, Wanted},
    ids::{JobId, LeaseId},
    limits,
    refusal::Refusal,
};

/// The longest that a claim may wait for work (design 2.2).
pub const WAIT_MS_MAX: u64 = 60_000;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimRequest {
    #[serde(deserialize_with = "object::object")]
    pub worker: WorkerRef,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<Vec<Arc<str>>>,
    /// Exactly these jobs, in place of `queues`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<JobId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Vec<Arc<str>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_groups: Option<Vec<Arc<str>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    #[serde(default)]
    pub wait_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    #[serde(default)]
    pub start: bool,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object::optional")]
    pub free: Option<FreeSpec>,
}

/// Who claims.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerRef {
    pub id: Box<str>,
    #[serde(default)]
    pub host: Box<str>,
    #[serde(default)]
    pub pid: u32,
}

/// What a claimer has left; an absent field is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FreeSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<Cores>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ram_mb: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_mb: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_s: Option<u64>,
}

impl ClaimRequest {
    /// The claim for the core; how long to wait stays with the caller.
    pub fn into_queue(self) -> Result<Claim, Refusal> {
        check_worker("worker.id", &self.worker.id)?;
        if self.wait_ms > WAIT_MS_MAX {
            return Err(Refusal::invalid("wait_ms", "wait at most 60000 ms, then claim again"));
        }
        let wanted = match (self.queues, self.ids) {
            (Some(_), Some(_)) => return Err(Refusal::invalid("ids", "give queues or ids, not both")),
            (Some(queues), None) if queues.is_empty() => {
                return Err(Refusal::invalid("queues", "name at least one queue"));
            }
            (Some(queues), None) => {
                queues.iter().try_for_each(|queue| limits::check_queue("queues", queue))?;
                Wanted::Queues(queues)
            }
            (None, Some(ids)) => Wanted::Ids(ids),
            (None, None) => {
                return Err(Refusal::invalid("queues", "name the queues to claim from, or the ids to claim"));
            }
        };
        let max = match self.max {
            Some(0) => return Err(Refusal::invalid("max", "ask for at least one job")),
            max => max.unwrap_or(1),
        };
        Ok(Claim {
            worker: self.worker.id,
            host: self.worker.host,
            pid: self.worker.pid,
            pool: false,
            wanted,
            kinds: self.kinds,
            resource_groups: self.resource_groups,
            max,
            lease_ms: self.lease_ms,
            start: self.start,
            free: self.free.map(Into::into),
        })
    }
}

/// Names that would tell nobody who it is. What else a name must be is the core's business.
pub(super) fn check_worker(field: &str, id: &str) -> Result<(), Refusal> {
    if id.trim().is_empty() {
        return Err(Refusal::invalid(field, "give the worker a name"));
    }
    let is_pool = id.strip_prefix("pool-").is_some_and(|node| node.parse::<u64>().is_ok());
    if is_pool {
        let message = format!("{id} is how a member's pool is called; give the worker another name");
        return Err(Refusal::invalid(field, message));
    }
    Ok(())
}

impl From<FreeSpec> for command::Free {
    fn from(free: FreeSpec) -> Self {
        Self {
            cores_milli: free.cores.map(|cores| cores.milli),
            ram_mb: free.ram_mb,
            disk_mb: free.disk_mb,
            time_s: free.time_s,
        }
    }
}

impl From<command::Free> for FreeSpec {
    fn from(free: command::Free) -> Self {
        Self {
            cores: free.cores_milli.map(|milli| Cores { milli }),
            ram_mb: free.ram_mb,
            disk_mb: free.disk_mb,
            time_s: free.time_s,
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ClaimAnswer {
    pub jobs: Vec<ClaimedJob>,
}

/// One granted lease; or, when `ids` were asked for, why one was not granted (`ok` false).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ClaimedJob {
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub ok: bool,
    pub job: ClaimedSummary,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<ClaimedOp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_true(value: &bool) -> bool {
    *value
}

/// What a worker is told of the job. The fields that the contract names are always there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ClaimedSummary {
    pub id: JobId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Arc<str>>,
    #[serde(default)]
    pub name: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    #[serde(default)]
    pub groups: Vec<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<NeedsSpec>,
    #[serde(default)]
    pub meta: Option<Box<RawValue>>,
    #[serde(default)]
    pub checkpoint: Option<Box<RawValue>>,
    /// Of the ops before this one, in order.
    #[serde(default)]
    pub results: Vec<Option<Box<RawValue>>>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub keep_output: bool,
    /// What the command inherits, below its own `env`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Box<RawValue>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ClaimedOp {
    pub index: u32,
    pub kind: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
    pub attempts: u32,
}
