//! /healthz, /readyz, /metrics

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::{
    http::{Front, metrics::Text, reply::Reply},
    queue::{
        ids::WallMs,
        job::Status,
        schedule::{Next, Schedule},
    },
    raft::{Consistency, Role, View},
};

/// The process answers.
pub async fn live() -> Reply {
    Reply::json(&json!({ "ok": true }))
}

/// It belongs to a cluster that has a leader and its first settings, and if it leads itself a majority follows: writes and
/// reads sent here get done.
pub async fn ready(State(front): State<Arc<Front>>) -> Reply {
    let leadership = front.leadership().borrow().clone();
    let missing = [
        (
            leadership.leader.is_none(),
            "no leader is known: more than half of the members must be up and reach each other",
        ),
        (front.node.is_cut_off(), "this node leads, and too few members answer it"),
        (!front.has_settings(), "the cluster has been formed a moment ago: its first settings are on their way"),
    ];
    let missing = missing.into_iter().find_map(|(is_so, what)| is_so.then_some(what));
    let status = if missing.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let problem = missing.map(|what| front.node.problem().unwrap_or_else(|| what.to_owned()));
    let leader = leadership.leader.map(|leader| leader.id);
    Reply::json(&json!({ "ready": missing.is_none(), "leader": leader, "problem": problem })).status(status)
}

pub async fn metrics(State(front): State<Arc<Front>>) -> Response {
    let mut text = Text::default();
    node(&front, &mut text);
    // What this node has is good enough to watch, and a graph must not need a quorum.
    if let Ok(view) = front.view(Consistency::Local, 0, tokio::time::Instant::now()).await {
        jobs(&view, &mut text);
        schedules(&view, &mut text);
    }
    waiting(&front, &mut text);
    stores(&front, &mut text);
    front.metrics.write(&mut text);
    let mut response = text.into_string().into_response();
    let media = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    response
}

fn node(front: &Front, text: &mut Text) {
    let status = front.node.status();
    let leads = f64::from(u8::from(status.role == Role::Leader));
    text.single("raftq_is_leader", "gauge", "1 on the node that leads", leads);
    text.single("raftq_has_leader", "gauge", "1 where a leader is known", f64::from(u8::from(status.leader.is_some())));
    text.single("raftq_term", "counter", "election term; each change of leader raises it", status.term as f64);
    text.single("raftq_applied_index", "counter", "last entry applied here", status.applied as f64);
    text.single("raftq_committed_index", "counter", "last entry known to be committed", status.committed as f64);
    text.single("raftq_last_log_index", "counter", "last entry in the log here", status.last_log as f64);
    text.single(
        "raftq_log_purged_index",
        "counter",
        "last entry no longer in the log",
        status.purged.unwrap_or(0) as f64,
    );
    text.single(
        "raftq_snapshot_index",
        "counter",
        "last entry in the newest snapshot",
        status.snapshot.unwrap_or(0) as f64,
    );
    text.family("raftq_log_sync_seconds", "summary", "time to make a batch of log entries durable");
    text.sample("raftq_log_sync_seconds_sum", "", status.sync.total_micros as f64 / 1e6);
    text.sample("raftq_log_sync_seconds_count", "", status.sync.count as f64);
    text.single("raftq_log_sync_max_seconds", "gauge", "the slowest of them", status.sync.max_micros as f64 / 1e6);
    text.family("raftq_entry_requests", "summary", "requests that one log entry carries, of those proposed here");
    text.sample("raftq_entry_requests_sum", "", status.proposed_requests as f64);
    text.sample("raftq_entry_requests_count", "", status.proposed_entries as f64);
    text.family("raftq_member_lag", "gauge", "entries that a member lacks; known by the leader");
    for member in &status.members {
        if let Some(lag) = member.lag {
            text.sample("raftq_member_lag", &format!("member=\"{}\"", member.id), lag as f64);
        }
    }
}

