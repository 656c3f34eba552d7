//! `raftq bench` as a user starts it, with numbers so small that only its counting is tested.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Call, Cluster, Process, eventually};

fn bench(cluster: &Cluster, arguments: &[&str]) -> Value {
    let arguments = [&["--json", "--timeout", "60s", "bench"], arguments].concat();
    let (code, said) = Process::output(cluster, &arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {said}");
    let report = said.lines().find(|line| line.starts_with('{')).unwrap_or_default();
    serde_json::from_str(report).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {said}"))
}

fn live_jobs(cluster: &Cluster) -> Value {
    cluster.client().get("/v1/stats").ok()["live_jobs"].clone()
}

#[test]
fn bench_of_a_total_ends_with_it_and_keeps_the_jobs() {
    let cluster = Cluster::start();
    let report = bench(&cluster, &["submit", "--total", "60", "--batch", "10", "--in-flight", "2", "--keep"]);
    assert_eq!(report["runs"][0]["missing"], json!(0), "{report}");
    // Whoever is under way when the total is reached adds its own.
    let acknowledged = report["runs"][0]["acknowledged"].as_u64().expect("a number");
    assert!((60..80).contains(&acknowledged), "{report}");
    assert_eq!(live_jobs(&cluster), json!(acknowledged));
}

#[test]
fn bench_runs_beside_requests_that_wait_and_over_many_connections() {
    let cluster = Cluster::start();
    let crowd = ["--waiting-claims", "20", "--waiting-jobs", "10", "--connections", "12", "--in-flight", "4"];
    let report = bench(&cluster, &[&["life", "--total", "40"], &crowd[..]].concat());
    assert_eq!(report["conditions"]["waiting_claims"], json!(20));
    assert_eq!(report["runs"][0]["missing"], json!(0), "{report}");
    assert_eq!(live_jobs(&cluster), json!(0));
}

#[test]
fn bench_reads_pages_and_statistics() {
    let cluster = Cluster::start();
    for what in ["page", "stats"] {
        let report =
            bench(&cluster, &["read", "--what", what, "--in-flight", "3", "--duration", "200ms", "--warm-up", "0s"]);
        assert!(report["runs"][0]["jobs_per_s"].as_f64().expect("a number") > 0.0, "{report}");
    }
}

#[test]
fn bench_shares_connections_where_there_are_fewer_than_requests() {
    let cluster = Cluster::start();
    for load in [&["life", "--take-next"][..], &["life"], &["submit"]] {
        let report = bench(&cluster, &[load, &["--total", "60", "--connections", "2", "--in-flight", "7"]].concat());
        assert_eq!(report["conditions"]["connections"], json!(2));
        assert_eq!((&report["runs"][0]["missing"], &report["runs"][0]["repeats"]), (&json!(0), &json!(0)), "{report}");
    }
    let reads = ["read", "--connections", "2", "--in-flight", "7", "--duration", "200ms", "--warm-up", "0s"];
    assert!(bench(&cluster, &reads)["runs"][0]["jobs_per_s"].as_f64().expect("a number") > 0.0);
}

#[test]
fn bench_refuses_to_do_without_connections_and_reads_of_a_total() {
    let cluster = Cluster::start();
    for wrong in [&["submit", "--in-flight", "4", "--connections", "0"][..], &["read", "--total", "5"]] {
        let (code, said) = Process::output(&cluster, &[&["bench"], wrong].concat());
        assert_eq!(code, Some(2), "{wrong:?}: {said}");
    }
}

#[test]
fn bench_of_commands_that_fail_ends_when_the_last_is_buried() {
    let cluster = Cluster::builder().pool_size(2).start();
    let arguments =
        ["--json", "bench", "exec", "--jobs", "5", "--patience", "20s", "--pool-size", "3", "--", "/bin/false"];
    let (code, said) = Process::output(&cluster, &arguments);
    assert_eq!(code, Some(1), "{said}");
    let report: Value =
        serde_json::from_str(said.lines().find(|line| line.starts_with('{')).expect("a report")).unwrap();
    assert_eq!(report["failed"], json!(5), "it ended by itself, and not by its patience");
    assert_eq!(report["pool_size"], json!(3), "{said}");
    let (_, pool) = Process::output(&cluster, &["--json", "pool", "status"]);
    assert!(pool.contains("\"size\":2"), "as it was before: {pool}");
}

#[test]
fn bench_of_commands_that_is_interrupted_puts_the_pools_size_back() {
    let cluster = Cluster::builder().pool_size(2).start();
    let (client, patience) = (cluster.client(), std::time::Duration::from_secs(20));
    let size = || client.get("/v1/pool").ok()["size"].clone();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let arguments = ["bench", "exec", "--jobs", "100", "--pool-size", "3", "--", "/bin/sleep", "1"];
        let bench = Process::start(&cluster, "bench", &arguments);
        eventually("the pool is larger", patience, || (size() == 3).then_some(()));
        assert_eq!(bench.end_with(signal, patience), Some(code));
        assert_eq!(size(), 2, "as it was before");
    }
}

/// It may follow close upon the start of a node, which hears of the leader a moment later.
#[test]
fn bench_waits_for_a_leader() {
    let cluster = Cluster::builder().nodes(1).lay_out();
    let node = cluster.node(1);
    node.start_with(&[]);
    let client = cluster.client_of(node);
    let asked = || {
        let metrics = client.once(&node.api, &Call::get("/metrics")).ok()?.text;
        metrics
            .lines()
            .any(|line| line.starts_with("raftq_http_requests_total") && line.contains("/v1/cluster\""))
            .then_some(())
    };
    std::thread::scope(|scope| {
        let running =
            scope.spawn(|| bench(&cluster, &["submit", "--total", "5", "--in-flight", "1", "--warm-up", "0s"]));
        eventually("it asks who leads", std::time::Duration::from_secs(20), asked);
        client.call(Call::post("/v1/cluster/init", &json!({}))).ok();
        assert_eq!(running.join().expect("it ends well")["runs"][0]["missing"], json!(0));
    });
}
