//! What is wrong ends in one clear sentence that says what to do, the right status or exit code, and nothing changed.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use ureq::http::Method;

use crate::harness::{Call, Cluster, Node, World, eventually};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn config_with_an_unknown_key_is_refused_by_name() {
    refuses_to_start(|node| append(node, "\n[raft]\n", "colour = \"red\"\n"), &["colour"]);
}

#[test]
fn config_without_its_own_member_is_refused() {
    let without = |node: &Node| {
        let text = fs::read_to_string(node.config_path()).expect("readable");
        fs::write(node.config_path(), text.replacen("id = 1\n", "id = 9\n", 1)).expect("writable");
    };
    refuses_to_start(without, &["9", "member"]);
}

#[test]
fn missing_member_is_named_and_no_cluster_is_formed_without_it() {
    let cluster = Cluster::builder().lay_out();
    let (first, missing) = (cluster.node(1), cluster.node(3));
    first.start();
    cluster.node(2).start();
    eventually("readiness names who is missing", SOON, || {
        let ready = cluster.client_of(first).once(&first.api, &Call::get("/readyz")).ok()?;
        (ready.status == 503 && ready.body["problem"].as_str()?.contains(&missing.peer)).then_some(())
    });
    let init = raftq(&["cluster", "init", "--server", &cluster.node(2).api]);
    assert_ne!(init.status.code(), Some(0), "{}", said(&init));
    assert_says(&said(&init), &["cannot reach", &missing.peer]);
    assert!(cluster.status(first)["cluster"].is_null(), "something was formed");
    missing.start();
    cluster.settle();
}

#[test]
fn port_in_use_is_told() {
    let cluster = Cluster::builder().nodes(1).lay_out();
    let node = cluster.node(1);
    let _taken = TcpListener::bind(&node.api).expect("the port was free");
    node.start();
    assert!(!node.wait_exit(SOON).success());
    assert_says(&node.log(), &[&node.api, "in use"]);
}

#[test]
fn data_directory_of_another_node_is_refused() {
    let cluster = Cluster::start();
    cluster.kill_all();
    let (first, second) = (cluster.node(1), cluster.node(2));
    let (mine, theirs) = (first.data_dir(), second.data_dir());
    let aside = cluster.directory().join("aside");
    fs::rename(&mine, &aside).expect("the directory is there");
    fs::rename(&theirs, &mine).expect("the directory is there");
    first.start();
    assert!(!first.wait_exit(SOON).success(), "node 1 started on the data of node 2");
    assert_says(&first.log(), &["node 2"]);
    fs::rename(&mine, &theirs).expect("moved back");
    fs::rename(&aside, &mine).expect("moved back");
}

#[test]
fn data_directory_of_another_cluster_is_refused_and_changes_nothing() {
    let (cluster, other) = (Cluster::start(), Cluster::start());
    let world = World::new(&cluster, "q");
    let id = world.submit(&world.task(1));
    let first = cluster.node(1);
    let own = cluster.status(first)["cluster"].clone();
    let theirs = other.status(other.node(1))["cluster"].clone();
    first.kill();
    other.kill_all();
    let (mine, aside) = (first.data_dir(), cluster.directory().join("aside"));
    fs::rename(&mine, &aside).expect("the directory is there");
    fs::rename(other.node(1).data_dir(), &mine).expect("the directory is there");
    first.start();
    assert_eq!(first.wait_exit(SOON).code(), Some(2));
    let (own, theirs) = (own.as_str().expect("formed"), theirs.as_str().expect("formed"));
    let directory = mine.display().to_string();
    assert_says(&first.log(), &[&directory, own, theirs, &cluster.node(2).peer, "[[member]]", "cluster replace"]);
    assert_eq!(world.status(id), "queued", "the others go on");
    // Nothing was changed: each directory still serves where it belongs.
    fs::rename(&mine, other.node(1).data_dir()).expect("moved back");
    fs::rename(&aside, &mine).expect("moved back");
    cluster.heal();
    other.heal();
    assert_eq!(other.status(other.node(1))["cluster"], theirs);
    assert_eq!(cluster.status(first)["cluster"], own);
}

