//! A node's parts while it runs, and their end.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Phase, ServerError, doors::Doors};
use crate::{
    api,
    clock::Clock,
    config::Config,
    http,
    leader::{Duties, Handover, Seed, Setup, pool},
    queue::{
        command::PoolChange,
        ids::{JobId, LeaseId},
    },
    raft::{Founder, Node, NodeOptions, RaftOptions, StopReason},
    worker::{self, Runner, Supervisor},
};

/// How long running jobs may take to end when the node is told to stop (design 2.3).
const JOBS_PATIENCE: Duration = Duration::from_secs(10);
/// Taking over takes another node milliseconds; one that does not by then is not going to.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(3);
/// Between losing the office and hearing who took it.
const DEPOSED_PATIENCE: Duration = Duration::from_millis(500);
/// A leader that made no progress for this many of its leases should not lead.
const STALL_LEASES: u64 = 5;

pub struct Running {
    node: Node,
    duties: Duties,
    runner: Runner,
    clients: JoinHandle<()>,
    clients_stop: CancellationToken,
}

impl Running {
    pub async fn start(config: &Config, doors: Doors, supervisor: Supervisor) -> Result<Self, ServerError> {
        let runner = Runner::new(supervisor);
        match Self::open(config, doors, runner.clone()).await {
            Ok(running) => Ok(running),
            Err(error) => {
                runner.stop().await;
                Err(error)
            }
        }
    }

    async fn open(config: &Config, doors: Doors, runner: Runner) -> Result<Self, ServerError> {
        let clock = Clock::system();
        let peer = TcpListener::from_std(doors.peer).map_err(ServerError::Runtime)?;
        let api = TcpListener::from_std(doors.api).map_err(ServerError::Runtime)?;
        let node = Node::open(node_options(config, &clock)).await?;
        node.serve_peers(peer);
        node.seek_cluster(config.init_if_new);
        let duties = Duties::start(node.clone(), setup(config, clock, runner.clone()));
        let pool = Box::new(OwnPool { handover: duties.handover(), live: duties.live_output() });
        let names = config.names.iter().cloned().collect();
        let clients_stop = CancellationToken::new();
        let clients = http::run(api, http::Deps { node: node.clone(), pool, names }, clients_stop.clone());
        let clients = tokio::spawn(clients);
        tracing::info!(node = config.id, api = %config.advertise.api, peer = %config.advertise.peer, "node serves");
        Ok(Self { node, duties, runner, clients, clients_stop })
    }

    /// Until told to stop, or until the node must not go on; then stops everything, in order.
    pub async fn until_end(self, mut phase: watch::Receiver<Phase>) -> Result<(), ServerError> {
        let mut stopped = self.node.stopped();
        let reason = tokio::select! {
            reason = stopped.wait_for(Option::is_some) => reason.ok().and_then(|reason| reason.clone()),
            _ = phase.wait_for(|phase| *phase >= Phase::Orderly) => None,
        };
        if reason.is_none() {
            self.hand_over(phase).await;
        }
        self.stop().await;
        match reason {
            None => Ok(()),
            Some(StopReason::Removed) => {
                tracing::info!("removed from the cluster; this data directory is of no more use");
                Ok(())
            }
            Some(reason) => Err(ServerError::Stopped(reason)),
        }
    }

    /// Lets running jobs end for a while, and another node lead.
    async fn hand_over(&self, mut phase: watch::Receiver<Phase>) {
        let handover = self.duties.handover();
        tokio::select! {
            _ = handover.leave(JOBS_PATIENCE) => {}
            _ = phase.wait_for(|phase| *phase >= Phase::Now) => drop(handover.leave(Duration::ZERO).await),
        }
        let leads_others = self.node.office().is_some() && self.node.status().members.len() > 1;
        if !leads_others {
            return;
        }
        tokio::select! {
            transferred = self.node.transfer(None, Instant::now() + TRANSFER_PATIENCE) => match transferred {
                Ok(to) => tracing::info!(to, "leadership handed over"),
                Err(error) => tracing::warn!(%error, "leadership not handed over"),
            },
            // The others stop as well, or cannot be reached: nobody is there to take it.
            () = handover.deposed(DEPOSED_PATIENCE) => tracing::info!("no longer leading"),
            _ = phase.wait_for(|phase| *phase >= Phase::Now) => {}
        }
    }

    async fn stop(self) {
        self.duties.stop().await;
        self.clients_stop.cancel();
        if let Err(error) = self.clients.await {
            tracing::error!(%error, "the front door ended badly");
        }
        self.node.halt().await;
        self.runner.stop().await;
        tracing::info!("node stopped");
    }
}

/// The pool as the front door sees it.
struct OwnPool {
    handover: Handover,
    live: pool::LiveOutput,
}

impl http::LocalPool for OwnPool {
    fn output(&self, job: JobId, lease: LeaseId) -> BoxFuture<'_, Option<http::LiveOutput>> {
        Box::pin(async move {
            let tail = self.live.tail(job, lease).await?;
            Some(http::LiveOutput { stdout: tail.stdout, stderr: tail.stderr })
        })
    }

    fn leave(&self, wait: Duration) -> BoxFuture<'_, Vec<JobId>> {
        Box::pin(async move { self.handover.leave(wait).await.interrupted })
    }

    fn stay(&self) {
        self.handover.stay();
    }
}

fn node_options(config: &Config, clock: &Clock) -> NodeOptions {
    let founders = config.members.iter().map(|member| Founder {
        id: member.id,
        api: member.addresses.api.to_string(),
        peer: member.addresses.peer.to_string(),
    });
    NodeOptions {
        id: config.id,
        data_dir: config.data_dir.clone(),
        api: config.advertise.api.to_string(),
        peer: config.advertise.peer.to_string(),
        founders: founders.collect(),
        raft: RaftOptions {
            heartbeat_ms: config.timing.heartbeat_ms,
            election_min_ms: config.timing.election_min_ms,
            election_max_ms: config.timing.election_max_ms,
            crash_hint: config.crash_hint,
            stall_ms: config.timing.election_max_ms * STALL_LEASES,
            ..RaftOptions::lan()
        },
        clock: clock.clone(),
    }
}

fn setup(config: &Config, clock: Clock, runner: Runner) -> Setup {
    let others = config.members.iter().filter(|member| member.id != config.id).map(|member| &member.addresses.api);
    let servers: Vec<_> = std::iter::once(&config.advertise.api).chain(others).map(ToString::to_string).collect();
    let pool = pool::Options {
        worker: pool::name(config.id),
        host: worker::host_name().into(),
        server: servers.join(","),
        read_spec: api::decode_spec,
        write_result: api::result_value,
        machine: runner.machine(),
    };
    let seed = PoolChange {
        active: Some(config.pool.active),
        size: Some(config.pool.size),
        queues: Some(config.pool.queues.iter().map(|queue| Arc::from(queue.as_str())).collect()),
    };
    Setup { clock, runner, pool, seed: Seed { pool: seed, pool_timeout_ms: config.pool.timeout_ms } }
}
