//! Slots: when the jobs of a schedule are due, on the wall clock.
//!
//! A cron expression is read in its time zone, from the tz database that is built in. On the days on which clocks are
//! changed it keeps to what people mean by it: a fixed time that is left out comes at the end of the gap, and one that there
//! is twice comes once, while `*` and `*/n` go by the minutes that pass. A period is counted from the schedule's definition.
//!
//! The leader asks for the next slot and puts it into the log, and the front door asks whether there is any sense in a
//! definition. Nothing here knows what time it is.

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{
    Timestamp, Zoned,
    tz::{TimeZone, TimeZoneDatabase},
};

use crate::queue::{ids::WallMs, refusal::Refusal, schedule::Timing};

/// Needs no database.
const UTC: &str = "UTC";

/// The slots of one schedule.
pub struct Calendar {
    slots: Slots,
}

enum Slots {
    Cron { cron: Box<Cron>, zone: TimeZone },
    Every { ms: u64, from: WallMs },
}

impl Calendar {
    /// Reads a timing that was defined at `from`.
    ///
    /// # Errors
    /// It says nothing, or has no slot; the refusal names the field, and the part of the expression.
    pub fn read(timing: &Timing, from: WallMs) -> Result<Self, Refusal> {
        let slots = match timing {
            Timing::Every { ms } => Slots::Every { ms: (*ms).max(1), from },
            Timing::Cron { expression, time_zone } => {
                let zone = zone(time_zone)?;
                Slots::Cron { cron: Box::new(cron(expression)?), zone }
            }
        };
        let calendar = Self { slots };
        match calendar.after(from) {
            Some(_) => Ok(calendar),
            None => Err(Refusal::invalid("cron", "there is no such day")),
        }
    }

    /// The first slot after a moment.
    pub fn after(&self, moment: WallMs) -> Option<WallMs> {
        match &self.slots {
            Slots::Every { ms, from } => {
                let passed = moment.0.saturating_sub(from.0) / ms;
                Some(WallMs(from.0.checked_add(ms.checked_mul(passed + 1)?)?))
            }
            Slots::Cron { cron, zone } => wall(cron.find_next_occurrence(&zoned(moment, zone)?, false).ok()?),
        }
    }

    /// The last slot at or before a moment, if it is not before `first`, which is one.
    pub fn newest(&self, first: WallMs, moment: WallMs) -> WallMs {
        let found = match &self.slots {
            Slots::Every { ms, from } => {
                let passed = moment.0.saturating_sub(from.0) / ms;
                Some(WallMs(from.0.saturating_add(ms.saturating_mul(passed))))
            }
            Slots::Cron { cron, zone } => {
                let found = zoned(moment, zone).and_then(|moment| cron.find_previous_occurrence(&moment, true).ok());
                found.and_then(wall)
            }
        };
        found.map_or(first, |found| found.max(first))
    }

    /// A slot as people read it.
    pub fn text(&self, slot: WallMs) -> String {
        let zone = match &self.slots {
            Slots::Every { .. } => &TimeZone::UTC,
            Slots::Cron { zone, .. } => zone,
        };
        zoned(slot, zone).map_or_else(|| slot.to_string(), |slot| slot.strftime("%Y-%m-%d %H:%M:%S %Z").to_string())
    }
}

fn zoned(moment: WallMs, zone: &TimeZone) -> Option<Zoned> {
    let ms = i64::try_from(moment.0).ok()?;
    Some(Timestamp::from_millisecond(ms).ok()?.to_zoned(zone.clone()))
}

fn wall(time: Zoned) -> Option<WallMs> {
    u64::try_from(time.timestamp().as_millisecond()).ok().map(WallMs)
}

fn zone(name: &str) -> Result<TimeZone, Refusal> {
    if name == UTC {
        return Ok(TimeZone::UTC);
    }
    TimeZoneDatabase::bundled().get(name).map_err(|_| {
        let message = format!("`{name}` is no time zone; write one like Europe/Berlin, or UTC");
        Refusal::invalid("time_zone", message)
    })
}

