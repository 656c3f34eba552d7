//! `Node`: all that the other rooms see of replication.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{
    Stream,
    future::{Either, ready},
};
use openraft::async_runtime::WatchReceiver;
use tokio::{
    net::TcpListener,
    sync::{broadcast, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    apply::{Applier, ApplyThread},
    backup::{Backup, BackupError},
    batch::{self, Committed, Proposals, ProposeError},
    crash_hint,
    feature::FeatureLevel,
    inner::{Inner, Raft},
    lease::LeaseClock,
    log_store::{self, LogStore, LogWriter},
    membership::MembershipError,
    message::{Propose, Topic},
    network::Network,
    options::NodeOptions,
    peer::Peers,
    reads::{self, Consistency, ReadError, ReadIndexes},
    replica::{AppliedBatch, Reading, Replica},
    restore::{RestoreError, RestoreOptions, Restored},
    room::has_room,
    rpc,
    snapshot::{Incoming, Snapshots},
    state_machine::StateMachine,
    state_rows,
    status::{Leadership, Role, Space, Status},
    stop::{Stop, StopReason},
    types::Member,
    upkeep::Upkeep,
};
use crate::{
    queue::command::Request,
    storage::{ClusterId, DataDir, StorageError, StoreUsage},
};

/// How long an orderly stop waits for another node to lead.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("{0}")]
    Timers(#[from] openraft::ConfigError),
    #[error("raft does not start: {0}")]
    Raft(String),
    #[error("node {id} was removed from its cluster and its id is spent; start a new node under a new id and add it")]
    Removed { id: u64 },
    #[error("a thread does not start: {0}")]
    Thread(#[from] std::io::Error),
}

/// One member of the cluster, running. Clones share it.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
    proposals: Proposals,
    read_indexes: ReadIndexes,
    tasks: TaskTracker,
    cancel: CancellationToken,
    threads: Arc<Mutex<Option<(LogWriter, ApplyThread)>>>,
}

/// The state as of an index that satisfies what was asked for.
pub struct View {
    inner: Arc<Inner>,
    at_least: u64,
}

impl Node {
    /// Opens the data directory and starts Raft. Peers are answered from [`Node::serve_peers`] on.
    ///
    /// # Errors
    /// The data directory is not this node's, is half gone, or cannot be read. Nothing was changed.
    pub async fn open(options: NodeOptions) -> Result<Self, OpenError> {
        let data = DataDir::new(&options.data_dir);
        let (opening, id, knows) = (data.clone(), options.id, options.raft.feature_level);
        let stop = Stop::new();
        let stopping = stop.clone();
        let opened = tokio::task::spawn_blocking(move || Opened::open(&opening, id, knows, stopping)).await;
        let opened = opened.map_err(|e| OpenError::Raft(e.to_string()))??;
        let threads = Arc::new(Mutex::new(Some((opened.writer, opened.apply_thread))));
        let identity = Arc::new(Mutex::new(opened.stores.identity));
        let snapshots = Arc::new(Snapshots::new(
            data.clone(),
            Arc::clone(&identity),
            Arc::clone(&opened.replica),
            opened.applier.clone(),
            opened.stores.state_name,
        ));
        snapshots.remove_unfinished();
        let machine = StateMachine::new(Arc::clone(&opened.replica), opened.applier.clone(), Arc::clone(&snapshots));
        let peers = Peers::default();
        let config = Arc::new(options.raft.openraft().validate()?);
        let membership = Arc::new(std::sync::OnceLock::<Raft>::new());
        let network = Network {
            peers: peers.clone(),
            node: options.id,
            cluster: {
                let identity = Arc::clone(&identity);
                Arc::new(move || identity.lock().expect("no holder of this lock panics").cluster)
            },
            append_timeout: options.raft.append_timeout(),
            newest: opened.log.newest(),
            stop: stop.clone(),
            membership: {
                let raft = Arc::clone(&membership);
                Arc::new(move || {
                    let metrics = raft.get()?.metrics();
                    let membership = Arc::clone(&metrics.borrow_watched().membership_config);
                    membership.log_id().map(|id| id.index)
                })
            },
        };
        let raft = Raft::new(options.id, config, network, opened.log.clone(), machine)
            .await
            .map_err(|e| OpenError::Raft(e.to_string()))?;
        // Only an answer of the core tells that what it read from the disk stands in its metrics.
        raft.is_initialized().await.map_err(|e| OpenError::Raft(e.to_string()))?;
        drop(membership.set(raft.clone()));
        let leadership = Leadership { role: Role::Pristine, term: 0, leader: None };
        let inner = Arc::new(Inner {
            options,
            raft,
            replica: opened.replica,
            snapshots,
            applier: opened.applier,
            log: opened.log,
            log_db: opened.stores.log,
            data,
            identity,
            peers,
            stop,
            changing: tokio::sync::Mutex::new(()),
            restoring: AtomicBool::new(false),
            leadership: watch::Sender::new(leadership),
            space: watch::Sender::new(Space::Plenty),
            wall_clock: watch::Sender::new(None),
            problem: watch::Sender::new(None),
            lease: LeaseClock::default(),
            line_to: watch::Sender::new(None),
            heard_leader_ms: AtomicU64::new(0),
            proposals: OnceLock::new(),
            proposed: batch::Proposed::default(),
            incarnation: rand::random(),
        });
        inner.publish_leadership();
        Ok(Self::start(inner, threads))
    }

    fn start(inner: Arc<Inner>, threads: Arc<Mutex<Option<(LogWriter, ApplyThread)>>>) -> Self {
        let (proposals, proposer) = batch::channel(Arc::clone(&inner));
        let (read_indexes, asker) = reads::channel(Arc::clone(&inner));
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        drop(inner.proposals.set(proposals.clone()));
        let node = Self { inner, proposals, read_indexes, tasks, cancel, threads };
        node.spawn(proposer.run());
        node.spawn(asker.run());
        node.spawn(Upkeep::new(Arc::clone(&node.inner)).run());
        node.spawn(watch_leadership(Arc::clone(&node.inner)));
        if node.inner.options.raft.crash_hint {
            node.spawn(crash_hint::watch(Arc::clone(&node.inner)));
        }
        node
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.cancel.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Answers other nodes on `listener`, until [`Node::shutdown`].
    pub fn serve_peers(&self, listener: TcpListener) {
        self.tasks.spawn(rpc::serve(listener, Arc::clone(&self.inner), self.cancel.clone()));
    }

    /// Looks after a node without a cluster: whether its disk was wiped, and, with `form_if_new`, whether it should form
    /// one with its founding members. With a cluster, whether the others are in the same one.
    pub fn seek_cluster(&self, form_if_new: bool) {
        self.spawn(Arc::clone(&self.inner).wait_for_cluster(form_if_new));
        self.spawn(Arc::clone(&self.inner).watch_belonging());
    }

    /// Proposes a request and waits until it is committed on a majority and applied here, or `deadline`.
    ///
    /// # Errors
    /// Each says whether it was proposed.
    pub fn propose(
        &self,
        request: Request,
        deadline: Instant,
    ) -> impl Future<Output = Result<Committed, ProposeError>> + use<> {
        match self.may_propose(&request).and_then(|()| self.proposals.ask(request)) {
            Ok(asked) => Either::Left(asked.answered_by(deadline)),
            Err(error) => Either::Right(ready(Err(error))),
        }
    }

    fn may_propose(&self, request: &Request) -> Result<(), ProposeError> {
        if self.inner.leading().is_none() {
            let leader = self.inner.leader().filter(|leader| leader.id != self.inner.options.id);
            return Err(ProposeError::NotLeader { leader });
        }
        match has_room(*self.inner.space.borrow(), &request.command) {
            true => Ok(()),
            false => Err(ProposeError::NoSpace),
        }
    }

    /// Proposes here if this node leads, else at whoever does.
    ///
    /// # Errors
    /// [`ProposeError::Unknown`] wherever the leader was asked and did not answer.
    pub async fn propose_anywhere(&self, request: Request, deadline: Instant) -> Result<Committed, ProposeError> {
        match self.propose(request.clone(), deadline).await {
            Err(ProposeError::NotLeader { leader: Some(leader) }) => {
                let within = deadline.saturating_duration_since(Instant::now());
                let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
                let question = Propose { request, within_ms };
                let asked = self.inner.ask((leader.id, &leader.member), Topic::Propose, &question, within).await;
                asked.map_err(|error| {
                    tracing::debug!(leader = leader.id, %error, "the leader did not propose for this node");
                    ProposeError::Unknown
                })
            }
            outcome => outcome,
        }
    }

    /// Looks at the state as this node has applied it.
    pub fn look<T>(&self, look: impl FnOnce(&Reading<'_>) -> T) -> T {
        look(&self.inner.replica.read())
    }

    /// A view at least as new as `min_index`, and, if `consistency` says so, as everything acknowledged before this call.
    ///
    /// # Errors
    /// No leader confirmed it, or this node did not catch up, before `deadline`.
    pub async fn view(&self, consistency: Consistency, min_index: u64, deadline: Instant) -> Result<View, ReadError> {
        let read = match consistency {
            Consistency::Linearizable => self.read_indexes.get(deadline).await?,
            Consistency::Local => 0,
        };
        let at_least = read.max(min_index);
        self.inner.applied(at_least, deadline).await?;
        Ok(View { inner: Arc::clone(&self.inner), at_least })
    }

    #[cfg(test)]
    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub fn id(&self) -> u64 {
        self.inner.options.id
    }

    /// `None` until the node belongs to a cluster.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.inner.identity().cluster
    }

    pub fn status(&self) -> Status {
        self.inner.status()
    }

    /// What its two stores hold in memory, by name.
    pub fn stores(&self) -> [(&'static str, StoreUsage); 2] {
        [("log", self.inner.log.store_usage()), ("state", self.inner.replica.store().usage())]
    }

    /// Why this node does not serve, where it knows.
    pub fn problem(&self) -> Option<String> {
        self.inner.problem.borrow().clone()
    }

    /// Role, term and leader, as they change.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.subscribe()
    }

    /// How much room a majority of the disks has.
    pub fn space(&self) -> watch::Receiver<Space> {
        self.inner.space.subscribe()
    }

    /// The office this node holds now, if it leads: what its entries are stamped with.
    pub fn office(&self) -> Option<crate::queue::job::Office> {
        let leader = self.inner.leading()?;
        let incarnation = self.inner.incarnation;
        Some(crate::queue::job::Office { term: leader.term, node: leader.node_id, incarnation })
    }

    /// Until when nobody else can lead, in milliseconds of [`crate::clock::Clock::monotonic_ms`]: the last moment at which
    /// a quorum was asked and later answered, plus the leader lease. `None` while this node does not lead, or cannot know.
    pub fn leads_until_ms(&self) -> Option<u64> {
        self.inner.leads_until_ms()
    }

    /// Whether this node leads and no longer hears a majority: somebody else may lead by now.
    pub fn is_cut_off(&self) -> bool {
        let now = self.inner.options.clock.monotonic_ms();
        self.inner.leading().is_some() && self.leads_until_ms().is_none_or(|until| until <= now)
    }

    /// Whether nothing that wall time triggers should happen: this node does not lead, has not compared its wall clock with
    /// the members' in this term, found it more than 10 s off their median, or it has jumped since.
    pub fn is_wall_clock_off(&self) -> bool {
        let inner = &self.inner;
        let trusted =
            |term| inner.wall_clock.borrow().is_some_and(|known| known.is_trusted(term, &inner.options.clock));
        !inner.leading().is_some_and(|leader| trusted(leader.term))
    }

    /// The last applied index, as it moves.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.inner.replica.index()
    }

    /// What each chunk of entries brought about, from now on, after its callers were answered.
    pub fn applied_batches(&self) -> broadcast::Receiver<Arc<AppliedBatch>> {
        self.inner.replica.batches()
    }

    /// Set once the node must not go on; the process should end with this reason.
    pub fn stopped(&self) -> watch::Receiver<Option<StopReason>> {
        self.inner.stop.watch()
    }

    /// Where a member is reached, as the replicated membership says.
    pub fn member(&self, id: u64) -> Option<Member> {
        self.inner.membership().membership().get_node(&id).cloned()
    }

    /// Forms the cluster of the founding members.
    pub async fn init(&self) -> Result<ClusterId, MembershipError> {
        self.inner.form().await
    }

    /// Takes in the pristine node that answers at `peer`, as a learner; gives its id, which is `id` if that is said.
    pub async fn add(&self, id: Option<u64>, peer: &str) -> Result<u64, MembershipError> {
        self.inner.add(id, peer).await
    }

    pub async fn promote(&self, id: u64, deadline: Instant) -> Result<(), MembershipError> {
        self.inner.promote(id, deadline).await
    }

    pub async fn remove(&self, id: u64, deadline: Instant) -> Result<(), MembershipError> {
        self.inner.remove(id, deadline).await
    }

    /// Puts the pristine node at `peer` in the place of member `old`; gives its id, which is `id` if that is said.
    pub async fn replace(
        &self,
        old: u64,
        id: Option<u64>,
        peer: &str,
        deadline: Instant,
    ) -> Result<u64, MembershipError> {
        self.inner.replace(old, id, peer, deadline).await
    }

    /// Lets another voter lead: `to`, or the one that lags least. Gives the id of the new leader.
    pub async fn transfer(&self, to: Option<u64>, deadline: Instant) -> Result<u64, MembershipError> {
        self.inner.hand_over(to, deadline).await
    }

    /// Asks for a snapshot now, and waits until one that covers the present index is there.
    pub async fn snapshot_now(&self, deadline: Instant) -> Result<u64, MembershipError> {
        let applied = *self.inner.replica.index().borrow();
        self.inner.snapshot_reaching(applied, deadline).await?;
        Ok(applied)
    }

    /// A snapshot to take away, as fresh as `consistency` says. It is written for as long as its size needs; `deadline` is
    /// that of the read it begins with.
    ///
    /// # Errors
    /// No leader confirmed it before `deadline`, or the node stops before it is written.
    pub async fn backup(&self, consistency: Consistency, deadline: Instant) -> Result<Backup, BackupError> {
        self.view(consistency, 0, deadline).await?;
        self.inner.backup().await
    }

    /// Writes a backup that arrives in pieces down; it is looked at by [`Node::restore`].
    pub async fn receive_backup(
        &self,
        pieces: impl Stream<Item = std::io::Result<Bytes>>,
    ) -> Result<Incoming, RestoreError> {
        self.inner.receive_backup(pieces).await
    }

    /// Forms a new cluster of the founding members with the state of `backup`. Goes on if the caller goes away.
    ///
    /// # Errors
    /// The backup is damaged, a founder is missing or not pristine: nothing was changed.
    pub async fn restore(&self, backup: Incoming, options: RestoreOptions) -> Result<Restored, RestoreError> {
        let (inner, cancel) = (Arc::clone(&self.inner), self.cancel.clone());
        let stops = || Err(RestoreError::Failed("the node stops".to_owned()));
        let restoring =
            self.tasks.spawn(async move { cancel.run_until_cancelled(inner.restore(backup, options)).await });
        restoring.await.ok().flatten().unwrap_or_else(stops)
    }

    /// Stops in order: hands over if it leads, ends Raft, then the threads, then the databases.
    pub async fn shutdown(self) {
        if self.inner.leading().is_some() && self.inner.voters().len() > 1 {
            let deadline = Instant::now() + HAND_OVER_TIMEOUT;
            if let Err(error) = self.inner.hand_over(None, deadline).await {
                tracing::warn!(%error, "leadership not handed over");
            }
        }
        self.halt().await;
    }

    /// Stops without handing over.
    pub async fn halt(self) {
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "raft did not end in order");
        }
        // Behind Raft, which would take what is given up for a fault.
        self.inner.snapshots.end().await;
        self.cancel.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.inner.peers.close();
        let threads = self.threads.lock().expect("no holder of this lock panics").take();
        let Some((writer, apply)) = threads else { return };
        let joined = tokio::task::spawn_blocking(move || {
            writer.join();
            apply.join();
        });
        if joined.await.is_err() {
            tracing::error!("a thread of the node panicked");
        }
        let inner = self.inner;
        // Other clones may live on, but the databases' own threads end here.
        let closing = tokio::task::spawn_blocking(move || {
            inner.log_db.quiesce();
            inner.replica.store().quiesce();
        });
        if closing.await.is_err() {
            tracing::error!("a database did not close in order");
        }
    }
}

