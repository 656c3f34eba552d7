//! Linearizable reads on any node.
//!
//! A read is linearizable if it sees everything that was acknowledged before it began. The leader confirms with a round of
//! heartbeats that it still leads, and says which index that is (ReadIndex); the node that reads waits until it has applied
//! it. Leases would save the round, but they trust clocks and stand in the way of a fast failover (engine-notes 7).
//!
//! One question is under way at a time; whatever comes meanwhile shares the next one. An answer only covers reads that
//! began before its question was asked.

use std::{sync::Arc, time::Duration};

use openraft::{ReadPolicy, errors::RaftError};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use super::{
    inner::{Inner, Leader},
    message::{PeerRefusal, ReadIndex, Topic},
};

const WAITING_MAX: usize = 16_384;
const SHARED_MAX: usize = 4_096;
/// Before an unanswered question is asked again: a leader is found within an election.
const RETRY: Duration = Duration::from_millis(50);
/// The leader answers within a round of heartbeats, or not at all.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Sees everything acknowledged before the read began.
    Linearizable,
    /// What this node has, at the index it says.
    Local,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Nobody could confirm that it leads before the deadline.
    #[error("no leader was found before the deadline")]
    NoLeader,
    /// The leader was found, but this node did not catch up before the deadline.
    #[error("index {wanted} was not applied here before the deadline; this node is at {applied}")]
    Behind { wanted: u64, applied: u64 },
    #[error("too many reads wait")]
    Busy,
    #[error("the node stops")]
    Stopped,
}

type Question = oneshot::Sender<Result<u64, ReadError>>;

#[derive(Clone)]
pub struct ReadIndexes(mpsc::Sender<Question>);

/// Asks on behalf of all; one task.
pub struct Asker {
    inner: Arc<Inner>,
    questions: mpsc::Receiver<Question>,
}

pub fn channel(inner: Arc<Inner>) -> (ReadIndexes, Asker) {
    let (sender, questions) = mpsc::channel(WAITING_MAX);
    (ReadIndexes(sender), Asker { inner, questions })
}

impl ReadIndexes {
    /// The index that a read which begins now must wait for.
    pub async fn get(&self, deadline: Instant) -> Result<u64, ReadError> {
        loop {
            let (question, answer) = oneshot::channel();
            self.0.try_send(question).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => ReadError::Busy,
                mpsc::error::TrySendError::Closed(_) => ReadError::Stopped,
            })?;
            match timeout_at(deadline, answer).await {
                Ok(Ok(Ok(index))) => return Ok(index),
                Ok(Ok(Err(_)) | Err(_)) if Instant::now() + RETRY < deadline => tokio::time::sleep(RETRY).await,
                Ok(Ok(Err(error))) => return Err(error),
                Ok(Err(_)) | Err(_) => return Err(ReadError::NoLeader),
            }
        }
    }
}

impl Asker {
    /// Runs until every [`ReadIndexes`] is gone.
    pub async fn run(mut self) {
        let mut sharing = Vec::with_capacity(SHARED_MAX);
        while self.questions.recv_many(&mut sharing, SHARED_MAX).await > 0 {
            sharing.retain(|question| !question.is_closed());
            if sharing.is_empty() {
                continue;
            }
            let answer = self.ask().await;
            for question in sharing.drain(..) {
                drop(question.send(answer.clone()));
            }
        }
    }

    async fn ask(&self) -> Result<u64, ReadError> {
        let leader = self.inner.leader().ok_or(ReadError::NoLeader)?;
        let answer = if leader.id == self.inner.options.id {
            self.inner.own_read_index().await.map_err(|error| error.to_string())
        } else {
            self.ask_leader(&leader).await
        };
        answer.map_err(|error| {
            tracing::debug!(leader = leader.id, %error, "read index not confirmed");
            ReadError::NoLeader
        })
    }

    async fn ask_leader(&self, leader: &Leader) -> Result<u64, String> {
        let asking = self.inner.ask((leader.id, &leader.member), Topic::ReadIndex, &ReadIndex, ASK_TIMEOUT);
        asking.await.map_err(|error| error.to_string())
    }
}

impl Inner {
    /// Confirms that this node leads, and says up to where a read must see.
    pub(super) async fn own_read_index(&self) -> Result<u64, PeerRefusal> {
        match self.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _)) => Ok(read.index()),
            Err(RaftError::APIError(error)) => {
                tracing::debug!(%error, "cannot confirm leadership");
                Err(PeerRefusal::NotLeader { leader: self.leader().map(|leader| leader.id) })
            }
            Err(error) => Err(PeerRefusal::Failed(error.to_string())),
        }
    }

    /// Waits until `index` is applied here.
    pub(super) async fn applied(&self, index: u64, deadline: Instant) -> Result<(), ReadError> {
        let mut applied = self.replica.index();
        let waiting = applied.wait_for(|&applied| applied >= index);
        match timeout_at(deadline, waiting).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ReadError::Stopped),
            Err(_) => Err(ReadError::Behind { wanted: index, applied: *self.replica.index().borrow() }),
        }
    }
}
