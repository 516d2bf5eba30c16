//! A store whose reads of samples go on until they are told to stop.

use std::time::Duration;

use parking_lot::Mutex;
use pharos_base::{Clock, Completion, Interrupted, SystemClock};
use pharos_model::{Matcher, MetricBatch, MetricMetadata, TenantId, TimeRange};
use pharos_storage::{
    AppendOutcome, BatchId, Capabilities, CardinalityStatus, ExemplarSeries, LabelQuery, LeafPlan, LeafStream,
    MetricStore, MetricStoreStats, ReadContext, SeriesStream, StorageError,
};
use tokio::sync::oneshot;

/// Longer than a query is tried on the thread of its connection, before it gets one of its own.
const TRIED_MAX: Duration = Duration::from_millis(30);

/// Stalls in [`MetricStore::leaf`] and has nothing else.
#[derive(Default)]
pub(crate) struct StallingStore {
    /// Told when a read is under way that is not only tried.
    pub(crate) begun: Mutex<Option<oneshot::Sender<()>>>,
    /// Told when a read ends because it was cancelled.
    pub(crate) cancelled: Mutex<Option<oneshot::Sender<()>>>,
}

fn tell(listener: &Mutex<Option<oneshot::Sender<()>>>) {
    if let Some(listener) = listener.lock().take() {
        let _ = listener.send(());
    }
}

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
        let since = SystemClock.monotonic();
        loop {
            if let Err(interrupted) = context.check() {
                if interrupted == Interrupted::Cancelled {
                    tell(&self.cancelled);
                }
                return Err(interrupted.into());
            }
            if SystemClock.monotonic() - since > TRIED_MAX {
                tell(&self.begun);
            }
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
