//! Specs of jobs that came lately, for the leader: most jobs are claimed soon after they came, and then need not be looked up
//! among the rows and decoded once more.

use std::sync::Arc;

use crate::queue::{
    ids::JobId,
    job::Spec,
    rows::{Changes, Row, RowKey},
};

const SLOTS: usize = 8192;
/// Larger ones are read when they are wanted: this many of the largest take 16 MiB.
const SPEC_BYTES_MAX: usize = 2048;

/// A job's slot is told by its id; a later one takes it over.
#[derive(Default)]
pub struct RecentSpecs(Vec<Option<(JobId, Arc<Spec>)>>);

impl RecentSpecs {
    /// Takes in what a chunk of entries wrote. Whoever leads hears of every chunk, and whoever does not forgets: an edit that was
    /// not heard of would bring an old spec back.
    pub fn note(&mut self, changes: &Changes, leads: bool) {
        if !leads {
            self.0 = Vec::new();
            return;
        }
        self.0.resize(SLOTS, None);
        let specs = RowKey::Spec(JobId(0))..=RowKey::Spec(JobId(u64::MAX));
        for (key, row) in changes.rows.range(specs) {
            let RowKey::Spec(id) = key else { panic!("keys of one kind stand together") };
            self.0[slot(*id)] = match row {
                Some(Row::Born(spec, _)) if spec.bytes() <= SPEC_BYTES_MAX => Some((*id, Arc::clone(spec))),
                _ => None,
            };
        }
    }

    pub fn get(&self, id: JobId) -> Option<&Arc<Spec>> {
        let (of, spec) = self.0.get(slot(id))?.as_ref()?;
        (*of == id).then_some(spec)
    }
}

fn slot(id: JobId) -> usize {
    (id.0 % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{
        birth::Birth,
        job::{Json, OpSpec, Payload},
    };

    fn born(id: u64, comment: &str) -> Changes {
        let op = OpSpec::new("x", Payload::Args(Json("1".into())));
        let spec = Spec { comment: Some(comment.into()), ..Spec::of_ops(vec![op]) };
        let mut changes = Changes::default();
        changes.put(RowKey::Spec(JobId(id)), Row::Born(Arc::new(spec), Birth::default()));
        changes
    }

    fn comment(recent: &RecentSpecs, id: u64) -> Option<&str> {
        recent.get(JobId(id)).and_then(|spec| spec.comment.as_deref())
    }

    #[test]
    fn specs_are_those_that_were_written_last() {
        let mut recent = RecentSpecs::default();
        assert_eq!(comment(&recent, 1), None);
        recent.note(&born(1, "first"), true);
        recent.note(&born(2, "second"), true);
        recent.note(&born(1, "edited"), true);
        assert_eq!(
            (comment(&recent, 1), comment(&recent, 2), comment(&recent, 3)),
            (Some("edited"), Some("second"), None)
        );
        // It has the slot of 2.
        recent.note(&born(2 + SLOTS as u64, "later"), true);
        assert_eq!((comment(&recent, 2), comment(&recent, 2 + SLOTS as u64)), (None, Some("later")));
    }

    #[test]
    fn specs_that_became_large_or_went_are_not_remembered_as_they_were() {
        let mut recent = RecentSpecs::default();
        recent.note(&born(1, "small"), true);
        recent.note(&born(1, &"x".repeat(SPEC_BYTES_MAX)), true);
        assert_eq!(comment(&recent, 1), None);
        recent.note(&born(2, "there"), true);
        let mut gone = Changes::default();
        gone.delete(RowKey::Spec(JobId(2)));
        recent.note(&gone, true);
        assert_eq!(comment(&recent, 2), None);
    }

    #[test]
    fn who_does_not_lead_remembers_nothing() {
        let mut recent = RecentSpecs::default();
        recent.note(&born(1, "old"), true);
        recent.note(&born(1, "edited meanwhile"), false);
        recent.note(&Changes::default(), true);
        assert_eq!(comment(&recent, 1), None);
    }
}
