//! The pool in one office: claims for free slots, runs, reports, obeys.

use std::{
    collections::{BTreeSet, VecDeque},
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt;
use tokio::sync::{broadcast, watch};

use super::{
    Condition, Mode, Options, Pool, outcome,
    runs::{News, Runs, Work},
    table::{Grant, Order, Standing, Table},
};
use crate::{
    leader::door::{Proposed, Queue},
    queue::{
        State,
        applied::{Answer, Claimed, Effect},
        command::{Claim, Command, LeaseItem, Wanted},
        ids::LeaseId,
        job::OpStatus,
        refusal::Refusal,
        rows::Rows,
        settings,
    },
    raft::AppliedBatch,
    worker::{KINDS, Room, Runner, told},
};

/// How long log lines and progress may gather before they are told.
const GATHER: Duration = Duration::from_millis(100);
/// Between two requests of a pool that keeps its machine busy: what ends meanwhile goes with the next. An entry costs three
/// nodes about as much as a short command, however few it tells of.
const PACE: Duration = Duration::from_millis(2);
/// More commands than this for each core, and no core waits for the next while requests are paced.
const BUSY_PER_CORE: u64 = 2;
/// Before a request that was not taken goes again.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// From TERM to KILL for jobs that a planned handover interrupts.
const INTERRUPT_GRACE: Duration = Duration::from_secs(2);
/// For trees that are gone to be reported; the runner has its own patience with those that are not.
const LAST_REPORTS: Duration = Duration::from_secs(1);
/// One claim is one answer.
const CLAIM_MAX: u32 = 256;

type Sending = Pin<Box<dyn Future<Output = Proposed> + Send>>;

pub struct Shift<'a, Q> {
    queue: Q,
    runner: Runner,
    options: &'a Options,
    mode: &'a mut watch::Receiver<Mode>,
    condition: &'a watch::Sender<Condition>,
    table: Table,
    runs: Runs,
    settings: settings::Pool,
    effects: broadcast::Receiver<Arc<AppliedBatch>>,
    /// The one request under way, and how many jobs it asks for.
    sending: Option<(Sending, usize)>,
    sent_at: Option<Instant>,
    not_before: Instant,
    /// Log lines and progress wait until then.
    touch_at: Option<Instant>,
    told: Vec<LeaseId>,
    /// The newest entry that made something claimable, and that of the last claim that found too little. One entry carries
    /// many requests, so at the same index the first may have come after the second.
    ready_index: u64,
    tried_index: u64,
    /// The table may not be what the state says: compare when an answer has come.
    is_doubtful: bool,
    has_interrupted: bool,
}

/// What an office that has ended leaves to be told.
pub struct Remains {
    pub mail: VecDeque<Vec<LeaseItem>>,
    /// If a claim was never answered: the leases that were known. What it was granted beside them never ran.
    pub known: Option<BTreeSet<LeaseId>>,
}

impl<'a, Q: Queue> Shift<'a, Q> {
    pub fn begin(pool: &'a mut Pool<Q>) -> Self {
        // Listen first, then look: nothing falls between.
        let effects = pool.queue.applied();
        let settings = pool.queue.look(|state, _| state.pool().clone());
        pool.condition.send_replace(Condition::default());
        Self {
            queue: pool.queue.clone(),
            runner: pool.runner.clone(),
            options: &pool.options,
            mode: &mut pool.mode,
            condition: &pool.condition,
            table: Table::default(),
            runs: Runs::new(pool.runner.clone(), pool.options.server.clone(), pool.live.clone()),
            settings,
            effects,
            sending: None,
            sent_at: None,
            not_before: Instant::now(),
            touch_at: None,
            told: Vec::new(),
            ready_index: 1,
            tried_index: 0,
            is_doubtful: true,
            has_interrupted: false,
        }
    }

