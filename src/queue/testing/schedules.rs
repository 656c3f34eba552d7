//! Schedules in scripts: `schedule NAME every=5000 overlap=skip SPEC...`, then `plan` and `fire` in the leader's place.

use std::{fmt::Write, sync::Arc};

use goldenscript::ArgumentConsumer;

use super::words::{self, Parsed};
use crate::queue::{
    command::{Advance, Definition, ScheduleChange, Slot},
    ids::{Index, WallMs},
    schedule::{Missed, Next, Outcome, Overlap, Schedule, Schedules, Timing},
};

type Words<'a> = ArgumentConsumer<'a>;

/// `None`: the command is about something else.
pub fn change(name: &str, args: &mut Words, known: &Schedules) -> Parsed<Option<ScheduleChange>> {
    let verb = match name {
        "schedule" => put,
        "unschedule" => |name, _: &mut Words| Ok(ScheduleChange::Remove { name }),
        "schedule-pause" => |name, _: &mut Words| Ok(ScheduleChange::Pause { name, paused: true }),
        "schedule-resume" => |name, _: &mut Words| Ok(ScheduleChange::Pause { name, paused: false }),
        "schedule-run" => |name, _: &mut Words| Ok(ScheduleChange::Run { name }),
        "plan" | "fire" => return advance(args, known).map(|advance| Some(ScheduleChange::Advance(advance))),
        _ => return Ok(None),
    };
    let name = subject(args)?;
    verb(name, args).map(Some)
}

fn subject(args: &mut Words) -> Parsed<Arc<str>> {
    Ok(args.next_pos().ok_or("which schedule?")?.value.as_str().into())
}

fn put(name: Arc<str>, args: &mut Words) -> Parsed<ScheduleChange> {
    let word = |args: &mut Words, key| args.lookup(key).map(|arg| arg.value.clone());
    let timing = match word(args, "cron") {
        Some(expression) => {
            let time_zone = word(args, "zone").unwrap_or_else(|| "UTC".to_owned());
            Timing::Cron { expression: expression.into(), time_zone: time_zone.into() }
        }
        None => Timing::Every { ms: args.lookup_parse("every")?.unwrap_or(1_000) },
    };
    let overlap = if word(args, "overlap").as_deref() == Some("skip") { Overlap::Skip } else { Overlap::Allow };
    let missed = if word(args, "missed").as_deref() == Some("skip") { Missed::Skip } else { Missed::Once };
    let paused = args.lookup_parse("paused")?;
    let if_absent = args.lookup_parse("if_absent")?.unwrap_or(false);
    let spec: Vec<String> = args.rest_key().iter().map(|arg| format!("{}={}", arg.name(), arg.value)).collect();
    let definition = Definition { timing, missed, overlap, paused, spec: Arc::new(words::spec(&spec)?) };
    Ok(ScheduleChange::Put { name, definition: Box::new(definition), if_absent })
}

/// `plan NAME to=2000`, `fire NAME slot=2000 to=3000`: from where it stands, unless `from` or `version` say otherwise.
fn advance(args: &mut Words, known: &Schedules) -> Parsed<Advance> {
    let name = subject(args)?;
    let (version, from) = known.known().get(&name).map_or((Index(0), Next::Unplanned), |it| (it.version, it.next));
    let next = |ms: Option<u64>| ms.map_or(Next::Never, |ms| Next::Slot(WallMs(ms)));
    let missed = args.lookup_parse("missed")?.unwrap_or(false);
    let slot = args.lookup_parse("slot")?.map(|at| Slot { at: WallMs(at), text: at.to_string().into(), missed });
    Ok(Advance {
        name,
        version: args.lookup_parse("version")?.map_or(version, Index),
        from: args.lookup_parse("from")?.map_or(from, |ms| next(Some(ms))),
        to: next(args.lookup_parse("to")?),
        slot,
    })
}

pub fn show(schedules: &Schedules) -> String {
    schedules.known().iter().map(|(name, schedule)| one(name, schedule)).collect()
}

fn one(name: &str, schedule: &Schedule) -> String {
    let Schedule { timing, missed, overlap, paused, version, next, submitted, skipped, .. } = schedule;
    let mut text = format!("{name}: {timing:?} missed {missed:?} overlap {overlap:?} version {version}, next {next:?}");
    if *paused {
        text += ", paused";
    }
    let _ = write!(text, ", submitted {submitted} skipped {skipped}");
    if let Some(job) = schedule.last_job {
        let _ = write!(text, ", job {job}");
    }
    if let Some(last) = &schedule.last {
        let _ = write!(text, "\n  slot {} at {}: {}", last.slot, last.at, outcome(&last.outcome));
    }
    text + "\n"
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Submitted(job) => format!("submitted {job}"),
        Outcome::Existed(job) => format!("existed {job}"),
        Outcome::Overlapped(job) => format!("overlapped {job}"),
        Outcome::Missed => "missed".to_owned(),
        Outcome::Refused(refusal) => format!("{}: {refusal}", refusal.code()),
    }
}