/// The fields of an expression, with what each may hold.
const FIELDS: [(&str, &str); 5] = [
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of the month", "1-31, or L for the last"),
    ("month", "1-12 or JAN-DEC"),
    ("day of the week", "0-7 or SUN-SAT; 0 and 7 are Sunday"),
];

const NICKNAMES: [&str; 7] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

fn cron(expression: &str) -> Result<Cron, Refusal> {
    let fields: Vec<&str> = expression.split_whitespace().collect();
    match fields.as_slice() {
        [name] if NICKNAMES.contains(&name.to_ascii_lowercase().as_str()) => parse(name),
        fields if fields.len() == FIELDS.len() => parse(expression),
        fields => {
            let message = format!(
                "an expression has five fields (minute, hour, day of the month, month, day of the week) and this has {}; \
                 or write one of {}",
                fields.len(),
                NICKNAMES.join(", ")
            );
            return Err(Refusal::invalid("cron", message));
        }
    }
    .ok_or_else(|| Refusal::invalid("cron", wrong_field(&fields)))
}

fn parse(expression: &str) -> Option<Cron> {
    CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build().parse(expression).ok()
}

/// Which field it is: the one that is wrong on its own.
fn wrong_field(fields: &[&str]) -> String {
    let is_wrong = |at: usize| {
        let mut alone = ["*"; FIELDS.len()];
        alone[at] = fields[at];
        parse(&alone.join(" ")).is_none()
    };
    match (0..fields.len().min(FIELDS.len())).find(|at| is_wrong(*at)) {
        Some(at) => {
            let (name, may_hold) = FIELDS[at];
            format!("field {} (`{}`) is no {name}: {may_hold}, also as lists, a-b and */n", at + 1, fields[at])
        }
        None => "these fields do not go together".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cron_in(zone: &str, expression: &str) -> Calendar {
        let timing = Timing::Cron { expression: expression.into(), time_zone: zone.into() };
        Calendar::read(&timing, at("2026-01-01T00:00Z")).unwrap_or_else(|refusal| panic!("{expression}: {refusal}"))
    }

    fn at(text: &str) -> WallMs {
        let time: Timestamp = text.parse().expect("a time of the test");
        WallMs(u64::try_from(time.as_millisecond()).expect("after 1970"))
    }

    /// The slots after `from`, in UTC.
    fn slots(calendar: &Calendar, from: &str, count: usize) -> Vec<String> {
        let slots = std::iter::successors(calendar.after(at(from)), |slot| calendar.after(*slot));
        let utc = |slot: WallMs| zoned(slot, &TimeZone::UTC).map(|time| time.strftime("%d %H:%M").to_string());
        slots.take(count).filter_map(utc).collect()
    }

    #[track_caller]
    fn check(zone: &str, expression: &str, from: &str, expect: &[&str]) {
        assert_eq!(slots(&cron_in(zone, expression), from, expect.len()), expect, "{expression} in {zone}");
    }

    #[test]
    fn expression_is_read_as_cron_has_it() {
        let monday = "2026-11-23T12:00Z";
        check("UTC", "30 2 * * *", monday, &["24 02:30", "25 02:30"]);
        check("UTC", "*/20 9-10 * * mon-fri", monday, &["24 09:00", "24 09:20", "24 09:40", "24 10:00"]);
        check("UTC", "0 0 1,15 * *", monday, &["01 00:00", "15 00:00"]);
        check("UTC", "0 0 29 * fri", monday, &["27 00:00", "29 00:00", "04 00:00"]);
        check("UTC", "0 6 L * *", monday, &["30 06:00", "31 06:00"]);
        check("UTC", "@hourly", monday, &["23 13:00", "23 14:00"]);
        check("UTC", "@Daily", monday, &["24 00:00"]);
        check("America/New_York", "30 2 * * *", monday, &["24 07:30"]);
    }

    #[test]
    fn change_of_clocks_leaves_out_no_fixed_time_and_doubles_none() {
        // 29 March: 02:00 to 03:00 does not exist. 25 October: 02:00 to 03:00 is there twice.
        check("Europe/Berlin", "30 2 * * *", "2026-03-28T12:00Z", &["29 01:00", "30 00:30"]);
        check("Europe/Berlin", "30 2 * * *", "2026-10-24T12:00Z", &["25 00:30", "26 01:30"]);
        check("Europe/Berlin", "*/30 * * * *", "2026-03-29T00:15Z", &["29 00:30", "29 01:00", "29 01:30"]);
        check("Europe/Berlin", "*/30 * * * *", "2026-10-25T00:15Z", &["25 00:30", "25 01:00", "25 01:30"]);
    }

    #[test]
    fn newest_slot_is_the_last_of_those_that_came() {
        for (zone, expression) in [
            ("UTC", "*/7 * * * *"),
            ("Europe/Berlin", "30 2 * * *"),
            ("Europe/Berlin", "*/10 2 * * *"),
            ("America/New_York", "0 */2 * * *"),
            ("Australia/Lord_Howe", "15 1,2 * * *"),
        ] {
            for begin in ["2026-03-07T00:00Z", "2026-03-28T00:00Z", "2026-10-03T00:00Z", "2026-10-24T00:00Z"] {
                let calendar = cron_in(zone, expression);
                let (mut slot, end) =
                    (calendar.after(at(begin)).expect("a slot"), WallMs(at(begin).0 + 3 * 86_400_000));
                let first = slot;
                while slot < end {
                    let next = calendar.after(slot).expect("a slot");
                    for moment in [slot.0, slot.0 + 1, next.0 - 1] {
                        assert_eq!(calendar.newest(first, WallMs(moment)), slot, "{expression} in {zone} at {moment}");
                    }
                    slot = next;
                }
            }
        }
    }

    #[test]
    fn period_counts_from_its_definition() {
        let calendar = Calendar::read(&Timing::Every { ms: 1000 }, WallMs(250)).expect("a period");
        assert_eq!(calendar.after(WallMs(250)), Some(WallMs(1250)));
        assert_eq!(calendar.after(WallMs(1249)), Some(WallMs(1250)));
        assert_eq!(calendar.after(WallMs(1250)), Some(WallMs(2250)));
        assert_eq!(calendar.newest(WallMs(1250), WallMs(9_999)), WallMs(9250));
    }

    #[test]
    fn refusal_says_which_field() {
        for (zone, expression, wanted) in [
            ("UTC", "60 * * * *", "field 1 (`60`) is no minute"),
            ("UTC", "0 25 * * *", "field 2 (`25`) is no hour"),
            ("UTC", "0 2 0 * *", "field 3 (`0`) is no day of the month"),
            ("UTC", "0 2 * foo *", "field 4 (`foo`) is no month"),
            ("UTC", "0 2 * * 8", "field 5 (`8`) is no day of the week"),
            ("UTC", "0 2 * *", "this has 4"),
            ("UTC", "0 0 2 * * *", "this has 6"),
            ("UTC", "@reboot", "this has 1"),
            ("UTC", "", "this has 0"),
            ("UTC", "0 0 30 2 *", "no such day"),
            ("Mars/Olympus", "0 2 * * *", "time_zone: `Mars/Olympus` is no time zone"),
        ] {
            let timing = Timing::Cron { expression: expression.into(), time_zone: zone.into() };
            let refusal = Calendar::read(&timing, WallMs(0)).err().unwrap_or_else(|| panic!("{expression} is taken"));
            assert!(refusal.to_string().contains(wanted), "{expression}: {refusal}");
        }
    }
}
