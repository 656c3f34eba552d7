//! Commands that end by themselves.

use super::*;
use raftq::worker::Progress;

#[tokio::test]
async fn exit_codes_have_their_reasons() {
    let bench = Bench::new();
    for (line, reason, exit_code) in [
        ("exit 1", Reason::ExitNonzero, 1),
        ("exit 255", Reason::ExitNonzero, 255),
        ("exit 126", Reason::NotExecutable, 126),
        ("exit 127", Reason::NotFound, 127),
        ("exit 128", Reason::InvalidExit, 128),
        ("no-such-command-here", Reason::NotFound, 127),
        ("/etc/passwd", Reason::NotExecutable, 126),
    ] {
        let report = bench.shell(line).await;
        failed(&report, reason);
        assert_eq!((report.exit_code, report.started), (Some(exit_code), true), "{line}");
    }
    let report = bench.shell("true").await;
    succeeded(&report);
    assert_eq!(report.exit_code, Some(0));
    bench.end().await;
}

/// Scenario 23. Where there is no bash there is no pipefail either.
#[tokio::test]
async fn failure_within_a_pipeline_is_a_failure() {
    let bench = Bench::new();
    let report = bench.shell("true | false | true").await;
    if report.shell.as_deref().unwrap().contains("pipefail") {
        failed(&report, Reason::ExitNonzero);
    }
    bench.end().await;
}

#[tokio::test]
async fn signal_that_nobody_sent_is_a_failure_by_signal() {
    let bench = Bench::new();
    let report = bench.shell("kill -SEGV $$").await;
    failed(&report, Reason::Signal);
    assert_eq!((report.exit_code, report.error.as_deref()), (None, Some("ended by signal 11")));
    bench.end().await;
}

#[tokio::test]
async fn programs_that_cannot_run_have_the_reasons_a_shell_gives() {
    let bench = Bench::new();
    let directory = bench.directory.path();
    fs::write(directory.join("plain"), "#!/bin/sh\n").unwrap();
    for (argv, reason, exit_code) in [
        (json!(["no-such-program-here"]), Reason::NotFound, 127),
        (json!(["./no-such-program-here"]), Reason::NotFound, 127),
        (json!(["./plain"]), Reason::NotExecutable, 126),
        (json!(["plain"]), Reason::NotExecutable, 126),
        (json!(["/"]), Reason::NotExecutable, 126),
    ] {
        let report = bench.run(json!({"argv": argv, "cwd": directory, "env": {"PATH": "."}})).await;
        failed(&report, reason);
        assert_eq!((report.exit_code, report.started, report.pid), (Some(exit_code), true, None), "{argv}");
        assert!(report.error.is_some());
    }
    bench.end().await;
}

/// Scenario 24.
#[tokio::test]
async fn what_prevents_a_start_is_no_attempt() {
    let bench = Bench::new();
    for (args, reason) in [
        (json!({"argv": ["true"], "cwd": "/no/such/directory"}), Reason::CwdMissing),
        (json!({"argv": ["true"], "cwd": "/etc/passwd"}), Reason::CwdMissing),
        (json!({"argv": ["true"], "stdin_file": "/no/such/file"}), Reason::EnvInvalid),
        (json!({"argv": ["true"], "stdin_file": "/dev"}), Reason::EnvInvalid),
        (json!({"argv": ["true", "x".repeat(200_000)]}), Reason::EnvInvalid),
        (json!({"argv": ["true"], "unknown": 1}), Reason::EnvInvalid),
    ] {
        let report = bench.run(args).await;
        failed(&report, reason);
        assert_eq!((report.exit_code, report.started), (None, false));
    }
    let unknown = report_of(&bench.runner.run(bench.task("print", json!({})))).await;
    failed(&unknown, Reason::EnvInvalid);
    bench.end().await;
}

/// Scenario 27.
#[tokio::test]
async fn long_output_of_a_failure_keeps_both_ends() {
    let bench = Bench::new();
    let line = "for n in $(seq 60); do for i in $(seq 130); do printf %s $n; done; echo p; done";
    let report = bench.shell(&format!("{line}; exit 1")).await;
    assert_eq!(report.stdout.len(), 2 * 4096 + "\n... omitting 6358 bytes ...\n".len());
    assert!(report.stdout.starts_with(&"1".repeat(130)) && report.stdout.contains("\n... omitting 6358 bytes ...\n"));
    let success = bench.shell(line).await;
    assert_eq!(success.stdout.len(), 4096);
    let mut kept = bench.task("exec", json!({ "shell": line }));
    kept.keep_output = true;
    assert_eq!(report_of(&bench.runner.run(kept)).await.stdout, report.stdout);
    bench.end().await;
}

#[tokio::test]
async fn output_streams_are_kept_apart() {
    let bench = Bench::new();
    let report = bench.shell("echo out; echo err >&2; printf '\\377'").await;
    assert_eq!((report.stdout.as_str(), report.stderr.as_str()), ("out\n\u{fffd}", "err\n"));
    bench.end().await;
}

