//! Queries under way: who asked what, what it holds, how to end it; and what remains of those that ended.
//!
//! A door announces each query with [`Queries::begin`] and runs it in the pool. It is listed until the work has really
//! ended, also after its client left: whoever drops the last handle ends it. What ended is counted, logged if
//! it was slow, and remembered for a while ([`History`]).
//!
//! Invariants
//! - Q1 A query is counted once, however often it was run, and whoever let go of it.
//! - Q2 Texts are cut to [`TEXT_BYTES_MAX`] before they are kept; the memory of the history is bounded.
//! - Q3 One tenant's queries are shown to that tenant and to who may see all.
//!
//! Lock order: none; no lock is held while another is taken.

mod history;
mod limits;
mod metrics;
mod running;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use pharos_base::ErrorClass;
use pharos_model::TenantId;
use prometheus_client::registry::Registry;

use history::History;
use metrics::QueryMetrics;

pub use history::{TopQueries, TopQuery};
pub use limits::QueryLimits;
pub use metrics::QueryKind;
pub use running::{Asked, QueryLoad, RunningQuery, Watched};

/// Texts of queries are kept up to this length.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// What of queries is logged and kept.
#[derive(Debug, Clone, Copy)]
pub struct QueriesSettings {
    /// Queries that take at least this long, their wait included, get a line in the log; none if `None`.
    pub slow_log_min: Option<Duration>,
    /// What the history of ended queries may take in memory; 0 keeps none.
    pub history_bytes_max: u64,
}

impl Default for QueriesSettings {
    fn default() -> Self {
        Self { slow_log_min: Some(Duration::from_secs(10)), history_bytes_max: 4 << 20 }
    }
}

/// All queries of a server; clones share them.
#[derive(Debug, Clone)]
pub struct Queries(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: QueriesSettings,
    next_id: AtomicU64,
    running: Mutex<HashMap<u64, Weak<RunningQuery>>>,
    history: Mutex<History>,
    metrics: QueryMetrics,
}

impl Default for Queries {
    fn default() -> Self {
        Self::new(QueriesSettings::default())
    }
}

impl Queries {
    /// None yet.
    #[must_use]
    pub fn new(settings: QueriesSettings) -> Self {
        // Ids of before a restart shall not name queries of after it.
        let first = u64::from_be_bytes(pharos_base::random_bytes());
        Self(Arc::new(Shared {
            settings,
            next_id: AtomicU64::new(first),
            running: Mutex::default(),
            history: Mutex::new(History::new(settings.history_bytes_max)),
            metrics: QueryMetrics::default(),
        }))
    }

    /// Shows them in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
        registry.register_collector(Box::new(metrics::Running(self.clone())));
    }

    /// Lists a query until the handle and its clones are dropped. `load` tells what it holds.
    #[must_use]
    pub fn begin(&self, asked: Asked, load: Arc<dyn Watched>) -> Arc<RunningQuery> {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let query = Arc::new(RunningQuery::new(id, asked, load, self.clone()));
        self.0.running.lock().insert(id, Arc::downgrade(&query));
        query
    }

    /// Queries under way, the oldest first: those of `tenant`, or all.
    #[must_use]
    pub fn running(&self, tenant: Option<&TenantId>) -> Vec<Arc<RunningQuery>> {
        // Handles are let go of outside the lock: the last one takes it.
        let all: Vec<_> = self.0.running.lock().values().filter_map(Weak::upgrade).collect();
        let mut found: Vec<_> =
            all.into_iter().filter(|query| tenant.is_none_or(|tenant| query.asked().tenant == *tenant)).collect();
        found.sort_unstable_by_key(|query| (query.begun_at(), query.id()));
        found
    }

    /// Ends the query `id` of `tenant`, or of any, on behalf of `by`; false if there is none.
    #[must_use]
    pub fn cancel(&self, id: u64, tenant: Option<&TenantId>, by: &str) -> bool {
        let query = self.0.running.lock().get(&id).and_then(Weak::upgrade);
        let Some(query) = query.filter(|query| tenant.is_none_or(|tenant| query.asked().tenant == *tenant)) else {
            return false;
        };
        tracing::info!(
            id = query.id_text(),
            tenant = query.asked().tenant.as_str(),
            by,
            query = query.asked().text,
            "a query was cancelled"
        );
        query.cancel_for(by);
        true
    }

    /// What took most of late: the first `count` by each measure, of queries that ended within `age_max`.
    #[must_use]
    pub fn top(&self, tenant: Option<&TenantId>, count: usize, age_max: Duration) -> TopQueries {
        let records = self.0.history.lock().records(tenant, age_max);
        history::top(&records, count)
    }

    fn ended(&self, query: &RunningQuery, failed: Option<ErrorClass>) {
        let shared = &*self.0;
        shared.running.lock().remove(&query.id());
        let (duration, load) = (query.running_for(), query.load());
        shared.metrics.observe(query, duration, &load, failed);
        if shared.settings.slow_log_min.is_some_and(|least| duration >= least) {
            log_slow(query, duration, &load, failed);
        }
        shared.history.lock().push(query.asked(), duration, &load);
    }
}

fn log_slow(query: &RunningQuery, duration: Duration, load: &QueryLoad, failed: Option<ErrorClass>) {
    let asked = query.asked();
    let (start_ms, end_ms, step_ms) = asked.steps.unwrap_or_default();
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    tracing::warn!(
        kind = asked.kind.as_str(),
        query = asked.text,
        start_ms,
        end_ms,
        step_ms,
        duration_ms = ms(duration),
        queue_ms = ms(query.queued_for()),
        outcome = failed.map_or("ok", metrics::reason),
        series_read = load.series_read,
        samples_read = load.samples_read,
        memory_peak_bytes = load.memory_bytes_peak,
        refusal_ms = load.refusal.map(ms),
        cache = query.cache(),
        tenant = asked.tenant.as_str(),
        principal = &*asked.principal,
        remote_addr = asked.remote_address,
        id = query.id_text(),
        "slow query"
    );
}
