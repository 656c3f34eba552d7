//! The same log gives the same bytes, however it is cut into chunks (P9).

use std::sync::Arc;

use openraft::EntryPayload;

use super::*;
use crate::{
    queue::{
        command::{Clocks, Entry},
        ids::{ClusterMs, WallMs},
        job::Office,
    },
    raft::{
        apply::Applier,
        replica::Replica,
        state_rows::FAMILIES,
        stop::Stop,
        types::{Body, LeaderId, LogEntry, LogId, Payload as EntryBytes},
    },
    storage::DataDir,
};

fn log(entries: u64) -> Vec<LogEntry> {
    let leader_id = LeaderId { term: 1, node_id: 1 };
    (0..entries)
        .map(|index| {
            let clocks = Clocks { cluster: ClusterMs(index * 700), wall: WallMs(1_000_000 + index * 700) };
            let requests = (0..index % 4).map(|part| if part == 3 { tick() } else { submit(index as usize) }).collect();
            let entry = Entry { clocks, office: Office { term: 1, node: 1, incarnation: 1 }, requests };
            let payload = match index {
                0 => EntryPayload::Blank,
                _ => EntryPayload::Normal(EntryBytes::new(Body::Queue(entry))),
            };
            LogEntry { log_id: LogId { leader_id, index }, payload }
        })
        .collect()
}

/// Applies the log in chunks of the given sizes, over and over, and gives every row.
async fn applied(log: &[LogEntry], sizes: &[usize]) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let directory = TempDir::new().expect("temporary directory");
    let stores = DataDir::new(directory.path()).open(1, super::log_store::FAMILIES, FAMILIES).expect("opens");
    let replica = Arc::new(Replica::load(Arc::clone(&stores.state), FeatureLevel::NEWEST, Stop::new()).expect("loads"));
    let (applier, thread) = Applier::start(Arc::clone(&replica), 1, Stop::new()).expect("starts");
    let (mut rest, mut sizes) = (log, sizes.iter().cycle());
    while !rest.is_empty() {
        let size = sizes.next().expect("cycles").min(&rest.len()).to_owned();
        let (chunk, after) = rest.split_at(size);
        applier.apply(chunk.iter().cloned().map(|entry| (entry, None)).collect()).await.expect("applies");
        rest = after;
    }
    tokio::task::spawn_blocking(move || thread.join()).await.expect("joins");
    all_rows(&stores.state.pin())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_in_other_chunks_gives_the_same_bytes() {
    let log = log(200);
    let whole = applied(&log, &[200]).await;
    assert!(whole.len() > 200);
    assert_eq!(applied(&log, &[1]).await, whole);
    assert_eq!(applied(&log, &[3, 17, 1]).await, whole);
}
