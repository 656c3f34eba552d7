//! Commands that are stopped: by users, by limits, by what they leave behind, by loss of the right to run.

use super::*;
use raftq::worker::Cancel;

/// Each lives on after its shell has ended; the report waits until it is gone.
#[tokio::test]
async fn report_is_made_when_the_whole_tree_is_gone() {
    let bench = Bench::new();
    for (name, line, _) in escapes(&unique()) {
        let token = unique();
        let line = escapes(&token).into_iter().find(|escape| escape.0 == name).map_or(line, |escape| escape.1);
        let report = bench.shell(&line).await;
        succeeded(&report);
        none_lives(&token, name);
    }
    bench.end().await;
}

/// Daemons change session and program while they are orphaned, and are not to be taken for strays in between.
#[tokio::test]
async fn daemon_lives_as_long_as_its_job() {
    let bench = Bench::new();
    let line = |n| format!("(setsid setsid sh -c 'exec sh -c \"sleep 0.5; echo {n}\"' &); sleep 1.5");
    let handles: Vec<Handle> = (0..40).map(|n| bench.start(json!({"shell": line(n)}))).collect();
    for (n, handle) in handles.iter().enumerate() {
        assert_eq!(report_of(handle).await.stdout, format!("{n}\n"));
    }
    bench.end().await;
}

#[tokio::test]
async fn orphans_of_one_job_do_not_hold_up_another() {
    let bench = Bench::with(|options| options.grace_ms = 15_000);
    let token = unique();
    let long = bench.start(json!({"shell": format!("(setsid sleep {token} &); sleep {token}; exit 0")}));
    until_async("it runs", || living(&token).len() == 3).await;
    for _ in 0..20 {
        let started = Instant::now();
        succeeded(&bench.shell("sleep 0.01").await);
        assert!(started.elapsed() < Duration::from_secs(10), "shorter than the grace of leftovers");
    }
    assert_eq!(living(&token).len(), 3);
    long.cancel(Cancel::Kill);
    failed(&report_of(&long).await, Reason::Killed);
    none_lives(&token, "");
    bench.end().await;
}

/// Scenario 31, the worker's part.
#[tokio::test]
async fn cancel_asks_first() {
    let bench = Bench::with(|options| options.grace_ms = 600_000);
    let line = "trap 'echo bye; exit 0' TERM; echo ready; sleep 1000 & wait";
    let handle = bench.start(json!({ "shell": line }));
    until_output(&handle, "ready").await;
    handle.cancel(Cancel::Term);
    let report = report_of(&handle).await;
    failed(&report, Reason::Killed);
    assert_eq!((report.stdout.as_str(), report.exit_code), ("ready\nbye\n", Some(0)));
    bench.end().await;
}

#[tokio::test]
async fn cancel_kills_after_the_grace() {
    let bench = Bench::with(|options| options.grace_ms = 700);
    let deaf = bench.start(json!({"shell": "trap '' TERM; echo ready; sleep 1000; sleep 1000"}));
    until_output(&deaf, "ready").await;
    let started = Instant::now();
    deaf.cancel(Cancel::Term);
    failed(&report_of(&deaf).await, Reason::Killed);
    assert!(started.elapsed() >= Duration::from_millis(700), "{:?}", started.elapsed());
    bench.end().await;
}

#[tokio::test]
async fn cancel_is_sharpened_by_kill() {
    let bench = Bench::with(|options| options.grace_ms = 600_000);
    let deaf = bench.start(json!({"shell": "trap '' TERM; echo ready; sleep 1000; sleep 1000"}));
    until_output(&deaf, "ready").await;
    deaf.cancel(Cancel::Term);
    deaf.cancel(Cancel::Kill);
    failed(&report_of(&deaf).await, Reason::Killed);
    bench.end().await;
}

#[tokio::test]
async fn cancel_right_after_run_is_not_lost() {
    let bench = Bench::new();
    for _ in 0..20 {
        let handle = bench.start(json!({"argv": ["sleep", "1000"]}));
        handle.cancel(Cancel::Kill);
        failed(&report_of(&handle).await, Reason::Killed);
    }
    bench.end().await;
}

#[tokio::test]
async fn time_limit_ends_it_with_its_children() {
    let bench = Bench::new();
    let token = unique();
    let report = bench.run(json!({"shell": format!("sleep {token} | sleep {token}"), "timeout_s": 0.3})).await;
    failed(&report, Reason::Time);
    assert!((300..5000).contains(&report.wall_ms), "{report:?}");
    none_lives(&token, "");
    let quick = bench.run(json!({"argv": ["true"], "timeout_s": 30})).await;
    succeeded(&quick);
    bench.end().await;
}

