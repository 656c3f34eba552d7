//! A state that has every kind of row, and something in every field of them, sent as a snapshot: what arrives is what was
//! there, and so is what a restart reads.

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;
use crate::{
    codec::{self, Format},
    queue::{
        State,
        birth::Birth,
        command::{
            Advance, CancelHow, Claim, Definition, Free, Key, LeaseAction, LeaseItem, PoolChange, Report,
            ScheduleChange, SettingsChange, Slot, Wanted, WorkerChange,
        },
        ids::{Index, LeaseId, Priority, WallMs},
        job::{Depends, FinalStatuses, JobRef, Needs, OnFailure, Reason, When},
        refusal::Refusal,
        rows::{Row, RowKey},
        schedule::{Missed, Next, Overlap, Timing},
    },
};

/// One key of each kind that a state can be filled with: a new kind of row does not compile until it is thought of here.
fn every_kind() -> Vec<RowKey> {
    let (job, name) = (JobId(1), || Arc::<str>::from("name"));
    let mut kinds = vec![RowKey::Live(job)];
    while let Some(next) = after(kinds.last().expect("it begins with one"), job, &name) {
        kinds.push(next);
    }
    kinds
}

/// The kinds in a row, but for one that stands there only while ten thousand jobs are being woken.
fn after(key: &RowKey, job: JobId, name: &dyn Fn() -> Arc<str>) -> Option<RowKey> {
    Some(match key {
        RowKey::Live(_) => RowKey::Fresh(0),
        RowKey::Fresh(_) => RowKey::Granted(0),
        RowKey::Granted(_) => RowKey::Ended(job),
        RowKey::Ended(_) => RowKey::Archived(job),
        RowKey::Archived(_) => RowKey::EndedAt(WallMs(0), 0),
        RowKey::EndedAt(..) => RowKey::ArchivedAt(WallMs(0), 0),
        RowKey::ArchivedAt(..) => RowKey::Spec(job),
        RowKey::Spec(_) => RowKey::Result(job, 0),
        RowKey::Result(..) => RowKey::Attempt(job, 0, 0),
        RowKey::Attempt(..) => RowKey::Log(job, 0),
        RowKey::Log(..) => RowKey::Reason(job, 0),
        RowKey::Reason(..) => RowKey::Checkpoint(job),
        RowKey::Checkpoint(_) => RowKey::Progress(job),
        RowKey::Progress(_) => RowKey::Group(name(), job),
        RowKey::Group(..) => RowKey::Unique(name(), job),
        RowKey::Unique(..) => RowKey::KeyName(name(), name()),
        RowKey::KeyName(..) => RowKey::KeySlot(name(), name(), 0),
        RowKey::KeySlot(..) => RowKey::Counters,
        RowKey::Counters => RowKey::Drain,
        RowKey::Drain => RowKey::Pool,
        RowKey::Pool => RowKey::Settings,
        RowKey::Settings => RowKey::Paused(name()),
        RowKey::Paused(_) => RowKey::Limit(name()),
        RowKey::Limit(_) => RowKey::Learned(name()),
        RowKey::Learned(_) => RowKey::Worker(name()),
        RowKey::Worker(_) => RowKey::Waits(job),
        RowKey::Waits(_) => RowKey::Environment(0),
        RowKey::Environment(_) => RowKey::EndedMinute(0),
        RowKey::EndedMinute(_) => RowKey::EnvironmentUses(0),
        RowKey::EnvironmentUses(_) => RowKey::Schedule(name()),
        RowKey::Schedule(_) => RowKey::ScheduleSpec(name()),
        RowKey::ScheduleSpec(_) => RowKey::LookAgain,
        RowKey::LookAgain => RowKey::QueueEnds(name()),
        RowKey::QueueEnds(_) | RowKey::Waking(_) => return None,
    })
}

fn kind(key: &RowKey) -> String {
    format!("{key:?}").split('(').next().unwrap_or_default().to_owned()
}

fn json() -> Json {
    Json("{}".into())
}

fn spec(more: impl FnOnce(&mut Spec)) -> Arc<Spec> {
    let mut spec = Spec::of_ops(vec![OpSpec::new("x", Payload::Args(json()))]);
    more(&mut spec);
    Arc::new(spec)
}

