//! A backup: a snapshot file that has left its node. Its format is the snapshot's ([`super::snapshot_file`]).
//!
//! [`examine`] reads one to its end without a store: frames, checksums, every row, and the state that the rows make, with
//! its invariants. Only what a node holds in memory is kept meanwhile, so it takes the memory that a node takes.

use std::{
    collections::BTreeMap,
    io,
    mem::discriminant,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::Duration,
};

use openraft::{LogIdOptionExt, metrics::WaitError};
use tokio::time::Instant;

use super::{
    feature::FeatureLevel,
    inner::Inner,
    membership::MembershipError,
    reads::ReadError,
    replica::Applied,
    snapshot::SnapshotFile,
    snapshot_file::{self, Header, SnapshotError, Trailer},
    state_rows,
};
use crate::{
    codec::{self, Format},
    queue::{
        State,
        ids::{JobId, LeaseId, WallMs},
        invariants,
        rows::{Row, RowKey, Rows},
        span::{self, Spans},
    },
    storage::{ClusterId, Family},
};

/// How long a snapshot that is being built is waited for before another one is asked for, which does nothing while one is.
const SNAPSHOT_ATTEMPT: Duration = Duration::from_millis(500);

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupSummary {
    pub cluster: ClusterId,
    /// The last entry that is in it, and when that was proposed.
    pub index: u64,
    pub taken: WallMs,
    /// The state hash at that index, as the cluster compares it (P9).
    pub state_hash: u128,
    pub live_jobs: u64,
    pub ended_jobs: u64,
    pub archived_jobs: u64,
    pub last_job: JobId,
    pub last_lease: LeaseId,
    pub drained: bool,
    pub members: Vec<u64>,
    pub rows: u64,
    /// Over all rows, in order.
    pub rows_hash: u128,
    pub bytes: u64,
}

/// A backup that is being handed out: a whole file, which stays readable while it is read.
#[derive(Debug)]
pub struct Backup {
    pub index: u64,
    pub file: SnapshotFile,
}

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("it could not be written out: {0}")]
    Io(#[from] io::Error),
}

/// Reads a backup to its end and says what it holds. `progress` hears of each row, in bytes.
///
/// # Errors
/// It is no backup, is cut short or damaged, or what its rows say contradicts itself.
pub fn examine(path: &Path, progress: &mut dyn FnMut(u64)) -> Result<BackupSummary, SnapshotError> {
    let level = snapshot_file::read_header(path)?.applied.feature_level;
    if level > FeatureLevel::NEWEST {
        let what = format!("feature level {level}, this one knows up to {}", FeatureLevel::NEWEST);
        return Err(SnapshotError::Newer(what));
    }
    let (mut held, mut counts) = (Held::default(), Counts::default());
    let (header, trailer) = snapshot_file::read(path, &mut |family, key, value| {
        progress((key.len() + value.len()) as u64);
        take_row(&mut held, &mut counts, family, key, value)
    })?;
    if Applied::decode(&held.applied).ok().as_ref() != Some(&header.applied) {
        return Err(SnapshotError::Damaged("its rows are not at the index that it says".to_owned()));
    }
    let state = whole_state(&held)?;
    if state.counters().ended != counts.ended + counts.archived {
        return Err(SnapshotError::Damaged("it has not as many ended jobs as it says".to_owned()));
    }
    let bytes = std::fs::metadata(path)?.len();
    Ok(summary(&state, &counts, &header, trailer, bytes))
}

/// What a state is loaded from: the rows that a node reads at its start.
#[derive(Default)]
struct Held {
    rows: BTreeMap<RowKey, Row>,
    /// Where the rows stand, as written beside them.
    applied: Vec<u8>,
}

#[derive(Default)]
struct Counts {
    live: u64,
    /// Live jobs that are made from their specs; these rows come before those.
    from_specs: Spans,
    ended: u64,
    archived: u64,
    /// Only the first of each is wanted: rows come in order.
    ended_at: bool,
    archived_at: bool,
}

impl Rows for Held {
    fn get(&self, key: &RowKey) -> Option<Row> {
        self.rows.get(key).cloned()
    }

    fn scan(&self, from: &RowKey, each: &mut dyn FnMut(RowKey, Row) -> bool) {
        let kind = discriminant(from);
        for (key, row) in self.rows.range(from..).take_while(|(key, _)| discriminant(*key) == kind) {
            if !each(key.clone(), row.clone()) {
                return;
            }
        }
    }
}

