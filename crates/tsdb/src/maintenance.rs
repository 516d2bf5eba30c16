//! The two background threads: one flushes, the other merges parts and applies retention. They are
//! apart because a long merge must not keep the head from being emptied. What fails is counted, told and tried again
//! later: a flush after seconds, a tenant's merges after ever longer pauses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pharos_base::lower_priority;

use crate::TsdbError;
use crate::pace::MERGE_NICENESS;
use crate::shared::Shared;

/// How often they look without being woken.
const TICK: Duration = Duration::from_secs(10);

/// How long a failed flush waits before the next attempt.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Flushes when due, until the store stops.
pub(crate) fn run_flusher(shared: &Arc<Shared>) {
    let mut flushed_at = shared.clock.monotonic();
    while let Some(wanted) = shared.wake.wait_for_flush(TICK) {
        if shared.queue.is_poisoned() {
            continue;
        }
        let now = shared.clock.monotonic();
        if wanted || is_due(shared, flushed_at, now) {
            flushed_at = flush_until_done(shared).unwrap_or(flushed_at);
            shared.wake.merge();
        }
    }
}

/// Flushes, and tries what failed again until it is done; answers when the last flush began, and nothing if the store stops
/// or its log fails before.
fn flush_until_done(shared: &Shared) -> Option<Instant> {
    let mut begun_at = shared.clock.monotonic();
    let mut flushed = shared.flush();
    while let Err(error) = flushed {
        report("flush", &error);
        // Refused writes ask for a flush again and again.
        shared.wake.wait_for_stop(RETRY_PAUSE);
        let wanted = shared.wake.wait_for_flush(Duration::ZERO).filter(|_| !shared.queue.is_poisoned())?;
        let now = shared.clock.monotonic();
        flushed = if wanted || is_due(shared, begun_at, now) {
            begun_at = now;
            shared.flush()
        } else {
            shared.flush_again()
        };
    }
    Some(begun_at)
}

/// Merges and deletes when due, until the store stops.
pub(crate) fn run_compactor(shared: &Arc<Shared>) {
    if let Err(error) = lower_priority(MERGE_NICENESS) {
        tracing::debug!(%error, "cannot lower the priority of merging");
    }
    while shared.wake.wait_for_merge(TICK) {
        if let Err(error) = shared.apply_retention() {
            report("retention", &error);
        }
        match shared.compact_due() {
            Ok(()) | Err(TsdbError::Stopped) => {}
            Err(error) => report("compaction", &error),
        }
    }
}

fn is_due(shared: &Shared, flushed_at: Instant, now: Instant) -> bool {
    now.duration_since(flushed_at) >= shared.settings.flush_interval.0
}

fn report(work: &'static str, error: &TsdbError) {
    tracing::error!(work, error = %error, source = ?std::error::Error::source(error), "background work failed, it is tried again");
}
