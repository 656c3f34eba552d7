//! From a spec as kept back to a spec as written, and that with some fields changed.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{
    decode::{decode, is_object},
    raw::raw_value,
    spec::{Backoff, Body, Depends, NeedsSpec, OpSpec, Spec},
};
use crate::queue::{
    ids::Index,
    job::{self, KIND_EXEC, KIND_SLEEP, Payload, When},
    refusal::Refusal,
};

/// A JSON merge patch over a spec: a field replaces, `null` takes away. Fields of a job's only op may be given at the job, as
/// in a submission. Beside the fields of a spec it has `version`: the job must still be at it.
pub struct Patch {
    changes: Fields,
    pub version: Option<Index>,
}

impl Patch {
    pub fn read(text: &[u8]) -> Result<Self, Refusal> {
        let mut changes = patch_fields(text)?;
        let version = changes.remove("version").map(|version| {
            let number: Result<u64, _> = serde_json::from_str(version.get());
            number.map(Index).map_err(|_| Refusal::invalid("version", "give the job's version as you read it"))
        });
        match UNCHANGEABLE.iter().find(|field| changes.contains_key(**field)) {
            Some(field) => Err(cannot_be_edited(field)),
            None => Ok(Self { changes, version: version.transpose()? }),
        }
    }

    pub fn over(self, old: &job::Spec) -> Result<job::Spec, Refusal> {
        let mut fields = written_fields(old);
        if self.changes.contains_key("ops") {
            SHORT_FORM.iter().for_each(|field| drop(fields.remove(*field)));
        }
        for (one, other) in [("argv", "shell"), ("shell", "argv"), ("delay_ms", "run_at_ms"), ("run_at_ms", "delay_ms")]
        {
            if self.changes.contains_key(one) {
                fields.remove(other);
            }
        }
        for (field, value) in self.changes {
            match value.get() {
                "null" => drop(fields.remove(&field)),
                _ => drop(fields.insert(field, value)),
            }
        }
        let text = serde_json::to_vec(&fields).expect("JSON text encodes");
        let mut new = decode::<Spec>(&text)?.into_queue()?;
        let reasons = std::mem::take(&mut new.reasons);
        new.reasons = old.reasons.iter().cloned().chain(reasons).collect();
        (new.environment, new.batch_name) = (old.environment, old.batch_name.clone());
        (new.submitted_by, new.parent) = (old.submitted_by.clone(), old.parent);
        if new.when != old.when {
            return Err(cannot_be_edited(if matches!(new.when, When::RunAt(_)) { "run_at_ms" } else { "delay_ms" }));
        }
        Ok(new)
    }
}

/// Of a submission, and not of the job that it made.
const UNCHANGEABLE: [&str; 2] = ["as", "environment"];

fn cannot_be_edited(field: &str) -> Refusal {
    Refusal::invalid(field, "cannot be edited; submit a new job, or kick this one to run it now")
}

/// Fields that describe a job's only op.
const SHORT_FORM: [&str; 12] = [
    "kind",
    "args",
    "body",
    "argv",
    "shell",
    "cwd",
    "env",
    "stdin_file",
    "timeout_s",
    "max_ram_mb",
    "sleep",
    "depends",
];

/// Values as text, so that user JSON comes out of an edit of another field as it went in.
type Fields = BTreeMap<String, Box<RawValue>>;

fn patch_fields(patch: &[u8]) -> Result<Fields, Refusal> {
    if !is_object(patch) {
        return Err(Refusal::invalid("body", "send a JSON object with the fields to change"));
    }
    serde_json::from_slice(patch).map_err(|error| Refusal::invalid("body", format!("this is not JSON: {error}")))
}

fn written_fields(spec: &job::Spec) -> Fields {
    let written = serde_json::to_vec(&Spec::from(spec)).expect("a spec is plain JSON");
    let mut fields: Fields = serde_json::from_slice(&written).expect("a structure is an object");
    if spec.ops.len() == 1
        && let Some(ops) = fields.remove("ops")
    {
        let ops: Vec<Fields> = serde_json::from_str(ops.get()).expect("ops are a list of objects");
        fields.extend(ops.into_iter().flatten());
    }
    fields
}

impl From<&job::Spec> for Spec {
    fn from(spec: &job::Spec) -> Self {
        let policy = &spec.policy;
        let (delay_ms, run_at_ms) = match spec.when {
            When::Now => (None, None),
            When::Delay(delay) => (Some(delay), None),
            When::RunAt(at) => (None, Some(at.0)),
        };
        Self {
            queue: Some(spec.queue.clone()),
            name: spec.name.clone(),
            groups: spec.groups.iter().cloned().collect(),
            resource_group: policy.resource_group.clone(),
            priority: spec.priority.map(Into::into),
            unique: spec.unique.clone(),
            limits: spec.limits.iter().map(limit).collect(),
            needs: spec.needs.map(NeedsSpec::from),
            needs_override: Some(policy.needs_override),
            lease_ms: Some(policy.lease_ms),
            on_failure: Some(policy.on_failure),
            rerun_on_loss: Some(policy.rerun_on_loss),
            retries: Some(policy.retries),
            lost_limit: Some(policy.lost_limit),
            backoff: Some(Backoff { base_ms: Some(policy.backoff_base_ms), cap_ms: Some(policy.backoff_cap_ms) }),
            no_retry_after_ms: policy.no_retry_after_ms,
            delay_ms,
            run_at_ms,
            meta: spec.meta.as_ref().and_then(raw_value),
            comment: spec.comment.clone(),
            keep_output: Some(spec.keep_output),
            ops: Some(spec.ops.iter().map(OpSpec::from).collect()),
            ..Self::default()
        }
    }
}

