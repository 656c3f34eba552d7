//! Words of the command line: durations, sizes, priorities, ids, times.

use std::{str::FromStr, time::Duration};

use jiff::{Timestamp, civil, tz::TimeZone};

use crate::api::Cores;

/// `90`, `90s`, `1500ms`, `5m`, `6h`, `2d`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().map_err(|_| format!("`{text}` is no duration; write 90, 90s, 5m, 6h or 2d"))?;
    let seconds = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        unit => return Err(format!("`{unit}` is no unit of time; use ms, s, m, h or d")),
    };
    Duration::try_from_secs_f64(number * seconds).map_err(|_| format!("`{text}` is out of range"))
}

/// One that stands in a path, where nothing would be another path.
pub fn name(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("a name has at least one character".to_owned()) } else { Ok(text.to_owned()) }
}

/// How long a command may take. In no time there is no answer, and a write that is given none may be done all the same.
pub fn timeout(text: &str) -> Result<Duration, String> {
    let timeout = duration(text)?;
    let long_enough = timeout >= Duration::from_millis(1);
    long_enough
        .then_some(timeout)
        .ok_or_else(|| format!("`{text}` leaves no time for an answer; give 1s, say, or 1ms at least"))
}

/// `2`, `0.5`.
pub fn cores(text: &str) -> Result<Cores, String> {
    serde_json::from_str(text).map_err(|_| format!("`{text}` is no number of cores; write 2, or 0.5"))
}

/// Megabytes: `500`, `500M`, `2G`, `1T`; a bare number is MB.
pub fn megabytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().map_err(|_| format!("`{text}` is no size; write 500, 500M or 2G"))?;
    let factor = match text[digits.len()..].to_ascii_uppercase().trim_end_matches('B') {
        "" | "M" => 1.0,
        "G" => 1024.0,
        "T" => 1024.0 * 1024.0,
        unit => return Err(format!("`{unit}` is no unit of size; use M, G or T")),
    };
    let megabytes = (number * factor).ceil();
    if (0.0..9e15).contains(&megabytes) { Ok(megabytes as u64) } else { Err(format!("`{text}` is out of range")) }
}

/// Job ids as typed: `17`, or `17-30` with both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    first: u64,
    last: u64,
}

impl Ids {
    pub fn iter(self) -> std::ops::RangeInclusive<u64> {
        self.first..=self.last
    }
}

/// Each is asked about by itself, or named in a request.
const RANGE_MAX: u64 = 1_000_000;

impl FromStr for Ids {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is no job id; write 17, or 17-30 for a range");
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last): (u64, u64) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
        match last.checked_sub(first) {
            _ if first == 0 => Err(format!("`{text}`: the first job has id 1")),
            None => Err(format!("`{text}` ends before it begins; write {last}-{first}")),
            Some(more) if more >= RANGE_MAX => {
                Err(format!("`{text}` names more than {RANGE_MAX} jobs; give parts of it, one at a time"))
            }
            Some(_) => Ok(Self { first, last }),
        }
    }
}

/// Why something is done, for whoever reads it later. Of a shell variable that is not set nothing would be left.
pub fn reason(text: &str) -> Result<String, String> {
    let says_something = !text.trim().is_empty();
    says_something.then(|| text.to_owned()).ok_or_else(|| "it says nothing; write why, or leave it out".to_owned())
}

/// Milliseconds since 1970: `2026-11-21T18:00:00Z`, `2026-11-21 18:00` (local time), or the number itself.
pub fn wall_time(text: &str) -> Result<u64, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let local = || text.parse::<civil::DateTime>().ok()?.to_zoned(TimeZone::system()).ok().map(|time| time.timestamp());
    let time = text.parse::<Timestamp>().ok().or_else(local);
    let milliseconds = time.and_then(|time| u64::try_from(time.as_millisecond()).ok());
    milliseconds
        .ok_or_else(|| format!("`{text}` is no time; write 2026-11-21T18:00:00Z, or 2026-11-21T18:00 for local time"))
}

/// Local time of a moment, to the second.
pub fn show_time(milliseconds: u64) -> String {
    match i64::try_from(milliseconds).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()) {
        Some(time) => time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        None => milliseconds.to_string(),
    }
}

/// Two units are enough: `850ms`, `12.3s`, `4m05s`, `2h10m`, `3d4h`.
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{:.1}s", duration.as_secs_f64()),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_every_unit() {
        for (text, milliseconds) in [
            ("90", 90_000),
            ("90s", 90_000),
            ("250ms", 250),
            ("1.5s", 1500),
            ("5m", 300_000),
            ("6h", 21_600_000),
            ("2d", 172_800_000),
        ] {
            assert_eq!(duration(text).map(|d| d.as_millis()), Ok(milliseconds), "{text}");
        }
        for text in ["", "s", "5 m", "-1", "5y", "1e400"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_and_ids_are_read() {
        assert_eq!(megabytes("500"), Ok(500));
        assert_eq!(megabytes("1.5G"), Ok(1536));
        assert_eq!(megabytes("2gb"), Ok(2048));
        assert!(megabytes("2X").is_err());
        assert_eq!("17".parse::<Ids>().map(|ids| ids.iter().collect()), Ok(vec![17]));
        assert_eq!("17-19".parse::<Ids>().map(|ids| ids.iter().collect()), Ok(vec![17, 18, 19]));
        assert_eq!("1-1000000".parse::<Ids>().map(|ids| ids.iter().count()), Ok(1_000_000));
        for (text, why) in [
            ("0", "first job"),
            ("0-3", "first job"),
            ("19-17", "write 17-19"),
            ("x", "no job id"),
            ("1-", "no job id"),
            ("1-1000001", "more than 1000000 jobs"),
        ] {
            let told = text.parse::<Ids>().expect_err(text);
            assert!(told.contains(why), "{text}: {told}");
        }
    }

    #[test]
    fn reasons_say_something() {
        assert_eq!(reason("noon").as_deref(), Ok("noon"));
        assert!(["", " "].iter().all(|text| reason(text).is_err()));
    }

    #[test]
    fn times_are_read_and_shown() {
        assert_eq!(wall_time("2026-11-21T18:00:00Z"), Ok(1_795_284_000_000));
        assert_eq!(wall_time("1795284000000"), Ok(1_795_284_000_000));
        assert!(wall_time("2026-11-21T18:00").is_ok());
        assert!(wall_time("tomorrow").is_err());
        assert_eq!(show_duration(Duration::from_millis(850)), "850ms");
        assert_eq!(show_duration(Duration::from_secs(245)), "4m05s");
        assert_eq!(show_duration(Duration::from_secs(90_061)), "1d1h");
    }
}
