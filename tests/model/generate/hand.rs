//! From an abstract step to a real request, in the situation the model is in.

use std::{collections::BTreeMap, sync::Arc};

use raftq::queue::{
    applied::Answer,
    command::{
        Advance, Autoarchive, CancelHow, Claim, Clocks, Command, Definition, Edit, Free, Key, LeaseAction, LeaseItem,
        PoolChange, Report, Request, ScheduleChange, SettingsChange, Slot, Wanted,
    },
    ids::{ClusterMs, Index, JobId, LeaseId, Priority, WallMs},
    job::{Depends, FinalStatuses, JobRef, Json, Needs, Office, OnFailure, OpSpec, Payload, Policy, Spec, When},
    refusal::Refusal,
    schedule::{Missed, Next, Overlap, Timing},
};

use super::steps::*;
use crate::reference::Model;

const KINDS: [&str; 3] = ["exec", "sleep", "etl.load"];
const QUEUES: [&str; 3] = ["default", "slow", "q.$3"];
const REASONS: [&str; 13] = [
    "exit_nonzero",
    "signal",
    "ram",
    "time",
    "not_executable",
    "not_found",
    "invalid_exit",
    "cwd_missing",
    "env_invalid",
    "start_failed",
    "resources_impossible",
    "interrupted",
    "disk on fire",
];

/// Remembers what was asked and granted, so that it can be asked again, late, or by the wrong one.
#[derive(Clone, Debug)]
pub struct Hand {
    clocks: Clocks,
    office: Office,
    keyed: Vec<Request>,
    /// Bodies so far.
    digests: u128,
    next_number: BTreeMap<usize, u64>,
    granted: Vec<(JobId, LeaseId)>,
    calls: Vec<LeaseItem>,
    cursor: Option<(WallMs, JobId)>,
}

impl Hand {
    pub fn new() -> Self {
        Self {
            clocks: Clocks { cluster: ClusterMs(1_000), wall: WallMs(1_700_000_000_000) },
            office: Office { term: 1, node: 1, incarnation: 11 },
            keyed: Vec::new(),
            digests: 0,
            next_number: BTreeMap::new(),
            granted: Vec::new(),
            calls: Vec::new(),
            cursor: None,
        }
    }

    /// The clocks of the next entry and who leads.
    pub fn begin(&mut self, seed: &EntrySeed) -> (Clocks, Office) {
        self.clocks.cluster = self.clocks.cluster.after(seed.cluster_ms);
        self.clocks.wall =
            WallMs(self.clocks.wall.0.saturating_add(seed.cluster_ms).saturating_add_signed(seed.wall_ms));
        match seed.office {
            OfficeSeed::Same => return (self.clocks, self.office),
            OfficeSeed::Reelected => {}
            OfficeSeed::OtherNode(node) => self.office.node = node,
            OfficeSeed::Restarted => self.office.incarnation += 1,
        }
        self.office.term += 1;
        (self.clocks, self.office)
    }

    pub fn request(&mut self, model: &Model, key: KeySeed, step: &Step) -> Request {
        // What the leader proposes by itself has no key.
        let key = if let Step::Tick { .. } = step { KeySeed::None } else { key };
        if let KeySeed::Again { pick } | KeySeed::Conflict { pick } = key
            && let Some(earlier) = recent(&self.keyed, pick)
        {
            let mut request = earlier.clone();
            if let KeySeed::Conflict { .. } = key {
                request.command = self.command(model, step);
                request.key.as_mut().expect("it was kept for its key").digest = self.digest();
            }
            return request;
        }
        let request = Request { principal: "alice".into(), key: self.key(key), command: self.command(model, step) };
        if request.key.is_some() {
            self.keyed.push(request.clone());
        }
        request
    }

