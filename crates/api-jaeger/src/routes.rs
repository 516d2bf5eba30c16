//! Which path is answered by what.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use pharos_base::{CancelToken, Clock, MemoryBudget};
use pharos_gateway::{BodyLimit, ReaderBodies, hold_reader_body};
use pharos_http::QueryPool;
use pharos_promql::Engine;
use pharos_storage::{ReadContext, TraceStore};

use crate::adjust::Adjusting;
use crate::{Settings, monitor, v1, v1_transform, v3};

/// What the handlers share.
#[derive(Clone)]
pub struct JaegerApi {
    /// Where the traces are.
    pub store: Arc<dyn TraceStore>,
    /// Runs reads, a bounded number at a time.
    pub pool: QueryPool,
    /// What "now" is.
    pub clock: Arc<dyn Clock>,
    /// Longest run of one read.
    pub timeout: Duration,
    /// What all reads and queries may hold in memory together.
    pub memory: MemoryBudget,
    /// What one read may hold in memory, bytes.
    pub memory_bytes_max: u64,
    /// Bounds of messages, and of the bodies of `POST /api/transform`, that are being read.
    pub bodies: ReaderBodies,
    /// What of the answers can be chosen.
    pub settings: Arc<Settings>,
    /// Answers questions about metrics of spans; none if nobody may ask.
    pub monitor: Option<Engine>,
}

impl JaegerApi {
    /// The bounds of one read.
    pub(crate) fn context(&self, cancel: &CancelToken, memory: MemoryBudget) -> ReadContext {
        let cancel = cancel.with_deadline_at(self.clock.monotonic() + self.timeout);
        ReadContext { cancel, memory, ..ReadContext::unlimited() }
    }

    /// How traces are adjusted, unless they are wanted as they came.
    pub(crate) fn adjusting_unless(&self, is_raw: bool) -> Option<Adjusting> {
        (!is_raw).then(|| self.settings.adjusting())
    }
}

/// All routes, below `/api`, `/jaeger/api` and `/select/{tenant}/jaeger/api`. Whose traces the last one reads is the gateway's to say:
/// it has looked at the path, and its principal asks for that tenant.
pub fn router(api: JaegerApi) -> Router {
    let api = Arc::new(api);
    let bytes_max = api.settings.transform_body_max.0;
    let limit = BodyLimit { name: "jaeger_api.transform_body_max", bytes_max };
    let uploads = Arc::new(api.bodies.with_limit(limit));
    let below = |prefix: &str| routes(prefix, &uploads).with_state(Arc::clone(&api));
    Router::new().merge(below("/api")).merge(below("/jaeger/api")).merge(below("/select/{tenant}/jaeger/api"))
}

fn routes(prefix: &str, uploads: &Arc<ReaderBodies>) -> Router<Arc<JaegerApi>> {
    let hold = from_fn_with_state(Arc::clone(uploads), hold_reader_body);
    let transform = post(v1_transform::transform).layer(DefaultBodyLimit::disable()).layer(hold);
    let at = |path: &str| format!("{prefix}/{path}");
    Router::new()
        .route(&at("services"), get(v1::services))
        .route(&at("services/{service}/operations"), get(v1::operation_names))
        .route(&at("operations"), get(v1::operations))
        .route(&at("traces"), get(v1::find))
        .route(&at("traces/{trace_id}"), get(v1::trace))
        .route(&at("archive/{trace_id}"), post(v1::archive))
        .route(&at("transform"), transform)
        .route(&at("dependencies"), get(v1::dependencies))
        .route(&at("metrics/latencies"), get(monitor::latencies))
        .route(&at("metrics/calls"), get(monitor::calls))
        .route(&at("metrics/errors"), get(monitor::errors))
        .route(&at("v3/capabilities"), get(v3::capabilities))
        .route(&at("v3/services"), get(v3::services))
        .route(&at("v3/operations"), get(v3::operations))
        .route(&at("v3/traces"), get(v3::find))
        .route(&at("v3/traces/{trace_id}"), get(v3::trace))
        .route(&at("v3/trace-summaries"), get(v3::summaries))
        .route(&at("v3/dependencies"), get(v3::dependencies))
}
