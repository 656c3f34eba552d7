//! From an abstract step to a real request, in the situation the model is in.

mod calls;
mod picked;
mod specs;

use std::{collections::BTreeMap, sync::Arc};

use raftq::queue::{
    Restoration,
    applied::Answer,
    command::{
        Autoarchive, CancelHow, Clocks, Command, Edit, Free, Key, LeaseAction, LeaseItem, PoolChange, Request,
        SettingsChange, Wanted, WorkerChange,
    },
    ids::{ClusterMs, Index, JobId, LeaseId, Priority, WallMs},
    job::{Json, Office},
    refusal::Refusal,
};

use self::picked::{id, ids, recent};
use super::{
    entries::{EntrySeed, KeySeed, OfficeSeed},
    settings::{AgeRule, Amounts, PoolSeed, SettingsSeed, WorkerSeed},
    steps::Step,
};
use crate::reference::Model;

const KINDS: [&str; 3] = ["exec", "sleep", "etl.load"];
const QUEUES: [&str; 3] = ["default", "slow", "q.$3"];
/// Beyond what is given while a backup is away.
const JUMP: u64 = 50;

/// Remembers what was asked and granted, so that it can be asked again, late, or by the wrong one.
#[derive(Clone, Debug)]
pub struct Hand {
    clocks: Clocks,
    office: Office,
    asked: Vec<Request>,
    /// Bodies so far.
    digests: u128,
    next_number: BTreeMap<usize, u64>,
    /// Names that were used once.
    fresh: usize,
    granted: Vec<(JobId, LeaseId)>,
    calls: Vec<LeaseItem>,
    cursor: Option<(WallMs, JobId)>,
}

