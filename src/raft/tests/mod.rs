//! Nodes in one process, over real sockets and disks.

mod cluster;
mod crash;
mod determinism;
mod disk;
mod every_row;
mod features;
mod members;
mod restores;
mod snapshots;
mod suite;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::{net::TcpListener, time::Instant};

use super::*;
use crate::{
    clock::Clock,
    queue::{
        applied::Answer,
        command::{Command, Request},
        ids::JobId,
        job::{Json, OpSpec, Payload, Spec},
        live,
    },
};

const PATIENCE: Duration = Duration::from_secs(30);

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

fn request(command: Command) -> Request {
    Request { principal: Arc::from("test"), key: None, command }
}

fn tick() -> Request {
    request(Command::Tick { hold_wall: false })
}

/// Submits one job with a comment of `bytes`.
fn submit(bytes: usize) -> Request {
    let op = OpSpec::new("sleep", Payload::Args(Json("{\"seconds\":1}".into())));
    let spec = Spec { comment: Some("c".repeat(bytes).into()), ..Spec::of_ops(vec![op]) };
    request(Command::Submit { jobs: vec![Ok(Arc::new(spec))], atomic: false })
}

/// The id of the one job that was submitted.
fn submitted(committed: &Committed) -> JobId {
    match &committed.answer {
        Answer::Submitted(jobs) => jobs[0].as_ref().expect("accepted").id,
        other => panic!("no submission: {other:?}"),
    }
}

fn live_jobs(rows: &PinnedRows) -> BTreeSet<JobId> {
    let mut jobs = BTreeSet::new();
    live::load(rows, |job| _ = jobs.insert(job.id));
    jobs
}

/// Polls until `check` says true.
async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let deadline = soon();
    while !check().await {
        assert!(Instant::now() < deadline, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Nodes, their directories and their ports.
struct Cluster {
    directory: TempDir,
    founders: Vec<Founder>,
    nodes: Vec<Option<Node>>,
    raft: RaftOptions,
}

impl Cluster {
    /// Starts `size` founders and forms their cluster.
    async fn formed(size: u64, raft: RaftOptions) -> Self {
        let cluster = Self::started(size, raft).await;
        cluster.node(1).init().await.expect("forms");
        cluster.leader().await;
        cluster
    }

    async fn started(size: u64, raft: RaftOptions) -> Self {
        let directory = TempDir::new().expect("temporary directory");
        let mut cluster = Self { directory, founders: Vec::new(), nodes: Vec::new(), raft };
        let mut listeners = Vec::new();
        for id in 1..=size {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
            let peer = listener.local_addr().expect("bound").to_string();
            cluster.founders.push(Founder { id, api: format!("api{id}"), peer });
            listeners.push(listener);
        }
        for (id, listener) in (1..=size).zip(listeners) {
            let node = cluster.open(id).await.expect("opens");
            node.serve_peers(listener);
            cluster.nodes.push(Some(node));
        }
        cluster
    }

    /// Starts a node that was no founder, on a port of its own.
    async fn join(&mut self, id: u64) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let peer = listener.local_addr().expect("bound").to_string();
        let options = NodeOptions { peer, founders: Vec::new(), ..self.options(id) };
        let node = Node::open(options).await.expect("opens");
        node.serve_peers(listener);
        self.nodes.push(Some(node.clone()));
        node
    }

    fn directory(&self, id: u64) -> PathBuf {
        self.directory.path().join(format!("node{id}"))
    }

    fn options(&self, id: u64) -> NodeOptions {
        NodeOptions {
            id,
            data_dir: self.directory(id),
            api: format!("api{id}"),
            peer: self.founders.get(id as usize - 1).map(|founder| founder.peer.clone()).unwrap_or_default(),
            founders: self.founders.clone(),
            raft: self.raft.clone(),
            clock: Clock::system(),
        }
    }

    async fn open(&self, id: u64) -> Result<Node, OpenError> {
        Node::open(self.options(id)).await
    }

    fn node(&self, id: u64) -> &Node {
        self.running().find(|node| node.id() == id).expect("runs")
    }

    fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().flatten()
    }

    /// Ends a node without ceremony; the others find out by themselves.
    async fn halt(&mut self, id: u64) {
        let slot = self.nodes.iter_mut().find(|slot| slot.as_ref().is_some_and(|node| node.id() == id)).expect("runs");
        let node = slot.take().expect("just seen");
        node.halt().await;
    }

    async fn restart(&mut self, id: u64) {
        let peer = self.options(id).peer;
        let listener = TcpListener::bind(&peer).await.expect("the port is free again");
        let node = self.open(id).await.expect("opens again");
        node.serve_peers(listener);
        self.nodes.push(Some(node));
    }

    /// The node that leads, once one does and commits.
    async fn leader(&self) -> Node {
        let deadline = soon();
        loop {
            for node in self.running() {
                if node.status().role == Role::Leader
                    && node.propose(tick(), Instant::now() + Duration::from_secs(1)).await.is_ok()
                {
                    return node.clone();
                }
            }
            assert!(Instant::now() < deadline, "nobody leads");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn follower(&self) -> Node {
        let leader = self.leader().await.id();
        self.running().find(|node| node.id() != leader).expect("there are several").clone()
    }

    /// Waits until all that run are at one index with one hash.
    async fn agree(&self) {
        until("agreement on the state", async || {
            let hashes: BTreeSet<_> = self.running().map(|node| node.status().hash).collect();
            hashes.len() == 1
        })
        .await;
    }

    async fn shutdown(mut self) {
        for node in self.nodes.iter_mut().filter_map(Option::take) {
            node.halt().await;
        }
    }
}

/// Every row of a state store but the disk's own.
fn all_rows(pinned: &crate::storage::Pinned) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    for family in state_rows::FAMILIES {
        let walked = pinned.scan(*family, &[], &[], &mut |key, value| {
            if family.name != "meta" || key == replica::APPLIED_KEY {
                rows.push((family.name, key.to_vec(), value.to_vec()));
            }
            true
        });
        walked.expect("reads");
    }
    rows
}

impl Node {
    fn local_rows(&self) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
        all_rows(self.inner().replica.read().rows().pinned())
    }

    fn log_bytes(&self) -> u64 {
        self.inner().log.bytes()
    }

    fn peer_address(&self) -> String {
        self.inner().options.peer.clone()
    }

    fn own_disk(&self) -> crate::storage::DiskId {
        self.inner().identity().disk
    }

    fn inner_clocks(&self) -> crate::queue::command::Clocks {
        self.inner().replica.hot().applied.clocks
    }
}