fn take_row(
    held: &mut Held,
    counts: &mut Counts,
    family: Family,
    key: &[u8],
    value: &[u8],
) -> Result<(), SnapshotError> {
    if family == state_rows::META {
        held.applied = value.to_vec();
        return Ok(());
    }
    let unreadable = |why: String| SnapshotError::Damaged(format!("a row cannot be read: {why}"));
    let key = state_rows::identify(family, key).ok_or_else(|| unreadable("its key is of no known kind".to_owned()))?;
    let row = codec::decode(Format::ROW, value).map_err(|error| unreadable(error.to_string()))?;
    if counts.wants(&key, &row) {
        held.rows.insert(key, row);
    }
    Ok(())
}

impl Counts {
    fn made_from_specs(&mut self, span: u64, bits: u64) {
        span::ids(span, bits).for_each(|id| self.from_specs.add(id));
        self.live += u64::from(bits.count_ones());
    }

    /// Counts the row, and says whether a state is loaded from it.
    fn wants(&mut self, key: &RowKey, row: &Row) -> bool {
        match key {
            RowKey::Live(_) => self.live += 1,
            RowKey::Fresh(span) => {
                if let Row::Count(bits) = row {
                    self.made_from_specs(*span, *bits);
                }
            }
            RowKey::Granted(span) => {
                if let Row::Grants(grants) = row {
                    self.made_from_specs(*span, grants.bits());
                }
            }
            RowKey::Spec(id) => return self.from_specs.contains(*id),
            RowKey::Ended(_) => self.ended += 1,
            RowKey::Archived(_) => self.archived += 1,
            RowKey::EndedAt(..) => return !std::mem::replace(&mut self.ended_at, true),
            RowKey::ArchivedAt(..) => return !std::mem::replace(&mut self.archived_at, true),
            _ => {}
        }
        !matches!(
            key,
            RowKey::Ended(_)
                | RowKey::Archived(_)
                | RowKey::Result(..)
                | RowKey::Attempt(..)
                | RowKey::Log(..)
                | RowKey::Reason(..)
                | RowKey::Checkpoint(_)
                | RowKey::Progress(_)
                | RowKey::Group(..)
                | RowKey::Unique(..)
                | RowKey::KeySlot(..)
        )
    }
}

/// The state of these rows. What contradicts itself is a panic in the core; here it may be somebody's file.
fn whole_state(held: &Held) -> Result<State, SnapshotError> {
    let loading = AssertUnwindSafe(|| {
        let state = State::load(held);
        invariants::check(&state);
        state
    });
    catch_unwind(loading).map_err(|panic| {
        let why = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
        SnapshotError::Damaged(format!("its rows contradict each other: {}", why.unwrap_or("see the output above")))
    })
}

fn summary(state: &State, counts: &Counts, header: &Header, trailer: Trailer, bytes: u64) -> BackupSummary {
    let applied = &header.applied;
    BackupSummary {
        cluster: header.cluster,
        index: applied.index(),
        taken: applied.clocks.wall,
        state_hash: applied.hash,
        live_jobs: counts.live,
        ended_jobs: counts.ended,
        archived_jobs: counts.archived,
        last_job: state.counters().last_job,
        last_lease: state.counters().last_lease,
        drained: state.drain().drained,
        members: applied.membership.membership().nodes().map(|(&id, _)| id).collect(),
        rows: trailer.rows,
        rows_hash: trailer.hash,
        bytes,
    }
}

impl Inner {
    /// Builds snapshots until one reaches `index`: one that was under way already may end before it.
    pub async fn snapshot_reaching(&self, index: u64, deadline: Instant) -> Result<(), MembershipError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let wait = self.raft.wait(Some(left.min(SNAPSHOT_ATTEMPT)));
            let reached = wait.metrics(|metrics| metrics.snapshot.index() >= Some(index), "a snapshot");
            self.snapshot().await;
            match reached.await {
                Ok(_) => return Ok(()),
                Err(WaitError::Timeout(..)) if Instant::now() < deadline => {}
                Err(error) => return Err(MembershipError::Deadline(error.to_string())),
            }
        }
    }

    /// The state as it is now, written out.
    pub(super) async fn backup(&self) -> Result<Backup, BackupError> {
        let current = self.snapshots.current().ok_or_else(|| io::Error::other("nothing was ever applied here"))?;
        let index = current.meta.last_log_id.map_or(0, |id| id.index);
        Ok(Backup { index, file: current.snapshot.into_file().await? })
    }
}