impl View {
    /// Looks at state and rows at one index, which is at least the one that was asked for. Apply waits meanwhile: look, take
    /// the rows along if there is more to do, and let go.
    pub fn look<T>(&self, look: impl FnOnce(&Reading<'_>) -> T) -> T {
        let reading = self.inner.replica.read();
        assert!(reading.index() >= self.at_least, "the applied index never falls");
        look(&reading)
    }

    /// The index that was waited for.
    pub fn at_least(&self) -> u64 {
        self.at_least
    }
}

/// What can be opened before there is a Raft.
struct Opened {
    stores: crate::storage::Stores,
    log: LogStore,
    writer: LogWriter,
    replica: Arc<Replica>,
    applier: Applier,
    apply_thread: ApplyThread,
}

impl Opened {
    fn open(data: &DataDir, node: u64, knows: FeatureLevel, stop: Stop) -> Result<Self, OpenError> {
        let stores = data.open(node, log_store::FAMILIES, state_rows::FAMILIES)?;
        if stores.identity.removed {
            return Err(OpenError::Removed { id: node });
        }
        let replica = Arc::new(Replica::load(Arc::clone(&stores.state), knows, stop.clone())?);
        let (log, writer) = LogStore::open(Arc::clone(&stores.log), stop.clone())?;
        // What the log holds was not cut, so the next snapshot is due for all of it.
        replica.bytes_since_snapshot.store(log.bytes(), Ordering::Relaxed);
        let (applier, apply_thread) = Applier::start(Arc::clone(&replica), node, stop)?;
        Ok(Self { stores, log, writer, replica, applier, apply_thread })
    }
}

/// Tells listeners of a change of leadership as soon as Raft knows of it.
async fn watch_leadership(inner: Arc<Inner>) {
    let mut metrics = inner.raft.server_metrics();
    while metrics.changed().await.is_ok() {
        inner.publish_leadership();
    }
}
