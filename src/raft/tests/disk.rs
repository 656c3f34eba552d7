//! Disks that are damaged, swapped, shared or from the future.

use std::{fs, os::unix::fs::FileExt, path::Path};

use super::*;
use crate::storage::{Batch, StorageError, Store, StoreKind, Synced};

async fn one_node_with_jobs(jobs: usize) -> Cluster {
    let mut cluster = Cluster::formed(1, RaftOptions::test()).await;
    let leader = cluster.leader().await;
    for _ in 0..jobs {
        leader.propose(submit(300), soon()).await.expect("commits");
    }
    drop(leader);
    cluster.halt(1).await;
    cluster
}

/// The log store's newest write-ahead file.
fn write_ahead(directory: &Path) -> PathBuf {
    let files = fs::read_dir(directory.join("log")).expect("lists").map(|entry| entry.expect("lists").path());
    let mut logs: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect();
    logs.sort();
    logs.pop().expect("there is one")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_log_with_a_flipped_bit_is_refused_and_nothing_is_deleted() {
    let cluster = one_node_with_jobs(40).await;
    let path = write_ahead(&cluster.directory(1));
    let whole = fs::read(&path).expect("reads");
    let end = whole.iter().rposition(|&byte| byte != 0).expect("not empty");
    for part in 1..10 {
        // Well before the last record: a torn tail is the one damage that no acknowledgement covers.
        let at = end * part / 12;
        let file = fs::OpenOptions::new().write(true).open(&path).expect("opens");
        file.write_all_at(&[whole[at] ^ 0x04], at as u64).expect("writes");
        let error = cluster.open(1).await.err().unwrap_or_else(|| panic!("the flip at {at} of {end} went unseen"));
        assert!(matches!(error, OpenError::Storage(StorageError::Corrupt { .. })), "{error}");
        assert!(error.to_string().contains("cluster replace"), "{error}");
        fs::write(&path, &whole).expect("restored");
    }
    cluster.open(1).await.expect("opens once it is whole again").halt().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_log_with_a_torn_tail_keeps_all_before_it() {
    let mut cluster = one_node_with_jobs(20).await;
    let path = write_ahead(&cluster.directory(1));
    let file = fs::OpenOptions::new().append(true).open(&path).expect("opens");
    std::io::Write::write_all(&mut &file, &[0x55; 5]).expect("half a header");
    cluster.restart(1).await;
    let view = cluster.leader().await.view(Consistency::Linearizable, 0, soon()).await.expect("reads");
    assert_eq!(view.look(|reading| live_jobs(reading.rows())).len(), 20);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_data_of_another_node_is_refused() {
    let cluster = one_node_with_jobs(1).await;
    let options = NodeOptions { id: 2, data_dir: cluster.directory(1), ..cluster.options(1) };
    let error = Node::open(options).await.err().expect("not its own");
    assert!(matches!(error, OpenError::Storage(StorageError::OtherNode { found: 1, wanted: 2, .. })), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_data_in_use_is_refused() {
    let cluster = Cluster::formed(1, RaftOptions::test()).await;
    let error = cluster.open(1).await.err().expect("in use");
    assert!(matches!(error, OpenError::Storage(StorageError::Locked { .. })), "{error}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_log_with_an_entry_of_a_newer_format_is_refused_and_kept() {
    let cluster = one_node_with_jobs(3).await;
    let change_last = |change: &dyn Fn(&mut Vec<u8>)| {
        let path = cluster.directory(1).join("log");
        let store = Store::open(&path, StoreKind::Log, log_store::FAMILIES).expect("opens");
        let mut last = None;
        let walked = store.scan(log_store::ENTRIES, &[], &[], &mut |key, value| {
            last = Some((key.to_vec(), value.to_vec()));
            true
        });
        walked.expect("reads");
        let (key, mut value) = last.expect("the log has entries");
        change(&mut value);
        let mut batch = Batch::new();
        batch.put(log_store::ENTRIES, key, value.clone());
        store.write(batch, Synced::Yes).expect("writes");
        value
    };
    let newer = change_last(&|value| value[0] += 1);
    let error = cluster.open(1).await.err().expect("not of this version");
    assert!(matches!(error, OpenError::Storage(StorageError::NewerFormat { .. })), "{error}");
    assert!(error.to_string().contains("run that version"), "{error}");
    assert_eq!(change_last(&|_| {}), newer, "what could not be read was changed");
    change_last(&|value| value[0] -= 1);
    cluster.open(1).await.expect("opens with what it knows").halt().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_stores_of_two_disks_is_refused() {
    let (first, second) = (one_node_with_jobs(1).await, one_node_with_jobs(1).await);
    fs::remove_dir_all(first.directory(1).join("state")).expect("removed");
    fs::rename(second.directory(1).join("state"), first.directory(1).join("state")).expect("swapped");
    let error = first.open(1).await.err().expect("not one disk");
    assert!(matches!(error, OpenError::Storage(StorageError::Mismatched { .. })), "{error}");
}
