//! Where bodies are inflated and decoded: blocking threads, a bounded number at a time.
//!
//! As many run as the machine has cores. What waits is bounded by time, not by count: a job that would not begin
//! within the patience of its door is refused, if possible before its body is read. Overload costs senders a
//! retry, never the server its memory or those who are accepted their latency.
//!
//! Invariants
//! - D1 `backlog_bytes` is the sum over jobs that wait or run: each takes its bytes back however it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pharos_base::{Clock, ErrorClass, SystemClock, available_cores};
use pharos_http::Refusal;
use tokio::sync::Semaphore;

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
    /// A bug; the log has it.
    Panicked,
}

/// Runs decoding jobs.
#[derive(Debug, Clone)]
pub(crate) struct DecodePool {
    running: Arc<Semaphore>,
    load: Arc<Load>,
    wait_max: Duration,
}

/// What jobs cost, and how much of that is ahead of a new one.
#[derive(Debug)]
struct Load {
    threads: u64,
    backlog_bytes: AtomicU64,
    decoded_bytes: AtomicU64,
    decoded_ns: AtomicU64,
}

/// A job's part of the backlog, until it is dropped.
struct Ahead(Arc<Load>, u64);

impl Load {
    fn new(threads: usize) -> Self {
        Self {
            threads: threads.max(1) as u64,
            backlog_bytes: AtomicU64::new(0),
            decoded_bytes: AtomicU64::new(JOB_BYTES_MIN),
            decoded_ns: AtomicU64::new(JOB_BYTES_MIN * NS_PER_BYTE_AT_FIRST),
        }
    }

    /// When a job that came now would begin, as far as the cost of jobs before tells.
    fn wait_expected(&self) -> Duration {
        let backlog = self.backlog_bytes.load(Ordering::Relaxed) as f64;
        let (ns, bytes) = (self.decoded_ns.load(Ordering::Relaxed), self.decoded_bytes.load(Ordering::Relaxed).max(1));
        Duration::from_secs_f64(backlog / self.threads as f64 * (ns as f64 / bytes as f64) / 1e9)
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
    fn new(load: &Arc<Load>, bytes: usize) -> Self {
        let bytes = (bytes as u64).max(JOB_BYTES_MIN);
        load.backlog_bytes.fetch_add(bytes, Ordering::Relaxed);
        Self(Arc::clone(load), bytes)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.backlog_bytes.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl PoolError {
    /// What a sender is told of a pool that is busy.
    pub(crate) fn busy() -> Refusal {
        let message = "server is busy with other writers (ingest.limits.queue_wait); send the request again";
        Refusal::new(ErrorClass::Unavailable, message).with_retry_after(Some(RETRY_AFTER))
    }
}

impl DecodePool {
    /// One job per core, and at least two; one that does not begin within `wait_max` is refused.
    pub(crate) fn for_this_machine(wait_max: Duration) -> Self {
        Self::new(available_cores().max(2), wait_max)
    }

    pub(crate) fn new(running_max: usize, wait_max: Duration) -> Self {
        Self { running: Arc::new(Semaphore::new(running_max)), load: Arc::new(Load::new(running_max)), wait_max }
    }

    /// Refuses what would not begin in time, before its body is read.
    ///
    /// # Errors
    /// [`PoolError::Busy`].
    pub(crate) fn has_room(&self) -> Result<(), PoolError> {
        if self.load.wait_expected() > self.wait_max { Err(PoolError::Busy) } else { Ok(()) }
    }

    /// Runs `job`, which reads `bytes`, on a thread of its own. A job that has begun ends, whether or not its sender stays.
    ///
    /// # Errors
    /// [`PoolError`].
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        self.run_within(self.wait_max, bytes, job).await
    }

    /// As [`DecodePool::run`], with a patience of its own.
    ///
    /// # Errors
    /// [`PoolError`].
    pub(crate) async fn run_within<T: Send + 'static>(
        &self,
        wait_max: Duration,
        bytes: usize,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let ahead = Ahead::new(&self.load, bytes);
        let acquired = tokio::time::timeout(wait_max, Arc::clone(&self.running).acquire_owned()).await;
        let permit = acquired.ok().and_then(Result::ok).ok_or(PoolError::Busy)?;
        let task = tokio::task::spawn_blocking(move || {
            let begun = SystemClock.monotonic();
            let done = job();
            let Ahead(load, bytes) = &ahead;
            load.learn(*bytes, SystemClock.monotonic() - begun);
            drop((ahead, permit));
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

    #[tokio::test]
    async fn what_does_not_begin_in_time_is_refused_and_leaves_no_trace() {
        let pool = DecodePool::new(1, Duration::from_millis(10));
        let (release, released) = oneshot::channel::<()>();
        let (begin, begun) = oneshot::channel();
        let running = pool.run(1, move || {
            begin.send(()).unwrap();
            released.blocking_recv().unwrap();
            1
        });
        let refused = async {
            begun.await.unwrap();
            let refused = pool.run(1, || 2).await;
            release.send(()).unwrap();
            refused
        };
        assert_eq!(tokio::join!(running, refused), (Ok(1), Err(PoolError::Busy)));
        assert_eq!(pool.load.backlog_bytes.load(Ordering::Relaxed), 0, "D1");
    }

    #[tokio::test]
    async fn a_long_backlog_is_refused_before_a_body_is_read() {
        let pool = DecodePool::new(2, Duration::from_millis(200));
        pool.load.learn(1 << 20, Duration::from_millis(10));
        let waiting: Vec<_> = (0..39).map(|_| Ahead::new(&pool.load, 1 << 20)).collect();
        assert_eq!(pool.has_room(), Ok(()), "39 MiB at 10 ms each on two threads take 195 ms");
        let more = [Ahead::new(&pool.load, 1 << 20), Ahead::new(&pool.load, 1 << 20)];
        assert_eq!(pool.has_room(), Err(PoolError::Busy));
        drop((waiting, more));
        assert_eq!(pool.has_room(), Ok(()));
        let refusal = PoolError::busy();
        assert_eq!((refusal.class(), refusal.retry_after()), (ErrorClass::Unavailable, Some(RETRY_AFTER)));
    }

    #[tokio::test]
    async fn a_panic_is_the_failure_of_one_request() {
        let pool = DecodePool::new(1, Duration::from_mins(1));
        assert_eq!(pool.run(1, || panic!("a bug")).await, Err::<(), _>(PoolError::Panicked));
        assert_eq!(pool.run(1, || 1).await, Ok(1));
        assert_eq!(pool.load.backlog_bytes.load(Ordering::Relaxed), 0, "D1");
    }
}
