//! The replicated state: what is hot, in memory, and how an entry of the log changes it.
//!
//! Hot is what a claim, a deadline or a check may need at once: live jobs, their order, keys, settings. Everything else
//! (specs, results, jobs that have ended) stands in rows only. The state is a function of its rows ([`State::load`]), and
//! its rows are a function of the log.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    applied::{Answer, Applied, NextDeadline, Position},
    birth::Alike,
    command::{Command, Entry, Request},
    fresh,
    granted::Grants,
    history::History,
    ids::{ClusterMs, Index, JobId},
    intern::Interner,
    job::{Job, Needs, Policy, Shape, Spec},
    keys::{self, Keys},
    live,
    needs::{self, Learned},
    ops::{self, environment::Environments, impossible, worker::Workers},
    order::Order,
    rows::{Changes, Counters, Row, RowKey, Rows},
    schedule::Schedules,
    settings::{Drain, Pool, Settings},
    span::{self, Spans},
    step::Step,
    totals::Totals,
    waits::{self, Waits},
};

#[derive(Clone, Debug, Default)]
pub struct State {
    pub(super) counters: Counters,
    pub(super) live: BTreeMap<JobId, Box<Job>>,
    pub(super) order: Order,
    pub(super) shared: Shared,
    pub(super) keys: Keys,
    pub(super) history: History,
    pub(super) drain: Drain,
    pub(super) pool: Pool,
    pub(super) settings: Settings,
    /// Paused queues; the empty name stands for all.
    pub(super) paused: BTreeSet<Arc<str>>,
    /// Limit groups with a ceiling.
    pub(super) limits: BTreeMap<Arc<str>, u32>,
    pub(super) workers: Workers,
    /// The next tick looks for ready jobs that no worker can hold.
    pub(super) looks_again: bool,
    pub(super) environments: Environments,
    pub(super) schedules: Schedules,
    pub(super) totals: Totals,
    pub(super) waits: Waits,
    /// What resource groups have needed.
    pub(super) learned: BTreeMap<Arc<str>, Learned>,
    pub(super) fresh: Spans,
    /// Live jobs to which nothing has happened but one claim.
    pub(super) granted: Spans,
    /// Live jobs whose row is older than they are.
    pub(super) touched: BTreeSet<JobId>,
    pub(super) changes: Changes,
}

/// One copy of what many live jobs say alike.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    pub shapes: Interner<Shape>,
    pub policies: Interner<Policy>,
    pub words: Interner<str>,
}

impl State {
    /// Applies one entry of the log: a function of the state, the rows and the entry, and of nothing else.
    ///
    /// `rows` are the rows as of the last [`State::take_changes`] that was stored.
    pub fn apply(&mut self, rows: &dyn Rows, index: Index, entry: &Entry) -> Applied {
        let mut step = Step::begin(self, rows, index, entry);
        let answers = entry.requests.iter().map(|request| answer(&mut step, request)).collect();
        let effects = step.end();
        Applied { answers, effects }
    }

    /// What has changed since the last call, to be stored in one batch.
    pub fn take_changes(&mut self) -> Changes {
        for id in std::mem::take(&mut self.touched) {
            if let Some(job) = self.live.get(&id) {
                self.changes.put(RowKey::Live(id), Row::Job(job.clone()));
            }
        }
        fresh::store(&mut self.fresh, &mut self.changes);
        self.store_granted();
        self.totals.store(&mut self.changes);
        self.changes.put(RowKey::Counters, Row::Counters(Box::new(self.counters)));
        std::mem::take(&mut self.changes)
    }

    fn store_granted(&mut self) {
        for (span, bits) in self.granted.take_changed() {
            let key = RowKey::Granted(span);
            if bits == 0 {
                self.changes.delete(key);
                continue;
            }
            let grants = Grants::of(span::ids(span, bits).map(|id| &*self.live[&id]));
            self.changes.put(key, Row::Grants(Box::new(grants)));
        }
    }

    /// When the next tick is wanted. A deadline in the past means: at once.
    pub fn next_deadline(&self) -> NextDeadline {
        if self.waits.has_work() || self.looks_again {
            return NextDeadline { cluster: Some(ClusterMs(0)), wall: None };
        }
        let due = self.order.first_due().map(|(at, _)| at);
        let cluster = [due, self.keys.next_deadline(), self.workers.next_deadline()].into_iter().flatten().min();
        let run_at = self.order.first_run_at().map(|(at, _)| at);
        let wall = [run_at, self.history.next_deadline(&self.settings)].into_iter().flatten().min();
        NextDeadline { cluster, wall }
    }

    /// What counts as the needs of jobs of this shape, with what their group has learned.
    pub fn needs(&self, shape: &Shape) -> Needs {
        let learned = shape.resource_group.as_ref().and_then(|group| self.learned.get(group));
        needs::effective(shape, learned)
    }

    /// Where the state stands: index, clocks and office of the last entry.
    pub fn position(&self) -> Position {
        self.counters.position
    }

    /// The state that these rows are of.
    pub fn load(rows: &dyn Rows) -> Self {
        let mut state = State::default();
        if let Some(Row::Counters(counters)) = rows.get(&RowKey::Counters) {
            state.counters = *counters;
        }
        state.load_settings(rows);
        (state.fresh, state.granted) = live::load(rows, |job| state.adopt(job));
        state.keys = Keys::load(rows);
        state.history = History::load(rows);
        state.workers = Workers::load(rows);
        state.looks_again = impossible::load(rows);
        state.environments = Environments::load(rows);
        state.schedules = Schedules::load(rows);
        state.totals = Totals::load(rows);
        state.waits = Waits::load(rows, &state.live);
        state
    }