#[tokio::test]
async fn memory_limit_counts_the_whole_tree() {
    let bench = Bench::new();
    // Something after `sleep`: a shell becomes its last command, and would let go of what it holds.
    let hold = "x=$(head -c 40000000 /dev/zero | tr '\\0' x); sleep 1000; echo $x";
    let report = bench.run(json!({"shell": format!("({hold}) & ({hold}) & wait"), "max_ram_mb": 60})).await;
    failed(&report, Reason::Ram);
    assert!(report.peak_ram_mb > 60, "{report:?}");
    bench.end().await;
}

/// Needs are exceeded freely while there is enough for all.
#[tokio::test]
async fn machine_short_of_memory_ends_who_is_furthest_over_its_needs() {
    let directory = tempfile::tempdir().unwrap();
    let meminfo = directory.path().join("meminfo");
    let available = |kb: u64| fs::write(&meminfo, format!("MemTotal: 32000000 kB\nMemAvailable: {kb} kB\n")).unwrap();
    available(16_000_000);
    let bench = Bench::with(|options| options.meminfo.clone_from(&meminfo));
    let holding = |megabytes: u64, needs_ram_mb: u64| {
        let hold = format!("x=$(head -c {megabytes}000000 /dev/zero | tr '\\0' x); echo ready; sleep 1000; echo $x");
        bench.runner.run(Task { needs_ram_mb, ..bench.task("exec", json!({ "shell": hold })) })
    };
    let (within, small, over) = (holding(150, 4_000), holding(1, 0), holding(100, 10));
    for handle in [&within, &small, &over] {
        until_output(handle, "ready").await;
    }
    succeeded(&bench.shell("sleep 0.6").await);
    assert_eq!(bench.runner.running(), 3, "there is enough for all");
    available(900_000);
    let report = report_of(&over).await;
    failed(&report, Reason::Ram);
    assert!(
        report.peak_ram_mb >= 95 && report.error.as_deref().is_some_and(|text| text.contains("short")),
        "{report:?}"
    );
    succeeded(&bench.shell("sleep 0.6").await);
    assert_eq!(bench.runner.running(), 2, "the others have what they need, or too little to matter");
    bench.runner.kill_everything(Duration::ZERO).await.unwrap();
    bench.end().await;
}

#[tokio::test]
async fn fork_bomb_is_ended() {
    let bench = Bench::new();
    let token = unique();
    // Bounded by the number of generations, so that a failure of this test does not take the machine with it.
    let bomb = format!("f() {{ [ $1 -gt 9 ] || {{ f $(($1+1)) & f $(($1+1)) & }}; sleep {token}; }}; f 0");
    let handle = bench.start(json!({ "shell": bomb }));
    until_async("it breeds", || living(&token).len() > 50).await;
    handle.cancel(Cancel::Kill);
    failed(&report_of(&handle).await, Reason::Killed);
    none_lives(&token, "");
    bench.end().await;
}

/// Everything at once, each with its own end, on a machine that is thereby busy.
#[tokio::test]
async fn many_that_are_stopped_in_every_way_leave_nothing() {
    let bench = Bench::with(|options| options.grace_ms = 300);
    let token = unique();
    let escapes = escapes(&token);
    let handles: Vec<Handle> = (0..150)
        .map(|n| {
            let stay = if n % 3 == 0 { format!("sleep {token}") } else { format!("sleep 0.{}", n % 7) };
            let line = format!("{}; {stay}", escapes[n % escapes.len()].1.trim_end_matches('&'));
            bench.start(json!({"shell": line, "timeout_s": 0.1 * (1 + n % 20) as f64}))
        })
        .collect();
    for (n, handle) in handles.iter().enumerate() {
        match n % 5 {
            0 => handle.cancel(Cancel::Kill),
            1 => handle.cancel(Cancel::Term),
            _ => {}
        }
    }
    for handle in &handles {
        let report = report_of(handle).await;
        let stopped = [Outcome::Success, Outcome::Failure(Reason::Killed), Outcome::Failure(Reason::Time)];
        assert!(stopped.contains(&report.outcome), "{report:?}");
    }
    none_lives(&token, "");
    succeeded(&bench.shell("true").await);
    bench.end().await;
}

