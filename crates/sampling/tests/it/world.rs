//! A sampler before a trace store in memory.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pharos_base::{Completion, SimClock};
use pharos_model::{
    Attribute, AttributeValue, Resource, Scope, Span, SpanBatch, SpanGroup, SpanId, SpanStatus, StatusCode, TenantId,
    TimeRangeNs, TraceId,
};
use pharos_sampling::{Components, GatedTraces, SamplingError, TailSampler, TailSamplingSettings};
use pharos_storage::memory::MemoryTraceStore;
use pharos_storage::render_attribute_value as render;
use pharos_storage::{
    AppendOutcome, BatchId, DependencyLink, FoundTraces, Operation, OperationQuery, ReadContext, RejectReason,
    Rejection, SpanGate, SpanRequest, StorageError, Trace, TraceLookup, TraceQuery, TraceStore, TraceStoreStats,
    TraceStream, TraceSummary,
};

/// A store that can be made to refuse, and rejects spans called `bad`.
#[derive(Default)]
pub(crate) struct Moody {
    store: MemoryTraceStore,
    pub(crate) refuses: AtomicBool,
    /// Also those called `work`.
    pub(crate) rejects_all: AtomicBool,
    /// Spans offered so far.
    pub(crate) offered: AtomicU64,
}

impl TraceStore for Moody {
    fn append(
        &self,
        tenant: &TenantId,
        batch: SpanBatch,
        id: BatchId,
    ) -> Completion<Result<AppendOutcome, StorageError>> {
        if self.refuses.load(Ordering::SeqCst) {
            return Completion::ready(Err(StorageError::Unavailable { reason: "moody".to_owned(), retry_after: None }));
        }
        self.offered.fetch_add(batch.span_count() as u64, Ordering::SeqCst);
        let mut batch = batch;
        let rejections = self.screen(tenant, &mut batch);
        let outcome = self.store.append(tenant, batch, id).wait().unwrap().unwrap();
        Completion::ready(Ok(AppendOutcome { rejections, ..outcome }))
    }

    fn screen(&self, _: &TenantId, batch: &mut SpanBatch) -> Vec<Rejection> {
        let mut outcome = AppendOutcome::default();
        let is_bad = |span: &Span| span.name == "bad" || self.rejects_all.load(Ordering::SeqCst);
        for group in &mut batch.groups {
            let before = group.spans.len();
            group.spans.retain(|span| !is_bad(span));
            let count = (before - group.spans.len()) as u64;
            if count > 0 {
                outcome.reject(RejectReason::TooNew, count, || "bad".to_owned());
            }
        }
        outcome.rejections
    }

    fn delete_trace(&self, tenant: &TenantId, trace_id: TraceId) -> Result<(), StorageError> {
        self.store.delete_trace(tenant, trace_id)
    }

    fn traces(
        &self,
        tenant: &TenantId,
        lookups: &[TraceLookup],
        context: &ReadContext,
    ) -> Result<TraceStream, StorageError> {
        self.store.traces(tenant, lookups, context)
    }

    fn find(&self, tenant: &TenantId, query: &TraceQuery, context: &ReadContext) -> Result<FoundTraces, StorageError> {
        self.store.find(tenant, query, context)
    }

    fn summaries(
        &self,
        tenant: &TenantId,
        lookups: &[TraceLookup],
        context: &ReadContext,
    ) -> Result<Vec<TraceSummary>, StorageError> {
        self.store.summaries(tenant, lookups, context)
    }

    fn services(&self, tenant: &TenantId) -> Result<Vec<String>, StorageError> {
        self.store.services(tenant)
    }

    fn operations(&self, tenant: &TenantId, query: &OperationQuery) -> Result<Vec<Operation>, StorageError> {
        self.store.operations(tenant, query)
    }

    fn count_calls(&self, tenant: &TenantId, batch: &SpanBatch) -> Completion<Result<AppendOutcome, StorageError>> {
        if self.refuses.load(Ordering::SeqCst) {
            return Completion::ready(Err(StorageError::Unavailable { reason: "moody".to_owned(), retry_after: None }));
        }
        self.store.count_calls(tenant, batch)
    }

    fn dependencies(
        &self,
        tenant: &TenantId,
        range: TimeRangeNs,
        context: &ReadContext,
    ) -> Result<Vec<DependencyLink>, StorageError> {
        self.store.dependencies(tenant, range, context)
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.store.flush()
    }

    fn compact(&self) -> Result<(), StorageError> {
        self.store.compact()
    }

    fn stats(&self) -> TraceStoreStats {
        self.store.stats()
    }
}

pub(crate) struct World {
    folder: tempfile::TempDir,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) store: Arc<Moody>,
    pub(crate) settings: TailSamplingSettings,
    pub(crate) sampler: Option<Arc<TailSampler>>,
}

fn trace_id(trace: u64) -> TraceId {
    let mut trace_id = [7; 16];
    trace_id[8..].copy_from_slice(&trace.to_be_bytes());
    TraceId(trace_id)
}

