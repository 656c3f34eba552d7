//! Group propose: many requests in one log entry.
//!
//! ```text
//!  callers ──► bounded queue ──► proposer: takes a permit, then all that waits, stamps both clocks ──► Raft
//!     ▲                                                                                                 │
//!     └───────────── one answer each, or what is known of its fate ◄── apply thread ◄── committed ◄─────┘
//! ```
//!
//! There is no timer: while one entry is on its way, the next one gathers ([`IN_FLIGHT`]). Entries are conditional on the
//! office they were stamped in, so one of a deposed leader is not written (design 2.1). A request is handed to Raft at
//! most once; what became of it is one of four things, and "unknown" is never dressed up as "failed".

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use futures::FutureExt;
use openraft::{errors::ClientWriteError, raft::ClientWriteResult};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{Instant, timeout_at},
};

use super::{
    inner::{Inner, Leader},
    types::{Callback, LeaderId, Payload, TypeConfig},
};
use crate::{
    codec,
    queue::{
        applied::Answer,
        command::{Clocks, Entry, Request},
        ids::{ClusterMs, WallMs},
        job::Office,
    },
};

/// Entries on their way at once. One: what comes while it is written makes the next, and the larger entries are, the less
/// each request costs. A second hides the way to the peers, which one network makes short: with it 64 submissions in flight
/// gave 38 000 a second in place of 47 000, 16 gave 22 000 in place of 24 000, and the slowest took longer.
const IN_FLIGHT: usize = 1;
const REQUESTS_MAX: usize = 2048;
/// How often the sockets are looked at before an entry of several requests is closed. Each look is a system call, not a wait.
const LOOKS_MAX: usize = 16;
/// Of those, how many may bring nothing while some have not come back that were answered with the last entry.
const LOOKS_IN_VAIN_MAX: usize = 8;
/// An entry is closed when its requests pass this; one request may be larger alone.
const BYTES_MAX: usize = 1 << 20;
/// Requests that may wait, and the memory they may take; more are refused as busy.
const WAITING_MAX: usize = 16_384;
const WAITING_KIB_MAX: usize = 256 << 10;

/// A request that is committed and applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    pub index: u64,
    pub answer: Answer,
}

/// What became of a request that brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// It was never proposed. `leader` may know better.
    #[error("this node does not lead")]
    NotLeader { leader: Option<Leader> },
    /// It was never proposed: nobody got to it before its deadline.
    #[error("the request was not proposed before its deadline")]
    Deadline,
    /// It was never proposed: too many wait.
    #[error("too many requests wait")]
    Busy,
    /// It was never proposed: too little disk space is left on a majority of the members.
    #[error("too little disk space is left on a majority of the members")]
    NoSpace,
    /// It may have happened, or may yet. Repeat it under the same idempotency key to learn.
    #[error("the outcome is unknown; repeat the request under the same idempotency key")]
    Unknown,
}

/// What this node has proposed since its start: requests by entries is how well grouping works.
#[derive(Debug, Default)]
pub struct Proposed {
    pub entries: AtomicU64,
    pub requests: AtomicU64,
}

const WAITING: u8 = 0;
const PROPOSED: u8 = 1;
const ABANDONED: u8 = 2;

struct Proposal {
    request: Request,
    /// Encoded by the caller, of whom there are many, for the proposer, of whom there is one.
    encoded: Vec<u8>,
    fate: Arc<AtomicU8>,
    reply: Reply,
}

type Reply = oneshot::Sender<Result<Committed, ProposeError>>;

/// What a caller holds of its proposal.
pub struct Asked {
    answer: oneshot::Receiver<Result<Committed, ProposeError>>,
    fate: Arc<AtomicU8>,
    /// Until the outcome is known, so that what is on its way counts too.
    memory: OwnedSemaphorePermit,
}

/// The callers' side.
#[derive(Clone)]
pub struct Proposals {
    waiting: mpsc::Sender<Proposal>,
    memory: Arc<Semaphore>,
}

/// The other side; one task.
pub struct Proposer {
    inner: Arc<Inner>,
    waiting: mpsc::Receiver<Proposal>,
    gathered: VecDeque<Proposal>,
    /// With the last entry, by the time the next may begin.
    answered: usize,
    permits: Arc<Semaphore>,
    tenure: Option<Tenure>,
}

