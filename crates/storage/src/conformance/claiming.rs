//! A store that claims less than it can: what is pushed down must not show in any answer.

use parking_lot::Mutex;
use pharos_base::Completion;
use pharos_model::{Matcher, MetricBatch, MetricMetadata, TenantId, TimeRange};

use crate::{
    AppendOutcome, BatchId, Capabilities, CardinalityStatus, ChangeMark, ExemplarSeries, LabelQuery, LeafPlan,
    LeafStream, MetricStore, MetricStoreStats, OpenLeaf, ReadContext, SeriesStream, StorageError, StoredBlock,
};

/// A store whose capabilities are replaced; plans beyond them are refused, as the contract wants. It remembers what
/// it was asked.
#[derive(Debug)]
pub struct Claiming<S> {
    store: S,
    capabilities: Capabilities,
    asked: Mutex<Vec<String>>,
}

impl<S> Claiming<S> {
    /// `store`, claiming `capabilities`.
    #[must_use]
    pub fn new(store: S, capabilities: Capabilities) -> Self {
        Self { store, capabilities, asked: Mutex::default() }
    }

    /// The leaf plans so far, in order: `raw`, a function, or an aggregation and a function.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }

    fn claim(&self, plan: &LeafPlan) -> Result<(), StorageError> {
        let claimed = match plan {
            LeafPlan::Raw(_) => true,
            LeafPlan::Grid(grid) => self.capabilities.function(grid.function).is_some(),
            LeafPlan::Aggregate { grid, aggregation, .. } => {
                self.capabilities.function(grid.function).is_some()
                    && self.capabilities.aggregation(*aggregation).is_some()
            }
        };
        self.asked.lock().push(name(plan));
        if claimed { Ok(()) } else { Err(StorageError::Unsupported { what: format!("{plan:?}") }) }
    }
}

fn name(plan: &LeafPlan) -> String {
    match plan {
        LeafPlan::Raw(_) => "raw".to_owned(),
        LeafPlan::Grid(grid) => format!("{:?}", grid.function),
        LeafPlan::Aggregate { grid, aggregation, .. } => format!("{aggregation:?} {:?}", grid.function),
    }
}

impl<S: std::ops::Deref<Target: MetricStore> + Send + Sync> MetricStore for Claiming<S> {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn append(
        &self,
        tenant: &TenantId,
        batch: MetricBatch,
        id: BatchId,
    ) -> Completion<Result<AppendOutcome, StorageError>> {
        self.store.append(tenant, batch, id)
    }

    fn change_mark(&self, tenant: &TenantId) -> Option<ChangeMark> {
        self.store.change_mark(tenant)
    }

    fn changed_since(&self, tenant: &TenantId, mark: ChangeMark, range: TimeRange) -> Option<i64> {
        self.store.changed_since(tenant, mark, range)
    }

    fn leaf(&self, tenant: &TenantId, plan: &LeafPlan, context: &ReadContext) -> Result<LeafStream, StorageError> {
        self.claim(plan)?;
        self.store.leaf(tenant, plan, context)
    }

    fn open_leaf(
        &self,
        tenant: &TenantId,
        plan: &LeafPlan,
        context: &ReadContext,
    ) -> Result<Box<dyn OpenLeaf>, StorageError> {
        self.claim(plan)?;
        self.store.open_leaf(tenant, plan, context)
    }

    fn delete(&self, tenant: &TenantId, matcher_sets: &[Vec<Matcher>], range: TimeRange) -> Result<(), StorageError> {
        self.store.delete(tenant, matcher_sets, range)
    }

    fn clean_tombstones(&self) -> Result<(), StorageError> {
        self.store.clean_tombstones()
    }

    fn series(
        &self,
        tenant: &TenantId,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
        context: &ReadContext,
    ) -> Result<SeriesStream, StorageError> {
        self.store.series(tenant, matcher_sets, range, context)
    }

    fn label_names(
        &self,
        tenant: &TenantId,
        query: &LabelQuery,
        context: &ReadContext,
    ) -> Result<Vec<String>, StorageError> {
        self.store.label_names(tenant, query, context)
    }

    fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        query: &LabelQuery,
        context: &ReadContext,
    ) -> Result<Vec<String>, StorageError> {
        self.store.label_values(tenant, name, query, context)
    }

    fn exemplars(
        &self,
        tenant: &TenantId,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
        context: &ReadContext,
    ) -> Result<Vec<ExemplarSeries>, StorageError> {
        self.store.exemplars(tenant, matcher_sets, range, context)
    }

    fn metadata(
        &self,
        tenant: &TenantId,
        metric: Option<&str>,
        limit: usize,
    ) -> Result<Vec<MetricMetadata>, StorageError> {
        self.store.metadata(tenant, metric, limit)
    }

    fn cardinality(&self, tenant: &TenantId, top: usize) -> Result<CardinalityStatus, StorageError> {
        self.store.cardinality(tenant, top)
    }

    fn blocks(&self, tenant: &TenantId) -> Result<Vec<StoredBlock>, StorageError> {
        self.store.blocks(tenant)
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.store.flush()
    }

    fn compact(&self) -> Result<(), StorageError> {
        self.store.compact()
    }

    fn stats(&self) -> MetricStoreStats {
        self.store.stats()
    }
}
