//! The first settings of a cluster: what the configuration file says about the pool is proposed once, by the first leader that
//! finds none in the state. Forming the cluster and seeding it are two steps, and a crash may fall between: whoever leads
//! next does it then. Afterwards the file is not asked again (design 5).

use std::time::Duration;

use tokio::sync::watch;

use super::{
    door::{Proposed, Queue},
    office::Term,
};
use crate::queue::{
    applied::Answer,
    command::{Command, PoolChange, SettingsChange},
    job::Office,
    rows::RowKey,
};

const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What to begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    pub pool: PoolChange,
    pub pool_timeout_ms: u64,
}

pub async fn run<Q: Queue>(queue: Q, seed: Seed, office: watch::Receiver<Option<Office>>) {
    while let Some(mut term) = Term::next(&office).await {
        tokio::select! {
            () = sow(&queue, &seed) => {}
            () = term.ended() => continue,
        }
        term.ended().await;
    }
}

/// Until the state has settings of its own.
async fn sow<Q: Queue>(queue: &Q, seed: &Seed) {
    // The settings last: their row says that all is done.
    let settings = SettingsChange { pool_timeout_ms: Some(seed.pool_timeout_ms), ..SettingsChange::default() };
    let mut commands = [Command::Pool(seed.pool.clone()), Command::Settings(settings)].into_iter().peekable();
    while let Some(command) = commands.peek().filter(|_| !is_sown(queue)) {
        match queue.propose(command.clone()).await {
            Proposed::Answered { answer: Answer::Refused(refusal), .. } => {
                tracing::error!(%refusal, "the settings of the configuration file are refused; set others with `raftq pool`");
                drop(commands.next());
            }
            Proposed::Answered { .. } => drop(commands.next()),
            Proposed::Never | Proposed::Unknown => tokio::time::sleep(RETRY_AFTER).await,
        }
    }
}

fn is_sown<Q: Queue>(queue: &Q) -> bool {
    queue.look(|_, rows| rows.get(&RowKey::Settings).is_some())
}
