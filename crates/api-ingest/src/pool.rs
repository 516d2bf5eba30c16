//! Where bodies are inflated and decoded: blocking threads, a bounded number at a time.
//!
//! As many run as the machine has cores, a bounded queue waits for a bounded time, and the rest is
//! told to come back: overload costs senders a retry, never the server its memory.

use std::sync::Arc;
use std::time::Duration;

use pharos_base::{ErrorClass, available_cores};
use pharos_http::Refusal;
use tokio::sync::Semaphore;

/// Requests that wait for each one that runs.
const WAITING_PER_RUNNING: usize = 32;
const WAIT_MAX: Duration = Duration::from_secs(5);
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Runs decoding jobs.
#[derive(Debug, Clone)]
pub(crate) struct DecodePool {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    wait_max: Duration,
}

impl DecodePool {
    /// One job per core, and at least two.
    pub(crate) fn for_this_machine() -> Self {
        let running_max = available_cores().max(2);
        Self::new(running_max, running_max * WAITING_PER_RUNNING, WAIT_MAX)
    }

    pub(crate) fn new(running_max: usize, waiting_max: usize, wait_max: Duration) -> Self {
        Self {
            running: Arc::new(Semaphore::new(running_max)),
            waiting: Arc::new(Semaphore::new(waiting_max)),
            wait_max,
        }
    }

    /// Runs `job` on a thread of its own. A job that has begun ends, whether or not its sender stays.
    pub(crate) async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
        let busy = || {
            Refusal::new(ErrorClass::Unavailable, "server is busy with other writers; send the request again")
                .with_retry_after(Some(RETRY_AFTER))
        };
        let place = self.waiting.try_acquire().map_err(|_| busy())?;
        let acquired = tokio::time::timeout(self.wait_max, Arc::clone(&self.running).acquire_owned()).await;
        drop(place);
        let permit = acquired.ok().and_then(Result::ok).ok_or_else(busy)?;
        let task = tokio::task::spawn_blocking(move || {
            let done = job();
            drop(permit);
            done
        });
        task.await.map_err(|error| {
            tracing::error!(%error, "a decoding thread panicked");
            Refusal::new(
                ErrorClass::Internal,
                "the request could not be read because of a fault in the server; its log says more",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn a_full_queue_is_refused_with_the_time_to_come_back() {
        let pool = DecodePool::new(1, 1, Duration::from_mins(1));
        let (release, released) = oneshot::channel::<()>();
        let (begin, begun) = oneshot::channel();
        let running = pool.run(move || {
            begin.send(()).unwrap();
            released.blocking_recv().unwrap();
            1
        });
        let waiting = async {
            begun.await.unwrap();
            let second = pool.run(|| 2);
            let third = async {
                let refusal = pool.run(|| 3).await.unwrap_err();
                release.send(()).unwrap();
                refusal
            };
            tokio::join!(biased; second, third)
        };
        let (first, (second, refusal)) = tokio::join!(running, waiting);
        assert_eq!((first.unwrap(), second.unwrap()), (1, 2));
        assert_eq!((refusal.class(), refusal.retry_after()), (ErrorClass::Unavailable, Some(RETRY_AFTER)));
    }

    #[tokio::test]
    async fn waiting_ends() {
        let pool = DecodePool::new(0, 1, Duration::ZERO);
        assert_eq!(pool.run(|| ()).await.unwrap_err().class(), ErrorClass::Unavailable);
    }

    #[tokio::test]
    async fn a_panic_is_the_failure_of_one_request() {
        let pool = DecodePool::new(1, 1, Duration::from_mins(1));
        assert_eq!(pool.run(|| panic!("a bug")).await.unwrap_err().class(), ErrorClass::Internal);
        assert_eq!(pool.run(|| 1).await.unwrap(), 1);
    }
}
