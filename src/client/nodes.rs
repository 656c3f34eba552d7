//! Which node to ask: the one that last led or answered, until it fails; then the next.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex},
};

use tokio::time::Instant;

use super::ClientError;

/// `host:port` of a node's api listener.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Authority(Arc<str>);

impl Authority {
    /// Reads `host:port` or `http://host:port`, with or without a trailing slash.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let rest = rest.split('/').next()?;
        let (host, port) = rest.rsplit_once(':')?;
        let port: u16 = port.parse().ok()?;
        let plain = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '@');
        (plain && port > 0).then(|| Self(Arc::from(rest)))
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Leaders learned from redirects are kept up to this many: a cluster has at most seven members, and a wrong server
/// must not make the list grow for ever.
const KNOWN_MAX: usize = 32;

pub(super) struct Nodes {
    /// Std mutex: held for a few instructions, never over an await.
    inner: Mutex<Inner>,
}

struct Inner {
    named: usize,
    known: Vec<Authority>,
    at: usize,
    /// Nodes that gave any answer in this client's life.
    heard: BTreeSet<Authority>,
    /// When the first attempt since the last call that was served came to nothing.
    unserved_since: Option<Instant>,
}

impl Nodes {
    pub fn new(servers: &[String]) -> Result<Self, ClientError> {
        let mut known = Vec::new();
        for server in servers.iter().flat_map(|list| list.split(',')).filter(|server| !server.trim().is_empty()) {
            let authority = Authority::parse(server)
                .ok_or_else(|| ClientError::Usage(format!("`{server}` is no server address; write host:port")))?;
            if !known.contains(&authority) {
                known.push(authority);
            }
        }
        if known.is_empty() {
            return Err(ClientError::Usage("no server is named; give --server host:port or set RAFTQ_SERVER".into()));
        }
        let inner = Inner { named: known.len(), known, at: 0, heard: BTreeSet::new(), unserved_since: None };
        Ok(Self { inner: Mutex::new(inner) })
    }

    pub fn current(&self) -> Authority {
        let inner = self.lock();
        inner.known[inner.at].clone()
    }

    /// One of the others, another with each `turn`.
    pub fn other_than(&self, node: &Authority, turn: usize) -> Option<Authority> {
        let inner = self.lock();
        let others: Vec<&Authority> = inner.known.iter().filter(|known| *known != node).collect();
        others.get(turn % others.len().max(1)).map(|other| (*other).clone())
    }

    pub fn count(&self) -> usize {
        self.lock().known.len()
    }

    pub fn named(&self) -> String {
        let inner = self.lock();
        let named: Vec<&str> = inner.known[..inner.named].iter().map(|authority| &*authority.0).collect();
        named.join(", ")
    }

    pub fn ever_reached(&self) -> bool {
        !self.lock().heard.is_empty()
    }

    pub fn reached(&self, node: &Authority) {
        let mut inner = self.lock();
        if !inner.heard.contains(node) {
            inner.heard.insert(node.clone());
        }
    }

    /// `node` did what it was asked for, or refused it.
    pub fn served(&self, node: &Authority) {
        self.reached(node);
        self.lock().unserved_since = None;
    }

    pub fn unserved_since(&self) -> Option<Instant> {
        self.lock().unserved_since
    }

    /// `leader` is asked from now on.
    pub fn prefer(&self, leader: Authority) {
        let mut inner = self.lock();
        if let Some(at) = inner.known.iter().position(|known| *known == leader) {
            inner.at = at;
        } else if inner.known.len() < KNOWN_MAX {
            inner.known.push(leader);
            inner.at = inner.known.len() - 1;
        }
    }

    /// `node` did not do it; `heard` says whether it answered at all. If nobody has moved on meanwhile, the next is asked.
    pub fn avoid(&self, node: &Authority, heard: bool) {
        if heard {
            self.reached(node);
        }
        let mut inner = self.lock();
        inner.unserved_since.get_or_insert_with(Instant::now);
        if inner.known[inner.at] == *node {
            inner.at = (inner.at + 1) % inner.known.len();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authority_forms_are_read_and_nonsense_is_refused() {
        for (text, expect) in [
            ("127.0.0.1:7401", Some("127.0.0.1:7401")),
            (" http://node1:7401/ ", Some("node1:7401")),
            ("http://[::1]:7401/v1/jobs", Some("[::1]:7401")),
            ("node1", None),
            ("node1:port", None),
            (":7401", None),
            ("user@node1:7401", None),
            ("node1:0", None),
        ] {
            assert_eq!(Authority::parse(text).map(|a| a.to_string()).as_deref(), expect, "{text}");
        }
    }

    #[test]
    fn nodes_move_on_only_once_per_failure() {
        let nodes = Nodes::new(&["a:1,b:2".into(), "c:3".into(), "a:1".into()]).expect("valid list");
        let first = nodes.current();
        nodes.avoid(&first, false);
        nodes.avoid(&first, false);
        assert_eq!(nodes.current().to_string(), "b:2");
        nodes.prefer(Authority::parse("d:4").expect("valid"));
        assert_eq!(nodes.current().to_string(), "d:4");
        nodes.avoid(&nodes.current(), false);
        assert_eq!(nodes.current().to_string(), "a:1");
        assert_eq!(nodes.named(), "a:1, b:2, c:3");
    }

    #[test]
    fn nodes_are_unserved_from_the_first_failure_until_one_serves() {
        let nodes = Nodes::new(&["a:1,b:2".into()]).expect("valid list");
        assert_eq!(nodes.unserved_since(), None);
        nodes.avoid(&nodes.current(), false);
        let since = nodes.unserved_since();
        assert!(since.is_some());
        nodes.avoid(&nodes.current(), true);
        nodes.reached(&nodes.current());
        assert_eq!(nodes.unserved_since(), since, "an excuse is an answer, and serves nobody");
        nodes.served(&nodes.current());
        assert_eq!(nodes.unserved_since(), None);
    }
}
