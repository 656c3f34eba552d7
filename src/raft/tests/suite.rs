//! openraft's own conformance suite over our stores.

use std::sync::{Arc, Mutex};

use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};
use tempfile::TempDir;

use crate::raft::{
    FeatureLevel,
    apply::{Applier, ApplyThread},
    log_store::{self, LogStore, LogWriter},
    replica::Replica,
    snapshot::Snapshots,
    state_machine::StateMachine,
    state_rows,
    stop::Stop,
    types::TypeConfig,
};
use crate::storage::DataDir;

struct Builder;

/// Ends the threads, then removes the directory.
struct Guard {
    threads: Option<(LogWriter, ApplyThread)>,
    _directory: TempDir,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let (log, apply) = self.threads.take().expect("dropped once");
        // The suite drops this on its runtime, where blocking is refused.
        std::thread::spawn(move || {
            log.join();
            apply.join();
        })
        .join()
        .expect("threads end");
    }
}

impl StoreBuilder<TypeConfig, LogStore, StateMachine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, LogStore, StateMachine), StorageError<TypeConfig>> {
        let directory = TempDir::new().expect("temporary directory");
        let data = DataDir::new(directory.path());
        let stores = data.open(1, log_store::FAMILIES, state_rows::FAMILIES).expect("stores open");
        let stop = Stop::new();
        let (log, writer) = LogStore::open(stores.log, stop.clone()).expect("log opens");
        let replica = Arc::new(Replica::load(stores.state, FeatureLevel::NEWEST, stop.clone()).expect("state loads"));
        let (applier, apply) = Applier::start(Arc::clone(&replica), 1, stop).expect("apply thread starts");
        let identity = Arc::new(Mutex::new(stores.identity));
        let snapshots =
            Arc::new(Snapshots::new(data, identity, Arc::clone(&replica), applier.clone(), stores.state_name));
        let machine = StateMachine::new(replica, applier, snapshots);
        Ok((Guard { threads: Some((writer, apply)), _directory: directory }, log, machine))
    }
}

#[test]
fn stores_pass_openrafts_suite() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    runtime.block_on(async { Suite::test_all(Builder).await }).expect("the suite passes");
}
