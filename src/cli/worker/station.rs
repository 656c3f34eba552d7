//! The worker's one loop: what to ask, what to tell, when to end.

use std::{collections::BTreeMap, future::Future, pin::Pin, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

use super::{
    WorkerArgs, outcome,
    registry::Registration,
    runs::{News, Runs},
};
use crate::{
    api::{
        ClaimAnswer, ClaimRequest, ClaimedJob, LeaseId, LeaseItem, LeaseResult, LeasesAnswer, LeasesRequest, WorkerRef,
    },
    cli::{
        context::Context,
        failure::{Exit, Failure, Outcome},
    },
    client::{Call, ClientError, Method},
    worker::{self, Boottime, KINDS, Room, Runner, Supervisor},
};

/// A claim waits no longer, because whoever ends the worker waits for its answer: leases that nobody hears of are lost.
const CLAIM_WAIT: Duration = Duration::from_secs(3);
/// A claim may go on looking for a leader this long.
const CLAIM_PATIENCE: Duration = Duration::from_secs(30);
/// Reports are put together anew after this long without an answer; touches among them are then newer.
const REPORT_PATIENCE: Duration = Duration::from_secs(10);
/// How long log lines and progress may gather before they are told.
const GATHER: Duration = Duration::from_millis(100);
/// Before anything is asked again after a failure.
const PAUSE: Duration = Duration::from_millis(500);
/// From TERM to KILL for what is interrupted at the end.
const END_GRACE: Duration = Duration::from_secs(5);
/// For the last reports.
const END_PATIENCE: Duration = Duration::from_secs(20);
/// The same where no node answers or none leads: longer than it takes to elect another leader, shorter than a person waits.
const UNSERVED_PATIENCE: Duration = Duration::from_millis(1500);
/// The same for whoever has said twice that it should end: what is killed has gone in less.
const HASTENED_PATIENCE: Duration = Duration::from_secs(1);

/// How often a worker that ends looks whether it still makes sense to wait.
const END_POLL: Duration = Duration::from_millis(100);

type Asking<'a, T> = Option<Pin<Box<dyn Future<Output = (Boottime, T)> + 'a>>>;

struct Station<'a> {
    context: &'a Context,
    args: &'a WorkerArgs,
    me: WorkerRef,
    room: Room,
    runs: Runs,
    /// Leases of a long poll whose start is not confirmed yet: nothing of them runs.
    granted: BTreeMap<LeaseId, (Boottime, ClaimedJob)>,
    /// What is to be told next.
    items: Vec<LeaseItem>,
    telling: Asking<'a, (Vec<LeaseItem>, Result<LeasesAnswer, ClientError>)>,
    /// The call under way carries a claim.
    telling_claims: bool,
    claiming: Asking<'a, Result<ClaimAnswer, ClientError>>,
    not_before: Instant,
    gather_until: Option<Instant>,
    ends_at: Option<Instant>,
    /// No more claims since then; it ends when everything is told.
    ending_since: Option<Instant>,
    /// By a signal, to end.
    was_told: bool,
    /// Told once more to end: what runs is killed, and not much is waited for.
    hastened_at: Option<Instant>,
    /// When a command of ours was last over.
    last_ended: Instant,
    idle: bool,
}

pub async fn work(context: &Context, args: &WorkerArgs, supervisor: Supervisor) -> Outcome {
    let runner = Runner::new(supervisor);
    let host = worker::host_name();
    let name = args.name.clone().unwrap_or_else(|| format!("{host}-{}", std::process::id()));
    let room = room(args, &runner);
    let registration =
        Registration { context, name: name.clone(), host: host.clone(), room, queues: args.queue.clone() };
    let me = WorkerRef { id: name.into(), host: host.into(), pid: std::process::id() };
    let runs = Runs::new(runner.clone(), context.client.servers().replace(' ', ""));
    let station = Station::new(context, args, me, room, runs);
    let ended = tokio::select! {
        ended = station.run() => ended,
        () = registration.keep() => unreachable!("it never ends"),
    };
    runner.stop().await;
    let can_remove = context.client.unserved_since().is_none();
    if !can_remove || registration.remove().await.is_err() {
        context.output.note("the worker's entry stays in the registry until it expires");
    }
    ended
}

