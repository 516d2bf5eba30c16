//! The running server: what it is made of, and the order of start and stop.
//!
//! Start: lock the data folder, open the ports, open the stores (which replays their logs), serve. Ports come
//! before replay so that a taken port is told at once, and connections wait in the kernel meanwhile. Stop: no
//! new connections, requests under way finish, stores close, the folder is unlocked.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use parking_lot::Mutex;
use pharos_api_jaeger::{JaegerUi, UiBuild, UiCapabilities};
use pharos_api_prometheus::{ApiSettings, BuildInfo, Gates, PrometheusApi};
use pharos_base::{Clock, Helpers, Secret, SystemClock, full_message};
use pharos_gateway::{AuthSettings, Authenticator, BodyLimit, Identities, Quotas, ReaderBodies, TokenFile};
use pharos_http::{BodyBudget, HttpMetrics, Queries, QueriesSettings, QueryPool, watch_tls_files};
use pharos_ingest::otlp::{WireForm, decode_traces};
use pharos_ingest::{HaRules, IngestComponents, Ingestor};
use pharos_promql::{Engine, EngineSettings, ParserOptions};
use pharos_sampling::{GatedTraces, TailSampler};
use pharos_spanmetrics::{SpanMeter, SpanMetricViews};
use pharos_storage::{MetricStore, TraceStore};
use pharos_tracestore::SpanStore;
use pharos_tsdb::Tsdb;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::data_dir::DataDir;
use crate::doors::{self, Doors};
use crate::listeners::{Addresses, Listeners};
use crate::reload::{Reloader, SettingsSource};
use crate::self_metrics;
use crate::settings::{Cors, QueryFeature, Settings, Switch, tenants};
use crate::span_metrics::SpanMetrics;

/// What it is called to have been built from.
pub(crate) const BUILD: BuildInfo = BuildInfo {
    version: env!("CARGO_PKG_VERSION"),
    revision: match option_env!("PHAROS_REVISION") {
        Some(revision) => revision,
        None => "unknown",
    },
};

/// How long a snapshot or deletion waits for the one before it.
const UPKEEP_WAIT_MAX: Duration = Duration::from_mins(1);
/// How often tail sampling looks for traces whose time has come.
const SAMPLING_STEP: Duration = Duration::from_millis(500);

/// A server that is up.
pub(crate) struct App {
    stores: Stores,
    tasks: TaskTracker,
    stop: CancellationToken,
    addresses: Addresses,
    first_token: Option<Secret>,
    reloader: Reloader,
    _data_dir: DataDir,
}

struct Stores {
    metrics: Arc<Tsdb>,
    traces: Arc<SpanStore>,
    /// Counts spans on their way into `traces` and brings the counts to `metrics`.
    span_metrics: Arc<SpanMetrics>,
    /// Stands before `traces` where tail sampling is on.
    sampler: Option<Arc<TailSampler>>,
    /// Threads that may help with large reads, of all queries together.
    helpers: Helpers,
}

impl App {
    /// Starts everything; `source` is where the settings are read again.
    ///
    /// # Errors
    /// One line that says what could not be opened.
    pub(crate) async fn start(settings: &Settings, source: SettingsSource) -> anyhow::Result<Self> {
        let clock = SystemClock::shared();
        let data_dir = DataDir::open(&settings.data_dir)?;
        let auth = AuthSettings {
            enabled: settings.auth == Switch::On,
            loopback_only: !settings.auth_off_anywhere,
            token_file: TokenFile::at(settings.token_path()),
            trusted_networks: settings.trusted_networks.clone(),
            audit: settings.audit.clone(),
        };
        let identities = Arc::new(Identities::open(&settings.identities, Arc::clone(&clock))?);
        let limits = tenants::limits(&settings.tenants);
        let quotas = Arc::new(Quotas::new(&settings.limits, &limits, Arc::clone(&clock)));
        let ha = Arc::new(HaRules::new(&settings.ingest.ha, tenants::ha(&settings.tenants)));
        let authenticator = Authenticator::open(auth, Arc::clone(&clock))?
            .with_identities(Arc::clone(&identities))
            .with_quotas(Arc::clone(&quotas));
        let authenticator = Arc::new(authenticator);
        let listeners = Listeners::bind(settings, &clock).await?;
        let addresses = listeners.addresses()?;
        let reloader = Reloader {
            authenticator: Arc::clone(&authenticator),
            identities: Arc::clone(&identities),
            tls: listeners.tls_sources(),
            quotas,
            ha,
            settings: source,
        };
        let jaeger_ui = jaeger_ui(settings)?;
        let stores = open_stores(settings, &data_dir, &clock, &reloader.quotas).await?;
        // Last of all that may fail: a token that was made and never shown would lock its owner out.
        let first_token = if authenticator.is_enabled() { authenticator.first_token()? } else { None };
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        if authenticator.is_enabled() {
            tasks.spawn(Arc::clone(&authenticator).watch(stop.clone().cancelled_owned()));
            tasks.spawn(identities.run(stop.clone().cancelled_owned()));
        }
        let doors = Doors { jaeger_ui, ..doors(settings, &stores, &reloader, &clock, &stop) };
        listeners.register(&mut doors.registry.lock());
        listeners.serve(&doors::routers(&doors), &tasks, &stop);
        if !reloader.tls.is_empty() {
            let sources = reloader.tls.iter().map(|(_, source)| Arc::clone(source)).collect();
            tasks.spawn(watch_tls_files(sources, stop.clone()));
        }
        if stores.span_metrics.meter.is_enabled() {
            let interval = Duration::from_millis(settings.span_metrics.flush_interval.as_ms().unsigned_abs());
            tasks.spawn(Arc::clone(&stores.span_metrics).run(interval, stop.clone()));
        }
        if let Some(sampler) = &stores.sampler {
            tasks.spawn(sample(Arc::clone(sampler), stop.clone()));
        }
        tasks.close();
        Ok(Self { stores, tasks, stop, addresses, first_token, reloader, _data_dir: data_dir })
    }