/// Says all that a submitter can say.
fn eloquent() -> Arc<Spec> {
    spec(|spec| {
        (spec.name, spec.comment, spec.batch_name) = (Some("n".into()), Some("c".into()), Some("b".into()));
        (spec.groups, spec.limits) = ([Arc::from("g")].into(), vec![("l".into(), Some(5))]);
        (spec.priority, spec.environment, spec.meta) = (Some(Priority(3)), Some(7), Some(json()));
        spec.reasons = vec![Reason { source: "s".into(), text: "t".into(), at: WallMs(1) }];
        spec.needs = Some(Needs { cores_milli: 1, ram_mb: 1, disk_mb: 1, time_s: 1 });
        (spec.keep_output, spec.when, spec.parent) = (true, When::RunAt(WallMs(9_000_000_000_000)), Some(JobId(1)));
        (spec.policy.retries, spec.policy.needs_override) = (9, 1);
        (spec.policy.no_retry_after_ms, spec.policy.resource_group) = (Some(9), Some("rg".into()));
        spec.ops[0].priority = Some(Priority(2));
        let payloads = [Payload::Text("text".into()), Payload::Binary(vec![1].into())];
        spec.ops.extend(payloads.map(|payload| OpSpec::new("x", payload)));
    })
}

/// 1 is worked on and brings 12 along, 2 is archived, 3 stays, 4 waits for it and for 2, 5 is not due, 6 is held, 7 delayed,
/// 8 buried, 9 the pool's, 10 and 11 are claimed and nothing else.
fn jobs() -> Command {
    let jobs = [
        spec(|spec| {
            spec.ops.push(spec.ops[0].clone());
            (spec.unique, spec.policy.resource_group) = (Some("first".into()), Some("rg".into()));
            (spec.policy.retries, spec.policy.on_failure) = (9, OnFailure::Error);
        }),
        spec(|spec| spec.environment = Some(7)),
        spec(|_| {}),
        spec(|spec| {
            spec.ops.push(spec.ops[0].clone());
            let accept = FinalStatuses { success: true, error: true, canceled: true };
            spec.ops[1].depends = [1, 2].map(|back| Depends { on: JobRef::Back(back), accept }).into();
            spec.ops[0].depends = vec![Depends { on: JobRef::Back(1), accept }];
        }),
        eloquent(),
        spec(|_| {}),
        spec(|spec| spec.when = When::Delay(3_600_000)),
        spec(|spec| spec.unique = Some("live".into())),
        spec(|_| {}),
        spec(|_| {}),
        spec(|_| {}),
    ];
    Command::Submit { jobs: jobs.map(Ok).into(), atomic: true }
}

/// One that stands at its first slot, one that has taken one, and one that is paused.
async fn schedules(leader: &Node) {
    let put = |name: &str, paused| {
        let timing = Timing::Cron { expression: "@daily".into(), time_zone: "UTC".into() };
        let (missed, overlap) = (Missed::Once, Overlap::Skip);
        let definition = Definition { timing, missed, overlap, paused, spec: spec(|_| {}) };
        Command::Schedule(ScheduleChange::Put { name: name.into(), definition: Box::new(definition), if_absent: true })
    };
    ask(leader, put("resting", Some(true))).await;
    let version = leader.propose(request(put("s", None)), soon()).await.expect("commits").index;
    let (first, second) = (Next::Slot(WallMs(1)), Next::Slot(WallMs(2)));
    let slot = |at, missed| Some(Slot { at: WallMs(at), text: "then".into(), missed });
    let steps = [(Next::Unplanned, first, None), (first, second, slot(1, true)), (second, Next::Never, slot(2, false))];
    for (from, to, slot) in steps {
        let advance = Advance { name: "s".into(), version: Index(version), from, to, slot };
        ask(leader, Command::Schedule(ScheduleChange::Advance(advance))).await;
    }
}

async fn ask(leader: &Node, command: Command) -> Answer {
    let answer = leader.propose(request(command), soon()).await.expect("commits").answer;
    assert!(!matches!(answer, Answer::Refused(_)), "{answer:?}");
    answer
}