/// A time in office and the origin of its cluster clock.
#[derive(Clone, Copy)]
struct Tenure {
    leader: LeaderId,
    cluster_ms: u64,
    monotonic_ms: u64,
}

pub fn channel(inner: Arc<Inner>) -> (Proposals, Proposer) {
    let (sender, waiting) = mpsc::channel(WAITING_MAX);
    let permits = Arc::new(Semaphore::new(IN_FLIGHT));
    let memory = Arc::new(Semaphore::new(WAITING_KIB_MAX));
    (
        Proposals { waiting: sender, memory },
        Proposer { inner, waiting, gathered: VecDeque::new(), answered: 0, permits, tenure: None },
    )
}

impl Proposals {
    /// Puts a request in line. What waits for its outcome then is small, whatever was asked for.
    pub fn ask(&self, request: Request) -> Result<Asked, ProposeError> {
        let encoded = codec::encode_part(&request);
        let kib = u32::try_from(encoded.len() / 1024).unwrap_or(u32::MAX) + 1;
        let memory = Arc::clone(&self.memory).try_acquire_many_owned(kib).map_err(|_| ProposeError::Busy)?;
        let fate = Arc::new(AtomicU8::new(WAITING));
        let (reply, answer) = oneshot::channel();
        let proposal = Proposal { request, encoded, fate: Arc::clone(&fate), reply };
        self.waiting.try_send(proposal).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ProposeError::Busy,
            mpsc::error::TrySendError::Closed(_) => ProposeError::NotLeader { leader: None },
        })?;
        Ok(Asked { answer, fate, memory })
    }
}

impl Asked {
    /// Until it is applied, or `deadline`.
    pub fn answered_by(self, deadline: Instant) -> impl Future<Output = Result<Committed, ProposeError>> {
        let Self { answer, fate, memory } = self;
        timeout_at(deadline, answer).map(move |answered| {
            drop(memory);
            answered.ok().and_then(Result::ok).unwrap_or_else(|| Err(fate_of(&fate)))
        })
    }
}

/// Whether a request without an answer was proposed; if not, it never will be.
fn fate_of(fate: &AtomicU8) -> ProposeError {
    match fate.compare_exchange(WAITING, ABANDONED, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) | Err(ABANDONED) => ProposeError::Deadline,
        Err(_) => ProposeError::Unknown,
    }
}