#[tokio::test]
async fn endless_output_without_newline_costs_no_memory() {
    let bench = Bench::new();
    let report =
        bench.shell("head -c 100000000 /dev/zero | tr '\\0' x; echo; grep VmHWM /proc/$PPID/status; exit 1").await;
    let words: Vec<&str> = report.stdout.split_ascii_whitespace().collect();
    let omitted: u64 = words[words.iter().position(|word| *word == "omitting").unwrap() + 1].parse().unwrap();
    assert!((100_000_000 - 8192..100_000_100).contains(&omitted), "{omitted}");
    let supervisor_kib: u64 = words[words.len() - 2].parse().unwrap();
    assert!(supervisor_kib < 64 * 1024, "{supervisor_kib} KiB");
    bench.end().await;
}

#[tokio::test]
async fn command_sees_a_clean_environment_and_its_own() {
    let bench = Bench::new();
    let names = bench.run(json!({"argv": ["env"], "env": {"MINE": "1", "RAFTQ_JOB_ID": "forged"}})).await;
    let mut names: Vec<&str> = names.stdout.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.sort_unstable();
    let expected = "HOME LANG MINE PATH RAFTQ_ATTEMPT RAFTQ_CHECKPOINT_FILE RAFTQ_JOBS_FILE RAFTQ_JOB_ID RAFTQ_LEASE \
                    RAFTQ_OP RAFTQ_RESULTS_FILE RAFTQ_RESULT_FILE RAFTQ_SERVER RAFTQ_SUPERVISOR";
    assert_eq!(names.join(" "), expected);
    let line =
        "echo $RAFTQ_SERVER $RAFTQ_JOB_ID $RAFTQ_OP $RAFTQ_ATTEMPT $RAFTQ_LEASE; pwd; cat; ls /proc/self/fd | wc -l";
    let report = bench.run(json!({"shell": line, "cwd": "/usr", "env": {"RAFTQ_JOB_ID": "forged"}})).await;
    // Three streams, and the directory that ls reads.
    assert_eq!(report.stdout, "127.0.0.1:7401 17 2 3 2\n/usr\n4\n");
    bench.end().await;
}

#[tokio::test]
async fn command_yields_to_the_node() {
    let bench = Bench::new();
    let own = |file: &str| fs::read_to_string(format!("/proc/self/{file}")).unwrap().trim().parse::<i32>().unwrap();
    let report = bench.shell("cat /proc/self/oom_score_adj; nice; cat /proc/self/stat | cut -d' ' -f5").await;
    let numbers: Vec<i32> = report.stdout.lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers[0] > own("oom_score_adj"), "{numbers:?}");
    // The shell is lowered right after its start, and may have been quicker.
    assert!(numbers[1] >= 0, "{numbers:?}");
    assert_eq!(Some(numbers[2]), report.pid, "its own process group");
    bench.end().await;
}

#[tokio::test]
async fn stdin_comes_from_the_file_it_names() {
    let bench = Bench::new();
    fs::write(bench.directory.path().join("input"), "hello").unwrap();
    let report = bench.run(json!({"argv": ["cat"], "cwd": bench.directory.path(), "stdin_file": "input"})).await;
    assert_eq!(report.stdout, "hello");
    bench.end().await;
}

/// Scenario 15, the worker's part.
#[tokio::test]
async fn files_of_a_success_become_result_and_jobs() {
    let bench = Bench::new();
    let line = r#"echo '{"a": 1}' > $RAFTQ_RESULT_FILE; printf '{"sleep": 1}\n\nnonsense\n' > $RAFTQ_JOBS_FILE; exit "#;
    let report = bench.shell(&format!("{line} 0")).await;
    succeeded(&report);
    assert_eq!((report.result.as_deref(), report.jobs.len()), (Some("{\"a\": 1}\n"), 2));
    let report = bench.shell(&format!("{line} 1")).await;
    failed(&report, Reason::ExitNonzero);
    assert_eq!((report.result.as_deref(), report.jobs.len()), (None, 0));
    let report = bench.shell("echo '{' > $RAFTQ_RESULT_FILE").await;
    failed(&report, Reason::InvalidExit);
    assert!(report.error.as_deref().unwrap().starts_with("result file: "));
    failed(&bench.shell("head -c 2000000 /dev/zero > $RAFTQ_JOBS_FILE").await, Reason::InvalidExit);
    failed(&bench.shell("mkfifo $RAFTQ_RESULT_FILE").await, Reason::InvalidExit);
    bench.end().await;
}