    /// Remembers what came of a request.
    pub fn answered(&mut self, answer: &Answer) {
        let claimed = match answer {
            Answer::Claimed(claimed) | Answer::Leases { claimed, .. } => claimed,
            Answer::Archived { next, .. } => return self.cursor = *next,
            _ => return,
        };
        self.granted.extend(claimed.iter().flatten().map(|claimed| (claimed.job, claimed.lease)));
    }

    fn key(&mut self, seed: KeySeed) -> Option<Key> {
        let mut next = |name: usize, by: u64| {
            let number = self.next_number.entry(name).or_default();
            *number += by + 1;
            (name, *number - 1)
        };
        let (name, number) = match seed {
            KeySeed::None | KeySeed::Again { .. } | KeySeed::Conflict { .. } => return None,
            KeySeed::Next { name } => next(name, 0),
            KeySeed::Skip { name, by } => next(name, by),
            KeySeed::Number { name, number } => (name, number),
        };
        // Every request is its own body here: what repeats one is drawn as a repeat.
        Some(Key { name: format!("client{name}").into(), number, digest: self.digest() })
    }

    fn digest(&mut self) -> u128 {
        self.digests += 1;
        self.digests
    }

    fn command(&mut self, model: &Model, step: &Step) -> Command {
        match step {
            Step::Tick { hold_wall } => Command::Tick { hold_wall: *hold_wall },
            Step::Submit { specs, atomic } => Command::Submit { jobs: self.specs(model, specs), atomic: *atomic },
            Step::Claim(seed) => Command::Claim(claim(model, seed)),
            Step::Leases { items, claim: seed } => Command::Leases {
                items: items.iter().map(|item| self.item(model, item)).collect(),
                claim: seed.as_ref().map(|seed| claim(model, seed)),
            },
            Step::Cancel { picks, how } => {
                let how = [CancelHow::Waiting, CancelHow::Kill, CancelHow::AfterOp][*how as usize];
                Command::Cancel { ids: ids(model, picks), how, reason: None }
            }
            Step::Kick(picks) => Command::Kick { ids: ids(model, picks) },
            Step::Bury(picks) => Command::Bury { ids: ids(model, picks), reason: None },
            Step::Priority { picks, priority } => {
                Command::Priority { ids: ids(model, picks), priority: Priority(*priority) }
            }
            Step::Archive(picks) => Command::Archive { ids: ids(model, picks) },
            Step::Autoarchive { age_ms, limit, follow } => {
                let after = self.cursor.filter(|_| *follow);
                Command::Autoarchive(Autoarchive { age_ms: *age_ms, limit: *limit, after })
            }
            Step::Delete(picks) => Command::Delete { ids: ids(model, picks) },
            Step::KickPiece(picks) => {
                let ids = ids(model, picks);
                let next = ids.last().copied();
                Command::Piece { command: Box::new(Command::Kick { ids: ids.clone() }), ids, next }
            }
            Step::Edit { pick, to, read } => {
                let id = id(model, *pick);
                let spec = to.as_ref().and_then(|seed| self.edited(model, id, seed));
                let edit = Command::Edit { id, edit: Box::new(Edit { spec }) };
                let Some(read) = read else { return edit };
                let now = model.jobs.get(&id).map_or(Index(0), |job| job.version);
                let version = if *read { now } else { Index(now.0 + 1) };
                Command::IfVersion { id, version, command: Box::new(edit) }
            }
            Step::Drain { drained, reason } => {
                Command::Drain { drained: *drained, reason: reason.then(|| "upgrade".into()) }
            }
            Step::Pause { queue, paused } => {
                Command::Pause { queue: queue.map(|queue| QUEUES[queue].into()), paused: *paused }
            }
            Step::PoolSize(size) => {
                Command::Pool(PoolChange { size: Some(*size), active: Some(*size > 0), queues: None })
            }
            Step::Limit { name, max } => Command::Limit { name: limit_group(*name), max: *max },
            Step::LiveMax(max) => {
                Command::Settings(SettingsChange { live_jobs_max: Some(*max), ..SettingsChange::default() })
            }
            Step::ArchiveAfter(ms) => {
                Command::Settings(SettingsChange { archive_after_ms: Some(*ms), ..SettingsChange::default() })
            }
            Step::DeleteAfter(ms) => {
                Command::Settings(SettingsChange { delete_after_ms: Some(*ms), ..SettingsChange::default() })
            }
            Step::Schedule { name, change } => {
                Command::Schedule(self.schedule(model, format!("s{name}").into(), change))
            }
            Step::PoolTimeout(ms) => {
                Command::Settings(SettingsChange { pool_timeout_ms: Some(*ms), ..SettingsChange::default() })
            }
        }
    }

