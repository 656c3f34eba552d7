//! What a queued job weighs in memory, indexes included: counted by the allocator of the test binary.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::Arc,
};

use super::words;
use crate::queue::{
    command::{Command, Entry, Request, SettingsChange},
    ids::Index,
    state::State,
    testing::{Bench, Memory},
};

/// Counts what this thread holds, as glibc would round it.
struct Counting;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
}

fn weight(layout: Layout) -> i64 {
    (layout.size() + 8).next_multiple_of(16).max(32) as i64
}

fn count(bytes: i64) {
    // A thread that is ending has no counter any more, and nobody reads it then.
    let _ = HELD.try_with(|held| held.set(held.get() + bytes));
}

// SAFETY: every call goes to the system's allocator as it came; only a number is kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(weight(layout));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-weight(layout));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const JOBS: usize = 20_000;
const BATCH: usize = 1_000;
const BYTES_PER_JOB_MAX: i64 = 300;

fn fill(state: &mut State, spec: &str) {
    let spec = words::spec(&[spec.to_owned()]).expect("a spec of the test");
    let bench = Bench::default();
    let rows = Memory::default();
    for index in 1..=JOBS / BATCH {
        let jobs = (0..BATCH).map(|_| Ok(Arc::new(spec.clone()))).collect();
        let command = Command::Submit { jobs, atomic: false };
        let request = Request { principal: "tester".into(), key: None, command };
        let entry = Entry { clocks: bench.clocks, office: bench.office, requests: vec![request] };
        state.apply(&rows, Index(state.position().index.0 + index as u64), &entry);
        state.take_changes();
    }
}

fn bytes_per_job(spec: &str) -> i64 {
    let mut state = State::default();
    let before = HELD.get();
    fill(&mut state, spec);
    let held = HELD.get() - before;
    assert_eq!(state.live_count(), JOBS);
    held / JOBS as i64
}

#[test]
fn queued_job_weighs_at_most_300_bytes() {
    let queued = bytes_per_job("queue=default");
    let delayed = bytes_per_job("delay=1000");
    println!("a queued job weighs {queued} bytes, a delayed one {delayed}");
    assert!(queued <= BYTES_PER_JOB_MAX, "a queued job weighs {queued} bytes");
    assert!(delayed <= BYTES_PER_JOB_MAX, "a delayed job weighs {delayed} bytes");
}

#[test]
fn ended_jobs_weigh_nothing() {
    let mut bench = Bench::default();
    let round = |bench: &mut Bench| {
        let spec = words::spec(&["unique=u".to_owned()]).expect("a spec of the test");
        bench.apply("t", None, Command::Submit { jobs: vec![Ok(Arc::new(spec))], atomic: false });
        let last = bench.state.counters().last_job;
        bench.apply("t", None, Command::Delete { ids: vec![last] });
    };
    bench.apply("t", None, Command::Settings(SettingsChange::default()));
    round(&mut bench);
    let before = HELD.get();
    for _ in 0..100 {
        round(&mut bench);
    }
    let grown = HELD.get() - before;
    assert!(grown <= 0, "a hundred jobs that came and went left {grown} bytes");
}
