//! What a verb costs in the core, with few and with many live jobs: it must not depend on how many there are.
//!
//! Only `apply` is timed, with the changes it leaves taken out; rows go to a plain map, so no disk is measured.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use raftq::queue::{
    State,
    applied::{Answer, Claimed},
    command::{Claim, Clocks, Command, Entry, LeaseAction, LeaseItem, Report, Request, SettingsChange, Wanted},
    ids::{ClusterMs, Index, WallMs},
    job::{Json, Office, OpSpec, Payload, Spec},
    rows::{Row, RowKey, Rows},
};

const LIVE: [usize; 3] = [1_000, 100_000, 1_000_000];
/// Submissions in one entry while the queue is filled.
const FILL: usize = 1_000;
/// Measured jobs go before those that only make the queue long.
const MEASURED: &str = "measured";

/// A state, its rows, and the log position it stands at.
struct Engine {
    state: State,
    rows: Map,
    index: u64,
    background: Arc<Spec>,
    measured: Arc<Spec>,
}

#[derive(Default)]
struct Map(BTreeMap<RowKey, Row>);

impl Rows for Map {
    fn get(&self, key: &RowKey) -> Option<Row> {
        self.0.get(key).cloned()
    }

    fn scan(&self, from: &RowKey, each: &mut dyn FnMut(RowKey, Row) -> bool) {
        let kind = std::mem::discriminant(from);
        let rows = self.0.range(from..).take_while(|(key, _)| std::mem::discriminant(*key) == kind);
        for (key, row) in rows {
            if !each(key.clone(), row.clone()) {
                return;
            }
        }
    }
}

impl Engine {
    fn with_live(live: usize) -> Self {
        let (background, measured) = (Arc::new(spec("background")), Arc::new(spec(MEASURED)));
        let mut engine = Self { state: State::default(), rows: Map::default(), index: 0, background, measured };
        // The default would leave no room for the jobs that are measured.
        let limit = SettingsChange { live_jobs_max: Some(2 * LIVE[2] as u64), ..SettingsChange::default() };
        engine.apply(Command::Settings(limit));
        for _ in 0..live / FILL {
            let jobs = vec![Ok(engine.background.clone()); FILL];
            engine.apply(Command::Submit { jobs, atomic: false });
        }
        engine
    }

    /// Applies one command in an entry of its own, and tells how long that took.
    fn apply(&mut self, command: Command) -> (Answer, Duration) {
        self.index += 1;
        let clocks = Clocks { cluster: ClusterMs(self.index), wall: WallMs(1_800_000_000_000 + self.index) };
        let request = Request { principal: "bench".into(), key: None, command };
        let entry = Entry { clocks, office: Office { term: 1, node: 1, incarnation: 1 }, requests: vec![request] };
        let began = Instant::now();
        let mut applied = self.state.apply(&self.rows, Index(self.index), &entry);
        let changes = self.state.take_changes();
        let took = began.elapsed();
        for (key, row) in changes.rows {
            match row {
                Some(row) => self.rows.0.insert(key, row),
                None => self.rows.0.remove(&key),
            };
        }
        (applied.answers.remove(0), took)
    }

    fn submit(&mut self) -> Duration {
        let jobs = vec![Ok(self.measured.clone())];
        self.apply(Command::Submit { jobs, atomic: false }).1
    }

    fn claim(&mut self) -> (Claimed, Duration) {
        let claim = Claim { start: true, ..Claim::of("bench", Wanted::Queues(vec![MEASURED.into()])) };
        match self.apply(Command::Claim(claim)) {
            (Answer::Claimed(mut claimed), took) => (claimed.remove(0).expect("a job was submitted"), took),
            (answer, _) => panic!("a claim answered {answer:?}"),
        }
    }

    fn lease(&mut self, held: &Claimed, action: LeaseAction) -> Duration {
        let item = LeaseItem { job: held.job, lease: held.lease, action };
        match self.apply(Command::Leases { items: vec![item], claim: None }) {
            (Answer::Leases { results, .. }, took) if results[0].is_ok() => took,
            (answer, _) => panic!("a lease call answered {answer:?}"),
        }
    }
}

fn spec(queue: &str) -> Spec {
    let op = OpSpec::new("task", Payload::Text("x".repeat(200).into()));
    Spec { queue: queue.into(), ..Spec::of_ops(vec![op]) }
}

fn touch() -> LeaseAction {
    LeaseAction::Touch { log: Vec::new(), log_seq: None, progress: None, checkpoint: None }
}

fn success() -> LeaseAction {
    let report = Box::new(Report::default());
    LeaseAction::Success { result: Some(Json("1".into())), jobs: Vec::new(), atomic_children: false, report }
}

/// Plays one life of a job, and tells how long the verb took that is measured.
type Life = fn(&mut Engine) -> Duration;

/// One whole life of a job, of which each verb in turn is what counts.
fn lives(criterion: &mut Criterion) {
    let verbs: [(&str, Life); 4] = [
        ("submit", |engine| {
            let took = engine.submit();
            let (held, _) = engine.claim();
            engine.lease(&held, success());
            took
        }),
        ("claim", |engine| {
            engine.submit();
            let (held, took) = engine.claim();
            engine.lease(&held, success());
            took
        }),
        ("touch", |engine| {
            engine.submit();
            let (held, _) = engine.claim();
            let took = engine.lease(&held, touch());
            engine.lease(&held, success());
            took
        }),
        ("finish", |engine| {
            engine.submit();
            let (held, _) = engine.claim();
            engine.lease(&held, success())
        }),
    ];
    for live in LIVE {
        let mut engine = Engine::with_live(live);
        let mut group = criterion.benchmark_group("apply");
        group.sample_size(20).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
        for (verb, life) in verbs {
            group.bench_function(BenchmarkId::new(verb, live), |bencher| {
                bencher.iter_custom(|lives| (0..lives).map(|_| life(&mut engine)).sum());
            });
        }
        group.finish();
    }
}

criterion_group!(benches, lives);
criterion_main!(benches);