impl Proposer {
    /// Runs until every [`Proposals`] is gone.
    pub async fn run(mut self) {
        while self.gather().await {
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return };
            self.gather_ready().await;
            let Some(tenure) = self.tenure().await else {
                self.refuse_all();
                continue;
            };
            let group = self.take_group();
            self.answered = group.len();
            if !group.is_empty() {
                self.propose(group, tenure, permit).await;
            }
        }
    }

    async fn gather(&mut self) -> bool {
        if !self.gathered.is_empty() {
            return true;
        }
        let Some(first) = self.waiting.recv().await else { return false };
        self.gathered.push_back(first);
        true
    }

    /// What came while the permit was awaited goes along. Where that is several, so do those who were answered with the last
    /// entry and ask again at once: as long as looks at the sockets bring more, and a few looks longer while not all are back.
    async fn gather_ready(&mut self) {
        self.gather_waiting();
        let all_back = self.gathered.len() + self.answered;
        let mut in_vain = 0;
        for _ in 0..LOOKS_MAX {
            let before = self.gathered.len();
            if before <= 1 || in_vain >= LOOKS_IN_VAIN_MAX {
                return;
            }
            tokio::task::yield_now().await;
            self.gather_waiting();
            if self.gathered.len() == before {
                if before >= all_back {
                    return;
                }
                in_vain += 1;
            }
        }
    }

    fn gather_waiting(&mut self) {
        while self.gathered.len() < REQUESTS_MAX
            && let Ok(proposal) = self.waiting.try_recv()
        {
            self.gathered.push_back(proposal);
        }
    }

    fn refuse_all(&mut self) {
        self.answered = 0;
        let leader = self.inner.leader().filter(|leader| leader.id != self.inner.options.id);
        for proposal in self.gathered.drain(..) {
            // Whoever has gone needs no answer.
            drop(proposal.reply.send(Err(ProposeError::NotLeader { leader: leader.clone() })));
        }
    }

    /// The requests of the next entry. Those whose callers have gone are left out, and none is taken twice.
    fn take_group(&mut self) -> Vec<Proposal> {
        let (mut group, mut bytes) = (Vec::new(), 0);
        while bytes < BYTES_MAX
            && let Some(proposal) = self.gathered.pop_front()
        {
            if proposal.reply.is_closed() || !proposal.claim() {
                continue;
            }
            bytes += proposal.encoded.len();
            group.push(proposal);
        }
        group
    }

    async fn propose(&self, group: Vec<Proposal>, tenure: Tenure, permit: OwnedSemaphorePermit) {
        self.inner.proposed.entries.fetch_add(1, Ordering::Relaxed);
        self.inner.proposed.requests.fetch_add(group.len() as u64, Ordering::Relaxed);
        let (mut requests, mut encoded, mut replies) = (Vec::new(), Vec::new(), Vec::new());
        for proposal in group {
            requests.push(proposal.request);
            encoded.push(proposal.encoded);
            replies.push(proposal.reply);
        }
        let entry = Entry { clocks: self.clocks(&tenure), office: self.office(&tenure), requests };
        let payload = Payload::of_requests(entry, &encoded);
        let (leader, inner) = (tenure.leader, Arc::clone(&self.inner));
        let callback = Callback::new(move |result| {
            answer(replies, result, &inner);
            drop(permit);
        });
        if let Err(error) = self.inner.raft.write(payload).responder(callback).with_leader(leader).await {
            // The callback is dropped with the request: its callers are told that nothing is known.
            tracing::warn!(%error, "proposal lost");
        }
    }

    fn clocks(&self, tenure: &Tenure) -> Clocks {
        let clock = &self.inner.options.clock;
        let since = clock.monotonic_ms().saturating_sub(tenure.monotonic_ms);
        Clocks { cluster: ClusterMs(tenure.cluster_ms + since), wall: WallMs(clock.wall_ms()) }
    }

    fn office(&self, tenure: &Tenure) -> Office {
        Office { term: tenure.leader.term, node: tenure.leader.node_id, incarnation: self.inner.incarnation }
    }

    /// The office this node holds now, once it knows the last stamp of the log it took over.
    async fn tenure(&mut self) -> Option<Tenure> {
        let leader = self.inner.leading()?;
        if let Some(tenure) = self.tenure.filter(|tenure| tenure.leader == leader) {
            return Some(tenure);
        }
        let monotonic_ms = self.inner.options.clock.monotonic_ms();
        let cluster_ms = self.last_stamp(leader).await?;
        self.tenure = Some(Tenure { leader, cluster_ms, monotonic_ms });
        self.tenure
    }

    /// Every leader begins with an empty entry; once that is applied, all entries before it are.
    async fn last_stamp(&self, leader: LeaderId) -> Option<u64> {
        let mut index = self.inner.replica.index();
        let mut metrics = self.inner.raft.server_metrics();
        loop {
            {
                let hot = self.inner.replica.hot();
                if hot.applied.log_id.is_some_and(|id| id.leader_id >= leader) {
                    return Some(hot.applied.clocks.cluster.0);
                }
            }
            if self.inner.leading() != Some(leader) {
                return None;
            }
            tokio::select! {
                changed = index.changed() => changed.ok()?,
                changed = openraft::async_runtime::WatchReceiver::changed(&mut metrics) => changed.ok()?,
            }
        }
    }
}

impl Proposal {
    /// Marks it as proposed; false if its caller's deadline passed first.
    fn claim(&self) -> bool {
        self.fate.compare_exchange(WAITING, PROPOSED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

fn answer(replies: Vec<Reply>, result: ClientWriteResult<TypeConfig>, inner: &Inner) {
    match result {
        Ok(response) => {
            let index = response.log_id.index;
            for (reply, answer) in replies.into_iter().zip(response.data.0) {
                drop(reply.send(Ok(Committed { index, answer })));
            }
        }
        Err(ClientWriteError::ForwardToLeader(forward)) => {
            let leader = forward.leader_id.zip(forward.leader_node).map(|(id, member)| Leader { id, member });
            let leader = leader.filter(|leader| leader.id != inner.options.id);
            for reply in replies {
                drop(reply.send(Err(ProposeError::NotLeader { leader: leader.clone() })));
            }
        }
        Err(error) => {
            tracing::info!(%error, requests = replies.len(), "fate of proposals unknown");
            for reply in replies {
                drop(reply.send(Err(ProposeError::Unknown)));
            }
        }
    }
}
