//! Schedules: what a user says of one, and what is told of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    error::ErrorBody,
    object,
    spec::Spec,
    submit::{Environment, kept},
};
use crate::queue::{
    command,
    ids::{Index, JobId, WallMs},
    job::{self, Json},
    refusal::Refusal,
    schedule::{self, Next, Outcome, Timing},
};

/// In which a cron expression is read, unless it is said.
const TIME_ZONE_DEFAULT: &str = "UTC";

/// PUT /v1/schedules/{name}: the whole definition; `cron` or `every_ms`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_ms: Option<u64>,
    pub missed: Missed,
    pub overlap: Overlap,
    /// Absent: as it is; a new one is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Refuse where there is one of this name.
    pub if_absent: bool,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object::optional")]
    pub spec: Option<Box<Spec>>,
}

/// What becomes of slots that nobody took in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    #[default]
    Once,
    Skip,
}

/// What becomes of a slot while an earlier one's job waits or runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    #[default]
    Allow,
    Skip,
}

/// A decoded definition, and the environment to be kept before it.
pub struct ScheduleDefinition {
    pub definition: command::Definition,
    pub environment: Option<(u128, Json)>,
}

impl ScheduleRequest {
    /// Shape only: whether there is any sense in the timing is the calendar's to say.
    pub fn into_queue(self) -> Result<ScheduleDefinition, Refusal> {
        let timing = self.timing()?;
        let Some(mut spec) = self.spec else {
            return Err(Refusal::invalid("spec", "say what its jobs are, as in a submission"));
        };
        let environment = spec.environment.take().as_ref().map(|environment: &Environment| kept(environment));
        let spec = spec.into_queue().map_err(|refusal| refusal.within("spec"))?;
        let spec = job::Spec { environment: environment.as_ref().map(|(digest, _)| *digest), ..spec };
        let definition = command::Definition {
            timing,
            missed: self.missed.into(),
            overlap: self.overlap.into(),
            paused: self.paused,
            spec: Arc::new(spec),
        };
        Ok(ScheduleDefinition { definition, environment })
    }

    fn timing(&self) -> Result<Timing, Refusal> {
        match (&self.cron, self.every_ms, &self.time_zone) {
            (Some(_), Some(_), _) => Err(Refusal::invalid("every_ms", "give cron or every_ms, not both")),
            (None, None, _) => Err(Refusal::invalid("cron", "say when: give cron or every_ms")),
            (None, Some(_), Some(_)) => Err(Refusal::invalid("time_zone", "a period is the same in every time zone")),
            (None, Some(ms), None) => Ok(Timing::Every { ms }),
            (Some(expression), None, zone) => Ok(Timing::Cron {
                expression: expression.clone(),
                time_zone: zone.clone().unwrap_or_else(|| TIME_ZONE_DEFAULT.into()),
            }),
        }
    }
}

/// One schedule.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScheduleView {
    pub name: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_ms: Option<u64>,
    pub missed: Missed,
    pub overlap: Overlap,
    pub paused: bool,
    /// The next slot; `null` while it is paused, and for a moment after it was defined.
    pub next_at: Option<u64>,
    /// The next few; not in listings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Vec<u64>>,
    pub last: Option<TakenView>,
    pub last_job: Option<JobId>,
    /// Slots that gave a job, and slots that gave none.
    pub submitted: u64,
    pub skipped: u64,
    pub created_by: Box<str>,
    pub created_at: u64,
    pub defined_at: u64,
    pub version: Index,
    /// Not in listings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<Box<Spec>>,
}

/// What came of the last slot: `submitted`, `existed` (unique key), `overlapped`, `missed`, `refused`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TakenView {
    pub slot_at: u64,
    pub taken_at: u64,
    pub outcome: Box<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

/// POST /v1/schedules/{name}/run
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunAnswer {
    pub id: JobId,
    pub existed: bool,
}

