//! Restoring a backup: a new cluster of pristine founders that begins with the backup's state.
//!
//! ```text
//!   backup ─► examined ─► scratch store ─► queue::State::restore ─► founding snapshot ─► invite ─► install ─► elect
//!             to its end   its rows         leases end, counters     new cluster, new    the others   │        the others get
//!                                           jump, perhaps paused     members, one index  join         │        it by snapshot
//!                                                                                                     ▼
//!                                                                                        the one point of no return
//! ```
//!
//! **Nothing has happened until the founding snapshot is installed here**, and that is one rename (design 5, Disk): the new
//! state store carries the new cluster's id with it. A node that dies before is as pristine as it was; one that dies after
//! is a member, and at its next start asks for votes by itself. In between there is nothing.
//!
//! The counters jump in the founding snapshot and not by an entry in the log: an entry would leave a moment in which the
//! cluster serves and gives an old id again (P2, P3). The index jumps as well, so that whatever pointed into the old log
//! (positions of event streams, versions) lies behind the new one and is told so.
//!
//! Two nodes that restore or form at once are kept apart as in [`super::membership`]: whoever forms invites all founders
//! first, and a node that restores refuses.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::{
    fs::File,
    io::AsyncWriteExt,
    time::{Instant, timeout},
};

use super::{
    apply::roll,
    backup::{BackupSummary, examine},
    inner::Inner,
    membership::MembershipError,
    message::{Envelope, Invitation},
    replica::{Applied, Hot},
    snapshot::{Contents, Incoming, Snapshot, Snapshots},
    snapshot_file::{self, Header, SnapshotError},
    state_rows::{StoredRows, put_changes},
    stop::StopReason,
    types::{Answers, LeaderId, LogId, Member, Membership, StoredMembership, Vote},
};
use crate::{
    queue::{
        Restoration,
        ids::{Index, JobId, LeaseId, NUMBER_LIMIT, WallMs},
        invariants,
    },
    storage::{Batch, ClusterId, Synced, disk_space},
};

/// Numbers jump to a multiple of this, and by no less.
const JUMP: u64 = 1_000_000_000;
/// And by so many for each millisecond since the backup was taken: no cluster gives a million ids a second.
const JUMP_PER_MS: u64 = 1_000;
/// Numbers stay below 2^53, with room for as many again.
const JUMP_LIMIT: u64 = NUMBER_LIMIT / 2;
/// Backup, scratch store, founding snapshot, new store: the first two are gone before the last one is there.
const SPACE_FACTOR: u64 = 3;
/// A client that sends nothing for this long has gone.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);
/// The cluster is there by then, or will be when more of its members are up: it no longer depends on this call.
const LEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Raft takes snapshots from leaders only. This one's is nobody's: the first term is spent on it.
const FOUNDING_TERM: u64 = 1;
const NOBODY: u64 = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoreOptions {
    /// The highest job id that the old cluster is known to have given; without it, more than it can have given.
    pub after_job: Option<JobId>,
    /// Nothing is claimed until an operator resumes it.
    pub paused: bool,
}

/// What a restore made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    pub cluster: ClusterId,
    pub backup: BackupSummary,
    /// Where the new log begins.
    pub index: u64,
    /// The next job's id and the next lease are beyond these.
    pub last_job: JobId,
    pub last_lease: LeaseId,
    pub leases_ended: u64,
    pub paused: bool,
    /// Whether the new cluster had a leader when this was said.
    pub led: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// What was sent is no whole backup.
    #[error("{0}")]
    Backup(#[from] SnapshotError),
    #[error("{0}")]
    Members(#[from] MembershipError),
    #[error("after_job {given} is below {last}, the last job in the backup itself")]
    AfterJob { given: JobId, last: JobId },
    #[error(
        "the backup's numbers and age leave none to go on with; give the last job id of the old cluster as after_job"
    )]
    NumbersSpent,
    #[error("restoring needs about {wanted} bytes of disk space here, and {free} are free")]
    NoSpace { wanted: u64, free: u64 },
    #[error("the backup did not arrive: {0}")]
    Receiving(io::Error),
    #[error("the restore failed on this node: {0}")]
    Failed(String),
}

/// Where the new timeline begins, and with whom.
struct Founding {
    cluster: ClusterId,
    members: BTreeMap<u64, Member>,
    restoration: Restoration,
}

impl Founding {
    fn log_id(&self) -> LogId {
        LogId { leader_id: LeaderId { term: 0, node_id: NOBODY }, index: self.restoration.index.0 }
    }

    fn membership(&self) -> Result<StoredMembership, RestoreError> {
        let voters = self.members.keys().copied().collect();
        let membership = Membership::new(vec![voters], self.members.clone());
        let membership = membership.map_err(|error| RestoreError::Failed(error.to_string()))?;
        Ok(StoredMembership::new(Some(self.log_id()), membership))
    }
}

