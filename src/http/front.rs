//! What all handlers share.

use std::sync::OnceLock;

use tokio::{sync::watch, time::Instant};

use super::{
    context::{Context, IndexToken},
    failure::Failure,
    forward::Forwarder,
    hub::Hub,
    local::LocalPool,
    metrics::Metrics,
    tails::Tails,
};
use crate::{
    queue::rows::{RowKey, Rows},
    raft::{Consistency, LeaderInfo, Leadership, Node, ReadError, Role, View},
};

/// What the front door is given.
pub struct Deps {
    pub node: Node,
    pub pool: Box<dyn LocalPool>,
    /// Names beside addresses and localhost that a `Host` header may hold.
    pub names: Vec<String>,
}

pub struct Front {
    pub node: Node,
    pub pool: Box<dyn LocalPool>,
    pub names: Vec<String>,
    pub hub: Hub,
    pub tails: Tails,
    pub metrics: Metrics,
    pub forwarder: Forwarder,
    leadership: watch::Receiver<Leadership>,
    applied: watch::Receiver<u64>,
    /// In hexadecimal, once there is a cluster: it never changes then.
    cluster: OnceLock<String>,
}

/// Stands in `raftq-index` before there is a cluster.
const NO_CLUSTER: &str = "none";

impl Front {
    pub fn new(deps: Deps) -> Self {
        let (leadership, applied) = (deps.node.leadership(), deps.node.applied());
        Self {
            forwarder: Forwarder::new(deps.node.id()),
            node: deps.node,
            pool: deps.pool,
            names: deps.names,
            hub: Hub::default(),
            tails: Tails::default(),
            metrics: Metrics::default(),
            leadership,
            applied,
            cluster: OnceLock::new(),
        }
    }

    /// Whether the settings that a cluster begins with have arrived here: the first leader proposes those of its file, and a
    /// change made before would be undone by them.
    pub fn has_settings(&self) -> bool {
        self.node.look(|reading| reading.rows().get(&RowKey::Settings).is_some())
    }

    /// To await changes of leadership.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    pub fn cluster(&self) -> &str {
        if let Some(cluster) = self.cluster.get() {
            return cluster;
        }
        match self.node.cluster() {
            Some(cluster) => self.cluster.get_or_init(|| cluster.to_string()),
            None => NO_CLUSTER,
        }
    }

    pub fn applied(&self) -> u64 {
        *self.applied.borrow()
    }

    pub fn leads(&self) -> bool {
        self.leadership.borrow().role == Role::Leader
    }

    /// Who leads, if it is another, and where clients reach it.
    pub fn other_leader(&self) -> Option<LeaderInfo> {
        let leader = self.leadership.borrow().leader.clone();
        leader.filter(|leader| leader.id != self.node.id())
    }

    /// A view that is not older than `index`.
    pub async fn view(&self, consistency: Consistency, index: u64, deadline: Instant) -> Result<View, Failure> {
        self.node.view(consistency, index, deadline).await.map_err(read_failure)
    }

    /// `raftq-min-index`: not before it is applied here.
    pub async fn await_token(&self, context: &Context) -> Result<(), Failure> {
        let Some(IndexToken { cluster, index }) = &context.min_index else { return Ok(()) };
        if cluster != self.cluster() {
            return Err(Failure::new("gone", "raftq-min-index is of another cluster; ask without it"));
        }
        if *index > self.applied() {
            // Boxed: hardly any request waits here, and each would have room for it.
            Box::pin(self.view(Consistency::Local, *index, context.deadline)).await?;
        }
        Ok(())
    }
}

pub fn read_failure(error: ReadError) -> Failure {
    match error {
        ReadError::NoLeader => Failure::no_leader(),
        ReadError::Behind { .. } => Failure::timeout(),
        ReadError::Busy => Failure::busy(),
        ReadError::Stopped => Failure::new("no_leader", "this node stops; ask another"),
    }
}
