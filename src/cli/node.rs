//! `raftq node`: run a node of the cluster, from its configuration file, with flags and variables over it.

use std::path::PathBuf;

use super::failure::{Exit, Failure, Outcome};
use crate::{
    config::{Config, Overrides, Pool, Raft},
    server,
};

#[derive(Debug, clap::Args)]
pub struct NodeArgs {
    /// The node's configuration
    #[arg(long, value_name = "FILE", env = "RAFTQ_CONFIG")]
    config: PathBuf,
    /// Form the cluster if this is the lowest founding member and none of them has ever been in one
    #[arg(long)]
    init_if_new: bool,
    /// This node's number; never one that was used before
    #[arg(long, value_name = "N")]
    id: Option<u64>,
    /// Where its two stores are
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where to serve clients
    #[arg(long, value_name = "HOST:PORT")]
    api: Option<String>,
    /// Where to serve other nodes
    #[arg(long, value_name = "HOST:PORT")]
    peer: Option<String>,
    /// Where others reach the client address, if it differs
    #[arg(long, value_name = "HOST:PORT")]
    advertise_api: Option<String>,
    /// Where others reach the peer address, if it differs
    #[arg(long, value_name = "HOST:PORT")]
    advertise_peer: Option<String>,
    /// Files of running commands
    #[arg(long, value_name = "DIR")]
    scratch_dir: Option<PathBuf>,
    /// Runs `shell` commands: auto, or a path
    #[arg(long, value_name = "PATH")]
    shell: Option<String>,
    #[command(flatten)]
    timers: TimerArgs,
    #[command(flatten)]
    pool: PoolArgs,
    /// Host names by which clients may ask, beside those in the members' addresses
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    names: Option<Vec<String>>,
    /// error, warn, info, debug, or a filter like info,raftq::raft=debug
    #[arg(long, value_name = "FILTER")]
    log_level: Option<String>,
    /// text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

/// Over `[raft]` of the file.
#[derive(Debug, clap::Args)]
struct TimerArgs {
    /// Raft's timers: lan, wan or test
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// From heartbeat to heartbeat of a leader
    #[arg(long, value_name = "MS")]
    heartbeat_ms: Option<u64>,
    /// The least that a node waits for a leader before it stands for election
    #[arg(long, value_name = "MS")]
    election_min_ms: Option<u64>,
    /// The most; also how long a leader without a majority believes in itself
    #[arg(long, value_name = "MS")]
    election_max_ms: Option<u64>,
    /// Whether to elect at once where the leader's process is seen to be gone
    #[arg(long, value_name = "true|false")]
    crash_hint: Option<bool>,
}

/// Over `[pool]` of the file: what a new cluster begins with.
#[derive(Debug, clap::Args)]
#[allow(clippy::struct_field_names, reason = "each is the name of a flag")]
struct PoolArgs {
    /// Commands that the leader runs at a time; for a new cluster, afterwards: raftq pool resize
    #[arg(long, value_name = "N")]
    pool_size: Option<u32>,
    /// Queues that the leader takes them from
    #[arg(long, value_name = "QUEUE,...", value_delimiter = ',')]
    pool_queues: Option<Vec<String>>,
    /// Whether it takes any
    #[arg(long, value_name = "true|false")]
    pool_active: Option<bool>,
    /// How long a new leader leaves the old one's pool to stop its commands
    #[arg(long, value_name = "MS")]
    pool_timeout_ms: Option<u64>,
}

impl From<TimerArgs> for Raft {
    fn from(args: TimerArgs) -> Self {
        Self {
            profile: args.profile,
            heartbeat_ms: args.heartbeat_ms,
            election_min_ms: args.election_min_ms,
            election_max_ms: args.election_max_ms,
            crash_hint: args.crash_hint,
        }
    }
}

impl From<PoolArgs> for Pool {
    fn from(args: PoolArgs) -> Self {
        Self {
            active: args.pool_active,
            size: args.pool_size,
            queues: args.pool_queues,
            timeout_ms: args.pool_timeout_ms,
        }
    }
}

impl NodeArgs {
    fn overrides(self) -> Overrides {
        Overrides {
            id: self.id,
            data_dir: self.data_dir,
            api: self.api,
            peer: self.peer,
            advertise_api: self.advertise_api,
            advertise_peer: self.advertise_peer,
            scratch_dir: self.scratch_dir,
            shell: self.shell,
            names: self.names,
            pool: self.pool.into(),
            raft: self.timers.into(),
            log_level: self.log_level,
            log_format: self.log_format,
            init_if_new: self.init_if_new,
        }
    }
}

/// To be called before any thread is started.
pub fn run(args: NodeArgs) -> Outcome {
    let path = args.config.clone();
    let variables = Overrides::from_environment().map_err(|error| Failure::usage(error.to_string()))?;
    let config =
        Config::load(&path, args.overrides().or(variables)).map_err(|error| Failure::usage(error.to_string()))?;
    server::serve(config).map_err(Failure::Server)?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        node: NodeArgs,
    }

    #[test]
    fn flags_lie_over_every_part_of_the_file() {
        let line = "node --config n.toml --pool-size 3 --pool-queues a,b --pool-active false --names q.example --profile wan \
                    --election-max-ms 900 --crash-hint false";
        let overrides = Line::try_parse_from(line.split_whitespace()).expect("parses").node.overrides();
        let queues = Some(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(overrides.pool, Pool { active: Some(false), size: Some(3), queues, timeout_ms: None });
        assert_eq!((overrides.raft.election_max_ms, overrides.raft.crash_hint), (Some(900), Some(false)));
        assert_eq!(overrides.names, Some(vec!["q.example".to_owned()]));
    }
}
