//! The replicated state machine, as openraft sees it: apply, build a snapshot, install one.

use std::{io, sync::Arc};

use futures::{FutureExt, Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};

use super::{
    apply::{Applier, Item},
    replica::Replica,
    snapshot::{Builder, Contents, Snapshot, Snapshots},
    types::{LogId, SnapshotMeta, StoredMembership, TypeConfig, entry_bytes},
};

/// A chunk is closed when its entries pass this: it bounds the time a reader waits, and the size of a batch.
const CHUNK_BYTES_MAX: usize = 4 << 20;

pub struct StateMachine {
    replica: Arc<Replica>,
    applier: Applier,
    snapshots: Arc<Snapshots>,
}

impl StateMachine {
    pub fn new(replica: Arc<Replica>, applier: Applier, snapshots: Arc<Snapshots>) -> Self {
        Self { replica, applier, snapshots }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = Contents;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let hot = self.replica.hot();
        Ok((hot.applied.log_id, hot.applied.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + Send,
    {
        while let Some(first) = entries.next().await {
            let chunk = gather(first?, &mut entries)?;
            self.applier.apply(chunk).await?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.snapshots.builder()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Contents) -> Result<(), io::Error> {
        self.snapshots.install(meta, snapshot.into_file().await?).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.snapshots.current())
    }
}

/// `first` and what is there without waiting.
fn gather<Strm>(first: Item, entries: &mut Strm) -> Result<Vec<Item>, io::Error>
where
    Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin,
{
    let mut bytes = entry_bytes(&first.0);
    let mut chunk = vec![first];
    while bytes < CHUNK_BYTES_MAX
        && let Some(Some(item)) = entries.next().now_or_never()
    {
        let item = item?;
        bytes += entry_bytes(&item.0);
        chunk.push(item);
    }
    Ok(chunk)
}