impl Hand {
    pub fn new() -> Self {
        Self {
            clocks: Clocks { cluster: ClusterMs(1_000), wall: WallMs(1_700_000_000_000) },
            office: Office { term: 1, node: 1, incarnation: 11 },
            asked: Vec::new(),
            digests: 0,
            next_number: BTreeMap::new(),
            fresh: 0,
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

    /// Where a restore of what the model holds begins, now and under nobody yet.
    pub fn restoration(&self, model: &Model, paused: bool) -> Restoration {
        Restoration {
            index: Index(model.index.0 + JUMP),
            wall: self.clocks.wall,
            last_job: JobId(model.last_job.0 + JUMP),
            last_lease: LeaseId(model.last_lease.0 + JUMP),
            paused,
        }
    }

    pub fn request(&mut self, model: &Model, key: KeySeed, step: &Step) -> Request {
        // What the leader proposes by itself has no key.
        let key = if let Step::Tick { .. } = step { KeySeed::None } else { key };
        if let KeySeed::Again { pick } | KeySeed::Conflict { pick } = key
            && let Some(earlier) = recent(&self.asked, pick)
        {
            let mut request = earlier.clone();
            if let KeySeed::Conflict { .. } = key {
                request.command = self.command(model, step);
                request.key.as_mut().expect("it was kept for its key").digest = self.digest();
            }
            return request;
        }
        let (principal, key) = self.key(key);
        let request = Request { principal: principal.into(), key, command: self.command(model, step) };
        if request.key.is_some() {
            self.asked.push(request.clone());
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

    /// Who asks, and under which key.
    fn key(&mut self, seed: KeySeed) -> (&'static str, Option<Key>) {
        // Two of them use one name, which is each one's own.
        const NAMES: [(&str, &str); 4] =
            [("alice", "client0"), ("alice", "client1"), ("bob", "client0"), ("bob", "client2")];
        let mut next = |name: usize, by: u64| {
            let number = self.next_number.entry(name).or_default();
            *number += by + 1;
            (name, *number - 1)
        };
        let (name, number) = match seed {
            KeySeed::None | KeySeed::Again { .. } | KeySeed::Conflict { .. } => return ("alice", None),
            KeySeed::Next { name } => next(name, 0),
            KeySeed::Skip { name, by } => next(name, by),
            KeySeed::Number { name, number } => (name, number),
            KeySeed::Fresh => {
                self.fresh += 1;
                return ("alice", Some(self.keyed(format!("visitor{}", self.fresh), 7)));
            }
            KeySeed::Wrong(how) => {
                let name = [String::new(), "n".repeat(201), "tab\t".to_owned(), "client0".to_owned()][how].clone();
                return ("alice", Some(self.keyed(name, (1 << 53) - u64::from(how < 3))));
            }
        };
        let (principal, name) = NAMES[name];
        (principal, Some(self.keyed(name.to_owned(), number)))
    }

    /// Every request is its own body here: what repeats one is drawn as a repeat.
    fn keyed(&mut self, name: String, number: u64) -> Key {
        Key { name: name.into(), number, digest: self.digest() }
    }

    fn digest(&mut self) -> u128 {
        self.digests += 1;
        self.digests
    }

    fn command(&mut self, model: &Model, step: &Step) -> Command {
        match step {
            Step::Tick { hold_wall } => Command::Tick { hold_wall: *hold_wall },
            Step::Submit { specs, atomic } => Command::Submit { jobs: self.specs(model, specs), atomic: *atomic },
            Step::Claim(seed) => Command::Claim(calls::claim(model, seed)),
            Step::Leases { items, claim } => Command::Leases {
                items: items.iter().map(|item| self.item(model, item)).collect(),
                claim: claim.as_ref().map(|seed| calls::claim(model, seed)),
            },
            Step::Cancel { picks, how, says } => {
                let how = [CancelHow::Waiting, CancelHow::Kill, CancelHow::AfterOp][*how as usize];
                Command::Cancel { ids: ids(model, picks), how, reason: reason(*says) }
            }
            Step::Kick(picks) => Command::Kick { ids: ids(model, picks) },
            Step::Bury { picks, says } => Command::Bury { ids: ids(model, picks), reason: reason(*says) },
            Step::Priority { picks, priority } => {
                Command::Priority { ids: ids(model, picks), priority: Priority(*priority) }
            }
            Step::Archive(picks) => Command::Archive { ids: ids(model, picks) },
            Step::Autoarchive { age_ms, limit, follow } => {
                let after = self.cursor.filter(|_| *follow);
                Command::Autoarchive(Autoarchive { age_ms: *age_ms, limit: *limit, after })
            }
            Step::Delete(picks) => Command::Delete { ids: ids(model, picks) },
            Step::Edit { pick, to } => {
                let id = id(model, *pick);
                let spec = to.as_ref().and_then(|seed| self.edited(model, id, seed));
                Command::Edit { id, edit: Box::new(Edit { spec }) }
            }
            Step::Beyond { verb, many } => beyond(self.command(model, verb), *many),
            Step::Piece(verb) => piece(self.command(model, verb)),
            Step::If { pick, is_current, then } => {
                let id = id(model, *pick);
                let now = model.jobs.get(&id).map_or(Index(0), |job| job.version);
                let version = if *is_current { now } else { Index(now.0 + 1) };
                Command::IfVersion { id, version, command: Box::new(self.command(model, then)) }
            }
            Step::Drain { drained, reason: says } => Command::Drain { drained: *drained, reason: reason(*says) },
            Step::Pause { queue, paused } => {
                Command::Pause { queue: queue.map(|queue| QUEUES[queue].into()), paused: *paused }
            }
            Step::Pool(seed) => Command::Pool(pool(seed)),
            Step::Limit { name, max } => Command::Limit { name: limit_group(*name), max: *max },
            Step::Settings(seed) => Command::Settings(settings(seed)),
            Step::Worker { id, change } => Command::Worker(worker(format!("w{id}").into(), change)),
            Step::ForgetQueue(queue) => Command::ForgetQueue { queue: QUEUES[*queue].into() },
            Step::Forget(group) => Command::Forget { resource_group: format!("rg{group}").into() },
            Step::Environment(number) => {
                Command::Environment { digest: *number as u128, value: Json("{\"LANG\": \"C\"}".into()) }
            }
            Step::Schedule { name, change } => {
                Command::Schedule(self.schedule(model, format!("s{name}").into(), change))
            }
        }
    }
}

fn piece(command: Command) -> Command {
    let (Command::Cancel { ids, .. }
    | Command::Kick { ids }
    | Command::Bury { ids, .. }
    | Command::Priority { ids, .. }
    | Command::Archive { ids }
    | Command::Delete { ids }) = &command
    else {
        panic!("only verbs on jobs come in pieces: {command:?}")
    };
    let (ids, next) = (ids.clone(), ids.last().copied());
    Command::Piece { command: Box::new(command), ids, next }
}

/// More than one request may hold, or a reason longer than it may be.
fn beyond(mut command: Command, many: bool) -> Command {
    const ONE_TOO_MANY: usize = 10_001;
    match &mut command {
        Command::Cancel { ids, reason, .. } | Command::Bury { ids, reason } if !many => {
            ids.truncate(1);
            *reason = Some(calls::text(4_097));
        }
        Command::Cancel { ids, .. }
        | Command::Kick { ids }
        | Command::Bury { ids, .. }
        | Command::Priority { ids, .. }
        | Command::Archive { ids }
        | Command::Delete { ids } => ids.resize(ONE_TOO_MANY, ids[0]),
        Command::Leases { items, .. } => {
            items[0].action = LeaseAction::Start { host: None, pid: None };
            items.resize(ONE_TOO_MANY, items[0].clone());
        }
        Command::Submit { jobs, .. } => jobs.resize(ONE_TOO_MANY, Err(Refusal::Aborted)),
        Command::Claim(claim) if many => claim.wanted = Wanted::Ids(vec![JobId(1); 1_001]),
        Command::Claim(claim) => claim.wanted = Wanted::Queues(vec![QUEUES[0].into(); 1_001]),
        Command::Drain { reason, .. } => *reason = Some(calls::text(4_097)),
        Command::Autoarchive(wanted) => wanted.limit = ONE_TOO_MANY as u32,
        other => panic!("this has no such limit: {other:?}"),
    }
    command
}

fn reason(says: bool) -> Option<Box<str>> {
    says.then(|| "upgrade".into())
}

fn pool(seed: &PoolSeed) -> PoolChange {
    let queues = seed.queues.as_ref().map(|queues| queues.iter().map(|queue| QUEUES[*queue].into()).collect());
    PoolChange { size: seed.size, active: seed.active, queues }
}

fn settings(seed: &SettingsSeed) -> SettingsChange {
    SettingsChange {
        live_jobs_max: seed.live_max,
        archive_after_ms: seed.archive_after.map(|AgeRule(age_ms)| age_ms),
        delete_after_ms: seed.delete_after.map(|AgeRule(age_ms)| age_ms),
        pool_timeout_ms: seed.pool_timeout,
        bury_impossible: seed.bury_impossible,
    }
}

fn worker(id: Arc<str>, seed: &WorkerSeed) -> WorkerChange {
    let info = Json("{}".into());
    match seed {
        WorkerSeed::Put { ttl_ms, has } => {
            WorkerChange::Put { id, info, ttl_ms: *ttl_ms, resources: has.as_ref().map(free) }
        }
        WorkerSeed::Pool { has } => WorkerChange::Pool { id, info, resources: free(has) },
        WorkerSeed::Remove => WorkerChange::Remove { id },
    }
}

fn free(amounts: &Amounts) -> Free {
    let Amounts { cores, ram, disk, time } = amounts;
    let times = |amount: &Option<u64>, step| amount.map(|amount| amount * step);
    Free {
        cores_milli: times(cores, 1_000),
        ram_mb: times(ram, 100),
        disk_mb: times(disk, 10),
        time_s: times(time, 1_800),
    }
}

fn limit_group(number: usize) -> Arc<str> {
    format!("limit{number}").into()
}
