//! A cluster in a directory of its own.

use std::{fmt::Write, fs, path::Path, time::Duration};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    client::{Call, Client},
    node::Node,
    wait::eventually,
    wires::Wires,
};

/// Long enough for a slow machine that builds something else beside; a healthy cluster needs about a second.
pub const SETTLE: Duration = Duration::from_secs(30);
/// Of each log, when a test fails.
const LOG_LINES_SHOWN: usize = 40;
/// How often a port that was free may be gone again by the time its node binds it.
const START_ATTEMPTS: u32 = 3;

/// What a cluster starts with. Whatever is not set is as the product's defaults have it, with the `test` timers.
#[derive(Clone)]
pub struct Builder {
    nodes: u64,
    pool_size: u32,
    pool_queues: Vec<&'static str>,
    wired: bool,
}

impl Default for Builder {
    fn default() -> Self {
        Self { nodes: 3, pool_size: 2, pool_queues: vec!["default"], wired: false }
    }
}

impl Builder {
    pub fn nodes(self, nodes: u64) -> Self {
        Self { nodes, ..self }
    }

    pub fn pool_size(self, pool_size: u32) -> Self {
        Self { pool_size, ..self }
    }

    /// With wires between the nodes that can be cut.
    pub fn wired(self) -> Self {
        Self { wired: true, ..self }
    }

    /// Starts it, and waits until a leader serves.
    pub fn start(self) -> Cluster {
        for _ in 1..START_ATTEMPTS {
            let cluster = self.lay_out();
            cluster.start_all();
            if cluster.settles_unless_a_port_was_taken() {
                return cluster;
            }
        }
        let cluster = self.lay_out();
        cluster.start_all();
        cluster.settle();
        cluster
    }

    /// Writes the configurations and starts nothing.
    pub fn lay_out(&self) -> Cluster {
        let directory = tempfile::Builder::new().prefix("raftq-").tempdir().expect("a directory can be made");
        let mut nodes: Vec<Node> = (1..=self.nodes).map(|id| Node::new(id, directory.path())).collect();
        let wires = Wires::default();
        if self.wired {
            nodes.iter_mut().for_each(|node| node.wire(&wires));
        }
        for node in &nodes {
            fs::write(node.config_path(), self.config(node, &nodes)).expect("a file can be written");
        }
        Cluster { nodes, wires, builder: self.clone(), directory: Some(directory) }
    }

    fn config(&self, own: &Node, founders: &[Node]) -> String {
        let mut text = format!("id = {}\ndata_dir = \"{}\"\n", own.id, own.data_dir().display());
        write!(text, "api = \"{}\"\npeer = \"{}\"\n", own.api, own.peer).expect("a string can be written to");
        write!(text, "advertise_peer = \"{}\"\n\n", own.advertised_peer()).expect("a string can be written to");
        for node in founders {
            write!(
                text,
                "[[member]]\nid = {}\napi = \"{}\"\npeer = \"{}\"\n\n",
                node.id,
                node.api,
                node.advertised_peer()
            )
            .expect("a string can be written to");
        }
        let (size, queues) = (self.pool_size, &self.pool_queues);
        write!(text, "[pool]\nsize = {size}\nqueues = {queues:?}\n\n[raft]\nprofile = \"test\"\n")
            .expect("a string can be written to");
        text
    }
}

pub struct Cluster {
    pub nodes: Vec<Node>,
    pub wires: Wires,
    builder: Builder,
    /// `None` only while it is being kept.
    directory: Option<TempDir>,
}

impl Cluster {
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Three nodes as most scenarios want them.
    pub fn start() -> Self {
        Self::builder().start()
    }

    pub fn directory(&self) -> &Path {
        self.directory.as_ref().expect("kept only when dropped").path()
    }

    pub fn node(&self, id: u64) -> &Node {
        self.nodes.iter().find(|node| node.id == id).unwrap_or_else(|| panic!("there is no node {id}"))
    }

