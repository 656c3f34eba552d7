//! The client against nodes that answer by script.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::Instant,
};

use super::{Call, Client, ClientError, Method, Options};

/// What a scripted node does with one request.
enum Reply {
    Say(u16, Value),
    /// 307 to another node.
    Redirect(String),
    /// Reads the request and closes the connection.
    Drop,
    /// Reads the request and never answers.
    Hang,
}

/// What a node heard.
#[derive(Clone, Debug, PartialEq)]
struct Heard {
    line: String,
    key: Option<String>,
    body: String,
}

struct Node {
    address: String,
    heard: Arc<Mutex<Vec<Heard>>>,
    task: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Node {
    async fn start(script: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let heard = Arc::default();
        let script = Arc::new(Mutex::new(script.into_iter().collect::<VecDeque<_>>()));
        let task = tokio::spawn(serve(listener, script, Arc::clone(&heard)));
        Self { address, heard, task }
    }

    fn heard(&self) -> Vec<Heard> {
        self.heard.lock().expect("not poisoned").clone()
    }

    fn keys(&self) -> Vec<String> {
        self.heard().into_iter().filter_map(|heard| heard.key).collect()
    }
}

async fn serve(listener: TcpListener, script: Arc<Mutex<VecDeque<Reply>>>, heard: Arc<Mutex<Vec<Heard>>>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(converse(stream, Arc::clone(&script), Arc::clone(&heard)));
    }
}

async fn converse(mut stream: TcpStream, script: Arc<Mutex<VecDeque<Reply>>>, heard: Arc<Mutex<Vec<Heard>>>) {
    while let Some(request) = read_request(&mut stream).await {
        heard.lock().expect("not poisoned").push(request);
        let reply = script.lock().expect("not poisoned").pop_front().expect("the script covers every request");
        let (status, location, body) = match reply {
            Reply::Say(status, body) => (status, String::new(), body.to_string()),
            Reply::Redirect(to) => (307, format!("location: http://{to}/v1/jobs\r\n"), "{}".into()),
            Reply::Drop => return,
            Reply::Hang => return std::future::pending().await,
        };
        let text = format!("HTTP/1.1 {status} X\r\n{location}content-length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Heard> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).expect("requests are text");
    let header = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")))
            .map(str::to_owned)
    };
    let length: usize = header("content-length").map_or(0, |length| length.parse().expect("a number"));
    while bytes.len() < head_end + length {
        stream.read_buf(&mut bytes).await.ok().filter(|read| *read > 0)?;
    }
    let body = String::from_utf8(bytes[head_end..].to_vec()).expect("JSON is text");
    Some(Heard { line: head.lines().next().unwrap_or("").to_owned(), key: header("idempotency-key"), body })
}

fn client(nodes: &[&Node]) -> Client {
    client_of(nodes.iter().map(|node| node.address.clone()).collect())
}

fn client_of(servers: Vec<String>) -> Client {
    let quick =
        Options { attempt: Duration::from_millis(80), patience: Duration::from_millis(80), ..Options::new(servers) };
    Client::new(quick).expect("valid addresses")
}

fn write(within: Duration) -> Call {
    Call::write(Method::POST, "/v1/jobs", &json!({ "sleep": 1 }), Instant::now() + within).expect("JSON")
}

fn read(within: Duration) -> Call {
    Call::read("/v1/jobs/17", Instant::now() + within)
}

fn refusal(code: &str) -> Value {
    json!({ "error": { "code": code, "message": "as scripted", "details": {} } })
}

const SOON: Duration = Duration::from_millis(400);
const LATER: Duration = Duration::from_secs(20);

/// An address where nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

#[tokio::test]
async fn redirect_is_followed_with_the_same_key_and_remembered() {
    let leader = Node::start([Reply::Say(200, json!({ "n": 1 })), Reply::Say(200, json!({ "n": 2 }))]).await;
    let follower = Node::start([Reply::Redirect(leader.address.clone())]).await;
    let client = client(&[&follower]);
    client.call(write(LATER)).await.expect("answered");
    let second: Value = client.call(write(LATER)).await.expect("answered").json().expect("JSON");
    assert_eq!(second, json!({ "n": 2 }));
    assert_eq!((follower.heard().len(), leader.heard().len()), (1, 2));
    assert_eq!(follower.keys()[0], leader.keys()[0]);
    assert_eq!(follower.heard()[0].body, leader.heard()[0].body);
    assert_ne!(leader.keys()[0], leader.keys()[1]);
}

#[tokio::test]
async fn leader_in_the_details_is_followed() {
    let leader = Node::start([Reply::Say(200, json!({}))]).await;
    let details = json!({ "leader": { "id": 2, "api": leader.address } });
    let busy = json!({ "error": { "code": "no_leader", "message": "not me", "details": details } });
    let follower = Node::start([Reply::Say(503, busy)]).await;
    client(&[&follower]).call(write(LATER)).await.expect("answered");
    assert_eq!(leader.heard().len(), 1);
}

#[tokio::test]
async fn no_leader_is_asked_again_until_there_is_one() {
    let node = Node::start([
        Reply::Say(503, refusal("no_leader")),
        Reply::Say(503, refusal("no_leader")),
        Reply::Say(200, json!({ "ok": true })),
    ])
    .await;
    client(&[&node]).call(write(LATER)).await.expect("answered");
    let keys = node.keys();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| *key == keys[0]));
}