    /// Does not return; dropped when the office ends. What it held is then told by [`Self::end`].
    pub async fn work(&mut self) {
        loop {
            self.interrupt_if_time_is_up();
            self.send();
            self.publish();
            let wake = self.wake_at();
            tokio::select! {
                biased;
                proposed = answer_of(&mut self.sending) => self.answered(proposed),
                news = self.runs.next() => self.hear(news).await,
                batch = next_batch(&mut self.effects) => self.heed(batch.as_deref()),
                Ok(()) = self.mode.changed() => self.has_interrupted = false,
                () = until(wake) => {}
            }
        }
    }

    /// Stops every command, and gives what the queue has not been told, once the trees are gone.
    pub async fn end(mut self) -> Remains {
        let unanswered = self.sending.take().is_some() || self.is_doubtful;
        if let Err(error) = self.runner.kill_everything(super::LOSS_GRACE).await {
            tracing::error!(%error, "commands of a lost office do not end");
        }
        let deadline = Instant::now() + LAST_REPORTS;
        while self.table.occupied() > 0 {
            tokio::select! {
                biased;
                news = self.runs.next() => self.heard(news),
                () = until(Some(deadline)) => break,
            }
        }
        self.condition.send_modify(|condition| condition.has_left = true);
        let known = unanswered.then(|| self.table.leases());
        Remains { mail: self.table.take_mail().into(), known }
    }

    fn send(&mut self) {
        if self.sending.is_some() || Instant::now() < self.next_request() {
            return;
        }
        if self.touch_at.is_some_and(|at| at <= Instant::now()) || self.table.has_mail() {
            self.gather();
        }
        let left = self.left();
        let claim = (left.slots > 0 && self.ready_index >= self.tried_index).then(|| self.claim(left));
        if !self.table.has_mail() && claim.is_none() && !self.is_doubtful {
            return;
        }
        let asked = claim.as_ref().map_or(0, |claim| claim.max as usize);
        let command = Command::Leases { items: self.table.send(), claim };
        let queue = self.queue.clone();
        self.sent_at = Some(Instant::now());
        self.sending = Some((Box::pin(async move { queue.propose(command).await }), asked));
    }

    /// What a claim may fill: slots by the settings, the rest by this machine.
    fn left(&self) -> Room {
        let leaves = matches!(*self.mode.borrow(), Mode::Leave { .. });
        let slots = if self.settings.active && !leaves { self.settings.size } else { 0 };
        Room { slots, ..self.options.machine }.beside(self.table.needs())
    }

    fn claim(&self, left: Room) -> Claim {
        Claim {
            worker: self.options.worker.as_ref().into(),
            host: self.options.host.as_ref().into(),
            pid: std::process::id(),
            pool: true,
            wanted: Wanted::Queues(self.settings.queues.clone()),
            kinds: Some(KINDS.map(Arc::from).to_vec()),
            resource_groups: None,
            max: left.slots.min(CLAIM_MAX),
            lease_ms: None,
            // In the same entry: a job whose cancel is acknowledged has either been started or never will be (P4).
            start: true,
            free: Some(left.free(None)),
        }
    }

    fn answered(&mut self, proposed: Proposed) {
        let asked = self.sending.take().map_or(0, |(_, asked)| asked);
        match proposed {
            Proposed::Answered { index, answer: Answer::Leases { results, claimed } } => {
                let claimed: Vec<Claimed> = claimed.into_iter().filter_map(accepted).collect();
                if claimed.len() < asked {
                    self.tried_index = index;
                }
                let granted = self.queue.look(|state, _| granted(state, &claimed));
                let orders = self.table.answered(&results, &granted);
                self.obey(orders);
                if std::mem::take(&mut self.is_doubtful) {
                    self.compare();
                }
            }
            Proposed::Answered { answer, .. } => {
                tracing::error!(?answer, "pool call not understood");
                self.again();
            }
            Proposed::Never => self.again(),
            Proposed::Unknown => {
                self.is_doubtful = true;
                self.again();
            }
        }
    }

    fn again(&mut self) {
        self.table.unanswered();
        self.not_before = Instant::now() + RETRY_AFTER;
    }

