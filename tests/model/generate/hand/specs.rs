//! Specs, and the schedules that repeat them.

use std::sync::Arc;

use raftq::queue::{
    command::{Advance, Definition, ScheduleChange, Slot},
    ids::{Index, JobId, Priority, WallMs},
    job::{Depends, FinalStatuses, JobRef, Json, Needs, OnFailure, OpSpec, Payload, Policy, Reason, Spec, When},
    refusal::Refusal,
    schedule::{Missed, Next, Overlap, Timing},
};

use super::{Hand, KINDS, QUEUES, calls::text, free, limit_group, picked::id};
use crate::{
    generate::{
        schedules::ScheduleSeed,
        settings::Amounts,
        specs::{DependsSeed, Fault, OnSeed, OpSeed, SpecSeed},
    },
    reference::Model,
};

impl Hand {
    pub(super) fn schedule(&self, model: &Model, name: Arc<str>, seed: &ScheduleSeed) -> ScheduleChange {
        match seed {
            ScheduleSeed::Remove => ScheduleChange::Remove { name },
            ScheduleSeed::Pause(paused) => ScheduleChange::Pause { name, paused: *paused },
            ScheduleSeed::Run => ScheduleChange::Run { name },
            ScheduleSeed::Advance { .. } => ScheduleChange::Advance(self.advance(model, name, seed)),
            ScheduleSeed::Put { spec, every_ms, skip, paused, if_absent } => {
                // What cannot be decoded does not get as far as this.
                let fault = spec.fault.filter(|fault| !matches!(fault, Fault::Undecodable));
                let spec = self.spec(model, &SpecSeed { fault, ..SpecSeed::clone(spec) }).expect("it can be decoded");
                let (missed, overlap) = (Missed::Once, if *skip { Overlap::Skip } else { Overlap::Allow });
                let timing = Timing::Every { ms: *every_ms };
                let definition = Box::new(Definition { timing, missed, overlap, paused: *paused, spec });
                ScheduleChange::Put { name, definition, if_absent: *if_absent }
            }
        }
    }

    fn advance(&self, model: &Model, name: Arc<str>, seed: &ScheduleSeed) -> Advance {
        let ScheduleSeed::Advance { stale, age_ms, missed, next } = seed else { panic!("the caller has looked") };
        let now = self.clocks.wall;
        let (version, from) =
            model.schedules.get(&name).map_or((Index(0), Next::Unplanned), |it| (it.version, it.next));
        let at = WallMs(now.0.saturating_add_signed(-age_ms));
        let slot = Slot { at, text: "a time".into(), missed: *missed };
        Advance {
            name,
            version: if *stale { Index(version.0 + 1) } else { version },
            from,
            to: next.map_or(Next::Never, |ms| Next::Slot(WallMs(now.0 + ms))),
            slot: (from != Next::Unplanned).then_some(slot),
        }
    }

    pub(super) fn specs(&self, model: &Model, seeds: &[SpecSeed]) -> Vec<Result<Arc<Spec>, Refusal>> {
        seeds.iter().map(|seed| self.spec(model, seed)).collect()
    }

    fn spec(&self, model: &Model, seed: &SpecSeed) -> Result<Arc<Spec>, Refusal> {
        let mut spec = Spec {
            queue: QUEUES[seed.queue].into(),
            name: None,
            groups: seed.group.iter().map(|group| Arc::from(format!("g{group}"))).collect(),
            priority: seed.priority.map(Priority),
            unique: seed.unique.map(|unique| format!("u{unique}").into()),
            limits: seed.limit.iter().map(|(name, max)| (limit_group(*name), *max)).collect(),
            needs: seed.needs.as_ref().map(needs),
            policy: policy(seed),
            when: self.when(seed),
            meta: seed.says.then(|| Json("{\"team\": 3}".into())),
            comment: seed.says.then(|| "nightly".into()),
            reasons: seed.says.then(|| self.reason()).into_iter().collect(),
            keep_output: seed.says,
            batch_name: seed.batch_name.map(batch_name),
            environment: seed.environment.map(|number| number as u128),
            ops: seed.ops.iter().map(|op| op_spec(model, op)).collect(),
            submitted_by: None,
            parent: None,
        };
        if let Some(bytes) = seed.payload_bytes {
            spec.ops[0].payload = Payload::Args(Json(text(bytes)));
        }
        match seed.fault {
            None => {}
            Some(Fault::Undecodable) => return Err(Refusal::invalid("colour", "no such field")),
            Some(Fault::NoOps) => spec.ops.clear(),
            Some(Fault::TooManyOps) => spec.ops = vec![spec.ops[0].clone(); 101],
            Some(Fault::QueueName) => spec.queue = "-no".into(),
            Some(Fault::LeaseTooShort) => spec.policy.lease_ms = 99,
            Some(Fault::TooLarge) => spec.ops[0].payload = Payload::Args(Json(text(1 << 20))),
            Some(Fault::LeaseTooLong) => spec.policy.lease_ms = 86_400_001,
        }
        Ok(Arc::new(spec))
    }

