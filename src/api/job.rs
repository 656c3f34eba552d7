//! A job as clients see it, field by field.
//!
//! A caller chooses fields, and pays for those: each says which rows it is made of ([`Field::source`]), and only these are read.

use std::{collections::BTreeMap, sync::Arc};

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};

use super::{NeedsSpec, op::OpDoc, raw::Raw, verbs::StatusName};
use crate::queue::{
    ids::{JobId, WallMs},
    job::{Attempt, Job, Json, Needs, OnFailure, OpResult, PRECEDING_OP, Reason, Spec},
    needs,
};

/// Everything about one job, as far as it was asked for and read.
#[derive(Clone, Debug)]
pub struct JobParts {
    pub job: Job,
    pub spec: Option<Arc<Spec>>,
    /// What counts for packing: asked for, learned, or raised after a failure.
    pub needs: Needs,
    /// By op.
    pub results: BTreeMap<u32, OpResult>,
    /// By op, oldest first.
    pub attempts: BTreeMap<u32, Vec<Attempt>>,
    /// Those of the submission first.
    pub reasons: Vec<Reason>,
    pub progress: Option<Json>,
    pub checkpoint: Option<Json>,
    /// Jobs that it waits for.
    pub blocked_by: Vec<Blocker>,
    /// What keeps it waiting, in words.
    pub held_by: Vec<String>,
    pub ready_at: Option<WallMs>,
}

/// A job that another waits for.
#[derive(Clone, Debug, Serialize)]
pub struct Blocker {
    pub id: JobId,
    /// Absent if it has ended while this answer was made.
    pub status: Option<StatusName>,
}

impl JobParts {
    pub fn new(job: Job) -> Self {
        Self {
            needs: needs::effective(&job.shape, None),
            job,
            spec: None,
            results: BTreeMap::new(),
            attempts: BTreeMap::new(),
            reasons: Vec::new(),
            progress: None,
            checkpoint: None,
            blocked_by: Vec::new(),
            held_by: Vec::new(),
            ready_at: None,
        }
    }
}

/// What a field is made of beside the job itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Job,
    Spec,
    /// Spec, results and attempts.
    Ops,
    Reasons,
    Progress,
    Checkpoint,
    /// The order and the settings.
    State,
}

macro_rules! fields {
    ($($name:literal $variant:ident $source:ident $(, $summary:ident)?;)*) => {
        /// One field of a job.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Field { $($variant,)* }

        impl Field {
            pub const ALL: &'static [Field] = &[$(Field::$variant,)*];

            pub fn name(self) -> &'static str {
                match self { $(Field::$variant => $name,)* }
            }

            pub fn source(self) -> Source {
                match self { $(Field::$variant => Source::$source,)* }
            }

            /// Whether listings show it when they are not asked for fields.
            fn is_summary(self) -> bool {
                match self { $(Field::$variant => fields!(@summary $($summary)?),)* }
            }
        }
    };
    (@summary summary) => { true };
    (@summary) => { false };
}

fields! {
    "id" Id Job, summary;
    "queue" Queue Job, summary;
    "name" Name Spec, summary;
    "status" Status Job, summary;
    "kind" Kind Job, summary;
    "priority" Priority Job, summary;
    "groups" Groups Spec, summary;
    "resource_group" ResourceGroup Job;
    "unique" Unique Job;
    "limits" Limits Job;
    "needs" Needs Spec;
    "effective_needs" EffectiveNeeds Job;
    "needs_override" NeedsOverride Job;
    "lease_ms" LeaseMs Job;
    "on_failure" OnFailure Job;
    "rerun_on_loss" RerunOnLoss Job;
    "retries" Retries Job;
    "lost_limit" LostLimit Job;
    "backoff" Backoff Job;
    "no_retry_after_ms" NoRetryAfterMs Job;
    "meta" Meta Spec;
    "comment" Comment Spec;
    "reasons" Reasons Reasons;
    "submitted_by" SubmittedBy Spec;
    "parent" Parent Spec;
    "keep_output" KeepOutput Spec;
    "ops" Ops Ops;
    "attempts" Attempts Job, summary;
    "retries_left" RetriesLeft Job;
    "lost" Lost Job;
    "exit_code" ExitCode Ops;
    "fail_reason" FailReason Ops;
    "worker" Worker Job, summary;
    "received_at" ReceivedAt Job, summary;
    "started_at" StartedAt Job, summary;
    "ended_at" EndedAt Job, summary;
    "changed_at" ChangedAt Job;
    "archived" Archived Job, summary;
    "version" Version Job, summary;
    "log_serial" LogSerial Job;
    "log_dropped" LogDropped Job;
    "progress" Progress Progress;
    "checkpoint" Checkpoint Checkpoint;
    "blocked_by" BlockedBy State;
    "held_by" HeldBy State;
    "ready_at" ReadyAt State;
}

