//! What every request must pass.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_with_a_request_is_said_in_json() {
    let stage = Stage::formed(1).await;
    let check = async |method: Method, path: &str, headers: &[(&str, &str)], body: &str, status: u16, code: &str| {
        let answer = stage.send(0, method, path, headers, body).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{path}: {}", answer.text);
        assert!(answer.header("raftq-index").contains('.'), "{path} says its index");
        answer
    };
    check(Method::GET, "/v1/nothing", &[], "", 404, "not_found").await;
    let wrong = check(Method::PUT, "/v1/jobs", &[], "{}", 405, "method_not_allowed").await;
    assert!(wrong.header("allow").contains("GET") && wrong.header("allow").contains("POST"), "{wrong:?}");
    let text = [("content-type", "text/plain")];
    check(Method::POST, "/v1/jobs", &text, "{}", 415, "unsupported_media_type").await;
    for packed in ["gzip", "identity, br"] {
        let coding = [("content-encoding", packed)];
        check(Method::POST, "/v1/jobs", &coding, r#"{"sleep": 1}"#, 415, "unsupported_media_type").await;
        let backup = [("content-encoding", packed), ("content-type", "application/octet-stream")];
        check(Method::POST, "/v1/cluster/restore", &backup, "x", 415, "unsupported_media_type").await;
    }
    let twice = [("content-type", "application/json"), ("content-type", "text/plain")];
    check(Method::POST, "/v1/jobs", &twice, r#"{"sleep": 1}"#, 415, "unsupported_media_type").await;
    let plain = [("content-encoding", "Identity")];
    stage.send(0, Method::POST, "/v1/jobs", &plain, r#"{"sleep": 1}"#).await.ok();
    check(Method::POST, "/v1/jobs", &[], &"x".repeat((16 << 20) + 1), 413, "too_large").await;
    // As much again as no socket buffer holds: the sender must come to read the answer.
    check(Method::POST, "/v1/jobs", &[], &"x".repeat(48 << 20), 413, "too_large").await;
    check(Method::GET, "/v1/jobs", &[("host", "evil.example")], "", 403, "forbidden").await;
    check(Method::POST, "/v1/jobs", &[("origin", "http://evil.example")], "{}", 403, "forbidden").await;
    check(Method::GET, "/v1/jobs", &[("raftq-min-index", "other.1")], "", 410, "gone").await;
    check(Method::GET, "/v1/jobs", &[("raftq-timeout-ms", "soon")], "", 400, "invalid").await;
    check(Method::GET, "/v1/jobs", &[("raftq-min-index", ".5")], "", 400, "invalid").await;
    check(Method::GET, "/v1/jobs?filter=status=bogus", &[], "", 400, "invalid").await;
    check(Method::POST, "/v1/jobs", &[], r#"{"sleep": 1, "limits": ["a:x"]}"#, 400, "invalid").await;
    check(Method::GET, "/v1/jobs?colour=1", &[], "", 400, "invalid").await;
    check(Method::GET, "/v1/jobs?fields=colour", &[], "", 400, "invalid").await;
    check(Method::GET, "/v1/jobs?limit=0", &[], "", 400, "invalid").await;
    check(Method::GET, "/v1/jobs?limit=1001", &[], "", 400, "invalid").await;
    check(Method::GET, "/v1/jobs?limit=x", &[], "", 400, "invalid").await;
    check(Method::GET, "/v1/jobs/x", &[], "", 400, "invalid").await;
    check(Method::GET, "/v1/jobs/77", &[], "", 404, "not_found").await;
    check(Method::POST, "/v1/jobs", &[], "{", 400, "invalid").await;
    check(Method::POST, "/v1/jobs/1/cancel", &[], r#"{"kil": true}"#, 400, "invalid").await;
    stage.end().await;
}

/// Which of two a proxy before us has looked at is unknown.
#[tokio::test(flavor = "multi_thread")]
async fn one_host_is_asked_and_no_other_number() {
    let stage = Stage::formed(1).await;
    let ours = "host: localhost\r\n";
    for (hosts, status) in [(ours.repeat(2), "400"), (String::new(), "400"), (ours.to_owned(), "200")] {
        let answer = raw(&stage, &format!("GET /v1/queues HTTP/1.1\r\n{hosts}connection: close\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{hosts:?}: {answer}");
        assert_eq!(answer.contains("one Host header"), status == "400", "{answer}");
    }
    let packed = "POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n\
                  transfer-encoding: gzip, chunked\r\n\r\n1\r\n{\r\n0\r\n\r\n";
    let elsewhere = "GET http://evil.example/v1/queues HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    for (request, status) in [(packed, "415"), (elsewhere, "403")] {
        let answer = raw(&stage, request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    stage.end().await;
}

/// What is answered to these bytes, on a connection that ends with the answer.
async fn raw(stage: &Stage, request: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(&stage.nodes[0].api).await.expect("connects");
    stream.write_all(request.as_bytes()).await.expect("takes it");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(PATIENCE, read).await.expect("it is closed").expect("text");
    answer
}

/// What is no request at all never reaches the guard: hyper answers by the status alone, and closes the connection.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_answered_by_a_status_and_closed() {
    let stage = Stage::formed(1).await;
    let headers: String = (0..150).map(|number| format!("x-{number}: 1\r\n")).collect();
    for (request, status) in [
        ("what is this\r\n\r\n".to_owned(), "400"),
        (format!("GET /v1/jobs?filter={} HTTP/1.1\r\nhost: localhost\r\n\r\n", "x".repeat(70_000)), "414"),
        (format!("GET /v1/jobs HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n"), "431"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(&stage.nodes[0].api).await.expect("connects");
        stream.write_all(request.as_bytes()).await.expect("takes it");
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        // What was not read of the request may end the connection as a reset, behind the answer.
        let _ = tokio::time::timeout(PATIENCE, read).await.expect("it is closed");
        let answer = String::from_utf8(answer).expect("text");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "no body: {answer}");
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn token_that_lies_ahead_is_awaited_until_the_deadline() {
    let stage = Stage::formed(1).await;
    let index = stage.get(0, "/v1/jobs").await;
    let (cluster, at) = index.header("raftq-index").rsplit_once('.').expect("CLUSTER.N");
    let ahead = format!("{cluster}.{}", at.parse::<u64>().expect("a number") + 1000);
    let headers = [("raftq-min-index", ahead.as_str()), ("raftq-timeout-ms", "100")];
    let answer = stage.send(0, Method::GET, "/v1/jobs", &headers, "").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (504, "timeout"));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn own_origin_is_welcome_and_pristine_nodes_say_so() {
    let stage = Stage::of(1).await;
    let own = format!("http://{}", stage.nodes[0].api);
    let answer = stage.send(0, Method::GET, "/healthz", &[("origin", own.as_str())], "").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(stage.get(0, "/readyz").await.status, StatusCode::SERVICE_UNAVAILABLE);
    let write = stage.send(0, Method::POST, "/v1/jobs", &[("raftq-timeout-ms", "200")], r#"{"sleep": 1}"#).await;
    assert_eq!((write.status.as_u16(), write.code().as_str(), write.header("retry-after")), (503, "no_leader", "1"));
    let cluster = stage.get(0, "/v1/cluster").await.ok();
    assert_eq!((cluster["role"].as_str(), cluster["cluster"].is_null()), (Some("pristine"), true));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_without_tls_is_spoken_on_the_same_port() {
    let stage = Stage::formed(1).await;
    let client: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let uri = format!("http://{}/v1/jobs", stage.nodes[0].api);
    let request = Request::post(uri).header("content-type", "application/json");
    let request = request.body(Full::new(Bytes::from_static(br#"{"kind": "x"}"#))).expect("a request");
    let answer = client.request(request).await.expect("answers");
    assert_eq!((answer.status(), answer.version()), (StatusCode::OK, axum::http::Version::HTTP_2));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_are_understood_as_small_ones_are() {
    let stage = Stage::formed(1).await;
    let padding = " ".repeat(300 << 10);
    for (method, path, body, status) in [
        (Method::POST, "/v1/jobs", r#"{"sleep": 1}"#, 200),
        (Method::POST, "/v1/jobs/bulk", r#"{"do": "cancel", "select": {"status": "queued"}}"#, 200),
        (Method::POST, "/v1/jobs/bulk", r#"{"do": "cancel""#, 400),
        (Method::PUT, "/v1/schedules/s", r#"{"every_ms": 3600000, "spec": {"sleep": 1}}"#, 200),
        (Method::POST, "/v1/archive", r#"{"all": true}"#, 200),
        (Method::POST, "/v1/archive", r#"{"al": true}"#, 400),
    ] {
        let answer = stage.send(0, method, path, &[], &format!("{padding}{body}")).await;
        assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.text);
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_was_asked() {
    let stage = Stage::formed(1).await;
    stage.submit(r#"{"sleep": 1}"#).await;
    let metrics = stage.get(0, "/metrics").await;
    for line in [
        "raftq_is_leader 1\n",
        "raftq_jobs{status=\"queued\"} 1\n",
        "raftq_http_requests_total{route=\"/v1/jobs\",status=\"200\"} 1\n",
        "raftq_log_sync_seconds_count ",
        "raftq_entry_requests_count ",
    ] {
        assert!(metrics.text.contains(line), "{line}: {}", metrics.text);
    }
    stage.end().await;
}

/// `?kill=true` was passed over, and the job was told to be not cancelable.
#[tokio::test(flavor = "multi_thread")]
async fn parameters_that_nobody_reads_are_refused_by_name() {
    let stage = Stage::formed(1).await;
    let id = stage.submit(r#"{"sleep": 1}"#).await;
    for (method, path, name) in [
        (Method::POST, "/v1/jobs?atomic=true", "atomic"),
        (Method::POST, "/v1/claim?wait_ms=5", "wait_ms"),
        (Method::POST, "/v1/leases?x", "x"),
        (Method::POST, "/v1/jobs/1/cancel?kill=true", "kill"),
        (Method::DELETE, "/v1/jobs/1?force=1", "force"),
        (Method::GET, "/v1/jobs/1/output?attempt=1", "attempt"),
        (Method::GET, "/v1/stats?queue=a&x=1", "queue"),
        (Method::GET, "/v1/jobs/1?x=1", "x"),
        (Method::GET, "/v1/jobs?limit=1&limit=2", "limit"),
        (Method::GET, "/v1/jobs?ids=1&order=priority", "order"),
        (Method::GET, "/v1/jobs?ids=1&after=1", "after"),
        (Method::GET, "/v1/jobs?fields=,", "fields"),
    ] {
        let body = if method == Method::POST { "{}" } else { "" };
        let refused = stage.send(0, method, path, &[], body).await;
        let error = &refused.json()["error"];
        assert_eq!((refused.status.as_u16(), &error["details"]["field"]), (400, &name.into()), "{path}: {error}");
    }
    assert_eq!(stage.get(0, &format!("/v1/jobs/{id}")).await.ok()["status"], "queued");
    assert_eq!(stage.get(0, "/healthz?from=a-balancer").await.status, StatusCode::OK);
    let wrong = stage.send(0, Method::OPTIONS, "/v1/jobs/1", &[], "").await;
    assert_eq!((wrong.code().as_str(), wrong.header("allow")), ("method_not_allowed", "GET,HEAD,DELETE,PATCH"));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edit_of_nothing_changes_nothing() {
    let stage = Stage::formed(1).await;
    let id = stage.submit(r#"{"sleep": 1, "priority": "low", "retries": 2}"#).await;
    let path = format!("/v1/jobs/{id}");
    stage.post(0, &format!("{path}/priority"), r#"{"priority": -5}"#).await.ok();
    let before = stage.get(0, &path).await.ok();
    for patch in ["{}", r#"{"retries": 2}"#] {
        let answer = stage.send(0, Method::PATCH, &path, &[], patch).await.ok();
        assert_eq!((&answer["changed"], &answer["job"]["version"]), (&false.into(), &before["version"]), "{patch}");
    }
    let answer = stage.send(0, Method::PATCH, &path, &[], r#"{"retries": 3}"#).await.ok();
    assert_eq!(answer["changed"], true);
    assert_eq!(stage.get(0, &path).await.ok()["priority"], -5, "what was set since stands");
    stage.end().await;
}
