//! The leases this worker holds, and what their commands have to say.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};

use super::outcome;
use crate::{
    api::{Body, ClaimedJob, JobId, LeaseId, LeaseItem, NeedsSpec, OutputTail},
    worker::{Boottime, Cancel, Handle, Proof, Report, Runner, Tail, Task, told},
};

/// Something a command has to say.
pub enum News {
    /// It has a process.
    Started(LeaseId),
    /// Lines, progress, or a checkpoint wait to be taken.
    Told(LeaseId),
    /// The last of what it has written so far; nothing if it has ended.
    Output(LeaseId, Option<Tail>),
    /// Its whole tree is gone.
    Ended(LeaseId, Arc<Report>),
}

/// One lease.
struct Held {
    job: JobId,
    needs: NeedsSpec,
    handle: Handle,
    lease_ms: u64,
    touch_at: Boottime,
    /// Of the last touch or finish that carried log lines.
    log_seq: u64,
    /// The cluster has been told, or is about to be, which process runs under it.
    named: bool,
    /// It has something to say.
    told: bool,
    /// Output for whoever watches, as of the last look; and whether that is still to be told.
    output: Tail,
    output_is_news: bool,
    /// The cluster gave the lease to somebody else, or took it back: nothing of this run is to be told any more.
    lost: bool,
    /// Only its finish is still to be answered; its room is free.
    ended: bool,
}

pub struct Runs {
    runner: Runner,
    /// What commands find in `RAFTQ_SERVER`.
    server: String,
    held: BTreeMap<LeaseId, Held>,
    news: FuturesUnordered<BoxFuture<'static, News>>,
}

/// A lease ends for the commands this long before it does for the cluster: TERM, grace and KILL must fit in, where the lease is
/// long enough.
const MARGIN: Duration = Duration::from_millis(1500);

