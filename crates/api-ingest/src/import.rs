//! Imports: `/api/v1/import/prometheus` (text exposition format) and `/api/v1/import` (VictoriaMetrics' JSON
//! lines), under the paths of VictoriaMetrics and its cluster.
//!
//! A body may have any length: it is read, inflated, translated and stored block by block, and each block is
//! durable before the next one is read. 204 says that every line is stored. Otherwise the answer is 400 and names the
//! first bad line and why, or what was refused; everything else is stored. An import that failed halfway may be
//! sent again: what is there already stays as it is.
//!
//! Query arguments: `extra_label=name=value` (repeated at will) and, for the exposition format, `timestamp`, the
//! instant in Unix milliseconds of samples that bring none (else: now).

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::request::Parts;
use http_body_util::BodyExt;
use percent_encoding::percent_decode_str;
use pharos_base::ErrorClass;
use pharos_gateway::Quota;
use pharos_http::{BodyShare, Dialect, Leftover, Refusal, body_cut_short};
use pharos_ingest::text::{BadLine, BadLines, TextFormat, TextImport, TextOptions};
use pharos_ingest::{DecodedMetrics, Encoding, IngestReport, Ingestor};
use pharos_model::TenantId;
use tokio::time::Instant;

use crate::body;
use crate::metrics::{Protocol, Signal};
use crate::own_limits::keep_series;
use crate::refuse::unsupported_media;
use crate::state::{Admission, Charged, DoorState, Place, append_series};

/// Body bytes that are collected before a thread is asked to read them.
const GATHER_BYTES: usize = 256 << 10;
/// How long a block waits for a busy server; then the sender is told, and how much is stored.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(6);
/// How long a block waits for a rate.
const RATE_WAIT_MAX: Duration = Duration::from_secs(30);
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// Labels that `extra_label` may add.
const EXTRA_LABELS_MAX: usize = 64;

pub(crate) fn router() -> Router<DoorState> {
    let mut router = Router::new();
    for (path, format) in [("import/prometheus", TextFormat::Exposition), ("import", TextFormat::JsonLines)] {
        for prefix in ["", "/prometheus"] {
            router = router.route(&format!("{prefix}/api/v1/{path}"), door(format));
        }
        router = router.route(&format!("/insert/{{tenant}}/prometheus/api/v1/{path}"), tenant_door(format));
    }
    router
}

fn door(format: TextFormat) -> MethodRouter<DoorState> {
    post(move |State(state): State<DoorState>, request: Request| async move {
        answer(accept(&state, None, format, request).await)
    })
}

fn tenant_door(format: TextFormat) -> MethodRouter<DoorState> {
    post(move |State(state): State<DoorState>, Path(tenant): Path<String>, request: Request| async move {
        answer(accept(&state, Some(&tenant), format, request).await)
    })
}

async fn accept(
    state: &DoorState,
    url_tenant: Option<&str>,
    format: TextFormat,
    request: Request,
) -> Result<(IngestReport, BadLines), Refusal> {
    let (parts, mut body) = request.into_parts();
    let (prepared, leftover) = (prepare(state, url_tenant, format, &parts), Leftover::of(&parts));
    drop(parts);
    let outcome = match prepared {
        Ok((admission, reader)) => {
            let work = Work { reader, held: state.share(&admission), _place: admission.place() };
            Import { state, admission, work: Some(work) }.run(&mut body).await
        }
        Err(refusal) => Err(refusal),
    };
    if outcome.is_err() {
        leftover.discard(body).await;
    }
    outcome
}

fn prepare(
    state: &DoorState,
    url_tenant: Option<&str>,
    format: TextFormat,
    parts: &Parts,
) -> Result<(Admission, TextImport), Refusal> {
    let admission = state.admit_stream(parts, url_tenant, Signal::Metrics)?;
    let name = body::content_encoding(&parts.headers);
    let Some(encoding @ (Encoding::Identity | Encoding::Gzip | Encoding::Zstd)) = Encoding::from_header(name) else {
        let name = name.unwrap_or_default();
        return Err(unsupported_media(format!("content encoding {name:?} is not supported; send gzip or zstd")));
    };
    let options = options(parts.uri.query().unwrap_or(""), state.ingestor().now_ms())?;
    let reader = TextImport::new(format, encoding, options)
        .map_err(|error| Refusal::new(ErrorClass::Invalid, error.to_string()))?;
    Ok((admission, reader))
}

