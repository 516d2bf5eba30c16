//! Where bodies are inflated and decoded: blocking threads, a bounded number at a time, tenant by tenant in turn.
//!
//! As many run as the machine has cores. What waits is bounded by time, not by count: a job that would not begin
//! within the patience of its door is refused, if possible before its body is read. Overload costs senders a
//! retry, never the server its memory or those who are accepted their latency. Whoever sends much waits behind himself:
//! what is ahead of a job is what its own tenant has waiting, and one job of each other's for each of these.
//!
//! No job begins while the store asks writers to wait: what is decoded only waits in memory for what is not written yet. Each
//! store has a pool of its own, so that samples do not wait for the store of spans.
//!
//! Invariants
//! - D1 The backlog is the sum over jobs that wait or run: each takes its bytes back however it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use pharos_base::{Clock, ErrorClass, SystemClock, available_cores};
use pharos_http::{FairPlaces, LaneLimits, Refusal};
use pharos_model::TenantId;
use tokio::time::Instant;

use crate::patience::Patience;

/// How often it is looked whether the store has room.
const STORE_PAUSE: Duration = Duration::from_millis(2);
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// A job costs at least as much as so many bytes do.
const JOB_BYTES_MIN: u64 = 4 << 10;
/// What a byte is thought to cost before any was decoded, nanoseconds.
const NS_PER_BYTE_AT_FIRST: u64 = 10;
/// The measure of costs forgets by halves, each time so many bytes were decoded.
const MEASURE_BYTES: u64 = 64 << 20;

/// Why a job did not run to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoolError {
    /// It would not begin in time.
    Busy,
    /// The store made no room in time.
    StoreBusy,
    /// A bug; the log has it.
    Panicked,
}

/// Runs decoding jobs.
#[derive(Debug, Clone)]
pub(crate) struct DecodePool {
    places: FairPlaces,
    load: Arc<Load>,
    patience: Arc<Patience>,
}

/// What jobs cost, and how much of that is ahead of a new one.
#[derive(Debug)]
struct Load {
    threads: u64,
    backlog: Mutex<Backlog>,
    decoded_bytes: AtomicU64,
    decoded_ns: AtomicU64,
}

/// Jobs that wait or run.
#[derive(Debug, Default)]
struct Backlog {
    all: Jobs,
    /// Of tenants that have any.
    tenants: HashMap<TenantId, Jobs>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Jobs {
    count: u64,
    bytes: u64,
}

/// A job's part of the backlog, until it is dropped.
struct Ahead {
    load: Arc<Load>,
    tenant: TenantId,
    bytes: u64,
}

impl Jobs {
    fn add(&mut self, bytes: u64) {
        *self = Self { count: self.count + 1, bytes: self.bytes + bytes };
    }

    fn take(&mut self, bytes: u64) {
        *self = Self { count: self.count.saturating_sub(1), bytes: self.bytes.saturating_sub(bytes) };
    }
}

impl Backlog {
    /// Bytes that are decoded before a new job of `tenant` begins, if tenants take turns.
    fn bytes_ahead(&self, tenant: &TenantId) -> u64 {
        let own = self.tenants.get(tenant).copied().unwrap_or_default();
        let others = Jobs { count: self.all.count - own.count, bytes: self.all.bytes - own.bytes };
        let others_waiting = self.tenants.len() as u64 - u64::from(own.count > 0);
        let of_others = (own.count + 1).saturating_mul(others_waiting).saturating_mul(others.bytes);
        own.bytes + of_others.checked_div(others.count).unwrap_or(0).min(others.bytes)
    }
}

impl Load {
    fn new(threads: usize) -> Self {
        Self {
            threads: threads.max(1) as u64,
            backlog: Mutex::default(),
            decoded_bytes: AtomicU64::new(JOB_BYTES_MIN),
            decoded_ns: AtomicU64::new(JOB_BYTES_MIN * NS_PER_BYTE_AT_FIRST),
        }
    }

    /// When a job of `tenant` that came now would begin, as far as the cost of jobs before tells.
    fn wait_expected(&self, tenant: &TenantId) -> Duration {
        let ahead = self.backlog.lock().bytes_ahead(tenant) as f64;
        let (ns, bytes) = (self.decoded_ns.load(Ordering::Relaxed), self.decoded_bytes.load(Ordering::Relaxed).max(1));
        Duration::from_secs_f64(ahead / self.threads as f64 * (ns as f64 / bytes as f64) / 1e9)
    }

