//! A queue for tests of the duties: the bare core, with an office that a test gives and takes, and answers that it can lose.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::sync::broadcast;

use super::{
    Duties, Seed, Setup,
    door::{Leadership, Proposed, Queue},
    pool::Options,
};
use crate::{
    clock::Clock,
    queue::{
        State,
        command::{Clocks, Command, Definition, Entry, PoolChange, Request, ScheduleChange},
        ids::{ClusterMs, Index, JobId, WallMs},
        job::{Job, Json, Needs, Office, OpSpec, Payload, Spec, Status},
        live,
        rows::{RowKey, Rows},
        schedule::{Missed, Overlap, Timing},
        testing::Memory,
    },
    raft::{AppliedBatch, AppliedEntry},
    worker::{self, Boottime, Room, Runner, Supervisor},
};

/// What a test does to the next proposal instead of letting it through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// It is not proposed.
    Never,
    /// It happens, and its answer is lost.
    AnswerLost,
    /// The same, and another node leads by then.
    OfficeLost,
    /// It neither happens nor is that known.
    Lost,
}

#[derive(Clone)]
pub struct Bench(Arc<Inner>);

struct Inner {
    core: Mutex<Core>,
    applied: broadcast::Sender<Arc<AppliedBatch>>,
}

struct Core {
    state: State,
    rows: Memory,
    index: u64,
    clock: Clock,
    office: Office,
    leads: bool,
    members: BTreeSet<u64>,
    wall_clock_off: bool,
    mishaps: VecDeque<Mishap>,
    /// Goes into the same entry as the next lease call, after it.
    follower: Option<Command>,
}

impl Queue for Bench {
    async fn propose(&self, command: Command) -> Proposed {
        tokio::task::yield_now().await;
        if !self.core().leads {
            return Proposed::Never;
        }
        let mishap = match command {
            Command::Leases { .. } => self.core().mishaps.pop_front(),
            _ => None,
        };
        match mishap {
            None => self.apply(command),
            Some(Mishap::Never) => Proposed::Never,
            Some(Mishap::AnswerLost) => {
                self.apply(command);
                Proposed::Unknown
            }
            Some(Mishap::OfficeLost) => {
                self.apply(command);
                self.other_leads();
                Proposed::Unknown
            }
            Some(Mishap::Lost) => Proposed::Unknown,
        }
    }

    async fn propose_anywhere(&self, command: Command) -> Proposed {
        self.apply(command)
    }

    fn look<T>(&self, look: impl FnOnce(&State, &dyn Rows) -> T) -> T {
        let core = self.core();
        look(&core.state, &core.rows)
    }

    fn members(&self) -> BTreeSet<u64> {
        self.core().members.clone()
    }

    fn applied(&self) -> broadcast::Receiver<Arc<AppliedBatch>> {
        self.0.applied.subscribe()
    }

    fn leadership(&self) -> Option<Leadership> {
        let core = self.core();
        core.leads.then(|| Leadership { office: core.office, until: Boottime::now().after_ms(400) })
    }

    fn is_wall_clock_off(&self) -> bool {
        self.core().wall_clock_off
    }
}

impl Bench {
    pub fn new() -> Self {
        let core = Core {
            state: State::default(),
            rows: Memory::default(),
            index: 0,
            clock: Clock::system(),
            office: Office { term: 1, node: 1, incarnation: 7 },
            leads: false,
            members: [1, 2, 3].into(),
            wall_clock_off: false,
            mishaps: VecDeque::new(),
            follower: None,
        };
        Self(Arc::new(Inner { core: Mutex::new(core), applied: broadcast::Sender::new(1024) }))
    }

    /// Duties over this queue, with a pool that can run `sleep` and nothing else: the place of the supervisor is taken by a
    /// process that listens and does nothing.
    pub fn duties(&self, scratch: &std::path::Path, size: u32) -> Duties {
        let supervisor = worker::Options { program: "/bin/cat".into(), ..worker::Options::new(scratch) };
        let runner = Runner::new(Supervisor::start(supervisor).expect("a process"));
        let pool = Options {
            worker: super::pool::name(1),
            host: "here".into(),
            server: "127.0.0.1:1".into(),
            read_spec: |_| panic!("sleep writes no jobs"),
            write_result: |_| panic!("nobody finishes with a result here"),
            machine: Room { slots: 0, cores_milli: 2_000, ram_mb: 1_000, disk_mb: 1_000 },
        };
        let change = PoolChange { active: Some(true), size: Some(size), queues: None };
        let seed = Seed { pool: change, pool_timeout_ms: 2_000 };
        Duties::start(self.clone(), Setup { clock: Clock::system(), runner, pool, seed })
    }

