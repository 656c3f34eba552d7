//! From a spec as written to a spec as kept.
//!
//! Shape is checked here: which fields go together, what an op's args must look like. Ranges, names and counts are checked by
//! the core at its door, since other doors lead there too.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    raw::take_in,
    spec::{Body, Depends, NeedsSpec, OpSpec, Spec},
};
use crate::args::{ExecArgs, SleepArgs};
use crate::queue::{
    ids::WallMs,
    job::{self, Json, KIND_EXEC, KIND_SLEEP, Needs, Payload, Policy, QUEUE_DEFAULT, Reason, When},
    refusal::Refusal,
};

/// The kind of an op that says `body` and nothing else.
pub const KIND_BODY: &str = "body";

/// Who wrote a reason that came with a submission.
const REASON_SOURCE: &str = "submit";

impl Spec {
    /// The spec as the core keeps it. Fields in refusals are as written, from the job on: `ops[1].argv`.
    pub fn into_queue(mut self) -> Result<job::Spec, Refusal> {
        if self.environment.is_some() {
            return Err(Refusal::invalid("environment", "only a submission brings an environment along"));
        }
        let written = self.take_ops()?;
        let short = self.ops.is_none();
        let mut ops = Vec::with_capacity(written.len());
        for (index, op) in written.into_iter().enumerate() {
            ops.push(op.into_queue().map_err(|(field, message)| match short {
                true => Refusal::invalid(field, message),
                false => Refusal::invalid(format!("ops[{index}].{field}"), message),
            })?);
        }
        self.add_job_depends(&mut ops)?;
        let policy = self.policy(ops.len());
        let when = self.when()?;
        let limits = self.limits.iter().map(|text| limit(text)).collect::<Result<_, _>>()?;
        Ok(job::Spec {
            queue: self.queue.unwrap_or_else(|| QUEUE_DEFAULT.into()),
            name: self.name,
            groups: self.groups.into_iter().collect::<BTreeSet<_>>(),
            priority: self.priority.map(Into::into),
            unique: self.unique,
            limits,
            needs: self.needs.map(Needs::from),
            policy,
            when,
            meta: self.meta.map(meta).transpose()?,
            comment: self.comment,
            reasons: self.reason.into_iter().map(reason).collect(),
            keep_output: self.keep_output.unwrap_or(false),
            batch_name: self.batch_name,
            environment: None,
            ops,
            submitted_by: None,
            parent: None,
        })
    }

    /// The ops as written: the list, or the one that the job's own fields describe.
    fn take_ops(&mut self) -> Result<Vec<OpSpec>, Refusal> {
        let short = self.short_form();
        match (&mut self.ops, short) {
            (Some(_), Some(field)) => {
                Err(Refusal::invalid(field, "give this in an op, or leave `ops` out to make a job of one op"))
            }
            (Some(ops), None) if ops.is_empty() => Err(Refusal::invalid("ops", "a job has at least one op")),
            // An emptied list, not None, marks that the long form was used.
            (Some(ops), None) => Ok(std::mem::take(ops)),
            (None, None) => {
                Err(Refusal::invalid("ops", "a job has at least one op: give ops, or one of argv, shell, sleep, body"))
            }
            (None, Some(_)) => Ok(vec![self.take_short_op()]),
        }
    }

