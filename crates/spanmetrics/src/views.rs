//! Answers metrics by names they are not stored under.
//!
//! A [`MetricStore`] around another: every call is the inner store's, and where a selector may select a view
//! (`docs/metrics.md` has the table) the view's series come after the stored ones. Whoever asks cannot tell a view from a
//! stored metric: names, labels, values, instants, start timestamps, stale markers and exemplars are what they would be.
//!
//! - Where a series of that very name and these labels is stored as well (somebody else sends it), the stored one is the
//!   answer.
//! - A view of floats is read as the store reads its source, grids included. One that is cut from native histograms is
//!   read raw. Aggregates are left to the engine, which joins the grids.
//! - A delete names stored series; what is made of them goes with them. One that would leave behind a view that it names is
//!   refused.
//!
//! This file says what of the contract is answered with views: what reads series or lists them, in `leaves.rs` and
//! `listings.rs`, and `deletion.rs`. All else is the inner store's, also where the contract has a default.

mod deletion;
mod expand;
mod leaves;
mod listings;
mod table;

use std::sync::Arc;

use pharos_base::Completion;
use pharos_model::{Matcher, MetricBatch, MetricMetadata, TenantId, TimeRange};
use pharos_storage::{
    AppendOutcome, BatchId, Capabilities, CardinalityStatus, ChangeMark, ExemplarSeries, LabelQuery, LeafPlan,
    LeafStream, MetricStore, MetricStoreStats, OpenLeaf, ReadContext, SeriesStream, StorageError, StoredBlock,
    WholeLeaf,
};

/// A store of metrics that also answers the classic and Tempo's names of what is made of spans.
pub struct SpanMetricViews {
    inner: Arc<dyn MetricStore>,
}

impl std::fmt::Debug for SpanMetricViews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SpanMetricViews")
    }
}

impl SpanMetricViews {
    /// Views of what `inner` stores.
    #[must_use]
    pub fn new(inner: Arc<dyn MetricStore>) -> Self {
        Self { inner }
    }
}

impl MetricStore for SpanMetricViews {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn append(
        &self,
        tenant: &TenantId,
        batch: MetricBatch,
        id: BatchId,
    ) -> Completion<Result<AppendOutcome, StorageError>> {
        self.inner.append(tenant, batch, id)
    }

    fn admits(&self, tenant: &TenantId) -> Result<(), StorageError> {
        self.inner.admits(tenant)
    }

    fn is_busy(&self) -> bool {
        self.inner.is_busy()
    }

    fn leaf(&self, tenant: &TenantId, plan: &LeafPlan, context: &ReadContext) -> Result<LeafStream, StorageError> {
        leaves::leaf(&*self.inner, tenant, plan, context)
    }

    fn open_leaf(
        &self,
        tenant: &TenantId,
        plan: &LeafPlan,
        context: &ReadContext,
    ) -> Result<Box<dyn OpenLeaf>, StorageError> {
        if table::selections(leaves::raw_range(plan).0).next().is_none() {
            return self.inner.open_leaf(tenant, plan, context);
        }
        Ok(Box::new(WholeLeaf::new(self.leaf(tenant, plan, context)?)))
    }

    fn change_mark(&self, tenant: &TenantId) -> Option<ChangeMark> {
        self.inner.change_mark(tenant)
    }

    fn changed_since(&self, tenant: &TenantId, mark: ChangeMark, range: TimeRange) -> Option<i64> {
        self.inner.changed_since(tenant, mark, range)
    }

    fn series(
        &self,
        tenant: &TenantId,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
        context: &ReadContext,
    ) -> Result<SeriesStream, StorageError> {
        listings::series(&*self.inner, tenant, matcher_sets, range, context)
    }

    fn label_names(
        &self,
        tenant: &TenantId,
        query: &LabelQuery,
        context: &ReadContext,
    ) -> Result<Vec<String>, StorageError> {
        listings::label_names(&*self.inner, tenant, query, context)
    }

    fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        query: &LabelQuery,
        context: &ReadContext,
    ) -> Result<Vec<String>, StorageError> {
        listings::label_values(&*self.inner, tenant, name, query, context)
    }

    fn exemplars(
        &self,
        tenant: &TenantId,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
        context: &ReadContext,
    ) -> Result<Vec<ExemplarSeries>, StorageError> {
        listings::exemplars(&*self.inner, tenant, matcher_sets, range, context)
    }

    fn metadata(
        &self,
        tenant: &TenantId,
        metric: Option<&str>,
        limit: usize,
    ) -> Result<Vec<MetricMetadata>, StorageError> {
        listings::metadata(&*self.inner, tenant, metric, limit)
    }

    fn cardinality(&self, tenant: &TenantId, top: usize) -> Result<CardinalityStatus, StorageError> {
        self.inner.cardinality(tenant, top)
    }

    fn blocks(&self, tenant: &TenantId) -> Result<Vec<StoredBlock>, StorageError> {
        self.inner.blocks(tenant)
    }

    fn delete(&self, tenant: &TenantId, matcher_sets: &[Vec<Matcher>], range: TimeRange) -> Result<(), StorageError> {
        deletion::check(&*self.inner, tenant, matcher_sets, range)?;
        self.inner.delete(tenant, matcher_sets, range)
    }

    fn clean_tombstones(&self) -> Result<(), StorageError> {
        self.inner.clean_tombstones()
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.inner.flush()
    }

    fn compact(&self) -> Result<(), StorageError> {
        self.inner.compact()
    }

    fn create_snapshot(&self, name: &str, head: bool) -> Result<(), StorageError> {
        self.inner.create_snapshot(name, head)
    }

    fn snapshots(&self) -> Result<Vec<String>, StorageError> {
        self.inner.snapshots()
    }

    fn delete_snapshot(&self, name: &str) -> Result<bool, StorageError> {
        self.inner.delete_snapshot(name)
    }

    fn stats(&self) -> MetricStoreStats {
        self.inner.stats()
    }
}
