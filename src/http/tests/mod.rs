//! The API over real nodes, disks and sockets, in one process.

mod cluster;
mod door;
mod jobs;
mod operate;
mod plain;
mod schedules;
mod work;

use std::time::Duration;

use axum::http::{HeaderMap, Method, Request, StatusCode};
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Deps, LiveOutput, LocalPool, run};
use crate::{
    clock::Clock,
    queue::{
        self,
        command::{Command, SettingsChange},
        ids::{JobId, LeaseId},
    },
    raft::{Founder, Node, NodeOptions, RaftOptions},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Nodes with their API, and a client for it.
struct Stage {
    nodes: Vec<Running>,
    client: Client<HttpConnector, Full<Bytes>>,
    _directory: TempDir,
}

struct Running {
    api: String,
    node: Option<Node>,
    stop: CancellationToken,
    door: JoinHandle<()>,
}

/// What came back.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_else(|| panic!("no error: {}", self.text)).to_owned()
    }

    /// The JSON of an answer that must be 200.
    fn ok(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        self.json()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("plain headers"))
    }
}

impl Stage {
    async fn of(size: u64) -> Self {
        let directory = TempDir::new().expect("a directory");
        let mut doors = Vec::new();
        let mut founders = Vec::new();
        for id in 1..=size {
            let (api, peer) = (listener().await, listener().await);
            founders.push(Founder { id, api: address(&api), peer: address(&peer) });
            doors.push((api, peer));
        }
        let mut nodes = Vec::new();
        for (founder, (api, peer)) in founders.iter().zip(doors) {
            let options = NodeOptions {
                id: founder.id,
                data_dir: directory.path().join(founder.id.to_string()),
                api: founder.api.clone(),
                peer: founder.peer.clone(),
                founders: founders.clone(),
                raft: RaftOptions::test(),
                clock: Clock::system(),
            };
            let node = Node::open(options).await.expect("opens");
            node.serve_peers(peer);
            let stop = CancellationToken::new();
            let deps = Deps { node: node.clone(), pool: Box::new(NoPool), names: Vec::new() };
            let door = tokio::spawn(run(api, deps, stop.clone()));
            nodes.push(Running { api: founder.api.clone(), node: Some(node), stop, door });
        }
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { nodes, client, _directory: directory }
    }

    /// Forms the cluster through the API and waits for a leader.
    async fn formed(size: u64) -> Self {
        let stage = Self::of(size).await;
        let (formed, ()) = tokio::join!(stage.post(0, "/v1/cluster/init", ""), stage.give_settings());
        formed.ok();
        stage
            .until("ready", async || {
                let mut all = true;
                for at in 0..stage.nodes.len() {
                    all &= stage.get(at, "/readyz").await.status == StatusCode::OK;
                }
                all
            })
            .await;
        stage
    }

    /// What the leader's duties would do, which do not run here.
    async fn give_settings(&self) {
        self.until("a leader", async || self.leader().is_some()).await;
        let node = self.nodes[self.leader().expect("just seen")].node.as_ref().expect("it leads");
        let command = Command::Settings(SettingsChange::default());
        let request = queue::command::Request { principal: "test".into(), key: None, command };
        node.propose(request, Instant::now() + PATIENCE).await.expect("it leads");
    }

    fn leader(&self) -> Option<usize> {
        self.nodes.iter().position(|running| running.node.as_ref().is_some_and(|node| node.office().is_some()))
    }

    /// A node that does not lead.
    fn follower(&self) -> usize {
        let leader = self.leader().expect("somebody leads");
        (0..self.nodes.len()).find(|at| *at != leader && self.nodes[*at].node.is_some()).expect("somebody follows")
    }

    async fn until(&self, what: &str, mut check: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !check().await {
            assert!(Instant::now() < deadline, "{what} did not come about");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn get(&self, at: usize, path: &str) -> Answer {
        self.send(at, Method::GET, path, &[], "").await
    }

    async fn post(&self, at: usize, path: &str, body: &str) -> Answer {
        self.send(at, Method::POST, path, &[], body).await
    }

    async fn put(&self, at: usize, path: &str, body: &str) -> Answer {
        self.send(at, Method::PUT, path, &[], body).await
    }

    async fn send(&self, at: usize, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.nodes[at].api));
        if !body.is_empty() && !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("a request");
        let answer =
            tokio::time::timeout(PATIENCE, self.client.request(request)).await.expect("in time").expect("answers");
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        Answer { status: parts.status, headers: parts.headers, text: String::from_utf8(body.into()).expect("UTF-8") }
    }

    /// Submits one job to the first node and gives its id.
    async fn submit(&self, spec: &str) -> u64 {
        let answer = self.post(self.leader().expect("somebody leads"), "/v1/jobs", spec).await.ok();
        answer["results"][0]["id"].as_u64().unwrap_or_else(|| panic!("{answer}"))
    }

    /// Stops a node without a word to the others.
    async fn halt(&mut self, at: usize) {
        let running = &mut self.nodes[at];
        running.stop.cancel();
        (&mut running.door).await.expect("the door ends");
        running.node.take().expect("runs").halt().await;
    }

    async fn end(mut self) {
        for at in 0..self.nodes.len() {
            if self.nodes[at].node.is_some() {
                self.halt(at).await;
            }
        }
    }
}

/// Nodes here run no jobs by themselves.
struct NoPool;

impl LocalPool for NoPool {
    fn output(&self, _job: JobId, _lease: LeaseId) -> BoxFuture<'_, Option<LiveOutput>> {
        Box::pin(async { None })
    }

    fn leave(&self, _wait: Duration) -> BoxFuture<'_, Vec<JobId>> {
        Box::pin(async { Vec::new() })
    }

    fn stay(&self) {}
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a port")
}

fn address(listener: &TcpListener) -> String {
    listener.local_addr().expect("bound").to_string()
}
