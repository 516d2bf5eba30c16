//! Doors on memory stores, a principal in front, and what the tests ask of them.

use std::io::Write;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use http::{HeaderMap, Request, StatusCode};
use pharos_api_ingest::{DoorState, grpc_routes, http_router, otlp_hints, say_what_was_written};
use pharos_base::{ByteSize, Completion, HumanDuration, SimClock};
use pharos_gateway::{LimitSettings, Principal, Quotas, Scope, TenantAccess};
use pharos_ingest::{IngestComponents, IngestSettings, Ingestor};
use pharos_model::{MatchOp, Matcher, MetricBatch, SpanBatch, TenantId, TimeRange};
use pharos_storage::memory::{MemoryMetricStore, MemoryTraceStore};
use pharos_storage::{
    AppendOutcome, BatchId, LeafPlan, LeafSeries, MetricStore, RawPlan, ReadContext, StorageError, TraceLookup,
    TraceStore,
};
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tower::ServiceExt;

pub(crate) const NOW_MS: i64 = 1_700_000_000_000;
const DAY_MS: u64 = 86_400_000;

/// Doors and the stores behind them.
pub(crate) struct Doors {
    pub(crate) router: Router,
    pub(crate) metrics: Arc<MemoryMetricStore>,
    pub(crate) traces: Arc<MemoryTraceStore>,
    pub(crate) registry: Registry,
    pub(crate) clock: Arc<SimClock>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Doors that everyone may use for every tenant.
pub(crate) fn doors() -> Doors {
    doors_for(Principal::anonymous(), IngestSettings::default())
}

pub(crate) fn doors_for(principal: Principal, settings: IngestSettings) -> Doors {
    let (metrics, traces) = (Arc::new(MemoryMetricStore::new()), Arc::new(MemoryTraceStore::new()));
    build(
        principal,
        settings,
        &LimitSettings::default(),
        (Arc::clone(&metrics) as _, Arc::clone(&traces) as _),
        metrics,
        traces,
    )
}

/// A tenant that the stores of [`doors_with`] do not take.
pub(crate) const STRANGER: &str = "stranger";

/// Doors within limits for `principal`, to stores that have as many tenants as they may.
pub(crate) fn doors_with(principal: Principal, settings: IngestSettings, limits: &LimitSettings) -> Doors {
    let (metrics, traces) = (Arc::new(MemoryMetricStore::new()), Arc::new(MemoryTraceStore::new()));
    let moods = Moody { takes: u64::MAX.into(), ..Moody::default() };
    let stores =
        (Arc::new(MoodyMetrics(Arc::clone(&metrics), moods)) as _, Arc::new(KnownTraces(Arc::clone(&traces))) as _);
    build(principal, settings, limits, stores, metrics, traces)
}

/// Doors within limits to a store that takes few series of each tenant.
pub(crate) fn doors_to_few_series(settings: IngestSettings, series_max: usize) -> Doors {
    let metrics = Arc::new(MemoryMetricStore::with_series_max(series_max));
    let traces = Arc::new(MemoryTraceStore::new());
    let stores = (Arc::clone(&metrics) as _, Arc::clone(&traces) as _);
    build(Principal::anonymous(), settings, &LimitSettings::default(), stores, metrics, traces)
}

/// Doors within limits to stores that hold up what they are given until the gate's keeper lets it in.
pub(crate) fn doors_behind_a_gate(settings: IngestSettings, limits: &LimitSettings) -> (Doors, GateKeeper) {
    let (metrics, traces) = (Arc::new(MemoryMetricStore::new()), Arc::new(MemoryTraceStore::new()));
    let (gate, keeper) = gate();
    let moods = Moody { takes: u64::MAX.into(), gate: Some(gate.clone()), ..Moody::default() };
    let metric_store = Arc::new(MoodyMetrics(Arc::clone(&metrics), moods));
    let trace_store = Arc::new(GatedTraces(Arc::clone(&traces), gate));
    (build(Principal::anonymous(), settings, limits, (metric_store, trace_store), metrics, traces), keeper)
}

/// Doors within limits to a metrics store of such moods.
pub(crate) fn doors_within_to(limits: &LimitSettings, moods: Moody) -> Doors {
    let (metrics, traces) = (Arc::new(MemoryMetricStore::new()), Arc::new(MemoryTraceStore::new()));
    let stores = (Arc::new(MoodyMetrics(Arc::clone(&metrics), moods)) as _, Arc::clone(&traces) as _);
    build(Principal::anonymous(), IngestSettings::default(), limits, stores, metrics, traces)
}

/// Doors within limits.
pub(crate) fn doors_within(limits: &LimitSettings) -> Doors {
    let (metrics, traces) = (Arc::new(MemoryMetricStore::new()), Arc::new(MemoryTraceStore::new()));
    let stores = (Arc::clone(&metrics) as _, Arc::clone(&traces) as _);
    build(Principal::anonymous(), IngestSettings::default(), limits, stores, metrics, traces)
}

/// Doors to a store that cannot take anything at the moment.
pub(crate) fn doors_to_a_full_disk() -> Doors {
    doors_to(IngestSettings::default(), Moody { takes: 0.into(), busy: 0.into(), ..Moody::default() })
}

/// Doors to a metrics store of such moods, and to a trace store that cannot take anything.
pub(crate) fn doors_to(settings: IngestSettings, moods: Moody) -> Doors {
    let (metrics, traces) = (Arc::new(MemoryMetricStore::new()), Arc::new(MemoryTraceStore::new()));
    let metric_store = MoodyMetrics(Arc::clone(&metrics), moods);
    let trace_store = FullTraces(Arc::clone(&traces));
    build(
        Principal::anonymous(),
        settings,
        &LimitSettings::default(),
        (Arc::new(metric_store), Arc::new(trace_store)),
        metrics,
        traces,
    )
}

fn build(
    principal: Principal,
    mut settings: IngestSettings,
    limits: &LimitSettings,
    (metric_store, trace_store): (Arc<dyn MetricStore>, Arc<dyn TraceStore>),
    metrics: Arc<MemoryMetricStore>,
    traces: Arc<MemoryTraceStore>,
) -> Doors {
    let clock = SimClock::at_ms(NOW_MS);
    // No test depends on how busy the machine is.
    settings.limits.queue_wait = HumanDuration::from_ms(60_000);
    settings.limits.overload_wait = HumanDuration::from_ms(60_000);
    let components = IngestComponents {
        metrics: metric_store,
        traces: trace_store,
        clock: Arc::clone(&clock) as _,
        metrics_retention: Some(HumanDuration::from_ms(30 * DAY_MS)),
    };
    let mut registry = Registry::default();
    let quotas = Arc::new(Quotas::new(limits, &[], Arc::clone(&components.clock)));
    let state = DoorState::new(Arc::new(Ingestor::new(components, settings)), quotas, &mut registry);
    let router = http_router(state.clone())
        .merge(grpc_routes(state).into_axum_router())
        .merge(otlp_hints())
        .layer(axum::Extension(principal))
        .layer(axum::middleware::from_fn(say_what_was_written));
    Doors { router, metrics, traces, registry, clock }
}

pub(crate) fn small_bodies(limit: ByteSize) -> IngestSettings {
    let mut settings = IngestSettings::default();
    settings.limits.body_max = limit;
    settings
}

pub(crate) fn principal(scope: Scope, tenant: &str) -> Principal {
    Principal::new("test", &[scope], tenant.parse::<TenantAccess>().unwrap())
}

impl Doors {
    pub(crate) async fn send(&self, request: http::request::Builder, body: impl Into<Body>) -> Answer {
        let response = self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 24).await.unwrap().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// Samples stored for a tenant, as `series value@ms`.
    pub(crate) fn stored(&self, tenant: &str) -> Vec<String> {
        let matchers = vec![Matcher::new(MatchOp::NotEqual, "__name__", "").unwrap()];
        let plan = LeafPlan::Raw(RawPlan { matchers, range: TimeRange::ALL });
        let tenant: TenantId = tenant.parse().unwrap();
        let mut lines = Vec::new();
        for series in self.metrics.leaf(&tenant, &plan, &ReadContext::unlimited()).unwrap() {
            let LeafSeries::Raw(series) = series.unwrap() else { panic!("raw plan") };
            for (at_ms, value) in series.timestamps_ms.iter().zip(&series.values) {
                lines.push(format!("{} {value}@{at_ms}", series.labels));
            }
            for sample in &series.histograms {
                lines
                    .push(format!("{} histogram of {}@{}", series.labels, sample.histogram.count, sample.timestamp_ms));
            }
        }
        lines.sort();
        lines
    }

