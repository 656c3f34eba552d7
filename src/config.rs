//! Configuration of a node: as typed ([`typed`]), then as meant ([`Config`]).
//!
//! One TOML file per node (design 5), over it `RAFTQ_*` variables, over those the flags: both arrive as [`Overrides`].
//! What was typed is read leniently in form and strictly in names; only [`Config::load`] decides what it means. Whatever
//! it refuses is one sentence that says what to do ([`ConfigError`]), and nothing on disk has been touched by then.
//!
//! Relative paths are relative to the current directory, as everywhere on a command line, and not to the file: one file
//! can then serve a checkout and an installation alike.

mod refusal;
mod typed;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::queue::limits::{POOL_SIZE_MAX, check_queue};

pub use refusal::ConfigError;
pub use typed::{Overrides, Pool, Raft};

/// What a node is told before it starts. The replicated membership and settings count more than this once they exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub id: u64,
    pub data_dir: PathBuf,
    /// Where the node listens: clients, then other nodes.
    pub listen: Addresses,
    /// What others are told; differs behind address translation, or where the node listens on every interface.
    pub advertise: Addresses,
    /// Host names under which clients may reach this node, beside addresses and localhost: a request for another name is
    /// refused, since it may be a web page's doing. The names in the members' api addresses are among them.
    pub names: BTreeSet<String>,
    /// The founding members by rising id, this node among them. Empty: the node waits to be added.
    pub members: Vec<Member>,
    /// Form the cluster if this is the lowest founding id and every founder is pristine.
    pub init_if_new: bool,
    pub pool: PoolSeed,
    pub timing: Timing,
    /// Whether a voter that sees the leader's process gone asks for the office at once, without waiting for its timer.
    pub crash_hint: bool,
    /// Files of running commands; emptied at start.
    pub scratch_dir: PathBuf,
    pub shell: Shell,
    pub log: Log,
}

/// A node's two doors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub api: Address,
    pub peer: Address,
}

/// A founding member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: u64,
    pub addresses: Addresses,
}

/// Seeds of the replicated pool settings; read once, when a cluster has none yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSeed {
    pub active: bool,
    pub size: u32,
    pub queues: Vec<String>,
    /// After a change of leader an old pool's leases end this long after the new leader's first entry.
    pub timeout_ms: u64,
}

/// Raft's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    pub heartbeat_ms: u64,
    pub election_min_ms: u64,
    /// Also the leader lease: a leader without a quorum's answer for this long may have a successor.
    pub election_max_ms: u64,
}

/// Which shell runs `shell` commands (design 2.4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Shell {
    /// bash with pipefail where bash is installed, else sh.
    #[default]
    Auto,
    Path(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A filter as tracing-subscriber reads it: `info`, or `info,raftq::raft=debug`.
    pub level: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// `host:port`, where host is a name, an IPv4 address, or an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address(String);

/// What kill of a command tree may take (design 2.3); a pool time-out must leave room for it.
pub const KILL_BUDGET_MS: u64 = 1_000;

/// Sets of timers that fit together. `test` is for busy machines, where short elections would be lost to scheduling.
const PROFILES: [(&str, Timing, u64); 3] = [
    ("lan", Timing { heartbeat_ms: 100, election_min_ms: 200, election_max_ms: 320 }, 2_000),
    ("wan", Timing { heartbeat_ms: 250, election_min_ms: 1_000, election_max_ms: 2_000 }, 5_000),
    ("test", Timing { heartbeat_ms: 100, election_min_ms: 500, election_max_ms: 1_000 }, 2_500),
];

impl Config {
    /// Reads `path`, lays `overrides` over it, and checks what comes out.
    pub fn load(path: &Path, overrides: Overrides) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error: error.kind().to_string() })?;
        let file = typed::File::parse(path, &text)?;
        Self::mean(overrides, file)
    }

    fn mean(typed: Overrides, file: typed::File) -> Result<Self, ConfigError> {
        let id = required(typed.id.or(file.id), "id")?;
        check_id(id)?;
        let members = founding_members(&file.member)?;
        let own = own_member(id, &members)?;
        let listen = Addresses {
            api: listen_address("api", typed.api.or(file.api), own.map(|own| &own.addresses.api))?,
            peer: listen_address("peer", typed.peer.or(file.peer), own.map(|own| &own.addresses.peer))?,
        };
        check_distinct(&listen)?;
        let advertise = Addresses {
            api: advertised("api", typed.advertise_api.or(file.advertise_api), &listen.api, id, own)?,
            peer: advertised("peer", typed.advertise_peer.or(file.advertise_peer), &listen.peer, id, own)?,
        };
        let raft = typed.raft.or(file.raft);
        let (timing, pool_timeout_ms) = timing(&raft)?;
        let names = names(typed.names.or(file.names).unwrap_or_default(), &members, &advertise);
        let data_dir = required(typed.data_dir.or(file.data_dir), "data_dir")?;
        Ok(Self {
            id,
            listen,
            advertise,
            names,
            members,
            init_if_new: typed.init_if_new,
            pool: pool_seed(typed.pool.or(file.pool), &timing, pool_timeout_ms)?,
            timing,
            crash_hint: raft.crash_hint.unwrap_or(true),
            scratch_dir: typed.scratch_dir.or(file.scratch_dir).unwrap_or_else(|| data_dir.join("scratch")),
            data_dir,
            shell: shell(typed.shell.or(file.shell))?,
            log: log(typed.log_level.or(file.log.level), typed.log_format.or(file.log.format))?,
        })
    }

    /// Whether this node is the one that forms the cluster under `--init-if-new`.
    pub fn is_lowest_founder(&self) -> bool {
        self.members.first().is_some_and(|lowest| lowest.id == self.id)
    }
}

