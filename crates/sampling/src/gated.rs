//! A trace store whose deletions reach what waits for a decision, too.

use std::num::NonZeroUsize;
use std::sync::Arc;

use pharos_base::Completion;
use pharos_model::{SpanBatch, TenantId, TimeRangeNs, TraceId};
use pharos_storage::{
    AppendOutcome, AttributeKey, AttributeKeyQuery, BatchId, DependencyLink, FoundTraces, Listed, ListedValue,
    Operation, OperationQuery, ReadContext, Rejection, StorageError, TraceLookup, TracePartStream, TraceQuery,
    TraceStore, TraceStoreStats, TraceStream, TraceSummary, ValueQuery,
};

use crate::TailSampler;

/// The store behind a sampler, for operators: as the store itself, but [`TraceStore::delete_trace`] goes through the gate.
pub struct GatedTraces {
    /// The store.
    pub store: Arc<dyn TraceStore>,
    /// What stands before it.
    pub sampler: Arc<TailSampler>,
}

impl TraceStore for GatedTraces {
    fn append(
        &self,
        tenant: &TenantId,
        batch: SpanBatch,
        id: BatchId,
    ) -> Completion<Result<AppendOutcome, StorageError>> {
        self.store.append(tenant, batch, id)
    }

    fn admits(&self, tenant: &TenantId) -> Result<(), StorageError> {
        self.store.admits(tenant)
    }

    fn is_busy(&self) -> bool {
        self.store.is_busy()
    }

    fn screen(&self, tenant: &TenantId, batch: &mut SpanBatch) -> Vec<Rejection> {
        self.store.screen(tenant, batch)
    }

    fn traces(
        &self,
        tenant: &TenantId,
        lookups: &[TraceLookup],
        context: &ReadContext,
    ) -> Result<TraceStream, StorageError> {
        self.store.traces(tenant, lookups, context)
    }

    fn trace_parts(
        &self,
        tenant: &TenantId,
        lookups: &[TraceLookup],
        spans_max: NonZeroUsize,
        context: &ReadContext,
    ) -> Result<TracePartStream, StorageError> {
        self.store.trace_parts(tenant, lookups, spans_max, context)
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

    fn attribute_keys(
        &self,
        tenant: &TenantId,
        query: &AttributeKeyQuery,
        context: &ReadContext,
    ) -> Result<Listed<AttributeKey>, StorageError> {
        self.store.attribute_keys(tenant, query, context)
    }

    fn listed_values(
        &self,
        tenant: &TenantId,
        query: &ValueQuery,
        context: &ReadContext,
    ) -> Result<Listed<ListedValue>, StorageError> {
        self.store.listed_values(tenant, query, context)
    }

    fn count_calls(&self, tenant: &TenantId, batch: &SpanBatch) -> Completion<Result<AppendOutcome, StorageError>> {
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

    fn delete_trace(&self, tenant: &TenantId, trace_id: TraceId) -> Result<(), StorageError> {
        self.sampler.delete_trace(tenant, trace_id)
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.store.flush()
    }

    fn compact(&self) -> Result<(), StorageError> {
        self.store.compact()
    }

    fn create_snapshot(&self, name: &str) -> Result<(), StorageError> {
        self.store.create_snapshot(name)
    }

    fn snapshots(&self) -> Result<Vec<String>, StorageError> {
        self.store.snapshots()
    }

    fn delete_snapshot(&self, name: &str) -> Result<bool, StorageError> {
        self.store.delete_snapshot(name)
    }

    fn stats(&self) -> TraceStoreStats {
        self.store.stats()
    }
}
