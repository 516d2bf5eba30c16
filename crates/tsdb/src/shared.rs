//! What the store's threads and its callers share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pharos_base::{Clock, Helpers};
use pharos_model::{TenantId, TimeRange};

use crate::cache::BlockCache;
use crate::commit::CommitQueue;
use crate::damage::DamageLog;
use crate::disk::Disk;
use crate::masks::Hiding;
use crate::part::index::IndexCache;
use crate::retention::Retention;
use crate::settings::Settings;
use crate::tenant::{State, Tenants};

/// The store without its threads.
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) retention: Retention,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tenants: Arc<Tenants>,
    pub(crate) queue: Arc<CommitQueue>,
    /// Decoded blocks of parts.
    pub(crate) cache: Arc<BlockCache>,
    /// Held by whoever compacts or applies retention: one at a time. Taken before `flushing`.
    pub(crate) compacting: Mutex<()>,
    /// Held by whoever removes parts, and by whoever needs them to stay where they are. Taken after `compacting`.
    pub(crate) parts_stay: Mutex<()>,
    /// Reads under way.
    pub(crate) reading: Arc<AtomicUsize>,
    /// Threads that help one read or another.
    pub(crate) helpers: Helpers,
    /// Limits of single tenants.
    pub(crate) series_limits: crate::store::SeriesLimits,
    pub(crate) counters: Counters,
    /// Held by whoever flushes.
    pub(crate) flushing: Mutex<()>,
    /// Log segments up to this one are needed no more when everything frozen by the last flush is in parts.
    pub(crate) flushed_to: AtomicU64,
    /// Numbers of parts and sequences: one counter for both.
    pub(crate) next_part: Arc<AtomicU64>,
    /// Bytes of all generations, as of the last commit or flush.
    pub(crate) head_bytes: AtomicU64,
    /// Above this many of them appends are refused.
    pub(crate) head_bytes_max: AtomicU64,
    pub(crate) wake: Wake,
    /// Set while a segment is removed and the log's directory not synced: a power loss may bring it back.
    pub(crate) segments_may_return: AtomicBool,
    /// Decoded blocks of the indexes of all parts.
    pub(crate) index_cache: Arc<IndexCache>,
    /// Parts that could not be opened, and blocks that could not be read.
    pub(crate) damaged: Arc<DamageLog>,
}

/// What the background work did since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) flush_failures: AtomicU64,
    pub(crate) merges: AtomicU64,
    pub(crate) merge_failures: AtomicU64,
    pub(crate) merge_bytes_read: AtomicU64,
    pub(crate) merge_bytes_written: AtomicU64,
    pub(crate) merge_samples_copied: AtomicU64,
    pub(crate) rollup_cells_read: Arc<AtomicU64>,
}

/// What wakes the background threads.
#[derive(Default)]
pub(crate) struct Wake {
    state: Mutex<WakeState>,
    changed: Condvar,
}

#[derive(Default)]
struct WakeState {
    flush: bool,
    merge: bool,
    stop: bool,
}

impl Wake {
    /// Asks for a flush.
    pub(crate) fn flush(&self) {
        self.state.lock().flush = true;
        self.changed.notify_all();
    }

    /// Asks for a look at what can be merged.
    pub(crate) fn merge(&self) {
        self.state.lock().merge = true;
        self.changed.notify_all();
    }

    /// Asks the threads to end.
    pub(crate) fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.state.lock().stop
    }

    /// Waits for a request or a tick: whether a flush was asked for, `None` to end.
    pub(crate) fn wait_for_flush(&self, tick: Duration) -> Option<bool> {
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |state| !state.flush && !state.stop, tick);
        (!state.stop).then(|| std::mem::take(&mut state.flush))
    }

    /// Waits, but not beyond the end.
    pub(crate) fn wait_for_stop(&self, pause: Duration) {
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |state| !state.stop, pause);
    }

    /// Waits for a request or a tick; false to end.
    pub(crate) fn wait_for_merge(&self, tick: Duration) -> bool {
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |state| !state.merge && !state.stop, tick);
        state.merge = false;
        !state.stop
    }
}

impl Shared {
    pub(crate) fn log_dir(&self) -> PathBuf {
        log_dir(&self.dir)
    }

    pub(crate) fn tenant_dir(&self, tenant: &TenantId) -> PathBuf {
        tenants_dir(&self.dir).join(tenant.as_str())
    }

    pub(crate) fn parts_dir(&self, tenant: &TenantId) -> PathBuf {
        self.tenant_dir(tenant).join(PARTS_DIR)
    }

    /// What hides samples of a tenant now; `state` is its state, from which parts are taken in the same look.
    pub(crate) fn hiding(&self, tenant: &TenantId, state: &State) -> Hiding {
        let cut_offs = self.retention.cut_offs(tenant, self.clock.unix_ms());
        Hiding { tombstones: Arc::clone(&state.tombstones), cut_offs }
    }

    /// From here on retention has taken nothing of any series.
    pub(crate) fn newest_cut_off_ms(&self, tenant: &TenantId) -> i64 {
        self.retention.cut_offs(tenant, self.clock.unix_ms()).newest_ms
    }

    /// The part of a range in which retention keeps anything of a tenant.
    pub(crate) fn kept(&self, tenant: &TenantId, range: TimeRange) -> TimeRange {
        let oldest_ms = self.retention.cut_offs(tenant, self.clock.unix_ms()).oldest_ms;
        TimeRange::new(range.start_ms.max(oldest_ms), range.end_ms)
    }

    /// Whether a flush is not as fast as what comes in meanwhile: what is to be flushed and half as much are in memory.
    pub(crate) fn is_behind(&self) -> bool {
        let flush_at = self.head_bytes_max.load(Ordering::Relaxed) / HEAD_FLUSHES_MAX;
        self.head_bytes.load(Ordering::Relaxed) > flush_at + flush_at / 2
    }

    /// Counts the head anew and wakes maintenance if a flush is due.
    pub(crate) fn after_commit(&self) {
        let memory = self.tenants.count_memory();
        let flush_at = self.settings.flush_at(memory.slots);
        self.head_bytes.store(memory.active + memory.frozen, Ordering::Relaxed);
        self.head_bytes_max.store(flush_at.saturating_mul(HEAD_FLUSHES_MAX), Ordering::Relaxed);
        let frozen_log_bytes = self.queue.frozen_log_bytes.load(Ordering::Relaxed);
        let log_bytes = self.queue.log_bytes.load(Ordering::Relaxed).saturating_sub(frozen_log_bytes);
        if memory.active >= flush_at || log_bytes >= self.settings.log_size_max.0 {
            self.wake.flush();
        }
    }
}

/// The head is full when it holds what is flushed at once so many times.
const HEAD_FLUSHES_MAX: u64 = 2;

pub(crate) const PARTS_DIR: &str = "parts";
pub(crate) const METADATA_FILE: &str = "metadata";
pub(crate) const TOMBSTONES_FILE: &str = "tombstones";

pub(crate) fn log_dir(dir: &Path) -> PathBuf {
    dir.join("log")
}

pub(crate) fn tenants_dir(dir: &Path) -> PathBuf {
    dir.join("tenants")
}