    /// What an operator may change is changed, the rest stays as the job has it.
    pub(super) fn edited(&self, model: &Model, id: JobId, seed: &SpecSeed) -> Option<Arc<Spec>> {
        let old = &model.jobs.get(&id)?.spec;
        let mut new = Spec::clone(self.spec(model, seed).as_ref().ok()?);
        let ops = old.ops.iter().zip(new.ops.iter().cycle());
        new.ops = ops
            .map(|(old, new)| {
                let kind = if seed.retries > 1 { &new.kind } else { &old.kind };
                OpSpec { kind: kind.clone(), priority: new.priority, payload: new.payload.clone(), ..old.clone() }
            })
            .collect();
        Some(Arc::new(new))
    }

    fn reason(&self) -> Reason {
        Reason { source: "alice".into(), text: "asked by ops".into(), at: self.clocks.wall }
    }

    fn when(&self, seed: &SpecSeed) -> When {
        match (seed.delay_ms, seed.run_in_ms) {
            (Some(ms), _) => When::Delay(ms),
            (None, Some(ms)) => When::RunAt(WallMs(self.clocks.wall.0.saturating_add_signed(ms))),
            (None, None) => When::Now,
        }
    }
}

fn policy(seed: &SpecSeed) -> Policy {
    let on_failure = match seed.bury {
        None => Policy::for_ops(seed.ops.len()).on_failure,
        Some(true) => OnFailure::Bury,
        Some(false) => OnFailure::Error,
    };
    Policy {
        on_failure,
        rerun_on_loss: seed.rerun_on_loss,
        retries: seed.retries,
        lost_limit: seed.lost_limit,
        backoff_base_ms: seed.backoff.0,
        backoff_cap_ms: seed.backoff.1,
        no_retry_after_ms: seed.no_retry_after_ms,
        lease_ms: seed.lease_ms,
        needs_override: seed.needs_override,
        resource_group: seed.resource_group.map(|group| format!("rg{group}").into()),
    }
}

fn needs(amounts: &Amounts) -> Needs {
    let free = free(amounts);
    Needs {
        cores_milli: free.cores_milli.unwrap_or_default() as u32,
        ram_mb: free.ram_mb.unwrap_or_default(),
        disk_mb: free.disk_mb.unwrap_or_default(),
        time_s: free.time_s.unwrap_or_default(),
    }
}

fn op_spec(model: &Model, seed: &OpSeed) -> OpSpec {
    let depends = |seed: &DependsSeed| Depends {
        on: match seed.on {
            OnSeed::Job(pick) => JobRef::Id(id(model, pick)),
            OnSeed::Back(back) => JobRef::Back(back),
            OnSeed::Named(name) => JobRef::Named(batch_name(name)),
        },
        accept: FinalStatuses {
            success: seed.accept & 1 > 0,
            error: seed.accept & 2 > 0,
            canceled: seed.accept & 4 > 0,
        },
    };
    OpSpec {
        kind: KINDS[seed.kind].into(),
        payload: Payload::Args(Json("{}".into())),
        priority: seed.priority.map(Priority),
        depends: seed.depends.iter().map(depends).collect(),
    }
}

fn batch_name(number: usize) -> Box<str> {
    format!("member{number}").into()
}
