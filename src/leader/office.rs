//! Whether this node leads, watched closely: duties run for one office, and end with it.
//!
//! Raft's role is not enough: a leader that is cut off keeps its role until it hears of another. What counts is the last
//! answer of a majority (`Leadership::until`), and it is looked at several times within the leader lease. The same look
//! passes the proof on to the supervisor, which ends the commands by itself if no newer one comes (design 2.3).

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::door::Queue;
use crate::{
    queue::job::Office,
    worker::{Boottime, Runner},
};

/// Several looks within the shortest leader lease; each costs a few atomic reads.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Watches until told to stop.
pub async fn watch_office<Q: Queue>(
    queue: Q,
    runner: Runner,
    office: watch::Sender<Option<Office>>,
    stop: CancellationToken,
) {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut proven = Boottime::ZERO;
    while stop.run_until_cancelled(looks.tick()).await.is_some() {
        let leadership = queue.leadership().filter(|leadership| Boottime::now() < leadership.until);
        if let Some(leadership) = leadership.filter(|leadership| leadership.until > proven) {
            proven = leadership.until;
            runner.alive(proven);
        }
        announce(&office, leadership.map(|leadership| leadership.office));
    }
    announce(&office, None);
}

fn announce(sender: &watch::Sender<Option<Office>>, office: Option<Office>) {
    sender.send_if_modified(|known| {
        if *known == office {
            return false;
        }
        match office {
            Some(office) => tracing::info!(term = office.term, "duties of the leader begin"),
            None => tracing::info!("duties of the leader end"),
        }
        *known = office;
        true
    });
}

/// One office as a duty sees it.
pub struct Term {
    pub office: Office,
    office_now: watch::Receiver<Option<Office>>,
}

impl Term {
    /// The next office of this node; `None` once there will be no other.
    pub async fn next(office_now: &watch::Receiver<Option<Office>>) -> Option<Self> {
        let mut office_now = office_now.clone();
        let office = office_now.wait_for(Option::is_some).await.ok().and_then(|office| *office)?;
        Some(Self { office, office_now })
    }

    /// Returns when this node no longer leads, or leads under another office.
    pub async fn ended(&mut self) {
        let office = Some(self.office);
        // The watcher is gone: so is the office.
        drop(self.office_now.wait_for(|now| *now != office).await);
    }
}