    /// Names of the spans of a trace.
    pub(crate) fn spans(&self, tenant: &str, trace_id: &str) -> Vec<String> {
        let lookup = TraceLookup { trace_id: trace_id.parse().unwrap(), range: None };
        let tenant: TenantId = tenant.parse().unwrap();
        let traces = self.traces.traces(&tenant, &[lookup], &ReadContext::unlimited()).unwrap();
        traces.flat_map(|trace| trace.unwrap().groups).flat_map(|group| group.spans).map(|span| span.name).collect()
    }

    pub(crate) fn own_metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

pub(crate) fn post(path: &str) -> http::request::Builder {
    Request::builder().method("POST").uri(path)
}

pub(crate) fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(plain).unwrap();
    writer.finish().unwrap()
}

pub(crate) fn snappy(plain: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(plain).unwrap()
}

fn disk_full() -> Completion<Result<AppendOutcome, StorageError>> {
    let retry_after = Some(std::time::Duration::from_secs(7));
    Completion::ready(Err(StorageError::Unavailable { reason: "no space left on device".into(), retry_after }))
}

/// When a store takes batches.
#[derive(Default)]
pub(crate) struct Moody {
    /// So many batches are refused first.
    pub(crate) refuses: AtomicU64,
    /// So many batches; then the disk is full.
    pub(crate) takes: AtomicU64,
    /// So many times it says that it is busy, and refuses batches meanwhile.
    pub(crate) busy: AtomicU64,
    /// What each batch has to pass first.
    pub(crate) gate: Option<Gate>,
}

/// More than any test has at a gate.
const AT_THE_GATE_MAX: usize = 100;

/// Where a thread that appends waits.
#[derive(Clone)]
pub(crate) struct Gate {
    reached: mpsc::Sender<()>,
    /// One passes for each that is in it, all once it has no sender.
    let_in: Arc<Mutex<std::sync::mpsc::Receiver<()>>>,
}

/// Sees who reaches a gate, and lets them in.
pub(crate) struct GateKeeper {
    pub(crate) reached: mpsc::Receiver<()>,
    pub(crate) let_in: std::sync::mpsc::SyncSender<()>,
}

fn gate() -> (Gate, GateKeeper) {
    let ((reach, reached), (let_in, go)) =
        (mpsc::channel(AT_THE_GATE_MAX), std::sync::mpsc::sync_channel(AT_THE_GATE_MAX));
    (Gate { reached: reach, let_in: Arc::new(Mutex::new(go)) }, GateKeeper { reached, let_in })
}

impl Gate {
    fn pass(&self) {
        let _ = self.reached.try_send(());
        let _ = self.let_in.lock().unwrap().recv();
    }
}

impl Moody {
    /// Counts down; false at zero.
    fn is_left(count: &AtomicU64) -> bool {
        count.fetch_update(Relaxed, Relaxed, |count| count.checked_sub(1)).is_ok()
    }
}

struct MoodyMetrics(Arc<MemoryMetricStore>, Moody);

struct FullTraces(Arc<MemoryTraceStore>);

struct GatedTraces(Arc<MemoryTraceStore>, Gate);

/// Takes spans of all tenants but [`STRANGER`].
struct KnownTraces(Arc<MemoryTraceStore>);

fn admits(tenant: &TenantId) -> Result<(), StorageError> {
    let too_many = StorageError::LimitExceeded { what: "tenants", limit: 7, hint: "raise tenants_max" };
    if tenant.as_str() == STRANGER { Err(too_many) } else { Ok(()) }
}

macro_rules! delegate {
    ($($name:ident($($argument:ident: $type:ty),*) -> $output:ty;)*) => {
        $(fn $name(&self, $($argument: $type),*) -> $output { self.0.$name($($argument),*) })*
    };
}

impl MetricStore for MoodyMetrics {
    fn append(
        &self,
        tenant: &TenantId,
        batch: MetricBatch,
        id: BatchId,
    ) -> Completion<Result<AppendOutcome, StorageError>> {
        self.1.gate.iter().for_each(Gate::pass);
        if self.1.busy.load(Relaxed) == 0 && !Moody::is_left(&self.1.refuses) && Moody::is_left(&self.1.takes) {
            self.0.append(tenant, batch, id)
        } else {
            disk_full()
        }
    }

