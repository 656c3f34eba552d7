//! Idempotency: the answers to the last 1024 numbers of each name, for 15 minutes of cluster time after its last use.

use std::collections::BTreeMap;

use raftq::queue::{
    applied::Answer,
    command::{Command, Key},
    ids::ClusterMs,
    refusal::Refusal,
};

use super::Model;

const WINDOW: u64 = 1024;
const UNUSED_MS: u64 = 15 * 60 * 1000;

/// Uses are noted in steps, rounded up, so that no name is dropped early: that is left to the implementation.
const USE_STEP_MS: u64 = 10_000;

/// What is kept of one name.
#[derive(Clone, Debug, Default)]
pub struct Name {
    answers: BTreeMap<u64, (u128, Answer)>,
    highest: u64,
    used: ClusterMs,
}

fn noted(now: ClusterMs) -> ClusterMs {
    ClusterMs(now.0.next_multiple_of(USE_STEP_MS))
}

impl Model {
    pub(super) fn under_key(&mut self, key: &Key, command: &Command) -> Answer {
        let id = (self.principal.clone(), key.name.clone());
        let now = self.now.cluster;
        if let Some(name) = self.keys.get_mut(&id) {
            let oldest = (name.highest + 1).saturating_sub(WINDOW);
            if key.number < oldest {
                return Answer::Refused(Refusal::KeyExpired { oldest });
            }
            match name.answers.get(&key.number) {
                Some((digest, answer)) if *digest == key.digest => {
                    name.used = noted(now);
                    return answer.clone();
                }
                Some(_) => return Answer::Refused(Refusal::Conflict { message: "".into() }),
                None => {}
            }
        }
        let answer = self.command(command);
        // A claim that waits is proposed again and again under one key until it finds something.
        if matches!(&answer, Answer::Claimed(claimed) if claimed.is_empty()) {
            return answer;
        }
        let name = self.keys.entry(id).or_default();
        name.used = noted(now);
        name.highest = name.highest.max(key.number);
        name.answers.insert(key.number, (key.digest, answer.clone()));
        let oldest = (name.highest + 1).saturating_sub(WINDOW);
        name.answers.retain(|number, _| *number >= oldest);
        answer
    }

    pub(super) fn drop_unused_names(&mut self) {
        let now = self.now.cluster.0;
        self.keys.retain(|_, name| now < name.used.0 + UNUSED_MS);
    }
}
