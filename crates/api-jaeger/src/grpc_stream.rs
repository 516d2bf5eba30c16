//! Answers in many messages: a read on the query pool fills them, the client's pace empties them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use pharos_base::{ErrorClass, Interrupted};
use pharos_http::{Asked, QueryPool, Refusal};
use pharos_storage::{ReadContext, StorageError};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use crate::call::refusal_of;
use crate::grpc_call::status_of;
use crate::listed::Listed;
use crate::routes::JaegerApi;

/// Messages that wait for a slow client; with one more in the making this bounds what an answer holds.
const WAITING_MAX: usize = 2;

/// How long any read may wait for its client.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long a read may wait for its client to take one message, if it has leave to.
const STALL_MAX: Duration = Duration::from_secs(20);

/// The messages of one answer. Dropping it cancels the read behind it.
pub(crate) type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Where a read puts its messages.
///
/// A read that waits for its client holds a place among the queries that run at once. All may wait for a moment
/// ([`PAUSE_MAX`]); to wait longer is given to half of them, each for [`STALL_MAX`] at a time.
pub(crate) struct Outlet<T> {
    sender: mpsc::Sender<T>,
    pace: Pace,
}

/// How long a read may wait for its client.
pub(crate) struct Pace {
    pub(crate) runtime: Handle,
    /// Where the read runs.
    pub(crate) pool: QueryPool,
    /// When the read must be over.
    pub(crate) deadline: Option<Instant>,
}

impl<T> Outlet<T> {
    /// Hands what it is given to the other end of `sender`. To be used outside of async code only.
    pub(crate) fn new(sender: mpsc::Sender<T>, pace: Pace) -> Self {
        Self { sender, pace }
    }

    /// Hands over one message; blocks while the client is behind.
    ///
    /// # Errors
    /// [`StorageError::Interrupted`] if the client left, or took longer than a read may;
    /// [`StorageError::Unavailable`] if it is slower than can be waited for.
    pub(crate) fn send(&self, message: T) -> Result<(), StorageError> {
        match self.sender.try_send(message) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(_)) => Err(Interrupted::Cancelled.into()),
            Err(TrySendError::Full(message)) => self.pace.runtime.block_on(self.send_in_time(message)),
        }
    }

    async fn send_in_time(&self, message: T) -> Result<(), StorageError> {
        let mut place = timeout_at(self.until(PAUSE_MAX), self.sender.reserve()).await;
        if place.is_err() {
            let Some(_leave) = self.pace.pool.wait_for_client() else {
                return Err(self.stalled("and too many others are slow, too"));
            };
            place = timeout_at(self.until(STALL_MAX), self.sender.reserve()).await;
        }
        match place {
            Ok(Ok(place)) => place.send(message),
            Ok(Err(_)) => return Err(Interrupted::Cancelled.into()),
            Err(_) => return Err(self.stalled("for longer than is waited for")),
        }
        Ok(())
    }

    /// In so long, or when the read must be over.
    fn until(&self, wait_max: Duration) -> Instant {
        let until = Instant::now() + wait_max;
        self.pace.deadline.map_or(until, |deadline| deadline.min(until))
    }

    fn stalled(&self, how: &str) -> StorageError {
        if self.pace.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Interrupted::DeadlineExceeded.into();
        }
        let reason = format!("the client does not read its answer, {how}");
        StorageError::Unavailable { reason, retry_after: None }
    }
}

