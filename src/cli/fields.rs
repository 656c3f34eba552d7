//! A job as the API gives it, by the fields that commands look at.
//!
//! Kept as JSON: a newer node may say more than this client knows, and `--json` prints all of it.

use serde_json::Value;

use crate::api::PRECEDING_OP;

#[derive(Clone, Debug)]
pub struct Job(pub Value);

impl Job {
    pub fn id(&self) -> u64 {
        self.0["id"].as_u64().unwrap_or(0)
    }

    pub fn status(&self) -> &str {
        self.0["status"].as_str().unwrap_or("unknown")
    }

    pub fn version(&self) -> u64 {
        self.0["version"].as_u64().unwrap_or(0)
    }

    /// Ended, as success, error or canceled.
    pub fn is_final(&self) -> bool {
        matches!(self.status(), "success" | "error" | "canceled")
    }

    /// Nothing more happens by itself.
    pub fn is_settled(&self) -> bool {
        self.is_final() || self.status() == "buried"
    }

    pub fn succeeded(&self) -> bool {
        self.status() == "success"
    }

    pub fn ops(&self) -> &[Value] {
        self.0["ops"].as_array().map_or(&[], Vec::as_slice)
    }

    pub fn last_attempt(&self) -> Option<&Value> {
        last_attempt(&self.0)
    }

    /// What a shell would say of the command: its exit code, or none if it never ended by itself.
    pub fn exit_code(&self) -> Option<i64> {
        self.last_attempt().and_then(|attempt| attempt["exit_code"].as_i64())
    }

    /// Why it ended as it did: `exit_nonzero`, `canceled`, ...
    pub fn fail_reason(&self) -> Option<&str> {
        self.last_attempt().and_then(|attempt| attempt["fail_reason"].as_str())
    }

    /// Why it is not running.
    pub fn held_by(&self) -> Vec<&str> {
        let reasons = self.0["held_by"].as_array().map_or(&[][..], Vec::as_slice);
        reasons.iter().filter_map(Value::as_str).collect()
    }

    /// Of the jobs it waits for, those that wait for somebody to kick them.
    pub fn blocked_by_buried(&self) -> Vec<u64> {
        let blockers = self.0["blocked_by"].as_array().map_or(&[][..], Vec::as_slice);
        let buried = blockers.iter().filter(|blocker| blocker["status"] == "buried");
        buried.filter_map(|blocker| blocker["id"].as_u64()).collect()
    }
}

/// The kept attempts of an op, oldest first.
pub fn attempts(op: &Value) -> &[Value] {
    op["history"].as_array().map_or(&[], Vec::as_slice)
}

/// The last attempt of a job's last op that had one of its own: ops behind one that failed have only its failure to tell.
pub fn last_attempt(job: &Value) -> Option<&Value> {
    let own = |attempt: &&Value| attempt["fail_reason"] != PRECEDING_OP;
    job["ops"].as_array()?.iter().rev().find_map(|op| attempts(op).iter().rev().find(own))
}
