//! One op of a job as clients see it, with its attempts.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::{json, value::RawValue};

use super::{Depends, job::JobParts, raw::Raw, verbs::StatusName};
use crate::queue::{
    ids::{JobId, LeaseId, WallMs},
    job::{Attempt, Generated, Json, OpResult, Payload},
};

pub(super) struct OpDoc<'a> {
    pub parts: &'a JobParts,
    pub index: usize,
}

impl Serialize for OpDoc<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let op = &self.parts.job.ops[self.index];
        let (number, runs) = (self.index as u32, op.runs());
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("index", &number)?;
        map.serialize_entry("kind", &op.kind)?;
        self.write_spec(&mut map)?;
        map.serialize_entry("priority", &op.priority)?;
        map.serialize_entry("status", &StatusName(op.status.status()))?;
        map.serialize_entry("result", &self.parts.results.get(&number).map(ResultDoc))?;
        map.serialize_entry("attempts", &runs.attempts)?;
        map.serialize_entry("retries_left", &self.parts.job.retries_left(self.index))?;
        map.serialize_entry("lost", &runs.lost)?;
        map.serialize_entry("started_at", &runs.reserved_at.time())?;
        map.serialize_entry("exec_at", &runs.exec_at.time())?;
        map.serialize_entry("ended_at", &runs.ended_at.time())?;
        if let Some(lease) = op.status.lease() {
            let holder = &lease.holder;
            map.serialize_entry("lease", &lease.id)?;
            map.serialize_entry("worker", &holder.worker)?;
            map.serialize_entry("host", &given(&holder.host))?;
            map.serialize_entry("pid", &Some(holder.pid).filter(|pid| *pid > 0))?;
        }
        let attempts = self.parts.attempts.get(&number).map_or(&[][..], Vec::as_slice);
        map.serialize_entry("history", &HistoryDoc(attempts))?;
        map.end()
    }
}

impl OpDoc<'_> {
    fn write_spec<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let spec = self.parts.spec.as_deref().and_then(|spec| spec.ops.get(self.index));
        let Some(spec) = spec else { return Ok(()) };
        match &spec.payload {
            Payload::Args(args) => map.serialize_entry("args", &Raw(args))?,
            Payload::Text(text) => map.serialize_entry("body", text)?,
            Payload::Binary(bytes) => map.serialize_entry("body", &json!({ "base64": STANDARD.encode(bytes) }))?,
        }
        let depends: Vec<_> = spec.depends.iter().map(|on| Depends { on: on.on.clone(), accept: on.accept }).collect();
        map.serialize_entry("depends", &depends)
    }
}

/// What an op's success left. Jobs that it brought along are told in the result itself (design 2.2, finish success).
pub(super) struct ResultDoc<'a>(pub &'a OpResult);

impl Serialize for ResultDoc<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let OpResult { result, jobs } = self.0;
        if jobs.is_empty() {
            return result.as_ref().map(Raw).serialize(serializer);
        }
        let mut map = serializer.serialize_map(None)?;
        match result.as_ref().map(|json| (json, object(json))) {
            None => {}
            Some((_, Some(fields))) => {
                for (name, value) in fields.iter().filter(|(name, _)| name.as_ref() != "jobs") {
                    map.serialize_entry(name, value)?;
                }
            }
            Some((json, None)) => map.serialize_entry("result", &Raw(json))?,
        }
        map.serialize_entry("jobs", &ChildrenDoc(jobs))?;
        map.end()
    }
}

/// The same, for answers that are built before they are written.
pub fn result_value(result: &OpResult) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(&ResultDoc(result)).ok()
}

fn object(json: &Json) -> Option<BTreeMap<Cow<'_, str>, &RawValue>> {
    serde_json::from_str(&json.0).ok()
}

/// `[true, id]` or `[false, {code, message}]`.
struct ChildrenDoc<'a>(&'a [Generated]);

impl Serialize for ChildrenDoc<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for child in self.0 {
            match child {
                Ok(id) => list.serialize_element::<(bool, JobId)>(&(true, *id))?,
                Err((code, message)) => {
                    list.serialize_element(&(false, json!({ "code": code, "message": message })))?;
                }
            }
        }
        list.end()
    }
}

/// A worker need not say where it is, and what never ran had none.
fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

struct HistoryDoc<'a>(&'a [Attempt]);

#[derive(Serialize)]
struct AttemptDoc<'a> {
    attempt: u32,
    lease: Option<LeaseId>,
    worker: Option<&'a str>,
    host: Option<&'a str>,
    pid: Option<u32>,
    started_at: Option<WallMs>,
    ended_at: Option<WallMs>,
    exit_code: Option<i32>,
    fail_reason: Option<&'a str>,
    error: Option<&'a str>,
    wall_ms: Option<u64>,
    cpu_ms: Option<u64>,
    peak_ram_mb: Option<u64>,
    stdout: Option<&'a str>,
    stderr: Option<&'a str>,
    shell: Option<&'a str>,
}

impl Serialize for HistoryDoc<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for attempt in self.0 {
            list.serialize_element(&AttemptDoc {
                attempt: attempt.number,
                lease: Some(attempt.lease).filter(|lease| lease.0 > 0),
                worker: given(&attempt.worker),
                host: given(&attempt.host),
                pid: Some(attempt.pid).filter(|pid| *pid > 0),
                started_at: attempt.started_at,
                ended_at: attempt.ended_at,
                exit_code: attempt.exit_code,
                fail_reason: attempt.fail_reason.as_deref(),
                error: attempt.error.as_deref(),
                wall_ms: attempt.wall_ms,
                cpu_ms: attempt.cpu_ms,
                peak_ram_mb: attempt.peak_ram_mb,
                stdout: attempt.stdout.as_deref(),
                stderr: attempt.stderr.as_deref(),
                shell: attempt.shell.as_deref(),
            })?;
        }
        list.end()
    }
}
