//! Live jobs to which one thing has happened since they came: a claim. Its grant and the job's spec say all of such a job, so
//! it needs no row of its own; the grants of 64 neighbours are one row. Most jobs are claimed and then finished, and for these
//! that is two small changes of a row that others share, where each would have written a row and deleted it.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    fresh,
    ids::{ClusterMs, Index, JobId, LeaseId, WallMs},
    job::{Holder, Job, Lease, OpStatus},
    rows::{Row, RowKey, Rows},
    span,
};

/// The grants of a span.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// Each once: few workers hold many jobs.
    holders: Vec<Arc<Holder>>,
    grants: Vec<Grant>,
}

/// What a claim said of a job, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Grant {
    job: JobId,
    /// Its place among the holders.
    holder: u32,
    lease: LeaseId,
    length_ms: u64,
    deadline: Option<ClusterMs>,
    started: bool,
    index: Index,
    wall: WallMs,
}

impl Grants {
    /// What was granted of these jobs, to each of which nothing else has happened.
    pub fn of<'a>(jobs: impl Iterator<Item = &'a Job>) -> Self {
        let (mut holders, mut places) = (Vec::new(), BTreeMap::new());
        let of = |job: &'a Job| {
            let lease = job.lease().expect("a job that was granted has a lease");
            let place = *places.entry(&*lease.holder).or_insert_with(|| {
                holders.push(Arc::clone(&lease.holder));
                holders.len() as u32 - 1
            });
            Grant::of(job, lease, place)
        };
        let grants = jobs.map(of).collect();
        Self { holders, grants }
    }

    /// Which jobs of the span these are.
    pub fn bits(&self) -> u64 {
        self.grants.iter().fold(0, |bits, grant| bits | span::place(grant.job).1)
    }

    /// Gives the job what was granted of it.
    pub fn apply(&self, job: &mut Job) {
        let grant = self.grants.iter().find(|grant| grant.job == job.id).expect("a grant names its job");
        let lease = Lease {
            id: grant.lease,
            holder: Arc::clone(&self.holders[grant.holder as usize]),
            length_ms: grant.length_ms,
            deadline: grant.deadline,
            log_next: 0,
            cancel_after: false,
        };
        job.grant(lease, grant.started, grant.wall);
        (job.version, job.changed_at) = (grant.index, grant.wall);
    }
}

impl Grant {
    fn of(job: &Job, lease: &Lease, holder: u32) -> Self {
        Self {
            job: job.id,
            holder,
            lease: lease.id,
            length_ms: lease.length_ms,
            deadline: lease.deadline,
            started: matches!(job.current_op().status, OpStatus::Running(_)),
            index: job.version,
            wall: job.changed_at,
        }
    }
}

pub fn grants(row: Row) -> Grants {
    let Row::Grants(grants) = row else { panic!("a row of granted jobs holds grants") };
    *grants
}

/// Every one of them, made anew from what is stored, and which they are.
pub fn load(rows: &dyn Rows, mut each: impl FnMut(Job)) -> span::Spans {
    let mut granted = span::Spans::default();
    rows.scan(&RowKey::Granted(0), &mut |key, row| {
        let RowKey::Granted(span) = key else { panic!("a scan stays within its kind") };
        let grants = grants(row);
        granted.load(span, grants.bits());
        fresh::as_they_came(rows, span, grants.bits(), |mut job| {
            grants.apply(&mut job);
            each(job);
        });
        true
    });
    granted
}