    fn admits(&self, tenant: &TenantId) -> Result<(), StorageError> {
        admits(tenant)
    }

    fn is_busy(&self) -> bool {
        Moody::is_left(&self.1.busy)
    }

    delegate! {
        capabilities() -> pharos_storage::Capabilities;
        leaf(tenant: &TenantId, plan: &LeafPlan, context: &ReadContext) -> Result<pharos_storage::LeafStream, StorageError>;
        series(tenant: &TenantId, sets: &[Vec<Matcher>], range: TimeRange, context: &ReadContext) -> Result<pharos_storage::SeriesStream, StorageError>;
        label_names(tenant: &TenantId, query: &pharos_storage::LabelQuery, context: &ReadContext) -> Result<Vec<String>, StorageError>;
        label_values(tenant: &TenantId, name: &str, query: &pharos_storage::LabelQuery, context: &ReadContext) -> Result<Vec<String>, StorageError>;
        exemplars(tenant: &TenantId, sets: &[Vec<Matcher>], range: TimeRange, context: &ReadContext) -> Result<Vec<pharos_storage::ExemplarSeries>, StorageError>;
        metadata(tenant: &TenantId, metric: Option<&str>, limit: usize) -> Result<Vec<pharos_model::MetricMetadata>, StorageError>;
        cardinality(tenant: &TenantId, top: usize) -> Result<pharos_storage::CardinalityStatus, StorageError>;
        flush() -> Result<(), StorageError>;
        compact() -> Result<(), StorageError>;
        stats() -> pharos_storage::MetricStoreStats;
    }
}

macro_rules! delegate_traces {
    () => {
        delegate! {
            traces(tenant: &TenantId, lookups: &[TraceLookup], context: &ReadContext) -> Result<pharos_storage::TraceStream, StorageError>;
            find(tenant: &TenantId, query: &pharos_storage::TraceQuery, context: &ReadContext) -> Result<pharos_storage::FoundTraces, StorageError>;
            summaries(tenant: &TenantId, lookups: &[TraceLookup], context: &ReadContext) -> Result<Vec<pharos_storage::TraceSummary>, StorageError>;
            services(tenant: &TenantId) -> Result<Vec<String>, StorageError>;
            operations(tenant: &TenantId, query: &pharos_storage::OperationQuery) -> Result<Vec<pharos_storage::Operation>, StorageError>;
            dependencies(tenant: &TenantId, range: pharos_model::TimeRangeNs, context: &pharos_storage::ReadContext) -> Result<Vec<pharos_storage::DependencyLink>, StorageError>;
            flush() -> Result<(), StorageError>;
            compact() -> Result<(), StorageError>;
            stats() -> pharos_storage::TraceStoreStats;
        }
    };
}

impl TraceStore for FullTraces {
    fn append(&self, _: &TenantId, _: SpanBatch, _: BatchId) -> Completion<Result<AppendOutcome, StorageError>> {
        disk_full()
    }

    delegate_traces!();
}

impl TraceStore for KnownTraces {
    fn append(
        &self,
        tenant: &TenantId,
        batch: SpanBatch,
        id: BatchId,
    ) -> Completion<Result<AppendOutcome, StorageError>> {
        self.0.append(tenant, batch, id)
    }

    fn admits(&self, tenant: &TenantId) -> Result<(), StorageError> {
        admits(tenant)
    }

    delegate_traces!();
}

impl TraceStore for GatedTraces {
    fn append(
        &self,
        tenant: &TenantId,
        batch: SpanBatch,
        id: BatchId,
    ) -> Completion<Result<AppendOutcome, StorageError>> {
        self.1.pass();
        self.0.append(tenant, batch, id)
    }

    delegate_traces!();
}
