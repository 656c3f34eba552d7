//! Submission: a batch, or a lone spec.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    decode::{decode, is_object},
    error::ErrorBody,
    spec::Spec,
};
use crate::queue::{applied::Submitted, ids::JobId, job, refusal::Refusal};

/// What a client sends.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmitRequest {
    pub jobs: Vec<Spec>,
    #[serde(default)]
    pub atomic: bool,
}

/// A decoded submission. What could not be read stands in its place with its refusal.
#[derive(Debug)]
pub struct Submission {
    pub jobs: Vec<Result<Arc<job::Spec>, Refusal>>,
    pub atomic: bool,
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
}

/// Only looks whether it is a batch.
#[derive(Deserialize)]
struct Probe<'a> {
    #[serde(borrow)]
    jobs: Option<&'a RawValue>,
}

/// Decode either form. A refusal here is about the whole body: no JSON, or a field beside `jobs` that is unknown.
pub fn decode_submission(body: &[u8]) -> Result<Submission, Refusal> {
    if !is_object(body) {
        return Err(Refusal::invalid("body", "send a JSON object: a spec, or {\"jobs\": [specs]}"));
    }
    if let Ok(request) = serde_json::from_slice::<SubmitRequest>(body) {
        let jobs = request.jobs.into_iter().map(|spec| spec.into_queue().map(Arc::new)).collect();
        return Ok(Submission { jobs, atomic: request.atomic, lone: false });
    }
    match serde_json::from_slice::<Probe<'_>>(body) {
        Ok(Probe { jobs: Some(_) }) => decode_batch(body),
        // A body that is no JSON object is explained by the decoder of a spec.
        _ => decode_lone(body),
    }
}

/// At least one member is wrong: read them one by one.
fn decode_batch(body: &[u8]) -> Result<Submission, Refusal> {
    let batch: Batch<'_> = match serde_json::from_slice(body) {
        Ok(batch) => batch,
        Err(_) => {
            return Err(decode::<SubmitRequest>(body)
                .err()
                .unwrap_or(Refusal::invalid("jobs", "jobs is a list of specs")));
        }
    };
    let jobs = batch.jobs.into_iter().map(|raw| decode_spec(raw.get().as_bytes())).collect();
    Ok(Submission { jobs, atomic: batch.atomic, lone: false })
}

fn decode_lone(body: &[u8]) -> Result<Submission, Refusal> {
    let spec = decode::<Spec>(body)?;
    Ok(Submission { jobs: vec![spec.into_queue().map(Arc::new)], atomic: false, lone: true })
}

/// One spec, as a member of a batch or a child in a finish.
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