impl Field {
    /// The field of that name.
    pub fn parse(name: &str) -> Option<Field> {
        Field::ALL.iter().copied().find(|field| field.name() == name)
    }

    /// What listings show by default.
    pub fn summary() -> Vec<Field> {
        Field::ALL.iter().copied().filter(|field| field.is_summary()).collect()
    }
}

/// The chosen fields of a job, as JSON.
pub struct JobDoc<'a> {
    parts: &'a JobParts,
    fields: &'a [Field],
    similar: Option<u64>,
}

impl<'a> JobDoc<'a> {
    pub fn new(parts: &'a JobParts, fields: &'a [Field]) -> Self {
        Self { parts, fields, similar: None }
    }

    /// One of so many that are alike.
    pub fn similar(mut self, count: u64) -> Self {
        self.similar = Some(count);
        self
    }
}

impl Serialize for JobDoc<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len()))?;
        for field in self.fields {
            map.serialize_key(field.name())?;
            self.parts.write(*field, &mut map)?;
        }
        if let Some(similar) = self.similar {
            map.serialize_entry("similar", &similar)?;
        }
        map.end()
    }
}

impl JobParts {
    fn write<M: SerializeMap>(&self, field: Field, map: &mut M) -> Result<(), M::Error> {
        let (job, policy) = (&self.job, &*self.job.policy);
        match field {
            Field::Id => map.serialize_value(&job.id),
            Field::Queue => map.serialize_value(&job.shape.queue),
            Field::Status => map.serialize_value(&StatusName(job.status())),
            Field::Kind => map.serialize_value(&job.current_op().kind),
            Field::Priority => map.serialize_value(&job.priority()),
            Field::ResourceGroup => map.serialize_value(&policy.resource_group),
            Field::Unique => map.serialize_value(&job.more().unique),
            Field::Limits => map.serialize_value(job.limits()),
            Field::EffectiveNeeds => map.serialize_value(&NeedsSpec::from(self.needs)),
            Field::NeedsOverride => map.serialize_value(&policy.needs_override),
            Field::LeaseMs => map.serialize_value(&policy.lease_ms),
            Field::OnFailure => map.serialize_value(on_failure(policy.on_failure)),
            Field::RerunOnLoss => map.serialize_value(&policy.rerun_on_loss),
            Field::Retries => map.serialize_value(&policy.retries),
            Field::LostLimit => map.serialize_value(&policy.lost_limit),
            Field::Backoff => {
                map.serialize_value(&BackoffDoc { base_ms: policy.backoff_base_ms, cap_ms: policy.backoff_cap_ms })
            }
            Field::NoRetryAfterMs => map.serialize_value(&policy.no_retry_after_ms),
            Field::Attempts => map.serialize_value(&job.current_op().runs().attempts),
            Field::RetriesLeft => map.serialize_value(&job.retries_left(job.current())),
            Field::Lost => map.serialize_value(&job.current_op().runs().lost),
            Field::Worker => map.serialize_value(&job.lease().map(|lease| &lease.holder.worker)),
            Field::ReceivedAt => map.serialize_value(&job.received_at),
            Field::StartedAt => map.serialize_value(&job.started_at.time()),
            Field::EndedAt => map.serialize_value(&job.ended_at.time()),
            Field::ChangedAt => map.serialize_value(&job.changed_at),
            Field::Archived => map.serialize_value(&job.archived),
            Field::Version => map.serialize_value(&job.version),
            Field::LogSerial => map.serialize_value(&job.more().log_serial),
            Field::LogDropped => map.serialize_value(&job.more().log_dropped),
            Field::Ops => map.serialize_value(&OpsDoc(self)),
            Field::Reasons => map.serialize_value(&ReasonsDoc(self)),
            Field::Progress => map.serialize_value(&self.progress.as_ref().map(Raw)),
            Field::Checkpoint => map.serialize_value(&self.checkpoint.as_ref().map(Raw)),
            Field::ExitCode => map.serialize_value(&self.last_attempt().and_then(|attempt| attempt.exit_code)),
            Field::FailReason => {
                map.serialize_value(&self.last_attempt().and_then(|attempt| attempt.fail_reason.as_deref()))
            }
            Field::BlockedBy => map.serialize_value(&self.blocked_by),
            Field::HeldBy => map.serialize_value(&self.held_by),
            Field::ReadyAt => map.serialize_value(&self.ready_at),
            Field::Name
            | Field::Groups
            | Field::Needs
            | Field::Meta
            | Field::Comment
            | Field::SubmittedBy
            | Field::Parent
            | Field::KeepOutput => self.write_spec(field, map),
        }
    }