impl Runs {
    pub fn new(runner: Runner, server: String) -> Self {
        Self { runner, server, held: BTreeMap::new(), news: FuturesUnordered::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// False if only what became of some is still to be told.
    pub fn any_runs(&self) -> bool {
        self.held.values().any(|held| !held.ended)
    }

    /// Of what runs.
    pub fn needs(&self) -> impl Iterator<Item = NeedsSpec> {
        self.held.values().filter(|held| !held.ended).map(|held| held.needs)
    }

    /// Starts what was claimed by a call sent at `sent`. What cannot be run is given back as its refusal.
    pub fn start(&mut self, claimed: ClaimedJob, sent: Boottime) -> Option<LeaseId> {
        let (lease, op) = (claimed.lease?, claimed.op?);
        let lease_ms = claimed.lease_ms.unwrap_or(0);
        let needs = claimed.job.needs.unwrap_or_default();
        let args = match (op.args, op.body) {
            (Some(args), _) => args.get().to_owned(),
            (None, Some(Body::Text(text))) => text.into(),
            // No arguments of a kind that runs here; the runner says so.
            (None, Some(Body::Binary(_)) | None) => String::new(),
        };
        let handle = self.runner.run(Task {
            job: claimed.job.id,
            op: op.index,
            attempt: op.attempts,
            lease,
            kind: op.kind.to_string(),
            args,
            environment: claimed.job.environment.as_deref().map(|environment| environment.get().to_owned()),
            server: self.server.clone(),
            checkpoint: claimed.job.checkpoint.as_deref().map(|json| told::checkpoint_to_bytes(json.get())),
            results: told::results(&claimed.job.results),
            keep_output: claimed.job.keep_output,
            needs_ram_mb: needs.ram_mb,
            proof: Proof::Lease(valid_until(sent, lease_ms)),
        });
        self.news.push(listen(lease, handle.clone()));
        self.news.push(look(lease, handle.clone()));
        let held = Held {
            job: claimed.job.id,
            needs,
            handle,
            lease_ms,
            touch_at: sent.after_ms(lease_ms / 3),
            log_seq: 0,
            named: false,
            told: false,
            output: Tail::default(),
            output_is_news: false,
            lost: false,
            ended: false,
        };
        self.held.insert(lease, held);
        Some(lease)
    }

    /// The next thing that a command says; for ever pending while none runs.
    pub async fn next(&mut self) -> News {
        let Some(news) = self.news.next().await else { return std::future::pending().await };
        match &news {
            News::Started(lease) | News::Told(lease) => {
                self.news.extend(self.held.get(lease).map(|held| listen(*lease, held.handle.clone())));
            }
            News::Output(lease, Some(_)) => {
                self.news.extend(self.held.get(lease).map(|held| look(*lease, held.handle.clone())));
            }
            News::Output(_, None) | News::Ended(..) => {}
        }
        news
    }

    pub fn told(&mut self, lease: LeaseId) {
        if let Some(held) = self.held.get_mut(&lease) {
            held.told = true;
        }
    }

    /// True if that is news.
    pub fn wrote(&mut self, lease: LeaseId, output: Tail) -> bool {
        let Some(held) = self.held.get_mut(&lease).filter(|held| !held.ended && held.output != output) else {
            return false;
        };
        (held.output, held.output_is_news, held.told) = (output, true, true);
        true
    }

    /// What to tell of a run that has ended, in this order; nothing if the lease was lost.
    pub fn ended(&mut self, lease: LeaseId, report: &Report) -> Vec<LeaseItem> {
        let Some(held) = self.held.get_mut(&lease) else { return Vec::new() };
        if held.lost {
            self.held.remove(&lease);
            return Vec::new();
        }
        let mut rest = held.handle.take_updates();
        let mut items: Vec<_> = held.name(lease).into_iter().collect();
        if rest.wants_touch() {
            held.log_seq += 1;
            items.push(outcome::touch(std::mem::take(&mut rest), held.log_seq));
        }
        held.log_seq += 1;
        items.push(outcome::finish(report, rest, held.log_seq));
        held.ended = true;
        held.touch_at = Boottime::NEVER;
        items.into_iter().map(|item| LeaseItem { job: held.job, lease, ..item }).collect()
    }

    /// Which process runs under each lease, as far as that is still to be told: the claim could name only this worker's.
    pub fn names(&mut self) -> Vec<LeaseItem> {
        let held = self.held.iter_mut().filter(|(_, held)| !held.lost && !held.ended);
        held.filter_map(|(lease, held)| held.name(*lease)).collect()
    }

    /// Touches that are due, and those of commands that have something to say if `gathered`.
    pub fn touches(&mut self, gathered: bool) -> Vec<LeaseItem> {
        let now = Boottime::now();
        let due = |held: &Held| !held.lost && (held.touch_at <= now || (gathered && held.told));
        let due = self.held.iter_mut().filter(|(_, held)| due(held));
        due.map(|(lease, held)| held.touch(*lease, now)).collect()
    }

    pub fn next_touch(&self) -> Option<Boottime> {
        self.held.values().filter(|held| !held.lost).map(|held| held.touch_at).min().filter(|at| *at < Boottime::NEVER)
    }

    /// The lease was renewed by a call sent at `sent`.
    pub fn touched(&mut self, lease: LeaseId, sent: Boottime, cancel: Option<&str>) {
        let Some(held) = self.held.get(&lease) else { return };
        self.runner.extend(lease, valid_until(sent, held.lease_ms));
        match cancel {
            Some("term") => held.handle.cancel(Cancel::Term),
            Some("kill") => held.handle.cancel(Cancel::Kill),
            _ => {}
        }
    }

    /// Not ours any more: the command dies, and nobody is told how.
    pub fn lose(&mut self, lease: LeaseId) {
        if let Some(held) = self.held.get_mut(&lease) {
            held.lost = true;
            held.handle.interrupt(Duration::ZERO);
        }
    }

    pub fn forget(&mut self, lease: LeaseId) {
        self.held.remove(&lease);
    }

    /// Stops everything that runs; each will be released when its tree is gone.
    pub fn interrupt_all(&self, grace: Duration) {
        self.held.values().for_each(|held| held.handle.interrupt(grace));
    }
}

impl Held {
    /// Once, and only if there is a process.
    fn name(&mut self, lease: LeaseId) -> Option<LeaseItem> {
        let pid = u32::try_from(self.handle.pid()?).ok().filter(|_| !self.named)?;
        self.named = true;
        Some(LeaseItem { job: self.job, lease, ..outcome::process(pid) })
    }

    fn touch(&mut self, lease: LeaseId, now: Boottime) -> LeaseItem {
        self.told = false;
        self.log_seq += 1;
        self.touch_at = now.after_ms((self.lease_ms / 3).max(1));
        let news = std::mem::take(&mut self.output_is_news).then_some(&self.output);
        let output = news.map(|tail| OutputTail::Both { stdout: tail.stdout.clone(), stderr: tail.stderr.clone() });
        LeaseItem { job: self.job, lease, output, ..outcome::touch(self.handle.take_updates(), self.log_seq) }
    }
}

fn valid_until(sent: Boottime, lease_ms: u64) -> Boottime {
    let margin = (MARGIN.as_millis() as u64).min(lease_ms / 4);
    sent.after_ms(lease_ms - margin)
}

/// Output is looked at this often; each look that finds news costs a touch.
const LOOK: Duration = Duration::from_secs(1);

fn look(lease: LeaseId, handle: Handle) -> BoxFuture<'static, News> {
    Box::pin(async move {
        tokio::time::sleep(LOOK).await;
        News::Output(lease, handle.tail().await)
    })
}

fn listen(lease: LeaseId, handle: Handle) -> BoxFuture<'static, News> {
    Box::pin(async move {
        tokio::select! {
            biased;
            report = handle.wait() => News::Ended(lease, report),
            () = handle.started() => News::Started(lease),
            () = handle.updated() => News::Told(lease),
        }
    })
}
