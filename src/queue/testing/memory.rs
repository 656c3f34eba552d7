//! Rows in a map: what the state machine's store does, without bytes.

use std::{collections::BTreeMap, mem::discriminant};

use crate::queue::rows::{Changes, Row, RowKey, Rows};

#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub rows: BTreeMap<RowKey, Row>,
}

impl Memory {
    pub fn store(&mut self, changes: Changes) {
        if !changes.dropped_jobs.is_empty() {
            self.rows.retain(|key, _| key.job().is_none_or(|id| !changes.dropped_jobs.contains(&id)));
        }
        if !changes.dropped_names.is_empty() {
            self.rows.retain(|key, _| match key {
                RowKey::KeySlot(principal, name, _) => {
                    !changes.dropped_names.contains(&(principal.clone(), name.clone()))
                }
                _ => true,
            });
        }
        for (key, row) in changes.rows {
            match row {
                Some(row) => self.rows.insert(key, row),
                None => self.rows.remove(&key),
            };
        }
    }
}

impl Rows for Memory {
    fn get(&self, key: &RowKey) -> Option<Row> {
        self.rows.get(key).cloned()
    }

    fn scan(&self, from: &RowKey, each: &mut dyn FnMut(RowKey, Row) -> bool) {
        let kind = discriminant(from);
        for (key, row) in self.rows.range(from.clone()..).take_while(|(key, _)| discriminant(*key) == kind) {
            if !each(key.clone(), row.clone()) {
                return;
            }
        }
    }
}
