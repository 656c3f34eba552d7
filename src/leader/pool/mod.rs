//! The built-in worker pool: whichever node leads runs the jobs of its queues, under the replicated settings.
//!
//! ```text
//!   state ──effects──► Shift ──Leases{items, claim}──► log        one request under way at a time
//!                       │ ▲
//!                  Task │ │ News                                  finishes, log lines and the next claim
//!                       ▼ │                                       gather while it is
//!                     Runner ─► supervisor ─► commands
//! ```
//!
//! A [`shift::Shift`] is the pool's work in one office. Its leases are bound to (term, node, incarnation) and have no deadline
//! while the office lasts (design 2.3): there is nothing to touch, and nothing that a stall can lose. When the office ends
//! every command is stopped, at most [`LOSS_GRACE`] passes between TERM and KILL, and once the trees are gone whatever
//! the queue has not been told is told to the new leader: outcomes that came too late, and interruptions. The leases are
//! valid there until the pool's time-out after the new leader's first entry; what cannot be told by then is dropped, and the
//! queue takes it for lost contact, as it would for a node that died. A claim whose answer the office did not live to hear
//! may have been granted all the same: that is looked up in the state and given back as never started.
//!
//! Effects are hints. After any doubt (an answer that did not come, effects that were missed) the table of leases is compared
//! with the state, which is the truth.

mod outcome;
mod request;
mod runs;
mod shift;
mod table;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    door::{Proposed, Queue},
    office::Term,
};
use crate::{
    queue::{
        applied::Answer,
        command::{Command, LeaseItem, Report},
        ids::{JobId, LeaseId},
        job::Office,
    },
    worker::{Room, Runner, told},
};

pub use outcome::{ReadSpec, WriteResult};
pub use runs::LiveOutput;
use shift::Remains;

/// From TERM to KILL when the office is lost. With it all must be gone well before the pool's time-out at the new leader.
pub const LOSS_GRACE: Duration = Duration::from_millis(500);
/// Longer than any pool time-out in use; by then the new leader has given the leases up.
const HAND_BACK_PATIENCE: Duration = Duration::from_secs(15);
/// A node that stops does not wait so long for a leader to be found.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
const HAND_BACK_EVERY: Duration = Duration::from_millis(100);

/// The name under which a node's pool claims, and by which the registry of workers knows it.
pub fn name(node: u64) -> Arc<str> {
    format!("pool-{node}").into()
}

/// Who the pool is, and what it is built from.
#[derive(Clone)]
pub struct Options {
    /// The node's [`name`].
    pub worker: Arc<str>,
    pub host: Arc<str>,
    /// What commands find in `RAFTQ_SERVER`.
    pub server: String,
    pub read_spec: ReadSpec,
    pub write_result: WriteResult,
    /// What this node's machine has; the slots are a replicated setting.
    pub machine: Room,
}

/// What the pool is asked to do beside its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Work,
    /// Claim nothing; what runs may end until then, and is interrupted after.
    Leave {
        until: Instant,
    },
}

/// How far leaving has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// Jobs that were interrupted because the pool was told to leave.
    pub interrupted: Vec<JobId>,
    /// Told to leave, nothing runs, and the queue has been told everything.
    pub has_left: bool,
}

pub struct Pool<Q> {
    pub queue: Q,
    pub runner: Runner,
    pub live: LiveOutput,
    pub options: Options,
    pub mode: watch::Receiver<Mode>,
    pub condition: watch::Sender<Condition>,
    /// The node stops.
    pub stop: CancellationToken,
}

impl<Q: Queue> Pool<Q> {
    /// Works in every office of this node, until there will be no other.
    pub async fn run(mut self, office: watch::Receiver<Option<Office>>) {
        while let Some(mut term) = Term::next(&office).await {
            let mut shift = shift::Shift::begin(&mut self);
            tokio::select! {
                () = shift.work() => {}
                () = term.ended() => {}
            }
            let remains = shift.end().await;
            self.hand_back(remains).await;
        }
    }

    /// Tells whoever leads what the office ended too early to tell.
    async fn hand_back(&self, Remains { mut mail, known }: Remains) {
        let telling = async {
            self.tell_all(&mut mail).await;
            if let Some(known) = known {
                self.give_back_unheard(&known).await;
            }
        };
        tokio::select! {
            () = telling => {}
            () = self.lose_patience() => {
                let jobs: Vec<_> = mail.iter().flatten().map(|item| item.job.0).collect();
                tracing::warn!(?jobs, "no leader could be told how these ended; the queue takes them for lost");
            }
        }
    }

    async fn lose_patience(&self) {
        let stopping = async {
            self.stop.cancelled().await;
            tokio::time::sleep(STOP_PATIENCE).await;
        };
        tokio::select! {
            () = stopping => {}
            () = tokio::time::sleep(HAND_BACK_PATIENCE) => {}
        }
    }

    async fn tell_all(&self, mail: &mut VecDeque<Vec<LeaseItem>>) {
        while let Some(items) = mail.front() {
            self.tell(items).await;
            mail.pop_front();
        }
    }

    /// Gives the index of the entry in which it was told.
    async fn tell(&self, items: &[LeaseItem]) -> u64 {
        loop {
            match self.queue.propose_anywhere(Command::Leases { items: items.to_vec(), claim: None }).await {
                Proposed::Answered { index, answer } => {
                    note_told(items.len(), &answer);
                    return index;
                }
                Proposed::Never | Proposed::Unknown => tokio::time::sleep(HAND_BACK_EVERY).await,
            }
        }
    }

    /// Gives back what a claim was granted whose answer never came. An entry that says nothing stands behind that claim,
    /// wherever it came to lie; once it is applied here, the state says what was granted.
    async fn give_back_unheard(&self, known: &BTreeSet<LeaseId>) {
        let index = self.tell(&[]).await;
        while self.queue.look(|state, _| state.position().index.0) < index {
            tokio::time::sleep(HAND_BACK_EVERY).await;
        }
        let items: Vec<LeaseItem> = self.queue.look(|state, _| {
            let granted = state.granted_to_pool(&self.options.worker);
            granted.filter(|(_, lease)| !known.contains(lease)).map(|(job, lease)| never_ran(job, lease)).collect()
        });
        if !items.is_empty() {
            self.tell(&items).await;
        }
    }
}

fn never_ran(job: JobId, lease: LeaseId) -> LeaseItem {
    let error = Some("the lead was lost before it ran".into());
    LeaseItem { job, lease, action: told::unstarted(Box::new(Report { error, ..Report::default() })) }
}

fn note_told(told: usize, answer: &Answer) {
    match answer {
        Answer::Leases { .. } if told == 0 => {}
        Answer::Leases { results, .. } => {
            let refused = results.iter().filter(|result| result.is_err()).count();
            tracing::info!(told, refused, "pool handed back what it held");
        }
        answer => tracing::error!(?answer, "pool's last words were not understood"),
    }
}
