//! Answers in many messages: a read on the query pool fills them, the client's pace empties them.

use std::pin::Pin;
use std::sync::Arc;

use futures::stream::{self, Stream, StreamExt};
use pharos_base::{ErrorClass, Interrupted};
use pharos_http::{Asked, Refusal};
use pharos_storage::{ReadContext, StorageError};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use crate::call::refusal_of;
use crate::grpc_call::status_of;
use crate::listed::Listed;
use crate::routes::JaegerApi;

/// Messages that wait for a slow client; with one more in the making this bounds what an answer holds.
const WAITING_MAX: usize = 2;

/// The messages of one answer. Dropping it cancels the read behind it.
pub(crate) type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Where a read puts its messages.
pub(crate) struct Outlet<T> {
    sender: mpsc::Sender<T>,
    runtime: Handle,
    deadline: Option<Instant>,
}

impl<T> Outlet<T> {
    /// Hands what it is given to the other end of `sender`, until `deadline`. To be used outside of async code only.
    pub(crate) fn new(sender: mpsc::Sender<T>, runtime: Handle, deadline: Option<Instant>) -> Self {
        Self { sender, runtime, deadline }
    }

    /// Hands over one message; blocks while the client is behind.
    ///
    /// # Errors
    /// [`StorageError::Interrupted`] if the client left, or took longer than a read may.
    pub(crate) fn send(&self, message: T) -> Result<(), StorageError> {
        let sent = match self.deadline {
            None => self.runtime.block_on(self.sender.send(message)),
            Some(deadline) => self
                .runtime
                .block_on(timeout_at(deadline, self.sender.send(message)))
                .map_err(|_| Interrupted::DeadlineExceeded)?,
        };
        Ok(sent.map_err(|_| Interrupted::Cancelled)?)
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
    let runtime = Handle::current();
    let listed = Listed::begin(&api, asked);
    let work = async move {
        let shared = Arc::clone(&api);
        let read = move |context: &ReadContext| {
            let deadline = context.cancel.deadline().map(Instant::from_std);
            read(&shared, context, &Outlet { sender, runtime, deadline })
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
