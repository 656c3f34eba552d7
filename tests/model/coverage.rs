//! That the generator gets everywhere: agreement about what never happens would prove nothing.

use std::collections::BTreeMap;

use raftq::queue::{
    applied::{Answer, ScheduleNews},
    command::{Command, LeaseAction, ScheduleChange},
    job::CancelSignal,
    query::HeldBy,
    refusal::Refusal,
    schedule::Outcome,
};

use crate::{
    agreement::Pair,
    reference::{Job, Model, Told},
    simulation::{ENTRIES, log},
};

/// Of each verb, what it was answered at least so often.
const EXPECTED: &[(&str, &[&str])] = &[
    ("submit", &["ok", "existed", "invalid", "aborted", "queue_full", "drained", "too_large"]),
    ("claim", &["ok", "not_found", "claimed", "conflict", "finished", "invalid"]),
    ("start", &["ok", "stale_lease", "not_claimed", "not_found"]),
    ("touch", &["ok", "stale_lease", "not_claimed", "not_found", "invalid"]),
    ("success", &["ok", "stale_lease", "not_claimed", "not_found", "invalid", "drained", "too_large"]),
    ("failure", &["ok", "stale_lease", "not_claimed", "not_found", "invalid"]),
    ("held by", &["worker", "delay", "run_at", "job", "buried", "queue", "all", "limit", "pool", "nobody", "unfit"]),
    ("impossible", &["as it became ready", "by a tick"]),
    ("release", &["ok", "stale_lease", "not_claimed", "not_found"]),
    ("bury held", &["ok", "stale_lease", "not_claimed", "not_found"]),
    ("leases", &["invalid"]),
    ("cancel", &["ok", "not_found", "not_cancelable", "finished", "invalid"]),
    ("kick", &["ok", "unchanged", "not_found", "conflict", "queue_full", "invalid"]),
    ("bury", &["ok", "unchanged", "not_found", "claimed", "finished", "invalid"]),
    ("priority", &["ok", "unchanged", "not_found", "invalid"]),
    ("archive", &["ok", "unchanged", "not_found", "not_final", "invalid"]),
    ("autoarchive", &["ok", "invalid"]),
    ("delete", &["ok", "not_found", "claimed", "canceling", "conflict", "invalid"]),
    ("drain", &["ok", "invalid"]),
    ("edit", &["ok", "unchanged", "not_found", "finished", "canceling", "claimed", "conflict", "invalid", "too_large"]),
    ("if", &["ok", "unchanged", "conflict", "not_found", "finished", "claimed", "invalid"]),
    ("piece", &["ok", "unchanged", "not_found", "not_final", "finished", "invalid"]),
    ("worker", &["ok", "invalid", "not_found"]),
    ("settings", &["ok", "invalid"]),
    ("pool", &["ok", "invalid"]),
    ("environment", &["ok"]),
    ("forget", &["ok", "not_found"]),
    ("forget queue", &["ok", "not_found"]),
    ("schedule", &["ok", "invalid", "conflict", "not_found"]),
    ("schedule run", &["ok", "existed", "drained", "queue_full", "not_found"]),
    ("slot", &["submitted", "existed", "overlapped", "missed", "refused"]),
    ("any", &["key conflict", "key_expired", "wrong key"]),
    ("kept", &["ten attempts of more", "a hundred reasons of more", "newest lines", "an attempt without outputs"]),
    ("kept", &["attempts of an ended job"]),
    ("names", &["used in a row", "dropped", "too many to drop at once"]),
    ("told", &["stop: term", "stop: kill", "lease ended", "removed", "settings"]),
    ("told of a schedule", &["defined", "paused", "resumed", "removed", "slot"]),
];
const SEEDS: u64 = 80;
const TIMES: u32 = 2;

#[test]
fn the_generator_reaches_every_verb_and_refusal() {
    let mut seen = BTreeMap::new();
    for seed in 0..SEEDS {
        let mut pair = Pair::new();
        for step in log(seed, ENTRIES) {
            let dropped = pair.model.names_dropped;
            let (requests, answers) = pair.model_only(&step);
            for (request, answer) in requests.iter().zip(&answers) {
                count(&mut seen, &request.command, answer);
            }
            for job in pair.model.told.news.iter().filter_map(|id| pair.model.jobs.get(id)) {
                count_kept(&mut seen, job);
            }
            count_told(&mut seen, &pair.model.told);
            count_names(&mut seen, &pair.model, pair.model.names_dropped - dropped);
            for held_by in pair.model.live().flat_map(|job| pair.model.held_by(job)) {
                *seen.entry(("held by", obstacle(&held_by))).or_default() += 1;
            }
        }
        for (when, times) in [("as it became ready", 0), ("by a tick", 1)] {
            *seen.entry(("impossible", when)).or_default() += pair.model.found_impossible[times];
        }
        for taken in pair.model.schedules.values().flat_map(|schedule| &schedule.taken) {
            *seen.entry(("slot", outcome(&taken.outcome))).or_default() += 1;
        }
    }
    for (verb, outcomes) in EXPECTED {
        for outcome in *outcomes {
            let times = seen.get(&(*verb, *outcome)).copied().unwrap_or_default();
            assert!(times >= TIMES, "{verb}: {outcome} was reached {times} times; all: {seen:?}");
        }
    }
}

type Seen = BTreeMap<(&'static str, &'static str), u32>;