async fn call(leader: &Node, job: JobId, lease: LeaseId, action: LeaseAction) {
    let answer = ask(leader, Command::Leases { items: vec![LeaseItem { job, lease, action }], claim: None }).await;
    assert!(matches!(&answer, Answer::Leases { results, .. } if results[0].is_ok()), "{answer:?}");
}

async fn claim(leader: &Node, job: JobId, pool: bool) -> LeaseId {
    let claim = Claim { pid: 1, pool, start: true, ..Claim::of("w", Wanted::Ids(vec![job])) };
    let Answer::Claimed(claimed) = ask(leader, Command::Claim(claim)).await else { panic!("a claim is answered so") };
    claimed[0].as_ref().expect("granted").lease
}

/// Claims a job, and touches it with all that a touch may bring.
async fn hold(leader: &Node, job: JobId, pool: bool) -> LeaseId {
    let lease = claim(leader, job, pool).await;
    let log = vec![("note".into(), "x".repeat(4_096).into()); 3];
    let action = LeaseAction::Touch { log, log_seq: Some(1), progress: Some(json()), checkpoint: Some(json()) };
    call(leader, job, lease, action).await;
    lease
}

fn report() -> Box<Report> {
    let text = || Some("text".into());
    Box::new(Report {
        exit_code: Some(1),
        error: text(),
        stdout: text(),
        stderr: text(),
        wall_ms: Some(5_000),
        cpu_ms: Some(5),
        peak_ram_mb: Some(10),
        shell: text(),
        log: Vec::new(),
        log_seq: None,
    })
}

/// All that can go wrong with a job, and a result that leaves no room for its log.
async fn work_through(leader: &Node, job: JobId) {
    for reason in ["ram", "time", "lost_contact", "start_failed"] {
        fail(leader, job, reason).await;
    }
    let jobs = vec![Ok(spec(|_| {})), Err(Refusal::invalid("colour", "there is no such field"))];
    succeed(leader, job, &"1".repeat((2 << 20) - 16_000), jobs).await;
    fail(leader, job, "not_found").await;
}

async fn fail(leader: &Node, job: JobId, reason: &str) {
    let lease = hold(leader, job, false).await;
    let (retryable, delay_ms) = (Some(true), Some(0));
    let action = LeaseAction::Failure { fail_reason: reason.into(), retryable, delay_ms, report: report() };
    call(leader, job, lease, action).await;
}

async fn succeed(leader: &Node, job: JobId, result: &str, jobs: Vec<Result<Arc<Spec>, Refusal>>) {
    let lease = hold(leader, job, false).await;
    let result = Some(Json(result.into()));
    let action = LeaseAction::Success { result, jobs, atomic_children: false, report: report() };
    call(leader, job, lease, action).await;
}

async fn fill(leader: &Node) {
    ask(leader, Command::Environment { digest: 7, value: json() }).await;
    ask(leader, jobs()).await;
    work_through(leader, JobId(1)).await;
    succeed(leader, JobId(12), "1", Vec::new()).await;
    hold(leader, JobId(6), false).await;
    hold(leader, JobId(9), true).await;
    claim(leader, JobId(10), false).await;
    claim(leader, JobId(11), true).await;
    schedules(leader).await;
    let resources = Free { cores_milli: Some(1), ram_mb: Some(1), disk_mb: Some(1), time_s: Some(1) };
    let worker = WorkerChange::Put { id: "w".into(), info: json(), ttl_ms: 60_000, resources: Some(resources) };
    let settings = [
        Command::Cancel { ids: vec![JobId(2)], how: CancelHow::Waiting, reason: Some("why".into()) },
        Command::Cancel { ids: vec![JobId(6)], how: CancelHow::AfterOp, reason: None },
        Command::Archive { ids: vec![JobId(2)] },
        Command::Bury { ids: vec![JobId(8)], reason: None },
        // It says all there is, and has a row of its own only once it has changed.
        Command::Priority { ids: vec![JobId(5)], priority: Priority(4) },
        Command::Pause { queue: Some("q".into()), paused: true },
        Command::Pool(PoolChange { size: Some(2), active: Some(true), queues: Some(vec!["far".into()]) }),
        Command::Settings(SettingsChange {
            bury_impossible: Some(true),
            delete_after_ms: Some(Some(9_000_000_000)),
            ..SettingsChange::default()
        }),
        Command::Worker(worker),
        Command::Worker(WorkerChange::Pool { id: "pool".into(), info: json(), resources: Free::default() }),
    ];
    for command in settings {
        ask(leader, command).await;
    }
    for (name, number) in [("busy", 3), ("busy", 4), ("once", 3)] {
        let key = Some(Key { name: name.into(), number, digest: 4 });
        let again = Command::Settings(SettingsChange::default());
        leader.propose(Request { key, ..request(again) }, soon()).await.expect("commits");
    }
    // The last: whatever is submitted from now on only makes the log grow.
    ask(leader, Command::Drain { drained: true, reason: Some("enough".into()) }).await;
}