    /// Where it listens.
    pub(crate) fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Reads tokens, limits and the files of TLS again, and says in the log what became of each.
    pub(crate) async fn reload(&self) {
        let reloader = self.reloader.clone();
        match tokio::task::spawn_blocking(move || reloader.reload()).await {
            Ok(reloaded) if reloaded.has_failed => tracing::error!(outcome = reloaded.lines.join("; "), "reload"),
            Ok(reloaded) => tracing::info!(outcome = reloaded.lines.join("; "), "reload"),
            Err(error) => tracing::error!(%error, "reload panicked"),
        }
    }

    /// The token made at the very first start.
    pub(crate) fn first_token(&self) -> Option<&Secret> {
        self.first_token.as_ref()
    }

    /// Stops everything in order; what was acknowledged is on disk.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.tasks.wait().await;
        let stores = self.stores;
        let close = move || -> anyhow::Result<()> {
            if let Some(sampler) = &stores.sampler {
                sampler.close();
            }
            stores.span_metrics.flush();
            drop(stores.span_metrics);
            close_metrics(stores.metrics).context("cannot close the metrics store")?;
            stores.traces.close().context("cannot close the trace store")
        };
        tokio::task::spawn_blocking(close).await.context("a store panicked while closing")?
    }
}

/// Where traces are in the data folder.
pub(crate) const TRACES_FOLDER: &str = "traces";
/// Where spans wait for tail sampling.
pub(crate) const SAMPLING_FOLDER: &str = "sampling";

/// Replays logs, which may take a while: not on an async worker.
async fn open_stores(
    settings: &Settings,
    data_dir: &DataDir,
    clock: &Arc<dyn Clock>,
    quotas: &Arc<Quotas>,
) -> anyhow::Result<Stores> {
    let tsdb_settings = settings.tsdb().map_err(anyhow::Error::msg)?;
    let trace_settings = settings.tracestore().map_err(anyhow::Error::msg)?;
    let (metrics_dir, traces_dir) = (data_dir.folder("metrics")?, data_dir.folder(TRACES_FOLDER)?);
    let (metrics_clock, traces_clock) = (Arc::clone(clock), Arc::clone(clock));
    let (tail_sampling, sampling_dir) = (settings.tail_sampling.clone(), sampling_dir(settings, data_dir)?);
    let (sampling_clock, limits) = (Arc::clone(clock), settings.ingest.limits.clone());
    let decode: Arc<pharos_sampling::Decode> = Arc::new(move |form, body: &[u8]| {
        let form = WireForm::of_number(form).ok_or_else(|| format!("form {form} of a request is not known"))?;
        decode_traces(body, form, &limits).map(|decoded| decoded.batch).map_err(|error| full_message(&error))
    });
    let meter = SpanMeter::new(settings.span_metrics.clone(), settings.service_graph.clone(), Arc::clone(clock))?;
    let helpers = settings.query.helpers();
    let quotas = Arc::clone(quotas);
    let series_limits = pharos_tsdb::SeriesLimits::new(move |tenant| quotas.of_tenant(tenant).series_active);
    let open = move || -> anyhow::Result<Stores> {
        let components = pharos_tsdb::Components {
            clock: metrics_clock,
            helpers: helpers.clone(),
            series_limits,
            ..pharos_tsdb::Components::default()
        };
        let metrics = Tsdb::open(&metrics_dir, tsdb_settings, components).context("cannot open the metrics store")?;
        let components = pharos_tracestore::Components { clock: traces_clock };
        let traces = SpanStore::open(&traces_dir, trace_settings, components).context("cannot open the trace store")?;
        let (metrics, traces) = (Arc::new(metrics), Arc::new(traces));
        let span_metrics = SpanMetrics::new(Arc::new(meter), Arc::clone(&metrics) as _);
        let components = pharos_sampling::Components { store: Arc::clone(&traces) as _, clock: sampling_clock, decode };
        let open = |folder: PathBuf| TailSampler::open(&folder, tail_sampling, components);
        let sampler = sampling_dir.map(open).transpose().context("cannot open the log of tail sampling")?;
        Ok(Stores { metrics, traces, span_metrics, sampler: sampler.flatten().map(Arc::new), helpers })
    };
    tokio::task::spawn_blocking(open).await.context("a store panicked while opening")?
}