    /// Lays out a node of a new id at the addresses of `old`, which is down for good. Who invites it is up to the test.
    pub fn recruit(&mut self, id: u64, old: u64) {
        let place =
            self.nodes.iter().position(|node| node.id == old).unwrap_or_else(|| panic!("there is no node {old}"));
        let gone = &self.nodes[place];
        assert!(!gone.is_running(), "node {old} still has the addresses");
        let node = Node::at(id, gone.api.clone(), gone.peer.clone(), self.directory());
        fs::write(node.config_path(), self.builder.config(&node, &[])).expect("a file can be written");
        self.nodes[place] = node;
    }

    pub fn start_all(&self) {
        self.nodes.iter().for_each(Node::start);
    }

    pub fn kill_all(&self) {
        self.nodes.iter().for_each(Node::kill);
    }

    /// Starts whatever is down, and waits until all nodes serve under one leader.
    pub fn heal(&self) {
        self.nodes.iter().filter(|node| !node.is_running()).for_each(Node::start);
        self.settle();
    }

    /// Waits until every running node is ready.
    pub fn settle(&self) {
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            self.wait_ready(node);
        }
    }

    pub fn wait_ready(&self, node: &Node) {
        eventually(&format!("node {} is ready", node.id), SETTLE, || {
            if let Some(code) = node.exited() {
                panic!("node {} ended by itself with {code}", node.id);
            }
            is_ready(node).then_some(())
        });
    }

    fn settles_unless_a_port_was_taken(&self) -> bool {
        eventually("the cluster is ready, or a port was taken", SETTLE, || {
            let taken = |node: &Node| node.exited().is_some() && node.log().to_lowercase().contains("in use");
            if self.nodes.iter().any(taken) {
                return Some(false);
            }
            self.nodes.iter().all(is_ready).then_some(true)
        })
    }

    /// The node that leads now: by the newest term that any node leads in.
    pub fn leader(&self) -> &Node {
        eventually("there is a leader", SETTLE, || self.leader_now())
    }

    fn leader_now(&self) -> Option<&Node> {
        let views = self.nodes.iter().filter(|node| node.is_running()).filter_map(|node| Some((node, status(node)?)));
        let leading = views.filter(|(_, view)| view["role"] == "leader");
        leading.max_by_key(|(_, view)| view["term"].as_u64()).map(|(node, _)| node)
    }

    pub fn followers(&self) -> Vec<&Node> {
        let leader = self.leader().id;
        self.nodes.iter().filter(|node| node.id != leader && node.is_running()).collect()
    }

    /// Kills the leader, and waits until another one serves. Returns the id of the dead one.
    pub fn kill_leader(&self) -> u64 {
        let dead = self.leader();
        dead.kill();
        self.settle();
        self.leader();
        dead.id
    }

    /// What this node says of itself, from its own replica.
    pub fn status(&self, node: &Node) -> Value {
        eventually(&format!("node {} tells its status", node.id), SETTLE, || status(node))
    }

    pub fn servers(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.api.clone()).collect()
    }

    /// A client of all nodes, with a name of its own for its keys.
    pub fn client(&self) -> Client {
        Client::new(self.servers())
    }

    /// A client that asks one node.
    pub fn client_of(&self, node: &Node) -> Client {
        Client::new(vec![node.api.clone()])
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill_all();
        self.wires.tear_down();
        if !std::thread::panicking() {
            return;
        }
        let directory = self.directory.take().expect("taken only here").keep();
        eprintln!("\nkept: {}", directory.display());
        for node in &self.nodes {
            let log = node.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the end of {}", node.log_path().display());
            lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

fn is_ready(node: &Node) -> bool {
    let call = Call::get("/readyz").within(Duration::from_secs(2));
    Client::new(vec![]).once(&node.api, &call).is_ok_and(|answer| answer.status == 200)
}

fn status(node: &Node) -> Option<Value> {
    let call = Call::get("/v1/cluster").header("raftq-consistency", "local").within(Duration::from_secs(2));
    let answer = Client::new(vec![]).once(&node.api, &call).ok()?;
    (answer.status == 200).then_some(answer.body)
}
