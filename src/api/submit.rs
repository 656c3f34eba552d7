//! Submission: a batch, or a lone spec.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    decode::{decode, is_object},
    error::ErrorBody,
    object,
    spec::Spec,
};
use crate::queue::{
    applied::Submitted,
    ids::JobId,
    job::{self, Json},
    refusal::Refusal,
};

/// What a client sends.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmitRequest {
    #[serde(deserialize_with = "object::list")]
    pub jobs: Vec<Spec>,
    #[serde(default)]
    pub atomic: bool,
    /// For every job that brings none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
}

pub(super) type Environment = BTreeMap<String, String>;

/// A decoded submission. What could not be read stands in its place with its refusal.
#[derive(Debug)]
pub struct Submission {
    pub jobs: Vec<Result<Arc<job::Spec>, Refusal>>,
    pub atomic: bool,
    /// Those that jobs name, by digest; to be kept before the jobs are submitted.
    pub environments: BTreeMap<u128, Json>,
    /// A spec on its own, not in a batch.
    pub lone: bool,
}

/// A batch whose members are not looked at yet, so that each is refused on its own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch<'a> {
    #[serde(borrow)]
    jobs: Vec<&'a RawValue>,
    #[serde(default)]
    atomic: bool,
    environment: Option<Environment>,
}

/// Only looks whether it is a batch: whether there is a field `jobs`, be it `null`.
#[derive(Deserialize)]
struct Probe<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    jobs: Option<&'a RawValue>,
}

fn present<'de, D: Deserializer<'de>>(jobs: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(jobs).map(Some)
}

/// Decode either form, of what `submitter` sends. A refusal here is about the whole body: no JSON, or a field beside `jobs`
/// that is unknown. The jobs are signed here, while they are nobody else's: the core would have to copy each to do it.
pub fn decode_submission(body: &[u8], submitter: &str) -> Result<Submission, Refusal> {
    if !is_object(body) {
        return Err(Refusal::invalid("body", "send a JSON object: a spec, or {\"jobs\": [specs]}"));
    }
    let lone = |spec: Spec| Submission { lone: true, ..Submission::of(std::iter::once(Ok(spec)), None, submitter) };
    // Most are read at once by what they begin with; a batch may begin with something else.
    if !begins_with_jobs(body)
        && let Ok(spec) = serde_json::from_slice(body)
    {
        return Ok(lone(spec));
    }
    if let Ok(request) = serde_json::from_slice::<SubmitRequest>(body) {
        let specs = request.jobs.into_iter().map(Ok);
        return Ok(Submission { atomic: request.atomic, ..Submission::of(specs, request.environment, submitter) });
    }
    match serde_json::from_slice::<Probe<'_>>(body) {
        Ok(Probe { jobs: Some(_) }) => decode_batch(body, submitter),
        // No JSON. The decoder of a spec would stop at a field `jobs` before it came to what is wrong.
        Err(_) => Err(decode::<serde::de::IgnoredAny>(body).err().unwrap_or(Refusal::invalid("jobs", "say jobs once"))),
        Ok(Probe { jobs: None }) => decode(body).map(lone),
    }
}

fn begins_with_jobs(body: &[u8]) -> bool {
    let inside = body.trim_ascii_start().get(1..).unwrap_or_default();
    inside.trim_ascii_start().starts_with(b"\"jobs\"")
}

/// At least one member is wrong: read them one by one.
fn decode_batch(body: &[u8], submitter: &str) -> Result<Submission, Refusal> {
    let batch: Batch<'_> = match serde_json::from_slice(body) {
        Ok(batch) => batch,
        Err(_) => {
            return Err(decode::<SubmitRequest>(body)
                .err()
                .unwrap_or(Refusal::invalid("jobs", "jobs is a list of specs")));
        }
    };
    let specs = batch.jobs.into_iter().map(|raw| decode::<Spec>(raw.get().as_bytes()));
    Ok(Submission { atomic: batch.atomic, ..Submission::of(specs, batch.environment, submitter) })
}

impl Submission {
    fn of(
        specs: impl Iterator<Item = Result<Spec, Refusal>>,
        environment: Option<Environment>,
        submitter: &str,
    ) -> Self {
        let mut environments = BTreeMap::new();
        let mut keep = |environment: &Environment| {
            let (digest, json) = kept(environment);
            environments.entry(digest).or_insert(json);
            digest
        };
        let common = environment.as_ref().map(&mut keep);
        let jobs = specs.map(|spec| {
            let mut spec = spec?;
            let own = spec.environment.take().as_ref().map(&mut keep);
            let environment = own.or(common);
            let submitted_by = Some(submitter.into());
            spec.into_queue().map(|spec| Arc::new(job::Spec { environment, submitted_by, ..spec }))
        });
        let jobs = jobs.collect();
        Self { jobs, atomic: false, environments, lone: false }
    }
}

/// Sorted names make equal environments equal text.
pub(super) fn kept(environment: &Environment) -> (u128, Json) {
    let text = serde_json::to_string(environment).expect("a map of strings encodes");
    (xxh3_128(text.as_bytes()), Json(text.into()))
}

/// One spec, as a child in a finish.
pub fn decode_spec(text: &[u8]) -> Result<Arc<job::Spec>, Refusal> {
    decode::<Spec>(text)?.into_queue().map(Arc::new)
}

/// What a client gets: one result for each job, in order.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SubmitAnswer {
    pub results: Vec<SubmitResult>,
    /// Of a lone spec that was refused: the same error once more, where every other failed request has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

/// `{"ok": true, "id", "existed"}` or `{"ok": false, "error"}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SubmitResult {
    pub ok: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<JobId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub existed: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

impl From<Result<Submitted, Refusal>> for SubmitResult {
    fn from(result: Result<Submitted, Refusal>) -> Self {
        match result {
            Ok(done) => Self { ok: true, id: Some(done.id), existed: Some(done.existed), error: None },
            Err(refusal) => Self { ok: false, id: None, existed: None, error: Some(refusal.into()) },
        }
    }
}