#[tokio::test]
async fn busy_node_is_asked_again_and_at_last_believed() {
    let calm = Node::start([Reply::Say(429, refusal("busy")), Reply::Say(200, json!({}))]).await;
    client(&[&calm]).call(write(LATER)).await.expect("answered");
    let busy = Node::start((0..100).map(|_| Reply::Say(429, refusal("busy")))).await;
    let error = client(&[&busy]).call(write(SOON)).await.expect_err("refused");
    assert_eq!(error.code(), Some("busy"));
}

#[tokio::test]
async fn dropped_connection_repeats_the_same_key_at_the_next_node() {
    let first = Node::start([Reply::Drop]).await;
    let second = Node::start([Reply::Say(200, json!({}))]).await;
    client(&[&first, &second]).call(write(LATER)).await.expect("answered");
    assert_eq!(first.heard(), second.heard());
}

#[tokio::test]
async fn silent_node_is_left_for_the_next() {
    let first = Node::start([Reply::Hang]).await;
    let second = Node::start([Reply::Say(200, json!({}))]).await;
    client(&[&first, &second]).call(read(LATER)).await.expect("answered");
    assert_eq!(second.heard().len(), 1);
}

#[tokio::test]
async fn frozen_leader_is_left_when_another_node_names_a_new_one() {
    let leader = Node::start([Reply::Say(200, json!({}))]).await;
    let frozen = Node::start([Reply::Hang]).await;
    let witness = Node::start([Reply::Say(200, json!({ "leader": { "id": 2, "api": leader.address } }))]).await;
    let patient = Options { attempt: LATER, ..Options::new(vec![frozen.address.clone(), witness.address.clone()]) };
    let client = Client::new(patient).expect("valid addresses");
    client.call(write(LATER)).await.expect("answered");
    assert_eq!(frozen.heard(), leader.heard());
}

