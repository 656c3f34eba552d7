//! README's common tasks, as they stand there.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::harness::Cluster;

/// The commands of the console block that follows this heading.
fn commands(heading: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(path).expect("README is there");
    let (_, rest) = text.split_once(heading).expect("the heading is there");
    let (_, block) = rest.split_once("```console\n").expect("a block follows it");
    let (block, _) = block.split_once("```").expect("it ends");
    block.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect()
}

#[test]
fn common_tasks_run_as_they_stand() {
    let cluster = Cluster::start();
    let binary = Path::new(env!("CARGO_BIN_EXE_raftq")).parent().expect("it lies in a directory");
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").expect("there is one"));
    let commands = commands("Common tasks");
    assert!(commands.len() > 30, "{commands:?}");
    for command in commands {
        let output = Command::new("sh")
            .args(["-c", &command])
            .current_dir(cluster.directory())
            .env("PATH", &path)
            .env("RAFTQ_SERVER", cluster.servers().join(","))
            .stdin(Stdio::null())
            .output()
            .expect("there is a shell");
        let printed = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(output.status.success(), "{command}: {}: {printed}", output.status);
        println!("$ {command}\n{printed}");
    }
}
