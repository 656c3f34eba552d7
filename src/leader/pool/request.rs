//! How much one request of the pool carries.

use crate::queue::{
    command::{LeaseAction, LeaseItem, Report},
    job::Json,
};

/// One entry of the log holds a request whole, and must pass to the other nodes within a heartbeat or two.
const REQUEST_BYTES_MAX: usize = 1 << 20;
const REQUEST_ITEMS_MAX: usize = 1_000;
/// What a call takes besides its texts.
const ITEM_BYTES: usize = 200;

/// How many of the first calls go into one request: at least one.
pub fn first_request(items: &[LeaseItem]) -> usize {
    let mut bytes = 0;
    let fit = items.iter().take(REQUEST_ITEMS_MAX).take_while(|item| {
        bytes += weight(&item.action);
        bytes <= REQUEST_BYTES_MAX
    });
    fit.count().max(1).min(items.len())
}

/// About how many bytes a call takes in the log.
fn weight(action: &LeaseAction) -> usize {
    let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
    let json = |json: &Option<Json>| json.as_ref().map_or(0, |json| json.0.len());
    let lines = |log: &[(Box<str>, Box<str>)]| log.iter().map(|(kind, text)| kind.len() + text.len()).sum::<usize>();
    let report = |report: &Report| {
        text(&report.error) + text(&report.stdout) + text(&report.stderr) + lines(&report.log) + ITEM_BYTES
    };
    match action {
        LeaseAction::Start { .. } => ITEM_BYTES,
        LeaseAction::Touch { log, progress, checkpoint, .. } => {
            lines(log) + json(progress) + json(checkpoint) + ITEM_BYTES
        }
        // A file of specs may be as large as a request.
        LeaseAction::Success { jobs, .. } if !jobs.is_empty() => REQUEST_BYTES_MAX,
        LeaseAction::Success { result, report: said, .. } => json(result) + report(said),
        LeaseAction::Failure { report: said, .. } => report(said),
        LeaseAction::Release { reason, .. } | LeaseAction::Bury { reason } => text(reason) + ITEM_BYTES,
    }
}