    pub fn lead(&self, leads: bool) {
        let mut core = self.core();
        core.office.term += u64::from(leads);
        core.leads = leads;
    }

    /// Another node's entry: the old pool's leases get their deadline.
    pub fn other_leads(&self) {
        self.lead(false);
        self.core().office.node = 2;
        self.apply(Command::Tick { hold_wall: false });
    }

    pub fn leaves_cluster(&self, node: u64) {
        self.core().members.remove(&node);
    }

    pub fn mistrust_wall_clock(&self, off: bool) {
        self.core().wall_clock_off = off;
    }

    pub fn mishap(&self, mishap: Mishap) {
        self.core().mishaps.push_back(mishap);
    }

    /// The next lease call is followed by this one in its own entry.
    pub fn follow(&self, command: Command) {
        self.core().follower = Some(command);
    }

    pub fn apply(&self, command: Command) -> Proposed {
        let mut core = self.core();
        let follower = core.follower.take_if(|_| matches!(command, Command::Leases { .. }));
        core.index += 1;
        let index = core.index;
        let clocks = Clocks { cluster: ClusterMs(core.clock.monotonic_ms()), wall: WallMs(core.clock.wall_ms()) };
        let request = |command| Request { principal: "test".into(), key: None, command };
        let requests = [command].into_iter().chain(follower).map(request).collect();
        let entry = Entry { clocks, office: core.office, requests };
        let Core { state, rows, .. } = &mut *core;
        let mut applied = state.apply(rows, Index(index), &entry);
        rows.store(state.take_changes());
        let batch = AppliedBatch {
            index,
            entries: vec![AppliedEntry { index, clocks, effects: applied.effects }],
            skipped: false,
        };
        // Told under the lock, so in the order of the log; nobody may be listening.
        drop(self.0.applied.send(Arc::new(batch)));
        Proposed::Answered { index, answer: applied.answers.remove(0) }
    }

    pub fn submission(seconds: f64) -> Command {
        submission(sleep(seconds))
    }

    /// A schedule of jobs that sleep for no time.
    pub fn schedule(&self, name: &str, every_ms: u64) {
        let definition = Box::new(Definition {
            timing: Timing::Every { ms: every_ms },
            missed: Missed::Once,
            overlap: Overlap::Allow,
            paused: None,
            spec: Arc::new(sleep(0.0)),
        });
        let put = ScheduleChange::Put { name: name.into(), definition, if_absent: true };
        self.apply(Command::Schedule(put));
    }

    pub fn submit_sleep(&self, seconds: f64) -> JobId {
        self.submit(sleep(seconds))
    }

    /// One that must not run twice.
    pub fn submit_sleep_once(&self, seconds: f64) -> JobId {
        let mut spec = sleep(seconds);
        spec.policy.rerun_on_loss = false;
        self.submit(spec)
    }

    pub fn submit_sleep_with(&self, seconds: f64, needs: Needs, resource_group: Option<&str>) -> JobId {
        let mut spec = sleep(seconds);
        spec.needs = Some(needs);
        spec.policy.resource_group = resource_group.map(Arc::from);
        self.submit(spec)
    }

    fn submit(&self, spec: Spec) -> JobId {
        self.apply(submission(spec));
        self.look(|state, _| state.counters().last_job)
    }

    pub fn status(&self, job: JobId) -> Status {
        self.job(job).status()
    }

    pub fn job(&self, job: JobId) -> Job {
        let core = self.core();
        let ended = || Some(core.rows.get(&RowKey::Ended(job))?.into_ended()?.job);
        *live::job(&core.rows, job).or_else(ended).expect("there is such a job")
    }

    /// Waits until the job has this status.
    #[track_caller]
    pub fn reaches(&self, job: JobId, status: Status) -> impl Future<Output = ()> {
        let (this, caller) = (self.clone(), std::panic::Location::caller());
        async move {
            let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
            while this.status(job) != status {
                assert!(tokio::time::Instant::now() < deadline, "{caller}: {job} is {:?}", this.status(job));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.0.core.lock().expect("a test failed under it")
    }
}

fn submission(spec: Spec) -> Command {
    Command::Submit { jobs: vec![Ok(Arc::new(spec))], atomic: false }
}

fn sleep(seconds: f64) -> Spec {
    let args = format!("{{\"seconds\": {seconds}}}");
    Spec::of_ops(vec![OpSpec::new("sleep", Payload::Args(Json(args.into())))])
}