/// Where spans wait for tail sampling; `None` if it is off, and always was.
fn sampling_dir(settings: &Settings, data_dir: &DataDir) -> anyhow::Result<Option<PathBuf>> {
    let is_used = settings.tail_sampling.enabled || settings.data_dir.join(SAMPLING_FOLDER).is_dir();
    is_used.then(|| data_dir.folder(SAMPLING_FOLDER)).transpose()
}

/// Judges traces that wait until `stop`.
async fn sample(sampler: Arc<TailSampler>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(SAMPLING_STEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let sampler = Arc::clone(&sampler);
        if let Err(error) = tokio::task::spawn_blocking(move || sampler.step()).await {
            // The sampler takes nothing any more, and says so to senders and to who asks whether we are ready.
            tracing::error!(%error, "tail sampling panicked: no spans are taken until a restart");
            return;
        }
    }
}

/// Closes the store, or at least empties its log where a cut connection still holds on to it.
fn close_metrics(metrics: Arc<Tsdb>) -> anyhow::Result<()> {
    match Arc::try_unwrap(metrics) {
        Ok(metrics) => Ok(metrics.close()?),
        Err(shared) => Ok(shared.flush()?),
    }
}

/// The trace store as operators see it: a deletion reaches what waits for a sampling decision, too.
fn deletable(stores: &Stores) -> Arc<dyn TraceStore> {
    let store: Arc<dyn TraceStore> = Arc::clone(&stores.traces) as _;
    match &stores.sampler {
        Some(sampler) => Arc::new(GatedTraces { store, sampler: Arc::clone(sampler) }),
        None => store,
    }
}

