//! Which jobs a listing or a bulk call means, and a page of them.
//!
//! Jobs come in the order of their ids from three places (live, ended, archived), or from an index where the selection has one
//! (group, worker, unique key). One call looks at one index of the log and examines a bounded number of jobs: a selection that
//! fits few gives few rows and a cursor to go on, never a long silence.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    failure::Failure,
    read::{self, Seen},
};
use crate::{
    api::{Field, JobParts, parse_status},
    queue::{
        State,
        ids::JobId,
        job::{Job, Status},
        query::Listing,
        rows::{Row, RowKey, Rows},
    },
    raft::View,
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
    pub archived: bool,
}

/// A piece of the jobs that were meant.
pub struct Page {
    pub jobs: Vec<JobParts>,
    /// Go on after this one; `None`: that was all.
    pub next: Option<JobId>,
}

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
            archived: self.archived.unwrap_or(false),
        })
    }
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
    /// At most `limit` jobs after `after`.
    pub fn page(
        &self,
        view: &View,
        after: JobId,
        limit: usize,
        fields: &[Field],
    ) -> (u64, std::sync::Arc<crate::raft::PinnedRows>, Page) {
        // Without a condition that only a job itself can answer, the index gives exactly what fits.
        let enough = if self.must_look() { EXAMINED_MAX } else { limit + 1 };
        let Seen { index, rows, value: live } = read::look(view, |state| self.live(state, after, enough, fields));
        let mut found = Found::default();
        found.add(live, enough);
        if self.wants_ended() {
            for from in self.ended_from(after) {
                found.add(self.ended(&*rows, from, enough), enough);
            }
        }
        let page = found.page(limit, |parts| self.fits(&*rows, parts));
        (index, rows, page)
    }

    fn must_look(&self) -> bool {
        self.name.is_some() || self.group.is_some() || self.unique.is_some() || self.worker.is_some()
    }

    fn wants_ended(&self) -> bool {
        self.worker.is_none() && (self.statuses.is_empty() || self.statuses.iter().any(|status| status.is_final()))
    }

    fn live(&self, state: &State, after: JobId, enough: usize, fields: &[Field]) -> Vec<JobParts> {
        self.live_ids(state, after, enough).into_iter().filter_map(|id| read::live(state, id, fields)).collect()
    }

    fn live_ids(&self, state: &State, after: JobId, enough: usize) -> Vec<JobId> {
        if let Some(worker) = &self.worker {
            return state.held(worker).filter(|id| *id > after).take(enough).collect();
        }
        if let Some(unique) = &self.unique {
            return state.unique(unique).into_iter().filter(|id| *id > after).collect();
        }
        let queue = self.queue.as_deref();
        if self.statuses.is_empty() {
            return state.ids(Listing { queue, status: None }, after, enough);
        }
        let of = |status: &Status| state.ids(Listing { queue, status: Some(*status) }, after, enough);
        let mut ids: Vec<JobId> = self.statuses.iter().filter(|status| !status.is_final()).flat_map(of).collect();
        ids.sort_unstable();
        ids.truncate(enough);
        ids
    }

    /// Where jobs that have ended are found.
    fn ended_from(&self, after: JobId) -> Vec<RowKey> {
        let from = JobId(after.0.saturating_add(1));
        match self.archived {
            true => vec![RowKey::Ended(from), RowKey::Archived(from)],
            false => vec![RowKey::Ended(from)],
        }
    }

    fn ended(&self, rows: &dyn Rows, from: RowKey, enough: usize) -> Vec<JobParts> {
        let mut jobs = Vec::new();
        let mut examined = 0;
        rows.scan(&from, &mut |_, row| {
            examined += 1;
            if let Row::Job(job) = row {
                jobs.push(JobParts::new(*job));
            }
            jobs.len() < enough && examined < EXAMINED_MAX
        });
        jobs
    }

    fn fits(&self, rows: &dyn Rows, parts: &mut JobParts) -> bool {
        self.fits_job(&parts.job) && self.fits_spec(rows, parts)
    }

    fn fits_job(&self, job: &Job) -> bool {
        let queue = self.queue.as_deref().is_none_or(|queue| &*job.shape.queue == queue);
        let status = self.statuses.is_empty() || self.statuses.contains(&job.status());
        let unique = self.unique.as_deref().is_none_or(|unique| job.more().unique.as_deref() == Some(unique));
        queue && status && unique
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
}

/// Jobs from several places, each in the order of ids.
#[derive(Default)]
struct Found {
    jobs: BTreeMap<JobId, JobParts>,
    /// A place that was not read to its end says nothing about what lies behind its last job.
    horizon: Option<JobId>,
}

impl Found {
    fn add(&mut self, jobs: Vec<JobParts>, enough: usize) {
        if jobs.len() >= enough
            && let Some(last) = jobs.last()
        {
            self.horizon = Some(self.horizon.map_or(last.job.id, |horizon| horizon.min(last.job.id)));
        }
        self.jobs.extend(jobs.into_iter().map(|parts| (parts.job.id, parts)));
    }

    fn page(self, limit: usize, mut fits: impl FnMut(&mut JobParts) -> bool) -> Page {
        let mut page = Page { jobs: Vec::new(), next: None };
        let mut last = None;
        for (id, mut parts) in self.jobs {
            if self.horizon.is_some_and(|horizon| id > horizon) {
                break;
            }
            if page.jobs.len() == limit {
                page.next = last;
                return page;
            }
            last = Some(id);
            if fits(&mut parts) {
                page.jobs.push(parts);
            }
        }
        page.next = self.horizon;
        page
    }
}
