//! The public JSON contract: what stands on the wire between a client and a node (design 3).
//!
//! Every shape is a plain type here, written by one side and read by the other, so a client and a server cannot differ. What comes
//! in is read strictly: an unknown field is refused by its name, a wrong value by the path to it, and inside a batch each job on
//! its own. User JSON (args, results, meta) passes through as text. Inner types know no JSON: the conversions are here, and
//! ranges and counts are the core's business, not this room's.
//!
//! ```text
//!   bytes ── decode ──► Spec, ClaimRequest, ... ── into ──► queue::command
//!   bytes ◄── serde ─── JobDoc, SubmitAnswer, ... ◄── from ── queue::{applied, job, rows}
//! ```

mod bulk;
mod claim;
mod cluster;
mod decode;
mod error;
mod filter;
mod job;
mod leases;
mod log;
mod number;
mod object;
mod op;
mod raw;
mod schedule;
mod settings;
mod spec;
mod spec_convert;
mod spec_written;
mod submit;
#[cfg(test)]
mod tests;
mod verbs;

pub use crate::args::{ExecArgs, SleepArgs};
pub use crate::queue::{
    ids::{JobId, LeaseId},
    job::{OnFailure, PRECEDING_OP},
};
pub use bulk::{BulkAnswer, BulkDo, BulkRefusal, BulkRequest, decode_bulk};
pub use claim::{ClaimAnswer, ClaimRequest, ClaimedJob, ClaimedOp, ClaimedSummary, FreeSpec, WAIT_MS_MAX, WorkerRef};
pub use cluster::{AddMember, Transfer};
pub use decode::decode;
pub use error::{ErrorBody, ErrorEnvelope, status_of};
pub use filter::Filter;
pub use job::{Blocker, Field, JobDoc, JobParts, Source};
pub use leases::{LeaseItem, LeaseResult, LeasesAnswer, LeasesRequest, LogEntry, OutputTail};
pub use log::LogDoc;
pub use number::{Cores, Priority, parse_priority};
pub use op::result_value;
pub use raw::raw_value;
pub use schedule::{Missed, Overlap, RunAnswer, ScheduleDefinition, ScheduleRequest, ScheduleView, TakenView};
pub use settings::{LimitRequest, LimitView, PolicyRequest, PolicyView, WorkerRequest};
pub use spec::{Backoff, Body, Depends, NeedsSpec, OpSpec, Spec};
pub use spec_written::Patch;
pub use submit::{Submission, SubmitAnswer, SubmitRequest, SubmitResult, decode_spec, decode_submission};
pub use verbs::{
    ArchiveAge, ArchiveAnswer, ArchiveRequest, BuryRequest, CancelRequest, DrainRequest, DrainView, JobAnswer,
    JobBrief, Nothing, PoolRequest, PoolView, PriorityRequest, QueueList, QueueRequest, QueueTotals, QueueView,
    StatusName, parse_status,
};
