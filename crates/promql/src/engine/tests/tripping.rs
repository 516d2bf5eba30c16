//! A store whose answers cancel the query that reads them.

use std::sync::Arc;

use pharos_base::{CancelToken, Completion};
use pharos_model::{Matcher, MetricBatch, MetricMetadata, TenantId, TimeRange};
use pharos_storage::memory::MemoryMetricStore;
use pharos_storage::{
    AppendOutcome, BatchId, Capabilities, CardinalityStatus, ExemplarSeries, LabelQuery, LeafPlan, LeafStream,
    MetricStore, MetricStoreStats, ReadContext, SeriesStream, StorageError,
};

/// Cancels `token` when a leaf's last series has been handed out; evaluates nothing itself.
pub(super) struct TrippingStore {
    pub(super) store: Arc<MemoryMetricStore>,
    pub(super) token: CancelToken,
}

/// The series of a leaf, and what happens after the last.
struct Tripping {
    series: LeafStream,
    token: CancelToken,
}

impl Iterator for Tripping {
    type Item = <LeafStream as Iterator>::Item;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.series.next();
        if next.is_none() {
            self.token.cancel();
        }
        next
    }
}

impl MetricStore for TrippingStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities::raw()
    }

    fn leaf(&self, tenant: &TenantId, plan: &LeafPlan, context: &ReadContext) -> Result<LeafStream, StorageError> {
        let series = self.store.leaf(tenant, plan, context)?;
        Ok(Box::new(Tripping { series, token: self.token.clone() }))
    }

    fn append(
        &self,
        tenant: &TenantId,
        batch: MetricBatch,
        id: BatchId,
    ) -> Completion<Result<AppendOutcome, StorageError>> {
        self.store.append(tenant, batch, id)
    }

    fn series(
        &self,
        tenant: &TenantId,
        sets: &[Vec<Matcher>],
        range: TimeRange,
        context: &ReadContext,
    ) -> Result<SeriesStream, StorageError> {
        self.store.series(tenant, sets, range, context)
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
        sets: &[Vec<Matcher>],
        range: TimeRange,
        context: &ReadContext,
    ) -> Result<Vec<ExemplarSeries>, StorageError> {
        self.store.exemplars(tenant, sets, range, context)
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
