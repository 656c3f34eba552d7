//! A state that has every kind of row, sent as a snapshot: what arrives is what was there, and so is what a restart reads.

use super::*;
use crate::{
    queue::{
        State,
        command::{
            Advance, CancelHow, Claim, Definition, Key, LeaseAction, LeaseItem, PoolChange, Report, ScheduleChange,
            SettingsChange, Wanted, WorkerChange,
        },
        ids::{Index, LeaseId, WallMs},
        job::{Depends, FinalStatuses, JobRef, When},
        schedule::{Missed, Next, Overlap, Timing},
    },
    storage::Family,
};

/// Which kinds of rows there are, but for those that stand there only while something is under way.
const KINDS: [&str; 31] = [
    "Live",
    "Ended",
    "Archived",
    "EndedAt",
    "ArchivedAt",
    "Spec",
    "Result",
    "Attempt",
    "Log",
    "Reason",
    "Checkpoint",
    "Progress",
    "Group",
    "Unique",
    "KeyName",
    "KeySlot",
    "Counters",
    "Drain",
    "Pool",
    "Settings",
    "Paused",
    "Limit",
    "Learned",
    "Worker",
    "Waits",
    "Environment",
    "EnvironmentUses",
    "EndedMinute",
    "Schedule",
    "ScheduleSpec",
    "QueueEnds",
];

fn json() -> Json {
    Json("{}".into())
}

fn spec(more: impl FnOnce(&mut Spec)) -> Arc<Spec> {
    let mut spec = Spec::of_ops(vec![OpSpec::new("x", Payload::Args(json()))]);
    more(&mut spec);
    Arc::new(spec)
}

/// 1 is worked on, 2 is archived, 3 stays, 4 waits for it, 5 is not due, 6 is held.
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
async fn hold(leader: &Node, job: JobId) -> LeaseId {
    let wanted = Wanted::Ids(vec![job]);
    let claim = Claim {
        worker: "w".into(),
        host: "h".into(),
        pid: 1,
        pool: false,
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
    let (job, lease) = (JobId(1), hold(leader, JobId(1)).await);
    let report = Box::new(Report { peak_ram_mb: Some(10), wall_ms: Some(5), ..Report::default() });
    let action = LeaseAction::Success { result: Some(json()), jobs: Vec::new(), atomic_children: false, report };
    ask(leader, Command::Leases { items: vec![LeaseItem { job, lease, action }], claim: None }).await;
    hold(leader, JobId(6)).await;
    let worker = WorkerChange::Put { id: "w".into(), info: json(), ttl_ms: 60_000, resources: None };
    let settings = [
        Command::Cancel { ids: vec![JobId(2)], how: CancelHow::Waiting, reason: Some("why".into()) },
        Command::Archive { ids: vec![JobId(2)] },
        Command::Drain { drained: true, reason: None },
        Command::Drain { drained: false, reason: None },
        Command::Pause { queue: Some("q".into()), paused: true },
        Command::Pool(PoolChange { size: Some(2), ..PoolChange::default() }),
        Command::Settings(SettingsChange::default()),
        Command::Worker(worker),
    ];
    for command in settings.into_iter().chain(schedule()) {
        ask(leader, command).await;
    }
    let key = Some(Key { name: "k".into(), number: 3, digest: 4 });
    leader.propose(Request { key, ..tick() }, soon()).await.expect("commits");
}

fn kinds(node: &Node) -> BTreeSet<String> {
    let known = |family: &str, key: &[u8]| {
        let family = state_rows::FAMILIES.iter().find(|known| known.name == family).copied();
        family.and_then(|family: Family| state_rows::identify(family, key))
    };
    let keys = node.local_rows().into_iter().filter_map(|(family, key, _)| known(family, &key));
    keys.map(|key| format!("{key:?}").split('(').next().unwrap_or_default().to_owned()).collect()
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
    let missing: Vec<_> = KINDS.iter().filter(|kind| !found.contains(**kind)).collect();
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
