//! Failover by evidence (engine-notes 7): a process that died is visible at once, unlike a machine that is gone.
//!
//! Each voter keeps one connection to the leader on which nothing is said. When it ends *and* a new one is refused, nobody
//! listens there any more: the voter lifts the leader's lease, and asks for the office by pre-vote. Others grant it only
//! if they saw the same, or if their timers ran out: only a node's own evidence counts, never another's word, so one
//! firewall rule between two nodes deposes nobody. Once per term. Where the refusal is not seen (host gone, network cut),
//! the timers decide as before.
//!
//! Reads stay linearizable: they go by read index, never by lease. What an old leader does outside Raft is bound to
//! [`leads_until_ms`](super::Node::leads_until_ms), and its successor waits that long anyway.

use std::{io, sync::Arc, time::Duration};

use openraft::raft::TransferLeaderRequest;
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    inner::{Inner, Leader},
    types::Vote,
};

/// A live kernel answers or refuses within this on one network; silence is no evidence.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_millis(50);
/// Voters ask for the office one after the other, so that the first usually gets it alone.
const STAGGER: Duration = Duration::from_millis(15);

/// Watches whoever leads, until the task is dropped.
pub async fn watch(inner: Arc<Inner>) {
    let mut used = None;
    loop {
        let vote = inner.metrics().vote;
        match inner.leader().filter(|leader| leader.id != inner.options.id) {
            Some(leader) if used != Some(vote) => {
                if process_died(&inner, &leader, vote).await {
                    used = Some(vote);
                    seek_office(&inner, &leader, vote).await;
                }
            }
            _ => sleep(RETRY).await,
        }
    }
}

/// True once the connection to the leader ended and a new one is refused; false when the leader changed meanwhile.
async fn process_died(inner: &Inner, leader: &Leader, vote: Vote) -> bool {
    let Ok(Ok(mut line)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(&leader.member.peer)).await else {
        // Never seen alive from here: a refusal now says nothing new.
        sleep(RETRY).await;
        return false;
    };
    inner.line_to.send_replace(Some(leader.id));
    let ended = line_ended(inner, vote, &mut line).await;
    inner.line_to.send_replace(None);
    if !ended {
        return false;
    }
    let again = timeout(CONNECT_TIMEOUT, TcpStream::connect(&leader.member.peer)).await;
    matches!(again, Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Waits for the end of the line; false when another leads before that.
async fn line_ended(inner: &Inner, vote: Vote, line: &mut TcpStream) -> bool {
    let mut byte = [0];
    loop {
        match timeout(RETRY, line.read(&mut byte)).await {
            Err(_) if inner.metrics().vote == vote => {}
            Err(_) => return false,
            Ok(Ok(read)) if read > 0 => {}
            Ok(Ok(_) | Err(_)) => return true,
        }
    }
}

async fn seek_office(inner: &Inner, leader: &Leader, vote: Vote) {
    if !inner.voters().contains(&inner.options.id) {
        return;
    }
    tracing::warn!(leader = leader.id, term = vote.leader_id.term, "the leader's process is gone");
    // A hand-over to somebody else lifts this node's lease of the old leader, and does nothing more.
    let lift = TransferLeaderRequest::new(vote, leader.id, None);
    if let Err(error) = inner.raft.handle_transfer_leader(lift).await {
        tracing::debug!(%error, "lease not lifted");
        return;
    }
    let before = inner.voters().into_iter().filter(|&id| id < inner.options.id && id != leader.id).count();
    // Even the first waits for the others to see what it saw.
    sleep(STAGGER * u32::try_from(before + 1).unwrap_or(u32::MAX)).await;
    let still = inner.metrics().vote == vote;
    if still && let Err(error) = inner.raft.trigger().elect(true).await {
        tracing::debug!(%error, "election not begun");
    }
}