fn jobs(view: &View, text: &mut Text) {
    let (counts, totals, pool) =
        view.look(|reading| (reading.state().counts(), *reading.state().counters(), reading.state().pool_running()));
    text.family("raftq_jobs", "gauge", "live jobs by status");
    for (status, count) in Status::ALL.into_iter().zip(counts).filter(|(status, _)| !status.is_final()) {
        text.sample("raftq_jobs", &format!("status=\"{}\"", status.name()), count as f64);
    }
    text.family("raftq_jobs_ended_total", "counter", "jobs that have ended, by how");
    let ended = [("success", totals.ends.success), ("error", totals.ends.error), ("canceled", totals.ends.canceled)];
    for (status, count) in ended {
        text.sample("raftq_jobs_ended_total", &format!("status=\"{status}\""), count as f64);
    }
    text.single("raftq_jobs_submitted_total", "counter", "job ids given", totals.last_job.0 as f64);
    text.single("raftq_leases_granted_total", "counter", "leases granted", totals.last_lease.0 as f64);
    text.single("raftq_pool_running", "gauge", "jobs that the built-in pool holds", pool as f64);
}

/// One of each a schedule: their number is limited, and an alarm is about one of them.
fn schedules(view: &View, text: &mut Text) {
    let known = view.look(|reading| {
        let known = reading.state().schedules().known().iter();
        known.map(|(name, schedule)| (Text::label("schedule", name), ScheduleSeen::of(schedule))).collect::<Vec<_>>()
    });
    let paused = known.iter().filter(|(_, seen)| seen.paused).count();
    text.family("raftq_schedules", "gauge", "schedules by whether they are paused");
    text.sample("raftq_schedules", "state=\"active\"", (known.len() - paused) as f64);
    text.sample("raftq_schedules", "state=\"paused\"", paused as f64);
    text.family("raftq_schedule_slots_total", "counter", "slots taken, by whether they gave a job");
    for (label, seen) in &known {
        for (outcome, count) in [("submitted", seen.submitted), ("skipped", seen.skipped)] {
            let labels = format!("{label},outcome=\"{outcome}\"");
            text.sample("raftq_schedule_slots_total", &labels, count as f64);
        }
    }
    text.family("raftq_schedule_next_slot_seconds", "gauge", "when the next slot is due, in seconds since 1970");
    for (label, seen) in &known {
        if let Some(WallMs(next)) = seen.next {
            text.sample("raftq_schedule_next_slot_seconds", label, next as f64 / 1e3);
        }
    }
}

struct ScheduleSeen {
    paused: bool,
    submitted: u64,
    skipped: u64,
    next: Option<WallMs>,
}

impl ScheduleSeen {
    fn of(schedule: &Schedule) -> Self {
        let next = match schedule.next {
            Next::Slot(slot) => Some(slot),
            Next::Unplanned | Next::Never => None,
        };
        Self { paused: schedule.paused, submitted: schedule.submitted, skipped: schedule.skipped, next }
    }
}

fn waiting(front: &Front, text: &mut Text) {
    text.single("raftq_waiting_claims", "gauge", "claims that wait for work here", front.hub.claims.count() as f64);
    text.single(
        "raftq_waiting_for_jobs",
        "gauge",
        "requests that wait for a job to change",
        front.hub.jobs.count() as f64,
    );
}

fn stores(front: &Front, text: &mut Text) {
    let stores = front.node.stores();
    text.family("raftq_store_memory_bytes", "gauge", "what a store keeps in memory beside its files");
    for (store, usage) in stores {
        let parts = [("rows", usage.memtable_bytes), ("cache", usage.cache_bytes), ("indexes", usage.index_bytes)];
        for (of, bytes) in parts {
            text.sample("raftq_store_memory_bytes", &format!("store=\"{store}\",of=\"{of}\""), bytes as f64);
        }
    }
    text.family("raftq_store_level_0_files", "gauge", "files not sorted into the rest yet; at twenty writes slow down");
    for (store, usage) in stores {
        text.sample("raftq_store_level_0_files", &format!("store=\"{store}\""), usage.level_0_files as f64);
    }
    text.family("raftq_store_compaction_due_bytes", "gauge", "bytes that compaction has yet to rewrite");
    for (store, usage) in stores {
        let labels = format!("store=\"{store}\"");
        text.sample("raftq_store_compaction_due_bytes", &labels, usage.compaction_bytes_due as f64);
    }
}
