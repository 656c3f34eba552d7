//! The commands that run here, by lease, and what they have to say.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};

use super::{WriteResult, table::Grant};
use crate::{
    queue::{
        ids::{JobId, LeaseId},
        job::{CancelSignal, Payload},
        rows::{Row, RowKey, Rows},
    },
    worker::{
        Cancel, Handle, Proof, Report, Runner, Tail, Task, Updates,
        told::{checkpoint_to_bytes, results},
    },
};

/// How long a run lasts before anybody is told of its process.
const NAMED_AFTER: Duration = Duration::from_millis(100);

/// Something a command has to say.
pub enum News {
    /// It has had a process for a while ([`NAMED_AFTER`]). Most end sooner, and their end says which it was.
    LivesOn(LeaseId),
    /// Lines, progress, or a checkpoint wait to be taken.
    Told(LeaseId),
    /// Its whole tree is gone.
    Ended(LeaseId, Arc<Report>),
}

pub struct Runs {
    runner: Runner,
    /// What commands find in `RAFTQ_SERVER`.
    server: String,
    handles: BTreeMap<LeaseId, (JobId, Handle)>,
    news: FuturesUnordered<BoxFuture<'static, News>>,
    live: LiveOutput,
}

/// Output of running jobs, for whoever asks by job. Clones share it.
#[derive(Clone, Default)]
pub struct LiveOutput(Arc<Mutex<BTreeMap<JobId, Handle>>>);

/// What a granted op says must be done, read from its rows.
pub struct Work {
    kind: String,
    args: String,
    environment: Option<String>,
    keep_output: bool,
    checkpoint: Option<Vec<u8>>,
    results: Option<String>,
}

impl Work {
    /// `None`: the rows are gone, and with them the job.
    pub fn read(rows: &dyn Rows, grant: Grant, write_result: WriteResult) -> Option<Self> {
        let (spec, _) = rows.get(&RowKey::Spec(grant.job))?.into_spec()?;
        let checkpoint = match rows.get(&RowKey::Checkpoint(grant.job)) {
            Some(Row::Json(json)) => Some(checkpoint_to_bytes(&json.0)),
            _ => None,
        };
        let earlier: Vec<_> = (0..grant.op)
            .map(|op| match rows.get(&RowKey::Result(grant.job, op)) {
                Some(Row::Result(result)) => write_result(&result),
                _ => None,
            })
            .collect();
        let environment = match spec.environment.and_then(|digest| rows.get(&RowKey::Environment(digest))) {
            Some(Row::Json(json)) => Some(json.0.into()),
            _ => None,
        };
        let op = spec.ops.get(usize::try_from(grant.op).ok()?)?;
        Some(Self {
            kind: op.kind.to_string(),
            args: args(&op.payload),
            environment,
            keep_output: spec.keep_output,
            checkpoint,
            results: results(&earlier),
        })
    }
}

fn args(payload: &Payload) -> String {
    match payload {
        Payload::Args(json) => json.0.to_string(),
        Payload::Text(text) => text.to_string(),
        // No arguments of a kind that runs here; the runner says so.
        Payload::Binary(_) => String::new(),
    }
}

impl Runs {
    pub fn new(runner: Runner, server: String, live: LiveOutput) -> Self {
        Self { runner, server, handles: BTreeMap::new(), news: FuturesUnordered::new(), live }
    }

    pub fn start(&mut self, grant: Grant, work: Work) {
        tracing::debug!(job = grant.job.0, op = grant.op, lease = grant.lease.0, kind = work.kind, "pool runs");
        let handle = self.runner.run(Task {
            job: grant.job,
            op: grant.op,
            attempt: grant.attempt,
            lease: grant.lease,
            kind: work.kind,
            args: work.args,
            environment: work.environment,
            server: self.server.clone(),
            checkpoint: work.checkpoint,
            results: work.results,
            keep_output: work.keep_output,
            needs_ram_mb: grant.needs.ram_mb,
            proof: Proof::Leadership,
        });
        self.live.handles().insert(grant.job, handle.clone());
        self.news.push(listen(grant.lease, handle.clone()));
        self.handles.insert(grant.lease, (grant.job, handle));
    }

    /// The next thing that a command says; for ever pending while none runs.
    pub async fn next(&mut self) -> News {
        let Some(news) = self.news.next().await else { return std::future::pending().await };
        match &news {
            News::LivesOn(lease) | News::Told(lease) => {
                if let Some((_, handle)) = self.handles.get(lease) {
                    self.news.push(listen(*lease, handle.clone()));
                }
            }
            News::Ended(..) => {}
        }
        news
    }

    pub fn take_updates(&self, lease: LeaseId) -> Updates {
        self.handles.get(&lease).map(|(_, handle)| handle.take_updates()).unwrap_or_default()
    }

    /// The process of a command that has one.
    pub fn pid(&self, lease: LeaseId) -> Option<u32> {
        u32::try_from(self.handles.get(&lease)?.1.pid()?).ok()
    }

    pub fn forget(&mut self, lease: LeaseId) {
        let Some((job, _)) = self.handles.remove(&lease) else { return };
        // Under another lease it may run here again.
        if let Entry::Occupied(handle) = self.live.handles().entry(job)
            && handle.get().lease() == lease
        {
            handle.remove();
        }
    }

    pub fn cancel(&self, lease: LeaseId, signal: CancelSignal) {
        if let Some((_, handle)) = self.handles.get(&lease) {
            handle.cancel(match signal {
                CancelSignal::Term => Cancel::Term,
                CancelSignal::Kill => Cancel::Kill,
            });
        }
    }

    pub fn interrupt(&self, lease: LeaseId, grace: Duration) {
        if let Some((_, handle)) = self.handles.get(&lease) {
            handle.interrupt(grace);
        }
    }
}

impl LiveOutput {
    /// The last of what the job's command has written; `None` if it does not run here under this lease.
    pub async fn tail(&self, job: JobId, lease: LeaseId) -> Option<Tail> {
        let handle = self.handles().get(&job).filter(|handle| handle.lease() == lease).cloned()?;
        handle.tail().await
    }

    /// Held for a look-up, never over an await.
    fn handles(&self) -> MutexGuard<'_, BTreeMap<JobId, Handle>> {
        self.0.lock().expect("nothing panics while it is held")
    }
}

fn listen(lease: LeaseId, handle: Handle) -> BoxFuture<'static, News> {
    Box::pin(async move {
        tokio::select! {
            biased;
            report = handle.wait() => News::Ended(lease, report),
            () = lives_on(&handle) => News::LivesOn(lease),
            () = handle.updated() => News::Told(lease),
        }
    })
}

async fn lives_on(handle: &Handle) {
    tokio::time::sleep(NAMED_AFTER).await;
    handle.started().await;
}
