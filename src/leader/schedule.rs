//! Schedules: the leader plans the next slot of each, and takes it when its time has come.
//!
//! The state says which schedules want something, so nothing is kept here: a new leader goes on from there. Each step names
//! the slot that it starts from, and the core takes no step twice; so a proposal whose fate is unknown is made again.
//! While the wall clock is off the other members', or not compared with theirs, nothing is planned and nothing taken
//! (design 2.1).

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::{
    door::{Proposed, Queue},
    office::Term,
};
use crate::{
    calendar::Calendar,
    clock::Clock,
    queue::{
        applied::Answer,
        command::{Advance, Command, ScheduleChange, Slot},
        ids::WallMs,
        job::Office,
        schedule::{Missed, Next, Schedule},
    },
};

/// How much later than its slot a job may be submitted on a healthy cluster. A look that finds nothing costs next to nothing.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Steps proposed at once: many schedules have their slot on the hour.
const PIECE: usize = 256;
/// A slot that nobody took for so long was missed. Longer than a change of leader takes.
const LATE_MS_MAX: u64 = 60_000;

/// Advances schedules in every office of this node, until there will be no other.
pub async fn run<Q: Queue>(queue: Q, clock: Clock, office: watch::Receiver<Option<Office>>) {
    while let Some(mut term) = Term::next(&office).await {
        tokio::select! {
            () = advance_for_ever(&queue, &clock) => {}
            () = term.ended() => {}
        }
    }
}

async fn advance_for_ever<Q: Queue>(queue: &Q, clock: &Clock) {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        if queue.is_wall_clock_off() {
            continue;
        }
        let now = WallMs(clock.wall_ms());
        let wanting = queue.look(|state, _| state.schedules().to_advance(now, PIECE));
        join_all(wanting.iter().map(|(name, schedule)| propose(queue, step(name, schedule, now)))).await;
    }
}

async fn propose<Q: Queue>(queue: &Q, step: Advance) {
    let name = step.name.clone();
    match queue.propose(Command::Schedule(ScheduleChange::Advance(step))).await {
        Proposed::Answered { answer: Answer::Refused(refusal), .. } => {
            tracing::debug!(%name, %refusal, "a schedule stays where it is; it is looked at again");
        }
        Proposed::Answered { .. } => {}
        Proposed::Never | Proposed::Unknown => {
            tracing::debug!(%name, "a schedule's step is proposed again if it is still wanted");
        }
    }
}

/// What is next for a schedule that wants something.
fn step(name: &Arc<str>, schedule: &Schedule, now: WallMs) -> Advance {
    let stay =
        Advance { name: name.clone(), version: schedule.version, from: schedule.next, to: Next::Never, slot: None };
    let calendar = match Calendar::read(&schedule.timing, schedule.defined_at) {
        Ok(calendar) => calendar,
        Err(refusal) => {
            tracing::error!(%name, %refusal, "a schedule cannot be read, and stops until it is defined anew");
            return stay;
        }
    };
    let after = |moment| calendar.after(moment).map_or(Next::Never, Next::Slot);
    match schedule.next {
        // A clock that was set back must not take a slot again.
        Next::Unplanned | Next::Never => {
            let taken = schedule.last.as_ref().map_or(now, |last| last.slot);
            Advance { to: after(now.max(taken)), ..stay }
        }
        Next::Slot(first) => {
            let at = calendar.newest(first, now);
            let late = now.0.saturating_sub(at.0) > LATE_MS_MAX;
            let missed = late && schedule.missed == Missed::Skip;
            Advance { to: after(now), slot: Some(Slot { at, text: calendar.text(at).into(), missed }), ..stay }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{
        ids::Index,
        schedule::{Overlap, Timing},
    };

    const HOUR: u64 = 3_600_000;

    fn hourly(missed: Missed, next: Next) -> Schedule {
        Schedule {
            timing: Timing::Cron { expression: "0 * * * *".into(), time_zone: "UTC".into() },
            missed,
            overlap: Overlap::Allow,
            paused: false,
            created_by: "tester".into(),
            created_at: WallMs(0),
            defined_at: WallMs(0),
            version: Index(7),
            next,
            last: None,
            last_job: None,
            submitted: 0,
            skipped: 0,
        }
    }

    /// The slot that is taken, whether it was missed, and the one after.
    #[track_caller]
    fn check(schedule: &Schedule, now: u64, slot: Option<(u64, bool)>, to: u64) {
        let step = step(&"s".into(), schedule, WallMs(now));
        assert_eq!(step.slot.map(|slot| (slot.at.0, slot.missed)), slot);
        assert_eq!((step.version, step.from, step.to), (Index(7), schedule.next, Next::Slot(WallMs(to))));
    }

    #[test]
    fn plan_begins_after_now_and_after_what_was_taken() {
        let new = hourly(Missed::Once, Next::Unplanned);
        check(&new, HOUR + 1, None, 2 * HOUR);
        let outcome = crate::queue::schedule::Outcome::Missed;
        let last = crate::queue::schedule::Taken { slot: WallMs(5 * HOUR), at: WallMs(5 * HOUR), outcome };
        check(&Schedule { last: Some(last), ..new }, HOUR + 1, None, 6 * HOUR);
    }

    #[test]
    fn slot_is_taken_in_time_or_stands_for_those_that_were_missed() {
        let due = Next::Slot(WallMs(HOUR));
        check(&hourly(Missed::Skip, due), HOUR, Some((HOUR, false)), 2 * HOUR);
        check(&hourly(Missed::Skip, due), HOUR + LATE_MS_MAX + 1, Some((HOUR, true)), 2 * HOUR);
        check(&hourly(Missed::Once, due), 5 * HOUR - 1, Some((4 * HOUR, false)), 5 * HOUR);
        check(&hourly(Missed::Skip, due), 5 * HOUR + 1, Some((5 * HOUR, false)), 6 * HOUR);
    }

    #[test]
    fn unreadable_schedule_stops() {
        let timing = Timing::Cron { expression: "0 0 30 2 *".into(), time_zone: "UTC".into() };
        let odd = Schedule { timing, ..hourly(Missed::Once, Next::Unplanned) };
        assert_eq!(step(&"s".into(), &odd, WallMs(0)).to, Next::Never);
    }
}