/// The body of a test's request: one span a line, `trace span status ms key=value`. Spans of a kind are made of it here and
/// at a replay alike.
pub(crate) fn decode(form: u8, body: &[u8]) -> Result<SpanBatch, String> {
    if form != 7 {
        return Err(format!("form {form}"));
    }
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    let mut groups = vec![group(Vec::new())];
    for line in text.lines() {
        let mut words = line.split(' ');
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        let (trace, id, is_error, ms) = (number(), number(), number(), number());
        let mut span = Span {
            trace_id: trace_id(trace),
            span_id: SpanId(id.to_be_bytes()),
            name: "work".to_owned(),
            start_ns: 1_000_000_000,
            end_ns: 1_000_000_000 + ms * 1_000_000,
            status: SpanStatus {
                code: if is_error == 1 { StatusCode::Error } else { StatusCode::Unset },
                message: String::new(),
            },
            ..Span::default()
        };
        let mut service = Vec::new();
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let value = match (value.parse::<i64>(), value.parse::<bool>()) {
                (Ok(number), _) => AttributeValue::Int(number),
                (_, Ok(truth)) => AttributeValue::Bool(truth),
                _ => AttributeValue::String(value.to_owned()),
            };
            match key {
                "state" => span.trace_state = format!("vendor={}", render(&value)),
                "sampled" => span.flags = 1,
                "bad" => "bad".clone_into(&mut span.name),
                "parent" => span.parent_span_id = SpanId(render(&value).parse::<u64>().unwrap_or(0).to_be_bytes()),
                "service" => service.push(Attribute { key: "service.name".to_owned(), value }),
                _ => span.attributes.push(Attribute { key: key.to_owned(), value }),
            }
        }
        if groups.last().is_none_or(|last| last.resource.attributes != service) {
            groups.push(group(service));
        }
        groups.last_mut().expect("there is one").spans.push(span);
    }
    Ok(SpanBatch { groups })
}

fn group(attributes: Vec<Attribute>) -> SpanGroup {
    let resource = Arc::new(Resource { attributes, ..Resource::default() });
    SpanGroup { resource, scope: Arc::new(Scope::default()), spans: Vec::new() }
}

/// The settings of `policies` in JSON.
pub(crate) fn settings(policies: &str) -> TailSamplingSettings {
    let text = format!(r#"{{"enabled": true, "policies": {policies}}}"#);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

impl World {
    pub(crate) fn new(settings: TailSamplingSettings) -> Self {
        let mut world = Self {
            folder: tempfile::tempdir().unwrap(),
            clock: SimClock::at_ms(1_700_000_000_000),
            store: Arc::default(),
            settings,
            sampler: None,
        };
        world.restart();
        world
    }

    /// As after a crash: memory is gone.
    pub(crate) fn restart(&mut self) {
        if let Some(sampler) = self.sampler.take() {
            sampler.close();
        }
        self.sampler = self.try_open().unwrap().map(Arc::new);
    }

    /// A start; no other sampler may run.
    pub(crate) fn try_open(&self) -> Result<Option<TailSampler>, SamplingError> {
        let components = Components {
            store: Arc::clone(&self.store) as _,
            clock: Arc::clone(&self.clock) as _,
            decode: Arc::new(decode),
        };
        TailSampler::open(self.folder.path(), self.settings.clone(), components)
    }

    /// The process ends; what waits is in the log only.
    pub(crate) fn stop(&mut self) {
        self.sampler.take().unwrap().close();
    }

    pub(crate) fn sampler(&self) -> &TailSampler {
        self.sampler.as_ref().unwrap()
    }

    /// As an operator deletes a trace.
    pub(crate) fn delete(&self, trace: u64) {
        let sampler = Arc::clone(self.sampler.as_ref().unwrap());
        let gated = GatedTraces { store: Arc::clone(&self.store) as _, sampler };
        gated.delete_trace(&TenantId::default(), trace_id(trace)).unwrap();
    }

    pub(crate) fn try_send(&self, body: &str) -> Result<AppendOutcome, StorageError> {
        self.try_send_as(&TenantId::default(), body)
    }

    pub(crate) fn try_send_as(&self, tenant: &TenantId, body: &str) -> Result<AppendOutcome, StorageError> {
        let request = SpanRequest { form: 7, body: body.as_bytes() };
        let batch = decode(7, body.as_bytes()).unwrap();
        self.sampler().append(tenant, batch, request).wait().unwrap()
    }

    /// Sends lines of spans, which are acknowledged.
    pub(crate) fn send(&self, body: &str) {
        assert_eq!(self.try_send(body).unwrap().items, body.lines().count() as u64);
    }

    pub(crate) fn step_after(&self, ms: i64) {
        self.clock.advance_ms(ms);
        self.sampler().step();
    }

    /// The spans of a trace that are stored: id and trace state, ascending.
    pub(crate) fn stored(&self, trace: u64) -> Vec<(u64, String)> {
        self.stored_of(&TenantId::default(), trace)
    }

    pub(crate) fn stored_of(&self, tenant: &TenantId, trace: u64) -> Vec<(u64, String)> {
        let lookup = TraceLookup { trace_id: trace_id(trace), range: None };
        let found = self.store.traces(tenant, &[lookup], &ReadContext::unlimited()).unwrap();
        let mut spans: Vec<_> = found
            .flat_map(|trace: Result<Trace, _>| trace.unwrap().groups)
            .flat_map(|group| group.spans)
            .map(|span| (u64::from_be_bytes(span.span_id.0), span.trace_state))
            .collect();
        spans.sort();
        spans
    }

    /// Who calls whom how often, dropped or kept.
    pub(crate) fn calls(&self) -> Vec<(String, String, u64)> {
        let context = ReadContext::unlimited();
        let found = self.store.dependencies(&TenantId::default(), TimeRangeNs::ALL, &context).unwrap();
        found.into_iter().map(|link| (link.parent, link.child, link.call_count)).collect()
    }

    /// Which of the traces are stored.
    pub(crate) fn kept(&self, traces: impl IntoIterator<Item = u64>) -> Vec<u64> {
        traces.into_iter().filter(|trace| !self.stored(*trace).is_empty()).collect()
    }

    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> =
            std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}
