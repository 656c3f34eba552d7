//! What a node sees to by itself, at short intervals: its own health, snapshots, the size of the log, the members' hashes
//! and disk space, and whether it still belongs to the cluster.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::future::join_all;
use openraft::{Instant as _, LogIdOptionExt};
use tokio::time::{Instant, MissedTickBehavior, timeout};

use super::{
    inner::Inner,
    message::{StatusQuestion, StatusReply, Topic},
    status::Space,
    stop::StopReason,
    types::{Body, Payload},
    wall_clock::WallClock,
};

const TICK: Duration = Duration::from_millis(100);
/// How often the leader asks the members how they are.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
const STATUS_TIMEOUT: Duration = Duration::from_millis(800);
/// Listings step over each ended job that was archived, until the store is flushed and what is deleted is compacted away. So
/// many are a reason to, this long after the last time.
pub(super) const LEFT_MAX: u64 = 20_000;
const LEFT_INTERVAL: Duration = Duration::from_secs(5);
/// For a follower that catches up, the log grows to so many times what is kept for those who were away for a moment.
const HELD_FACTOR: u64 = 8;
/// One that has not answered for so long does not.
const SILENCE_MAX: Duration = Duration::from_secs(10);
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(2);

/// What upkeep remembers between its rounds.
pub struct Upkeep {
    inner: Arc<Inner>,
    last_snapshot: Instant,
    last_purge: Option<u64>,
    last_status: Instant,
    status_term: Option<u64>,
    last_mark: Instant,
    marked_at: u64,
    judged: u64,
    was_member: bool,
}

impl Upkeep {
    pub fn new(inner: Arc<Inner>) -> Self {
        let now = Instant::now();
        Self {
            inner,
            last_snapshot: now,
            last_purge: None,
            last_status: now,
            status_term: None,
            last_mark: now,
            marked_at: 0,
            judged: 0,
            was_member: false,
        }
    }

