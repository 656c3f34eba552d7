use super::*;

const FILE: &str = r#"
id = 1
data_dir = "data/node1"
api = "127.0.0.1:7401"
peer = "127.0.0.1:7501"

[[member]]
id = 2
api = "127.0.0.1:7402"
peer = "127.0.0.1:7502"

[[member]]
id = 1
api = "127.0.0.1:7401"
peer = "127.0.0.1:7501"
"#;

fn parse(text: &str, overrides: Overrides) -> Result<Config, ConfigError> {
    typed::File::parse(Path::new("node.toml"), text).and_then(|file| Config::mean(overrides, file))
}

fn load(text: &str) -> Result<Config, ConfigError> {
    parse(text, Overrides::default())
}

/// `FILE` with one piece replaced is refused with this sentence.
#[track_caller]
fn check_refused(piece: &str, by: &str, sentence: &str) {
    assert!(FILE.contains(piece), "the piece is in the file");
    let error = load(&FILE.replacen(piece, by, 1)).expect_err("refused");
    assert_eq!(error.to_string(), sentence);
}

#[test]
fn load_shipped_files_gives_three_nodes() {
    for id in 1..=3 {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("cluster-config/node{id}.toml"));
        let config = Config::load(&path, Overrides::default()).expect("valid");
        assert_eq!((config.id, config.members.len()), (id, 3));
        assert_eq!(config.data_dir, PathBuf::from(format!("data/node{id}")));
        assert_eq!((config.pool.size, config.pool.active, config.pool.timeout_ms), (2, true, 2_000));
        assert_eq!(config.is_lowest_founder(), id == 1);
    }
}

