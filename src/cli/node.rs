//! `raftq node`: run a node of the cluster, from its configuration file, with flags and variables over it.

use std::path::PathBuf;

use super::failure::{Exit, Failure, Outcome};
use crate::{
    config::{Config, Overrides},
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
    #[arg(long, value_name = "N")]
    id: Option<u64>,
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
    /// Raft's timers: lan, wan or test
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// error, warn, info, debug, or a filter like info,raftq::raft=debug
    #[arg(long, value_name = "FILTER")]
    log_level: Option<String>,
    /// text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
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
            profile: self.profile,
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
