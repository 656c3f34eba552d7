//! A short wait for what the last owner still holds.
//!
//! A node that was killed is gone for those who look for its process, and its ports and files are not free yet: the kernel frees
//! its memory first. Whoever starts it again at once should not have to know this. Only for that: a port of a program that
//! lives stays taken, and is reported as before, a little later.

use std::time::{Duration, Instant};

use super::error::ServerError;

const RETRY_EVERY: Duration = Duration::from_millis(20);

/// One wait for all that the last owner held.
pub struct Patience {
    until: Instant,
}

impl Patience {
    pub fn of(length: Duration) -> Self {
        Self { until: Instant::now() + length }
    }

    /// Blocks; there is no runtime yet. Any other error ends it at once.
    pub fn until_free<T>(&self, mut take: impl FnMut() -> Result<T, ServerError>) -> Result<T, ServerError> {
        let mut has_warned = false;
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            match take() {
                Err(error) if error.is_in_use() && !left.is_zero() => {
                    if !has_warned {
                        tracing::warn!(%error, "waiting {} ms, as a killed node lets go of it late", left.as_millis());
                        has_warned = true;
                    }
                    std::thread::sleep(RETRY_EVERY.min(left));
                }
                taken => return taken,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn in_use() -> ServerError {
        ServerError::DataDirInUse { path: PathBuf::from("data") }
    }

    #[test]
    fn what_becomes_free_is_taken() {
        let mut free = [false, false, true].into_iter();
        let take = || if free.next().expect("it ends with the first success") { Ok(7) } else { Err(in_use()) };
        assert_eq!(Patience::of(Duration::from_secs(30)).until_free(take).expect("free at last"), 7);
    }

    #[test]
    fn what_stays_taken_is_told_when_the_time_is_up() {
        let error = Patience::of(Duration::ZERO).until_free(|| Err::<(), _>(in_use())).expect_err("never free");
        assert!(error.is_in_use(), "{error}");
    }

    #[test]
    fn other_errors_end_it_at_once() {
        let mut tries = 0;
        let take = || {
            tries += 1;
            Err::<(), _>(ServerError::Runtime(std::io::ErrorKind::PermissionDenied.into()))
        };
        Patience::of(Duration::from_secs(30)).until_free(take).expect_err("it cannot");
        assert_eq!(tries, 1);
    }
}
