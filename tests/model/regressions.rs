//! What the property test found, in the smallest form, and what it would seldom find: one test a bug.

use std::sync::Arc;

use raftq::queue::{
    applied::Answer,
    command::{CancelHow, Claim, Command, Free, Key, LeaseAction, Request},
    ids::JobId,
    job::{FinalStatuses, JobRef, Needs, Office, Policy, Spec, Status},
    refusal::Refusal,
};

use crate::log::{Log, after, cancel, claim, request, spec, success};

/// It was found again until its batch was stored, and could be deleted, kicked and waited for.
#[test]
fn delete_twice_in_one_entry_second_finds_nothing() {
    let mut log = Log::new();
    log.submit(vec![spec()]);
    log.run(cancel(1, CancelHow::Waiting));
    let delete = || request(Command::Delete { ids: vec![JobId(1)] });
    let kick = request(Command::Kick { ids: vec![JobId(1)] });
    let answers = log.entry(vec![delete(), delete(), kick]);
    assert_eq!(answers[1], Answer::Jobs(vec![Err(Refusal::NotFound { id: JobId(1) })]));
    assert_eq!(answers[2], Answer::Jobs(vec![Err(Refusal::NotFound { id: JobId(1) })]));
}

#[test]
fn cancel_kill_third_time_changes_nothing() {
    let mut log = Log::new();
    log.submit(vec![spec()]);
    log.run(Command::Claim(claim(true)));
    for changed in [true, true, false] {
        let Answer::Jobs(jobs) = log.run(cancel(1, CancelHow::Kill)) else { panic!("jobs are answered") };
        assert_eq!(jobs[0].as_ref().expect("it is canceled").changed, changed);
    }
}

/// Only the first use counted, so that a patient client's request took effect twice (P7).
#[test]
fn key_repeated_for_longer_than_its_window_keeps_its_answer() {
    let mut log = Log::new();
    let key = Some(Key { name: "client".into(), number: 0, digest: 1 });
    let submit = Command::Submit { jobs: vec![Ok(Arc::new(spec()))], atomic: false };
    let submit = Request { key, ..request(submit) };
    let first = log.entry(vec![submit.clone()]);
    for _ in 0..4 {
        log.cluster_ms += 10 * 60_000;
        log.run(Command::Tick { hold_wall: false });
        assert_eq!(log.entry(vec![submit.clone()]), first);
    }
}

/// The grace of an old pool's lease is longer than the lease, and start cut it short (P10).
#[test]
fn start_under_a_new_office_does_not_shorten_the_grace() {
    let mut log = Log::new();
    let policy = Policy { lease_ms: 100, ..Policy::for_ops(1) };
    log.submit(vec![Spec { policy, ..spec() }]);
    log.run(Command::Claim(Claim { pool: true, ..claim(false) }));
    log.office = Office { term: 2, node: 2, incarnation: 1 };
    log.call(1, 1, LeaseAction::Start { host: None, pid: None });
    log.cluster_ms += 1_000;
    log.run(Command::Tick { hold_wall: false });
    assert_eq!(log.status(1), Status::Running);
}

/// Room was reckoned by what the jobs asked for, and not by what their group had learned.
#[test]
fn claim_of_several_takes_learned_needs_from_what_is_free() {
    let mut log = Log::new();
    let grouped = || {
        let policy = Policy { resource_group: Some("g".into()), ..Policy::for_ops(1) };
        Spec { policy, needs: Some(Needs { ram_mb: 100, ..Needs::default() }), ..spec() }
    };
    log.submit(vec![grouped()]);
    log.run(Command::Claim(claim(true)));
    log.call(1, 1, success(Some(800)));
    log.submit(vec![grouped(), grouped()]);
    let free = Some(Free { ram_mb: Some(1_000), ..Free::default() });
    let Answer::Claimed(claimed) = log.run(Command::Claim(Claim { free, ..claim(true) })) else { panic!("a claim") };
    assert_eq!(claimed.len(), 1);
}

