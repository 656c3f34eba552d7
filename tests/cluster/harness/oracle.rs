//! What must be there afterwards: an acknowledged submission once, a refused one never, an unknown one at most once.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::json;

use super::client::{Call, Client};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Acknowledged(u64),
    Refused,
    Unknown,
}

/// Counts submissions by name; shared between the threads that submit.
pub struct Oracle {
    queue: String,
    next: AtomicU64,
    outcomes: Mutex<BTreeMap<String, Outcome>>,
}

impl Oracle {
    pub fn new(queue: &str) -> Self {
        Self { queue: queue.to_owned(), next: AtomicU64::new(0), outcomes: Mutex::default() }
    }

    /// Submits one job under a name of its own, with a single try, and remembers what came back.
    pub fn submit(&self, client: &Client) -> Option<u64> {
        let name = format!("job-{}", self.next.fetch_add(1, Ordering::Relaxed));
        let spec = json!({"queue": self.queue, "name": name, "ops": [{"kind": "task"}]});
        let call = client.keyed(Call::post("/v1/jobs", &spec));
        let outcome = match client.attempt(&call) {
            Ok(answer) if answer.status == 200 => match answer.body["results"][0]["id"].as_u64() {
                Some(id) => Outcome::Acknowledged(id),
                None => Outcome::Refused,
            },
            Ok(answer) if answer.code() == "outcome_unknown" => Outcome::Unknown,
            Ok(_) => Outcome::Refused,
            Err(_) => Outcome::Unknown,
        };
        self.outcomes.lock().expect("no submitter panics while it holds this").insert(name, outcome);
        match outcome {
            Outcome::Acknowledged(id) => Some(id),
            Outcome::Refused | Outcome::Unknown => None,
        }
    }

    pub fn acknowledged(&self) -> Vec<u64> {
        let outcomes = self.outcomes.lock().expect("no submitter panics while it holds this");
        let ids = outcomes.values().filter_map(|outcome| match outcome {
            Outcome::Acknowledged(id) => Some(*id),
            Outcome::Refused | Outcome::Unknown => None,
        });
        ids.collect()
    }

    /// Compares with what the cluster lists.
    #[track_caller]
    pub fn check(&self, client: &Client) {
        let mut listed: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for job in client.list(&format!("queue={}", self.queue)) {
            let name = job["name"].as_str().expect("every job here was named").to_owned();
            listed.entry(name).or_default().push(job["id"].as_u64().expect("a job has an id"));
        }
        for (name, outcome) in self.outcomes.lock().expect("no submitter panics while it holds this").iter() {
            let ids = listed.get(name).cloned().unwrap_or_default();
            let fits = match outcome {
                Outcome::Acknowledged(id) => ids == [*id],
                Outcome::Refused => ids.is_empty(),
                Outcome::Unknown => ids.len() <= 1,
            };
            assert!(fits, "{name}: {outcome:?}, and the cluster lists {ids:?}");
        }
    }
}

impl Client {
    /// All pages of a listing.
    #[track_caller]
    pub fn list(&self, query: &str) -> Vec<serde_json::Value> {
        let mut jobs = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.get(&format!("/v1/jobs?{query}&limit=500{after}")).ok();
            jobs.extend(page["jobs"].as_array().expect("a page has jobs").iter().cloned());
            match &page["next"] {
                serde_json::Value::Null => return jobs,
                serde_json::Value::String(next) => after = format!("&after={next}"),
                next => after = format!("&after={next}"),
            }
        }
    }
}
