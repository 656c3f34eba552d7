//! The tick: what time does to the queue goes through the log as well (design 2.1).
//!
//! Proposed when the next deadline of the state has passed, and each second while one is pending, so that the cluster clock
//! in the log is never more than that behind when the leader dies. It stands in line behind whatever had arrived before it.
//! After a stall of this process (a stop, a suspend, an overloaded machine) requests wait unread in the sockets, touches
//! among them, while deadlines have passed: the tick lets them in first.

use std::time::Duration;

use tokio::sync::watch;

use super::{
    door::{Proposed, Queue},
    office::Term,
};
use crate::{
    clock::Clock,
    queue::{
        applied::NextDeadline,
        command::{Clocks, Command},
        ids::{ClusterMs, WallMs},
        job::Office,
    },
    worker::Boottime,
};

/// At least this often while anything is pending.
const EVERY_MS: u64 = 1_000;
/// How often the state is asked for its next deadline. A lease ends this much later at most.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Being late by this much is a stall.
const STALL_MS: u64 = 200;
/// What had arrived before a stall ended is in the log after this.
const LET_IN_FIRST: Duration = Duration::from_millis(100);

/// Ticks in every office of this node, until there will be no other.
pub async fn run<Q: Queue>(queue: Q, clock: Clock, office: watch::Receiver<Option<Office>>) {
    while let Some(mut term) = Term::next(&office).await {
        tokio::select! {
            () = tick_for_ever(&queue, &clock) => {}
            () = term.ended() => {}
        }
    }
}

async fn tick_for_ever<Q: Queue>(queue: &Q, clock: &Clock) {
    let mut seen = Seen::of(ClusterMs(0));
    loop {
        wait_out_stalls().await;
        let hold_wall = queue.is_wall_clock_off();
        let (next, newest) = queue.look(|state, _| (state.next_deadline(), state.position().clocks.cluster));
        let next = if hold_wall { NextDeadline { wall: None, ..next } } else { next };
        if newest != seen.newest {
            seen = Seen::of(newest);
        }
        let now = Clocks { cluster: seen.now(), wall: WallMs(clock.wall_ms()) };
        if is_wanted(next, now, newest) && queue.propose(Command::Tick { hold_wall }).await == Proposed::Unknown {
            tracing::debug!("what became of a tick is unknown; the next one does the same");
        }
    }
}

/// The cluster clock as far as it can be seen from here: the stamp of the newest entry, and the time since it was noticed. A
/// little behind the proposer's own, which is the safe side: nothing is due too early (P10).
struct Seen {
    newest: ClusterMs,
    at: Boottime,
}

impl Seen {
    fn of(newest: ClusterMs) -> Self {
        Self { newest, at: Boottime::now() }
    }

    fn now(&self) -> ClusterMs {
        self.newest.after(Boottime::now().ms_since(self.at))
    }
}

/// Returns after [`LOOK_EVERY`], later if this process stood still meanwhile.
async fn wait_out_stalls() {
    let before = Boottime::now();
    tokio::time::sleep(LOOK_EVERY).await;
    let late_ms = Boottime::now().ms_since(before);
    if late_ms > STALL_MS {
        tracing::warn!(late_ms, "this process stood still; what waits is heard before anything expires");
        tokio::time::sleep(LET_IN_FIRST).await;
    }
}

/// Whether a deadline has passed, or any is pending and the newest entry is a second old.
fn is_wanted(next: NextDeadline, now: Clocks, newest: ClusterMs) -> bool {
    let due = next.cluster.is_some_and(|at| at <= now.cluster) || next.wall.is_some_and(|at| at <= now.wall);
    let pending = next.cluster.is_some() || next.wall.is_some();
    due || pending && newest.after(EVERY_MS) <= now.cluster
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(cluster: Option<u64>, wall: Option<u64>, newest: u64, wanted: bool) {
        let next = NextDeadline { cluster: cluster.map(ClusterMs), wall: wall.map(WallMs) };
        let now = Clocks { cluster: ClusterMs(10_000), wall: WallMs(50_000) };
        assert_eq!(is_wanted(next, now, ClusterMs(newest)), wanted);
    }

    #[test]
    fn tick_is_wanted_when_due_and_each_second_while_pending() {
        check(None, None, 0, false);
        check(Some(10_000), None, 10_000, true);
        check(Some(10_001), None, 9_001, false);
        check(Some(10_001), None, 9_000, true);
        check(None, Some(50_000), 10_000, true);
        check(None, Some(50_001), 9_999, false);
        check(None, Some(50_001), 9_000, true);
    }
}
