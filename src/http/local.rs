//! What the front door asks of the worker pool on its own node, without knowing it: the door stands before the leader's duties
//! as it stands before the queue.

use std::time::Duration;

use futures::future::BoxFuture;

use crate::queue::ids::{JobId, LeaseId};

/// The pool of this node. On a node that does not lead nothing runs.
pub trait LocalPool: Send + Sync {
    /// The last of what the job's command has written so far; `None` if none runs here under this lease.
    fn output(&self, job: JobId, lease: LeaseId) -> BoxFuture<'_, Option<LiveOutput>>;

    /// Claims nothing more, gives what runs so long to end, and says what was interrupted then.
    fn leave(&self, wait: Duration) -> BoxFuture<'_, Vec<JobId>>;

    /// The handover is over, or did not come about: work as before, if this node leads.
    fn stay(&self);
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveOutput {
    pub stdout: String,
    pub stderr: String,
}
