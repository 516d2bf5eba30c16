//! The pool on which queries run: a bounded number at a time, cancelled when their client leaves.

use std::sync::Arc;
use std::time::Duration;

use pharos_base::{CancelToken, ErrorClass};
use tokio::sync::Semaphore;

use crate::Refusal;

/// Runs blocking work, at most so many at once; a short queue waits, the rest is refused.
#[derive(Debug, Clone)]
pub struct QueryPool {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    wait_max: Duration,
}

/// Cancels the work if the handler's future is dropped, which is what hanging up does.
struct CancelOnDrop(CancelToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl QueryPool {
    /// At most `running_max` at once and ten times as many in the queue, each for `wait_max` at most.
    #[must_use]
    pub fn new(running_max: usize, wait_max: Duration) -> Self {
        Self {
            running: Arc::new(Semaphore::new(running_max)),
            waiting: Arc::new(Semaphore::new(running_max * 10)),
            wait_max,
        }
    }

    /// Runs `work` on a thread of its own and awaits it. `work` must look at the token it is given.
    ///
    /// # Errors
    /// A [`Refusal`] if the queue is full or the wait too long, or if `work` panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(CancelToken) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let busy = || {
            Refusal::new(ErrorClass::Unavailable, "too many queries at once; try again, or raise query.concurrency_max")
                .with_retry_after(Some(Duration::from_secs(1)))
        };
        let place = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| busy())?;
        let acquired = tokio::time::timeout(self.wait_max, Arc::clone(&self.running).acquire_owned()).await;
        drop(place);
        let permit = acquired.ok().and_then(Result::ok).ok_or_else(busy)?;
        let token = CancelToken::new();
        let _cancel = CancelOnDrop(token.clone());
        let task = tokio::task::spawn_blocking(move || {
            let result = work(token);
            drop(permit);
            result
        });
        task.await.map_err(|error| {
            tracing::error!(%error, "a query thread panicked");
            Refusal::new(ErrorClass::Internal, "the query failed inside the server; its log says more")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn a_dropped_request_cancels_its_query() {
        let pool = QueryPool::new(1, Duration::from_secs(5));
        let (started, on_start) = oneshot::channel();
        let (ended, on_end) = oneshot::channel();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            let work = move |token: CancelToken| {
                started.send(()).unwrap();
                while token.check().is_ok() {
                    std::thread::yield_now();
                }
                ended.send(()).unwrap();
            };
            pool.run(work).await.unwrap();
        });
        on_start.await.unwrap();
        tasks.abort_all();
        on_end.await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_in_a_query_is_an_answer_not_an_end() {
        let pool = QueryPool::new(1, Duration::from_secs(5));
        let panicked: Result<u8, Refusal> = pool.run(|_| panic!("on purpose")).await;
        assert!(panicked.is_err());
        assert_eq!(pool.run(|_| 7).await.unwrap(), 7);
    }
}