#[test]
fn one_foreign_node_stops_no_node_and_is_told_by_those_without_a_leader() {
    let (cluster, other) = (Cluster::start(), Cluster::builder().nodes(1).start());
    let (first, second, third) = (cluster.node(1), cluster.node(2), cluster.node(3));
    // At the address of a member that is down answers somebody else; another member is down too.
    cluster.kill_all();
    other.kill_all();
    first.start();
    let stranger = other.node(1);
    stranger.start_with(&["--peer", &third.peer, "--advertise-peer", &stranger.peer]);
    eventually("the node without a leader says why", SOON, || {
        let ready = cluster.client_of(first).once(&first.api, &Call::get("/readyz")).ok()?;
        (ready.status == 503 && ready.body["problem"].as_str()?.contains(&third.peer)).then_some(())
    });
    let told = raftq(&["cluster", "status", "--server", &first.api]);
    assert_eq!(told.status.code(), Some(3), "{}", said(&told));
    assert_says(&said(&told), &[&third.peer, "belongs to cluster", "data_dir"]);
    // With a leader nobody cares, and nobody was stopped by it.
    second.start();
    cluster.wait_ready(second);
    cluster.wait_ready(first);
    let seen = cluster.status(first);
    assert!(seen["problem"].is_null(), "{seen}");
}

#[test]
fn unreadable_store_stops_its_node_and_nothing_is_deleted() {
    for store in ["log", "state"] {
        let cluster = Cluster::start();
        let (mut whole, mut flipped) = (Vec::new(), Vec::new());
        let node = cluster.spoil_one(|data_dir| {
            let damaged = manifest(&data_dir.join(store));
            whole = fs::read(&damaged).expect("readable");
            flipped = whole.iter().map(|byte| byte ^ 0x55).collect();
            fs::write(damaged, &flipped).expect("writable");
        });
        assert_says(&node.log(), &[store, "cluster replace"]);
        let damaged = manifest(&node.data_dir().join(store));
        assert_eq!(fs::read(&damaged).expect("still there"), flipped, "what could not be read was changed");
        fs::write(damaged, whole).expect("writable");
        cluster.heal();
    }
}

#[test]
fn store_of_a_newer_format_is_refused_and_nothing_is_changed() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let id = world.submit(&world.task(1));
    let node = cluster.followers()[0];
    node.kill();
    for store in ["log", "state/00000001"] {
        let path = node.data_dir().join(store);
        let today = change_format(&path, |format| format + 8);
        node.start();
        assert_eq!(node.wait_exit(SOON).code(), Some(2), "it started with a {store} store from the future");
        assert_says(&node.log(), &[store, "newer version", "run that version"]);
        let kept = change_format(&path, |_| today);
        assert_eq!(kept, today + 8, "what is not of this version was changed");
    }
    cluster.heal();
    assert_eq!(world.status(id), "queued");
}

