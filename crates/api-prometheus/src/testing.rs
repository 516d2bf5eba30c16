//! What the tests of this crate share: the API over a store, and one over a store with a few series.

mod stalling;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use http::{Request, StatusCode};
use pharos_base::SimClock;
use pharos_gateway::{BodyLimit, Principal, ReaderBodies};
use pharos_http::{BodyBudget, QueryPool};
use pharos_model::{
    BatchBuilder, Exemplar, Labels, LabelsBuilder, MetricKind, MetricMetadata, Sample, TenantId, stale_nan,
};
use pharos_promql::{Engine, EngineSettings};
use pharos_storage::memory::MemoryMetricStore;
use pharos_storage::{BatchId, MetricStore};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub(crate) use stalling::StallingStore;

use crate::{ApiSettings, BuildInfo, Gates, PrometheusApi, router};

const WAIT_MAX: Duration = Duration::from_secs(10);

pub(crate) const NOW_MS: i64 = 1_700_000_000_000;

pub(crate) struct Fixture {
    pub(crate) router: Router,
}

pub(crate) fn fixture() -> Fixture {
    let store = Arc::new(MemoryMetricStore::new());
    let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
    for job in ["api", "web"] {
        for step in 0..5 {
            builder.push_sample(Sample { timestamp_ms: NOW_MS - 60_000 + step * 15_000, value: step as f64 }, 0);
        }
        labels.push("__name__", "requests_total");
        labels.push("job", job);
        let exemplar_labels = Labels::from_pairs([("trace_id", "abc")]).unwrap();
        builder.push_exemplar(Exemplar { labels: exemplar_labels, timestamp_ms: NOW_MS - 500, value: 0.25 });
        builder.finish_series(&mut labels).unwrap();
    }
    builder.push_sample(Sample { timestamp_ms: NOW_MS - 5_000, value: stale_nan() }, 0);
    labels.push("__name__", "ended");
    builder.finish_series(&mut labels).unwrap();
    builder.push_metadata(MetricMetadata {
        metric: "requests_total".to_owned(),
        kind: MetricKind::Counter,
        help: "Requests.".to_owned(),
        unit: String::new(),
    });
    store.append(&TenantId::default(), builder.build(), BatchId::random()).wait().unwrap().unwrap();
    Fixture { router: router_for(store, Principal::anonymous()) }
}

/// A thousand series `up` with one sample each, at [`NOW_MS`]: an answer of many steps of them is larger than what
/// sockets hold.
pub(crate) fn many_series() -> Arc<MemoryMetricStore> {
    let store = Arc::new(MemoryMetricStore::new());
    let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
    for index in 0..1_000 {
        builder.push_sample(Sample { timestamp_ms: NOW_MS, value: f64::from(index) + 0.123_456_789 }, 0);
        labels.push("__name__", "up");
        labels.push("i", &index.to_string());
        builder.finish_series(&mut labels).unwrap();
    }
    store.append(&TenantId::default(), builder.build(), BatchId::random()).wait().unwrap().unwrap();
    store
}

/// Waits until no query is listed and none holds anything.
pub(crate) async fn settled(api: &PrometheusApi) {
    let settled = async {
        while api.engine.memory_used_bytes() > 0 || !api.pool.queries().running(None).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(WAIT_MAX, settled).await;
    let running = api.pool.queries().running(None);
    assert!(in_time.is_ok(), "{} bytes are held, {running:?} run", api.engine.memory_used_bytes());
}

/// Bodies of a megabyte, of which eight fit.
pub(crate) fn bodies() -> ReaderBodies {
    let budget = BodyBudget::new("query.bodies_max", 8 << 20);
    ReaderBodies::new(budget, BodyLimit { name: "query.body_max", bytes_max: 1 << 20 }, WAIT_MAX)
}

/// The API over `store`, at [`NOW_MS`].
pub(crate) fn api(store: Arc<dyn MetricStore>) -> PrometheusApi {
    PrometheusApi {
        engine: Engine::new(Arc::clone(&store), EngineSettings::default()),
        store,
        traces: None,
        pool: QueryPool::new(4, WAIT_MAX),
        upkeep: QueryPool::upkeep(WAIT_MAX),
        clock: SimClock::at_ms(NOW_MS),
        settings: Arc::new(ApiSettings {
            points_per_series_max: 11_000,
            listed_series_max: 1_000,
            per_step_stats: true,
            retention: "30d".to_owned(),
        }),
        build: BuildInfo { version: "0.0.0", revision: "unknown" },
        started_at_ms: NOW_MS,
        own_metrics: Arc::new(|| "# TYPE pharos_up gauge\npharos_up 1\n# EOF\n".to_owned()),
        gates: Gates::default(),
        bodies: bodies(),
        stop: CancellationToken::new(),
    }
}

/// All routes over `store`, called by `principal`.
pub(crate) fn router_for(store: Arc<dyn MetricStore>, principal: Principal) -> Router {
    router(api(store)).layer(axum::Extension(principal))
}

impl Fixture {
    /// Status, content type and body.
    pub(crate) async fn bytes(&self, request: Request<Body>) -> (StatusCode, String, Vec<u8>) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let content_type = response.headers().get("content-type").map_or("", |value| value.to_str().unwrap());
        let (status, content_type) = (response.status(), content_type.to_owned());
        (status, content_type, to_bytes(response.into_body(), 1 << 24).await.unwrap().to_vec())
    }

    /// Status and body.
    pub(crate) async fn text(&self, request: Request<Body>) -> (StatusCode, String) {
        let (status, _, body) = self.bytes(request).await;
        (status, String::from_utf8(body).unwrap())
    }

    /// Status and body of a GET, as JSON where it is.
    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        let (status, text) = self.text(Request::get(path).body(Body::empty()).unwrap()).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }
}
