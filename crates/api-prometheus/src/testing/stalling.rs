//! A store whose reads of samples go on until they are told to stop.

use pharos_base::Completion;
use pharos_model::{Matcher, MetricBatch, MetricMetadata, TenantId, TimeRange};
use pharos_storage::{
    AppendOutcome, BatchId, Capabilities, CardinalityStatus, ExemplarSeries, LabelQuery, LeafPlan, LeafStream,
    MetricStore, MetricStoreStats, ReadContext, SeriesStream, StorageError,
};

/// Stalls in [`MetricStore::leaf`] and has nothing else.
pub(crate) struct StallingStore;

fn nothing<T>() -> Result<T, StorageError> {
    Err(StorageError::Unsupported { what: "anything but stalling".to_owned() })
}

impl MetricStore for StallingStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn append(&self, _: &TenantId, _: MetricBatch, _: BatchId) -> Completion<Result<AppendOutcome, StorageError>> {
        Completion::ready(nothing())
    }

    fn leaf(&self, _: &TenantId, _: &LeafPlan, context: &ReadContext) -> Result<LeafStream, StorageError> {
        loop {
            context.check()?;
            std::thread::yield_now();
        }
    }

    fn series(
        &self,
        _: &TenantId,
        _: &[Vec<Matcher>],
        _: TimeRange,
        _: &ReadContext,
    ) -> Result<SeriesStream, StorageError> {
        nothing()
    }

    fn label_names(&self, _: &TenantId, _: &LabelQuery, _: &ReadContext) -> Result<Vec<String>, StorageError> {
        nothing()
    }

    fn label_values(
        &self,
        _: &TenantId,
        _: &str,
        _: &LabelQuery,
        _: &ReadContext,
    ) -> Result<Vec<String>, StorageError> {
        nothing()
    }

    fn exemplars(
        &self,
        _: &TenantId,
        _: &[Vec<Matcher>],
        _: TimeRange,
        _: &ReadContext,
    ) -> Result<Vec<ExemplarSeries>, StorageError> {
        nothing()
    }

    fn metadata(&self, _: &TenantId, _: Option<&str>, _: usize) -> Result<Vec<MetricMetadata>, StorageError> {
        nothing()
    }

    fn cardinality(&self, _: &TenantId, _: usize) -> Result<CardinalityStatus, StorageError> {
        nothing()
    }

    fn flush(&self) -> Result<(), StorageError> {
        nothing()
    }

    fn compact(&self) -> Result<(), StorageError> {
        nothing()
    }

    fn stats(&self) -> MetricStoreStats {
        MetricStoreStats::default()
    }
}