#[test]
fn wrong_requests_are_told_apart_and_change_nothing() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let id = world.submit(&world.task(1));
    let version = world.job(id)["version"].clone();
    let json = ("content-type", "application/json");
    let post = |body: &[u8]| Call::new(Method::POST, "/v1/jobs").raw(body.to_vec()).header(json.0, json.1);
    let oversized = format!("{{\"jobs\": [{{\"body\": \"{}\"}}]}}", "x".repeat(17 << 20));
    let lone = |field: &str, value: Value| {
        let mut spec = world.task(1);
        spec[field] = value;
        Call::post("/v1/jobs", &json!({"jobs": [spec]}))
    };
    for (what, call, status, code, says) in [
        ("bad JSON", post(b"{\"jobs\": ["), 400, "invalid", "line 1"),
        ("no object", post(b"17"), 400, "invalid", ""),
        ("an unknown field", Call::post("/v1/jobs", &json!({"jobs": [], "colour": 1})), 400, "invalid", "colour"),
        ("an unknown query field", Call::get("/v1/jobs?colour=red"), 400, "invalid", "colour"),
        ("an oversized body", post(oversized.as_bytes()), 413, "too_large", ""),
        (
            "a wrong content type",
            Call::new(Method::POST, "/v1/jobs").raw(b"{}".to_vec()).header(json.0, "text/plain"),
            415,
            "unsupported_media_type",
            "application/json",
        ),
        ("an unknown job", Call::get("/v1/jobs/987654321"), 404, "not_found", "987654321"),
        ("an id that is no number", Call::get("/v1/jobs/seven"), 400, "invalid", "whole number"),
        ("an unknown path", Call::get("/v1/nothing"), 404, "not_found", ""),
        ("a wrong method", Call::new(Method::DELETE, "/v1/claim"), 405, "", ""),
        ("a foreign host", Call::get("/v1/jobs").header("host", "evil.example"), 403, "forbidden", ""),
        ("a foreign origin", post(b"{}").header("origin", "http://evil.example"), 403, "forbidden", ""),
    ] {
        let answer = world.client.call(call);
        assert_eq!(answer.status, status, "{what}: {}", answer.text);
        assert!(code.is_empty() || answer.code() == code, "{what}: {}", answer.text);
        assert!(answer.text.contains(says), "{what} is not named: {}", answer.text);
    }
    for (field, value) in [
        ("colour", json!("red")),
        ("priority", json!("urgentest")),
        ("queue", json!("-x")),
        ("retries", json!(-1)),
        ("lease_ms", json!(99)),
        ("on_failure", json!("panic")),
        ("meta", json!(17)),
    ] {
        let result = world.client.call(lone(field, value)).body["results"][0].clone();
        assert_eq!(result["error"]["code"], "invalid", "{field}: {result}");
        assert!(result.to_string().contains(field), "{field} is not named: {result}");
    }
    assert_eq!(world.client.list("queue=q").len(), 1);
    assert_eq!(world.job(id)["version"], version);
    assert_eq!(world.submit(&world.task(1)), id + 1, "a refused request used up an id");
}

#[test]
fn command_line_tells_usage_from_absence() {
    let unknown = raftq(&["frobnicate"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", said(&unknown));
    assert_says(&said(&unknown), &["frobnicate"]);

    let nothing = format!("127.0.0.1:{}", unused_port());
    let unreachable = raftq(&["list", "--server", &nothing]);
    assert_eq!(unreachable.status.code(), Some(3), "{}", said(&unreachable));
    assert_says(&said(&unreachable), &[&nothing]);

    let missing = raftq(&["node", "--config", "no-such-file.toml"]);
    assert!(!missing.status.success());
    assert_says(&said(&missing), &["no-such-file.toml"]);
}

#[test]
fn errors_are_json_where_json_is_asked_for() {
    let cluster = Cluster::builder().nodes(1).start();
    let (servers, nothing) = (cluster.servers().join(","), format!("127.0.0.1:{}", unused_port()));
    let peer = cluster.node(1).peer.clone();
    for (arguments, exit, code, says) in [
        (&["show", "99"][..], 1, "not_found", "99"),
        (&["pool", "resize", "9999999"], 2, "invalid", "size"),
        (&["list", "--server", &nothing], 3, "unreachable", &nothing),
        (&["cluster", "add", "9", "--api", &nothing, "--peer", &nothing], 3, "unavailable", &nothing),
        (&["cluster", "add", "9", "--api", &nothing, "--peer", &peer], 1, "conflict", "node 1"),
        (&["cluster", "add", "9", "--api", "nowhere", "--peer", "nowhere"], 2, "invalid", "HOST:PORT"),
        (&["list", "--server", "nowhere"], 2, "usage", "nowhere"),
        (&["wait"], 2, "usage", "<ID>"),
        (&["frobnicate"], 2, "usage", "frobnicate"),
        (&["node", "--config", "no-such-file.toml"], 2, "usage", "no-such-file.toml"),
    ] {
        let output = raftq_at(&servers, &[&["--json"], arguments].concat());
        assert_eq!((output.status.code(), output.stdout.len()), (Some(exit), 0), "{arguments:?}: {}", said(&output));
        let [line] = &json_lines(&output)[..] else { panic!("{arguments:?}: not one line: {}", said(&output)) };
        let error = &line["error"];
        assert!(error["code"] == code && error["details"].is_object(), "{arguments:?}: {line}");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(says)), "{arguments:?}: {line}");
    }
    let several = raftq_at(&servers, &["--json", "show", "98", "99"]);
    let jobs: Vec<Value> = json_lines(&several).into_iter().map(|line| line["job"].clone()).collect();
    assert_eq!((several.status.code(), jobs), (Some(1), vec![json!(98), json!(99)]));
    let text = raftq_at(&servers, &["show", "99"]);
    assert!(said(&text).starts_with("raftq: "), "{}", said(&text));
}

