//! README's examples, as they stand there.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::harness::Cluster;

/// A command of README, and what it says that it prints.
struct Example {
    command: String,
    printed: Vec<String>,
}

/// The commands of the console block that follows this heading.
fn examples(heading: &str) -> Vec<Example> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(path).expect("README is there");
    let (_, rest) = text.split_once(heading).expect("the heading is there");
    let (_, block) = rest.split_once("```console\n").expect("a block follows it");
    let (block, _) = block.split_once("```").expect("it ends");
    let mut examples: Vec<Example> = Vec::new();
    for line in block.replace("\\\n", " ").lines() {
        match line.strip_prefix("$ ") {
            Some(command) => examples.push(Example { command: command.to_owned(), printed: Vec::new() }),
            None => examples.last_mut().expect("a command comes first").printed.push(line.to_owned()),
        }
    }
    examples
}

/// Runs it as a client of the cluster, in the cluster's directory.
fn run(cluster: &Cluster, command: &str) -> Output {
    let binary = Path::new(env!("CARGO_BIN_EXE_raftq")).parent().expect("it lies in a directory");
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").expect("there is one"));
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(cluster.directory())
        .env("PATH", &path)
        .env("RAFTQ_SERVER", cluster.servers().join(","))
        .stdin(Stdio::null())
        .output()
        .expect("there is a shell");
    let printed = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    assert!(output.status.success(), "{command}: {}: {printed}", output.status);
    println!("$ {command}\n{printed}");
    output
}

#[test]
fn common_tasks_run_as_they_stand() {
    let cluster = Cluster::start();
    let examples = examples("Common tasks");
    assert!(examples.len() > 40, "{} are left", examples.len());
    for example in examples {
        run(&cluster, &example.command);
    }
}

#[test]
fn http_examples_run_as_they_stand() {
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("curl is not installed: its examples were not run");
        return;
    }
    let cluster = Cluster::start();
    let examples = examples("## HTTP");
    assert!(examples.len() > 10, "{} are left", examples.len());
    for Example { command, printed } in examples {
        let servers = ["127.0.0.1:7401", "127.0.0.1:7402", "127.0.0.1:7403"].into_iter().zip(cluster.servers());
        let command = servers.fold(command, |command, (theirs, ours)| command.replace(theirs, &ours));
        let answer = String::from_utf8(run(&cluster, &command).stdout).expect("text");
        if !printed.is_empty() {
            assert_eq!(answer.trim_end().lines().collect::<Vec<_>>(), printed, "{command}");
        }
        check_answer(&command, &answer);
    }
}

/// No refusal, of the whole or of a part.
fn check_answer(command: &str, answer: &str) {
    if command.contains("/v1/events") {
        return assert!(answer.contains("event: posted"), "{answer}");
    }
    let json: Value = serde_json::from_str(answer).unwrap_or_else(|error| panic!("{command}: {error}: {answer}"));
    assert!(json["error"].is_null(), "{command}: {answer}");
    let results = json["results"].as_array().into_iter().flatten();
    assert!(results.into_iter().all(|result| result["ok"] == true), "{command}: {answer}");
    let gives_jobs = ["/v1/claim", "claim\":", "filter="].iter().any(|part| command.contains(part));
    assert!(!gives_jobs || json["jobs"][0].is_object(), "{command} found no job: {answer}");
}