/// Reads the query arguments; unknown ones are left alone, as VictoriaMetrics does.
fn options(query: &str, now_ms: i64) -> Result<TextOptions, Refusal> {
    let bad = |message: String| Refusal::new(ErrorClass::Invalid, message);
    let mut options = TextOptions { timestamp_ms: now_ms, extra_labels: Vec::new() };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = value.replace('+', " ");
        let value = percent_decode_str(&value).decode_utf8().map_err(|_| bad(format!("{name} must be UTF-8")))?;
        match name {
            "timestamp" if !value.is_empty() => {
                options.timestamp_ms =
                    value.parse().map_err(|_| bad(format!("timestamp={value:?} is no count of Unix milliseconds")))?;
            }
            "extra_label" => {
                let pair = value.split_once('=').filter(|(label, _)| !label.is_empty());
                let (label, value) = pair.ok_or_else(|| bad(format!("extra_label={value:?} is not name=value")))?;
                options.extra_labels.push((label.to_owned(), value.to_owned()));
            }
            _ => {}
        }
    }
    if options.extra_labels.len() > EXTRA_LABELS_MAX {
        return Err(bad(format!("more than {EXTRA_LABELS_MAX} arguments extra_label")));
    }
    Ok(options)
}

/// One request under way.
struct Import<'a> {
    state: &'a DoorState,
    admission: Admission,
    /// Away while a thread of the pool works with it.
    work: Option<Work>,
}

/// What a thread needs for its work, and has for as long as that takes, whether or not the sender stays.
struct Work {
    reader: TextImport,
    /// What it takes from the budget of all bodies.
    held: BodyShare,
    _place: Place,
}

impl Import<'_> {
    async fn run(mut self, body: &mut Body) -> Result<(IngestReport, BadLines), Refusal> {
        let mut total = IngestReport::default();
        loop {
            let (mut block, ended) = gather(body).await?;
            self.keep_to_rates().await.map_err(|refusal| halfway(refusal, &total))?;
            self.state.count_body(Protocol::Import, &self.admission, block.len());
            while !block.is_empty() {
                let held = self.work.as_ref().map_or(0, |work| work.reader.memory_bytes());
                self.hold(held + block.len()).await.map_err(|refusal| halfway(refusal, &total))?;
                let stored = self.store(Some(block), &mut total).await;
                block = stored.map_err(|refusal| halfway(refusal, &total))?;
            }
            if ended {
                let stored = self.store(None, &mut total).await;
                stored.map_err(|refusal| halfway(refusal, &total))?;
                let bad = self.work.map(|work| work.reader.bad_lines().clone()).unwrap_or_default();
                return Ok((total, bad));
            }
        }
    }

    /// Waits until the rates of its tenant and credential allow for more: an import is slowed down by them, and refused only
    /// where that would take longer than clients wait.
    async fn keep_to_rates(&self) -> Result<(), Refusal> {
        let deadline = Instant::now() + RATE_WAIT_MAX;
        while let Err(over) = self.admission.goes_on() {
            let again_at = Instant::now() + over.retry_after;
            if again_at > deadline {
                return Err(self.state.over(over));
            }
            tokio::time::sleep_until(again_at).await;
        }
        Ok(())
    }

    /// Takes a share of the budget of all bodies, waiting for it a while: what was sent so far need not be sent again.
    async fn hold(&mut self, bytes: usize) -> Result<(), Refusal> {
        let Some(Work { held, .. }) = &mut self.work else { return Ok(()) };
        let waited = tokio::time::timeout(BUSY_WAIT_MAX, async {
            while held.grow(bytes).is_err() {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
        });
        match waited.await {
            Ok(()) => Ok(()),
            Err(_) => held.grow(bytes),
        }
    }

    /// Has a thread of the pool do something with the reader.
    async fn on_a_thread<T: Send + 'static>(
        &mut self,
        bytes: usize,
        job: impl FnOnce(&Ingestor, &mut TextImport) -> T + Send + 'static,
    ) -> Result<Option<T>, Refusal> {
        let Some(mut work) = self.work.take() else { return Ok(None) };
        let job = move |ingestor: &Ingestor| {
            let done = job(ingestor, &mut work.reader);
            (done, work)
        };
        let (done, work) = self.state.work(self.admission.tenant(), bytes, job).await?;
        self.work = Some(work);
        Ok(Some(done))
    }

    /// Has the front of `block` (without one: the end of the body) read and stored; answers what is left of it.
    async fn store(&mut self, block: Option<Bytes>, total: &mut IngestReport) -> Result<Bytes, Refusal> {
        let (tenant, labels) = (self.admission.tenant().clone(), self.admission.labels().cloned());
        let (bytes, quota) = (block.as_ref().map_or(0, Bytes::len), self.admission.quota().clone());
        let job = move |ingestor: &Ingestor, reader: &mut TextImport| {
            let (limits, window) = (&ingestor.settings().limits, ingestor.window());
            let mut rest = block.unwrap_or_default();
            let batches =
                if rest.is_empty() { reader.finish(limits, window) } else { reader.feed(&mut rest, limits, window) };
            let hand_over = |mut batches: Vec<DecodedMetrics>| {
                for batch in &mut batches {
                    ingestor.label_metrics(&tenant, batch, labels.as_ref());
                    keep_series(batch, &quota);
                }
                HandedOver::new(ingestor, &tenant, &quota, batches, Patience::Waits)
            };
            (batches.map(hand_over), rest)
        };
        let Some((handed_over, rest)) = self.on_a_thread(bytes, job).await? else { return Ok(Bytes::new()) };
        let handed_over = handed_over.map_err(|error| self.state.fail(Protocol::Import, &error))?;
        self.settle(handed_over, total).await?;
        Ok(rest)
    }

    /// Awaits batches that the store took, and hands over those that wait for it. No thread of the pool waits.
    async fn settle(&mut self, mut handed_over: HandedOver, total: &mut IngestReport) -> Result<(), Refusal> {
        let deadline = Instant::now() + BUSY_WAIT_MAX;
        loop {
            for pending in handed_over.pending {
                total.merge(self.state.settle(Protocol::Import, &self.admission, pending).await?);
            }
            if handed_over.waiting.is_empty() {
                return Ok(());
            }
            while self.state.ingestor().is_metrics_busy() && Instant::now() < deadline {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            // The store finds the words for why not.
            let patience = if Instant::now() < deadline { Patience::Waits } else { Patience::Ended };
            let (tenant, quota) = (self.admission.tenant().clone(), self.admission.quota().clone());
            let waiting = handed_over.waiting;
            let job = move |ingestor: &Ingestor, _: &mut TextImport| {
                HandedOver::new(ingestor, &tenant, &quota, waiting, patience)
            };
            let Some(more) = self.on_a_thread(0, job).await? else { return Ok(()) };
            handed_over = more;
        }
    }
}