fn doors(
    settings: &Settings,
    stores: &Stores,
    reloader: &Reloader,
    clock: &Arc<dyn Clock>,
    stop: &CancellationToken,
) -> Doors {
    let metrics: Arc<dyn MetricStore> = Arc::new(SpanMetricViews::new(Arc::clone(&stores.metrics) as _));
    let traces: Arc<dyn TraceStore> = Arc::clone(&stores.traces) as _;
    let mut registry = Registry::default();
    let http_metrics = HttpMetrics::register(&mut registry);
    let engine = Engine::new(Arc::clone(&metrics), engine_settings(settings)).with_helpers(stores.helpers.clone());
    self_metrics::register(&mut registry, Arc::clone(&metrics), Arc::clone(&traces), BUILD.version);
    self_metrics::register_engine(&mut registry, engine.clone());
    self_metrics::register_refusals(&mut registry, Arc::clone(&reloader.authenticator));
    if reloader.identities.has_issuers() {
        self_metrics::register_issuers(&mut registry, Arc::clone(&reloader.identities));
    }
    self_metrics::register_span_metrics(&mut registry, Arc::clone(&stores.span_metrics));
    if let Some(sampler) = &stores.sampler {
        self_metrics::register_sampling(&mut registry, Arc::clone(sampler));
    }
    let components = IngestComponents {
        metrics: Arc::clone(&metrics),
        traces: Arc::clone(&traces),
        clock: Arc::clone(clock),
        metrics_retention: Some(settings.tsdb().map_or(settings.retention.metrics, |tsdb| tsdb.retention_longest())),
    };
    let queries = Queries::new(QueriesSettings {
        slow_log_min: settings.query.slow_log_min.map(|least| least.0),
        history_bytes_max: settings.query.history_memory_max.0,
    });
    queries.register(&mut registry);
    let registry = Arc::new(Mutex::new(registry));
    let own_metrics = Arc::clone(&registry);
    let pool = QueryPool::new(settings.query.concurrency_max, settings.query.queue_wait.0).with_queries(queries);
    let prometheus = PrometheusApi {
        engine,
        store: Arc::clone(&metrics),
        traces: Some(deletable(stores)),
        pool: pool.clone(),
        upkeep: QueryPool::upkeep(UPKEEP_WAIT_MAX),
        clock: Arc::clone(clock),
        settings: Arc::new(ApiSettings {
            points_per_series_max: settings.query.points_per_series_max,
            listed_series_max: settings.query.series_max,
            per_step_stats: settings.query.features.contains(&QueryFeature::PromqlPerStepStats),
            retention: settings.retention.metrics.to_string(),
        }),
        build: BUILD,
        started_at_ms: clock.unix_ms(),
        own_metrics: Arc::new(move || self_metrics::text(&own_metrics)),
        gates: Gates::default(),
        bodies: reader_bodies(settings),
        stop: stop.clone(),
    };
    let mut ingestor = Ingestor::new(components, settings.ingest.clone())
        .with_lookback(settings.query.lookback)
        .with_ha_rules(Arc::clone(&reloader.ha));
    if stores.span_metrics.meter.is_enabled() {
        ingestor = ingestor.with_span_tap(Arc::clone(&stores.span_metrics.meter) as _);
    }
    if let Some(sampler) = &stores.sampler {
        ingestor = ingestor.with_span_gate(Arc::clone(sampler) as _);
    }
    Doors {
        ingestor: Arc::new(ingestor),
        quotas: Arc::clone(&reloader.quotas),
        metrics,
        traces,
        sampler: stores.sampler.clone(),
        prometheus,
        pool,
        query_timeout: settings.query.timeout.0,
        query_memory_bytes_max: settings.query.memory_max.0,
        jaeger: Arc::new(settings.jaeger_api.clone()),
        jaeger_ui: None,
        authenticator: Arc::clone(&reloader.authenticator),
        cors: (cors(settings), settings.cors_origins().unwrap_or_default()),
        reloader: reloader.clone(),
        clock: Arc::clone(clock),
        registry,
        http_metrics,
    }
}

/// What pages of other sites may; a header that brings a token is one that they may send.
fn cors(settings: &Settings) -> Cors {
    let mut cors = settings.cors.clone();
    cors.headers.extend(settings.identities.headers.iter().cloned());
    cors
}

/// Jaeger's own page, if one is configured. Archives there are none; its monitor is answered from our own metrics.
fn jaeger_ui(settings: &Settings) -> anyhow::Result<Option<JaegerUi>> {
    let build = UiBuild {
        git_commit: BUILD.revision.to_owned(),
        git_version: format!("v{}", BUILD.version),
        build_date: String::new(),
    };
    Ok(JaegerUi::open(
        &settings.jaeger_api,
        &build,
        UiCapabilities { metrics_storage: settings.jaeger_api.monitor.enabled },
    )?)
}

/// What bodies of readers may hold; the largest fits at any rate.
fn reader_bodies(settings: &Settings) -> ReaderBodies {
    let query = &settings.query;
    let bytes_max = query.bodies_max.0.max(settings.jaeger_api.transform_body_max.0);
    let limit = BodyLimit { name: "query.body_max", bytes_max: query.body_max.0 };
    ReaderBodies::new(BodyBudget::new("query.bodies_max", bytes_max), limit, query.timeout.0)
}

fn engine_settings(settings: &Settings) -> EngineSettings {
    let query = &settings.query;
    let has = |feature: QueryFeature| query.features.contains(&feature);
    EngineSettings {
        lookback_ms: query.lookback.as_ms(),
        timeout: query.timeout.0,
        memory_bytes_max: query.memory_max.0,
        memory_total_bytes_max: query.memory_total_max.0,
        samples_max: query.samples_max,
        points_max: query.points_max,
        series_max: query.series_max,
        cache_bytes_max: query.cache_memory_max.0,
        default_subquery_step_ms: query.subquery_step.as_ms(),
        delayed_name_removal: has(QueryFeature::PromqlDelayedNameRemoval),
        use_start_timestamps: has(QueryFeature::UseStartTimestamps),
        type_and_unit_labels: has(QueryFeature::TypeAndUnitLabels),
        parser: ParserOptions {
            experimental_functions: has(QueryFeature::PromqlExperimentalFunctions),
            extended_range_selectors: has(QueryFeature::PromqlExtendedRangeSelectors),
            binop_fill_modifiers: has(QueryFeature::PromqlBinopFillModifiers),
            ..ParserOptions::default()
        },
        ..EngineSettings::default()
    }
}

#[cfg(test)]
mod authz;
#[cfg(test)]
mod crossing;