#[test]
fn load_with_defaults_is_lan_with_an_idle_pool() {
    let config = load(FILE).expect("valid");
    assert_eq!(config.timing, PROFILES[0].1);
    assert_eq!((config.pool.active, config.pool.size), (false, 0));
    assert_eq!(config.scratch_dir, PathBuf::from("data/node1/scratch"));
    assert_eq!(config.members.iter().map(|member| member.id).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn load_unknown_key_names_it_and_its_line() {
    check_refused(
        "data_dir",
        "datadir",
        "node.toml, line 3: unknown field `datadir`, expected one of `id`, `data_dir`, `api`, `peer`, `advertise_api`, \
         `advertise_peer`, `names`, `scratch_dir`, `shell`, `member`, `pool`, `raft`, `log`; correct the file and start again",
    );
}

#[test]
fn load_missing_key_names_it() {
    check_refused(
        "data_dir = \"data/node1\"",
        "",
        "the configuration says no `data_dir`; add it to the file, or give it as a flag",
    );
}

#[test]
fn load_missing_file_names_it() {
    let error = Config::load(Path::new("no/such.toml"), Overrides::default()).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "cannot read the configuration file no/such.toml: entity not found; give an existing file with --config"
    );
}

#[test]
fn load_without_own_member_says_both_ways_out() {
    check_refused(
        "id = 1",
        "id = 4",
        "no [[member]] entry has this node's id 4; add it if the node is a founder, or remove all [[member]] entries if \
         it is to be added later with `raftq cluster add`",
    );
}

#[test]
fn load_without_members_waits_to_be_added() {
    let text = "id = 4\ndata_dir = \"d\"\napi = \"127.0.0.1:7404\"\npeer = \"127.0.0.1:7504\"\n";
    let config = load(text).expect("valid");
    assert!(config.members.is_empty() && !config.is_lowest_founder());
}

#[test]
fn load_duplicate_id_is_refused() {
    check_refused("id = 2", "id = 1", "two [[member]] entries have id 1; give every node an id of its own");
}

#[test]
fn load_zero_id_is_refused() {
    check_refused("id = 1", "id = 0", "node id 0 is out of range; use a number from 1 to 9007199254740991");
}

#[test]
fn load_bad_address_shows_an_example() {
    check_refused(
        "127.0.0.1:7401",
        "127.0.0.1",
        "`api` is \"127.0.0.1\", and it has no port; write it as host:port, for example \"127.0.0.1:7401\"",
    );
    check_refused(
        "127.0.0.1:7401",
        "300.0.0.1:7401",
        "`api` is \"300.0.0.1:7401\", and its host is neither a name, nor an IPv4 address, nor an IPv6 address in \
         brackets; write it as host:port, for example \"127.0.0.1:7401\"",
    );
}

#[test]
fn load_same_port_for_both_doors_is_refused() {
    check_refused(
        "api = \"127.0.0.1:7401\"",
        "api = \"127.0.0.1:7501\"",
        "`api` and `peer` both use port 7501; they are two listeners, give each its own port",
    );
}

#[test]
fn load_shared_member_address_is_refused() {
    check_refused(
        "peer = \"127.0.0.1:7502\"",
        "peer = \"127.0.0.1:7501\"",
        "the address 127.0.0.1:7501 stands twice among the [[member]] entries; every node needs an api and a peer \
         address of its own",
    );
}

#[test]
fn load_own_entry_that_differs_is_refused_until_advertised() {
    check_refused(
        "api = \"127.0.0.1:7401\"",
        "api = \"0.0.0.0:7401\"",
        "[[member]] 1 says api = \"127.0.0.1:7401\", and this node would be reached at \"0.0.0.0:7401\"; make them equal, \
         or set advertise_api",
    );
    let text = FILE.replacen("127.0.0.1:7401", "0.0.0.0:7401", 1);
    let overrides = Overrides { advertise_api: Some("127.0.0.1:7401".into()), ..Overrides::default() };
    let config = parse(&text, overrides).expect("valid");
    assert_eq!(config.listen.api.as_str(), "0.0.0.0:7401");
    assert_eq!(config.advertise.api.as_str(), "127.0.0.1:7401");
}

#[test]
fn load_unreachable_advertised_address_is_refused() {
    let overrides = Overrides { advertise_peer: Some("0.0.0.0:7501".into()), ..Overrides::default() };
    assert!(matches!(parse(FILE, overrides), Err(ConfigError::Unreachable { .. })));
}

#[test]
fn load_bad_timers_are_refused() {
    let with = |raft: &str| load(&format!("{FILE}\n[raft]\n{raft}\n"));
    assert_eq!(with("profile = \"wan\"").expect("valid").pool.timeout_ms, 5_000);
    assert_eq!(with("profile = \"moon\""), Err(ConfigError::UnknownProfile { name: "moon".into() }));
    assert!(matches!(with("election_min_ms = 150"), Err(ConfigError::BadTiming { .. })));
    assert!(matches!(with("election_max_ms = 200"), Err(ConfigError::BadTiming { .. })));
    assert!(matches!(with("heartbeat_ms = 0"), Err(ConfigError::BadTiming { .. })));
}

#[test]
fn load_pool_timeout_below_kill_time_is_refused() {
    let error = load(&format!("{FILE}\n[pool]\ntimeout_ms = 1000\n")).expect_err("refused");
    assert_eq!(error, ConfigError::PoolTimeout { timeout_ms: 1_000, least_ms: 1_320 });
}

#[test]
fn load_pool_that_cannot_be_is_refused() {
    let with = |pool: &str| load(&format!("{FILE}\n[pool]\n{pool}\n"));
    assert_eq!(with("queues = []"), Err(ConfigError::NoPoolQueues));
    assert!(matches!(with("queues = [\"a b\"]"), Err(ConfigError::BadQueue { queue, .. }) if queue == "a b"));
    assert!(matches!(with("size = 1000000"), Err(ConfigError::PoolSize { .. })));
}

#[test]
fn load_names_include_those_of_addresses() {
    let text = FILE.replacen("id = 1", "id = 1\nnames = [\"jobs.example\"]", 1);
    let config = load(&text).expect("valid");
    assert_eq!(config.names.iter().map(String::as_str).collect::<Vec<_>>(), ["127.0.0.1", "jobs.example"]);
}

#[test]
fn load_bad_shell_and_log_are_refused() {
    let with = |overrides| parse(FILE, overrides);
    let shell = Overrides { shell: Some("zsh".into()), ..Overrides::default() };
    assert!(matches!(with(shell), Err(ConfigError::BadShell { .. })));
    let level = |text: &str| with(Overrides { log_level: Some(text.into()), ..Overrides::default() });
    for bad in ["very,much=so", "loud", "info,chatty"] {
        assert!(matches!(level(bad), Err(ConfigError::BadLogLevel { .. })), "{bad}");
    }
    for good in ["debug", "off", "WARN", "info,raftq::raft=debug"] {
        assert!(level(good).is_ok(), "{good}");
    }
    let format = Overrides { log_format: Some("xml".into()), ..Overrides::default() };
    assert!(matches!(with(format), Err(ConfigError::BadLogFormat { .. })));
}

#[test]
fn override_flag_beats_variable_beats_file() {
    let variables = Overrides::from_variables(|name| match name {
        "RAFTQ_DATA_DIR" => Some("from/variable".into()),
        "RAFTQ_LOG_FORMAT" => Some("json".into()),
        _ => None,
    })
    .expect("valid");
    let flags = Overrides { data_dir: Some("from/flag".into()), ..Overrides::default() };
    let config = parse(FILE, flags.or(variables)).expect("valid");
    assert_eq!(config.data_dir, PathBuf::from("from/flag"));
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn override_variable_counts_for_every_key_of_the_file() {
    let before = load(FILE).expect("valid");
    for (name, value) in [
        ("RAFTQ_NODE_ID", "2"),
        ("RAFTQ_DATA_DIR", "elsewhere"),
        ("RAFTQ_SCRATCH_DIR", "/tmp/scratch"),
        ("RAFTQ_SHELL", "/bin/sh"),
        ("RAFTQ_NAMES", "queue.example, q"),
        ("RAFTQ_POOL_SIZE", "7"),
        ("RAFTQ_POOL_QUEUES", "a,b"),
        ("RAFTQ_POOL_ACTIVE", "true"),
        ("RAFTQ_POOL_TIMEOUT_MS", "9000"),
        ("RAFTQ_PROFILE", "wan"),
        ("RAFTQ_HEARTBEAT_MS", "50"),
        ("RAFTQ_ELECTION_MIN_MS", "300"),
        ("RAFTQ_ELECTION_MAX_MS", "500"),
        ("RAFTQ_CRASH_HINT", "false"),
        ("RAFTQ_LOG", "debug"),
        ("RAFTQ_LOG_FORMAT", "json"),
        ("RAFTQ_INIT_IF_NEW", "yes"),
    ] {
        let variables = Overrides::from_variables(|asked| (asked == name).then(|| value.into())).expect("valid");
        let file = if name == "RAFTQ_NODE_ID" {
            FILE.replace("api = \"127.0.0.1:7401\"\npeer = \"127.0.0.1:7501\"\n\n", "")
        } else {
            FILE.into()
        };
        assert_ne!(parse(&file, variables).expect("valid"), before, "{name} changes nothing");
    }
}

#[test]
fn override_of_the_pool_lies_over_single_keys() {
    let file = format!("{FILE}\n[pool]\nsize = 2\nqueues = [\"a\"]\n");
    let flags = Overrides { pool: Pool { size: Some(3), ..Pool::default() }, ..Overrides::default() };
    let config = parse(&file, flags).expect("valid");
    assert_eq!((config.pool.size, config.pool.active, config.pool.queues), (3, true, vec!["a".to_owned()]));
    let flags = Overrides { pool: Pool { queues: Some(vec!["-x".into()]), ..Pool::default() }, ..Overrides::default() };
    assert!(matches!(parse(&file, flags), Err(ConfigError::BadQueue { .. })));
}

#[test]
fn override_variable_that_is_no_number_is_refused() {
    let error = Overrides::from_variables(|name| (name == "RAFTQ_NODE_ID").then(|| "one".into())).expect_err("refused");
    assert_eq!(error.to_string(), "RAFTQ_NODE_ID=one is not a number; correct or unset the variable");
}