/// What to do while the store is busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    Waits,
    Ended,
}

/// Batches on their way to the store.
struct HandedOver {
    pending: Vec<Charged>,
    /// What the store would refuse now. A batch that it refuses is gone, and to copy each for that would cost more than
    /// to read it.
    waiting: Vec<DecodedMetrics>,
}

impl HandedOver {
    fn new(
        ingestor: &Ingestor,
        tenant: &TenantId,
        quota: &Quota,
        batches: Vec<DecodedMetrics>,
        patience: Patience,
    ) -> Self {
        let (mut batches, mut pending) = (batches.into_iter(), Vec::new());
        while patience == Patience::Ended || !ingestor.is_metrics_busy() {
            let Some(batch) = batches.next() else { break };
            pending.push(append_series(ingestor, tenant, quota, batch));
        }
        Self { pending, waiting: batches.collect() }
    }
}

/// A refusal in the midst of a body: says what is stored already.
fn halfway(refusal: Refusal, total: &IngestReport) -> Refusal {
    if total.items == 0 {
        return refusal;
    }
    let message = format!("{}; {} samples before are stored, and may be sent again", refusal.message(), total.items);
    refusal.with_message(message)
}

/// The next piece of the body, and whether it is the last.
async fn gather(body: &mut Body) -> Result<(Bytes, bool), Refusal> {
    let mut gathered = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| body_cut_short(&error))?.into_data() else { continue };
        gathered.extend_from_slice(&data);
        if gathered.len() >= GATHER_BYTES {
            return Ok((gathered.freeze(), false));
        }
    }
    Ok((gathered.freeze(), true))
}

fn answer(outcome: Result<(IngestReport, BadLines), Refusal>) -> Response {
    let (report, bad) = match outcome {
        Ok(found) => found,
        Err(refusal) => return refusal.render(Dialect::Plain),
    };
    let mut faults = Vec::new();
    if let Some(BadLine { number, reason }) = bad.first {
        faults.push(format!("line {number}: {reason} ({} lines could not be read)", bad.count));
    }
    if !report.rejections.is_empty() {
        faults.push(report.message());
    }
    if faults.is_empty() {
        return StatusCode::NO_CONTENT.into_response();
    }
    let message = format!("{}; the rest is stored ({} samples)", faults.join("; "), report.items);
    Refusal::new(ErrorClass::Invalid, message).render(Dialect::Plain)
}
