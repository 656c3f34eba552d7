//! Three nodes in one process, over real sockets and disks.

use std::{sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::{net::TcpListener, time::Instant};

use super::*;
use crate::{
    clock::Clock,
    queue::{
        applied::Answer,
        command::{Command, Request},
    },
};

const PATIENCE: Duration = Duration::from_secs(20);

struct Cluster {
    directory: TempDir,
    founders: Vec<Founder>,
    nodes: Vec<Option<Node>>,
    raft: RaftOptions,
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

fn tick() -> Request {
    Request { principal: Arc::from("test"), key: None, command: Command::Tick { hold_wall: false } }
}

/// Polls until `check` says true.
async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let deadline = soon();
    while !check().await {
        assert!(Instant::now() < deadline, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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
        let mut listeners = Vec::new();
        for _ in 0..size {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.expect("free port"));
        }
        let peer = |listener: &TcpListener| listener.local_addr().expect("bound").to_string();
        let founders = (1..=size).zip(&listeners);
        let founders =
            founders.map(|(id, listener)| Founder { id, api: format!("api{id}"), peer: peer(listener) }).collect();
        let mut cluster = Self { directory, founders, nodes: Vec::new(), raft };
        for (id, listener) in (1..=size).zip(listeners) {
            let node = cluster.open(id).await.expect("opens");
            node.serve_peers(listener);
            cluster.nodes.push(Some(node));
        }
        cluster
    }

    async fn open(&self, id: u64) -> Result<Node, OpenError> {
        let founder = &self.founders[id as usize - 1];
        Node::open(NodeOptions {
            id,
            data_dir: self.directory.path().join(format!("node{id}")),
            api: founder.api.clone(),
            peer: founder.peer.clone(),
            founders: self.founders.clone(),
            raft: self.raft.clone(),
            clock: Clock::system(),
        })
        .await
    }

    fn node(&self, id: u64) -> &Node {
        self.nodes[id as usize - 1].as_ref().expect("runs")
    }

    fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().flatten()
    }

    async fn halt(&mut self, id: u64) {
        self.nodes[id as usize - 1].take().expect("runs").halt().await;
    }

    async fn restart(&mut self, id: u64) {
        let listener = TcpListener::bind(&self.founders[id as usize - 1].peer).await.expect("the port is free again");
        let node = self.open(id).await.expect("opens again");
        node.serve_peers(listener);
        self.nodes[id as usize - 1] = Some(node);
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

    async fn shutdown(mut self) {
        for node in self.nodes.iter_mut().filter_map(Option::take) {
            node.halt().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn propose_three_nodes_commits_and_every_node_reads_it() {
    let cluster = Cluster::formed(3, RaftOptions::test()).await;
    let leader = cluster.leader().await;
    let committed = leader.propose(tick(), soon()).await.expect("commits");
    assert_eq!(committed.answer, Answer::Done);
    for node in cluster.running() {
        let view = node.view(Consistency::Linearizable, 0, soon()).await.expect("reads");
        assert!(view.look(|reading| reading.index()) >= committed.index);
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn propose_after_leader_ended_goes_on_elsewhere_and_the_old_one_catches_up() {
    let mut cluster = Cluster::formed(3, RaftOptions::test()).await;
    let old = cluster.leader().await.id();
    cluster.halt(old).await;
    let new = cluster.leader().await;
    assert_ne!(new.id(), old);
    let committed = new.propose(tick(), soon()).await.expect("commits");
    cluster.restart(old).await;
    let view = cluster.node(old).view(Consistency::Local, committed.index, soon()).await.expect("catches up");
    assert!(view.look(|reading| reading.index()) >= committed.index);
    until("equal hashes", async || {
        let mut hashes: Vec<_> = cluster.running().map(|node| node.status().hash).collect();
        hashes.dedup();
        hashes.len() == 1
    })
    .await;
    cluster.shutdown().await;
}
