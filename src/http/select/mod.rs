//! Which jobs a listing or a bulk call means, and a page of them.
//!
//! One call looks at one index of the log and examines a bounded number of jobs: a selection that fits few gives few rows and
//! a cursor to go on, never a long silence.

mod by_id;
mod by_index;
mod by_urgency;

use std::{collections::BTreeSet, sync::Arc};

use super::{failure::Failure, read};
use crate::{
    api::{Field, Filter, JobDoc, JobParts, parse_status},
    queue::{
        ids::{JobId, Priority},
        job::{Job, Status},
        rows::Rows,
    },
    raft::PinnedRows,
};

/// Jobs examined by one call, of each place.
const EXAMINED_MAX: usize = 4_096;

/// Text as a client gives it; the same names in the query string of a listing and in `select` of a bulk call.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SelectionParams {
    pub ids: Option<String>,
    pub status: Option<String>,
    pub queue: Option<String>,
    pub group: Option<String>,
    pub name: Option<String>,
    pub worker: Option<String>,
    pub unique: Option<String>,
    pub filter: Option<String>,
    pub archived: Option<bool>,
    pub unclaimed: Option<bool>,
}

/// What was meant.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Empty: any.
    pub statuses: BTreeSet<Status>,
    pub queue: Option<String>,
    pub group: Option<String>,
    pub name: Option<String>,
    pub worker: Option<String>,
    pub unique: Option<String>,
    pub filter: Option<Filter>,
    pub archived: bool,
}

/// A piece of the jobs that were meant, at one index.
pub struct Page<C> {
    pub index: u64,
    pub rows: Arc<PinnedRows>,
    pub jobs: Vec<JobParts>,
    /// Go on after this one; `None`: that was all.
    pub next: Option<C>,
}

/// Where a listing in the order of claims stands.
pub type Urgency = (Priority, JobId);

impl SelectionParams {
    pub fn meaning(self) -> Result<Selection, Failure> {
        let mut statuses = self.status.as_deref().map(statuses).transpose()?.unwrap_or_default();
        if self.unclaimed == Some(true) {
            statuses = if statuses.is_empty() || statuses.contains(&Status::Queued) {
                BTreeSet::from([Status::Queued])
            } else {
                return Err(Failure::invalid("unclaimed", "only queued jobs are unclaimed; leave status out"));
            };
        }
        Ok(Selection {
            statuses,
            queue: self.queue,
            group: self.group,
            name: self.name,
            worker: self.worker,
            unique: self.unique,
            filter: self.filter.as_deref().map(filter).transpose()?,
            archived: self.archived.unwrap_or(false),
        })
    }
}

fn filter(text: &str) -> Result<Filter, Failure> {
    Filter::parse(text).map_err(|message| Failure::invalid("filter", &message))
}

fn statuses(names: &str) -> Result<BTreeSet<Status>, Failure> {
    let parse = |name: &str| {
        let known: Vec<_> = Status::ALL.iter().map(|status| status.name()).collect();
        let message = format!("`{name}` is no status; there are {}", known.join(", "));
        parse_status(name).ok_or_else(|| Failure::invalid("status", &message))
    };
    names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(parse).collect()
}

/// `17,18`
pub fn parse_ids(text: &str) -> Result<Vec<JobId>, Failure> {
    let parse =
        |id: &str| id.parse().map(JobId).map_err(|_| Failure::invalid("ids", "ids are whole numbers with commas"));
    text.split(',').map(str::trim).filter(|id| !id.is_empty()).map(parse).collect()
}

impl Selection {
    /// Whether only a job itself, not an index, can tell if it is meant.
    fn must_look(&self) -> bool {
        self.name.is_some()
            || self.group.is_some()
            || self.unique.is_some()
            || self.worker.is_some()
            || self.filter.is_some()
    }

    /// These fields, and those that the filter looks at.
    fn with_filter(&self, fields: &[Field]) -> Vec<Field> {
        let filter = self.filter.as_ref().map_or(&[][..], Filter::fields);
        fields.iter().chain(filter).copied().collect()
    }

    pub fn fits(&self, rows: &dyn Rows, parts: &mut JobParts) -> bool {
        self.fits_job(&parts.job) && self.fits_spec(rows, parts) && self.fits_filter(rows, parts)
    }

    fn fits_job(&self, job: &Job) -> bool {
        let queue = self.queue.as_deref().is_none_or(|queue| &*job.shape.queue == queue);
        let status = self.statuses.is_empty() || self.statuses.contains(&job.status());
        let unique = self.unique.as_deref().is_none_or(|unique| job.more().unique.as_deref() == Some(unique));
        let worker = self
            .worker
            .as_deref()
            .is_none_or(|worker| job.lease().is_some_and(|lease| &*lease.holder.worker == worker));
        queue && status && unique && worker
    }

    fn fits_spec(&self, rows: &dyn Rows, parts: &mut JobParts) -> bool {
        if self.name.is_none() && self.group.is_none() {
            return true;
        }
        read::complete(rows, parts, &[Field::Name]);
        let Some(spec) = parts.spec.as_deref() else { return false };
        let name = self.name.as_deref().is_none_or(|name| spec.name.as_deref() == Some(name));
        let group = self.group.as_deref().is_none_or(|group| spec.groups.contains(group));
        name && group
    }

    fn fits_filter(&self, rows: &dyn Rows, parts: &mut JobParts) -> bool {
        let Some(filter) = &self.filter else { return true };
        read::complete(rows, parts, filter.fields());
        let job = JobDoc::new(parts, filter.fields());
        serde_json::to_value(job).is_ok_and(|job| filter.fits(&job))
    }
}
