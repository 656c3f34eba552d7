//! Every limit, with its reason (design 3). What grows has one; what is refused for one names it.

use super::{command::Key, ids::NUMBER_LIMIT, refusal::Refusal};

/// One request must fit one entry and one page of memory on every node.
pub const JOBS_PER_REQUEST_MAX: usize = 10_000;
/// A spec is held whole by the front door, the log and a row.
pub const JOB_BYTES_MAX: usize = 1 << 20;
/// Spec, log, outputs and results together: one job is read with one answer.
pub const JOB_TOTAL_BYTES_MAX: u64 = 2 << 20;
/// A job's status is computed by walking its ops.
pub const OPS_MAX: usize = 100;
/// A job's dependencies are one row.
pub const DEPENDS_MAX: usize = 100;
/// Queue names stand in every listing and in paths.
pub const QUEUE_NAME_BYTES_MAX: usize = 200;
/// Names, labels, keys: index rows carry them.
pub const NAME_BYTES_MAX: usize = 200;
pub const GROUPS_MAX: usize = 100;
/// A claim looks at each limit group of each shape.
pub const LIMITS_PER_JOB_MAX: usize = 16;
/// Meant for labels and small facts; data belongs into args.
pub const META_BYTES_MAX: usize = 16 << 10;
/// Comments, reasons and error texts are read by people.
pub const TEXT_BYTES_MAX: usize = 4 << 10;
/// One log line.
pub const LOG_LINE_BYTES_MAX: usize = 4 << 10;
/// Kept for the next attempt only; a job that needs more writes a file.
pub const CHECKPOINT_BYTES_MAX: usize = 256 << 10;
/// Head and tail of 4096 bytes and the line between them; eight times that with `keep_output`.
pub const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// The trail of reasons keeps the newest.
pub const REASONS_KEPT: u32 = 100;
/// Attempts of one op whose rows are kept.
pub const ATTEMPTS_KEPT: u32 = 10;
/// Numbers a JSON reader can hold, both ways.
pub const PRIORITY_MAX: i64 = NUMBER_LIMIT as i64 - 1;
/// Ten years: longer is a mistake in the unit.
pub const DELAY_MS_MAX: u64 = 10 * 366 * 86_400_000;
/// A retry each second for a day; more is a mistake.
pub const RETRIES_MAX: u32 = 100_000;
/// Needs beyond any machine are mistakes in the unit: 4096 cores, 64 TiB, 1 EiB, ten years.
pub const CORES_MILLI_MAX: u32 = 4_096_000;
pub const RAM_MB_MAX: u64 = 64 << 20;
pub const DISK_MB_MAX: u64 = 1 << 40;
pub const TIME_S_MAX: u64 = 10 * 366 * 86_400;
/// Commands that could not be started are tried again this often (design 2.2).
pub const START_FAILURES_MAX: u32 = 5;
/// Jobs of one claim: its answer carries their payloads.
pub const CLAIM_MAX: u32 = 1_000;
/// Each holds memory and stands in listings whole.
pub const QUEUES_MAX: usize = 10_000;
pub const LIMIT_GROUPS_MAX: usize = 10_000;
pub const SHAPES_MAX: usize = 10_000;
pub const RESOURCE_GROUPS_MAX: usize = 10_000;
pub const WORKERS_MAX: usize = 10_000;
pub const SCHEDULES_MAX: usize = 10_000;
/// A schedule is for what people wait for; what is more frequent is a worker's own loop.
pub const SCHEDULE_EVERY_MS_MIN: u64 = 1_000;
/// Distinct environments, and what one may weigh: Linux gives a command 128 KiB a variable, and most have a few.
pub const ENVIRONMENTS_MAX: usize = 1_000;
pub const ENVIRONMENT_BYTES_MAX: usize = 256 << 10;
/// Workers say hello more often than this.
pub const WORKER_TTL_MS_MAX: u64 = 86_400_000;
pub const POOL_SIZE_MAX: u32 = 10_000;
pub const POOL_TIMEOUT_MS_MIN: u64 = 100;
pub const POOL_TIMEOUT_MS_MAX: u64 = 3_600_000;
pub const LIVE_JOBS_MAX_MAX: u64 = 1_000_000_000;
/// Jobs archived by one call, and deadlines handled by one tick: an entry must not hold up those behind it.
pub const AUTOARCHIVE_PIECE: u32 = 10_000;
pub const TICK_PIECE: usize = 2_048;
/// Dependents that one entry wakes; the next tick goes on.
pub const WAKES_PIECE: usize = 10_000;

/// Answers kept of each idempotency name.
pub const KEY_ANSWERS: u64 = 1024;
/// A name unused for so long is dropped; nothing is dropped earlier.
pub const KEY_UNUSED_MS: u64 = 15 * 60_000;
/// Each costs memory while it is kept.
pub const KEY_NAMES_MAX: usize = 1_000_000;
/// Dropping a name drops its 1024 answers.
pub const KEY_NAMES_PIECE: usize = 256;

/// A name of the user's choosing: 1 to 200 bytes of printable UTF-8.
pub fn check_name(field: &str, name: &str) -> Result<(), Refusal> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(Refusal::invalid(field, format!("must have 1 to {NAME_BYTES_MAX} bytes")));
    }
    if name.chars().any(char::is_control) {
        return Err(Refusal::invalid(field, "must not contain control characters"));
    }
    Ok(())
}

/// beanstalkd's rule for queue names.
pub fn check_queue(field: &str, name: &str) -> Result<(), Refusal> {
    if name.is_empty() || name.len() > QUEUE_NAME_BYTES_MAX {
        return Err(Refusal::invalid(field, format!("must have 1 to {QUEUE_NAME_BYTES_MAX} bytes")));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-+/;.$_()".contains(&byte);
    if !name.bytes().all(allowed) || name.starts_with('-') {
        return Err(Refusal::invalid(field, "may contain A-Z a-z 0-9 - + / ; . $ _ ( ) and not begin with -"));
    }
    Ok(())
}

/// Text that people read: bounded in bytes, any characters.
pub fn check_text(field: &str, text: Option<&str>, max: usize) -> Result<(), Refusal> {
    match text {
        Some(text) if text.len() > max => Err(Refusal::invalid(field, format!("must have at most {max} bytes"))),
        _ => Ok(()),
    }
}

/// A number between two bounds, both allowed.
pub fn check_range<N: PartialOrd + std::fmt::Display>(field: &str, value: N, min: N, max: N) -> Result<(), Refusal> {
    if value < min || value > max {
        return Err(Refusal::invalid(field, format!("must be from {min} to {max}")));
    }
    Ok(())
}

pub fn check_count(field: &str, count: usize, max: usize) -> Result<(), Refusal> {
    if count > max {
        return Err(Refusal::invalid(field, format!("at most {max} are allowed")));
    }
    Ok(())
}

pub fn check_key(key: &Key) -> Result<(), Refusal> {
    check_name("idempotency-key", &key.name)?;
    check_key_number(key)
}

/// Of a key whose name is known, and so was checked before.
pub fn check_key_number(key: &Key) -> Result<(), Refusal> {
    check_range("idempotency-key", key.number, 0, NUMBER_LIMIT - 1)
}