/// Every replica panicked: the twin of a refused member was taken to have an id.
#[test]
fn submit_waiting_for_the_twin_of_a_refused_member_is_refused() {
    let mut log = Log::new();
    let unique = |spec| Spec { unique: Some("u".into()), ..spec };
    let wrong = Spec { queue: "-".into(), ..spec() };
    let batch = vec![wrong, unique(after(JobRef::Back(1))), unique(spec()), after(JobRef::Back(1)), spec()];
    let Answer::Submitted(results) = log.submit(batch) else { panic!("submissions are answered") };
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, false, false, false, true]);
}

/// Its old dependencies stood in its row still, and came back with a restart (P9).
#[test]
fn kick_after_what_it_waited_for_is_gone_forgets_it_for_good() {
    let mut log = Log::new();
    log.submit(vec![spec()]);
    log.run(cancel(1, CancelHow::Waiting));
    log.submit(vec![after(JobRef::Id(JobId(1)))]);
    log.run(Command::Delete { ids: vec![JobId(1)] });
    log.run(Command::Kick { ids: vec![JobId(2)] });
    assert_eq!(log.status(2), Status::Queued);
    log.pair.check_memory().unwrap_or_else(|what| panic!("{what}"));
}

/// The second end of a job replaced the first one, which another op had accepted and latched.
#[test]
fn outcome_accepted_before_a_kick_stands_when_the_job_ends_again() {
    let mut log = Log::new();
    log.submit(vec![spec()]);
    let canceled = FinalStatuses { canceled: true, ..FinalStatuses::default() };
    let mut waiter = after(JobRef::Id(JobId(1)));
    waiter.ops.push(waiter.ops[0].clone());
    waiter.ops[1].depends[0].accept = canceled;
    log.submit(vec![waiter]);
    log.run(cancel(1, CancelHow::Waiting));
    assert_eq!(log.status(2), Status::Canceled);
    log.run(Command::Kick { ids: vec![JobId(1), JobId(2)] });
    for (job, lease) in [(1, 1), (2, 2), (2, 3)] {
        log.run(Command::Claim(claim(true)));
        log.call(job, lease, success(None));
    }
    assert_eq!(log.status(2), Status::Success);
}

/// It waited for itself, for ever (P12).
#[test]
fn submit_waiting_for_its_own_twin_is_refused() {
    let mut log = Log::new();
    let unique = |spec| Spec { unique: Some("u".into()), ..spec };
    let first = unique(after(JobRef::Named("second".into())));
    let second = Spec { batch_name: Some("second".into()), ..unique(spec()) };
    let Answer::Submitted(results) = log.submit(vec![first, second, spec()]) else {
        panic!("submissions are answered")
    };
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, false, true]);
}

/// Only the queue of the run was told: elsewhere, claims that wait slept on jobs that fit now.
#[test]
fn claims_of_every_queue_hear_what_a_group_has_learned() {
    let mut log = Log::new();
    let policy = Policy { resource_group: Some("rg".into()), ..Policy::for_ops(1) };
    let needs = Some(Needs { ram_mb: 5_000, ..Needs::default() });
    let of = |queue: &str| Spec { queue: queue.into(), policy: policy.clone(), needs, ..spec() };
    log.submit(vec![of("default"), of("slow")]);
    log.run(Command::Claim(claim(true)));
    log.call(1, 1, success(Some(10)));
}

/// It was looked for among the live jobs, and every replica panicked.
#[test]
fn submit_of_a_twin_of_a_member_that_ends_as_it_comes_adds_its_groups() {
    let mut log = Log::new();
    log.submit(vec![spec()]);
    log.run(cancel(1, CancelHow::Waiting));
    let unique = |spec| Spec { unique: Some("u".into()), ..spec };
    let twin = Spec { groups: ["etl".into()].into(), ..unique(spec()) };
    log.submit(vec![unique(after(JobRef::Id(JobId(1)))), twin]);
    assert_eq!(log.status(2), Status::Canceled);
}