/// The whole machine, or what of it is to be given away.
fn room(args: &WorkerArgs, runner: &Runner) -> Room {
    let machine = runner.machine();
    Room {
        slots: args.slots.unwrap_or(machine.slots),
        cores_milli: args.cores.map_or(machine.cores_milli, |cores| cores.milli),
        ram_mb: args.ram.unwrap_or(machine.ram_mb),
        disk_mb: args.disk.unwrap_or(machine.disk_mb),
    }
}

impl<'a> Station<'a> {
    fn new(context: &'a Context, args: &'a WorkerArgs, me: WorkerRef, room: Room, runs: Runs) -> Self {
        let now = Instant::now();
        Self {
            context,
            args,
            me,
            room,
            runs,
            granted: BTreeMap::new(),
            items: Vec::new(),
            telling: None,
            telling_claims: false,
            claiming: None,
            not_before: now,
            gather_until: None,
            ends_at: args.max_time.map(|time| now + time),
            ending_since: None,
            was_told: false,
            hastened_at: None,
            last_ended: now,
            idle: false,
        }
    }

    async fn run(mut self) -> Outcome {
        let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        loop {
            self.tell();
            if self.is_done() || self.gives_up_at().is_some_and(|at| Instant::now() >= at) {
                return self.end();
            }
            self.claim();
            let wake = self.wake_at();
            tokio::select! {
                (sent, (items, answer)) = answer_of(&mut self.telling) => self.answered(sent, items, answer)?,
                (sent, answer) = answer_of(&mut self.claiming) => self.claimed(sent, answer)?,
                news = self.runs.next() => self.heard(news),
                _ = term.recv() => self.told_to_end(),
                _ = interrupt.recv() => self.told_to_end(),
                () = tokio::time::sleep_until(wake) => {}
            }
            if self.ends_at.is_some_and(|at| Instant::now() + END_GRACE >= at) {
                self.begin_to_end();
            }
        }
    }

    /// Whoever says so twice does not want to wait.
    fn told_to_end(&mut self) {
        // It may have begun to end by itself, which nobody was in a hurry about.
        if !std::mem::replace(&mut self.was_told, true) {
            self.context.output.note("ending; once more to kill what runs");
            return self.begin_to_end();
        }
        self.hastened_at.get_or_insert_with(Instant::now);
        self.runs.interrupt_all(Duration::ZERO);
    }

    /// No more claims; what runs is stopped and given back.
    fn begin_to_end(&mut self) {
        if self.ending_since.is_none() {
            self.ending_since = Some(Instant::now());
            self.runs.interrupt_all(END_GRACE);
        }
    }

    /// What is not told by then remains untold, and a claim unheard: its leases, which start nothing by themselves, lapse.
    fn gives_up_at(&self) -> Option<Instant> {
        let since = self.ending_since?;
        let told_by = since + END_GRACE + END_PATIENCE;
        let unserved_since = self.context.client.unserved_since().filter(|_| !self.runs.any_runs());
        let unserved_by = unserved_since.map(|at| at.max(since).max(self.last_ended) + UNSERVED_PATIENCE);
        let hastened_by = self.hastened_at.map(|at| at + HASTENED_PATIENCE);
        [Some(told_by), unserved_by, hastened_by].into_iter().flatten().min()
    }

    fn is_done(&self) -> bool {
        let quiet = self.runs.is_empty() && self.granted.is_empty() && self.items.is_empty() && self.telling.is_none();
        let all_heard = self.claiming.is_none();
        quiet && ((self.ending_since.is_some() && all_heard) || (self.idle && self.args.exit_when_idle && all_heard))
    }