    fn schedule(&self, model: &Model, name: Arc<str>, seed: &ScheduleSeed) -> ScheduleChange {
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

    fn specs(&self, model: &Model, seeds: &[SpecSeed]) -> Vec<Result<Arc<Spec>, Refusal>> {
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
            needs: seed.needs.map(|size| Needs { cores_milli: 0, ram_mb: size * 100, disk_mb: 0, time_s: 0 }),
            policy: policy(seed),
            when: self.when(seed),
            meta: None,
            comment: None,
            reasons: Vec::new(),
            keep_output: false,
            batch_name: seed.batch_name.map(batch_name),
            environment: None,
            ops: seed.ops.iter().map(|op| op_spec(model, op)).collect(),
            submitted_by: None,
            parent: None,
        };
        match seed.fault {
            None => {}
            Some(Fault::Undecodable) => return Err(Refusal::invalid("colour", "no such field")),
            Some(Fault::NoOps) => spec.ops.clear(),
            Some(Fault::TooManyOps) => spec.ops = vec![spec.ops[0].clone(); 101],
            Some(Fault::QueueName) => spec.queue = "-no".into(),
            Some(Fault::LeaseTooShort) => spec.policy.lease_ms = 99,
            Some(Fault::LeaseTooLong) => spec.policy.lease_ms = 86_400_001,
        }
        Ok(Arc::new(spec))
    }

    /// What an operator may change is changed, the rest stays as the job has it.
    fn edited(&self, model: &Model, id: JobId, seed: &SpecSeed) -> Option<Arc<Spec>> {
        let old = &model.jobs.get(&id)?.spec;
        let mut new = Spec::clone(self.spec(model, seed).as_ref().ok()?);
        let ops = old.ops.iter().zip(new.ops.iter().cycle());
        new.ops = ops
            .map(|(old, new)| {
                let kind = if seed.retries > 1 { &new.kind } else { &old.kind };
                OpSpec { kind: kind.clone(), priority: new.priority, ..old.clone() }
            })
            .collect();
        Some(Arc::new(new))
    }

    fn when(&self, seed: &SpecSeed) -> When {
        match (seed.delay_ms, seed.run_in_ms) {
            (Some(ms), _) => When::Delay(ms),
            (None, Some(ms)) => When::RunAt(WallMs(self.clocks.wall.0.saturating_add_signed(ms))),
            (None, None) => When::Now,
        }
    }

    fn item(&mut self, model: &Model, seed: &ItemSeed) -> LeaseItem {
        let held: Vec<(JobId, LeaseId)> =
            model.jobs.values().filter_map(|job| job.held().map(|(_, lease)| (job.id, lease.id))).collect();
        let (job, lease) = match seed.whose {
            Whose::Again(pick) if !self.calls.is_empty() => {
                return recent(&self.calls, pick).expect("there are some").clone();
            }
            Whose::Held(pick) | Whose::Again(pick) if !held.is_empty() => held[pick % held.len()],
            Whose::Granted(pick) if !self.granted.is_empty() => *recent(&self.granted, pick).expect("there are some"),
            Whose::MadeUp(pick) => (id(model, pick), LeaseId(model.last_lease.0 + 7)),
            Whose::Held(pick) | Whose::Granted(pick) | Whose::Again(pick) => (id(model, Pick::Any(pick)), LeaseId(1)),
        };
        let item = LeaseItem { job, lease, action: self.action(model, &seed.action) };
        self.calls.push(item.clone());
        item
    }

