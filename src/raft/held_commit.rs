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
    sent_at: Instant,
    is_busy: bool,
}

/// `requests`, which are made as they are asked for, with commits held back while entries come one soon after the other.
pub fn held<S>(requests: S, newest: watch::Receiver<u64>) -> impl Stream<Item = Request> + Send + Unpin + 'static
where
    S: Stream<Item = Request> + Send + Unpin + 'static,
{
    let held = Held { requests, newest, sent: 0, sent_at: Instant::now(), is_busy: false };
    Box::pin(stream::unfold(held, |mut held| async move {
        held.next_entry().await;
        let request = held.requests.next().await?;
        held.note(&request);
        Some((request, held))
    }))
}

impl<S> Held<S> {
    async fn next_entry(&mut self) {
        if self.is_busy {
            let sent = self.sent;
            // Whether it came, or the time is up, or the log is closed: openraft knows what there is to say.
            drop(timeout(HOLD, self.newest.wait_for(|&newest| newest > sent)).await);
        }
    }

    fn note(&mut self, request: &Request) {
        let now = Instant::now();
        self.is_busy = !request.entries.is_empty() && now - self.sent_at <= HOLD;
        if let Some(last) = request.entries.last() {
            (self.sent, self.sent_at) = (last.log_id.index, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, poll};
    use openraft::EntryPayload;
    use tokio::time::sleep;

    use super::*;
    use crate::raft::types::{LeaderId, LogEntry, LogId, Vote};

    /// The request that brings entry `index`; 0 for one that brings none.
    fn request(index: u64) -> Request {
        let leader_id = LeaderId { term: 1, node_id: 1 };
        let entry = LogEntry { log_id: LogId { leader_id, index }, payload: EntryPayload::Blank };
        let entries = (index > 0).then_some(entry).into_iter().collect();
        Request { vote: Vote::new_committed(1, 1), prev_log_id: None, entries, leader_commit: None }
    }

    #[tokio::test]
    async fn commit_waits_for_the_next_entry_only_while_entries_come_soon() {
        let newest = watch::Sender::new(1);
        let mut requests = held(stream::iter([1, 2, 0, 3, 0].map(request)), newest.subscribe());
        sleep(HOLD * 2).await;
        requests.next().await.expect("the first entry");
        requests.next().now_or_never().flatten().expect("the second, as nothing came soon before the first");
        let mut commit = requests.next();
        assert!(poll!(&mut commit).is_pending(), "the second came soon after the first");
        newest.send_replace(3);
        commit.now_or_never().flatten().expect("there is a third entry to go with it");
        requests.next().now_or_never().flatten().expect("after a request without entries nothing is held");
        let began = Instant::now();
        requests.next().await.expect("the last commit, though no entry comes");
        assert!(began.elapsed() < HOLD * 1000);
    }
}
