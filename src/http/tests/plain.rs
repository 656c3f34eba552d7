//! Requests that are taken past hyper: nobody may notice but by the clock.

use std::collections::BTreeMap;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;

/// One connection, byte by byte.
struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
}

/// Status, headers and body.
type Said = (u16, BTreeMap<String, String>, String);

impl Wire {
    async fn to(stage: &Stage, at: usize) -> Self {
        let stream = TcpStream::connect(&stage.nodes[at].api).await.expect("connects");
        stream.set_nodelay(true).expect("open");
        Self { stream, received: Vec::new() }
    }

    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("takes it");
    }

    /// False at the end.
    async fn read_more(&mut self) -> bool {
        let read = self.stream.read_buf(&mut self.received);
        tokio::time::timeout(PATIENCE, read).await.expect("in time").expect("reads") > 0
    }

    async fn answer(&mut self) -> Said {
        let head = loop {
            if let Some(end) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(self.read_more().await, "closed: {}", String::from_utf8_lossy(&self.received));
        };
        let text = String::from_utf8(self.received.drain(..head).collect()).expect("text");
        let mut lines = text.lines();
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.into(), value.into()));
        let headers: BTreeMap<String, String> = headers.collect();
        let length = headers["content-length"].parse().expect("a number");
        while self.received.len() < length {
            assert!(self.read_more().await, "closed in the middle of an answer");
        }
        let body = String::from_utf8(self.received.drain(..length).collect()).expect("text");
        (status.expect("a status"), headers, body)
    }

    async fn ok(&mut self) -> Value {
        let (status, _, body) = self.answer().await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }
}

fn request(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{body}"
    )
}

fn read(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n")
}

const CLAIM: &str = r#"{"worker": {"id": "w"}, "queues": ["default"], "max": 5, "start": true}"#;

