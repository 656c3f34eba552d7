//! In the order in which claims take them: queued jobs by priority, then by submission; and, unless only unclaimed ones are
//! asked for, those that somebody holds among them.

use super::{EXAMINED_MAX, Page, Selection, Urgency};
use crate::{
    api::{Field, JobParts},
    http::read::{self, Seen},
    queue::{State, ids::JobId, job::Status, query::Listing},
    raft::View,
};

const HELD: [Status; 3] = [Status::Reserved, Status::Running, Status::Canceling];

impl Selection {
    /// At most `limit` jobs after `after`.
    pub fn urgent_page(&self, view: &View, after: Option<Urgency>, limit: usize, fields: &[Field]) -> Page<Urgency> {
        let enough = if self.must_look() { EXAMINED_MAX } else { limit + 1 };
        let fields = self.with_filter(fields);
        let Seen { index, rows, value: candidates } =
            read::look_and_pin(view, |state| self.candidates(state, after, enough, &fields));
        let whole = candidates.len() < enough;
        let (mut jobs, mut last) = (Vec::new(), None);
        for (urgency, mut parts) in candidates {
            if jobs.len() == limit {
                return Page { index, rows, jobs, next: last };
            }
            last = Some(urgency);
            if self.fits(&*rows, &mut parts) {
                jobs.push(parts);
            }
        }
        Page { index, rows, jobs, next: last.filter(|_| !whole) }
    }

    fn candidates(
        &self,
        state: &State,
        after: Option<Urgency>,
        enough: usize,
        fields: &[Field],
    ) -> Vec<(Urgency, JobParts)> {
        let mut order: Vec<Urgency> = match &self.queue {
            Some(queue) => state.ready_after(queue, after, enough),
            None => state.queues().flat_map(|(queue, _)| state.ready_after(queue, after, enough)).collect(),
        };
        order.extend(self.held(state).into_iter().filter(|urgency| after.is_none_or(|after| *urgency > after)));
        order.sort_unstable();
        order.truncate(enough);
        order.into_iter().filter_map(|urgency| Some((urgency, read::live(state, urgency.1, fields)?))).collect()
    }

    /// As many as there are leases, however many jobs there are.
    fn held(&self, state: &State) -> Vec<Urgency> {
        let wanted = HELD.iter().filter(|status| self.statuses.is_empty() || self.statuses.contains(status));
        let listing = |status: &Status| Listing { queue: self.queue.as_deref(), status: Some(*status) };
        let ids = wanted.flat_map(|status| state.ids(listing(status), JobId(0), usize::MAX));
        ids.filter_map(|id| Some((state.job(id)?.priority(), id))).collect()
    }
}