    fn load_settings(&mut self, rows: &dyn Rows) {
        if let Some(Row::Drain(drain)) = rows.get(&RowKey::Drain) {
            self.drain = *drain;
        }
        if let Some(Row::Pool(pool)) = rows.get(&RowKey::Pool) {
            self.pool = pool;
        }
        if let Some(Row::Settings(settings)) = rows.get(&RowKey::Settings) {
            self.settings = settings;
        }
        rows.scan(&RowKey::Paused("".into()), &mut |key, _| {
            let RowKey::Paused(queue) = key else { panic!("a scan stays within its kind") };
            self.paused.insert(queue)
        });
        rows.scan(&RowKey::Limit("".into()), &mut |key, row| {
            let (RowKey::Limit(name), Row::Limit(max)) = (key, row) else { panic!("a limit's row holds its ceiling") };
            self.limits.insert(name, max);
            true
        });
        rows.scan(&RowKey::Learned("".into()), &mut |key, row| {
            let (RowKey::Learned(group), Row::Learned(learned)) = (key, row) else {
                panic!("a resource group's row holds what it has learned")
            };
            self.learned.insert(group, *learned);
            true
        });
    }

    /// A live job has changed: it has a row from now on.
    pub(super) fn touch(&mut self, id: JobId) {
        self.fresh.remove(id);
        self.granted.remove(id);
        self.touched.insert(id);
    }

    /// A live job was claimed, and nothing had happened to it before.
    pub(super) fn only_granted(&mut self, id: JobId) {
        self.touched.remove(&id);
        self.granted.add(id);
    }

    /// A job is live no more.
    pub(super) fn forget_row(&mut self, id: JobId) {
        self.touched.remove(&id);
        if !self.fresh.remove(id) && !self.granted.remove(id) {
            self.changes.delete(RowKey::Live(id));
        }
    }

    /// A live job's row, read again: shares what it says alike with others, and enters it into the order.
    fn adopt(&mut self, mut job: Box<Job>) {
        self.shared.adopt(&mut job);
        self.order.insert(&job);
        self.live.insert(job.id, job);
    }
}

impl Shared {
    pub fn adopt(&mut self, job: &mut Job) {
        self.shapes.share(&mut job.shape);
        self.policies.share(&mut job.policy);
        for op in &mut job.ops {
            self.words.share(&mut op.kind);
        }
    }

    /// What a job of this spec shares with others.
    pub fn alike(&self, spec: &Spec) -> Alike {
        Alike::of(spec).shared(&self.shapes, &self.policies)
    }

    pub fn release(&mut self, job: &Job) {
        self.shapes.release(&job.shape);
        self.policies.release(&job.policy);
        for op in &job.ops {
            self.words.release(&op.kind);
        }
    }
}

/// One request: its key first (design 2.2), then its verb.
fn answer(step: &mut Step, request: &Request) -> Answer {
    step.principal = request.principal.clone();
    let Some(key) = &request.key else { return dispatch(step, &request.command) };
    match keys::look_up(step, key) {
        keys::Seen::First => {
            let answer = dispatch(step, &request.command);
            keys::keep(step, key, &answer);
            answer
        }
        keys::Seen::Answered(answer) => {
            keys::note_use(step, key);
            answer
        }
        keys::Seen::Refused(refusal) => Answer::Refused(refusal),
    }
}

fn dispatch(step: &mut Step, command: &Command) -> Answer {
    let answer = match command {
        Command::Tick { hold_wall } => ops::expire::tick(step, *hold_wall),
        Command::Submit { jobs, atomic } => ops::submit::submit(step, jobs, *atomic),
        Command::Claim(claim) => ops::claim::claim(step, claim),
        Command::Leases { items, claim } => ops::leases::leases(step, items, claim.as_ref()),
        Command::Cancel { ids, how, reason } => ops::cancel::cancel(step, ids, *how, reason.as_deref()),
        Command::Kick { ids } => ops::kick::kick(step, ids),
        Command::Bury { ids, reason } => ops::bury::bury(step, ids, reason.as_deref()),
        Command::Priority { ids, priority } => ops::priority::priority(step, ids, *priority),
        Command::Archive { ids } => ops::archive::archive(step, ids),
        Command::Autoarchive(wanted) => ops::autoarchive::autoarchive(step, wanted),
        Command::Delete { ids } => ops::delete::delete(step, ids),
        Command::Edit { id, edit } => ops::edit::edit(step, *id, edit),
        Command::Drain { drained, reason } => ops::drain::drain(step, *drained, reason.as_deref()),
        Command::Pause { queue, paused } => ops::pause::pause(step, queue.as_ref(), *paused),
        Command::Pool(change) => ops::pool::pool(step, change),
        Command::Limit { name, max } => ops::limit::limit(step, name, *max),
        Command::Settings(change) => ops::settings::settings(step, change),
        Command::Worker(change) => ops::worker::worker(step, change),
        Command::Environment { digest, value } => ops::environment::environment(step, *digest, value),
        Command::Schedule(change) => ops::schedule::schedule(step, change),
        Command::Forget { resource_group } => ops::learn::forget(step, resource_group),
        Command::ForgetQueue { queue } => ops::totals::forget(step, queue),
        Command::Piece { command, ids, next } => match dispatch(step, command) {
            Answer::Jobs(results) => Answer::Piece { ids: ids.clone(), results, next: *next },
            other => other,
        },
        Command::IfVersion { id, version, command } => match ops::edit::check_version(step, *id, *version) {
            Ok(()) => dispatch(step, command),
            Err(refusal) => Answer::Refused(refusal),
        },
    };
    waits::wake(step);
    let state = &mut *step.state;
    state.history.refresh(&state.changes, step.rows);
    answer
}
