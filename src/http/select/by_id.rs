//! In the order of ids: from three places (live, ended, archived), or from an index where the selection has one: in memory for
//! worker, queue and status of live jobs, among the rows for group and unique key.

use std::collections::BTreeMap;

use super::{EXAMINED_MAX, Page, Selection};
use crate::{
    api::{Field, JobParts},
    http::read::{self, Seen},
    queue::{State, ids::JobId, job::Status, query::Listing, rows::RowKey},
    raft::{PinnedRows, View},
};

impl Selection {
    /// At most `limit` jobs after `after`.
    pub fn page(&self, view: &View, after: JobId, limit: usize, fields: &[Field]) -> Page<JobId> {
        if let Some(from) = self.index_from(after) {
            return self.indexed_page(view, &from, after, limit, fields);
        }
        // Without a condition that only a job itself can answer, the index gives exactly what fits.
        let enough = if self.must_look() { EXAMINED_MAX } else { limit + 1 };
        let fields = self.with_filter(fields);
        let Seen { index, rows, value: live } =
            read::look_and_pin(view, |state| self.live(state, after, enough, &fields));
        let mut found = Found::default();
        let horizon = live.last().filter(|_| live.len() >= enough).map(|parts| parts.job.id);
        found.add(live, horizon);
        if self.wants_ended() {
            // What lies behind the live jobs of this page is no part of it.
            let last = horizon.unwrap_or(JobId(u64::MAX - 1));
            for (from, to) in self.ended_within(after, last) {
                let (jobs, horizon) = self.ended(&rows, &from, &to, limit + 1);
                found.add(jobs, horizon);
            }
        }
        let (jobs, next) = found.page(limit, |parts| self.fits(&*rows, parts));
        Page { index, rows, jobs, next }
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

    /// Where jobs that have ended are found, behind `after` and up to `last`.
    fn ended_within(&self, after: JobId, last: JobId) -> Vec<(RowKey, RowKey)> {
        let (from, to) = (JobId(after.0.saturating_add(1)), JobId(last.0.saturating_add(1)));
        let mut ranges = vec![(RowKey::Ended(from), RowKey::Ended(to))];
        if self.archived {
            ranges.push((RowKey::Archived(from), RowKey::Archived(to)));
        }
        ranges
    }

    /// At most `enough` jobs that fit as far as they tell themselves, and how far it looked if that was not to the end.
    fn ended(&self, rows: &PinnedRows, from: &RowKey, to: &RowKey, enough: usize) -> (Vec<JobParts>, Option<JobId>) {
        let (mut jobs, mut examined, mut horizon) = (Vec::new(), 0, None);
        rows.scan_to(from, to, &mut |_, row| {
            let Some(ended) = row.into_ended() else { return false };
            examined += 1;
            let (id, fits) = (ended.job.id, self.fits_job(&ended.job));
            if fits {
                jobs.push(read::of_ended(ended));
            }
            let go_on = (jobs.len() < enough || self.must_look()) && examined < EXAMINED_MAX;
            if !go_on {
                horizon = Some(id);
            }
            go_on
        });
        (jobs, horizon)
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
    fn add(&mut self, jobs: Vec<JobParts>, horizon: Option<JobId>) {
        self.horizon = match (self.horizon, horizon) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.jobs.extend(jobs.into_iter().map(|parts| (parts.job.id, parts)));
    }

    /// At most `limit` that fit, and where to go on.
    fn page(self, limit: usize, mut fits: impl FnMut(&mut JobParts) -> bool) -> (Vec<JobParts>, Option<JobId>) {
        let mut page = Vec::new();
        let mut last = None;
        for (id, mut parts) in self.jobs {
            if self.horizon.is_some_and(|horizon| id > horizon) {
                break;
            }
            if page.len() == limit {
                return (page, last);
            }
            last = Some(id);
            if fits(&mut parts) {
                page.push(parts);
            }
        }
        (page, self.horizon)
    }
}
