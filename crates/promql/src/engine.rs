//! The query engine: text → tree → plan → series → answer.
//!
//! Owns planning, the operators and the books of memory. It knows no storage engine: series come from
//! [`MetricStore::leaf`]. It never asks the wall clock for "now"; callers run it on a
//! thread of their own, because [`Engine::instant`] and [`Engine::range`] block until the answer is complete. Large queries
//! have others help them ([`Engine::with_helpers`]), who are joined before the answer.
//!
//! How it evaluates: operators hand on whole series, each with one cell per step (`series::Series`). A series
//! is decoded once per selector, evaluated over all its steps, and dropped; aggregations fold it into their
//! groups. Only what must see all series at once (binary operators, sorting, ranking) holds series back. Parts that treat
//! each series for itself are evaluated by several threads where that is worth it ([`mod@branch`]).
//!
//! Invariants
//! - E1 What one query holds is in its ledger: bytes and samples, given back on drop.
//! - E2 Cancellation is asked at least once per series.
//! - E3 An answer does not depend on the order in which a store streams its series, but for the last bits of float sums.
//! - E4 An answer does not depend on how many threads made it, to the last bit; nor does whether it fits the query's limits.

mod aggregate;
mod annotations;
mod binary;
mod branch;
mod cache;
mod call;
mod counts;
mod edges;
mod error;
mod eval;
mod gofmt;
mod histogram;
mod leaf;
mod ledger;
mod over_time;
mod pace;
mod plan;
mod quantile;
mod result;
mod run;
mod select;
mod series;
mod settings;
mod shared;
#[cfg(test)]
mod tests;
mod watch;
mod window;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use pharos_base::{Clock, Helpers, MemoryBudget, SystemClock};
use pharos_model::{StepRange, TenantId};
use pharos_storage::MetricStore;

use cache::ResultCache;

pub use annotations::Annotations;
pub use cache::CacheStats;
pub use error::QueryError;
pub use gofmt::{go_f, go_g};
pub use result::{CacheUse, Held, MatrixSeries, QueryResult, QueryStats, SampleValue, StepCounts, Value, VectorSample};
pub use settings::{EngineSettings, QueryBounds, QueryOptions};
pub use watch::{QueryLoad, QueryWatch};

/// Evaluates PromQL over a store. Cheap to clone; one serves any number of threads.
#[derive(Clone)]
pub struct Engine {
    store: Arc<dyn MetricStore>,
    settings: Arc<EngineSettings>,
    clock: Arc<dyn Clock>,
    cache: Option<Arc<ResultCache>>,
    /// Of all running queries and of the answers that are still held.
    memory: MemoryBudget,
    /// Threads that may help with large queries.
    helpers: Helpers,
    /// Queries under way.
    evaluating: Arc<AtomicUsize>,
}

impl Engine {
    /// An engine over `store`.
    #[must_use]
    pub fn new(store: Arc<dyn MetricStore>, settings: EngineSettings) -> Self {
        let cache = ResultCache::new(&settings).map(Arc::new);
        let memory = MemoryBudget::new(settings.memory_total_bytes_max);
        Self {
            store,
            settings: Arc::new(settings),
            clock: SystemClock::shared(),
            cache,
            memory,
            helpers: Helpers::for_cores(),
            evaluating: Arc::default(),
        }
    }

    /// The same engine with these threads to help with large queries, of all queries together, in place of one less than
    /// there are cores. The store may lend from them as well.
    #[must_use]
    pub fn with_helpers(self, helpers: Helpers) -> Self {
        Self { helpers, ..self }
    }

    /// What all queries may hold together.
    #[must_use]
    pub fn memory(&self) -> &MemoryBudget {
        &self.memory
    }

    /// Memory for one query of a tenant, or for a listing, which counts as one: a part of what all of them may hold, of which each
    /// tenant leaves as much to others as it holds. A caller may have less than the engine's limit.
    #[must_use]
    pub fn memory_of_one(&self, tenant: &TenantId, own_bytes_max: Option<u64>) -> MemoryBudget {
        let bytes_max = self.settings.memory_bytes_max;
        self.memory.part_of(tenant.as_str(), own_bytes_max.map_or(bytes_max, |own| own.min(bytes_max)))
    }

    /// What all running queries hold, and the answers that were not dropped yet, bytes.
    #[must_use]
    pub fn memory_used_bytes(&self) -> u64 {
        self.memory.used_bytes()
    }

    /// What its cache of answers did so far; zeros if there is none.
    #[must_use]
    pub fn cache_stats(&self) -> CacheStats {
        self.cache.as_ref().map_or_else(CacheStats::default, |cache| cache.stats())
    }

    /// Its settings.
    #[must_use]
    pub fn settings(&self) -> &EngineSettings {
        &self.settings
    }

    /// Evaluates `query` at one instant, Unix milliseconds.
    ///
    /// # Errors
    /// [`QueryError`]; nothing partial is ever answered.
    pub fn instant(
        &self,
        tenant: &TenantId,
        query: &str,
        at_ms: i64,
        options: &QueryOptions,
    ) -> Result<QueryResult, QueryError> {
        self.run(tenant, query, StepRange::instant(at_ms), options, true)
    }

    /// Evaluates `query` at every step of `steps`; answers [`Value::Matrix`] sorted by labels.
    ///
    /// # Errors
    /// [`QueryError`]; [`QueryError::RangeType`] for texts and range vectors.
    pub fn range(
        &self,
        tenant: &TenantId,
        query: &str,
        steps: StepRange,
        options: &QueryOptions,
    ) -> Result<QueryResult, QueryError> {
        self.run(tenant, query, steps, options, false)
    }
}