fn limit((name, max): &(std::sync::Arc<str>, Option<u32>)) -> Box<str> {
    match max {
        Some(max) => format!("{name}:{max}").into(),
        None => (**name).into(),
    }
}

impl From<&job::OpSpec> for OpSpec {
    /// The built-in kinds with their fields in the op, so that one of them can be changed alone.
    fn from(op: &job::OpSpec) -> Self {
        let depends = op.depends.iter().map(|on| Depends { on: on.on.clone(), accept: on.accept }).collect();
        let common =
            Self { kind: Some(op.kind.clone()), priority: op.priority.map(Into::into), depends, ..Self::default() };
        match (&*op.kind, &op.payload) {
            (KIND_EXEC, Payload::Args(args)) => match serde_json::from_str::<Self>(&args.0) {
                Ok(fields) => Self { kind: common.kind, priority: common.priority, depends: common.depends, ..fields },
                Err(_) => Self { args: raw_value(args), ..common },
            },
            (KIND_SLEEP, Payload::Args(args)) => match serde_json::from_str::<super::SleepArgs>(&args.0) {
                Ok(sleep) => Self { sleep: Some(sleep.seconds), ..common },
                Err(_) => Self { args: raw_value(args), ..common },
            },
            (_, Payload::Args(args)) => Self { args: raw_value(args), ..common },
            (_, Payload::Text(text)) => Self { body: Some(Body::Text(text.clone())), ..common },
            (_, Payload::Binary(bytes)) => Self { body: Some(Body::Binary(bytes.to_vec())), ..common },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(text: &str) -> job::Spec {
        decode::<Spec>(text.as_bytes()).and_then(Spec::into_queue).unwrap_or_else(|refusal| panic!("{text}: {refusal}"))
    }

    fn patched(old: &job::Spec, patch: &str) -> Result<job::Spec, Refusal> {
        Patch::read(patch.as_bytes())?.over(old)
    }

    #[test]
    fn version_is_no_field_of_the_spec() {
        let patch = Patch::read(br#"{"version": 17, "cwd": "/b"}"#).unwrap();
        assert_eq!((patch.version, patch.changes.len()), (Some(Index(17)), 1));
        assert!(Patch::read(br#"{"version": "new"}"#).is_err());
    }

    #[test]
    fn spec_is_read_again_as_it_was_written() {
        for text in [
            r#"{"argv": ["a", "b"], "cwd": "/srv", "env": {"A": "b"}, "needs": {"cores": 0.5}, "limits": ["x:2", "y"]}"#,
            r#"{"sleep": 0.5, "run_at_ms": 7, "priority": "low", "unique": "u"}"#,
            r#"{"body": {"base64": "AP8="}, "delay_ms": 5, "meta": {"a": 1}}"#,
            r#"{"ops": [{"kind": "x", "args": [1]}, {"shell": "true", "priority": 3, "depends": [[4, ["error"]]]}]}"#,
        ] {
            let old = stored(text);
            assert_eq!(patched(&old, "{}").unwrap(), old, "{text}");
        }
    }

    #[test]
    fn patch_replaces_fields_and_null_takes_away() {
        let old = stored(r#"{"argv": ["a"], "cwd": "/a", "retries": 1, "unique": "u", "reason": "first"}"#);
        let new = patched(&old, r#"{"cwd": "/b", "retries": 3, "unique": null, "reason": "second"}"#).unwrap();
        assert_eq!(new.ops[0].payload, Payload::Args(job::Json(r#"{"argv":["a"],"cwd":"/b"}"#.into())));
        assert_eq!((new.policy.retries, new.unique, new.reasons.len()), (3, None, 2));
        let shell = patched(&old, r#"{"shell": "true"}"#).unwrap();
        assert_eq!(shell.ops[0].payload, Payload::Args(job::Json(r#"{"shell":"true","cwd":"/a"}"#.into())));
        assert!(
            matches!(patched(&old, r#"{"colour": 1}"#), Err(Refusal::Invalid { field, .. }) if &*field == "colour")
        );
        assert!(patched(&old, "[]").is_err());
    }

    #[test]
    fn patch_of_what_stays_is_refused_by_name() {
        let old = stored(r#"{"argv": ["a"], "delay_ms": 5}"#);
        for (patch, name) in [
            (r#"{"delay_ms": 6}"#, "delay_ms"),
            (r#"{"delay_ms": null}"#, "delay_ms"),
            (r#"{"run_at_ms": 7}"#, "run_at_ms"),
            (r#"{"as": "x"}"#, "as"),
            (r#"{"environment": {}}"#, "environment"),
        ] {
            let refusal = patched(&old, patch);
            assert!(
                matches!(&refusal, Err(Refusal::Invalid { field, .. }) if &**field == name),
                "{patch}: {refusal:?}"
            );
        }
        assert!(patched(&old, r#"{"delay_ms": 5, "retries": 1}"#).is_ok());
    }
}
