//! Bodies with a pace: those that come must come, those that go must be taken.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::vitals::{InFlight, Vitals};

/// A request's body that was cut because the client is too slow. The bytes that came are no whole body: whoever reads
/// it answers that the client may send it again, never that it is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum BodyTooSlow {
    #[error("the request's body paused for longer than connections.body_pause_max = {}s", .pause_max.as_secs_f64())]
    Paused { pause_max: Duration },
    #[error("the request's body comes slower than connections.body_rate_min = {rate_min} bytes a second")]
    BelowRate { rate_min: u64 },
}

/// A request's body, of a client that has to keep the pace. Time counts only while something waits for the client.
pub(crate) struct PacedBody {
    body: Incoming,
    pause_max: Duration,
    rate_min: u64,
    came_bytes: u64,
    waited: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl PacedBody {
    pub(crate) fn new(body: Incoming, pause_max: Duration, rate_min: u64) -> Self {
        Self { body, pause_max, rate_min, came_bytes: 0, waited: Duration::ZERO, waiting: None }
    }

    /// Counts what came, and the time it was waited for.
    fn came(&mut self, bytes: usize) -> Result<(), BodyTooSlow> {
        self.came_bytes += bytes as u64;
        if let Some((since, _)) = self.waiting.take() {
            self.waited += since.elapsed();
        }
        let must_have_come = u128::from(self.rate_min) * self.waited.as_millis() / 1_000;
        if self.waited > self.pause_max && u128::from(self.came_bytes) < must_have_come {
            return Err(BodyTooSlow::BelowRate { rate_min: self.rate_min });
        }
        Ok(())
    }
}

impl HttpBody for PacedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let paced = this.came(frame.data_ref().map_or(0, Bytes::len));
                Poll::Ready(Some(paced.map(|()| frame).map_err(Into::into)))
            }
            Poll::Ready(ended) => Poll::Ready(ended.map(|outcome| outcome.map_err(Into::into))),
            Poll::Pending => {
                let pause_max = this.pause_max;
                let (_, alarm) = this.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(pause_max))));
                if alarm.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                Poll::Ready(Some(Err(BodyTooSlow::Paused { pause_max }.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body: its request is under way until it is dropped, and a piece that nobody takes is noticed.
pub(crate) struct ServedBody {
    body: Body,
    vitals: Arc<Vitals>,
    is_handed_over: bool,
    _in_flight: InFlight,
}

impl ServedBody {
    pub(crate) fn new(body: Body, vitals: Arc<Vitals>, in_flight: InFlight) -> Self {
        Self { body, vitals, is_handed_over: false, _in_flight: in_flight }
    }

    fn taken(&mut self) {
        if std::mem::take(&mut self.is_handed_over) {
            self.vitals.answer_taken();
        }
    }
}

impl Drop for ServedBody {
    fn drop(&mut self) {
        self.taken();
    }
}

impl HttpBody for ServedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.taken();
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(Some(_))) {
            self.is_handed_over = true;
            self.vitals.answer_handed_over();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
