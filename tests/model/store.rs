//! Rows in a plain map: what the state machine's disk is to the core, without a disk.

use std::{borrow::Cow, collections::BTreeMap};

use raftq::queue::{
    job::Job,
    live,
    rows::{Changes, Row, RowKey, Rows},
};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Store {
    pub rows: BTreeMap<RowKey, Row>,
}

impl Store {
    /// One stored batch.
    pub fn take(&mut self, changes: Changes) {
        for id in changes.dropped_jobs {
            self.rows.retain(|key, _| key.job() != Some(id));
        }
        for (principal, name) in changes.dropped_names {
            let of_name = |key: &RowKey| match key {
                RowKey::KeyName(p, n) | RowKey::KeySlot(p, n, _) => *p == principal && *n == name,
                _ => false,
            };
            self.rows.retain(|key, _| !of_name(key));
        }
        for (key, row) in changes.rows {
            match row {
                Some(row) => self.rows.insert(key, row),
                None => self.rows.remove(&key),
            };
        }
    }

    /// Every job that exists, and whether it stands among the live, the ended, or the archived.
    pub fn jobs(&self) -> impl Iterator<Item = (Place, Cow<'_, Job>)> {
        let ended = self.rows.iter().filter_map(|(key, row)| match (key, row) {
            (RowKey::Ended(_), Row::Job(job) | Row::Done(job, _)) => Some((Place::Ended, Cow::Borrowed(&**job))),
            (RowKey::Archived(_), Row::Job(job) | Row::Done(job, _)) => Some((Place::Archived, Cow::Borrowed(&**job))),
            _ => None,
        });
        let mut live = Vec::new();
        live::load(self, |job| live.push((Place::Live, Cow::Owned(*job))));
        ended.chain(live)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Live,
    Ended,
    Archived,
}

impl Rows for Store {
    fn get(&self, key: &RowKey) -> Option<Row> {
        self.rows.get(key).cloned()
    }

    fn scan(&self, from: &RowKey, each: &mut dyn FnMut(RowKey, Row) -> bool) {
        let kind = std::mem::discriminant(from);
        for (key, row) in self.rows.range(from.clone()..) {
            if std::mem::discriminant(key) != kind || !each(key.clone(), row.clone()) {
                return;
            }
        }
    }
}