    /// Runs until the node stops or the task is dropped.
    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.inner.stop.is_set() {
            ticks.tick().await;
            self.inner.publish_leadership();
            self.inner.lease.sample(&self.inner.options.clock);
            self.check_raft().await;
            self.check_stall().await;
            self.check_snapshot().await;
            self.check_log().await;
            if self.inner.leading().is_some() {
                self.lead().await;
            }
        }
    }

    /// Raft that ended by itself, or a committed membership without this node, end the node.
    async fn check_raft(&mut self) {
        let metrics = self.inner.metrics();
        if let Err(error) = &metrics.running_state {
            self.inner.stop.because(StopReason::Raft(error.to_string()));
        }
        let member = metrics.committed_membership_config.membership().get_node(&self.inner.options.id).is_some();
        if self.was_member && !member {
            let inner = Arc::clone(&self.inner);
            // Nothing more can be done if that task fails; the node stops all the same.
            drop(tokio::task::spawn_blocking(move || inner.retire()).await);
            self.inner.stop.because(StopReason::Removed);
        }
        self.was_member |= member;
    }

    /// Heartbeats have their own worker, so a leader with a hung disk or a stuck apply would lead for ever.
    async fn check_stall(&self) {
        let inner = &self.inner;
        let stalled = || inner.log.pace().stalled_ms().max(inner.applier.pace().stalled_ms());
        if inner.leading().is_none() || stalled() < inner.options.raft.stall_ms {
            return;
        }
        tracing::error!(stalled_ms = stalled(), "this leader makes no progress and hands over");
        let handed = timeout(HAND_OVER_TIMEOUT, inner.hand_over(None, Instant::now() + HAND_OVER_TIMEOUT)).await;
        let stalled_ms = stalled();
        if !matches!(handed, Ok(Ok(_))) && inner.leading().is_some() && stalled_ms >= inner.options.raft.stall_ms {
            inner.stop.because(StopReason::Stalled { stalled_ms });
        }
    }

    async fn check_snapshot(&mut self) {
        let inner = &self.inner;
        let bytes = inner.replica.bytes_since_snapshot.load(Ordering::Relaxed);
        let options = &inner.options.raft;
        let is_old = self.last_snapshot.elapsed() >= options.snapshot_interval;
        let left = inner.replica.left_since_snapshot.load(Ordering::Relaxed);
        let many_left = left >= LEFT_MAX && self.last_snapshot.elapsed() >= LEFT_INTERVAL;
        if bytes >= options.snapshot_bytes || many_left || is_old && bytes > 0 {
            self.last_snapshot = Instant::now();
            inner.replica.left_since_snapshot.store(0, Ordering::Relaxed);
            inner.snapshot().await;
        }
    }

    /// Cuts the log behind the last snapshot, but for what a peer that was away for a moment would miss.
    async fn check_log(&mut self) {
        let inner = &self.inner;
        let Some(upto) = inner.log_end() else { return };
        if self.last_purge.is_some_and(|last| upto <= last) {
            return;
        }
        self.last_purge = Some(upto);
        if let Err(error) = inner.raft.trigger().purge_log(upto).await {
            tracing::warn!(%error, "log not cut");
        }
    }

    async fn lead(&mut self) {
        // A new leader does not believe its wall clock before it has asked.
        let term = self.inner.leading().map(|leader| leader.term);
        if self.last_status.elapsed() >= STATUS_INTERVAL || self.status_term != term {
            (self.last_status, self.status_term) = (Instant::now(), term);
            let replies = self.ask_members().await;
            self.inner.judge_space(&replies);
            self.inner.judge_wall_clock(&replies);
            self.compare_hashes(&replies).await;
            if let Some(level) = self.inner.level_to_raise(&replies) {
                self.write(Body::FeatureLevel(level)).await;
            }
        }
        let applied = *self.inner.replica.index().borrow();
        if self.last_mark.elapsed() >= self.inner.options.raft.hash_interval && applied > self.marked_at {
            self.last_mark = Instant::now();
            self.write(Body::HashMark).await;
            // The mark and its verdict are not themselves a reason for another.
            self.marked_at = applied + 2;
        }
    }

    async fn ask_members(&self) -> BTreeMap<u64, StatusReply> {
        let inner = &self.inner;
        let membership = inner.membership();
        let others = membership.membership().nodes().filter(|(id, _)| **id != inner.options.id);
        let asking = others.map(|(&id, member)| async move {
            let reply = inner.ask((id, member), Topic::Status, &StatusQuestion, STATUS_TIMEOUT).await;
            reply.ok().map(|reply: StatusReply| (id, reply))
        });
        let mut replies: BTreeMap<_, _> = join_all(asking).await.into_iter().flatten().collect();
        replies.insert(inner.options.id, inner.own_status());
        replies
    }

    /// Puts down what the members' hashes were at the last mark, once all that answer have passed it.
    async fn compare_hashes(&mut self, replies: &BTreeMap<u64, StatusReply>) {
        let own = replies.get(&self.inner.options.id).and_then(|reply| reply.mark);
        let Some((mark, _)) = own.filter(|&(mark, _)| mark > self.judged) else { return };
        let at_mark = |reply: &StatusReply| reply.mark.filter(|&(index, _)| index == mark).map(|(_, hash)| hash);
        let hashes: Option<Vec<_>> = replies.iter().map(|(&id, reply)| Some((id, at_mark(reply)?))).collect();
        let Some(hashes) = hashes.filter(|hashes| hashes.len() > 1) else { return };
        self.judged = mark;
        self.write(Body::HashVerdict { mark, hashes }).await;
    }

    async fn write(&self, body: Body) {
        let Some(leader) = self.inner.leading() else { return };
        let callback = super::types::Callback::new(|_| {});
        if let Err(error) = self.inner.raft.write(Payload::new(body)).responder(callback).with_leader(leader).await {
            tracing::debug!(%error, "entry of the upkeep not written");
        }
    }
}

/// The lowest index of followers that answer, each with how long it has been silent and what it has. Whoever is so far behind that
/// the entries from `first` on are of no use needs a snapshot in any case.
fn lowest_in_reach(followers: impl Iterator<Item = (Duration, u64)>, first: u64) -> Option<u64> {
    followers.filter(|&(silent, at)| silent < SILENCE_MAX && at + 1 >= first).map(|(_, at)| at).min()
}

impl Inner {
    /// Builds a snapshot, and waits until it is asked for, not until it is there.
    pub async fn snapshot(&self) {
        if let Err(error) = self.raft.trigger().snapshot().await {
            tracing::warn!(%error, "snapshot not built");
        }
    }

