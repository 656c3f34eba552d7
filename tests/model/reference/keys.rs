//! Idempotency: the answers to the last 1024 numbers of each name, for 15 minutes of cluster time after its last use.

use std::{collections::BTreeMap, sync::Arc};

use raftq::queue::{
    applied::Answer,
    command::{Command, Key},
    ids::ClusterMs,
    refusal::Refusal,
};

use super::{
    Model,
    limits::{allow, wrong_key},
};

const WINDOW: u64 = 1024;
const UNUSED_MS: u64 = 15 * 60 * 1000;
const NAMES_MAX: usize = 1_000_000;
/// Each brings its answers along, so one tick drops no more; the next one goes on.
const DROPPED_BY_TICK: usize = 256;

/// Uses are noted in steps, rounded up, so that no name is dropped early: that is left to the implementation.
const USE_STEP_MS: u64 = 10_000;

/// What is kept of one name.
#[derive(Clone, Debug, Default)]
pub struct Name {
    /// By number, for which body it was asked.
    pub answers: BTreeMap<u64, (u128, Arc<Answer>)>,
    pub highest: u64,
    pub used: ClusterMs,
    /// How often in the present step of use the highest number rose.
    pub rises: u64,
}

impl Name {
    /// The lowest number that may still be repeated.
    pub fn oldest(&self) -> u64 {
        (self.highest + 1).saturating_sub(WINDOW)
    }

    fn use_now(&mut self, now: ClusterMs) {
        let noted = ClusterMs(now.0.next_multiple_of(USE_STEP_MS));
        if noted != self.used {
            (self.used, self.rises) = (noted, 0);
        }
    }

    fn keep(&mut self, key: &Key, answer: &Answer) {
        self.rises += u64::from(key.number > self.highest);
        self.highest = self.highest.max(key.number);
        self.answers.insert(key.number, (key.digest, Arc::new(answer.clone())));
        self.answers = self.answers.split_off(&self.oldest());
    }

    fn dropped_at(&self) -> ClusterMs {
        self.used.after(UNUSED_MS)
    }
}

impl Model {
    /// A name is the client's own: others may use the same one.
    pub(super) fn under_key(&mut self, key: &Key, command: &Command) -> Answer {
        if let Err(refusal) = allow(wrong_key(key)) {
            return Answer::Refused(refusal);
        }
        let (id, now) = ((self.principal.clone(), key.name.clone()), self.now.cluster);
        if let Some(name) = self.keys.get_mut(&id) {
            if key.number < name.oldest() {
                return Answer::Refused(Refusal::KeyExpired { oldest: name.oldest() });
            }
            match name.answers.get(&key.number).cloned() {
                Some((digest, answer)) if digest == key.digest => {
                    name.use_now(now);
                    return Answer::clone(&answer);
                }
                Some(_) => return Answer::Refused(Refusal::Conflict { message: "".into() }),
                None => {}
            }
        } else if self.keys.len() >= NAMES_MAX {
            return Answer::Refused(Refusal::Busy { message: "".into() });
        }
        let answer = self.command(command);
        // A claim that waits is proposed again and again under one key until it finds something.
        if matches!(&answer, Answer::Claimed(claimed) if claimed.is_empty()) {
            return answer;
        }
        let name = self.keys.entry(id).or_default();
        name.use_now(now);
        name.keep(key, &answer);
        answer
    }

    /// Those that have been unused for longest go first.
    pub(super) fn drop_unused_names(&mut self) {
        let now = self.now.cluster;
        let mut due: Vec<_> = self.keys.iter().filter(|(_, name)| name.dropped_at() <= now).collect();
        due.sort_by_key(|(id, name)| (name.used, *id));
        let due: Vec<_> = due.into_iter().take(DROPPED_BY_TICK).map(|(id, _)| id.clone()).collect();
        self.names_dropped += due.len() as u32;
        due.iter().for_each(|id| drop(self.keys.remove(id)));
    }
}
