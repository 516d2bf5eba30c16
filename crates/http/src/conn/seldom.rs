//! Lines of the log that strangers cause: the first at once, then one in a while.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// At most one line in this time.
const PAUSE: Duration = Duration::from_secs(10);

/// Says when a line is due.
#[derive(Debug)]
pub(crate) struct Seldom {
    began: Instant,
    /// Milliseconds since `began`.
    next_ms: AtomicI64,
}

impl Default for Seldom {
    fn default() -> Self {
        Self { began: Instant::now(), next_ms: AtomicI64::new(0) }
    }
}

impl Seldom {
    /// Whether to write; then not again for a while.
    pub(crate) fn is_due(&self) -> bool {
        let (now, next) = (self.began.elapsed().as_millis() as i64, self.next_ms.load(Ordering::Relaxed));
        let after = now + PAUSE.as_millis() as i64;
        now >= next && self.next_ms.compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_crowd_of_strangers_writes_one_line_in_a_while() {
        let seldom = Seldom::default();
        for _ in 0..3 {
            assert!(seldom.is_due());
            assert!((0..1_000).all(|_| !seldom.is_due()));
            tokio::time::advance(PAUSE).await;
        }
    }
}
