//! Which jobs a command means: by id, or by what they are.

use std::collections::HashSet;

use super::units::Ids;

/// The selection that listing and bulk commands share.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Which jobs")]
pub struct Selection {
    /// Job ids, or ranges: 17 20-29
    #[arg(value_name = "ID")]
    pub ids: Vec<Ids>,
    /// Statuses, with commas: queued, delayed, blocked, buried, reserved, running, canceling, success, error, canceled
    #[arg(long, value_name = "STATUS,...", hide_possible_values = true)]
    pub status: Option<String>,
    /// Jobs of this queue
    #[arg(long, short)]
    pub queue: Option<String>,
    /// Jobs of this group
    #[arg(long, short)]
    pub group: Option<String>,
    /// Jobs of this name
    #[arg(long, short)]
    pub name: Option<String>,
    /// Jobs that this worker holds
    #[arg(long)]
    pub worker: Option<String>,
    /// The job that has this unique key
    #[arg(long, value_name = "KEY")]
    pub unique: Option<String>,
    /// An expression: `priority < 0 and name =~ "night"`
    #[arg(long, value_name = "EXPRESSION")]
    pub filter: Option<String>,
}

impl Selection {
    /// Each once.
    pub fn ids(&self) -> Vec<u64> {
        let mut seen = HashSet::new();
        self.ids.iter().flat_map(|ids| ids.iter()).filter(|id| seen.insert(*id)).collect()
    }

    /// By what they are, rather than by id.
    pub fn is_by_property(&self) -> bool {
        !self.properties().is_empty()
    }

    fn properties(&self) -> Vec<(&'static str, String)> {
        let named = [
            ("status", &self.status),
            ("queue", &self.queue),
            ("group", &self.group),
            ("name", &self.name),
            ("worker", &self.worker),
            ("unique", &self.unique),
            ("filter", &self.filter),
        ];
        named.into_iter().filter_map(|(name, value)| value.clone().map(|value| (name, value))).collect()
    }

    /// As GET /v1/jobs takes it.
    pub fn query(&self) -> Vec<(&'static str, String)> {
        let mut query = self.properties();
        if !self.ids.is_empty() {
            let ids: Vec<String> = self.ids().iter().map(u64::to_string).collect();
            query.push(("ids", ids.join(",")));
        }
        query
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_are_said_twice_are_meant_once() {
        let ids = ["5", "3-6", "5"].map(|ids| ids.parse().expect("ids")).to_vec();
        assert_eq!(Selection { ids, ..Selection::default() }.ids(), [5, 3, 4, 6]);
    }
}
