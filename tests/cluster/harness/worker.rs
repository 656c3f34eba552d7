//! A worker in words: claim, start, touch, finish, release, bury.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    client::{ATTEMPT, Call},
    world::{World, merged},
};

/// What a claim gave.
#[derive(Clone, Debug)]
pub struct Held {
    pub job: u64,
    pub op: u64,
    pub lease: u64,
    pub lease_ms: u64,
    /// The answer as it came.
    pub raw: Value,
}

impl Held {
    #[track_caller]
    pub fn read(claimed: &Value) -> Self {
        let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("not as the contract has it: {claimed}"));
        Self {
            job: number(&claimed["job"]["id"]),
            op: number(&claimed["op"]["index"]),
            lease: number(&claimed["lease"]),
            lease_ms: number(&claimed["lease_ms"]),
            raw: claimed.clone(),
        }
    }

    /// An item of POST /v1/leases.
    pub fn item(&self, verb: &str, more: Value) -> Value {
        merged(json!({"job": self.job, "lease": self.lease, "do": verb}), more)
    }
}

impl World<'_> {
    /// The body of a claim from this pass's queue, with more fields.
    pub fn claim_body(&self, more: Value) -> Value {
        let worker = json!({"id": "tester", "host": "localhost", "pid": 1});
        merged(json!({"worker": worker, "queues": [self.queue], "max": 1}), more)
    }

    #[track_caller]
    pub fn claim_with(&self, more: Value) -> Vec<Held> {
        let body = self.claim_body(more);
        let wait = Duration::from_millis(body["wait_ms"].as_u64().unwrap_or(0));
        let answer = self.call(Call::post("/v1/claim", &body).within(ATTEMPT + wait)).ok();
        answer["jobs"].as_array().expect("a claim gives a list").iter().map(Held::read).collect()
    }

    /// Claims one, if there is one.
    #[track_caller]
    pub fn claim(&self) -> Option<Held> {
        self.claim_with(json!({})).pop()
    }

    /// Claims one that must be there, and starts it.
    #[track_caller]
    pub fn take(&self) -> Held {
        self.claim_with(json!({"start": true})).pop().expect("there is something to claim")
    }

    /// One lease call; its result as it came.
    #[track_caller]
    pub fn lease(&self, item: Value) -> Value {
        let answer = self.post("/v1/leases", &json!({"items": [item]})).ok();
        answer["results"][0].clone()
    }

    /// A lease call that must be accepted.
    #[track_caller]
    pub fn lease_ok(&self, item: Value) -> Value {
        let result = self.lease(item.clone());
        assert_eq!(result["ok"], true, "{item} was refused: {result}");
        result
    }

    #[track_caller]
    pub fn start(&self, held: &Held) {
        self.lease_ok(held.item("start", json!({"host": "localhost", "pid": 1})));
    }

    #[track_caller]
    pub fn touch(&self, held: &Held) -> Value {
        self.lease_ok(held.item("touch", json!({})))
    }

    #[track_caller]
    pub fn succeed(&self, held: &Held, result: Value) {
        self.lease_ok(held.item("finish", json!({"outcome": "success", "result": result})));
    }

    #[track_caller]
    pub fn fail(&self, held: &Held, reason: &str) {
        let finish =
            json!({"outcome": "failure", "fail_reason": reason, "exit_code": 1, "error": "as the test wants it"});
        self.lease_ok(held.item("finish", finish));
    }

    #[track_caller]
    pub fn release(&self, held: &Held) {
        self.lease_ok(held.item("release", json!({"delay_ms": 0})));
    }

    /// Asserts that a lease call is refused with this code, and gives the error.
    #[track_caller]
    pub fn lease_refused(&self, item: Value, code: &str) -> Value {
        let result = self.lease(item.clone());
        assert_eq!((&result["ok"], &result["error"]["code"]), (&json!(false), &json!(code)), "{item} gave {result}");
        result["error"].clone()
    }
}