    fn compare(&mut self) {
        let worker = &self.options.worker;
        let standing = self.queue.look(|state, _| standing(state, worker));
        let orders = self.table.compare(&standing);
        if !orders.is_empty() {
            tracing::info!(orders = orders.len(), "pool found leases that it did not know of, or lost");
        }
        self.obey(orders);
    }

    /// With what came along: the supervisor tells of many ends at once, and one request is to tell the queue.
    async fn hear(&mut self, news: News) {
        self.heard(news);
        tokio::task::yield_now().await;
        while let Some(news) = self.runs.next().now_or_never() {
            self.heard(news);
        }
    }

    fn heard(&mut self, news: News) {
        match news {
            News::LivesOn(lease) => self.name(lease),
            News::Told(lease) => {
                self.told.push(lease);
                self.touch_at.get_or_insert_with(|| Instant::now() + GATHER);
            }
            News::Ended(lease, report) => {
                self.name(lease);
                let mut rest = self.runs.take_updates(lease);
                if rest.wants_touch() {
                    let updates = std::mem::take(&mut rest);
                    self.table.touch(lease, |number| told::touch(updates, number));
                }
                let read_spec = self.options.read_spec;
                if self.table.ended(lease, |number| outcome::finish(&report, rest, number, read_spec)) {
                    self.tried_index = 0;
                }
                self.runs.forget(lease);
            }
        }
    }

    /// Says which process runs under a lease: the claim could name only the node's.
    fn name(&mut self, lease: LeaseId) {
        if let Some(pid) = self.runs.pid(lease) {
            self.table.name(lease, pid);
        }
    }

    /// Turns what commands have told into touches.
    fn gather(&mut self) {
        self.touch_at = None;
        for lease in std::mem::take(&mut self.told) {
            self.name(lease);
            let updates = self.runs.take_updates(lease);
            if !updates.is_empty() {
                self.table.touch(lease, |number| told::touch(updates, number));
            }
        }
    }

    /// `None`: some were missed.
    fn heed(&mut self, batch: Option<&AppliedBatch>) {
        let Some(batch) = batch else {
            tracing::debug!("pool missed effects, and looks at the state instead");
            self.reload();
            self.is_doubtful = true;
            return;
        };
        for entry in &batch.entries {
            for effect in &entry.effects {
                self.heed_effect(entry.index, effect);
            }
        }
    }

    fn heed_effect(&mut self, index: u64, effect: &Effect) {
        let order = match effect {
            Effect::Ready { queue } => {
                if self.settings.queues.contains(queue) {
                    self.ready_index = index;
                }
                None
            }
            Effect::SettingsChanged => {
                self.reload();
                self.ready_index = index;
                None
            }
            Effect::Stop { lease, signal, .. } => self.table.stop(*lease, *signal),
            Effect::LeaseEnded { lease, .. } => self.table.lost(*lease),
            Effect::Posted { .. } | Effect::Changed { .. } | Effect::Removed { .. } | Effect::Schedule { .. } => None,
        };
        self.obey(order);
    }

    fn reload(&mut self) {
        self.settings = self.queue.look(|state, _| state.pool().clone());
    }

    fn obey(&mut self, orders: impl IntoIterator<Item = Order>) {
        let mut grants = Vec::new();
        for order in orders {
            match order {
                Order::Run(grant) => grants.push(grant),
                Order::Stop(lease, signal) => self.runs.cancel(lease, signal),
                Order::Kill(lease) => self.runs.interrupt(lease, super::LOSS_GRACE),
            }
        }
        if !grants.is_empty() {
            self.start(grants);
        }
    }

    fn start(&mut self, grants: Vec<Grant>) {
        let write_result = self.options.write_result;
        let read = |rows: &dyn Rows| grants.iter().map(|grant| Work::read(rows, *grant, write_result)).collect();
        let works: Vec<Option<Work>> = self.queue.look(|_, rows| read(rows));
        for (grant, work) in grants.into_iter().zip(works) {
            match work {
                Some(work) => self.runs.start(grant, work),
                None => {
                    tracing::warn!(job = grant.job.0, "a claimed job has gone before it ran");
                    self.is_doubtful = true;
                }
            }
        }
    }