impl Inner {
    /// Writes a backup that arrives in pieces to a file of this node.
    pub(super) async fn receive_backup(
        &self,
        pieces: impl Stream<Item = io::Result<Bytes>>,
    ) -> Result<Incoming, RestoreError> {
        let incoming = self.snapshots.incoming();
        self.write_pieces(incoming.path(), pieces).await.map_err(RestoreError::Receiving)?;
        Ok(incoming)
    }

    async fn write_pieces(&self, path: &Path, pieces: impl Stream<Item = io::Result<Bytes>>) -> io::Result<()> {
        let mut pieces = std::pin::pin!(pieces);
        let mut file = File::create(path).await?;
        while let Some(piece) = timeout(PIECE_TIMEOUT, pieces.next()).await? {
            file.write_all(&piece?).await?;
        }
        file.sync_all().await
    }

    /// Forms a new cluster of the founding members, all of which must be pristine, with the state of `backup`.
    pub(super) async fn restore(
        self: &Arc<Self>,
        backup: Incoming,
        options: RestoreOptions,
    ) -> Result<Restored, RestoreError> {
        let _changing = self.changing.try_lock().map_err(|_| MembershipError::Busy)?;
        let path = backup.path().to_path_buf();
        let summary = blocking(move || Ok(examine(&path, &mut |_| {})?)).await?;
        self.has_space(summary.bytes)?;
        let restoration = restoration(&summary, options, WallMs(self.options.clock.wall_ms()))?;
        let (members, begun) = self.unformed_founders().await?;
        let deciding = self.decide_to_restore()?;
        let founding = Founding { cluster: begun.unwrap_or_else(|| ClusterId(rand::random())), members, restoration };
        let (cluster, members) = (founding.cluster, founding.members.clone());
        let snapshots = Arc::clone(&self.snapshots);
        let (header, file, leases_ended) = blocking(move || snapshots.found(backup, &founding)).await?;
        for (&id, member) in members.iter().filter(|(id, _)| **id != self.options.id) {
            // In the new cluster's name: a restore that was interrupted may have invited it already.
            let envelope = Envelope { cluster: Some(cluster), ..self.envelope(id, Some(member.disk)) };
            self.invite_as(&envelope, member, Invitation { cluster }).await?;
        }
        self.install_founding(&header, file).await?;
        deciding.done();
        self.belong_to(cluster).await?;
        tracing::info!(%cluster, from = %summary.cluster, index = restoration.index.0, "cluster restored from a backup");
        let led = self.elect_first(restoration.index.0).await;
        let Restoration { index, last_job, last_lease, paused, .. } = restoration;
        Ok(Restored { cluster, backup: summary, index: index.0, last_job, last_lease, leases_ended, paused, led })
    }

    fn has_space(&self, backup_bytes: u64) -> Result<(), RestoreError> {
        let wanted = backup_bytes.saturating_mul(SPACE_FACTOR);
        match disk_space(self.data.path()) {
            Ok(space) if space.free < wanted => Err(RestoreError::NoSpace { wanted, free: space.free }),
            // Where it cannot be told, trying tells.
            _ => Ok(()),
        }
    }

    /// From here on this node accepts no invitation, until the restore has failed.
    fn decide_to_restore(&self) -> Result<Deciding<'_>, RestoreError> {
        let identity = self.identity.lock().expect("no holder of this lock panics");
        if identity.cluster.is_some() {
            return Err(MembershipError::FormingBegun.into());
        }
        self.restoring.store(true, Ordering::SeqCst);
        Ok(Deciding { inner: self, decided: false })
    }

    /// The point of no return.
    async fn install_founding(&self, header: &Header, file: Incoming) -> Result<(), RestoreError> {
        let contents = Contents::File(file.open().map_err(failed)?);
        let snapshot = Snapshot { meta: header.meta(), snapshot: contents };
        let vote = Vote::new_committed(FOUNDING_TERM, NOBODY);
        let installed = self.raft.install_full_snapshot(vote, snapshot).await;
        installed.map(drop).map_err(|error| {
            self.stop.because(StopReason::Raft(error.to_string()));
            failed(error)
        })
    }

    /// The new state store says it already; now the log store and this process hear it too.
    async fn belong_to(self: &Arc<Self>, cluster: ClusterId) -> Result<(), RestoreError> {
        let this = Arc::clone(self);
        blocking(move || this.join(cluster).map_err(failed)).await
    }

    async fn elect_first(&self, index: u64) -> bool {
        if let Err(error) = self.raft.trigger().elect(false).await {
            tracing::warn!(%error, "no election yet");
        }
        // The first leader begins with an entry of its own.
        self.applied(index + 1, Instant::now() + LEADER_TIMEOUT).await.is_ok()
    }

    /// Whether a restore was begun on this node and came to no end, neither good nor bad.
    pub(super) fn restore_was_interrupted(&self) -> bool {
        self.metrics().vote == Vote::new_committed(FOUNDING_TERM, NOBODY)
    }
}