/// Why a read ended early: the store's reason, or that what was asked for is not there.
pub(crate) enum Failure {
    /// The store failed.
    Store(StorageError),
    /// There is no such thing; in words.
    Absent(&'static str),
}

impl<E: Into<StorageError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

impl Failure {
    fn refusal(self) -> Refusal {
        match self {
            Self::Store(error) => refusal_of(&error),
            Self::Absent(what) => Refusal::new(ErrorClass::NotFound, what),
        }
    }
}

/// Runs `read` on the query pool and streams what it sends. Returns with the first message or the end, so that
/// a read that fails at once is a failed call rather than a broken answer. Ends at the deadline of the call, if it has one.
pub(crate) async fn run<T: Send + 'static>(
    api: Arc<JaegerApi>,
    asked: Asked,
    read: impl FnOnce(&JaegerApi, &ReadContext, &Outlet<T>) -> Result<(), Failure> + Send + 'static,
) -> Result<Messages<T>, Status> {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let (runtime, pool) = (Handle::current(), api.pool.clone());
    let listed = Listed::begin(&api, asked);
    let work = async move {
        let shared = Arc::clone(&api);
        let read = move |context: &ReadContext| {
            let deadline = context.cancel.deadline().map(Instant::from_std);
            read(&shared, context, &Outlet::new(sender, Pace { runtime, pool, deadline }))
        };
        let refusal = listed.run(api, read, Failure::refusal).await.err()?;
        Some(Err(status_of(&refusal)))
    };
    let sent = stream::unfold(receiver, |mut receiver| async {
        let message = receiver.recv().await?;
        Some((Ok(message), receiver))
    });
    let end = stream::once(work).filter_map(std::future::ready);
    let mut messages = Box::pin(stream::select(sent, end));
    let first = messages.next().await.transpose()?;
    Ok(Box::pin(stream::iter(first.map(Ok)).chain(messages)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlet(pool: &QueryPool, deadline: Option<Instant>) -> (Outlet<u8>, mpsc::Receiver<u8>) {
        let (sender, receiver) = mpsc::channel(1);
        let pace = Pace { runtime: Handle::current(), pool: pool.clone(), deadline };
        let outlet = Outlet::new(sender, pace);
        outlet.send(0).unwrap();
        (outlet, receiver)
    }

    /// Of four reads that nobody reads from, two give up at once and two later; half of the pool is free all the time.
    #[tokio::test(start_paused = true)]
    async fn slow_clients_hold_half_of_the_places_at_most() {
        let pool = QueryPool::new(4, Duration::from_secs(5));
        let begun_at = Instant::now();
        let stalled = (0..4).map(async |_| {
            let (outlet, _receiver) = outlet(&pool, None);
            let error = outlet.send_in_time(1).await.unwrap_err();
            assert!(matches!(error, StorageError::Unavailable { .. }), "{error}");
            begun_at.elapsed().as_secs()
        });
        let mut waited_s = futures::future::join_all(stalled).await;
        waited_s.sort_unstable();
        assert_eq!(waited_s, [1, 1, 21, 21]);
        assert!(pool.wait_for_client().is_some(), "leave is given back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_now_and_then_gets_all() {
        let pool = QueryPool::new(2, Duration::from_secs(5));
        let (outlet, mut receiver) = outlet(&pool, None);
        let read = async {
            for number in 0..5 {
                tokio::time::sleep(Duration::from_secs(15)).await;
                assert_eq!(receiver.recv().await, Some(number));
            }
        };
        let send = async {
            for number in 1..5 {
                outlet.send_in_time(number).await.unwrap();
            }
        };
        tokio::join!(read, send);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_beyond_the_deadline_of_the_read_or_for_who_has_left() {
        let pool = QueryPool::new(2, Duration::from_secs(5));
        let (late, _receiver) = outlet(&pool, Some(Instant::now() + Duration::from_secs(10)));
        let error = late.send_in_time(1).await.unwrap_err();
        assert!(matches!(error, StorageError::Interrupted(Interrupted::DeadlineExceeded)), "{error}");
        let (left, receiver) = outlet(&pool, None);
        drop(receiver);
        for error in [left.send(1).unwrap_err(), left.send_in_time(1).await.unwrap_err()] {
            assert!(matches!(error, StorageError::Interrupted(Interrupted::Cancelled)), "{error}");
        }
    }
}