#[tokio::test]
async fn kill_everything_returns_when_all_is_gone() {
    let bench = Bench::new();
    let tokens: Vec<String> = (0..10).map(|_| unique()).collect();
    let mut handles: Vec<Handle> = tokens
        .iter()
        .map(|token| bench.start(json!({"shell": format!("trap '' TERM; sleep {token}; sleep {token}")})))
        .collect();
    handles.push(bench.runner.run(bench.task("sleep", json!({"seconds": 1000}))));
    until_async("all run", || tokens.iter().all(|token| living(token).len() == 2)).await;
    // One more that is not even sent when the order comes.
    handles.push(bench.start(json!({"argv": ["sleep", "1000"]})));
    bench.runner.kill_everything(Duration::from_millis(200)).await.unwrap();
    assert!(tokens.iter().all(|token| living(token).is_empty()));
    for handle in handles {
        failed(&report_of(&handle).await, Reason::Interrupted);
    }
    succeeded(&bench.shell("true").await);
    bench.end().await;
}

/// Scenario 20, the worker's part: the supervisor acts alone.
#[tokio::test]
async fn commands_end_when_the_proof_of_leadership_runs_out() {
    let directory = tempfile::tempdir().unwrap();
    let runner = Runner::new(Supervisor::start(options(directory.path().into())).unwrap());
    let early = runner.run(task(1, "exec", json!({"argv": ["true"]})));
    let report = report_of(&early).await;
    failed(&report, Reason::Interrupted);
    assert!(!report.started);

    let token = unique();
    let runs_out = Boottime::now().after_ms(1500);
    runner.alive(runs_out);
    let deaf = runner.run(task(2, "exec", json!({"shell": format!("trap '' TERM; sleep {token}; sleep {token}")})));
    let sleeping = runner.run(task(3, "sleep", json!({"seconds": 1000})));
    until_async("it runs", || living(&token).len() == 2).await;
    failed(&report_of(&deaf).await, Reason::Interrupted);
    none_lives(&token, "");
    let late_ms = Boottime::now().ms_since(runs_out);
    // KILL comes after the grace. How late it may be is a matter of how busy the machine is.
    assert!(late_ms >= 200, "{late_ms} ms");
    failed(&report_of(&sleeping).await, Reason::Interrupted);

    runner.alive(Boottime::now().after_ms(60_000));
    succeeded(&report_of(&runner.run(task(4, "exec", json!({"argv": ["true"]})))).await);
    runner.stop().await;
}

/// A stall of the supervisor alone takes nothing from a command whose right was renewed meanwhile.
#[tokio::test]
async fn proof_that_waited_in_the_socket_counts() {
    let directory = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::start(options(directory.path().into())).unwrap();
    let pid = nix::unistd::Pid::from_raw(supervisor.pid() as i32);
    let runner = Runner::new(supervisor);
    let runs_out = Boottime::now().after_ms(3000);
    runner.alive(runs_out);
    // With output, so that there is more to do than to read the socket when it goes on.
    let line = "trap '' TERM; while :; do echo; read -t 0.05 < <(:) ; done";
    let handles: Vec<Handle> =
        (1..=10).map(|lease| runner.run(task(lease, "exec", json!({ "shell": line })))).collect();
    until_async("all run", || handles.iter().all(|handle| handle.pid().is_some())).await;
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    runner.alive(Boottime::now().after_ms(600_000));
    until_async("the first proof has run out", || Boottime::now() > runs_out.after_ms(100)).await;
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).unwrap();
    assert!(handles[0].tail().await.is_some());
    assert_eq!(runner.running(), handles.len());
    runner.kill_everything(Duration::ZERO).await.unwrap();
    runner.stop().await;
}

/// Scenario 19, the worker's part.
#[tokio::test]
async fn command_ends_with_its_own_lease() {
    let bench = Bench::new();
    let leased = |lease, ms| {
        let mut task = task(lease, "exec", json!({"argv": ["sleep", "1000"]}));
        task.proof = Proof::Lease(Boottime::now().after_ms(ms));
        bench.runner.run(task)
    };
    let (left, extended) = (leased(1001, 400), leased(1002, 400));
    bench.runner.extend(LeaseId(1002), Boottime::now().after_ms(60_000));
    failed(&report_of(&left).await, Reason::Interrupted);
    assert!(extended.pid().is_some() && bench.runner.running() == 1);
    extended.cancel(Cancel::Term);
    failed(&report_of(&extended).await, Reason::Killed);
    bench.end().await;
}

async fn until_output(handle: &Handle, text: &str) {
    let give_up = Instant::now() + PATIENCE;
    while !handle.tail().await.is_some_and(|tail| tail.stdout.contains(text)) {
        assert!(Instant::now() < give_up, "no {text} in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