impl ScheduleView {
    pub fn new(name: Arc<str>, schedule: &schedule::Schedule) -> Self {
        let (cron, time_zone, every_ms) = match &schedule.timing {
            Timing::Cron { expression, time_zone } => (Some(expression.clone()), Some(time_zone.clone()), None),
            Timing::Every { ms } => (None, None, Some(*ms)),
        };
        Self {
            name,
            cron,
            time_zone,
            every_ms,
            missed: schedule.missed.into(),
            overlap: schedule.overlap.into(),
            paused: schedule.paused,
            next_at: match schedule.next {
                Next::Slot(WallMs(at)) => Some(at),
                Next::Unplanned | Next::Never => None,
            },
            next: None,
            last: schedule.last.as_ref().map(TakenView::from),
            last_job: schedule.last_job,
            submitted: schedule.submitted,
            skipped: schedule.skipped,
            created_by: schedule.created_by.clone(),
            created_at: schedule.created_at.0,
            defined_at: schedule.defined_at.0,
            version: schedule.version,
            spec: None,
        }
    }
}

impl From<&schedule::Taken> for TakenView {
    fn from(taken: &schedule::Taken) -> Self {
        let (outcome, job, error) = match &taken.outcome {
            Outcome::Submitted(job) => ("submitted", Some(*job), None),
            Outcome::Existed(job) => ("existed", Some(*job), None),
            Outcome::Overlapped(job) => ("overlapped", Some(*job), None),
            Outcome::Missed => ("missed", None, None),
            Outcome::Refused(refusal) => ("refused", None, Some(ErrorBody::from(refusal))),
        };
        Self { slot_at: taken.slot.0, taken_at: taken.at.0, outcome: outcome.into(), job, error }
    }
}

impl From<Missed> for schedule::Missed {
    fn from(missed: Missed) -> Self {
        match missed {
            Missed::Once => Self::Once,
            Missed::Skip => Self::Skip,
        }
    }
}

impl From<schedule::Missed> for Missed {
    fn from(missed: schedule::Missed) -> Self {
        match missed {
            schedule::Missed::Once => Self::Once,
            schedule::Missed::Skip => Self::Skip,
        }
    }
}

impl From<Overlap> for schedule::Overlap {
    fn from(overlap: Overlap) -> Self {
        match overlap {
            Overlap::Allow => Self::Allow,
            Overlap::Skip => Self::Skip,
        }
    }
}

impl From<schedule::Overlap> for Overlap {
    fn from(overlap: schedule::Overlap) -> Self {
        match overlap {
            schedule::Overlap::Allow => Self::Allow,
            schedule::Overlap::Skip => Self::Skip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::decode;

    #[track_caller]
    fn check(text: &str, field: &str) {
        let refusal = decode::<ScheduleRequest>(text.as_bytes()).and_then(|request| request.into_queue().map(drop));
        match refusal {
            Err(Refusal::Invalid { field: named, .. }) => assert_eq!(&*named, field, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn definition_without_sense_is_refused_by_field() {
        check(r#"{"spec": {"sleep": 1}}"#, "cron");
        check(r#"{"cron": "@daily", "every_ms": 5000, "spec": {"sleep": 1}}"#, "every_ms");
        check(r#"{"every_ms": 5000, "time_zone": "UTC", "spec": {"sleep": 1}}"#, "time_zone");
        check(r#"{"every_ms": 5000}"#, "spec");
        check(r#"{"every_ms": 5000, "spec": {"queue": "q"}}"#, "spec.ops");
        check(r#"{"every_ms": 5000, "spec": {"sleep": 1, "colour": 2}}"#, "spec.colour");
        check(r#"{"every_ms": 5000, "missed": "twice", "spec": {"sleep": 1}}"#, "missed");
    }

    #[test]
    fn environment_goes_apart() {
        let text = r#"{"every_ms": 5000, "spec": {"shell": "env", "environment": {"A": "b"}}}"#;
        let decoded = decode::<ScheduleRequest>(text.as_bytes()).and_then(ScheduleRequest::into_queue).expect(text);
        let (digest, value) = decoded.environment.expect("one came along");
        assert_eq!((decoded.definition.spec.environment, &*value.0), (Some(digest), r#"{"A":"b"}"#));
    }
}
