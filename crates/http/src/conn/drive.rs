//! Drives one connection to its end: by itself, told to close, or cut.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use hyper_util::server::graceful::GracefulConnection;
use tokio_util::sync::CancellationToken;

use super::vitals::{Limits, Step, Vitals, Why};

/// What ends connections from outside.
pub(crate) struct Ends<'a> {
    /// Tells them to close: the server stops.
    pub(crate) stop: &'a CancellationToken,
    /// Tells them to close: whom this port trusts has changed.
    pub(crate) retire: &'a CancellationToken,
    /// Cuts this one: its place goes to another.
    pub(crate) evict: &'a CancellationToken,
    /// Cuts them: the stop was patient enough.
    pub(crate) abort: &'a CancellationToken,
}

/// Serves until the connection ends; `Err` says why it was cut.
///
/// Its deadlines are looked at whenever the connection's task runs, and by an alarm at the next of them. The caller pins the
/// connection: a future has room twice for what is moved into it and then kept.
pub(crate) async fn drive<C: GracefulConnection>(
    mut connection: Pin<&mut C>,
    vitals: &Vitals,
    limits: &Limits,
    ends: Ends<'_>,
) -> Result<Result<(), C::Error>, Why> {
    let mut alarm = pin!(tokio::time::sleep(Duration::ZERO));
    let (mut stop, mut retire) = (pin!(ends.stop.cancelled()), pin!(ends.retire.cancelled()));
    let (mut evict, mut abort) = (pin!(ends.evict.cancelled()), pin!(ends.abort.cancelled()));
    let mut closing_since = None;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(outcome) = connection.as_mut().poll(cx) {
                return Poll::Ready(Ok(outcome));
            }
            for (end, why) in [(evict.as_mut(), Why::Place), (abort.as_mut(), Why::Stop)] {
                if end.poll(cx).is_ready() {
                    return Poll::Ready(Err(why));
                }
            }
            let is_told =
                closing_since.is_none() && (stop.as_mut().poll(cx).is_ready() || retire.as_mut().poll(cx).is_ready());
            let step =
                if is_told { Step::Close(Why::Stop) } else { vitals.judge(vitals.now_ms(), limits, closing_since) };
            match step {
                Step::Cut(why) => return Poll::Ready(Err(why)),
                Step::Close(_) => {
                    closing_since = Some(vitals.now_ms());
                    // It has something to say now: once more round.
                    connection.as_mut().graceful_shutdown();
                }
                Step::Wait(at_ms) => {
                    let at = vitals.began + Duration::from_millis(at_ms.min(WAIT_MAX_MS));
                    // A deadline that moved away costs nothing: the alarm comes early, and looks again.
                    if at < alarm.deadline() || alarm.is_elapsed() {
                        alarm.as_mut().reset(at);
                    }
                    if alarm.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    })
    .await
}

/// The longest an alarm is set for, milliseconds since the connection began: ten years.
const WAIT_MAX_MS: u64 = 10 * 365 * 86_400_000;