impl Address {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn host(&self) -> &str {
        self.split().0
    }

    pub fn port(&self) -> u16 {
        self.split().1
    }

    fn split(&self) -> (&str, u16) {
        let (host, port) = self.0.rsplit_once(':').expect("parsed with a colon");
        (host, port.parse().expect("parsed with a port"))
    }

    /// Whether the host means "every interface": fine to listen on, useless to tell others.
    fn is_wildcard(&self) -> bool {
        matches!(self.host(), "0.0.0.0" | "[::]")
    }
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or("it has no port")?;
        port.parse::<u16>().map_err(|_| "its port is no number from 0 to 65535")?;
        if host.is_empty() {
            return Err("it has no host");
        }
        if !is_host(host) {
            return Err("its host is neither a name, nor an IPv4 address, nor an IPv6 address in brackets");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let named = host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    let numeric = host.chars().all(|c| c.is_ascii_digit() || c == '.');
    named && (!numeric || host.parse::<std::net::Ipv4Addr>().is_ok())
}

fn required<T>(value: Option<T>, key: &'static str) -> Result<T, ConfigError> {
    value.ok_or(ConfigError::Missing { key })
}

fn check_id(id: u64) -> Result<(), ConfigError> {
    if (1..crate::queue::ids::NUMBER_LIMIT).contains(&id) { Ok(()) } else { Err(ConfigError::BadId { id }) }
}

fn address(key: &str, text: &str) -> Result<Address, ConfigError> {
    text.parse().map_err(|why| ConfigError::BadAddress { key: key.into(), text: text.into(), why })
}

/// An address that others connect to.
fn reachable(key: &str, text: &str) -> Result<Address, ConfigError> {
    let address = address(key, text)?;
    if address.port() == 0 || address.is_wildcard() {
        return Err(ConfigError::Unreachable { key: key.into(), address });
    }
    Ok(address)
}

fn founding_members(typed: &[typed::Member]) -> Result<Vec<Member>, ConfigError> {
    let mut members = typed.iter().map(founding_member).collect::<Result<Vec<_>, _>>()?;
    members.sort_by_key(|member| member.id);
    let mut seen = BTreeSet::new();
    for member in &members {
        for address in [&member.addresses.api, &member.addresses.peer] {
            if !seen.insert(address) {
                return Err(ConfigError::SharedAddress { address: address.clone() });
            }
        }
    }
    match members.windows(2).find(|pair| pair[0].id == pair[1].id) {
        Some(pair) => Err(ConfigError::DuplicateId { id: pair[0].id }),
        None => Ok(members),
    }
}

fn founding_member(typed: &typed::Member) -> Result<Member, ConfigError> {
    check_id(typed.id)?;
    let addresses =
        Addresses { api: reachable("member.api", &typed.api)?, peer: reachable("member.peer", &typed.peer)? };
    Ok(Member { id: typed.id, addresses })
}

/// This node among the founders; `None` only where there are none, which means "waits to be added".
fn own_member(id: u64, members: &[Member]) -> Result<Option<&Member>, ConfigError> {
    let own = members.iter().find(|member| member.id == id);
    if own.is_none() && !members.is_empty() {
        return Err(ConfigError::NotAMember { id });
    }
    Ok(own)
}

fn listen_address(key: &'static str, typed: Option<String>, own: Option<&Address>) -> Result<Address, ConfigError> {
    match (typed, own) {
        (Some(text), _) => address(key, &text),
        (None, Some(own)) => Ok(own.clone()),
        (None, None) => Err(ConfigError::Missing { key }),
    }
}

fn check_distinct(listen: &Addresses) -> Result<(), ConfigError> {
    let Addresses { api, peer } = listen;
    let hosts_meet = api.host() == peer.host() || api.is_wildcard() || peer.is_wildcard();
    if api.port() != 0 && api.port() == peer.port() && hosts_meet {
        return Err(ConfigError::SamePort { port: api.port() });
    }
    Ok(())
}

/// What others are told: as typed, else as listened on. Where this node is a founder, its entry must say the same.
fn advertised(
    door: &'static str,
    typed: Option<String>,
    listen: &Address,
    id: u64,
    own: Option<&Member>,
) -> Result<Address, ConfigError> {
    let said = match &typed {
        Some(text) => reachable(&format!("advertise_{door}"), text)?,
        None if own.is_none() => reachable(door, listen.as_str())?,
        None => listen.clone(),
    };
    let listed = own.map(|own| if door == "api" { &own.addresses.api } else { &own.addresses.peer });
    match listed {
        Some(listed) if *listed != said => Err(ConfigError::OwnEntryDiffers { id, door, listed: listed.clone(), said }),
        _ => Ok(said),
    }
}

fn names(typed: Vec<String>, members: &[Member], advertise: &Addresses) -> BTreeSet<String> {
    let known = members.iter().map(|member| &member.addresses.api).chain([&advertise.api]);
    typed.into_iter().chain(known.map(|address| address.host().to_owned())).collect()
}

/// The timers and the pool time-out of the profile, with single values laid over the timers.
fn timing(typed: &typed::Raft) -> Result<(Timing, u64), ConfigError> {
    let name = typed.profile.clone().unwrap_or_else(|| "lan".to_owned());
    let Some((_, base, pool_timeout_ms)) = PROFILES.iter().find(|(known, ..)| *known == name) else {
        return Err(ConfigError::UnknownProfile { name });
    };
    let timing = Timing {
        heartbeat_ms: typed.heartbeat_ms.unwrap_or(base.heartbeat_ms),
        election_min_ms: typed.election_min_ms.unwrap_or(base.election_min_ms),
        election_max_ms: typed.election_max_ms.unwrap_or(base.election_max_ms),
    };
    check_timing(&timing)?;
    Ok((timing, *pool_timeout_ms))
}

fn check_timing(timing: &Timing) -> Result<(), ConfigError> {
    let Timing { heartbeat_ms, election_min_ms, election_max_ms } = *timing;
    let refuse = |message: String| Err(ConfigError::BadTiming { message });
    if heartbeat_ms < 10 || election_max_ms > 60_000 {
        return refuse("raft.heartbeat_ms must be at least 10 and raft.election_max_ms at most 60000".into());
    }
    if election_min_ms < heartbeat_ms.saturating_mul(2) {
        return refuse(format!(
            "raft.election_min_ms is {election_min_ms} and must be at least twice raft.heartbeat_ms ({heartbeat_ms})"
        ));
    }
    if election_max_ms <= election_min_ms {
        return refuse(format!(
            "raft.election_max_ms is {election_max_ms} and must be above raft.election_min_ms ({election_min_ms})"
        ));
    }
    Ok(())
}

fn pool_seed(typed: typed::Pool, timing: &Timing, timeout_ms: u64) -> Result<PoolSeed, ConfigError> {
    let least_ms = timing.election_max_ms + KILL_BUDGET_MS;
    let timeout_ms = typed.timeout_ms.unwrap_or_else(|| timeout_ms.max(least_ms));
    if timeout_ms < least_ms {
        return Err(ConfigError::PoolTimeout { timeout_ms, least_ms });
    }
    let size = typed.size.unwrap_or(0);
    let active = typed.active.unwrap_or(size > 0);
    let queues = typed.queues.unwrap_or_else(|| vec![crate::queue::job::QUEUE_DEFAULT.to_owned()]);
    if queues.is_empty() {
        return Err(ConfigError::NoPoolQueues);
    }
    if let Some((queue, refusal)) =
        queues.iter().find_map(|queue| Some((queue, check_queue("pool.queues", queue).err()?)))
    {
        return Err(ConfigError::BadQueue { queue: queue.clone(), why: refusal.to_string() });
    }
    if size > POOL_SIZE_MAX {
        return Err(ConfigError::PoolSize { size, most: POOL_SIZE_MAX });
    }
    Ok(PoolSeed { active, size, queues, timeout_ms })
}

fn shell(typed: Option<String>) -> Result<Shell, ConfigError> {
    match typed.as_deref() {
        None | Some("auto") => Ok(Shell::Auto),
        Some(path) if Path::new(path).is_absolute() => Ok(Shell::Path(path.into())),
        Some(other) => Err(ConfigError::BadShell { text: other.to_owned() }),
    }
}

/// `loud` would be a part of the program by that name, told of in full, and all else silent.
fn is_no_level(part: &str) -> bool {
    !part.contains('=') && part.trim().parse::<LevelFilter>().is_err()
}

fn log(level: Option<String>, format: Option<String>) -> Result<Log, ConfigError> {
    let level = level.unwrap_or_else(|| "info".to_owned());
    if level.parse::<EnvFilter>().is_err() || level.split(',').any(is_no_level) {
        return Err(ConfigError::BadLogLevel { text: level });
    }
    let format = match format.as_deref() {
        None | Some("text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        Some(other) => return Err(ConfigError::BadLogFormat { text: other.to_owned() }),
    };
    Ok(Log { level, format })
}
