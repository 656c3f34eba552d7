//! The verbs, one a file. Each is the rule of design 2.2, in the order of its checks; [`super::step`] does the rest.

pub mod archive;
pub mod autoarchive;
pub mod bury;
pub mod cancel;
pub mod children;
pub mod claim;
pub mod delete;
pub mod depend;
pub mod drain;
pub mod edit;
pub mod environment;
pub mod expire;
pub mod failure;
pub mod impossible;
pub mod kick;
pub mod kinds;
pub mod learn;
pub mod leases;
pub mod limit;
pub mod pause;
pub mod pool;
pub mod priority;
pub mod release;
pub mod restore;
pub mod schedule;
pub mod settings;
pub mod submit;
pub mod success;
pub mod totals;
pub mod touch;
pub mod worker;

use super::{
    applied::{Answer, JobBrief},
    ids::JobId,
    limits,
    refusal::Refusal,
    step::Step,
};

/// A verb on jobs: each id is answered for itself, in order.
fn each(
    step: &mut Step,
    ids: &[JobId],
    reason: Option<&str>,
    mut verb: impl FnMut(&mut Step, JobId) -> Result<JobBrief, Refusal>,
) -> Answer {
    let checked = limits::check_count("ids", ids.len(), limits::JOBS_PER_REQUEST_MAX)
        .and_then(|()| limits::check_text("reason", reason, limits::TEXT_BYTES_MAX));
    match checked {
        Ok(()) => Answer::Jobs(ids.iter().map(|id| verb(step, *id)).collect()),
        Err(refusal) => Answer::Refused(refusal),
    }
}