    /// Learns what a job cost. Two that learn at once may lose a part of one: it is an estimate.
    fn learn(&self, bytes: u64, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX / 4);
        self.decoded_ns.fetch_add(ns, Ordering::Relaxed);
        if self.decoded_bytes.fetch_add(bytes, Ordering::Relaxed) > MEASURE_BYTES {
            for sum in [&self.decoded_ns, &self.decoded_bytes] {
                sum.store(sum.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
            }
        }
    }
}

impl Ahead {
    fn new(load: &Arc<Load>, tenant: &TenantId, bytes: usize) -> Self {
        let bytes = (bytes as u64).max(JOB_BYTES_MIN);
        let mut backlog = load.backlog.lock();
        backlog.all.add(bytes);
        backlog.tenants.entry_ref(tenant).or_default().add(bytes);
        drop(backlog);
        Self { load: Arc::clone(load), tenant: tenant.clone(), bytes }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        let mut backlog = self.load.backlog.lock();
        backlog.all.take(self.bytes);
        if let Some(own) = backlog.tenants.get_mut(&self.tenant) {
            own.take(self.bytes);
            if own.count == 0 {
                backlog.tenants.remove(&self.tenant);
            }
        }
    }
}

/// What a sender is told who was not let in within `patience`.
pub(crate) fn busy(patience: Duration, is_store: bool) -> Refusal {
    let why = if is_store { "still writes what it accepted before" } else { "is busy with other writers" };
    let message = format!(
        "server {why}: this request would not be read within {} (ingest.limits.queue_wait, or ingest.limits.overload_wait while overload lasts); send it again",
        pharos_base::HumanDuration(patience)
    );
    Refusal::new(ErrorClass::Unavailable, message).with_retry_after(Some(RETRY_AFTER))
}

impl DecodePool {
    /// One job per core, and at least two.
    pub(crate) fn for_this_machine(patience: Patience) -> Self {
        Self::new(available_cores().max(2), patience)
    }

    pub(crate) fn new(running_max: usize, patience: Patience) -> Self {
        // How many wait is bounded by time.
        let places = FairPlaces::new(running_max, usize::MAX);
        Self { places, load: Arc::new(Load::new(running_max)), patience: Arc::new(patience) }
    }

    /// How long a job may wait now.
    pub(crate) fn patience(&self) -> Duration {
        self.patience.now(SystemClock.monotonic())
    }

    /// Refuses what would not begin in time, before its body is read.
    ///
    /// # Errors
    /// [`PoolError::Busy`].
    pub(crate) fn has_room(&self, tenant: &TenantId) -> Result<(), PoolError> {
        if self.load.wait_expected(tenant) > self.patience() {
            return Err(self.refuse(PoolError::Busy));
        }
        Ok(())
    }

    fn refuse(&self, why: PoolError) -> PoolError {
        self.patience.note_refusal(SystemClock.monotonic());
        why
    }

    /// Runs `job` of `tenant`, which reads `bytes`, on a thread of its own, once the store has room. A job that has begun ends,
    /// whether or not its sender stays.
    ///
    /// # Errors
    /// [`PoolError`].
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        bytes: usize,
        store_is_busy: impl Fn() -> bool,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        self.run_within(self.patience(), tenant, bytes, store_is_busy, job).await
    }