fn count(seen: &mut Seen, command: &Command, answer: &Answer) {
    let mut note = |verb, outcome| *seen.entry((verb, outcome)).or_default() += 1;
    match answer {
        Answer::Refused(Refusal::Conflict { .. })
            if !matches!(command, Command::Schedule(_) | Command::IfVersion { .. }) =>
        {
            note("any", "key conflict");
        }
        Answer::Refused(refusal @ Refusal::KeyExpired { .. }) => note("any", refusal.code()),
        Answer::Refused(Refusal::Invalid { field, .. }) if &**field == "idempotency-key" => note("any", "wrong key"),
        Answer::Refused(refusal) => note(verb(command), refusal.code()),
        Answer::Submitted(all) => all.iter().for_each(|each| {
            let outcome = each.as_ref().map(|submitted| if submitted.existed { "existed" } else { "ok" });
            let verb = if let Command::Schedule(_) = command { verb(command) } else { "submit" };
            note(verb, outcome.unwrap_or_else(Refusal::code));
        }),
        Answer::Claimed(all) => all.iter().for_each(|each| note("claim", code(each))),
        Answer::Jobs(all) | Answer::Piece { results: all, .. } => all.iter().for_each(|each| {
            let outcome = each.as_ref().map(|brief| if brief.changed { "ok" } else { "unchanged" });
            note(verb(command), outcome.unwrap_or_else(Refusal::code));
        }),
        Answer::Leases { results, .. } => {
            let Command::Leases { items, .. } = command else { panic!("only calls under leases are answered so") };
            items.iter().zip(results).for_each(|(item, result)| note(action(&item.action), code(result)));
        }
        Answer::Done | Answer::Archived { .. } | Answer::Drain(_) | Answer::Pool(_) => note(verb(command), "ok"),
    }
}

fn count_kept(seen: &mut Seen, job: &Job) {
    let mut note = |what, is_so| *seen.entry(("kept", what)).or_default() += u32::from(is_so);
    note("ten attempts of more", job.ops.iter().any(|op| op.history.len() > 10));
    note("a hundred reasons of more", job.reasons.len() > 100);
    note("newest lines", job.log_dropped > 0);
    note("an attempt without outputs", job.has_omitted());
    note("attempts of an ended job", job.status().is_final() && job.ops.iter().any(|op| !op.history.is_empty()));
}

/// Of `dropped` names in one entry, which has at most a few ticks.
fn count_names(seen: &mut Seen, model: &Model, dropped: u32) {
    let mut note = |what, is_so| *seen.entry(("names", what)).or_default() += u32::from(is_so);
    note("used in a row", model.keys.values().any(|name| name.rises > 32));
    note("dropped", dropped > 0);
    note("too many to drop at once", dropped >= 256);
}

fn count_told(seen: &mut Seen, told: &Told) {
    let mut note = |what, times: usize| *seen.entry(("told", what)).or_default() += times as u32;
    let stops = |of| told.stops.iter().filter(|(_, _, signal)| *signal == of).count();
    note("stop: term", stops(CancelSignal::Term));
    note("stop: kill", stops(CancelSignal::Kill));
    note("lease ended", told.leases_ended.len());
    note("removed", told.removed.len());
    note("settings", usize::from(told.settings));
    for (_, news) in &told.schedules {
        *seen.entry(("told of a schedule", tidings(news))).or_default() += 1;
    }
}

fn tidings(news: &ScheduleNews) -> &'static str {
    match news {
        ScheduleNews::Defined => "defined",
        ScheduleNews::Paused => "paused",
        ScheduleNews::Resumed => "resumed",
        ScheduleNews::Removed => "removed",
        ScheduleNews::Taken(_) => "slot",
    }
}

fn code<T>(result: &Result<T, Refusal>) -> &'static str {
    result.as_ref().map_or_else(Refusal::code, |_| "ok")
}

fn verb(command: &Command) -> &'static str {
    match command {
        Command::Submit { .. } => "submit",
        Command::Claim(_) => "claim",
        Command::Cancel { .. } => "cancel",
        Command::Kick { .. } => "kick",
        Command::Bury { .. } => "bury",
        Command::Priority { .. } => "priority",
        Command::Archive { .. } => "archive",
        Command::Delete { .. } => "delete",
        Command::Edit { .. } => "edit",
        Command::IfVersion { .. } => "if",
        Command::Piece { .. } => "piece",
        Command::Schedule(ScheduleChange::Run { .. }) => "schedule run",
        Command::Schedule(_) => "schedule",
        Command::Worker(_) => "worker",
        Command::Settings(_) => "settings",
        Command::Pool(_) => "pool",
        Command::Environment { .. } => "environment",
        Command::Forget { .. } => "forget",
        Command::Autoarchive(_) => "autoarchive",
        Command::Drain { .. } => "drain",
        Command::Leases { .. } => "leases",
        Command::ForgetQueue { .. } => "forget queue",
        _ => "other",
    }
}

fn outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Submitted(_) => "submitted",
        Outcome::Existed(_) => "existed",
        Outcome::Overlapped(_) => "overlapped",
        Outcome::Missed => "missed",
        Outcome::Refused(_) => "refused",
    }
}

fn obstacle(held_by: &HeldBy) -> &'static str {
    match held_by {
        HeldBy::Worker(_) => "worker",
        HeldBy::Delay => "delay",
        HeldBy::RunAt => "run_at",
        HeldBy::Job(_) => "job",
        HeldBy::Buried => "buried",
        HeldBy::QueuePaused => "queue",
        HeldBy::AllPaused => "all",
        HeldBy::Limit { .. } => "limit",
        HeldBy::PoolInactive => "pool",
        HeldBy::NoWorker => "nobody",
        HeldBy::NoFittingWorker => "unfit",
    }
}

fn action(action: &LeaseAction) -> &'static str {
    match action {
        LeaseAction::Start { .. } => "start",
        LeaseAction::Touch { .. } => "touch",
        LeaseAction::Success { .. } => "success",
        LeaseAction::Failure { .. } => "failure",
        LeaseAction::Release { .. } => "release",
        LeaseAction::Bury { .. } => "bury held",
    }
}