#[tokio::test]
async fn checkpoint_is_given_on() {
    let bench = Bench::new();
    let mut task =
        bench.task("exec", json!({"shell": "cat $RAFTQ_CHECKPOINT_FILE; echo next > $RAFTQ_CHECKPOINT_FILE; exit 1"}));
    task.checkpoint = Some(b"before".to_vec());
    let handle = bench.runner.run(task);
    let report = report_of(&handle).await;
    assert_eq!((report.stdout.as_str(), handle.take_updates().checkpoint), ("before", Some(b"next\n".to_vec())));
    bench.end().await;
}

#[tokio::test]
async fn lines_to_raftq_and_live_output_are_there_while_it_runs() {
    let bench = Bench::new();
    let line = "echo visible; echo '::raftq log one'; echo '::raftq progress 0.4 half'; echo cp > $RAFTQ_CHECKPOINT_FILE; \
                echo bad >&2; sleep 1000";
    let handle = bench.start(json!({ "shell": line }));
    let mut log = Vec::new();
    let (mut progress, mut checkpoint) = (None, None);
    while checkpoint.is_none() || progress.is_none() {
        tokio::time::timeout(PATIENCE, handle.updated()).await.expect("there are updates");
        let updates = handle.take_updates();
        log.extend(updates.log);
        progress = updates.progress.or(progress);
        checkpoint = updates.checkpoint.or(checkpoint);
    }
    assert_eq!((log, checkpoint), (vec!["one".to_owned()], Some(b"cp\n".to_vec())));
    assert_eq!(progress, Some(Progress { fraction: 0.4, text: "half".into() }));
    let tail = handle.tail().await.unwrap();
    assert!(tail.stdout.starts_with("visible\n"), "{tail:?}");
    assert_eq!(tail.stderr, "bad\n");
    handle.cancel(raftq::worker::Cancel::Kill);
    report_of(&handle).await;
    assert_eq!(handle.take_updates().checkpoint, None, "it was told before");
    assert_eq!(handle.tail().await, None);
    bench.end().await;
}

#[tokio::test]
async fn work_of_the_whole_tree_is_measured() {
    let bench = Bench::new();
    let burn = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
    let report = bench.shell(&format!("(bash -c '{burn}') & ({burn}) & wait")).await;
    assert!(report.cpu_ms >= 50 && report.wall_ms >= 30, "{report:?}");
    // Held for longer than it takes until the tree is looked at, by two processes.
    let hold = "x=$(head -c 30000000 /dev/zero | tr '\\0' x); sleep 1";
    let report = bench.shell(&format!("({hold}) & ({hold}) & wait")).await;
    assert!((45..1000).contains(&report.peak_ram_mb), "{report:?}");
    bench.end().await;
}

/// A loop that is woken by what it does not handle, as by the end of a pipe that is closed already, shows here.
#[tokio::test]
async fn command_that_says_nothing_costs_nothing() {
    let bench = Bench::new();
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", bench.supervisor)).unwrap();
        let fields: Vec<u64> =
            stat.rsplit(") ").next().unwrap().split(' ').map(|field| field.parse().unwrap_or(0)).collect();
        fields[11] + fields[12]
    };
    let silent = bench.start(json!({"shell": "exec >&- 2>&-; sleep 1000"}));
    let before = ticks();
    succeeded(&bench.shell("sleep 1").await);
    let used = ticks() - before;
    assert!(used < 30, "{used} hundredths of a second");
    silent.cancel(raftq::worker::Cancel::Kill);
    report_of(&silent).await;
    bench.end().await;
}

#[tokio::test]
async fn a_hundred_commands_at_once_mix_nothing_up() {
    let bench = Bench::new();
    let handles: Vec<Handle> =
        (0..100).map(|n| bench.start(json!({"shell": format!("sleep 0.2; echo {n}; exit {}", n % 2)}))).collect();
    for (n, handle) in handles.iter().enumerate() {
        let report = report_of(handle).await;
        assert_eq!((report.stdout.as_str(), report.exit_code), (format!("{n}\n").as_str(), Some(n as i32 % 2)));
    }
    assert_eq!(bench.runner.running(), 0);
    bench.end().await;
}

#[tokio::test]
async fn sleep_takes_its_time_and_no_process() {
    let bench = Bench::new();
    let started = Instant::now();
    let report = report_of(&bench.runner.run(bench.task("sleep", json!({"seconds": 0.2})))).await;
    succeeded(&report);
    assert!(started.elapsed() >= Duration::from_millis(200) && report.wall_ms >= 200, "{report:?}");
    assert_eq!(report.pid, None);
    bench.end().await;
}

#[tokio::test]
async fn lease_that_runs_already_is_refused() {
    let bench = Bench::new();
    let first = bench.runner.run(task(5, "sleep", json!({"seconds": 1000})));
    let second = bench.runner.run(task(5, "exec", json!({"argv": ["true"]})));
    failed(&report_of(&second).await, Reason::StartFailed);
    first.cancel(raftq::worker::Cancel::Term);
    failed(&report_of(&first).await, Reason::Killed);
    bench.end().await;
}