    fn action(&self, model: &Model, seed: &ActionSeed) -> LeaseAction {
        match seed {
            ActionSeed::Start => LeaseAction::Start { host: None, pid: None },
            ActionSeed::Touch { lines: count, seq } => {
                LeaseAction::Touch { log: lines(*count), log_seq: *seq, progress: None, checkpoint: None }
            }
            ActionSeed::Success { lines: count, children, atomic, peak_mb } => LeaseAction::Success {
                result: Some(Json("{\"rows\": 3}".into())),
                jobs: self.specs(model, children),
                atomic_children: *atomic,
                report: Box::new(Report {
                    log: lines(*count),
                    peak_ram_mb: *peak_mb,
                    wall_ms: *peak_mb,
                    ..Report::default()
                }),
            },
            ActionSeed::Failure { reason, retryable, delay_ms, wall_ms, peak_mb } => LeaseAction::Failure {
                fail_reason: REASONS[*reason].into(),
                retryable: *retryable,
                delay_ms: *delay_ms,
                report: Box::new(Report { wall_ms: *wall_ms, peak_ram_mb: *peak_mb, ..Report::default() }),
            },
            ActionSeed::Release { delay_ms } => LeaseAction::Release { delay_ms: *delay_ms, reason: None },
            ActionSeed::Bury => LeaseAction::Bury { reason: Some("looks wrong".into()) },
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

fn claim(model: &Model, seed: &ClaimSeed) -> Claim {
    let wanted = match &seed.ids {
        Some(picks) => Wanted::Ids(ids(model, picks)),
        None => Wanted::Queues(seed.queues.iter().map(|queue| QUEUES[*queue].into()).collect()),
    };
    Claim {
        worker: format!("worker{}", seed.worker).into(),
        host: "host".into(),
        pid: 40 + seed.worker as u32,
        pool: seed.pool,
        wanted,
        kinds: seed.kind.map(|kind| vec![KINDS[kind].into()]),
        resource_groups: None,
        max: seed.max,
        lease_ms: seed.lease_ms,
        start: seed.start,
        free: seed.free.map(|size| Free { ram_mb: Some(size * 100), ..Free::default() }),
    }
}

fn ids(model: &Model, picks: &[Pick]) -> Vec<JobId> {
    picks.iter().map(|pick| id(model, *pick)).collect()
}

fn id(model: &Model, pick: Pick) -> JobId {
    let unknown = JobId(model.last_job.0 + 5);
    let chosen = |ids: Vec<JobId>, pick: usize| nth(&ids, pick).copied().unwrap_or(unknown);
    match pick {
        Pick::Live(pick) => chosen(model.live().map(|job| job.id).collect(), pick),
        Pick::Held(pick) => {
            let held: Vec<JobId> = model.live().filter(|job| job.held().is_some()).map(|job| job.id).collect();
            nth(&held, pick).copied().unwrap_or_else(|| id(model, Pick::Live(pick)))
        }
        Pick::Any(pick) => chosen(model.jobs.keys().copied().collect(), pick),
        Pick::Unknown => unknown,
    }
}

fn nth<T>(all: &[T], pick: usize) -> Option<&T> {
    if all.is_empty() { None } else { all.get(pick % all.len()) }
}

fn batch_name(number: usize) -> Box<str> {
    format!("member{number}").into()
}

/// One of the last few.
fn recent<T>(all: &[T], pick: usize) -> Option<&T> {
    const FEW: usize = 12;
    nth(&all[all.len().saturating_sub(FEW)..], pick)
}

fn limit_group(number: usize) -> Arc<str> {
    format!("limit{number}").into()
}

fn lines(count: usize) -> Vec<(Box<str>, Box<str>)> {
    (0..count).map(|number| ("note".into(), format!("line {number}").into())).collect()
}
