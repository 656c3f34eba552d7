//! A scenario is played twice: in calm, and with the leader killed in the middle.
//!
//! The first pass counts the scenario's calls. The second, in the same cluster but in a queue of its own, kills the leader
//! before the middle one of them, and everything must come out the same. Calls go round all nodes in both.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    client::{Answer, Call, Client},
    cluster::Cluster,
    wait::eventually,
};

/// For what a healthy cluster does at once, and one that elects after an election.
const SOON: Duration = Duration::from_secs(20);

pub struct World<'a> {
    pub cluster: &'a Cluster,
    pub client: Client,
    /// A queue of this pass alone. The pool does not serve it: the scenario is the worker.
    pub queue: String,
    calls: Cell<u32>,
    kill_before: Option<u32>,
}

/// Plays `body` in both passes on a cluster of three.
pub fn scenario(body: impl Fn(&World)) {
    let cluster = Cluster::start();
    let calm = World::new(&cluster, "calm");
    body(&calm);
    let middle = calm.calls.get() / 2;
    let disturbed = World { kill_before: Some(middle), ..World::new(&cluster, "disturbed") };
    body(&disturbed);
}

impl<'a> World<'a> {
    /// One pass without a disturbance, for scenarios that bring their own.
    pub fn new(cluster: &'a Cluster, pass: &str) -> Self {
        Self { cluster, client: cluster.client(), queue: pass.to_owned(), calls: Cell::new(0), kill_before: None }
    }

    /// Whether this pass loses its leader: bounds on time do not hold in it.
    pub fn is_disturbed(&self) -> bool {
        self.kill_before.is_some()
    }

    #[track_caller]
    pub fn call(&self, call: Call) -> Answer {
        let count = self.calls.get();
        if self.kill_before == Some(count) {
            self.cluster.leader().kill();
        }
        self.calls.set(count + 1);
        self.client.call(call)
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.call(Call::get(path))
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.call(Call::post(path, body))
    }

    #[track_caller]
    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.call(Call::put(path, body))
    }

    /// A spec of `ops` ops that only a worker of these tests runs.
    pub fn task(&self, ops: usize) -> Value {
        json!({"queue": self.queue, "ops": vec![json!({"kind": "task"}); ops]})
    }

    /// The same with more fields.
    pub fn task_with(&self, ops: usize, more: Value) -> Value {
        merged(self.task(ops), more)
    }

    /// Submits specs; an answer for each.
    #[track_caller]
    pub fn submit_all(&self, specs: &[Value]) -> Vec<Value> {
        let answer = self.post("/v1/jobs", &json!({"jobs": specs})).ok();
        answer["results"].as_array().expect("results in order").clone()
    }

    /// Submits one spec that must be accepted.
    #[track_caller]
    pub fn submit(&self, spec: &Value) -> u64 {
        let results = self.submit_all(std::slice::from_ref(spec));
        results[0]["id"].as_u64().unwrap_or_else(|| panic!("{spec} was refused: {}", results[0]))
    }

    #[track_caller]
    pub fn submit_each(&self, specs: &[Value]) -> Vec<u64> {
        let results = self.submit_all(specs);
        results.iter().map(|result| result["id"].as_u64().unwrap_or_else(|| panic!("refused: {result}"))).collect()
    }

    #[track_caller]
    pub fn job(&self, id: u64) -> Value {
        self.get(&format!("/v1/jobs/{id}")).ok()
    }

    #[track_caller]
    pub fn status(&self, id: u64) -> String {
        text(&self.job(id)["status"])
    }

    /// The statuses of a job's ops.
    #[track_caller]
    pub fn op_statuses(&self, id: u64) -> Vec<String> {
        self.job(id)["ops"].as_array().expect("a job has ops").iter().map(|op| text(&op["status"])).collect()
    }

    /// One verb on one job, which must be accepted.
    #[track_caller]
    pub fn verb(&self, id: u64, verb: &str, body: Value) -> Value {
        self.try_verb(id, verb, body).ok()
    }

    #[track_caller]
    pub fn try_verb(&self, id: u64, verb: &str, body: Value) -> Answer {
        self.post(&format!("/v1/jobs/{id}/{verb}"), &body)
    }

    /// Waits until the job has this status.
    #[track_caller]
    pub fn wait_status(&self, id: u64, status: &str) -> Value {
        let mut seen = String::new();
        let deadline = Instant::now() + SOON;
        eventually(&format!("job {id} is {status}"), SOON * 2, || {
            let job = self.job(id);
            seen = text(&job["status"]);
            assert!(Instant::now() < deadline, "job {id} is {seen} and not {status}: {job}");
            (seen == status).then_some(job)
        })
    }
}

/// Fields of `more` over those of `base`.
pub fn merged(mut base: Value, more: Value) -> Value {
    let fields = base.as_object_mut().expect("specs are objects");
    fields.extend(more.as_object().expect("what is added is an object").clone());
    base
}

/// A string field, or its JSON where it is none.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