    fn interrupt_if_time_is_up(&mut self) {
        let Mode::Leave { until } = *self.mode.borrow() else { return };
        if until > Instant::now() || std::mem::replace(&mut self.has_interrupted, true) {
            return;
        }
        let running: Vec<_> = self.table.running().collect();
        for (_, lease) in &running {
            self.runs.interrupt(*lease, INTERRUPT_GRACE);
        }
        self.condition.send_modify(|condition| {
            condition.interrupted.extend(running.into_iter().map(|(job, _)| job));
            condition.interrupted.sort_unstable();
            condition.interrupted.dedup();
        });
    }

    fn publish(&self) {
        let leaves = matches!(*self.mode.borrow(), Mode::Leave { .. });
        let has_left = leaves && self.table.is_settled() && self.sending.is_none();
        self.condition.send_if_modified(|condition| std::mem::replace(&mut condition.has_left, has_left) != has_left);
    }

    /// When to look again although nothing has happened.
    fn wake_at(&self) -> Option<Instant> {
        let leave = match *self.mode.borrow() {
            Mode::Leave { until } if !self.has_interrupted => Some(until),
            Mode::Leave { .. } | Mode::Work => None,
        };
        let request = self.next_request();
        let held = (request > Instant::now()).then_some(request);
        let touch = self.touch_at.filter(|_| held.is_none());
        let due = held.or(touch).filter(|_| self.sending.is_none());
        [leave, due].into_iter().flatten().min()
    }

    /// No request goes before then.
    fn next_request(&self) -> Instant {
        let is_busy = self.table.occupied() as u64 * 1000 > BUSY_PER_CORE * self.options.machine.cores_milli;
        let paced = self.sent_at.filter(|_| is_busy).map(|sent| sent + PACE);
        self.not_before.max(paced.unwrap_or(self.not_before))
    }
}

fn accepted(claimed: Result<Claimed, Refusal>) -> Option<Claimed> {
    claimed.inspect_err(|refusal| tracing::error!(%refusal, "the pool's claim is refused")).ok()
}

/// With the needs by which they were packed. A job that has gone meanwhile needs nothing any more.
fn granted(state: &State, claimed: &[Claimed]) -> Vec<Grant> {
    let needs = |claimed: &Claimed| state.job(claimed.job).map(|job| state.needs(&job.shape)).unwrap_or_default();
    claimed.iter().map(|claimed| Grant::new(claimed, needs(claimed))).collect()
}

/// Every lease of this pool without a deadline, as the state has it.
fn standing(state: &State, worker: &str) -> Vec<Standing> {
    let leases = state.pool_leases().filter(|(_, lease)| &*lease.holder.worker == worker);
    leases
        .map(|(job, lease)| {
            let op = job.current();
            let stop = match &job.ops[op].status {
                OpStatus::Canceling(_, signal) => Some(*signal),
                _ => None,
            };
            let attempt = job.ops[op].runs().attempts;
            let op = u32::try_from(op).expect("the number of ops is limited");
            let needs = state.needs(&job.shape);
            Standing { grant: Grant { job: job.id, op, lease: lease.id, attempt, needs }, stop }
        })
        .collect()
}

/// The answer to the request under way; for ever pending if there is none.
async fn answer_of(sending: &mut Option<(Sending, usize)>) -> Proposed {
    match sending {
        Some((answer, _)) => answer.await,
        None => std::future::pending().await,
    }
}

/// `None` if some were missed; for ever pending once the node has ended.
async fn next_batch(effects: &mut broadcast::Receiver<Arc<AppliedBatch>>) -> Option<Arc<AppliedBatch>> {
    match effects.recv().await {
        Ok(batch) => Some(batch),
        Err(broadcast::error::RecvError::Lagged(_)) => None,
        Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
