//! By an index among the rows: the jobs of a group, or those that have or had a unique key. Costs what the index holds, however
//! many jobs there are. Live jobs are rows too, so all of it is read at the one index that the rows are pinned at.

use std::collections::BTreeSet;

use super::{EXAMINED_MAX, Page, Selection};
use crate::{
    api::{Field, JobParts, Source},
    http::read::{self, Seen},
    queue::{
        ids::JobId,
        live,
        rows::{RowKey, Rows},
    },
    raft::View,
};

impl Selection {
    /// Where the index begins; `None`: there is none for this selection, or its filter looks at what only the state knows.
    pub(super) fn index_from(&self, after: JobId) -> Option<RowKey> {
        if self.with_filter(&[]).iter().any(|field| field.source() == Source::State) {
            return None;
        }
        let from = JobId(after.0.saturating_add(1));
        let unique = self.unique.as_deref().map(|unique| RowKey::Unique(unique.into(), from));
        unique.or_else(|| self.group.as_deref().map(|group| RowKey::Group(group.into(), from)))
    }

    pub(super) fn indexed_page(
        &self,
        view: &View,
        from: &RowKey,
        after: JobId,
        limit: usize,
        fields: &[Field],
    ) -> Page<JobId> {
        let live_with_key = |unique| view.look(|reading| reading.state().unique(unique));
        // A live job's key is in memory only. Looked up first: if the job ends meanwhile, the rows have it.
        let live = self.unique.as_deref().and_then(live_with_key);
        let Seen { index, rows, .. } = read::look_and_pin(view, |_| ());
        let (mut ids, horizon) = indexed(&*rows, from);
        ids.extend(live.filter(|id| *id > after));
        let (mut jobs, mut last) = (Vec::new(), None);
        for id in ids {
            if jobs.len() == limit {
                return Page { index, rows, jobs, next: last };
            }
            last = Some(id);
            let Some(mut parts) = stored(&*rows, id) else { continue };
            if (self.archived || !parts.job.archived) && self.fits(&*rows, &mut parts) {
                jobs.push(parts);
            }
        }
        if fields.iter().any(|field| field.source() == Source::State) {
            add_holds(view, &mut jobs, fields);
        }
        Page { index, rows, jobs, next: horizon }
    }
}

/// Ids from the index, and the last of them if there are more.
fn indexed(rows: &dyn Rows, from: &RowKey) -> (BTreeSet<JobId>, Option<JobId>) {
    let mut ids = BTreeSet::new();
    rows.scan(from, &mut |key, _| {
        let id = match (&key, from) {
            (RowKey::Group(of, id), RowKey::Group(group, _)) if of == group => *id,
            (RowKey::Unique(of, id), RowKey::Unique(unique, _)) if of == unique => *id,
            _ => return false,
        };
        ids.insert(id);
        ids.len() < EXAMINED_MAX
    });
    let horizon = ids.last().copied().filter(|_| ids.len() >= EXAMINED_MAX);
    (ids, horizon)
}

fn stored(rows: &dyn Rows, id: JobId) -> Option<JobParts> {
    live::job(rows, id).map(|job| JobParts::new(*job)).or_else(|| read::ended(rows, id))
}

/// What holds them is computed from the state as it is now, which is what is asked for.
fn add_holds(view: &View, jobs: &mut [JobParts], fields: &[Field]) {
    let ids: Vec<JobId> = jobs.iter().map(|parts| parts.job.id).collect();
    let seen = read::look(view, |state| ids.iter().map(|id| read::live(state, *id, fields)).collect::<Vec<_>>());
    for (parts, now) in jobs.iter_mut().zip(seen.value) {
        if let Some(now) = now {
            (parts.blocked_by, parts.held_by) = (now.blocked_by, now.held_by);
        }
    }
}
