//! `--env-inherit`: what stood in the submitter's environment reaches the command, whoever runs it.

use crate::harness::{Cluster, Process, World};

/// Two variables of the submitter's shell; the second one also stands in a flag.
const SHELL: [(&str, &str); 2] = [("FROM_SHELL", "a b"), ("IN_BOTH", "shell")];
/// The command's result is what it finds in its environment.
const SHOW: &str = r#"printf '"%s,%s,%s"' "$FROM_SHELL" "$IN_BOTH" "$FROM_FLAG" > "$RAFTQ_RESULT_FILE""#;

#[test]
fn environment_of_the_submitter_reaches_commands_of_the_pool_and_of_remote_workers() {
    let cluster = Cluster::start();
    let world = World::new(&cluster, "q");
    let _worker = Process::start(&cluster, "worker", &["worker", "--queue", "remote", "--slots", "1"]);
    let flags = ["-e", "IN_BOTH=flag", "-e", "FROM_FLAG=c", "--shell", SHOW];
    for queue in ["default", "remote"] {
        let submit = |more: &[&str]| {
            let arguments = [&["submit", "--wait", "--json", "-q", queue], more, &flags].concat();
            let (code, printed) = Process::output_with(&cluster, &SHELL, &arguments);
            assert_eq!(code, Some(0), "{queue}: {printed}");
            let first = printed.lines().next().unwrap_or_default();
            let id = serde_json::from_str::<serde_json::Value>(first).expect("JSON")["id"].as_u64().expect("an id");
            world.job(id)["ops"][0]["result"].clone()
        };
        assert_eq!(submit(&["--env-inherit"]), "a b,flag,c", "{queue}");
        assert_eq!(submit(&[]), ",flag,c", "{queue}: nothing is inherited unasked");
    }
}
