//! The node's log: to standard error, as text for people or JSON for machines.

use tracing_subscriber::EnvFilter;

use crate::{
    config::{Log, LogFormat},
    raft::RAFT_LOG_TARGET,
};

/// Starts logging; a process that logs already (a test) keeps its own way.
pub fn start(log: &Log) {
    let filter = EnvFilter::new(quieted(&log.level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    if started.is_err() {
        tracing::debug!("the process logs already");
    }
}

/// The Raft library tells at info what a node tells at debug, and warns at every heartbeat that a dead member misses: it is
/// asked for by name, or keeps to errors.
fn quieted(level: &str) -> String {
    if level.contains(RAFT_LOG_TARGET) { level.to_owned() } else { format!("{RAFT_LOG_TARGET}=error,{level}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raft_library_is_quiet_until_it_is_asked_for() {
        assert_eq!(quieted("debug"), format!("{RAFT_LOG_TARGET}=error,debug"));
        let asked = format!("info,{RAFT_LOG_TARGET}=debug");
        assert_eq!(quieted(&asked), asked);
    }
}
