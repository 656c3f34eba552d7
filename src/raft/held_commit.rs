//! What is committed travels with the next entry, where one is about to come.
//!
//! openraft tells a follower of each entry twice: the entry, and once a majority has it, in a request without entries, that it
//! is committed. Each costs both sides two system calls and a round through the core. Under load the next entry comes
//! within a millisecond, and its request says what is committed as well. So after an entry that came soon after the one
//! before, the next request is not asked for before there is another entry, or [`HOLD`] has passed.
//!
//! A follower then applies an entry a little later, and reads there see it a little later; the leader's answers do not wait
//! for that. Heartbeats have a connection of their own.

use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use openraft::raft::AppendEntriesRequest;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::types::TypeConfig;

/// How long a follower may not know of a commit, and what counts as soon.
const HOLD: Duration = Duration::from_millis(3);

type Request = AppendEntriesRequest<TypeConfig>;

/// The requests to one follower.
struct Held<S> {
    requests: S,
    /// The index of the last entry in the leader's log.
    newest: watch::Receiver<u64>,
    sent: u64,
    sent_at: Option<Instant>,
    is_busy: bool,
    hold: Duration,
}

/// `requests`, which are made as they are asked for, with commits held back while entries come one soon after the other.
pub fn held<S>(requests: S, newest: watch::Receiver<u64>) -> impl Stream<Item = Request> + Send + Unpin + 'static
where
    S: Stream<Item = Request> + Send + Unpin + 'static,
{
    Held { requests, newest, sent: 0, sent_at: None, is_busy: false, hold: HOLD }.stream()
}

impl<S> Held<S>
where
    S: Stream<Item = Request> + Send + Unpin + 'static,
{
    fn stream(self) -> impl Stream<Item = Request> + Send + Unpin + 'static {
        Box::pin(stream::unfold(self, |mut held| async move {
            held.next_entry().await;
            let request = held.requests.next().await?;
            held.note(&request);
            Some((request, held))
        }))
    }

    async fn next_entry(&mut self) {
        if self.is_busy {
            let sent = self.sent;
            // Whether it came, or the time is up, or the log is closed: openraft knows what there is to say.
            drop(timeout(self.hold, self.newest.wait_for(|&newest| newest > sent)).await);
        }
    }

    fn note(&mut self, request: &Request) {
        let now = Instant::now();
        let came_soon = self.sent_at.is_some_and(|before| now - before <= self.hold);
        self.is_busy = !request.entries.is_empty() && came_soon;
        if let Some(last) = request.entries.last() {
            (self.sent, self.sent_at) = (last.log_id.index, Some(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, poll};
    use openraft::EntryPayload;

    use super::*;
    use crate::raft::types::{LeaderId, LogEntry, LogId, Vote};

    /// The request that brings entry `index`; 0 for one that brings none.
    fn request(index: u64) -> Request {
        let leader_id = LeaderId { term: 1, node_id: 1 };
        let entry = LogEntry { log_id: LogId { leader_id, index }, payload: EntryPayload::Blank };
        let entries = (index > 0).then_some(entry).into_iter().collect();
        Request { vote: Vote::new_committed(1, 1), prev_log_id: None, entries, leader_commit: None }
    }

    fn held_for(
        hold: Duration,
        indexes: &[u64],
        newest: &watch::Sender<u64>,
    ) -> impl Stream<Item = Request> + Send + Unpin + use<> {
        let requests = stream::iter(indexes.iter().map(|index| request(*index)).collect::<Vec<_>>());
        Held { requests, newest: newest.subscribe(), sent: 0, sent_at: None, is_busy: false, hold }.stream()
    }

    #[tokio::test]
    async fn commit_waits_for_the_next_entry_only_while_entries_come_soon() {
        const AGES: Duration = Duration::from_secs(3600);
        let newest = watch::Sender::new(1);
        let mut requests = held_for(AGES, &[1, 0, 2, 0, 3], &newest);
        requests.next().now_or_never().flatten().expect("the first entry");
        requests.next().now_or_never().flatten().expect("its commit, as no entry came before it");
        requests.next().now_or_never().flatten().expect("after a request without entries nothing is held");
        let mut commit = requests.next();
        assert!(poll!(&mut commit).is_pending(), "the second came soon after the first");
        newest.send_replace(3);
        commit.now_or_never().flatten().expect("there is a third entry to go with it");
    }

    #[tokio::test]
    async fn commit_goes_though_no_entry_comes() {
        let newest = watch::Sender::new(2);
        let requests = held_for(Duration::from_millis(1), &[1, 2, 0], &newest);
        assert_eq!(requests.count().await, 3);
    }
}