#[tokio::test]
async fn unknown_outcome_is_repeated_and_settled() {
    let node = Node::start([
        Reply::Say(504, refusal("outcome_unknown")),
        Reply::Say(500, refusal("internal")),
        Reply::Say(200, json!({ "results": [] })),
    ])
    .await;
    client(&[&node]).call(write(LATER)).await.expect("answered");
    let keys = node.keys();
    assert!(keys.len() == 3 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[tokio::test]
async fn write_that_was_sent_and_never_answered_is_unknown() {
    let node = Node::start((0..100).map(|_| Reply::Drop)).await;
    let error = client(&[&node]).call(write(SOON)).await.expect_err("no answer");
    let ClientError::OutcomeUnknown { key, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*key, node.keys()[0]);
}

#[tokio::test]
async fn unknown_stays_unknown_when_the_last_word_is_no_leader() {
    let script = std::iter::once(Reply::Drop).chain((0..100).map(|_| Reply::Say(503, refusal("no_leader"))));
    let node = Node::start(script).await;
    let error = client(&[&node]).call(write(SOON)).await.expect_err("no answer");
    assert!(matches!(error, ClientError::OutcomeUnknown { .. }), "{error:?}");
}

#[tokio::test]
async fn write_that_nobody_led_is_known_not_to_be_done() {
    let node = Node::start((0..100).map(|_| Reply::Say(503, refusal("no_leader")))).await;
    let error = client(&[&node]).call(write(SOON)).await.expect_err("no leader");
    assert!(matches!(error, ClientError::NoLeader { .. }), "{error:?}");
}

#[tokio::test]
async fn minority_says_no_leader_although_others_are_down() {
    let alone = Node::start((0..100).map(|_| Reply::Say(503, refusal("no_leader")))).await;
    let client = client_of(vec![nobody().await, alone.address.clone(), nobody().await]);
    let error = client.call(write(SOON)).await.expect_err("no leader");
    assert!(matches!(error, ClientError::NoLeader { .. }), "{error:?}");
}

#[tokio::test]
async fn read_that_is_never_answered_times_out() {
    let node = Node::start((0..100).map(|_| Reply::Say(504, refusal("timeout")))).await;
    let error = client(&[&node]).call(read(SOON)).await.expect_err("no answer");
    assert!(matches!(error, ClientError::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn nobody_there_is_said_soon_and_names_the_servers() {
    let servers = vec![nobody().await, nobody().await];
    let started = Instant::now();
    let error = client_of(servers.clone()).call(write(LATER)).await.expect_err("nobody");
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    assert!(servers.iter().all(|server| error.to_string().contains(server)), "{error}");
    assert!(started.elapsed() < LATER / 2);
}

#[tokio::test]
async fn dead_node_in_the_list_is_skipped() {
    let alive = Node::start([Reply::Say(200, json!({}))]).await;
    client_of(vec![nobody().await, alive.address.clone()]).call(write(LATER)).await.expect("answered");
}

#[tokio::test]
async fn refusal_comes_back_at_once_with_its_code() {
    let node = Node::start([Reply::Say(503, refusal("drained"))]).await;
    let error = client(&[&node]).call(write(LATER)).await.expect_err("refused");
    assert_eq!((error.code(), error.to_string().as_str()), (Some("drained"), "as scripted"));
    assert_eq!(node.heard().len(), 1);
}

#[tokio::test]
async fn strangers_are_recognized() {
    let node = Node::start([Reply::Say(404, json!("not found"))]).await;
    let error = client(&[&node]).call(read(LATER)).await.expect_err("no raftq");
    assert!(matches!(error, ClientError::Protocol { .. }), "{error:?}");
}

#[tokio::test]
async fn two_nodes_that_name_each_other_do_not_spin() {
    let first = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = first.local_addr().expect("bound").to_string();
    let second = Node::start((0..1000).map(|_| Reply::Redirect(address.clone()))).await;
    let heard = Arc::default();
    let script = (0..1000).map(|_| Reply::Redirect(second.address.clone())).collect::<VecDeque<_>>();
    let task = tokio::spawn(serve(first, Arc::new(Mutex::new(script)), Arc::clone(&heard)));
    let first = Node { address, heard, task };
    client(&[&first, &second]).call(read(SOON)).await.expect_err("no leader");
    assert!(first.heard().len() < 100, "{} requests", first.heard().len());
}