/// What was said on standard error.
fn json_lines(output: &Output) -> Vec<Value> {
    let lines = output.stderr.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap_or_else(|_| panic!("no JSON: {}", said(output)))).collect()
}

/// Changes node 1's configuration, and asserts that it says so and leaves no data behind.
#[track_caller]
fn refuses_to_start(spoil: impl Fn(&Node), says: &[&str]) {
    let cluster = Cluster::builder().lay_out();
    let node = cluster.node(1);
    spoil(node);
    node.start();
    assert!(!node.wait_exit(SOON).success(), "it started");
    assert_says(&node.log(), says);
    assert!(!node.data_dir().exists(), "a refused configuration left data behind");
}

/// The file without which RocksDB knows of no other, somewhere below a store.
fn manifest(below: &Path) -> PathBuf {
    let entries = fs::read_dir(below).expect("the store is there").map(|entry| entry.expect("readable").path());
    let mut paths: Vec<PathBuf> = entries.collect();
    paths.sort();
    let is_manifest =
        |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST"));
    match paths.iter().rev().find(is_manifest) {
        Some(path) => path.clone(),
        None => manifest(paths.iter().rfind(|path| path.is_dir()).expect("a store lies below")),
    }
}

/// Rewrites the number of a store's layout, as another version would have written it; gives what it was.
fn change_format(path: &Path, change: impl Fn(u8) -> u8) -> u8 {
    const KEY: &[u8] = b"identity";
    /// Behind the byte that says how the record is encoded; small numbers are one byte.
    const AT: usize = 1;
    let options = rocksdb::Options::default();
    let families = rocksdb::DB::list_cf(&options, path).expect("the store is there");
    let store = rocksdb::DB::open_cf(&options, path, families).expect("nobody has it open");
    let meta = store.cf_handle("meta").expect("every store has this family");
    let mut record = store.get_cf(meta, KEY).expect("readable").expect("every store says who it is");
    let was = record[AT];
    record[AT] = change(was);
    store.put_cf(meta, KEY, record).expect("writable");
    was
}

fn append(node: &Node, section: &str, line: &str) {
    let text = fs::read_to_string(node.config_path()).expect("readable");
    let (before, after) = text.split_once(section).expect("the configuration has this section");
    fs::write(node.config_path(), format!("{before}{section}{line}{after}")).expect("writable");
}

#[track_caller]
fn assert_says(text: &str, words: &[&str]) {
    let lower = text.to_lowercase();
    let missing: Vec<_> = words.iter().filter(|word| !lower.contains(&word.to_lowercase())).collect();
    assert!(missing.is_empty(), "it does not say {missing:?}: {text}");
}

fn unused_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address").port()
}

/// Runs the command line without a cluster.
fn raftq(arguments: &[&str]) -> Output {
    command(arguments).env_remove("RAFTQ_SERVER").output().expect("the binary can be started")
}

fn raftq_at(servers: &str, arguments: &[&str]) -> Output {
    command(arguments).env("RAFTQ_SERVER", servers).output().expect("the binary can be started")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raftq"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