    /// The first field present that belongs to an op.
    fn short_form(&self) -> Option<&'static str> {
        let present = [
            ("argv", self.argv.is_some()),
            ("shell", self.shell.is_some()),
            ("sleep", self.sleep.is_some()),
            ("body", self.body.is_some()),
            ("args", self.args.is_some()),
            ("kind", self.kind.is_some()),
            ("cwd", self.cwd.is_some()),
            ("env", self.env.is_some()),
            ("stdin_file", self.stdin_file.is_some()),
            ("timeout_s", self.timeout_s.is_some()),
            ("max_ram_mb", self.max_ram_mb.is_some()),
        ];
        present.into_iter().find_map(|(field, present)| present.then_some(field))
    }

    fn take_short_op(&mut self) -> OpSpec {
        OpSpec {
            kind: self.kind.take(),
            priority: None,
            depends: Vec::new(),
            args: self.args.take(),
            body: self.body.take(),
            argv: self.argv.take(),
            shell: self.shell.take(),
            cwd: self.cwd.take(),
            env: self.env.take(),
            stdin_file: self.stdin_file.take(),
            timeout_s: self.timeout_s.take(),
            max_ram_mb: self.max_ram_mb,
            sleep: self.sleep.take(),
        }
    }

    /// Dependencies at job level mean op 0.
    fn add_job_depends(&mut self, ops: &mut [job::OpSpec]) -> Result<(), Refusal> {
        if self.depends.is_empty() {
            return Ok(());
        }
        if !ops[0].depends.is_empty() {
            return Err(Refusal::invalid("depends", "give the first op's dependencies in one place"));
        }
        ops[0].depends = std::mem::take(&mut self.depends).into_iter().map(Into::into).collect();
        Ok(())
    }

    fn policy(&self, ops: usize) -> Policy {
        let default = Policy::for_ops(ops);
        let backoff = self.backoff.unwrap_or_default();
        Policy {
            on_failure: self.on_failure.unwrap_or(default.on_failure),
            rerun_on_loss: self.rerun_on_loss.unwrap_or(default.rerun_on_loss),
            retries: self.retries.unwrap_or(default.retries),
            lost_limit: self.lost_limit.unwrap_or(default.lost_limit),
            backoff_base_ms: backoff.base_ms.unwrap_or(default.backoff_base_ms),
            backoff_cap_ms: backoff.cap_ms.unwrap_or(default.backoff_cap_ms),
            no_retry_after_ms: self.no_retry_after_ms,
            lease_ms: self.lease_ms.unwrap_or(default.lease_ms),
            needs_override: self.needs_override.unwrap_or(default.needs_override),
            resource_group: self.resource_group.clone(),
        }
    }

    fn when(&self) -> Result<When, Refusal> {
        match (self.delay_ms, self.run_at_ms) {
            (Some(_), Some(_)) => Err(Refusal::invalid("run_at_ms", "give delay_ms or run_at_ms, not both")),
            (Some(0) | None, None) => Ok(When::Now),
            (Some(delay), None) => Ok(When::Delay(delay)),
            (None, Some(at)) => Ok(When::RunAt(WallMs(at))),
        }
    }
}

/// `"etl:5"` is group etl, created with room for 5 if it is absent. The last colon separates, always: what looks like a limit
/// that was mistyped would else become a group of its own, without a limit. A name with a colon of its own says its room too.
fn limit(text: &str) -> Result<(std::sync::Arc<str>, Option<u32>), Refusal> {
    let Some((name, max)) = text.rsplit_once(':') else { return Ok((text.into(), None)) };
    match max.parse() {
        Ok(max) => Ok((name.into(), Some(max))),
        Err(_) => {
            let message = format!("`{text}`: a limit is NAME or NAME:MAX, and `{max}` is no whole number from 0");
            Err(Refusal::invalid("limits", message))
        }
    }
}

fn meta(raw: Box<RawValue>) -> Result<Json, Refusal> {
    match raw.get().starts_with('{') {
        true => take_in(raw).map_err(|message| Refusal::invalid("meta", message)),
        false => Err(Refusal::invalid("meta", "meta is a JSON object")),
    }
}

/// The core stamps the time when it takes the job in.
fn reason(text: Box<str>) -> Reason {
    Reason { source: REASON_SOURCE.into(), text, at: WallMs(0) }
}

impl From<NeedsSpec> for Needs {
    fn from(needs: NeedsSpec) -> Self {
        Self {
            // `Cores` ends at 4 000 000, so thousandths fit.
            cores_milli: u32::try_from(needs.cores.milli).unwrap_or(u32::MAX),
            ram_mb: needs.ram_mb,
            disk_mb: needs.disk_mb,
            time_s: needs.time_s,
        }
    }
}

impl From<Needs> for NeedsSpec {
    fn from(needs: Needs) -> Self {
        Self {
            cores: super::Cores { milli: needs.cores_milli.into() },
            ram_mb: needs.ram_mb,
            disk_mb: needs.disk_mb,
            time_s: needs.time_s,
        }
    }
}

impl From<Depends> for job::Depends {
    fn from(depends: Depends) -> Self {
        Self { on: depends.on, accept: depends.accept }
    }
}

type FieldFault = (String, String);

fn fault(field: &str, message: impl Into<String>) -> FieldFault {
    (field.to_owned(), message.into())
}

impl OpSpec {
    fn into_queue(mut self) -> Result<job::OpSpec, FieldFault> {
        let depends = std::mem::take(&mut self.depends).into_iter().map(Into::into).collect();
        let priority = self.priority.map(Into::into);
        let (kind, payload) = self.payload()?;
        Ok(job::OpSpec { kind, payload, priority, depends })
    }

