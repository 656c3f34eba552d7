//! What the duties need of the replicated queue: a few calls. [`crate::raft::Node`] gives them in a node ([`super::node`]),
//! the bare core in tests.

use std::{collections::BTreeSet, future::Future, sync::Arc};

use tokio::sync::broadcast;

use crate::{
    queue::{State, applied::Answer, command::Command, job::Office, rows::Rows},
    raft::AppliedBatch,
    worker::Boottime,
};

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposed {
    /// Committed and applied here, at this index.
    Answered { index: u64, answer: Answer },
    /// It is not in the log and never will be.
    Never,
    /// It may or may not have happened, or may still happen.
    Unknown,
}

/// Whether this node leads, as of its last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    pub office: Office,
    /// Until then nobody else can lead: the last moment at which a majority was asked and later answered, plus the leader
    /// lease, on the clock that includes suspend.
    pub until: Boottime,
}

pub trait Queue: Clone + Send + Sync + 'static {
    /// Proposes here; only a leader can. Ends within a deadline of the queue's own.
    fn propose(&self, command: Command) -> impl Future<Output = Proposed> + Send;

    /// Proposes at whoever leads.
    fn propose_anywhere(&self, command: Command) -> impl Future<Output = Proposed> + Send;

    /// Looks at the state as this node has applied it.
    fn look<T>(&self, look: impl FnOnce(&State, &dyn Rows) -> T) -> T;

    /// The nodes of the cluster as of what this node has applied. Whoever has left never comes back under its id.
    fn members(&self) -> BTreeSet<u64>;

    /// What has been applied, as it is.
    fn applied(&self) -> broadcast::Receiver<Arc<AppliedBatch>>;

    /// `None` while this node does not lead, or cannot know that it does.
    fn leadership(&self) -> Option<Leadership>;

    /// Whether the wall clock is too far off the other members' for anything that wall time triggers, or not known not to be.
    fn is_wall_clock_off(&self) -> bool;
}