    /// As [`DecodePool::run`], with a patience of its own.
    ///
    /// # Errors
    /// [`PoolError`].
    pub(crate) async fn run_within<T: Send + 'static>(
        &self,
        wait_max: Duration,
        tenant: &TenantId,
        bytes: usize,
        store_is_busy: impl Fn() -> bool,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let ahead = Ahead::new(&self.load, tenant, bytes);
        let deadline = Instant::now() + wait_max;
        let taken = tokio::time::timeout_at(deadline, self.places.take(tenant, LaneLimits::default())).await;
        self.patience.note_queue(self.places.has_waiters(), SystemClock.monotonic());
        let Some(place) = taken.ok().and_then(Result::ok) else { return Err(self.refuse(PoolError::Busy)) };
        let begun = SystemClock.monotonic();
        // Those who look have a place: there are few of them.
        while store_is_busy() {
            if Instant::now() >= deadline {
                return Err(self.refuse(PoolError::StoreBusy));
            }
            tokio::time::sleep(STORE_PAUSE).await;
        }
        let task = tokio::task::spawn_blocking(move || {
            let done = job();
            ahead.load.learn(ahead.bytes, SystemClock.monotonic() - begun);
            drop((ahead, place));
            done
        });
        task.await.map_err(|error| {
            tracing::error!(%error, "a decoding thread panicked");
            PoolError::Panicked
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    fn pool(running_max: usize, wait_max: Duration) -> DecodePool {
        DecodePool::new(running_max, Patience::new(wait_max, wait_max))
    }

    fn tenant() -> TenantId {
        TenantId::default()
    }

    fn backlog(pool: &DecodePool) -> (Jobs, usize) {
        let backlog = pool.load.backlog.lock();
        (backlog.all, backlog.tenants.len())
    }

    #[tokio::test]
    async fn what_does_not_begin_in_time_is_refused_and_leaves_no_trace() {
        let pool = pool(1, Duration::from_millis(10));
        let (release, released) = oneshot::channel::<()>();
        let (begin, begun) = oneshot::channel();
        let tenant = tenant();
        let running = pool.run(
            &tenant,
            1,
            || false,
            move || {
                begin.send(()).unwrap();
                released.blocking_recv().unwrap();
                1
            },
        );
        let refused = async {
            begun.await.unwrap();
            let refused = pool.run(&tenant, 1, || false, || 2).await;
            release.send(()).unwrap();
            refused
        };
        assert_eq!(tokio::join!(running, refused), (Ok(1), Err(PoolError::Busy)));
        assert_eq!(backlog(&pool), (Jobs::default(), 0), "D1");
    }

    #[tokio::test]
    async fn a_long_backlog_is_refused_before_a_body_is_read() {
        let pool = pool(2, Duration::from_millis(200));
        pool.load.learn(1 << 20, Duration::from_millis(10));
        let waiting: Vec<_> = (0..39).map(|_| Ahead::new(&pool.load, &tenant(), 1 << 20)).collect();
        assert_eq!(pool.has_room(&tenant()), Ok(()), "39 MiB at 10 ms each on two threads take 195 ms");
        let more = [Ahead::new(&pool.load, &tenant(), 1 << 20), Ahead::new(&pool.load, &tenant(), 1 << 20)];
        assert_eq!(pool.has_room(&tenant()), Err(PoolError::Busy));
        assert_eq!(pool.has_room(&"other".parse().unwrap()), Ok(()), "it waits for one job only");
        drop((waiting, more));
        assert_eq!(pool.has_room(&tenant()), Ok(()));
        let refusal = busy(Duration::from_millis(200), false);
        assert_eq!((refusal.class(), refusal.retry_after()), (ErrorClass::Unavailable, Some(RETRY_AFTER)));
        assert!(refusal.message().contains("200ms"), "{}", refusal.message());
    }

    #[test]
    fn many_tenants_with_little_each_are_a_backlog_too() {
        let load = Arc::new(Load::new(1));
        let jobs: Vec<_> = (0..100).map(|at| Ahead::new(&load, &format!("t{at}").parse().unwrap(), 1 << 20)).collect();
        let ahead = |name: &str| load.backlog.lock().bytes_ahead(&name.parse().unwrap());
        assert_eq!((ahead("new"), ahead("t7")), (100 << 20, 100 << 20));
        let greedy: Vec<_> = (0..100).map(|_| Ahead::new(&load, &"greedy".parse().unwrap(), 1 << 20)).collect();
        assert_eq!((ahead("greedy"), ahead("new")), (200 << 20, 101 << 20));
        drop((jobs, greedy));
        assert_eq!(ahead("new"), 0);
    }

    #[tokio::test]
    async fn nothing_is_decoded_while_the_store_asks_to_wait() {
        let pool = pool(1, Duration::from_millis(50));
        assert_eq!(pool.run(&tenant(), 1, || true, || panic!("it ran")).await, Err::<(), _>(PoolError::StoreBusy));
        let looks = std::cell::Cell::new(0);
        let busy_for_a_moment = || looks.replace(looks.get() + 1) < 3;
        assert_eq!(pool.run(&tenant(), 1, busy_for_a_moment, || 1).await, Ok(1));
        assert_eq!((looks.get(), backlog(&pool)), (4, (Jobs::default(), 0)), "D1");
        let refusal = busy(Duration::from_millis(50), true);
        assert!(refusal.message().starts_with("server still writes"), "{}", refusal.message());
    }

    #[tokio::test]
    async fn a_panic_is_the_failure_of_one_request() {
        let pool = pool(1, Duration::from_mins(1));
        assert_eq!(pool.run(&tenant(), 1, || false, || panic!("a bug")).await, Err::<(), _>(PoolError::Panicked));
        assert_eq!(pool.run(&tenant(), 1, || false, || 1).await, Ok(1));
        assert_eq!(backlog(&pool), (Jobs::default(), 0), "D1");
    }
}
