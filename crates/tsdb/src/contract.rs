//! [`MetricStore`] for [`Tsdb`].

use std::sync::atomic::{AtomicU64, Ordering};

use pharos_base::Completion;
use pharos_model::{Matcher, MetricBatch, MetricMetadata, TenantId, TimeRange};
use pharos_storage::{
    AppendOutcome, BatchId, Capabilities, CardinalityStatus, ChangeMark, ExemplarSeries, LabelQuery, LeafPlan,
    LeafStream, MetricStore, MetricStoreStats, OpenLeaf, ReadContext, SeriesStream, StorageError, StoredBlock,
};

use crate::Tsdb;
use crate::store::too_many_tenants;

impl MetricStore for Tsdb {
    fn capabilities(&self) -> Capabilities {
        Capabilities::exact()
    }

    fn append(
        &self,
        tenant: &TenantId,
        batch: MetricBatch,
        _id: BatchId,
    ) -> Completion<Result<AppendOutcome, StorageError>> {
        self.submit(tenant, batch)
    }

    fn admits(&self, tenant: &TenantId) -> Result<(), StorageError> {
        let tenants_max = self.shared.settings.tenants_max;
        if self.shared.tenants.has_room_for(tenant, tenants_max) { Ok(()) } else { Err(too_many_tenants(tenants_max)) }
    }

    fn is_busy(&self) -> bool {
        self.refusal().is_some() || self.shared.is_behind() || self.shared.queue.is_crowded()
    }

    fn change_mark(&self, tenant: &TenantId) -> Option<ChangeMark> {
        Some(self.shared.tenants.get(tenant).map_or_else(ChangeMark::default, |tenant| tenant.changes.mark()))
    }

    fn changed_since(&self, tenant: &TenantId, mark: ChangeMark, range: TimeRange) -> Option<i64> {
        // What retention takes, it takes moment by moment.
        if range.start_ms < self.shared.newest_cut_off_ms(tenant) {
            return Some(range.start_ms);
        }
        self.shared.tenants.get(tenant)?.changes.since(mark, range)
    }

    fn leaf(&self, tenant: &TenantId, plan: &LeafPlan, context: &ReadContext) -> Result<LeafStream, StorageError> {
        Ok(self.open_leaf(tenant, plan, context)?.stream())
    }

    fn open_leaf(
        &self,
        tenant: &TenantId,
        plan: &LeafPlan,
        context: &ReadContext,
    ) -> Result<Box<dyn OpenLeaf>, StorageError> {
        self.shared.open_leaf(tenant, plan, context)
    }

    fn series(
        &self,
        tenant: &TenantId,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
        context: &ReadContext,
    ) -> Result<SeriesStream, StorageError> {
        self.shared.series(tenant, matcher_sets, range, context)
    }

    fn label_names(
        &self,
        tenant: &TenantId,
        query: &LabelQuery,
        context: &ReadContext,
    ) -> Result<Vec<String>, StorageError> {
        self.shared.label_names(tenant, query, context)
    }

    fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        query: &LabelQuery,
        context: &ReadContext,
    ) -> Result<Vec<String>, StorageError> {
        self.shared.label_values(tenant, name, query, context)
    }

    fn exemplars(
        &self,
        tenant: &TenantId,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
        context: &ReadContext,
    ) -> Result<Vec<ExemplarSeries>, StorageError> {
        self.shared.exemplars(tenant, matcher_sets, range, context)
    }

    fn metadata(
        &self,
        tenant: &TenantId,
        metric: Option<&str>,
        limit: usize,
    ) -> Result<Vec<MetricMetadata>, StorageError> {
        let Some(tenant) = self.shared.tenants.get(tenant) else { return Ok(Vec::new()) };
        let known = tenant.metadata.read();
        Ok(match metric {
            Some(metric) => known.get(metric).into_iter().take(limit).cloned().collect(),
            None => known.values().take(limit).cloned().collect(),
        })
    }

    fn cardinality(&self, tenant: &TenantId, top: usize) -> Result<CardinalityStatus, StorageError> {
        self.shared.cardinality(tenant, top)
    }

    fn blocks(&self, tenant: &TenantId) -> Result<Vec<StoredBlock>, StorageError> {
        let Some(tenant) = self.shared.tenants.get(tenant) else { return Ok(Vec::new()) };
        let mut blocks: Vec<_> = tenant.state.read().parts.iter().map(|part| part.meta.as_block()).collect();
        blocks.sort_unstable_by_key(|block| (block.range.start_ms, block.number));
        Ok(blocks)
    }

    fn delete(&self, tenant: &TenantId, matcher_sets: &[Vec<Matcher>], range: TimeRange) -> Result<(), StorageError> {
        self.shared.delete(tenant, matcher_sets, range)
    }

    fn clean_tombstones(&self) -> Result<(), StorageError> {
        Ok(self.shared.clean_tombstones()?)
    }

    fn flush(&self) -> Result<(), StorageError> {
        Ok(self.shared.flush()?)
    }

    fn compact(&self) -> Result<(), StorageError> {
        Ok(self.shared.compact_all()?)
    }

    fn create_snapshot(&self, name: &str, head: bool) -> Result<(), StorageError> {
        self.shared.create_snapshot(name, head)
    }

    fn snapshots(&self) -> Result<Vec<String>, StorageError> {
        Ok(self.shared.snapshots()?)
    }

    fn delete_snapshot(&self, name: &str) -> Result<bool, StorageError> {
        self.shared.delete_snapshot(name)
    }

    fn stats(&self) -> MetricStoreStats {
        let queue = &self.shared.queue;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.shared.counters;
        let mut stats = MetricStoreStats {
            head_bytes: self.shared.head_bytes.load(Ordering::Relaxed)
                + self.shared.tenants.series_bytes.load(Ordering::Relaxed),
            flush_failures: count(&counters.flush_failures),
            merges: count(&counters.merges),
            merge_failures: count(&counters.merge_failures),
            merge_bytes_read: count(&counters.merge_bytes_read),
            merge_bytes_written: count(&counters.merge_bytes_written),
            merge_samples_copied: count(&counters.merge_samples_copied),
            rollup_cells_read: count(&counters.rollup_cells_read),
            log_bytes: queue.log_bytes.load(Ordering::Relaxed),
            read_only: queue.is_poisoned() || queue.disk_full.load(Ordering::Relaxed),
            ..MetricStoreStats::default()
        };
        stats.damage_met = self.shared.damaged.met();
        for tenant in self.shared.tenants.all() {
            let state = tenant.state.read();
            for generation in state.frozen.iter().chain([&state.active]) {
                stats.head_samples += generation.sample_count();
            }
            stats.head_series += state.active.series_count() as u64;
            stats.tombstones += state.tombstones.len() as u64;
            for part in &state.parts {
                stats.parts += 1;
                stats.part_bytes += part.meta.file_bytes();
                stats.rollup_bytes += part.meta.rollup_bytes();
                stats.part_samples += part.meta.samples + part.meta.histograms;
            }
        }
        stats
    }
}