    /// Of the last op that had one of its own: ops behind one that failed have only its failure to tell.
    pub fn last_attempt(&self) -> Option<&Attempt> {
        let own = |attempt: &&Attempt| attempt.fail_reason.as_deref() != Some(PRECEDING_OP);
        self.attempts.values().rev().find_map(|attempts| attempts.iter().rev().find(own))
    }

    /// The fields that only the submitter wrote.
    fn write_spec<M: SerializeMap>(&self, field: Field, map: &mut M) -> Result<(), M::Error> {
        let Some(spec) = self.spec.as_deref() else { return map.serialize_value(&()) };
        match field {
            Field::Name => map.serialize_value(&spec.name),
            Field::Groups => map.serialize_value(&spec.groups),
            Field::Needs => map.serialize_value(&spec.needs.map(NeedsSpec::from)),
            Field::Meta => map.serialize_value(&spec.meta.as_ref().map(Raw)),
            Field::Comment => map.serialize_value(&spec.comment),
            Field::SubmittedBy => map.serialize_value(&spec.submitted_by),
            Field::Parent => map.serialize_value(&spec.parent),
            Field::KeepOutput => map.serialize_value(&spec.keep_output),
            _ => map.serialize_value(&()),
        }
    }
}

fn on_failure(what: OnFailure) -> &'static str {
    match what {
        OnFailure::Bury => "bury",
        OnFailure::Error => "error",
    }
}

#[derive(Serialize)]
struct BackoffDoc {
    base_ms: u64,
    cap_ms: u64,
}

struct OpsDoc<'a>(&'a JobParts);

impl Serialize for OpsDoc<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.job.ops.len()))?;
        for index in 0..self.0.job.ops.len() {
            list.serialize_element(&OpDoc { parts: self.0, index })?;
        }
        list.end()
    }
}

struct ReasonsDoc<'a>(&'a JobParts);

#[derive(Serialize)]
struct ReasonDoc<'a> {
    source: &'a str,
    text: &'a str,
    at_ms: WallMs,
}

impl Serialize for ReasonsDoc<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let received_at = self.0.job.received_at;
        let mut list = serializer.serialize_seq(Some(self.0.reasons.len()))?;
        for reason in &self.0.reasons {
            // A submitter's reason is as old as the job.
            let at_ms = if reason.at == WallMs(0) { received_at } else { reason.at };
            list.serialize_element(&ReasonDoc { source: &reason.source, text: &reason.text, at_ms })?;
        }
        list.end()
    }
}
