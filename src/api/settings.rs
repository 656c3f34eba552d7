//! Limit groups, the policy, the registry of workers.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::{
    claim::{FreeSpec, check_worker},
    object,
};
use crate::{
    json,
    queue::{
        command::{SettingsChange, WorkerChange},
        job::Json,
        refusal::Refusal,
        settings,
    },
};

/// PUT /v1/limits/{name}; `null` for no limit.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitRequest {
    // A default of serde's would take a body that forgets it for a removal.
    #[serde(deserialize_with = "Option::deserialize")]
    pub max: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitView {
    pub name: Arc<str>,
    /// `null`: unlimited.
    pub max: Option<u32>,
    pub running: u32,
}

/// PUT /v1/policy: absent leaves as is, `null` means never.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyRequest {
    pub live_jobs_max: Option<u64>,
    #[serde(deserialize_with = "given")]
    pub archive_after_ms: Option<Option<u64>>,
    #[serde(deserialize_with = "given")]
    pub delete_after_ms: Option<Option<u64>>,
    pub pool_timeout_ms: Option<u64>,
    pub bury_impossible: Option<bool>,
}

/// Tells `null` from absent.
#[allow(clippy::option_option, reason = "absent leaves a setting, null ends it")]
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl From<PolicyRequest> for SettingsChange {
    fn from(request: PolicyRequest) -> Self {
        Self {
            live_jobs_max: request.live_jobs_max,
            archive_after_ms: request.archive_after_ms,
            delete_after_ms: request.delete_after_ms,
            pool_timeout_ms: request.pool_timeout_ms,
            bury_impossible: request.bury_impossible,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyView {
    pub live_jobs_max: u64,
    pub archive_after_ms: Option<u64>,
    pub delete_after_ms: Option<u64>,
    pub bury_impossible: bool,
    pub pool_timeout_ms: u64,
}

impl PolicyView {
    pub fn new(settings: &settings::Settings, pool: &settings::Pool) -> Self {
        Self {
            live_jobs_max: settings.live_jobs_max,
            archive_after_ms: settings.archive_after_ms,
            delete_after_ms: settings.delete_after_ms,
            bury_impossible: settings.bury_impossible,
            pool_timeout_ms: pool.timeout_ms,
        }
    }
}

/// PUT /v1/workers/{id}: to be repeated before it expires.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object::optional")]
    pub resources: Option<FreeSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
}

/// A worker that says nothing for so long is forgotten, if it does not choose another time.
const WORKER_TTL_MS_DEFAULT: u64 = 60_000;

impl WorkerRequest {
    pub fn into_queue(mut self, id: Arc<str>) -> Result<WorkerChange, Refusal> {
        check_worker("id", &id)?;
        let ttl_ms = self.ttl_ms.take().unwrap_or(WORKER_TTL_MS_DEFAULT);
        let resources = self.resources.map(Into::into);
        let info = serde_json::to_string(&self).expect("plain JSON");
        json::check(&info).map_err(|message| Refusal::invalid("metadata", message))?;
        Ok(WorkerChange::Put { id, info: Json(info.into()), ttl_ms, resources })
    }
}
