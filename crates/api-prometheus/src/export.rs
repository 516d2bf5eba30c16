//! `/api/v1/export`: samples as VictoriaMetrics' JSON lines, streamed series by series; `/api/v1/import` takes them back.
//!
//! A line has at most [`LINE_SAMPLES_MAX`] samples of one series. NaN is `null`, infinities are `"Infinity"` and
//! `"-Infinity"`, as VictoriaMetrics writes them. A `null` cannot tell a staleness marker from another NaN, so lines
//! with any but the ordinary one have a member `"nans"` more, which VictoriaMetrics skips: `[index, "bits in hex"]`.
//!
//! Native histograms, start timestamps, exemplars and metadata have no form in these lines and are left out.
//!
//! An export that fails after its first line cuts the connection: what arrived whole was the whole.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::future::FusedFuture;
use futures::{FutureExt, StreamExt, stream};
use http::header::CONTENT_TYPE;
use pharos_http::QueryKind;
use pharos_model::{Labels, Matcher, TenantId, TimeRange, matches_labels};
use pharos_storage::{LeafPlan, LeafSeries, RawPlan, ReadContext, StorageError};
use tokio::sync::mpsc;

use crate::call::Caller;
use crate::json::push_labels;
use crate::labels::{range, selectors};
use crate::listed::{self, listing_time};
use crate::number::push_float;
use crate::params::Params;
use crate::reply::{ApiError, Reply};
use crate::routes::PrometheusApi;

/// Samples of one line.
const LINE_SAMPLES_MAX: usize = 10_000;
/// Text that is collected before it is sent.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces that wait for a slow client; then the reading waits.
const PIECES_WAITING_MAX: usize = 4;
/// The NaN that a `null` is read as.
const ORDINARY_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// Answers the samples of all series that any selector finds.
pub(crate) async fn export(State(api): State<Arc<PrometheusApi>>, caller: Caller, params: Params) -> Reply {
    let sets = params.required_matcher_sets()?;
    let range = range(&params)?;
    let (pieces, mut arriving) = mpsc::channel(PIECES_WAITING_MAX);
    let asked = caller.asks(QueryKind::Export, &selectors(&params), listing_time(range));
    let work = move |api: &PrometheusApi, context: &ReadContext| -> Result<(), StorageError> {
        let mut sender = Sender { pieces, collected: Vec::new() };
        write_all(api, &caller.tenant, &sets, range, context, &mut sender)?;
        sender.send();
        Ok(())
    };
    // Dropped with the body when the client hangs up, which cancels the work.
    let mut running = Box::pin(async move { listed::read(&api, asked, work).await }.fuse());
    let first = tokio::select! {
        biased;
        piece = arriving.recv() => piece,
        done = &mut running => {
            done?;
            arriving.recv().await
        }
    };
    let Some(first) = first else {
        // Nothing was sent: the work has failed, or found nothing.
        if !running.is_terminated() {
            running.await?;
        }
        return Ok(lines(Body::empty()));
    };
    let rest = stream::unfold((arriving, Some(running)), |(mut arriving, running)| async move {
        let mut running = running?;
        loop {
            tokio::select! {
                biased;
                piece = arriving.recv() => match piece {
                    Some(piece) => return Some((Ok(piece), (arriving, Some(running)))),
                    None if running.is_terminated() => return None,
                    None => {
                        let failed = failure(running.await)?;
                        return Some((Err(failed), (arriving, None)));
                    }
                },
                done = &mut running, if !running.is_terminated() => {
                    if let Some(failed) = failure(done) {
                        return Some((Err(failed), (arriving, None)));
                    }
                }
            }
        }
    });
    // Fused: a compressing layer asks once more after the end.
    Ok(lines(Body::from_stream(stream::once(async { Ok(first) }).chain(rest).fuse())))
}

/// Why the lines end early; `None` if they do not.
fn failure(done: Result<(), ApiError>) -> Option<io::Error> {
    let message = done.err()?.0.message().to_owned();
    tracing::error!(error = message, "an export failed halfway; its connection is cut");
    Some(io::Error::other(message))
}

fn lines(body: Body) -> Response {
    ([(CONTENT_TYPE, "application/stream+json")], body).into_response()
}

fn write_all(
    api: &PrometheusApi,
    tenant: &TenantId,
    sets: &[Vec<Matcher>],
    range: TimeRange,
    context: &ReadContext,
    sender: &mut Sender,
) -> Result<(), StorageError> {
    for (index, matchers) in sets.iter().enumerate() {
        let plan = LeafPlan::Raw(RawPlan { matchers: matchers.clone(), range });
        for series in api.store.leaf(tenant, &plan, context)? {
            context.check()?;
            let LeafSeries::Raw(series) = series? else {
                return Err(StorageError::Unsupported { what: "an answer of another plan".to_owned() });
            };
            context.meter.count(series.sample_count(), 0);
            if sets[..index].iter().any(|earlier| matches_labels(earlier, &series.labels)) {
                continue;
            }
            let chunks = series.timestamps_ms.chunks(LINE_SAMPLES_MAX).zip(series.values.chunks(LINE_SAMPLES_MAX));
            for (timestamps_ms, values) in chunks {
                push_line(&mut sender.collected, &series.labels, timestamps_ms, values);
                if sender.collected.len() >= PIECE_BYTES && !sender.send() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

fn push_line(out: &mut Vec<u8>, labels: &Labels, timestamps_ms: &[i64], values: &[f64]) {
    out.extend_from_slice(b"{\"metric\":");
    push_labels(out, labels);
    out.extend_from_slice(b",\"values\":");
    push_list(out, values, |out, value| push_value(out, *value));
    out.extend_from_slice(b",\"timestamps\":");
    push_list(out, timestamps_ms, |out, at_ms| out.extend_from_slice(at_ms.to_string().as_bytes()));
    let nans: Vec<_> = values.iter().map(|value| value.to_bits()).enumerate().filter(is_special_nan).collect();
    if !nans.is_empty() {
        out.extend_from_slice(b",\"nans\":");
        let push = |out: &mut Vec<u8>, (index, bits): &(usize, u64)| {
            out.extend_from_slice(format!("[{index},\"{bits:016x}\"]").as_bytes());
        };
        push_list(out, &nans, push);
    }
    out.extend_from_slice(b"}\n");
}

fn is_special_nan((_, bits): &(usize, u64)) -> bool {
    f64::from_bits(*bits).is_nan() && *bits != ORDINARY_NAN_BITS
}

fn push_list<T>(out: &mut Vec<u8>, items: &[T], push: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push(out, item);
    }
    out.push(b']');
}

fn push_value(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        push_float(out, value);
    } else {
        let text: &[u8] = match value {
            f64::INFINITY => b"\"Infinity\"",
            f64::NEG_INFINITY => b"\"-Infinity\"",
            _ => b"null",
        };
        out.extend_from_slice(text);
    }
}

/// The worker's end of the answer.
struct Sender {
    pieces: mpsc::Sender<Bytes>,
    collected: Vec<u8>,
}

impl Sender {
    /// Sends what is collected; false if the client has gone.
    fn send(&mut self) -> bool {
        if self.collected.is_empty() {
            return true;
        }
        self.pieces.blocking_send(Bytes::from(std::mem::take(&mut self.collected))).is_ok()
    }
}

#[cfg(test)]
mod tests;