/// Takes invitations again when it is dropped, unless there is nothing left to be invited to.
struct Deciding<'a> {
    inner: &'a Inner,
    decided: bool,
}

impl Deciding<'_> {
    fn done(mut self) {
        self.decided = true;
    }
}

impl Drop for Deciding<'_> {
    fn drop(&mut self) {
        self.inner.restoring.store(self.decided, Ordering::SeqCst);
    }
}

impl Snapshots {
    /// Writes the snapshot that the new cluster begins with; gives its header, the file, and how many leases ended.
    fn found(&self, backup: Incoming, founding: &Founding) -> Result<(Header, Incoming, u64), RestoreError> {
        let store = self.scratch_store().map_err(failed)?;
        // Whatever becomes of this: its directory goes with it.
        store.supersede();
        self.fill(&store, backup.path())?;
        drop(backup);
        let store = Arc::new(store);
        let mut hot = Hot::load(Arc::clone(&store), self.replica.knows).map_err(failed)?;
        let leases_ended = hot.state.restore(&StoredRows(Arc::clone(&store)), &founding.restoration);
        invariants::check(&hot.state);
        let mut batch = Batch::new();
        put_changes(&hot.state.take_changes(), &store, &mut batch).map_err(failed)?;
        let applied = Applied {
            log_id: Some(founding.log_id()),
            membership: founding.membership()?,
            hash: roll(
                hot.applied.hash,
                founding.restoration.index.0,
                &founding.cluster.0.to_le_bytes(),
                &Answers::default(),
            ),
            clocks: hot.state.position().clocks,
            feature_level: hot.applied.feature_level,
            ..Applied::default()
        };
        applied.put(&mut batch);
        store.write(batch, Synced::No).map_err(failed)?;
        let incoming = self.incoming();
        // At once: nobody is served beside it.
        let mut file = std::fs::File::create(incoming.path()).map_err(SnapshotError::Io)?;
        let header = snapshot_file::write(&mut file, founding.cluster, &store.pin())?;
        file.sync_all().map_err(SnapshotError::Io)?;
        Ok((header, incoming, leases_ended))
    }
}

/// Where the new timeline begins: beyond whatever the old one can have come to since the backup.
fn restoration(backup: &BackupSummary, options: RestoreOptions, now: WallMs) -> Result<Restoration, RestoreError> {
    let age_ms = now.0.saturating_sub(backup.taken.0);
    let beyond = |last| beyond(last, age_ms).ok_or(RestoreError::NumbersSpent);
    let last_job = match options.after_job {
        None => JobId(beyond(backup.last_job.0)?),
        Some(given) if given < backup.last_job => {
            return Err(RestoreError::AfterJob { given, last: backup.last_job });
        }
        Some(given) if given.0 >= JUMP_LIMIT => return Err(RestoreError::NumbersSpent),
        Some(given) => given,
    };
    let index = Index(beyond(backup.index)?);
    let last_lease = LeaseId(beyond(backup.last_lease.0)?);
    Ok(Restoration { index, wall: now.max(backup.taken), last_job, last_lease, paused: options.paused })
}

fn beyond(last: u64, age_ms: u64) -> Option<u64> {
    let given_since = age_ms.checked_mul(JUMP_PER_MS)?;
    let least = last.checked_add(given_since)?.checked_add(JUMP)?;
    least.checked_next_multiple_of(JUMP).filter(|beyond| *beyond < JUMP_LIMIT)
}

/// File work, off the runtime's threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RestoreError> + Send + 'static,
) -> Result<T, RestoreError> {
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}

fn failed(error: impl std::fmt::Display) -> RestoreError {
    RestoreError::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_jump_beyond_what_can_have_been_given_since() {
        const DAY_MS: u64 = 24 * 3600 * 1000;
        for (last, age_ms, expect) in [
            (0, 0, Some(1_000_000_000)),
            (1, 0, Some(2_000_000_000)),
            (41, 1_000, Some(2_000_000_000)),
            (5_000_000_000, DAY_MS, Some(93_000_000_000)),
            (0, 365 * DAY_MS, Some(31_537_000_000_000)),
            (JUMP_LIMIT - 1, 0, None),
            (0, u64::MAX, None),
        ] {
            assert_eq!(beyond(last, age_ms), expect, "{last} after {age_ms} ms");
            assert!(expect.is_none_or(|beyond| beyond > last + age_ms * JUMP_PER_MS));
        }
    }
}
