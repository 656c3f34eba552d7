//! Why a configuration is refused: one sentence each, what is wrong and what to do.

use std::path::PathBuf;

use super::Address;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {}: {error}; give an existing file with --config", path.display())]
    Unreadable { path: PathBuf, error: String },
    #[error("{}, line {line}: {message}; correct the file and start again", path.display())]
    Malformed { path: PathBuf, line: usize, message: String },
    #[error("the configuration says no `{key}`; add it to the file, or give it as a flag")]
    Missing { key: &'static str },
    #[error("{name}={text} is not {wanted}; correct or unset the variable")]
    BadVariable { name: &'static str, text: String, wanted: &'static str },
    #[error("node id {id} is out of range; use a number from 1 to 9007199254740991")]
    BadId { id: u64 },
    #[error("`{key}` is \"{text}\", and {why}; write it as host:port, for example \"127.0.0.1:7401\"")]
    BadAddress { key: String, text: String, why: &'static str },
    #[error(
        "`{key}` is \"{address}\", which others cannot connect to; set an address with a host and a port of its own (advertise_api, advertise_peer)"
    )]
    Unreachable { key: String, address: Address },
    #[error("two [[member]] entries have id {id}; give every node an id of its own")]
    DuplicateId { id: u64 },
    #[error(
        "the address {address} stands twice among the [[member]] entries; every node needs an api and a peer address of its own"
    )]
    SharedAddress { address: Address },
    #[error(
        "no [[member]] entry has this node's id {id}; add it if the node is a founder, or remove all [[member]] entries if it is to be added later with `raftq cluster add`"
    )]
    NotAMember { id: u64 },
    #[error(
        "[[member]] {id} says {door} = \"{listed}\", and this node would be reached at \"{said}\"; make them equal, or set advertise_{door}"
    )]
    OwnEntryDiffers { id: u64, door: &'static str, listed: Address, said: Address },
    #[error("`api` and `peer` both use port {port}; they are two listeners, give each its own port")]
    SamePort { port: u16 },
    #[error("there is no raft.profile \"{name}\"; use lan, wan or test")]
    UnknownProfile { name: String },
    #[error("{message}; change them, or use only raft.profile")]
    BadTiming { message: String },
    #[error(
        "pool.timeout_ms is {timeout_ms}, and with these raft timers commands of an old leader may live {least_ms} ms; set at least {least_ms}"
    )]
    PoolTimeout { timeout_ms: u64, least_ms: u64 },
    #[error("pool.queues is empty; name at least one queue, or set pool.size to 0 to run nothing")]
    NoPoolQueues,
    #[error("{why}; rename the queue \"{queue}\"")]
    BadQueue { queue: String, why: String },
    #[error("pool.size is {size}; set it to at most {most}")]
    PoolSize { size: u32, most: u32 },
    #[error("`shell` is \"{text}\"; set it to auto or to the absolute path of a shell")]
    BadShell { text: String },
    #[error(
        "log level \"{text}\" is not understood; use error, warn, info, debug, trace or off, with exceptions as in info,PART=debug"
    )]
    BadLogLevel { text: String },
    #[error("log format \"{text}\" is not known; use text or json")]
    BadLogFormat { text: String },
}
