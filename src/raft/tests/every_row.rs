//! A state that has every kind of row, sent as a snapshot: what arrives is what was there, and so is what a restart reads.

use super::*;
use crate::{
    queue::{
        State,
        command::{
            Advance, CancelHow, Claim, Definition, Free, Key, LeaseAction, LeaseItem, PoolChange, Report,
            ScheduleChange, SettingsChange, Wanted, WorkerChange,
        },
        ids::{Index, LeaseId, WallMs},
        job::{Depends, FinalStatuses, JobRef, When},
        rows::RowKey,
        schedule::{Missed, Next, Overlap, Timing},
    },
    storage::Family,
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
        RowKey::Live(_) => RowKey::Ended(job),
        RowKey::Ended(_) => RowKey::Archived(job),
        RowKey::Archived(_) => RowKey::EndedAt(WallMs(0), job),
        RowKey::EndedAt(..) => RowKey::ArchivedAt(WallMs(0), job),
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

/// 1 is worked on, 2 is archived, 3 stays, 4 waits for it, 5 is not due, 6 is held, 7 delayed, 8 buried, 9 the pool's.
fn jobs() -> Command {
    let jobs = [
        spec(|spec| (spec.unique, spec.policy.resource_group) = (Some("first".into()), Some("rg".into()))),
        spec(|spec| spec.environment = Some(7)),
        spec(|spec| (spec.groups, spec.limits) = ([Arc::from("g")].into(), vec![("l".into(), Some(5))])),
        spec(|spec| {
            spec.ops[0].depends = vec![Depends { on: JobRef::Back(1), accept: FinalStatuses::default() }];
        }),
        spec(|spec| spec.when = When::RunAt(WallMs(9_000_000_000_000))),
        spec(|_| {}),
        spec(|spec| spec.when = When::Delay(3_600_000)),
        spec(|spec| spec.unique = Some("live".into())),
        spec(|_| {}),
    ];
    Command::Submit { jobs: jobs.map(Ok).into(), atomic: true }
}

fn schedule() -> [Command; 2] {
    let timing = Timing::Cron { expression: "@daily".into(), time_zone: "UTC".into() };
    let definition =
        Definition { timing, missed: Missed::Once, overlap: Overlap::Skip, paused: None, spec: spec(|_| {}) };
    let put = ScheduleChange::Put { name: "s".into(), definition: Box::new(definition), if_absent: true };
    let to = Next::Slot(WallMs(9_000_000_000_000));
    // Of another version: it stays unplanned, which is a place of its own.
    let plan = Advance { name: "s".into(), version: Index(0), from: Next::Unplanned, to, slot: None };
    [put, ScheduleChange::Advance(plan)].map(Command::Schedule)
}

async fn ask(leader: &Node, command: Command) -> Answer {
    let answer = leader.propose(request(command), soon()).await.expect("commits").answer;
    assert!(!matches!(answer, Answer::Refused(_)), "{answer:?}");
    answer
}

/// Claims a job, and touches it with all that a touch may bring.
async fn hold(leader: &Node, job: JobId, pool: bool) -> LeaseId {
    let wanted = Wanted::Ids(vec![job]);
    let claim = Claim {
        worker: "w".into(),
        host: "h".into(),
        pid: 1,
        pool,
        wanted,
        kinds: None,
        resource_groups: None,
        max: 1,
        lease_ms: None,
        start: true,
        free: None,
    };
    let Answer::Claimed(claimed) = ask(leader, Command::Claim(claim)).await else { panic!("a claim is answered so") };
    let lease = claimed[0].as_ref().expect("granted").lease;
    let log = vec![("note".into(), "text".into())];
    let action = LeaseAction::Touch { log, log_seq: None, progress: Some(json()), checkpoint: Some(json()) };
    ask(leader, Command::Leases { items: vec![LeaseItem { job, lease, action }], claim: None }).await;
    lease
}

async fn fill(leader: &Node) {
    ask(leader, Command::Environment { digest: 7, value: json() }).await;
    ask(leader, jobs()).await;
    let (job, lease) = (JobId(1), hold(leader, JobId(1), false).await);
    let report = Box::new(Report { peak_ram_mb: Some(10), wall_ms: Some(5), ..Report::default() });
    let action = LeaseAction::Success { result: Some(json()), jobs: Vec::new(), atomic_children: false, report };
    ask(leader, Command::Leases { items: vec![LeaseItem { job, lease, action }], claim: None }).await;
    hold(leader, JobId(6), false).await;
    hold(leader, JobId(9), true).await;
    let worker = WorkerChange::Put { id: "w".into(), info: json(), ttl_ms: 60_000, resources: None };
    let settings = [
        Command::Cancel { ids: vec![JobId(2)], how: CancelHow::Waiting, reason: Some("why".into()) },
        Command::Archive { ids: vec![JobId(2)] },
        Command::Bury { ids: vec![JobId(8)], reason: None },
        Command::Drain { drained: true, reason: None },
        Command::Drain { drained: false, reason: None },
        Command::Pause { queue: Some("q".into()), paused: true },
        Command::Pool(PoolChange { size: Some(2), ..PoolChange::default() }),
        Command::Settings(SettingsChange { bury_impossible: Some(true), ..SettingsChange::default() }),
        Command::Worker(worker),
        Command::Worker(WorkerChange::Pool { id: "pool".into(), info: json(), resources: Free::default() }),
    ];
    for command in settings.into_iter().chain(schedule()) {
        ask(leader, command).await;
    }
    let key = Some(Key { name: "k".into(), number: 3, digest: 4 });
    let again = Command::Settings(SettingsChange::default());
    leader.propose(Request { key, ..request(again) }, soon()).await.expect("commits");
}

fn kinds(node: &Node) -> BTreeSet<String> {
    let known = |family: &str, key: &[u8]| {
        let family = state_rows::FAMILIES.iter().find(|known| known.name == family).copied();
        family.and_then(|family: Family| state_rows::identify(family, key))
    };
    let keys = node.local_rows().into_iter().filter_map(|(family, key, _)| known(family, &key));
    keys.map(|key| kind(&key)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_of_every_kind_of_row_is_the_live_state() {
    let mut cluster = Cluster::formed(3, snapshots::small_logs()).await;
    let leader = cluster.leader().await;
    let away = cluster.follower().await.id();
    let seen = leader.propose(tick(), soon()).await.expect("commits").index;
    cluster.halt(away).await;
    fill(&leader).await;
    let found = kinds(&leader);
    let missing: Vec<_> = every_kind().iter().map(kind).filter(|kind| !found.contains(kind)).collect();
    assert!(missing.is_empty(), "no row of {missing:?} among {found:?}");
    until("the log is cut", async || {
        for _ in 0..16 {
            leader.propose(submit(20_000), soon()).await.expect("commits");
        }
        leader.status().purged.is_some_and(|purged| purged > seen)
    })
    .await;

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
