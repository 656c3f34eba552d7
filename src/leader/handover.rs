//! A planned handover: nothing new is claimed, running jobs may end for a while, and then another node leads (design 2.3).

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::pool::{Condition, Mode};
use crate::queue::{ids::JobId, job::Office};

/// Beyond the time that running jobs are given: for TERM, grace, KILL, and for the queue to be told.
const WIND_UP: Duration = Duration::from_secs(5);

/// What the pool left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandedOver {
    /// Jobs that were given no more time; they run again at the next leader, and this counts as no loss.
    pub interrupted: Vec<JobId>,
}

/// Lets the pool leave, and come back. Clones are the same.
#[derive(Clone)]
pub struct Handover {
    office: watch::Receiver<Option<Office>>,
    mode: watch::Sender<Mode>,
    condition: watch::Receiver<Condition>,
}

impl Handover {
    pub(super) fn new(
        office: watch::Receiver<Option<Office>>,
        mode: watch::Sender<Mode>,
        condition: watch::Receiver<Condition>,
    ) -> Self {
        Self { office, mode, condition }
    }

    /// Returns when nothing runs here any more and the queue knows it: at the latest `wait` and some seconds from now. May be
    /// called again with another `wait` meanwhile. The pool claims nothing until [`Self::stay`].
    pub async fn leave(&self, wait: Duration) -> HandedOver {
        self.mode.send_replace(Mode::Leave { until: Instant::now() + wait });
        if self.office.borrow().is_none() {
            return HandedOver::default();
        }
        let (mut condition, mut office) = (self.condition.clone(), self.office.clone());
        tokio::select! {
            _ = condition.wait_for(|condition| condition.has_left) => {}
            _ = office.wait_for(Option::is_none) => {}
            () = tokio::time::sleep(wait + WIND_UP) => tracing::warn!("some jobs do not end; leaving without them"),
        }
        let interrupted = condition.borrow().interrupted.clone();
        if !interrupted.is_empty() {
            let jobs: Vec<_> = interrupted.iter().map(|job| job.0).collect();
            tracing::warn!(?jobs, "interrupted by the handover; the next leader runs them again");
        }
        HandedOver { interrupted }
    }

    /// Returns once this node has not led, as far as it can know, for `patience`.
    pub async fn deposed(&self, patience: Duration) {
        let mut office = self.office.clone();
        loop {
            // An error means that the duties have ended, and the office with them.
            drop(office.wait_for(Option::is_none).await);
            let again = tokio::time::timeout(patience, office.wait_for(Option::is_some)).await;
            if !matches!(again, Ok(Ok(_))) {
                return;
            }
        }
    }

    /// The handover did not come about, or is over: work as before, if this node leads.
    pub fn stay(&self) {
        self.mode.send_replace(Mode::Work);
    }
}
