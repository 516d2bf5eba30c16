//! A result that arrives later: awaited by async callers, waited for by plain threads.
//!
//! Storage engines are synchronous, but an acknowledgement waits for a group commit. Handing out a
//! completion lets hundreds of requests wait without a thread each.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

/// The receiving half.
#[derive(Debug)]
pub struct Completion<T>(State<T>);

#[derive(Debug)]
enum State<T> {
    Ready(Option<T>),
    Waiting(oneshot::Receiver<T>),
}

/// The sending half; dropping it unused makes the completion yield `None`.
#[derive(Debug)]
pub struct Completer<T>(oneshot::Sender<T>);

impl<T> Completion<T> {
    /// A completion that is already there.
    #[must_use]
    pub fn ready(value: T) -> Self {
        Self(State::Ready(Some(value)))
    }

    /// A pair of halves.
    #[must_use]
    pub fn pair() -> (Completer<T>, Self) {
        let (sender, receiver) = oneshot::channel();
        (Completer(sender), Self(State::Waiting(receiver)))
    }

    /// Blocks this thread until the result is there; `None` if the other half was dropped.
    ///
    /// Must not be called on an async worker thread.
    pub fn wait(self) -> Option<T> {
        match self.0 {
            State::Ready(value) => value,
            State::Waiting(receiver) => receiver.blocking_recv().ok(),
        }
    }

    /// The result if it is there, `Some(None)` if the other half was dropped (or the result was taken); `None` if there is
    /// none yet. Never blocks.
    pub fn try_take(&mut self) -> Option<Option<T>> {
        let taken = match &mut self.0 {
            State::Ready(value) => return Some(value.take()),
            State::Waiting(receiver) => match receiver.try_recv() {
                Ok(value) => Some(value),
                Err(oneshot::error::TryRecvError::Closed) => None,
                Err(oneshot::error::TryRecvError::Empty) => return None,
            },
        };
        self.0 = State::Ready(None);
        Some(taken)
    }
}

impl<T> Completer<T> {
    /// Delivers the result. A receiver that went away is no error.
    pub fn complete(self, value: T) {
        let _ = self.0.send(value);
    }
}

impl<T: Unpin> Future for Completion<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        match &mut self.0 {
            State::Ready(value) => Poll::Ready(value.take()),
            State::Waiting(receiver) => Pin::new(receiver).poll(context).map(Result::ok),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_taken_once_it_is_there() {
        let (completer, mut completion) = Completion::pair();
        assert_eq!(completion.try_take(), None);
        completer.complete(7_u8);
        assert_eq!((completion.try_take(), completion.try_take()), (Some(Some(7)), Some(None)));
        let (completer, mut completion) = Completion::<u8>::pair();
        drop(completer);
        assert_eq!(completion.try_take(), Some(None));
        assert_eq!(Completion::ready(7).try_take(), Some(Some(7)));
    }

    #[test]
    fn a_dropped_completer_is_noticed() {
        let (completer, completion) = Completion::<u8>::pair();
        drop(completer);
        assert_eq!(completion.wait(), None);
        let (completer, completion) = Completion::pair();
        completer.complete(7_u8);
        assert_eq!(completion.wait(), Some(7));
    }
}
