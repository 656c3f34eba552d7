//! Idempotency keys `NAME/N` (design 2.2): NAME random and one per client, N rising.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

pub(super) struct Keys {
    name: String,
    next: AtomicU64,
}

impl Keys {
    /// 96 random bits: two clients never share a name, and the state's table of names stays small.
    pub fn random() -> Self {
        let random: [u8; 12] = rand::random();
        let name = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { name, next: AtomicU64::new(0) }
    }

    /// A key for one more write; its repeats use it again.
    pub fn next(&self) -> Arc<str> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Arc::from(format!("{}/{number}", self.name))
    }
}