    fn end(&self) -> Outcome {
        if self.runs.is_empty() && self.granted.is_empty() {
            return Ok(Exit::Ok);
        }
        Err(Failure::TimedOut("the cluster did not hear how some jobs ended; it will run them again".into()))
    }

    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let touch = self.runs.next_touch().map(|at| now + Duration::from_millis(at.ms_since(Boottime::now())));
        let end = self.ends_at.filter(|_| self.ending_since.is_none()).map(|at| at - END_GRACE.min(at - now));
        let pause = Some(self.not_before).filter(|at| *at > now);
        // Whether it is served may change meanwhile, and wakes nobody.
        let look = if self.ending_since.is_some() { END_POLL } else { CLAIM_PATIENCE };
        let soonest = [touch, self.gather_until, end, pause].into_iter().flatten().min();
        soonest.unwrap_or(now + look).min(now + look)
    }

    /// Everything that is to be told, in one request, with a claim if a slot is free and none is under way.
    fn tell(&mut self) {
        let now = Instant::now();
        if self.telling.is_some() || now < self.not_before {
            return;
        }
        let gathered = self.gather_until.is_some_and(|until| until <= now) || !self.items.is_empty();
        if gathered {
            self.gather_until = None;
            self.items.extend(self.runs.names());
        }
        let touches = self.runs.touches(gathered);
        self.items.extend(touches);
        if self.items.is_empty() {
            return;
        }
        let items = std::mem::take(&mut self.items);
        let finishes = items.iter().any(|item| &*item.verb == "finish");
        let claim = if finishes && self.claiming.is_none() { self.next_claim(Duration::ZERO) } else { None };
        self.telling_claims = claim.is_some();
        let request = LeasesRequest { items, claim };
        let call = Call::write(Method::POST, "/v1/leases", &request, now + REPORT_PATIENCE);
        let (client, sent) = (&self.context.client, Boottime::now());
        self.telling = Some(Box::pin(async move {
            let answer = async { client.call(call?).await?.json() }.await;
            (sent, (request.items, answer))
        }));
    }

    /// A long poll for free slots.
    fn claim(&mut self) {
        let now = Instant::now();
        let is_asking = self.claiming.is_some() || (self.telling.is_some() && self.telling_claims);
        if is_asking || now < self.not_before {
            return;
        }
        let Some(request) = self.next_claim(CLAIM_WAIT) else { return };
        let call =
            Call::write(Method::POST, "/v1/claim", &request, now + CLAIM_PATIENCE).map(|call| call.waiting(CLAIM_WAIT));
        let (client, sent) = (&self.context.client, Boottime::now());
        self.claiming = Some(Box::pin(async move { (sent, async { client.call(call?).await?.json() }.await) }));
    }

    /// A claim that rides on a finish starts at once: whoever finishes is awake. A long poll may be answered to a worker that
    /// was frozen meanwhile, so what it grants is started by a call of its own, and counts no attempt until then.
    fn next_claim(&self, wait: Duration) -> Option<ClaimRequest> {
        let granted = self.granted.values().map(|(_, claimed)| claimed.job.needs.unwrap_or_default());
        let left = self.room.beside(self.runs.needs().chain(granted).map(Into::into));
        if left.slots == 0 || self.ending_since.is_some() {
            return None;
        }
        let time_s = self.ends_at.map(|at| at.saturating_duration_since(Instant::now() + END_GRACE).as_secs());
        Some(ClaimRequest {
            worker: self.me.clone(),
            queues: Some(self.args.queue.iter().map(|queue| queue.as_str().into()).collect()),
            kinds: Some(KINDS.iter().map(|kind| (*kind).into()).collect()),
            max: Some(left.slots),
            wait_ms: wait.as_millis() as u64,
            lease_ms: self.args.lease.map(|lease| lease.as_millis() as u64),
            start: wait.is_zero(),
            free: Some(left.free(time_s).into()),
            ..ClaimRequest::default()
        })
    }

    fn heard(&mut self, news: News) {
        match news {
            News::Started(_) => {
                self.gather_until.get_or_insert(Instant::now() + GATHER);
            }
            News::Told(lease) => {
                self.runs.told(lease);
                self.gather_until.get_or_insert(Instant::now() + GATHER);
            }
            News::Output(lease, output) => {
                if output.is_some_and(|output| self.runs.wrote(lease, output)) {
                    self.gather_until.get_or_insert(Instant::now() + GATHER);
                }
            }
            News::Ended(lease, report) => {
                self.last_ended = Instant::now();
                self.items.extend(self.runs.ended(lease, &report));
            }
        }
    }

    fn claimed(&mut self, sent: Boottime, answer: Result<ClaimAnswer, ClientError>) -> Result<(), Failure> {
        self.claiming = None;
        match answer {
            Ok(answer) => {
                self.idle = answer.jobs.is_empty();
                answer.jobs.into_iter().for_each(|claimed| self.grant(sent, claimed));
                Ok(())
            }
            Err(error) => self.pause(error),
        }
    }

    /// Of a long poll: to be started, or given back if this worker ends.
    fn grant(&mut self, sent: Boottime, claimed: ClaimedJob) {
        let Some(lease) = claimed.lease else { return };
        let item = if self.ending_since.is_some() { outcome::release() } else { outcome::start(&self.me) };
        self.items.push(LeaseItem { job: claimed.job.id, lease, ..item });
        self.granted.insert(lease, (sent, claimed));
    }

    fn start(&mut self, sent: Boottime, jobs: Vec<ClaimedJob>) {
        for claimed in jobs {
            self.idle = false;
            let id = claimed.job.id;
            let started = self.runs.start(claimed, sent);
            if started.is_none() {
                self.context.output.note(&format!("job {id} was granted without a lease or an op; it is left alone"));
            }
        }
        if self.ending_since.is_some() {
            self.runs.interrupt_all(END_GRACE);
        }
    }

    fn answered(
        &mut self,
        sent: Boottime,
        items: Vec<LeaseItem>,
        answer: Result<LeasesAnswer, ClientError>,
    ) -> Result<(), Failure> {
        self.telling = None;
        match answer {
            Ok(answer) => {
                items.iter().zip(answer.results).for_each(|(item, result)| self.settle(sent, item, result));
                self.start(sent, answer.jobs);
                Ok(())
            }
            Err(error) => {
                // The same items again: each repeat of an identical one is answered alike.
                self.items.splice(..0, items);
                self.pause(error)
            }
        }
    }

    fn settle(&mut self, sent: Boottime, item: &LeaseItem, result: LeaseResult) {
        let (is_touch, is_start) = (&*item.verb == "touch", &*item.verb == "start");
        if let Some((sent, claimed)) = self.granted.remove(&item.lease) {
            return match result.error {
                None if is_start => self.start(sent, vec![started(claimed)]),
                // Given back, or taken back meanwhile.
                _ => {}
            };
        }
        match result.error {
            None if is_touch => self.runs.touched(item.lease, sent, result.cancel.as_deref()),
            // It named the process, and renews nothing.
            None if is_start => {}
            None => self.runs.forget(item.lease),
            Some(_) if is_touch || is_start => self.runs.lose(item.lease),
            Some(error) => {
                self.context.output.note(&format!("job {}: {}: {}", item.job, item.verb, error.message));
                let gone = matches!(&*error.code, "stale_lease" | "not_claimed" | "not_found" | "finished");
                match item.outcome.as_deref() {
                    Some("success") if !gone => self.items.push(LeaseItem {
                        job: item.job,
                        lease: item.lease,
                        ..outcome::refused_finish(&error.message)
                    }),
                    _ => self.runs.forget(item.lease),
                }
            }
        }
    }

    /// A refusal of the whole call is a fault that repeats; anything else passes.
    fn pause(&mut self, error: ClientError) -> Result<(), Failure> {
        if let ClientError::Refused(_) | ClientError::Usage(_) = error {
            return Err(error.into());
        }
        self.context.output.note(&error.to_string());
        self.not_before = Instant::now() + PAUSE;
        Ok(())
    }
}

/// Its start was confirmed, which made it one attempt more than when it was granted.
fn started(mut claimed: ClaimedJob) -> ClaimedJob {
    if let Some(op) = &mut claimed.op {
        op.attempts += 1;
    }
    claimed
}

/// For ever pending while nothing is asked.
async fn answer_of<T>(asking: &mut Asking<'_, T>) -> (Boottime, T) {
    match asking {
        Some(asking) => asking.as_mut().await,
        None => std::future::pending().await,
    }
}
