//! Feature levels: from which entry on new semantics apply (design 6).
//!
//! A new version may have another answer to an old entry, and replicas of both must never give theirs side by side. So each
//! version knows the levels up to one of its own, the replicated position holds the level that is in force, and whatever is
//! new about a level is done only while that is in force. The leader raises it by an entry, once every member has said that it
//! knows the next one: one that is away is waited for. Whoever meets a level beyond its own cannot know what follows, and
//! stops with its data kept.
//!
//! | level | what is new |
//! |---|---|
//! | 1 | everything so far |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{inner::Inner, message::StatusReply};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FeatureLevel(pub u32);

impl FeatureLevel {
    /// Of every cluster at its beginning.
    pub const FIRST: Self = Self(1);
    /// The newest that this version knows.
    pub const NEWEST: Self = Self(1);
}

impl Default for FeatureLevel {
    fn default() -> Self {
        Self::FIRST
    }
}

impl std::fmt::Display for FeatureLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Inner {
    /// The level that should be in force and is not: the newest that every member knows.
    pub(super) fn level_to_raise(&self, replies: &BTreeMap<u64, StatusReply>) -> Option<FeatureLevel> {
        let membership = self.membership();
        let known = membership.membership().nodes().map(|(id, _)| Some(replies.get(id)?.knows));
        let known_by_all = known.collect::<Option<Vec<_>>>()?.into_iter().min()?;
        (known_by_all > self.replica.summary().feature_level).then_some(known_by_all)
    }
}