    fn payload(mut self) -> Result<(std::sync::Arc<str>, Payload), FieldFault> {
        let inline = self.inline_kind();
        let kind = match (self.kind.take(), inline) {
            (Some(kind), _) if kind.is_empty() => return Err(fault("kind", "a kind has a name")),
            (Some(kind), None) => kind,
            (Some(kind), Some((implied, _))) if &*kind == implied => kind,
            (Some(kind), Some((_, field))) => {
                return Err(fault(field, format!("an op of kind {kind} takes args or body")));
            }
            (None, Some((implied, _))) => implied.into(),
            (None, None) if self.body.is_some() => KIND_BODY.into(),
            (None, None) => return Err(fault("kind", "give a kind, or one of argv, shell, sleep, body")),
        };
        let payload = match &*kind {
            KIND_EXEC => self.exec_payload()?,
            KIND_SLEEP => self.sleep_payload()?,
            _ => self.opaque_payload()?,
        };
        Ok((kind, payload))
    }

    /// The built-in kind whose fields stand in the op itself, and the first such field.
    fn inline_kind(&self) -> Option<(&'static str, &'static str)> {
        let exec = [
            ("argv", self.argv.is_some()),
            ("shell", self.shell.is_some()),
            ("cwd", self.cwd.is_some()),
            ("env", self.env.is_some()),
            ("stdin_file", self.stdin_file.is_some()),
            ("timeout_s", self.timeout_s.is_some()),
            ("max_ram_mb", self.max_ram_mb.is_some()),
        ];
        match exec.into_iter().find(|(_, present)| *present) {
            Some((field, _)) => Some((KIND_EXEC, field)),
            None => self.sleep.is_some().then_some((KIND_SLEEP, "sleep")),
        }
    }

    fn exec_payload(self) -> Result<Payload, FieldFault> {
        self.refuse("body", self.body.is_some(), KIND_EXEC)?;
        self.refuse("sleep", self.sleep.is_some(), KIND_EXEC)?;
        if let (Some(_), Some((_, field))) = (&self.args, self.inline_kind()) {
            return Err(fault(field, "give this inside args, or leave args out"));
        }
        if let Some(args) = self.args {
            let checked: ExecArgs = decode_args(&args)?;
            checked.check().map_err(|(field, message)| fault(&format!("args.{field}"), message))?;
            return kept_args(args);
        }
        let args = ExecArgs {
            argv: self.argv,
            shell: self.shell,
            cwd: self.cwd,
            env: self.env,
            stdin_file: self.stdin_file,
            timeout_s: self.timeout_s,
            max_ram_mb: self.max_ram_mb,
        };
        args.check().map_err(|(field, message)| fault(field, message))?;
        Ok(encode_args(&args))
    }

    fn sleep_payload(self) -> Result<Payload, FieldFault> {
        self.refuse("body", self.body.is_some(), KIND_SLEEP)?;
        match (self.args, self.sleep) {
            (Some(_), Some(_)) => Err(fault("sleep", "give the seconds in args or in sleep, not both")),
            (Some(args), None) => {
                let checked: SleepArgs = decode_args(&args)?;
                checked.check().map_err(|(field, message)| fault(&format!("args.{field}"), message))?;
                kept_args(args)
            }
            (None, Some(seconds)) => {
                let args = SleepArgs { seconds };
                args.check().map_err(|(_, message)| fault("sleep", message))?;
                Ok(encode_args(&args))
            }
            (None, None) => Err(fault("args", "a sleep op needs {\"seconds\": n}")),
        }
    }

    fn opaque_payload(self) -> Result<Payload, FieldFault> {
        match (self.args, self.body) {
            (Some(_), Some(_)) => Err(fault("body", "give args or body, not both")),
            (Some(args), None) => kept_args(args),
            (None, Some(Body::Text(text))) => Ok(Payload::Text(text)),
            (None, Some(Body::Binary(bytes))) => Ok(Payload::Binary(Bytes::from(bytes))),
            (None, None) => Ok(Payload::Args(Json("null".into()))),
        }
    }

    fn refuse(&self, field: &str, present: bool, kind: &str) -> Result<(), FieldFault> {
        match present {
            true => Err(fault(field, format!("an op of kind {kind} has no {field}"))),
            false => Ok(()),
        }
    }
}

fn decode_args<T: serde::de::DeserializeOwned>(args: &RawValue) -> Result<T, FieldFault> {
    super::decode::decode(args.get().as_bytes()).map_err(|refusal| match refusal {
        Refusal::Invalid { field, message } if &*field == "body" => fault("args", message),
        Refusal::Invalid { field, message } => fault(&format!("args.{field}"), message),
        other => fault("args", other.to_string()),
    })
}

fn kept_args(args: Box<RawValue>) -> Result<Payload, FieldFault> {
    take_in(args).map(Payload::Args).map_err(|message| fault("args", message))
}

fn encode_args<T: serde::Serialize>(args: &T) -> Payload {
    let text = serde_json::to_string(args).expect("strings, numbers and maps of strings always encode");
    Payload::Args(Json(text.into()))
}
