//! Three nodes: whoever is asked.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn follower_redirects_writes_forwards_on_request_and_answers_reads() {
    let stage = Stage::formed(3).await;
    let (leader, follower) = (stage.leader().expect("leads"), stage.follower());
    let away = stage.post(follower, "/v1/jobs", r#"{"sleep": 1}"#).await;
    assert_eq!(away.status.as_u16(), 307);
    assert_eq!(away.header("location"), format!("http://{}/v1/jobs", stage.nodes[leader].api));
    assert_eq!(away.json()["error"]["details"]["leader"]["api"], stage.nodes[leader].api);
    let key = [("raftq-forward", "1"), ("idempotency-key", "k")];
    let forwarded = stage.send(follower, Method::POST, "/v1/jobs", &key, r#"{"sleep": 1}"#).await.ok();
    assert_eq!(forwarded["results"][0]["ok"], true);
    let direct = stage.send(leader, Method::POST, "/v1/jobs", &key[1..], r#"{"sleep": 1}"#).await.ok();
    assert_eq!(direct, forwarded);
    let id = &forwarded["results"][0]["id"];
    for at in 0..3 {
        assert_eq!(stage.get(at, &format!("/v1/jobs/{id}")).await.ok()["status"], "queued");
    }
    let circle = [("raftq-forwarded", "9")];
    assert_eq!(stage.send(follower, Method::POST, "/v1/jobs", &circle, r#"{"sleep": 1}"#).await.code(), "no_leader");
    let cluster = stage.get(follower, "/v1/cluster").await.ok();
    assert_eq!((&cluster["role"], cluster["members"].as_array().map(Vec::len)), (&"follower".into(), Some(3)));
    assert_eq!((&cluster["feature_level"], &cluster["feature_level_known"]), (&1.into(), &1.into()));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_on_a_follower_hears_what_the_leader_did() {
    let stage = Stage::formed(3).await;
    let (leader, follower) = (stage.leader().expect("leads"), stage.follower());
    let id = stage.submit(r#"{"kind": "x"}"#).await;
    let version = stage.get(follower, &format!("/v1/jobs/{id}")).await.ok()["version"].clone();
    let path = format!("/v1/jobs/{id}/wait?since={version}&fields=status&timeout_ms=20000");
    let (news, _) = tokio::join!(stage.get(follower, &path), async {
        stage
            .until("a waiter", async || {
                stage.get(follower, "/metrics").await.text.contains("raftq_waiting_for_jobs 1\n")
            })
            .await;
        stage.post(leader, &format!("/v1/jobs/{id}/cancel"), "").await.ok()
    });
    assert_eq!(news.ok()["job"]["status"], "canceled");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_49_minority_refuses_in_time_and_local_reads_answer() {
    let mut stage = Stage::formed(3).await;
    let id = stage.submit(r#"{"kind": "x"}"#).await;
    let last = stage.follower();
    stage.get(last, &format!("/v1/jobs/{id}")).await.ok();
    for at in (0..3).filter(|at| *at != last) {
        stage.halt(at).await;
    }
    let soon = [("raftq-timeout-ms", "1500")];
    let began = Instant::now();
    let write = stage.send(last, Method::POST, "/v1/jobs", &soon, r#"{"sleep": 1}"#).await;
    assert!(["no_leader", "not_leader"].contains(&write.code().as_str()), "{write:?}");
    let read = stage.send(last, Method::GET, &format!("/v1/jobs/{id}"), &soon, "").await;
    assert_eq!((read.status.as_u16(), read.code().as_str()), (503, "no_leader"));
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let local = [("raftq-consistency", "local")];
    let answer = stage.send(last, Method::GET, &format!("/v1/jobs/{id}"), &local, "").await;
    assert_eq!(answer.ok()["id"], id);
    assert!(!answer.header("raftq-index").is_empty());
    stage.end().await;
}

/// Who spreads load by it must not go on sending work to a leader that can do none.
#[tokio::test(flavor = "multi_thread")]
async fn leader_without_a_majority_lives_and_is_not_ready() {
    let mut stage = Stage::formed(3).await;
    let leader = stage.leader().expect("leads");
    for at in (0..3).filter(|at| *at != leader) {
        stage.halt(at).await;
    }
    let not_ready = async || stage.get(leader, "/readyz").await.status == StatusCode::SERVICE_UNAVAILABLE;
    stage.until("not ready", not_ready).await;
    let problem = stage.get(leader, "/readyz").await.json()["problem"].clone();
    assert!(problem.as_str().is_some_and(|why| why.contains("members")), "{problem}");
    assert_eq!(stage.get(leader, "/healthz").await.status, StatusCode::OK);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_claim_is_sent_on_when_leadership_goes() {
    let stage = Stage::formed(3).await;
    let (leader, heir) = (stage.leader().expect("leads"), stage.follower());
    let claim = r#"{"worker": {"id": "w"}, "queues": ["default"], "wait_ms": 60000}"#;
    let (sent_on, _) = tokio::join!(stage.post(leader, "/v1/claim", claim), async {
        stage
            .until("in line", async || stage.get(leader, "/metrics").await.text.contains("raftq_waiting_claims 1\n"))
            .await;
        let to = format!(r#"{{"to": {}}}"#, heir + 1);
        stage.post(leader, "/v1/cluster/transfer", &to).await.ok()
    });
    assert!([307, 503].contains(&sent_on.status.as_u16()), "{sent_on:?}");
    stage.end().await;
}
