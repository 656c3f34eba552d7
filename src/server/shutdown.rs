//! From signals to phases: serve, stop in order, stop now.

use std::io;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};

/// How far the end has come. Only rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    #[default]
    Serve,
    /// Running jobs may end for a while.
    Orderly,
    /// Nothing is waited for.
    Now,
}

impl Phase {
    fn next(self) -> Self {
        match self {
            Self::Serve => Self::Orderly,
            Self::Orderly | Self::Now => Self::Now,
        }
    }
}

/// Counts SIGTERM and SIGINT; each takes the phase one further.
pub struct Signals {
    phase: watch::Receiver<Phase>,
    listener: JoinHandle<()>,
}

impl Signals {
    pub fn listen() -> io::Result<Self> {
        let (sender, phase) = watch::channel(Phase::default());
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { phase, listener: tokio::spawn(count(terminate, interrupt, sender)) })
    }

    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn count(mut terminate: Signal, mut interrupt: Signal, phase: watch::Sender<Phase>) {
    loop {
        let name = tokio::select! {
            Some(()) = terminate.recv() => "SIGTERM",
            Some(()) = interrupt.recv() => "SIGINT",
            else => return,
        };
        phase.send_modify(|phase| *phase = phase.next());
        match *phase.borrow() {
            Phase::Orderly => tracing::info!(signal = name, "stopping in order; once more to stop at once"),
            Phase::Now | Phase::Serve => tracing::warn!(signal = name, "stopping at once"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phase_rises_to_now_and_stays() {
        let orderly = Phase::default().next();
        assert_eq!(orderly, Phase::Orderly);
        assert_eq!(orderly.next().next(), Phase::Now);
    }
}