/// The ways to all that the types of rows have room for, and whether a row of this node says anything there.
fn fields(node: &Node) -> BTreeMap<String, bool> {
    let mut fields = BTreeMap::new();
    for row in rows(node).into_iter().flat_map(|(_, row)| by_type(row)) {
        look_into(String::new(), &serde_json::to_value(row).expect("a row is plain data"), &mut fields);
    }
    fields
}

/// What is said in rows of different kinds and is of one type.
fn by_type(row: Row) -> Vec<Row> {
    match row {
        Row::Spec(spec) => vec![Row::Born(spec, Birth::default())],
        Row::Done(job, attempt) => vec![Row::Job(job), Row::Attempt(attempt)],
        other => vec![other],
    }
}

fn look_into(way: String, value: &Value, fields: &mut BTreeMap<String, bool>) {
    let says = match value {
        Value::Null => false,
        Value::Bool(is_so) => *is_so,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(all) => {
            all.iter().for_each(|value| look_into(format!("{way}[]"), value, fields));
            !all.is_empty()
        }
        Value::Object(all) => {
            all.iter().for_each(|(name, value)| look_into(format!("{way}.{name}"), value, fields));
            !all.is_empty()
        }
    };
    *fields.entry(way).or_default() |= says;
}

/// What the state is made of, by key.
fn rows(node: &Node) -> Vec<(RowKey, Row)> {
    let typed = |(family, key, bytes): (&str, Vec<u8>, Vec<u8>)| {
        let family = state_rows::FAMILIES.iter().find(|known| known.name == family).copied()?;
        let key = state_rows::identify(family, &key)?;
        Some((key, codec::decode(Format::ROW, &bytes).expect("a row can be read")))
    };
    node.local_rows().into_iter().filter_map(typed).collect()
}

fn kinds(node: &Node) -> BTreeSet<String> {
    rows(node).iter().map(|(key, _)| kind(key)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_of_every_row_and_field_is_the_live_state() {
    let mut cluster = Cluster::formed(3, snapshots::small_logs()).await;
    let leader = cluster.leader().await;
    let away = cluster.follower().await.id();
    let seen = leader.propose(tick(), soon()).await.expect("commits").index;
    cluster.halt(away).await;
    fill(&leader).await;
    let found = kinds(&leader);
    let missing: Vec<_> = every_kind().iter().map(kind).filter(|kind| !found.contains(kind)).collect();
    assert!(missing.is_empty(), "no row of {missing:?} among {found:?}");
    let unused: Vec<_> = fields(&leader).into_iter().filter(|(_, says)| !says).map(|(way, _)| way).collect();
    assert!(unused.is_empty(), "no row says anything at {unused:#?}");
    snapshots::write_until_cut(&leader, seen).await;
    cluster.restart(away).await;
    for _ in 0..2 {
        let (back, index) = (cluster.node(away), leader.status().applied);
        back.view(Consistency::Local, index, soon()).await.expect("catches up");
        cluster.agree().await;
        assert_eq!(back.local_rows(), leader.local_rows());
        let (here, there) = (back.inner().replica.read(), leader.inner().replica.read());
        assert!(here.state().is_same(there.state()), "memory differs");
        assert!(State::load(here.rows().as_ref()).is_same(there.state()), "what is loaded differs");
        drop((here, there));
        // What was installed is what a restart reads.
        cluster.halt(away).await;
        cluster.restart(away).await;
    }
    cluster.shutdown().await;
}
