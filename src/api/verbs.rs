//! Verbs on one job, archiving, and the replicated settings.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::number::Priority;
use crate::queue::{
    applied,
    command::CancelHow,
    ids::{Index, JobId, WallMs},
    job::Status,
    refusal::Refusal,
    settings,
    totals::Ends,
};

/// `kill`: a running op too. `after_op`: it ends as it will, the rest is canceled.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CancelRequest {
    pub kill: bool,
    pub after_op: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Box<str>>,
}

impl CancelRequest {
    pub fn how(&self) -> Result<CancelHow, Refusal> {
        match (self.kill, self.after_op) {
            (true, true) => Err(Refusal::invalid("after_op", "give kill or after_op, not both")),
            (true, false) => Ok(CancelHow::Kill),
            (false, true) => Ok(CancelHow::AfterOp),
            (false, false) => Ok(CancelHow::Waiting),
        }
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriorityRequest {
    pub priority: Priority,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BuryRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Box<str>>,
}

/// A request that says nothing: kick, archive, delete of one job.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// What a verb on one job answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobAnswer {
    pub job: JobBrief,
    /// False where there was nothing to do: a second kick, a second archive.
    pub changed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobBrief {
    pub id: JobId,
    pub status: StatusName,
    pub version: Index,
}

impl From<applied::JobBrief> for JobAnswer {
    fn from(brief: applied::JobBrief) -> Self {
        let job = JobBrief { id: brief.id, status: StatusName(brief.status), version: brief.version };
        Self { job, changed: brief.changed }
    }
}

/// A status by its public name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusName(pub Status);

/// The status of that name.
pub fn parse_status(name: &str) -> Option<Status> {
    Status::ALL.into_iter().find(|status| status.name() == name)
}

impl fmt::Display for StatusName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

impl Serialize for StatusName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

impl<'de> Deserialize<'de> for StatusName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Box::<str>::deserialize(deserializer)?;
        let unknown = || de::Error::custom(format!("`{name}` is no status of a job"));
        parse_status(&name).map(Self).ok_or_else(unknown)
    }
}

/// `{"age_s": n}` or `{"all": true}`; a bounded piece for each call.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArchiveRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_s: Option<ArchiveAge>,
    pub all: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next` of the piece before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Box<str>>,
}

/// Seconds since the end, or `"all"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveAge {
    Seconds(u64),
    All,
}

impl Serialize for ArchiveAge {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ArchiveAge::Seconds(seconds) => serializer.serialize_u64(*seconds),
            ArchiveAge::All => serializer.serialize_str("all"),
        }
    }
}

impl<'de> Deserialize<'de> for ArchiveAge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AgeVisitor)
    }
}

struct AgeVisitor;

impl de::Visitor<'_> for AgeVisitor {
    type Value = ArchiveAge;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("whole seconds, or \"all\"")
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<ArchiveAge, E> {
        Ok(ArchiveAge::Seconds(seconds))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<ArchiveAge, E> {
        match text {
            "all" => Ok(ArchiveAge::All),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }
}

/// Jobs archived by one piece when the request does not say.
const ARCHIVE_LIMIT_DEFAULT: u32 = 1_000;

impl ArchiveRequest {
    pub fn into_queue(self) -> Result<crate::queue::command::Autoarchive, Refusal> {
        let age_ms = match (self.age_s, self.all) {
            (Some(ArchiveAge::Seconds(_)), true) => return Err(Refusal::invalid("all", "give age_s or all, not both")),
            (Some(ArchiveAge::Seconds(seconds)), false) => {
                let too_long = Refusal::invalid("age_s", "nothing is that old");
                Some(seconds.checked_mul(1000).ok_or(too_long)?)
            }
            (Some(ArchiveAge::All), _) | (None, true) => None,
            (None, false) => return Err(Refusal::invalid("age_s", "give age_s, or all")),
        };
        let after = self.after.as_deref().map(parse_archive_cursor).transpose()?;
        Ok(crate::queue::command::Autoarchive { age_ms, limit: self.limit.unwrap_or(ARCHIVE_LIMIT_DEFAULT), after })
    }
}

fn parse_archive_cursor(text: &str) -> Result<(WallMs, JobId), Refusal> {
    let parts = text.split_once('.').and_then(|(at, id)| Some((at.parse().ok()?, id.parse().ok()?)));
    let (at, id) = parts.ok_or_else(|| Refusal::invalid("after", "give `next` of the answer before"))?;
    Ok((WallMs(at), JobId(id)))
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveAnswer {
    pub archived: u64,
    /// Eligible and not yet done.
    pub left: u64,
    pub next: Option<Box<str>>,
}

impl ArchiveAnswer {
    pub fn new(archived: u64, left: u64, next: Option<(WallMs, JobId)>) -> Self {
        Self { archived, left, next: next.map(|(at, id)| format!("{at}.{id}").into()) }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    pub drained: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Box<str>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainView {
    pub drained: bool,
    pub reason: Option<Box<str>>,
    pub by: Option<Box<str>>,
    pub since: Option<WallMs>,
}

impl From<&settings::Drain> for DrainView {
    fn from(drain: &settings::Drain) -> Self {
        Self {
            drained: drain.drained,
            reason: drain.reason.clone(),
            by: drain.since.map(|_| drain.by.clone()),
            since: drain.since,
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queues: Option<Vec<Arc<str>>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolView {
    pub active: bool,
    pub size: u32,
    pub queues: Vec<Arc<str>>,
    pub timeout_ms: u64,
    /// Jobs that the pool runs now.
    #[serde(default)]
    pub running: u64,
}

impl From<&settings::Pool> for PoolView {
    fn from(pool: &settings::Pool) -> Self {
        Self {
            active: pool.active,
            size: pool.size,
            queues: pool.queues.clone(),
            timeout_ms: pool.timeout_ms,
            running: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueRequest {
    pub paused: bool,
}

/// GET /v1/queues
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueList {
    /// All of them at once.
    pub paused: bool,
    pub queues: Vec<QueueView>,
    /// Of queues that are too many to count each, and of forgotten ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_totals: Option<QueueTotals>,
}

/// A queue with live jobs, one in which jobs have ended, or a paused one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueView {
    pub name: Arc<str>,
    pub paused: bool,
    /// Live jobs by status.
    pub counts: BTreeMap<Box<str>, u64>,
    /// Jobs that have ended, since the cluster was formed.
    #[serde(default)]
    pub totals: QueueTotals,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueTotals {
    pub success: u64,
    pub error: u64,
    pub canceled: u64,
}

impl From<Ends> for QueueTotals {
    fn from(ends: Ends) -> Self {
        Self { success: ends.success, error: ends.error, canceled: ends.canceled }
    }
}
