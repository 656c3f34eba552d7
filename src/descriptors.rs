//! How many files and connections this process may have open.
//!
//! The usual soft limit is 1024, for the sake of programs that call `select`. A node holds a connection for each claim that
//! waits and a file for each table of its stores; the load generator holds the other ends.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit to the hard one, and tells what it is now. Where that is not allowed things stay as they are: who
/// runs out of descriptors is told then.
pub fn raise_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raise_limit_reaches_the_hard_limit() {
        let hard = getrlimit(Resource::RLIMIT_NOFILE).unwrap().1;
        assert_eq!(raise_limit(), hard);
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap().0, hard);
    }
}