#[tokio::test(flavor = "multi_thread")]
async fn requests_sent_without_waiting_have_their_effects_in_order() {
    let stage = Stage::formed(1).await;
    let mut wire = Wire::to(&stage, 0).await;
    assert_eq!(plain_requests(&stage).await, 0);
    let submit = request("/v1/jobs", "", r#"{"sleep": 1}"#);
    let list = "GET /v1/jobs?fields=id,status HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let claim = request("/v1/claim", "", CLAIM);
    wire.send(&[&submit, &submit, &claim, &submit, list, &submit].map(String::from).concat()).await;
    let id = |answer: &Value| answer["results"][0]["id"].as_u64().expect("an id");
    let ids = [id(&wire.ok().await), id(&wire.ok().await)];
    let claimed = wire.ok().await;
    let granted: Vec<_> = claimed["jobs"].as_array().expect("a list").iter().map(|job| &job["job"]["id"]).collect();
    assert_eq!(granted, ids, "what was submitted before, and not what was submitted behind");
    let third = id(&wire.ok().await);
    let listed = wire.ok().await;
    let count = listed["jobs"].as_array().expect("a list").len();
    assert_eq!(count, 3, "{listed}");
    assert!(ids[0] < ids[1] && ids[1] < third && third < id(&wire.ok().await));
    assert_eq!(plain_requests(&stage).await, 4, "those before the list; hyper has it and all behind it");
    stage.end().await;
}

async fn plain_requests(stage: &Stage) -> u64 {
    let metrics = stage.get(0, "/metrics").await.text;
    let line = metrics.lines().find_map(|line| line.strip_prefix("raftq_http_plain_requests_total "));
    line.and_then(|count| count.parse().ok()).expect("it is counted")
}

/// It would be handed what comes behind it, if that were begun.
#[tokio::test(flavor = "multi_thread")]
async fn claim_that_waits_holds_up_what_was_sent_behind_it() {
    let stage = Stage::formed(1).await;
    let mut wire = Wire::to(&stage, 0).await;
    let claim = request("/v1/claim", "", &CLAIM.replace("\"max\": 5", "\"wait_ms\": 300"));
    wire.send(&[claim, request("/v1/jobs", "", r#"{"sleep": 1}"#)].concat()).await;
    assert_eq!(wire.ok().await["jobs"], serde_json::json!([]));
    assert_eq!(wire.ok().await["results"][0]["ok"], true);
    stage.end().await;
}

/// It would miss what is still on its way, if it were begun.
#[tokio::test(flavor = "multi_thread")]
async fn read_sees_what_was_sent_before_it_and_not_what_comes_behind() {
    let stage = Stage::formed(1).await;
    let id = stage.submit(r#"{"sleep": 1}"#).await;
    let mut wire = Wire::to(&stage, 0).await;
    let read = read(&format!("/v1/jobs/{id}"), "");
    let claim = request("/v1/claim", "", CLAIM);
    wire.send(&[read.clone(), read.clone(), claim, read.clone(), read].concat()).await;
    for status in ["queued", "queued", "", "running", "running"] {
        let answer = wire.ok().await;
        assert_eq!(answer["status"].as_str().unwrap_or_default(), status, "{answer}");
    }
    stage.end().await;
}

/// Each is sent twice: as it is, and with a header that makes hyper read it.
#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_that_hyper_the_guard_and_the_router_give() {
    let stage = Stage::formed(3).await;
    let (leader, follower) = (stage.leader().expect("somebody leads"), stage.follower());
    let long = format!(r#"{{"sleep": 1, "name": "{}"}}"#, "x".repeat(100_000));
    let shown = format!("/v1/jobs/{}", stage.submit(r#"{"sleep": 1}"#).await);
    for (at, path, headers, body) in [
        (leader, shown.as_str(), "", ""),
        (follower, shown.as_str(), "", ""),
        (follower, shown.as_str(), "raftq-consistency: local\r\n", ""),
        (follower, shown.as_str(), "raftq-consistency: eventual\r\n", ""),
        (leader, "/v1/jobs/77", "", ""),
        (leader, "/v1/jobs", "", r#"{"sleep": -1}"#),
        (leader, "/v1/jobs", "", "{"),
        (leader, "/v1/jobs", "", r#"{"colour": 1}"#),
        (leader, "/v1/jobs", "", r#"{"jobs": [{"sleep": 1, "priority": "none"}]}"#),
        (leader, "/v1/jobs", "", &long),
        (leader, "/v1/jobs", "raftq-user: \u{e9}\r\n", r#"{"sleep": 1}"#),
        (leader, "/v1/jobs", "idempotency-key: a/b\r\n", r#"{"sleep": 1}"#),
        (leader, "/v1/jobs", "raftq-timeout-ms: soon\r\n", r#"{"sleep": 1}"#),
        (leader, "/v1/jobs", "raftq-min-index: other.1\r\n", r#"{"sleep": 1}"#),
        (leader, "/v1/claim", "", r#"{"worker": {"id": "w"}}"#),
        (leader, "/v1/claim", "", r#"{"worker": {"id": "w"}, "queues": ["none"], "wait_ms": 20}"#),
        (leader, "/v1/leases", "", r#"{"items": [{"job": 7, "lease": 7, "do": "finish", "outcome": "success"}]}"#),
        (leader, "/v1/leases", "", r#"{"items": [{"job": 7, "lease": 7, "do": "dance"}]}"#),
        (follower, "/v1/jobs", "", r#"{"sleep": 1}"#),
        (follower, "/v1/claim", "", CLAIM),
    ] {
        let mut wire = Wire::to(&stage, at).await;
        let mut said = Vec::new();
        for reader in ["", "te: trailers\r\n"] {
            let headers = format!("{headers}{reader}");
            let text = if body.is_empty() { read(path, &headers) } else { request(path, &headers, body) };
            wire.send(&text).await;
            let (status, mut headers, body) = wire.answer().await;
            for varying in ["date", "raftq-index"] {
                assert!(headers.remove(varying).is_some(), "{path} says its {varying}");
            }
            said.push((status, headers, body));
        }
        assert_eq!(said[0], said[1], "{path}: {headers} {body}");
    }
    stage.end().await;
}

/// Fifteen megabytes of answers, more than all buffers on the way hold.
#[tokio::test(flavor = "multi_thread")]
async fn client_that_reads_late_gets_all_its_answers() {
    let stage = Stage::formed(1).await;
    let mut wire = Wire::to(&stage, 0).await;
    let refused = vec!["{}"; 100].join(",");
    let count = 1000;
    wire.send(&request("/v1/jobs", "", &format!(r#"{{"jobs": [{refused}]}}"#)).repeat(count)).await;
    for _ in 0..count {
        assert_eq!(wire.ok().await["results"].as_array().map(Vec::len), Some(100));
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn request_may_come_in_pieces() {
    let stage = Stage::formed(1).await;
    let mut wire = Wire::to(&stage, 0).await;
    let jobs: Vec<_> = (0..400).map(|_| serde_json::json!({ "kind": "k", "body": "x".repeat(200) })).collect();
    let large = request("/v1/jobs", "", &serde_json::json!({ "jobs": jobs }).to_string());
    for piece in [1, 100, 4096, large.len() - 1] {
        for piece in large.as_bytes().chunks(piece.max(large.len() / 500)) {
            wire.stream.write_all(piece).await.expect("takes it");
        }
        assert_eq!(wire.ok().await["results"].as_array().map(Vec::len), Some(400));
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn body_that_does_not_come_is_not_awaited_beyond_the_deadline() {
    let stage = Stage::formed(1).await;
    let mut wire = Wire::to(&stage, 0).await;
    let whole = request("/v1/jobs", "raftq-timeout-ms: 100\r\n", r#"{"sleep": 1}"#);
    wire.send(&whole[..whole.len() - 1]).await;
    let (status, _, body) = wire.answer().await;
    assert_eq!((status, body.contains("did not arrive")), (504, true), "{body}");
    stage.end().await;
}

/// As of `printf ... | nc -N`.
#[tokio::test(flavor = "multi_thread")]
async fn client_that_sends_no_more_gets_its_answers() {
    let stage = Stage::formed(1).await;
    let mut wire = Wire::to(&stage, 0).await;
    let submit = request("/v1/jobs", "", r#"{"sleep": 1}"#);
    wire.send(&[submit.clone(), submit, read("/v1/jobs/1", ""), read("/v1/jobs/2", "")].concat()).await;
    wire.stream.shutdown().await.expect("open");
    for _ in 0..4 {
        wire.ok().await;
    }
    assert!(!wire.read_more().await, "it is closed");
    stage.end().await;
}

/// Whoever sends no more may be gone: nobody would take what its claim is handed.
#[tokio::test(flavor = "multi_thread")]
async fn claim_of_who_sends_no_more_does_not_wait() {
    let stage = Stage::formed(1).await;
    let mut wire = Wire::to(&stage, 0).await;
    let waits = CLAIM.replace("default", "none").replace("\"max\": 5", "\"wait_ms\": 60000");
    let submit = request("/v1/jobs", "", r#"{"sleep": 1}"#);
    wire.send(&[submit, request("/v1/claim", "", &waits)].concat()).await;
    wire.stream.shutdown().await.expect("open");
    wire.ok().await;
    assert!(!wire.read_more().await, "it is closed");
    stage
        .until("no claim waits", async || stage.get(0, "/metrics").await.text.contains("raftq_waiting_claims 0\n"))
        .await;
    stage.end().await;
}

/// Reads of a job of a megabyte: no more than one answer is made ahead of what its client takes.
#[tokio::test(flavor = "multi_thread")]
async fn large_answers_are_made_as_they_are_taken() {
    let stage = Stage::formed(1).await;
    let body = "x".repeat(1_000_000);
    let id = stage.submit(&serde_json::json!({ "kind": "k", "body": body }).to_string()).await;
    let mut wire = Wire::to(&stage, 0).await;
    let count = 60;
    wire.send(&read(&format!("/v1/jobs/{id}"), "raftq-consistency: local\r\n").repeat(count)).await;
    for taken in 0..count as u64 {
        assert!(wire.ok().await["ops"][0]["body"].as_str().is_some_and(|said| said.len() == body.len()));
        // What lies in the sockets' buffers was made too.
        let made = plain_requests(&stage).await;
        assert!(made <= taken + 30, "{made} are made, {taken} were taken");
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_gone_waits_no_more() {
    let stage = Stage::formed(1).await;
    let mut wire = Wire::to(&stage, 0).await;
    wire.send(&request("/v1/claim", "", &CLAIM.replace("\"max\": 5", "\"wait_ms\": 60000"))).await;
    let waiting = async |count: u64| {
        let line = format!("raftq_waiting_claims {count}\n");
        stage.until(&line, async || stage.get(0, "/metrics").await.text.contains(&line)).await;
    };
    waiting(1).await;
    drop(wire);
    waiting(0).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_ends_lets_connections_go() {
    let mut stage = Stage::formed(1).await;
    let mut idle = Wire::to(&stage, 0).await;
    idle.send(&request("/v1/jobs", "", r#"{"sleep": 1}"#)).await;
    idle.ok().await;
    let mut waits = Wire::to(&stage, 0).await;
    waits
        .send(&request("/v1/claim", "", &CLAIM.replace("default", "none").replace("\"max\": 5", "\"wait_ms\": 60000")))
        .await;
    stage
        .until("a claim that waits", async || stage.get(0, "/metrics").await.text.contains("raftq_waiting_claims 1\n"))
        .await;
    stage.halt(0).await;
    assert!(!idle.read_more().await, "it is closed");
    waits.answer().await;
    assert!(!waits.read_more().await, "it is closed");
    stage.end().await;
}
