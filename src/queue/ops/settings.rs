//! settings: what an operator turns (design 3, `/v1/policy`).

use crate::queue::{
    applied::{Answer, Effect},
    command::SettingsChange,
    limits::{self, check_range},
    ops::impossible,
    refusal::Refusal,
    rows::{Row, RowKey},
    step::Step,
};

pub fn settings(step: &mut Step, change: &SettingsChange) -> Answer {
    if let Err(refusal) = check(change) {
        return Answer::Refused(refusal);
    }
    let settings = &mut step.state.settings;
    settings.live_jobs_max = change.live_jobs_max.unwrap_or(settings.live_jobs_max);
    settings.archive_after_ms = change.archive_after_ms.unwrap_or(settings.archive_after_ms);
    settings.delete_after_ms = change.delete_after_ms.unwrap_or(settings.delete_after_ms);
    settings.bury_impossible = change.bury_impossible.unwrap_or(settings.bury_impossible);
    step.state.changes.put(RowKey::Settings, Row::Settings(step.state.settings.clone()));
    if let Some(timeout_ms) = change.pool_timeout_ms {
        step.state.pool.timeout_ms = timeout_ms;
        step.state.changes.put(RowKey::Pool, Row::Pool(step.state.pool.clone()));
    }
    impossible::look_again(step);
    step.emit(Effect::SettingsChanged);
    Answer::Done
}

fn check(change: &SettingsChange) -> Result<(), Refusal> {
    check_range("live_jobs_max", change.live_jobs_max.unwrap_or(0), 0, limits::LIVE_JOBS_MAX_MAX)?;
    let archive_after_ms = change.archive_after_ms.flatten().unwrap_or(0);
    check_range("archive_after_ms", archive_after_ms, 0, limits::DELAY_MS_MAX)?;
    let delete_after_ms = change.delete_after_ms.flatten().unwrap_or(0);
    check_range("delete_after_ms", delete_after_ms, 0, limits::DELAY_MS_MAX)?;
    let timeout_ms = change.pool_timeout_ms.unwrap_or(limits::POOL_TIMEOUT_MS_MIN);
    check_range("pool_timeout_ms", timeout_ms, limits::POOL_TIMEOUT_MS_MIN, limits::POOL_TIMEOUT_MS_MAX)
}