    /// Up to where the log may go.
    pub(super) fn log_end(&self) -> Option<u64> {
        let metrics = self.metrics();
        let covered = metrics.snapshot.index()?.min(self.snapshots.flushed()?.index);
        let keep_bytes = self.options.raft.log_keep_bytes;
        let wanted = self.log.purge_point(keep_bytes)?.min(covered);
        match self.needed_behind(metrics.purged.next_index()) {
            Some(needed) if needed < wanted => {
                Some(self.log.purge_point(keep_bytes * HELD_FACTOR)?.max(needed).min(wanted))
            }
            _ => Some(wanted),
        }
    }

    /// Behind which index somebody will ask for entries: followers that lag, and those that a snapshot is on its way to.
    fn needed_behind(&self, first: u64) -> Option<u64> {
        let metrics = self.metrics();
        let heard = metrics.heartbeat.iter().flatten().filter_map(|(id, at)| Some((id, at.as_ref()?.elapsed())));
        let reached = |id| Some(metrics.replication.as_ref()?.get(id)?.as_ref()?.index);
        let lagging = lowest_in_reach(heard.filter_map(|(id, silent)| Some((silent, reached(id)?))), first);
        lagging.into_iter().chain(self.snapshots.taken.lowest(Instant::now())).min()
    }

    /// How much room a majority of the voters has: of three, the second-best disk counts.
    fn judge_space(&self, replies: &BTreeMap<u64, StatusReply>) {
        let voters = self.voters();
        let mut free: Vec<u64> = voters.iter().map(|id| replies.get(id).map_or(0, |reply| reply.disk_free)).collect();
        free.sort_unstable_by(|a, b| b.cmp(a));
        let Some(&majority) = free.get(voters.len() / 2) else { return };
        let answering = voters.iter().filter(|id| replies.contains_key(id)).count();
        if answering <= voters.len() / 2 {
            return;
        }
        let options = &self.options.raft;
        let space = match majority {
            free if free < options.space_full_bytes => Space::Full,
            free if free < options.space_low_bytes => Space::Low,
            _ => Space::Plenty,
        };
        let changed = self.space.send_if_modified(|known| std::mem::replace(known, space) != space);
        if changed {
            tracing::warn!(?space, free = majority, "disk space of a majority");
        }
    }

    /// A clock that most members disagree with should trigger nothing (design 2.1).
    fn judge_wall_clock(&self, replies: &BTreeMap<u64, StatusReply>) {
        let Some(leader) = self.leading() else { return };
        let walls: Vec<u64> = replies.values().map(|reply| reply.wall_ms).collect();
        let now = WallClock::compare(leader.term, &self.options.clock, walls.clone());
        let was_off = self.wall_clock.send_replace(Some(now)).is_some_and(|known| known.is_off());
        match (was_off, now.is_off()) {
            (false, true) => tracing::error!(
                members = ?walls,
                "this leader's wall clock is more than 10 s off the other members'; what wall time triggers waits"
            ),
            (true, false) => {
                tracing::info!("the members' wall clocks agree again; what wall time triggers goes on");
            }
            (false, false) | (true, true) => {}
        }
    }

    pub(super) fn publish_leadership(&self) {
        let now = self.leadership();
        self.leadership.send_if_modified(|known| {
            let changed = *known != now;
            if changed {
                tracing::info!(role = ?now.role, term = now.term, leader = ?now.leader.as_ref().map(|l| l.id), "leadership");
                *known = now;
            }
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lowest_in_reach_is_of_a_follower_that_answers_and_can_be_served() {
        let lowest = |followers: &[(Duration, u64)], first| lowest_in_reach(followers.iter().copied(), first);
        let now = Duration::ZERO;
        assert_eq!(lowest(&[], 0), None);
        assert_eq!(lowest(&[(now, 70), (now, 50)], 0), Some(50));
        assert_eq!(lowest(&[(now, 70), (SILENCE_MAX, 50)], 0), Some(70), "it is gone for the time being");
        assert_eq!(lowest(&[(now, 70), (now, 50)], 51), Some(50), "its next entry is the first there is");
        assert_eq!(lowest(&[(now, 70), (now, 50)], 52), Some(70), "it needs a snapshot in any case");
    }
}
