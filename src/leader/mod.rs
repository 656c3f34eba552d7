//! Duties of the leader: what only the master does. They begin when this node is known to lead, and end, as a whole, when it
//! is not known to any longer: deposed, cut off, or told to hand over.
//!
//! ```text
//!   Node ──► office: do we lead, by a majority's last answer? ──┬──► tick    time goes through the log
//!                 │ proof                                       ├──► schedule  takes slots when their time has come
//!                 │                                             ├──► pool    runs the jobs of its queues
//!                 ▼                                             ├──► seed    settings of a new cluster
//!             supervisor                                        └──► register  whose pools the queue counts on
//! ```
//!
//! Each duty derives what there is to do from the state when its office begins; effects of applied entries only tell it when to
//! look again. So a change of leader hands nothing over but the log, and a lost effect costs nothing.
//!
//! What this room does not do: decide what happens to a job. It proposes, and the core decides.

pub mod door;
mod handover;

#[cfg(test)]
mod bench;
mod node;
mod office;
pub mod pool;
mod register;
mod schedule;
mod seed;
#[cfg(test)]
mod tests;
mod tick;

use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use self::{
    door::Queue,
    pool::{Condition, LiveOutput, Mode, Options, Pool},
};
use crate::{clock::Clock, worker::Runner};

pub use handover::{HandedOver, Handover};
pub use seed::Seed;

/// All duties of one node; most of the time most nodes' are idle.
pub struct Duties {
    stop: CancellationToken,
    tasks: JoinSet<()>,
    handover: Handover,
    live: LiveOutput,
}

/// What the duties are built from.
pub struct Setup {
    pub clock: Clock,
    pub runner: Runner,
    pub pool: Options,
    /// The pool settings of a cluster that has none yet.
    pub seed: Seed,
}

impl Duties {
    /// Must be called within a runtime.
    pub fn start<Q: Queue>(queue: Q, setup: Setup) -> Self {
        let Setup { clock, runner, pool: options, seed } = setup;
        let stop = CancellationToken::new();
        let (office, office_now) = watch::channel(None);
        let (mode, mode_now) = watch::channel(Mode::Work);
        let (condition, condition_now) = watch::channel(Condition::default());
        let live = LiveOutput::default();
        let pool = Pool {
            queue: queue.clone(),
            runner: runner.clone(),
            live: live.clone(),
            options: options.clone(),
            mode: mode_now,
            condition,
            stop: stop.clone(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(office::watch_office(queue.clone(), runner, office, stop.clone()));
        tasks.spawn(tick::run(queue.clone(), clock.clone(), office_now.clone()));
        tasks.spawn(schedule::run(queue.clone(), clock, office_now.clone()));
        tasks.spawn(register::run(queue.clone(), options, office_now.clone()));
        tasks.spawn(seed::run(queue, seed, office_now.clone()));
        tasks.spawn(pool.run(office_now.clone()));
        Self { stop, tasks, handover: Handover::new(office_now, mode, condition_now), live }
    }

    /// Output of the jobs that run here.
    pub fn live_output(&self) -> LiveOutput {
        self.live.clone()
    }

    pub fn handover(&self) -> Handover {
        self.handover.clone()
    }

    /// Ends them all; every command is gone when this returns.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a duty of the leader ended badly");
            }
        }
    }
}
